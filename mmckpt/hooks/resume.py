"""Which file a resume starts from, what it holds, and how it is put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import SyncBuffersHook
from mmengine.runner import IterBasedTrainLoop

from mmckpt.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    IncompatibleCheckpointError,
    MMCkptError,
)
from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.files.foreign import is_own_form
from mmckpt.hooks.capture import stateful_hooks
from mmckpt.hooks.rank_state import restore_rank_state
from mmckpt.hooks.runner_adapter import broadcast_object, unwrapped_model
from mmckpt.hooks.strategy_save import unsealed_directory, writes_itself
from mmckpt.hooks.validation_delta import apply_delta
from mmckpt.state.model_settings import setting_differences
from mmckpt.store import CheckpointStore, Record, load_checkpoint
from mmckpt.store.unit import is_unit


def choose_resume_file(runner: Any, directory: str | Path) -> list[Record]:
    """Point the Runner at the newest checkpoint that verifies, before it loads one.

    Stock MMEngine trusts the name in ``last_checkpoint``. Here a file that is
    truncated or altered is skipped with a reason, the one before is used, and
    nothing is deleted. ``resume=True`` together with a pretrained
    ``load_from`` resumes the run if it has checkpoints.

    Args:
        runner (Runner): A runner in ``before_run`` of a training.
        directory (str or Path): Where the run's checkpoints lie.

    Returns:
        list[Record]: Newer files that did not verify (rank 0 only).

    Raises:
        CheckpointNotFoundError: If there are checkpoints, but none is valid.
    """
    if not runner._resume:
        return []
    # The choice is made once and shared, so that all ranks load one file.
    failure, choice, rejected = None, (False, None), []
    if is_main_process():
        try:
            choice = _choose(runner, Path(directory), rejected)
        except MMCkptError as error:
            failure = error
    failure, choice = broadcast_object((failure, choice))
    if failure is not None:
        raise failure
    runner._resume, runner._load_from = choice
    return rejected


def _choose(runner: Any, directory: Path, rejected: list[Record]) -> tuple[bool, str | None]:
    """Return whether to resume, and the file to load; add newer files that are bad to ``rejected``."""
    asked = runner._load_from
    if asked is not None and ('://' in asked or _can_resume(runner, asked)):
        return True, asked
    view = CheckpointStore.read(directory, runner.logger)
    newest = view.latest_valid()
    rejected += view.rejected
    if newest is not None:
        if asked is not None:
            runner.logger.warning(
                f'resume=True: goes on from {newest.name} of {directory}; load_from={asked!r} holds weights '
                'only and is not used. Set resume=False to start from it.')
        return True, str(directory / newest.name)
    unsealed = unsealed_directory(runner, directory) if newest is None and not view.records() else None
    if unsealed is not None:
        runner.logger.warning(
            f'{unsealed}, which last_checkpoint names, was not written by mmckpt: its bytes cannot be checked.')
        return True, unsealed
    if view.records():
        raise CheckpointNotFoundError(
            f'resume=True, but none of the {len(view.records())} checkpoints in {directory} is valid (the log '
            'says why for each). Pass --resume-from FILE to choose another file, or train without --resume '
            'to start from scratch.')
    runner.logger.warning(
        f'resume=True, but {directory} holds no checkpoint: training starts '
        + ('from scratch.' if asked is None else f'from the weights in {asked}.'))
    return False, asked


def _can_resume(runner: Any, path: str) -> bool:
    """Whether a file holds training state, not weights only; raises if it cannot be trusted."""
    view = CheckpointStore.read(Path(path).parent)
    record = view.find(Path(path).name)
    known = record is not None and (record.is_directory or Path(path).is_file())
    reason = view.verify_once(record) if known else None
    if reason is not None:
        raise CorruptCheckpointError(
            f'{path} is not what was written there: {reason}. Pass another file, or --resume without a path '
            'to go on from the newest one that is valid.')
    if is_unit(path) or (Path(path).is_dir() and writes_itself(runner)):
        # What a strategy has written as a directory holds weights and optimizer.
        return True
    try:
        checkpoint = load_checkpoint(path, mmap=True)
    except IncompatibleCheckpointError:
        checkpoint = {}
    return 'optimizer' in checkpoint if is_own_form(checkpoint) else bool(anatomy(open_file(path).tree).optimizers)


class LoadedCheckpoint:
    """What is known of the file that a run resumes from.

    Args:
        path (str): The file, as the Runner was told.
        checkpoint (dict): Its content, as the Runner read it; of a directory a part.
        strategy (str, optional): The strategy that reads and writes it. Defaults to None, none.
    """

    def __init__(self, path: str, checkpoint: dict[str, Any], strategy: str | None = None) -> None:
        self.path = path
        self.parts = set(checkpoint)
        self.meta = {k: v for k, v in checkpoint.get('meta', {}).items() if k != 'cfg'}
        self.n_tensors = len(checkpoint.get('state_dict', ()))
        self.envelope: dict[str, Any] = checkpoint.get('mmckpt', {})
        self.strategy = strategy
        self.parts |= set(self.envelope.get('parts', ()))
        self.post_validation: dict[str, Any] | None = None
        self.restored_hooks: list[str] = []
        self.absent_hooks: list[str] = []
        local = Path(path)
        if '://' not in path and local.exists():
            view = CheckpointStore.read(local.parent)
            record = view.find(local.name)
            if record is not None and view.check_size(record) is None:
                self.post_validation = record.post_validation

    @property
    def validation_pending(self) -> bool:
        """Whether the validation of this step was never finished."""
        return bool(self.envelope.get('val_pending')) and self.post_validation is None

    def restore(self, runner: Any) -> None:
        """Put back the state that MMEngine does not know, completed by the record."""
        reason = restore_rank_state(runner, self.envelope.get('ranks', []))
        if reason is not None:
            runner.logger.warning(f'The resume is not bit-exact: {reason}.')
        states = dict(self.envelope.get('hooks', {}))
        if self.post_validation is not None:
            states.update(apply_delta(runner, self.post_validation))
            _repeat_buffer_sync(runner)
        hooks = stateful_hooks(runner)
        for name, hook in hooks.items():
            if name in states:
                hook.load_state_dict(states.pop(name))
                self.restored_hooks.append(name)
            else:
                self.absent_hooks.append(name)
        for name in states:
            runner.logger.warning(
                f'The checkpoint holds the state of a hook {name!r} that this run does not have; it is left out.')


def weight_differences(model: Any, state_dict: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Compare the tensors that a model would save with saved ones.

    Args:
        model (nn.Module): The model, unwrapped.
        state_dict (dict): A checkpoint's; a wrapper's ``module.`` in front of the names is passed over.

    Returns:
        tuple: Names missing in the file, names with both shapes where they
        differ, and names that the model does not know.
    """
    saved = {key[7:] if key.startswith('module.') else key: value for key, value in state_dict.items()}
    own = model.state_dict()
    reshaped = [f'{k}: {tuple(saved[k].shape)} in the file, {tuple(v.shape)} in the model'
                for k, v in own.items()
                if k in saved and getattr(saved[k], 'shape', None) != getattr(v, 'shape', None)]
    return [k for k in own if k not in saved], reshaped, [k for k in saved if k not in own]


