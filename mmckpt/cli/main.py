"""Entry points of the command line: ``mmckpt COMMAND`` and the scripts in ``tools/``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from mmckpt import __version__
from mmckpt.cli import (
    average,
    completion,
    convert,
    diff,
    evaluate,
    inspect,
    ls,
    prune,
    publish,
    quick_check,
    rebuild,
    replay,
    report,
    test,
    train,
    verify,
    watch,
)
from mmckpt.cli.help_text import HelpFormatter
from mmckpt.errors import MMCkptError
from mmckpt.files.outline import printable

# A command is a module with HELP, EXAMPLES, add_arguments(parser) and run(args) -> exit status; and with EXIT_STATUS
# where that is not the one below.
GROUPS: dict[str, dict[str, Any]] = {
    'train and evaluate': {
        'train': train,
        'test': test,
        'evaluate': evaluate,
        'average': average,
        'quick-check': quick_check,
    },
    'look after a run': {
        'ls': ls,
        'verify': verify,
        'rebuild': rebuild,
        'prune': prune,
        'report': report,
        'watch': watch,
        'replay': replay,
    },
    'any checkpoint file': {
        'inspect': inspect,
        'diff': diff,
        'convert': convert,
        'publish': publish,
    },
    'this command': {
        'completion': completion,
    },
}
COMMANDS: dict[str, Any] = {name: module for group in GROUPS.values() for name, module in group.items()}

EXAMPLES = """examples:
  mmckpt train config.py --safe    any OpenMMLab config, with safe checkpoints
  mmckpt train config.py --resume  go on from the newest sound checkpoint
  mmckpt ls work_dirs/config       what is there, how each training ended
  mmckpt inspect downloaded.pth    what a file holds; nothing in it is run
  mmckpt COMMAND --help            arguments, examples, exit status"""

EXIT_STATUS = """exit status:
  0    finished
  1    failed with a traceback (quick-check, verify, inspect: a problem was found; prune: a file is left;
       diff: the files differ; replay: all is finite now)
  2    the arguments, the config or a checkpoint cannot be used; the message says why
  75   stopped in good order by PreemptionHook: run again with --resume
  76   stopped by TrainingMonitorHook, as on_nan, on_spike or on_divergence ask for; the log says why
  130  stopped by Ctrl-C
  141  nobody reads the output any more (as in: mmckpt inspect FILE | head)
  143  stopped by SIGTERM"""


# Messages quote names out of files, which a terminal must not obey.
_LAYOUT = '\n\t'


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mmckpt COMMAND ...`` and return its exit status.

    Args:
        argv (list[str], optional): Arguments without the program's name.
            Defaults to None, those of this process.

    Returns:
        int: See :data:`EXIT_STATUS`.
    """
    return _execute(build_parser().parse_args(argv))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``mmckpt`` with all commands, those of a group together in the help."""
    parser = argparse.ArgumentParser(
        prog='mmckpt', usage='mmckpt [-h] [--version] COMMAND ...',
        description=f'Safe training for MMEngine and OpenMMLab projects.\n\n{_listing()}',
        epilog=f'{EXAMPLES}\n\n{EXIT_STATUS}', formatter_class=HelpFormatter)
    parser.add_argument('--version', action='version', version=f'mmckpt {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', prog='mmckpt',
                                     help=argparse.SUPPRESS)
    for name, module in COMMANDS.items():
        _describe(commands.add_parser(name, help=module.HELP), module)
    return parser


def run_command(name: str) -> int:
    """Run one command with the arguments of this process; the scripts in ``tools/`` call it."""
    parser = argparse.ArgumentParser(prog=sys.argv[0])
    _describe(parser, COMMANDS[name])
    return _execute(parser.parse_args())


def _listing() -> str:
    width = max(map(len, COMMANDS))
    return '\n\n'.join(f'{title}:\n' + '\n'.join(f'  {name.ljust(width)}  {module.HELP}'
                                                 for name, module in group.items())
                       for title, group in GROUPS.items())


def _describe(parser: argparse.ArgumentParser, module: Any) -> None:
    parser.formatter_class = HelpFormatter
    parser.description = module.HELP[:1].upper() + module.HELP[1:] + '.'
    parser.epilog = f"examples:\n{module.EXAMPLES}\n\n{getattr(module, 'EXIT_STATUS', EXIT_STATUS)}"
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _execute(args: argparse.Namespace) -> int:
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except MMCkptError as error:
        rank = os.environ.get('RANK', '0')
        print(f"{'' if rank == '0' else f'[rank {rank}] '}error: {printable(str(error), keep=_LAYOUT)}",
              file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print('stopped by Ctrl-C', file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        if _is_read():
            raise
        return 141


def _is_read() -> bool:
    """Whether somebody still reads what is printed; ``head`` leaves when it has enough."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == '__main__':
    sys.exit(main())
