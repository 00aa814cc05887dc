"""``mmckpt inspect``: what a checkpoint file holds, without running or loading it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from mmckpt.cli.checkpoint_table import shown_bytes
from mmckpt.cli.console import fitted
from mmckpt.cli.inspect_facts import facts_of, summary_lines
from mmckpt.cli.inspect_tree import print_outline
from mmckpt.cli.named_file import named_file
from mmckpt.errors import UsageError
from mmckpt.files import Content, open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.files.outline import Line, clean, leaves, matching, outline, printable, shown_shape
from mmckpt.files.parts import entry_at
from mmckpt.files.special import SparseRef
from mmckpt.files.values import Statistics, index_fault, statistics, too_often

HELP = 'show what a checkpoint file of any kind holds, without running anything in it'
EXAMPLES = """  %(prog)s work_dirs/run/epoch_10.pth
  %(prog)s lightning.ckpt --keys 'state_dict.model.head.*' --stats
  %(prog)s model.safetensors --json | jq '.tensors[] | .key'
  %(prog)s downloaded.pth && echo 'nothing in it runs code'

Reads MMEngine, mmcv 1.x and Lightning checkpoints, hand-written dicts, plain weights, old torch files, pickles,
safetensors and directories of torch.distributed.checkpoint."""
EXIT_STATUS = """exit status:
  0    nothing was found wrong with the file
  1    it would run code if it were loaded the old way, or --stats found NaN or infinity
  2    it cannot be read; the message says why"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``inspect``."""
    parser.add_argument('file', metavar='FILE', help='a checkpoint file, or the directory of a sharded checkpoint')
    parser.add_argument('--keys', metavar='PATTERN',
                        help='list the entries whose path holds this text, or matches it if it has *, ? or [')
    parser.add_argument('--stats', action='store_true',
                        help='read the values as well: range and mean, and which tensors have NaN, infinity or only 0')
    parser.add_argument('--json', action='store_true', help='print all that is known as JSON')


def run(args: argparse.Namespace) -> int:
    """Print what the file holds; return 1 if it is not harmless."""
    content = open_file(named_file(args.file))
    root = outline(content.tree)
    found = list(leaves(root) if args.keys is None else matching(root, args.keys))
    if args.keys is not None and not found:
        raise UsageError(f'no entry of {args.file} matches --keys {args.keys!r}. It has '
                         + ', '.join(repr(line.path) for line in root.below[:12]))
    if entry_at(content.tree, 'mmckpt', 'val_pending') is True:
        content.notes.append('it was written before the validation of its step; what that gave, also a best, is in the '
                             'index of its run (mmckpt ls)')
    reason = too_often(content) if args.stats else None
    if reason:
        content.notes.append(f'its values are not read: {reason}')
    stats = {line.path: statistics(line.ref) for line in found if line.ref is not None and not reason} if (
        args.stats) else {}
    if args.json:
        print(json.dumps(_as_json(content, found, stats), indent=2, default=str))
    else:
        _print(content, root, found if args.keys is not None else None, stats)
    bad = any(s is not None and (s.nan or s.inf) for s in stats.values())
    return 1 if content.dangerous or bad else 0


def _print(content: Content, root: Line, chosen: list[Line] | None, stats: dict[str, Statistics | None]) -> None:
    for line in summary_lines(content, anatomy(content.tree)):
        # Under the text, behind the name of the row.
        print(fitted(line, hang=len(line) - len(re.sub(r'^  .*?\S  +', '', line))))
    print()
    print_outline(root, chosen, stats)
    sys.stdout.flush()
    for text in content.notes:
        print(fitted(f'note: {printable(text)}', hang=2))
    for name, arguments in content.dangerous.items():
        print(fitted(f'HOSTILE: loading it the old way would call {clean(name)}{clean(arguments)}; do not load it '
                     'with weights_only=False', hang=2))
    harmless = [name for name in content.classes if name not in content.dangerous]
    if harmless:
        more = f' and {len(harmless) - 8} more' if len(harmless) > 8 else ''
        stock = all(name.startswith('mmengine.') for name in harmless)
        print(fitted(f'classes: it holds objects of {", ".join(map(clean, harmless[:8]))}{more}, which '
                     + ('torch.load(weights_only=True) reads after import mmckpt only' if stock else
                        'are shown as names here; torch.load(weights_only=True) refuses them'), hang=2))
    for path, text in _findings(root, stats):
        print(fitted(f'{path}: {text}', hang=2))


def _findings(root: Line, stats: dict[str, Statistics | None]) -> list[tuple[str, str]]:
    found = [(line.path, f'cannot be read: {line.ref.fault}') for line in leaves(root)
             if getattr(line.ref, 'fault', None) and line.ref.storage is not None][:20]
    found += [(line.path, f'cannot be read: {fault}') for line in leaves(root) if line.path in stats
              and isinstance(line.ref, SparseRef) and (fault := index_fault(line.ref))][:20]
    for path, s in stats.items():
        if s is not None and (s.nan or s.inf):
            found.append((path, f'BAD: {s.nan} NaN, {s.inf} infinite'))
    zero = [path for path, s in stats.items() if s is not None and s.zero and not path.endswith(
        ('.bias', 'running_mean', 'num_batches_tracked'))]
    if zero:
        found.append((f'{len(zero)} tensors hold only 0',
                      ', '.join(zero[:5]) + (' ...' if len(zero) > 5 else '')))
    return found


def _as_json(content: Content, found: list[Line], stats: dict[str, Statistics | None]) -> dict[str, Any]:
    def of(line: Line) -> dict[str, Any]:
        entry: dict[str, Any] = dict(key=line.path)
        if line.ref is None:
            return dict(entry, value=line.text)
        entry.update(shape=list(line.ref.shape), dtype=line.dtype, bytes=line.nbytes, text=shown_shape(line.ref))
        fault = getattr(line.ref, 'fault', None)
        if fault:
            entry['fault'] = fault
        known = stats.get(line.path)
        return entry if known is None else dict(entry, stats=vars(known))

    return dict(facts_of(content, anatomy(content.tree)), size=content.size, shown_size=shown_bytes(content.size),
                tensors=[of(line) for line in found])
