"""Lets the Runner read the file that it starts from through our loader, whoever wrote it."""

from __future__ import annotations

import os
from itertools import chain
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local

from mmckpt.errors import IncompatibleCheckpointError
from mmckpt.files.foreign import has_other_form, is_own_form, needs_conversion, read_foreign
from mmckpt.files.outline import printable
from mmckpt.hooks.runner_adapter import unwrapped_model
from mmckpt.hooks.strategy_save import writes_itself
from mmckpt.store import load_checkpoint
from mmckpt.store.own_memory import read_checkpoint
from mmckpt.store.tree import has_plain_storage, tensors_of

# The models copy these into parameters that they have already.
_COPIED_BY_MODELS = ('state_dict', 'ema_state_dict')


class MappedResume:
    """Routes one load, that of the file that a training starts from, through our readers.

    They need less time and memory than MMEngine's, never execute what a file
    holds, know the files of other programs, and their errors say what to do.
    MMEngine's own loader is back after that load. A loader that the project
    has registered for local files is left in place.
    """

    def __init__(self) -> None:
        self._addresses = range(0)

    def prepare(self, runner: Any) -> None:
        """Take over the load.

        Args:
            runner (Runner): A runner in ``before_run`` of a training, whose
                resume file has been chosen.

        Raises:
            MMCkptError: If it is a directory, and the runner reads files only.
        """
        path = runner._load_from
        if path is not None and not runner._resume and os.path.isdir(path) and not writes_itself(runner):
            # Says what it is; MMEngine would not find the file.
            load_checkpoint(path)
        if path is None or os.path.isdir(path) or CheckpointLoader._get_checkpoint_loader(path) is not load_from_local:
            return
        if not runner._resume and not needs_conversion(path):
            # MMEngine takes weights from its own files as well as we do.
            return
        # Whoever sets this wants torch to run what a file says, which our loader never does.
        if os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0').lower() in ('1', 'y', 'yes', 'true'):
            return

        def load(filename: str, map_location: Any) -> Any:
            if filename != path:
                return load_from_local(filename, map_location)
            CheckpointLoader.register_scheme('', load_from_local, force=True)
            return self._read(os.path.expanduser(filename), map_location, runner)

        # MMEngine's log line takes the name of the backend from it.
        load.__name__ = load_from_local.__name__
        CheckpointLoader.register_scheme('', load, force=True)

    def release(self, runner: Any) -> None:
        """Copy what the model has kept of the file instead of copying it; for ``before_train``."""
        model = unwrapped_model(runner)
        for tensor in chain(model.parameters(), model.buffers()):
            if has_plain_storage(tensor) and tensor.data_ptr() in self._addresses:
                tensor.data = tensor.data.clone()
        self._addresses = range(0)

    def _read(self, path: str, map_location: Any, runner: Any) -> dict[str, Any]:
        try:
            checkpoint = read_checkpoint(path, map_location, mapped=_COPIED_BY_MODELS)
        except IncompatibleCheckpointError:
            checkpoint = {}
        if not is_own_form(checkpoint):
            return _converted(path, map_location, runner)
        tensors = tensors_of([checkpoint.get(key) for key in _COPIED_BY_MODELS])
        starts = [t.data_ptr() for t in tensors if has_plain_storage(t) and t.device.type == 'cpu' and t.numel()]
        if starts:
            self._addresses = range(min(starts), max(starts) + 1)
        return checkpoint


def take_foreign_file(runner: Any) -> None:
    """Let a Runner, whatever its hooks, start from a file of another program; other files are left to it.

    Args:
        runner (Runner): A runner before ``train`` or ``test``.
    """
    path = runner._load_from
    if path is not None and has_other_form(path):
        MappedResume().prepare(runner)


def _converted(path: str, map_location: Any, runner: Any) -> dict[str, Any]:
    """Read a file of another program and say what became of its parts."""
    logger, wrapper = runner.logger, runner.optim_wrapper
    converted = read_foreign(path, map_location, list(wrapper.keys()) if isinstance(wrapper, OptimWrapperDict) else ())
    logger.info(f'{path} is read as mmckpt convert would write it: ' + printable('; '.join(
        f'{part}: {text}' for part, text in converted.kept.items())))
    for part, reason in converted.lost.items():
        logger.warning(f'Not taken over from {path}: {printable(part)}: {printable(reason)}')
    return converted.checkpoint
