"""``mmckpt replay``: run a batch again whose loss or gradient was not finite, and say where it goes wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmckpt.cli.config import read_config
from mmckpt.cli.console import say, warn
from mmckpt.errors import UsageError
from mmckpt.hooks.nan_locator import locate
from mmckpt.state.rng import restore_rng_state

HELP = 'run a batch again that gave NaN or infinity (TrainingMonitorHook with locate_nan=True keeps it)'
EXAMPLES = """  %(prog)s work_dirs/run/nan_1234
  %(prog)s work_dirs/run/nan_1234 --device cpu"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``replay``."""
    parser.add_argument('case', metavar='CASE', help='directory of the case, such as work_dirs/run/nan_1234')
    parser.add_argument('--device', metavar='DEVICE', help='cpu, cuda, ... (default: the best there is)')
    parser.add_argument('--trust-batch', action='store_true',
                        help='load a batch of pickled objects, which runs code that the file names')


def run(args: argparse.Namespace) -> int:
    """Print what is not finite first; return 1 if all is finite now."""
    directory = Path(args.case)
    facts = _facts(directory)
    # What lay on a GPU is read on a machine without one, too; the model moves its batch where it is itself.
    state = torch.load(directory / 'state.pth', weights_only=True, map_location='cpu')
    if not facts['plain_batch'] and not args.trust_batch:
        raise UsageError(f'{directory / "batch.pth"} holds pickled objects, such as data samples: loading them runs '
                         'code that the file names. Pass --trust-batch if you made the file yourself.')
    cfg = read_config(str(directory / 'config.py'))
    device = torch.device(args.device or get_device())
    model = _build_model(cfg, state['state_dict'], directory).to(device)
    batch = torch.load(directory / 'batch.pth', weights_only=bool(facts['plain_batch']), map_location='cpu')
    restore_rng_state(state['rng'])
    say(f"iteration {facts['iter']} of rank {facts['rank']}, seed {facts['seed']}, on {device}")
    located = locate(model.train(), _build_wrapper(model, cfg), batch)
    for fact in located.facts:
        print(f'  - {fact}')
    for index, sample in enumerate(facts['samples']):
        if located.kind == 'batch' and located.name.endswith(f'[{index}]') and sample:
            print(f'  - that sample: {sample}')
    print(f'first: {located.kind} {located.name}'.rstrip())
    return 1 if located.kind == 'nothing' else 0


def _facts(directory: Path) -> dict[str, Any]:
    path = directory / 'case.json'
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UsageError(f'{directory} is no case: expected a directory nan_ITER with case.json, as '
                         'TrainingMonitorHook(locate_nan=True) leaves it in the work directory.') from None
    except ValueError as error:
        raise UsageError(f'{path} cannot be read: {error}') from None


def _build_model(cfg: Config, weights: dict[str, torch.Tensor], directory: Path) -> Any:
    if cfg.get('model') is None:
        raise UsageError(f'{directory / "config.py"} has no model: the run was built from objects, not from a config. '
                         'Build the model yourself and call mmckpt.hooks.nan_locator.locate(model, None, batch).')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for key in ('preprocess_cfg', 'data_preprocessor'):
        # Beside the model, as the Runner takes it too.
        if cfg.get(key) is not None:
            cfg.model.setdefault('data_preprocessor', cfg[key])
    model = MODELS.build(cfg.model)
    model.load_state_dict(weights)
    return model


def _build_wrapper(model: Any, cfg: Config) -> Any:
    try:
        return build_optim_wrapper(model, cfg.optim_wrapper)
    except AssertionError as error:
        warn(f'{cfg.optim_wrapper.get("type")} cannot be built here ({error}), so the batch runs in full precision.')
        return None