def check_model(runner: Any, path: str, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume the training of another model.

    MMEngine loads with ``strict=False``: parameters that are missing or have
    another shape would silently keep their initial values while the optimizer
    goes on as if they were trained.

    Raises:
        IncompatibleCheckpointError: If a parameter of the model is missing in
            the checkpoint or has another shape there.
    """
    model = unwrapped_model(runner)
    absent, reshaped, unexpected = weight_differences(model, checkpoint['state_dict'])
    parameters = dict(model.named_parameters())
    missing = [k for k in absent if k in parameters]
    reshaped = [text for text in reshaped if text.split(': ')[0] in parameters]
    if missing or reshaped:
        raise IncompatibleCheckpointError(
            f'{path} belongs to another model than {type(model).__name__}, so training cannot be resumed from it.'
            f'{_listing("settings differ", setting_differences(checkpoint.get("meta", {}), runner.cfg.pretty_text))}'
            f'{_listing("missing in the file", missing)}{_listing("of another shape", reshaped)}'
            f'{_listing("unknown to the model", unexpected)}\n'
            'Resume with the config that the run was started with, or pass the file as load_from without '
            'resume=True to take over the weights that fit.')


def _listing(title: str, entries: list[str], most: int = 5) -> str:
    if not entries:
        return ''
    shown = ''.join(f'\n    {entry}' for entry in entries[:most])
    more = f'\n    ... and {len(entries) - most} more' if len(entries) > most else ''
    return f'\n  {len(entries)} {title}:{shown}{more}'


def _repeat_buffer_sync(runner: Any) -> None:
    """Average the buffers of the ranks as the validation after this file did.

    In iteration-based training ``SyncBuffersHook`` does so before a
    validation; the file was written before, and buffers are too big for a record.
    """
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        for hook in runner.hooks:
            if isinstance(hook, SyncBuffersHook):
                hook.before_val_epoch(runner)
