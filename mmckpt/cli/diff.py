"""``mmckpt diff``: what differs between two checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from mmckpt.cli.console import fitted
from mmckpt.cli.named_file import named_file
from mmckpt.errors import UsageError
from mmckpt.files import open_file
from mmckpt.files.difference import Difference, differences

HELP = 'show what differs between two checkpoints, down to the largest difference of each tensor'
EXAMPLES = """  %(prog)s work_dirs/a/epoch_10.pth work_dirs/b/epoch_10.pth
  %(prog)s epoch_10.pth epoch_11.pth --part config optimizer
  %(prog)s model.safetensors lightning.ckpt --atol 1e-6 && echo the same

Times and names of runs, which differ between any two runs, are counted and do not make files different; --clocks
lists them. Files of two forms (Lightning and MMEngine) are compared by their weights. Of a tensor, the values are shown
where it differs most."""
EXIT_STATUS = """exit status:
  0    the files are equal
  1    they differ
  2    one of them cannot be read; the message says why"""

_MOST_LINES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``diff``."""
    parser.add_argument('first', metavar='A', help='a checkpoint of any kind')
    parser.add_argument('second', metavar='B', help='another one')
    parser.add_argument('--part', nargs='+', metavar='PART',
                        help='compare only these: weights, EMA, optimizer, schedulers, config, meta, message_hub, '
                             '"random streams", or another top-level key')
    parser.add_argument('--atol', type=float, default=0.0, metavar='X',
                        help='values that differ by at most X count as equal (default: 0, equal to the bit)')
    parser.add_argument('--clocks', action='store_true', help='times and names of runs count as well')
    parser.add_argument('--all', action='store_true', help=f'list every entry, not {_MOST_LINES} of a part')
    parser.add_argument('--json', action='store_true', help='print the differences as JSON')


def run(args: argparse.Namespace) -> int:
    """Print the differences, the largest first; return 1 if there are some."""
    if not args.atol >= 0:
        raise UsageError(f'--atol is at least 0, got {args.atol}')
    found = [d for d in differences(*(open_file(named_file(path)) for path in (args.first, args.second)))
             if (args.part is None or d.part in args.part) and not 0 < d.size <= args.atol]
    clocks = [] if args.clocks else [d for d in found if d.clock]
    found = [d for d in found if args.clocks or not d.clock]
    if args.json:
        print(json.dumps([asdict(d) for d in found], indent=2))
    else:
        _print(found, len(clocks), None if args.all else _MOST_LINES)
    sys.stdout.flush()
    return 1 if found else 0


def _print(found: list[Difference], clocks: int, most: int | None) -> None:
    for part in dict.fromkeys(d.part for d in found):
        entries = sorted((d for d in found if d.part == part), key=lambda d: (d.kind == 'value', -d.size))
        print(f'{part}: {len(entries)} difference{"s" if len(entries) > 1 else ""}' + _largest(entries))
        for d in entries[:most]:
            gap = f', by {d.size:.3g}{" at most" if "elements)" in d.second else ""}' if d.size else ''
            print(fitted(f'  {d.path or d.part}: {d.first} -> {d.second}{gap}', hang=4))
        if most is not None and len(entries) > most:
            print(f'  ... and {len(entries) - most} more; --all lists them')
    if not found:
        print('equal')
    if clocks:
        print(f'{clocks} times and names of runs differ as well')


def _largest(entries: list[Difference]) -> str:
    sizes = [d.size for d in entries if d.size]
    return f', the largest {max(sizes):.3g}' if len(sizes) > 1 else ''
