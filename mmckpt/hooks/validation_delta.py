"""What a validation changes in the training state, small enough for an index record.

The big file of a step is written before its validation. Afterwards the hub
has new metrics and best scores, plateau schedulers and their learning rates
have moved, and hooks have counted. That difference goes into the record of
the file; on a resume the record completes the file.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from mmckpt.hooks.capture import hook_states, scheduler_states
from mmckpt.hooks.runner_adapter import bound_scalar
from mmckpt.state.digest import CLOCK_KEYS
from mmckpt.state.plain import from_json, to_json, to_plain


class ValidationDelta:
    """The change in a Runner's small state since this object was made.

    Args:
        runner (Runner): The runner, at the moment the file was captured.
    """

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self._before = _observe(runner)

    def collect(self, metrics: dict[str, float]) -> dict[str, Any]:
        """Return what changed, in JSON types.

        Args:
            metrics (dict): Scalar metrics of the validation.

        Returns:
            dict: To be handed to :func:`apply_delta` after a resume.
        """
        hub = self.runner.message_hub
        delta: dict[str, Any] = {'version': 1, 'metrics': to_json(metrics), 'scalars': {}}
        for key, buffer in hub.log_scalars.items():
            log, count = buffer.data
            added = _added(self._before['scalars'].get(key), log)
            if added and not key.endswith(CLOCK_KEYS):
                delta['scalars'][key] = to_json(dict(
                    log=log[-added:].tolist(), count=count[-added:].tolist(), length=len(log),
                    max_length=buffer.max_length))
        after = _observe(self.runner)
        for part in ('infos', 'schedulers', 'groups', 'hooks'):
            before = self._before[part]
            delta[part] = {name: json.loads(text) for name, text in after[part].items()
                           if before.get(name) != text}
        return delta


class PendingValidationHook(Hook):
    """Makes up the validation that the file of a resume was written before.

    It is registered after all others, so that every ``before_train`` has run;
    both train loops look at ``stop_training`` after it.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        """Run the validation, once."""
        runner.hooks.remove(self)
        runner.val_loop.run()


def apply_delta(runner: Any, delta: dict[str, Any]) -> dict[str, Any]:
    """Put a validation's changes on top of a state that was captured before it.

    Args:
        runner (Runner): A runner that has just loaded the file.
        delta (dict): What :meth:`ValidationDelta.collect` returned.

    Returns:
        dict: The states of hooks after the validation, by name; the caller
        loads them with the hooks' other state.
    """
    hub = runner.message_hub
    for key, added in ((k, from_json(v)) for k, v in delta['scalars'].items()):
        for value, weight in zip(added['log'], added['count']):
            hub.update_scalar(key, value, weight)
        bound_scalar(hub.log_scalars[key], added['length'])
        hub.log_scalars[key].max_length = added['max_length']
    for key, value in delta['infos'].items():
        hub.update_info(key, from_json(value))
    schedulers = _flat_schedulers(runner)
    for path, value in delta['schedulers'].items():
        name, key = path.rsplit('.', 1)
        schedulers[name].load_state_dict({key: from_json(value)})
    groups = _param_groups(runner)
    for path, value in delta['groups'].items():
        name, key = path.rsplit('.', 1)
        groups[name][key] = from_json(value)
    return {name: from_json(state) for name, state in delta['hooks'].items()}


def _observe(runner: Any) -> dict[str, dict[str, Any]]:
    """The hub's scalars, and JSON texts of all else that a validation may change."""
    hub = runner.message_hub
    resumed = hub._resumed_keys
    schedulers = {f'{name}.{key}': _text(value) for name, scheduler in _flat_schedulers(runner).items()
                  for key, value in scheduler.state_dict().items()}
    groups = {f'{name}.{key}': _text(value) for name, group in _param_groups(runner).items()
              for key, value in group.items() if key != 'params'}
    return {
        # An update makes a new array, so these stay as they are.
        'scalars': {key: buffer.data[0] for key, buffer in hub.log_scalars.items()},
        'infos': {key: _text(value) for key, value in hub.runtime_info.items()
                  if resumed.get(key) and key not in ('cfg', 'loop_stage')},
        'schedulers': schedulers,
        'groups': groups,
        'hooks': {name: _text(state) for name, state in hook_states(runner).items()},
    }


def _added(before: np.ndarray | None, after: np.ndarray) -> int:
    """How many values were appended to a history that may have lost its oldest ones."""
    if before is None:
        return len(after)
    if after is before:
        return 0
    for kept in range(min(len(before), len(after) - 1), -1, -1):
        if np.array_equal(before[len(before) - kept:], after[:kept], equal_nan=True):
            return len(after) - kept
    raise AssertionError('an empty history is the end of every history')


def _text(value: Any) -> str:
    return json.dumps(to_json(to_plain(value)))


def _flat_schedulers(runner: Any) -> dict[str, Any]:
    if scheduler_states(runner) is None:
        return {}
    built = runner.param_schedulers
    named = built.items() if isinstance(built, dict) else [('', built)]
    return {f'{name}[{i}]': s for name, part in named for i, s in enumerate(part)}


def _param_groups(runner: Any) -> dict[str, dict[str, Any]]:
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        return {}
    named = wrapper.items() if hasattr(wrapper, 'items') else [('', wrapper)]
    return {f'{name}[{i}]': g for name, w in named for i, g in enumerate(w.param_groups)}
