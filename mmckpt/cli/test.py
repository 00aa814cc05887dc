"""``mmckpt test``: evaluate a checkpoint; it never locks or changes the run's directory of checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import dump

from mmckpt.cli import arguments
from mmckpt.cli.argument_check import check_arguments
from mmckpt.cli.config import build_runner, check_writable, read_config, set_work_dir
from mmckpt.cli.console import print_table, say, warn
from mmckpt.cli.launch import decided_by_rank0, process_group
from mmckpt.cli.resume import checkpoint_dir, existing_checkpoint
from mmckpt.errors import IncompatibleCheckpointError, UsageError
from mmckpt.files.foreign import needs_conversion, read_foreign
from mmckpt.hooks.mapped_resume import take_foreign_file
from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.state.model_settings import setting_differences
from mmckpt.store import load_checkpoint

HELP = 'evaluate a checkpoint on the test set of a config'
EXAMPLES = """  %(prog)s configs/pose/digits_keypoints.py work_dirs/run/best_AP_epoch_7.pth
  %(prog)s configs/pose/digits_keypoints.py work_dirs/run --out metrics.json
  %(prog)s configs/pose/digits_keypoints.py work_dirs/run@best:AP"""

_PARTS = ('dataloader', 'evaluator', 'cfg')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``test``."""
    arguments.add_config(parser, work_dir="directory of logs (default: as in training)")
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint file; a directory, whose newest valid checkpoint is taken; best:METRIC, '
                             'top:METRIC:N, latest, epoch:N, iter:N of the work directory, or DIR@best:METRIC')
    parser.add_argument('--out', metavar='FILE',
                        help='also write the metrics (.json) or the predictions (.pkl) to a file')
    arguments.add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the metrics."""
    cfg = read_config(args.config, args.cfg_options)
    set_work_dir(cfg, args.work_dir)
    with process_group(cfg, args.launcher):
        _choose_test_set(cfg)
        _add_output(cfg, args.out)
        decided_by_rank0(lambda: check_arguments(cfg))
        decided_by_rank0(lambda: check_writable(cfg.work_dir))
        path = decided_by_rank0(lambda: _sound_checkpoint(args.checkpoint, cfg))
        cfg.load_from, cfg.resume = path, False
        runner = build_runner(cfg)
        check_weights(unwrapped_model(runner), path, cfg.pretty_text)
        take_foreign_file(runner)
        metrics = runner.test()
        if is_main_process():
            _report(metrics, path, args.out)
    return 0


def check_weights(model: Any, path: str, config_text: str) -> None:
    """Refuse to evaluate a checkpoint of another model; warn where parameters stay untrained.

    MMEngine loads with ``strict=False`` and would evaluate random weights.

    Args:
        model (nn.Module): The model, without a wrapper.
        path (str): The checkpoint; a URL is not checked.
        config_text (str): The config's text, whose settings explain a difference.

    Raises:
        IncompatibleCheckpointError: If shapes differ or no parameter has a counterpart.
    """
    if '://' in path:
        return
    checkpoint = read_foreign(path).checkpoint if needs_conversion(path) else load_checkpoint(path, mmap=True)
    weights = checkpoint.get('state_dict', checkpoint)
    saved = {key[7:] if key.startswith('module.') else key: value for key, value in weights.items()}
    own = dict(model.named_parameters())
    missing = [name for name in own if name not in saved]
    reshaped = [name for name, value in own.items() if name in saved and saved[name].shape != value.shape]
    if reshaped or len(missing) == len(own):
        differences = [f'{name}: {tuple(saved[name].shape)} in the file, {tuple(own[name].shape)} expected'
                       for name in reshaped[:5]] or ['no parameter of the model is in the file']
        raise IncompatibleCheckpointError(
            f'{path} belongs to another model than {type(model).__name__} of this config:\n  '
            + '\n  '.join([*setting_differences(checkpoint.get('meta', {}), config_text), *differences])
            + '\nPass the config that the checkpoint was trained with.')
    if missing:
        warn(f'{len(missing)} of {len(own)} parameters are not in {path} and stay as initialised: '
             f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}")


def _choose_test_set(cfg: Config) -> None:
    if all(cfg.get(f'test_{part}') is not None for part in _PARTS):
        return
    if any(cfg.get(f'val_{part}') is None for part in _PARTS):
        raise UsageError('the config has no test set: it needs test_dataloader, test_evaluator and test_cfg '
                         '(or val_dataloader, val_evaluator and val_cfg, which are then taken).')
    if isinstance(cfg.val_dataloader, (list, tuple)):
        raise UsageError('the config has no test set, and its validation has several loaders: set test_dataloader, '
                         'test_evaluator and test_cfg to the one to evaluate.')
    say('the config has no complete test set: evaluates on its validation set')
    # val_cfg may name a loop class, which cannot test.
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = cfg.val_dataloader, cfg.val_evaluator, {}


def _add_output(cfg: Config, out: str | None) -> None:
    if out is None:
        return
    if not out.endswith(('.json', '.pkl', '.pickle')):
        raise UsageError(f'--out takes a .json file (metrics) or a .pkl file (predictions), got {out}')
    if not out.endswith('.json'):
        configured = cfg.test_evaluator
        evaluators = configured if isinstance(configured, (list, tuple)) else [configured]
        cfg.test_evaluator = [*evaluators, dict(type='mmengine.DumpResults', out_file_path=out)]


def _sound_checkpoint(asked: str, cfg: Config) -> str:
    if '://' in asked:
        return asked
    path = existing_checkpoint(asked, str(checkpoint_dir(cfg)))
    if not needs_conversion(str(path)):
        load_checkpoint(path, mmap=True)
    return str(path)


def _report(metrics: dict[str, Any], path: str, out: str | None) -> None:
    values = {name: float(value) for name, value in metrics.items()}
    print_table(f'Metrics of {path}', ['metric', 'value'], [[n, f'{v:.4f}'] for n, v in values.items()])
    if out is not None:
        if out.endswith('.json'):
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            dump(values, out, indent=2)
        say(f'written to {out}')
