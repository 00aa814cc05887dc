"""``mmckpt convert``: from one form of checkpoint to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmckpt.cli.checkpoint_table import shown_bytes
from mmckpt.cli.console import fitted, say, warn
from mmckpt.cli.named_file import named_file
from mmckpt.errors import UsageError
from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.converted import Converted, Wishes
from mmckpt.files.key_rules import read_rules
from mmckpt.files.lightning import to_lightning
from mmckpt.files.outline import clean, printable
from mmckpt.files.writing import write_file

HELP = 'turn a checkpoint of another program into one that can be resumed here, or back'
EXAMPLES = """  %(prog)s lit.ckpt epoch_12.pth --map 'model.=>' --metric val_loss=loss
  %(prog)s last.pth resume.pth --epoch 30 --iter 24000
  %(prog)s gan.ckpt epoch_12.pth --optimizers generator,discriminator
  %(prog)s in.pth out.pth --map-regex '^enc\\.(\\d+)=>layer\\1' --drop '^fc'
  %(prog)s work_dirs/run/epoch_10.pth model.safetensors
  %(prog)s work_dirs/run/epoch_10.pth lightning.ckpt

The form of OUT follows from its name: .safetensors (weights and meta), .ckpt (Lightning), anything else MMEngine's.
Reads what inspect reads. Nothing in IN is executed. What could not be mapped is listed, with the reason."""
EXIT_STATUS = """exit status:
  0    OUT is written, with all that could be mapped
  2    nothing is written; the message says why"""

FORMS = ('mmengine', 'lightning', 'safetensors')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``convert``."""
    parser.add_argument('source', metavar='IN', help='a checkpoint of any kind')
    parser.add_argument('target', metavar='OUT', help='the file to write')
    parser.add_argument('--to', choices=FORMS, help="the form of OUT (default: from OUT's name)")
    parser.add_argument('--map', action='append', default=[], metavar='OLD=>NEW',
                        help='names of weights that begin with OLD begin with NEW instead; may be given again')
    parser.add_argument('--map-regex', action='append', default=[], metavar='OLD=>NEW',
                        help='the same for regular expressions, with \\1 for what brackets matched')
    parser.add_argument('--drop', action='append', default=[], metavar='REGEX',
                        help='leave out weights with such names')
    parser.add_argument('--metric', action='append', default=[], metavar='OLD=NEW',
                        help='the name that a metric has in the new project')
    parser.add_argument('--optimizers', metavar='NAME,NAME',
                        help='names of several optimizers in the new project, in the order of the file')
    parser.add_argument('--epoch', type=int, metavar='N', help='completed epochs, if the file does not say')
    parser.add_argument('--iter', type=int, metavar='N', help='completed iterations, if the file does not say')
    parser.add_argument('--weights-only', action='store_true', help='leave the training state out')
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was kept and what was not."""
    source, target = named_file(args.source), Path(args.target)
    if target.exists() and (not args.force or target.samefile(source)):
        raise UsageError(f'{target} is there already; pass --force to replace it' if not target.samefile(source)
                         else f'IN and OUT are one file, {target}')
    form = args.to or {'.safetensors': 'safetensors', '.ckpt': 'lightning'}.get(target.suffix, 'mmengine')
    if (form == 'safetensors') != (target.suffix == '.safetensors'):
        raise UsageError(f'a file in the form {form} is not called {target.name}')
    content = open_file(source)
    wishes = Wishes(read_rules(args.map, args.map_regex, args.drop), _metrics(args.metric), args.epoch, args.iter,
                    args.weights_only or form == 'safetensors', _names(args.optimizers))
    converted = to_mmengine(content, wishes)
    if form == 'lightning':
        converted = to_lightning(converted)
    write_file(target, converted.checkpoint, overwrite=args.force)
    _report(converted, f'{source} ({anatomy(content.tree).form}) -> {target} ({form}, '
                       f'{shown_bytes(target.stat().st_size)})')
    return 0


def _report(converted: Converted, title: str) -> None:
    say(title)
    width = max(map(len, converted.kept), default=0)
    for part, text in converted.kept.items():
        print(fitted(f'  {clean(part).ljust(width)}  {printable(text)}', hang=width + 4))
    for part, reason in converted.lost.items():
        warn(f'not mapped: {clean(part)}: {printable(reason)}')


def _names(text: str | None) -> list[str]:
    names = [name.strip() for name in text.split(',')] if text else []
    if len(set(names)) != len(names) or '' in names:
        raise UsageError(f'--optimizers takes names that differ, NAME,NAME; got {text!r}')
    return names


def _metrics(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if text.count('=') != 1:
            raise UsageError(f'--metric takes OLD=NEW, got {text!r}')
    return dict(text.split('=') for text in texts)
