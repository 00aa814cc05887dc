"""What resuming costs, against MMEngine: loading, finding the place in the data, and exact data order.

    python tools/benchmarks/resume.py --sizes 100MB,500MB,2GB --repeats 5

Medians over interleaved rounds. "Cold" means that the file has just been
dropped from the page cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_order import data_table
from first_iteration import first_iteration_table
from loading import loading_table
from measure import environment
from workload import SIZES, size_names


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', type=size_names, default='100MB,500MB,2GB',
                        help=f'comma-separated, of {", ".join(SIZES)}')
    parser.add_argument('--repeats', type=int, default=5, help='rounds that count, after one that does not')
    parser.add_argument('--iterations', type=int, default=100_000, help='how far the longer of two runs was')
    parser.add_argument('--dir', type=Path, default=Path('.'), help='a directory on the disk to be measured')
    args = parser.parse_args()
    print(environment(args.dir))
    print('\n### Load and restore\n')
    print(loading_table(args.sizes, args.repeats, args.dir), flush=True)
    print('\n### From building the Runner to the first new iteration, in an iteration-based run\n')
    print(first_iteration_table(args.iterations, args.repeats, args.dir), flush=True)
    print('\n### What an exact data order costs\n')
    print(data_table(args.repeats, args.dir))


if __name__ == '__main__':
    main()
