"""``mmckpt publish``: a file to hand out, named after its content as OpenMMLab's are."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from mmckpt.cli.checkpoint_table import shown_bytes
from mmckpt.cli.console import say, warn
from mmckpt.cli.named_file import named_file
from mmckpt.files import open_file
from mmckpt.files.conversion import to_mmengine
from mmckpt.files.converted import Wishes, chosen_weights
from mmckpt.files.local_paths import local_paths, without_local_paths
from mmckpt.files.outline import clean
from mmckpt.files.writing import write_file

HELP = 'write the weights of a checkpoint to a file that is named after its SHA-256, to hand out'
EXAMPLES = """  %(prog)s work_dirs/run/best_coco_AP_epoch_210.pth
  %(prog)s work_dirs/run/epoch_210.pth --name td-hm_res50 --out models
  %(prog)s lightning.ckpt --safetensors --weights ema

Prints the path of the file. It has the config, so that mmckpt.load builds the model from it alone."""
EXIT_STATUS = """exit status:
  0    the file is written
  2    nothing is written; the message says why"""

# A resume needs them, a user of the weights does not; paths and dates of the author stay at home.
_PRIVATE_META = ('experiment_name', 'time', 'seed', 'hook_msgs', 'env_info', 'exp_name')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``publish``."""
    parser.add_argument('file', metavar='FILE', help='a checkpoint of any kind')
    parser.add_argument('--out', metavar='DIR', help='where to write (default: beside FILE)')
    parser.add_argument('--name', metavar='STEM', help="the name before the digest (default: FILE's)")
    parser.add_argument('--weights', choices=('file', 'ema', 'raw'), default='file',
                        help="those that FILE has as its model's (default; MMEngine keeps the average there), the "
                             'averaged ones, or those in training')
    parser.add_argument('--strip-paths', action='store_true',
                        help="leave only the last part of absolute paths in the config, such as 'coco/' of "
                             "'/home/me/data/coco/' (default: the config stays as it is, and they are named)")
    parser.add_argument('--safetensors', action='store_true', help='write a safetensors file')


def run(args: argparse.Namespace) -> int:
    """Write the file and print its path."""
    source = named_file(args.file)
    checkpoint = to_mmengine(open_file(source), Wishes(weights_only=True)).checkpoint
    meta = _public(checkpoint.get('meta', {}))
    paths = local_paths(meta)
    published = {'meta': without_local_paths(meta) if args.strip_paths else meta,
                 'state_dict': chosen_weights(checkpoint, args.weights)}
    suffix = '.safetensors' if args.safetensors else '.pth'
    stem = args.name or re.sub(r'-[0-9a-f]{8}$', '', source.stem)
    directory = Path(args.out) if args.out else source.parent
    target = write_file(directory / f'{stem}{suffix}', published,
                        name_of=lambda digest: directory / f'{stem}-{digest[:8]}{suffix}')
    tensors = len(published['state_dict'])
    say(f'{tensors} tensors, {shown_bytes(target.stat().st_size)} (of {shown_bytes(source.stat().st_size)})')
    if paths and not args.strip_paths:
        more = f' and {len(paths) - 3} more' if len(paths) > 3 else ''
        warn(f'its config names paths of your machine, which everybody can read: {", ".join(map(clean, paths[:3]))}'
             f'{more}; --strip-paths cuts them short')
    if 'cfg' not in published['meta']:
        warn('the file has no config, so that nobody can build the model from it alone')
    print(target)
    return 0


def _public(meta: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key not in _PRIVATE_META}
