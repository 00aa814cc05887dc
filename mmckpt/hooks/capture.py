"""The training state of a Runner as MMEngine's checkpoint dict."""

from __future__ import annotations

import time
from typing import Any

import mmengine
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.utils import get_git_hash

import mmckpt
from mmckpt.hooks.envelope import envelope
from mmckpt.hooks.facts import run_facts
from mmckpt.hooks.runner_adapter import bound_history, unwrapped_model
from mmckpt.progress import Progress
from mmckpt.state.plain import to_plain
from mmckpt.store.space import estimate_bytes


class StateCapture:
    """Builds the dict that ``Runner.save_checkpoint`` would write.

    It has MMEngine's keys, so that stock MMEngine and every OpenMMLab tool
    read our files. Formatting the config (up to seconds for a large one) and
    asking git happen once a run instead of once a save, tensors stay where
    they are (the store copies or streams them), a part that is not built yet
    is left out, and values that ``torch.load(weights_only=True)`` refuses are
    turned into plain ones.

    Args:
        runner (Runner): The runner whose state is captured.
        save_optimizer (bool): Whether the optimizer goes into the dict.
        save_param_scheduler (bool): Whether the schedulers go into the dict.
        history (int): Values of each logged scalar that go into the dict.
    """

    def __init__(self, runner: Any, save_optimizer: bool, save_param_scheduler: bool,
                 history: int) -> None:
        self.runner = runner
        self.save_optimizer = save_optimizer
        self.save_param_scheduler = save_param_scheduler
        self.history = history
        self._constant_meta = dict(
            cfg=runner.cfg.pretty_text,
            experiment_name=runner.experiment_name,
            mmengine_version=mmengine.__version__ + get_git_hash(),
            mmckpt_version=mmckpt.__version__,
        )
        self._facts = run_facts(runner)
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if metainfo is not None:
            self._constant_meta['dataset_meta'] = to_plain(metainfo)

    def __call__(self, progress: Progress, val_pending: bool, save_optimizer: bool | None = None) -> dict[str, Any]:
        """Return the state at ``progress``; foreign hooks take part through MMEngine's own event.

        Args:
            progress (Progress): Completed epochs and iterations.
            val_pending (bool): Whether a validation is due at this step and not done yet.
            save_optimizer (bool, optional): Whether the optimizer goes into this one. Defaults to None, as always.

        Returns:
            dict: The checkpoint; its tensors are the live ones.
        """
        runner, extra = self.runner, self.extra(progress, val_pending)
        checkpoint: dict[str, Any] = {
            'meta': extra['meta'], 'state_dict': unwrapped_model(runner).state_dict(),
            'message_hub': extra['message_hub']}
        wanted = self.save_optimizer if save_optimizer is None else save_optimizer
        if wanted and isinstance(runner.optim_wrapper, OptimWrapper):
            checkpoint['optimizer'] = runner.optim_wrapper.state_dict()
        schedulers = scheduler_states(runner) if self.save_param_scheduler else None
        if schedulers is not None:
            checkpoint['param_schedulers'] = schedulers
        checkpoint['mmckpt'] = extra['mmckpt']
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        return checkpoint

    def extra(self, progress: Progress, val_pending: bool) -> dict[str, Any]:
        """Return what is neither in the model nor in optimizer and schedulers.

        Args:
            progress (Progress): Completed epochs and iterations.
            val_pending (bool): Whether a validation is due at this step and not done yet.

        Returns:
            dict: ``meta``, ``message_hub`` and ``mmckpt``.
        """
        runner = self.runner
        extra: dict[str, Any] = {
            'meta': dict(epoch=progress.epoch, iter=progress.iter, seed=runner.seed,
                         time=time.strftime('%Y%m%d_%H%M%S'), **self._constant_meta),
            'message_hub': _hub_state(runner.message_hub, self.history),
        }
        envelope(extra).update(val_pending=val_pending, hooks=hook_states(runner), facts=self._facts)
        return extra


def predicted_bytes(runner: Any, save_optimizer: bool) -> int:
    """Predict the size of a checkpoint before there is one.

    An optimizer makes its state at the first step; its defaults tell how many
    tensors of the size of the weights that will be (Adam two, SGD with
    momentum one).
    """
    weights = estimate_bytes(dict(unwrapped_model(runner).state_dict()))
    copies = 1 + any(type(hook).__name__ == 'EMAHook' for hook in runner.hooks)
    if save_optimizer and isinstance(runner.optim_wrapper, OptimWrapper):
        parts = list(runner.optim_wrapper.values()) if isinstance(runner.optim_wrapper, OptimWrapperDict) else [
            runner.optim_wrapper]
        defaults = [part.optimizer.defaults for part in parts]
        copies += max(2 if 'betas' in d else 1 if d.get('momentum') else 0 for d in defaults)
    return weights * copies


def scheduler_states(runner: Any) -> Any:
    """Return the states of the built parameter schedulers as MMEngine writes them, or None."""
    built = runner.param_schedulers
    if isinstance(built, dict) and all(hasattr(s, 'state_dict') for part in built.values() for s in part):
        return {name: [s.state_dict() for s in part] for name, part in built.items()}
    if isinstance(built, list) and all(hasattr(s, 'state_dict') for s in built):
        return [s.state_dict() for s in built]
    return None


def hook_states(runner: Any) -> dict[str, Any]:
    """Return the state of every hook with ``state_dict`` and ``load_state_dict``, by class name."""
    return {name: hook.state_dict() for name, hook in stateful_hooks(runner).items()}


def stateful_hooks(runner: Any) -> dict[str, Any]:
    """Map a stable name to each hook that keeps state; a second one of a class gets ``#2``."""
    found: dict[str, Any] = {}
    for hook in runner.hooks:
        if hasattr(hook, 'state_dict') and hasattr(hook, 'load_state_dict'):
            base = type(hook).__name__
            same = sum(name.split('#')[0] == base for name in found)
            found[f'{base}#{same + 1}' if same else base] = hook
    return found


def _hub_state(message_hub: Any, history: int) -> dict[str, Any]:
    bound_history(message_hub, history)
    state = message_hub.state_dict()
    # The hub hands out its live dict of resumed keys.
    return dict(log_scalars=state['log_scalars'], runtime_info=to_plain(state['runtime_info']),
                resumed_keys=dict(state['resumed_keys']))
