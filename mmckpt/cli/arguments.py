"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mmengine.config import DictAction


class CfgOptions(DictAction):
    """MMEngine's ``KEY=VALUE`` parsing, with a usage error instead of a traceback."""

    def __call__(
            self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
            option_string: str | None = None) -> None:
        for item in values:
            if '=' not in item:
                parser.error(f'{option_string} takes KEY=VALUE, got {item!r}; quote values with spaces')
        super().__call__(parser, namespace, values, option_string)


def add_config(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """Add ``CONFIG``, ``--work-dir`` and ``--cfg-options``.

    Args:
        parser (ArgumentParser): The parser of a command.
        work_dir (str): Help text of ``--work-dir``.
    """
    parser.add_argument('config', metavar='CONFIG',
                        help='config file (.py, .json, .yml), or one of an installed package: mmpose::PATH')
    parser.add_argument('--work-dir', metavar='DIR', help=work_dir)
    add_cfg_options(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
        help='override entries of the config, such as optim_wrapper.optimizer.lr=1e-4 or '
             'default_hooks.checkpoint.save_best=[AP,PCK]; the index after the last one of a list appends')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher`` and the rank that old launchers pass as an argument."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='what started the processes of a distributed job (default: none)')
    parser.add_argument('--local_rank', '--local-rank', type=_export_local_rank, default=0,
                        help=argparse.SUPPRESS)


def _export_local_rank(text: str) -> int:
    # Launchers older than torchrun pass the rank as an argument only; MMEngine reads the environment.
    os.environ.setdefault('LOCAL_RANK', str(int(text)))
    return int(text)
