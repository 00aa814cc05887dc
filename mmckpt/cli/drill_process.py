"""One training process of a resume drill: ``python -m mmckpt.cli.drill_process PLAN``."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop

from mmckpt.cli.config import build_runner, read_config
from mmckpt.cli.drill_record import RecordingHook, SampleIds
from mmckpt.cli.probe import EnoughIterations, FirstBatches
from mmckpt.cli.safe import asks_for_safety, make_safe
from mmckpt.cli.train_options import disable_validation
from mmckpt.data import DeterministicDataset
from mmckpt.data.stateful_loader import built_loader
from mmckpt.errors import MMCkptError, UsageError
from mmckpt.hooks.facts import length_of
from mmckpt.loops import EpochBasedTrainLoop as ExactEpochs
from mmckpt.loops import IterBasedTrainLoop as ExactIters
from mmckpt.registry import LOOPS

SEED = 0


@dataclass(frozen=True)
class Plan:
    """What one process of a drill does.

    Args:
        config (str): The user's config file.
        options (dict): Its ``--cfg-options``.
        safe (bool): Whether ``--safe`` was asked for.
        iterations (int): Completed iterations at which the restart lies.
        role (str): ``'straight'`` trains twice as many, ``'first'`` trains up
            to the restart, ``'resumed'`` goes on from there, and ``'kernels'``
            listens to PyTorch's warnings about kernels that are not deterministic.
        work_dir (str): Where it writes; the first and the resumed one share it.
        result (str): The file for what it saw.
    """

    config: str
    options: dict[str, Any]
    safe: bool
    iterations: int
    role: str
    work_dir: str
    result: str

    def write(self, path: Path) -> None:
        """Save it for the process."""
        torch.save(asdict(self), path)

    @classmethod
    def read(cls, path: str) -> Plan:
        """Load what :meth:`write` saved."""
        return cls(**torch.load(path, weights_only=True))


def run(plan: Plan) -> None:
    """Train as planned and save what was seen.

    Raises:
        UsageError: If the config cannot be drilled.
    """
    cfg = read_config(plan.config, plan.options)
    if plan.safe or asks_for_safety(cfg):
        make_safe(cfg)
    loop = train_loop_class(cfg)
    cuts_inside = resumes_inside_epochs(loop)
    prepare(cfg, plan, cuts_inside)
    runner = build_runner(cfg)
    loader = _built_loader(runner, loop)
    sample_ids = SampleIds.of(loader)
    natural_length = length_of(loader)
    # MMEngine's epoch-based loop resumes at the end of an epoch only, so the epoch ends there.
    runner._train_dataloader = loader if cuts_inside else FirstBatches(loader, plan.iterations)
    cut = plan.iterations if cuts_inside else length_of(runner._train_dataloader)
    probe = RecordingHook(cut, cut if plan.role in ('first', 'kernels') else 2 * cut, sample_ids)
    runner.register_hook(probe)
    kernels = _train(runner, plan.role == 'kernels')
    torch.save({
        'cut': cut, 'cuts_inside': cuts_inside, 'epoch_length': natural_length, 'kernels': kernels,
        'loop': type(runner.train_loop).__name__,
        'exact_loop': isinstance(runner.train_loop, (ExactEpochs, ExactIters)), 'workers': loader.num_workers,
        'device': next((p.device.type for p in runner.model.parameters()), 'cpu'),
        'seeds_samples': isinstance(loader.dataset, DeterministicDataset),
        'keeps_streams': any(type(hook).__name__ == 'RNGStateHook' for hook in runner.hooks),
        'trace': probe.trace, 'attributes': probe.attributes}, plan.result)


def prepare(cfg: Config, plan: Plan, cuts_inside: bool) -> None:
    """Change a config so that it saves at the restart, and writes into the plan's directory only.

    Args:
        cfg (Config): Changed in place.
        plan (Plan): The plan.
        cuts_inside (bool): Whether the restart may lie inside an epoch.
    """
    disable_validation(cfg)
    _save_at_the_restart(cfg, plan.iterations if cuts_inside else 1, by_epoch=not cuts_inside)
    if cfg.get('visualizer') is not None:
        cfg.visualizer.pop('vis_backends', None)
    randomness = dict(cfg.get('randomness') or {})
    if randomness.get('seed') is None:
        cfg.randomness = dict(randomness, seed=SEED)
    cfg.launcher, cfg.load_from = 'none', cfg.get('load_from') if plan.role != 'resumed' else None
    cfg.resume = plan.role == 'resumed'
    cfg.work_dir, cfg.experiment_name = plan.work_dir, f'drill_{plan.role}'


def train_loop_class(cfg: Config) -> type:
    """Return the class of the train loop that a config asks for.

    Raises:
        UsageError: If it does not train, or asks for what is no train loop.

    Example:
        >>> train_loop_class(Config(dict(train_cfg=dict(by_epoch=False, max_iters=9)))).__name__
        'IterBasedTrainLoop'
    """
    train_cfg = cfg.get('train_cfg')
    if not train_cfg:
        raise UsageError('the config has no train_cfg: a resume drill needs a training')
    kind = train_cfg.get('type')
    if kind is None:
        return EpochBasedTrainLoop if train_cfg.get('by_epoch', True) else IterBasedTrainLoop
    loop = LOOPS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(loop, type) and issubclass(loop, BaseLoop)):
        raise UsageError(f'train_cfg.type: expected the class or name of a loop, found {kind!r}')
    return loop


def resumes_inside_epochs(loop: type) -> bool:
    """Whether a train loop can go on anywhere, not only where an epoch begins.

    Example:
        >>> resumes_inside_epochs(EpochBasedTrainLoop), resumes_inside_epochs(ExactEpochs)
        (False, True)
    """
    return issubclass(loop, ExactEpochs) or not issubclass(loop, EpochBasedTrainLoop)


def _built_loader(runner: Any, loop: type) -> Any:
    """Build the training loader as the loop would, to watch it."""
    loader = runner._train_dataloader
    if issubclass(loop, (ExactEpochs, ExactIters)):
        loader = built_loader(loader, runner.seed)
    if isinstance(loader, dict):
        loader = runner.build_dataloader(
            loader, seed=runner.seed, diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))
    return loader


def _save_at_the_restart(cfg: Config, interval: int, by_epoch: bool) -> None:
    hooks = dict(cfg.get('default_hooks') or {})
    checkpoint = dict(hooks.get('checkpoint') or dict(type='mmckpt.CheckpointHook'))
    for key in ('out_dir', 'filename_tmpl', 'published_keys', 'save_begin'):
        checkpoint.pop(key, None)
    cfg.default_hooks = dict(hooks, checkpoint=dict(checkpoint, interval=interval, by_epoch=by_epoch))


def _train(runner: Any, listen: bool) -> list[str]:
    if not listen:
        _until_enough(runner)
        return []
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        _until_enough(runner)
    return nondeterministic_kernels([str(w.message) for w in caught])


def _until_enough(runner: Any) -> None:
    try:
        runner.train()
    except EnoughIterations:
        pass


def nondeterministic_kernels(messages: list[str]) -> list[str]:
    """Return the names of the kernels that PyTorch's warnings complain of.

    Example:
        >>> nondeterministic_kernels(['put_ does not have a deterministic implementation, but you set ...'])
        ['put_']
    """
    marks = ('does not have a deterministic implementation', 'is not deterministic because')
    return sorted({m.split(mark)[0].strip()[-60:] for m in messages for mark in marks if mark in m})


def main() -> int:
    """Run the plan that is named on the command line."""
    try:
        run(Plan.read(sys.argv[1]))
    except MMCkptError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
