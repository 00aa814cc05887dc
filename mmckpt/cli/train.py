"""``mmckpt train``: what MMPose's ``tools/train.py`` does, with safe resuming."""

from __future__ import annotations

import argparse

from mmengine.dist import is_main_process

from mmckpt.cli import arguments
from mmckpt.cli.argument_check import check_arguments
from mmckpt.cli.best import print_outcome
from mmckpt.cli.config import build_runner, check_writable, read_config, set_work_dir
from mmckpt.cli.console import say
from mmckpt.cli.dry_run import dry_run
from mmckpt.cli.launch import decided_by_rank0, process_group
from mmckpt.cli.remote_point import find_remote_point
from mmckpt.cli.resume import find_resume_point, resume_from, settled_load_from
from mmckpt.cli.safe import asks_for_safety, make_safe
from mmckpt.cli.train_options import (
    disable_validation,
    enable_amp,
    enable_auto_scale_lr,
    enable_visualization,
)
from mmckpt.errors import UsageError
from mmckpt.hooks.mapped_resume import take_foreign_file
from mmckpt.state.preflight import Preflight

HELP = 'train a model, or go on with a training that was stopped'
EXAMPLES = """  %(prog)s configs/pose/digits_keypoints.py
  %(prog)s configs/pose/digits_keypoints.py --resume
  %(prog)s configs/pose/digits_keypoints.py --resume-from work_dirs/run/best_AP_epoch_7.pth
  %(prog)s any_openmmlab_config.py --safe --cfg-options train_cfg.max_epochs=50"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of MMPose's ``tools/train.py`` and ours."""
    arguments.add_config(parser, work_dir="directory of checkpoints and logs (default: the config's, "
                                          'else work_dirs/<config name>)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='go on from the newest valid checkpoint of the work directory, or from PATH')
    parser.add_argument('--resume-from', metavar='PATH',
                        help='the same as --resume PATH: a checkpoint, a directory with checkpoints, or best:METRIC, '
                             'top:METRIC:N, latest, epoch:N, iter:N (of another run: DIR@best:METRIC)')
    parser.add_argument('--resume-dry-run', action='store_true',
                        help='with --resume: only print what changed since the checkpoint, and whether the '
                             'resume would be exact; nothing is written')
    parser.add_argument('--safe', action='store_true',
                        help="add mmckpt's hooks to the config: safe checkpoints, random states, monitor")
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision; bfloat16 where there is no accelerator')
    parser.add_argument('--no-validate', action='store_true', help='do not validate during training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the batch size (config: auto_scale_lr)')
    parser.add_argument('--show-dir', metavar='DIR', help='save visualizations of predictions there')
    parser.add_argument('--show', action='store_true', help='show visualizations in a window')
    parser.add_argument('--interval', type=int, default=1, help='visualize every Nth sample (default: 1)')
    parser.add_argument('--wait-time', type=float, default=1, metavar='SECONDS',
                        help='how long a window is shown (default: 1)')
    arguments.add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say at the end where the best checkpoints lie."""
    asked = _asked_checkpoint(args)
    cfg = read_config(args.config, args.cfg_options)
    set_work_dir(cfg, args.work_dir)
    with process_group(cfg, args.launcher):
        _apply_options(cfg, args)
        decided_by_rank0(lambda: check_arguments(cfg))
        if args.resume_dry_run:
            return _dry_run(cfg, asked)
        decided_by_rank0(lambda: check_writable(cfg.work_dir))
        if asked is not None:
            resume_from(cfg, decided_by_rank0(lambda: find_resume_point(cfg, asked)))
        else:
            cfg.load_from = decided_by_rank0(lambda: settled_load_from(cfg))
        runner = build_runner(cfg)
        take_foreign_file(runner)
        runner.train()
        if is_main_process():
            print_outcome(runner, args.config)
    return 0


def _dry_run(cfg, asked: str | None) -> int:
    remote = None if asked is None else decided_by_rank0(lambda: find_remote_point(cfg, asked))
    if remote is not None:
        with remote.outline() as (point, file):
            return _told(dry_run(cfg, point, file))
    point = None if asked is None else decided_by_rank0(lambda: find_resume_point(cfg, asked))
    if point is None:
        raise UsageError('--resume-dry-run needs a checkpoint: '
                         + (f'{cfg.work_dir} holds none; pass --resume-from PATH.' if asked else
                            'pass --resume as well, or --resume-from PATH.'))
    return _told(dry_run(cfg, point))


def _told(found: Preflight) -> int:
    if is_main_process():
        print(found, flush=True)
    return 2 if found.refusals else 0


def _asked_checkpoint(args: argparse.Namespace) -> str | None:
    if args.resume is not None and args.resume_from is not None and args.resume != args.resume_from:
        raise UsageError(f'--resume {args.resume} and --resume-from {args.resume_from} ask for different '
                         'checkpoints; pass one of them.')
    return args.resume_from if args.resume_from is not None else args.resume


def _apply_options(cfg, args: argparse.Namespace) -> None:
    notes = []
    if args.safe or asks_for_safety(cfg):
        notes += make_safe(cfg)
    if args.no_validate:
        notes += disable_validation(cfg)
    if args.amp:
        notes += enable_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.show or args.show_dir is not None:
        enable_visualization(cfg, args)
    for note in notes:
        say(note)
