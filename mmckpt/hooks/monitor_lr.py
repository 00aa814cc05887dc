"""Whether a schedule has just raised the learning rate at one stroke."""

from __future__ import annotations

from typing import Any

from mmckpt.hooks.facts import optim_wrappers

# A warm restart multiplies it by far more, a warm-up from one iteration to the next by less, but for its first ones.
JUMP = 1.5


class LearningRateWatch:
    """Compares the learning rate with that of the iteration before.

    Looked at is one parameter group, the one with the largest rate, since a
    schedule treats all alike. A rise that no schedule has made is none: then
    the rate is not the one that the schedule has set last. (A hook that
    changes it right before the schedules step cannot be told from them.)

    Args:
        runner (Runner): The runner, right before it trains.
    """

    def __init__(self, runner: Any) -> None:
        groups = [group for wrapper in optim_wrappers(runner.optim_wrapper).values() for group in wrapper.param_groups
                  # A tensor may lie on a device, which would be waited for.
                  if isinstance(group.get('lr'), (int, float))]
        self._group: dict[str, Any] = max(groups, key=lambda group: group['lr'], default={'lr': 0.0})
        # That of the last iteration; a resumed run is told that of its file.
        self.lr = self._group['lr']

    def has_jumped(self, runner: Any) -> bool:
        """Compare; call it in ``before_train_iter``, when schedules have stepped and no update is made yet."""
        before, self.lr = self.lr, self._group['lr']
        return self.lr > JUMP * before and self._is_planned(runner.param_schedulers)

    def _is_planned(self, schedulers: Any) -> bool:
        lists = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
        return any(group is self._group and value == self.lr
                   for each in lists for scheduler in each if scheduler.param_name == 'lr'
                   for group, value in zip(scheduler.optimizer.param_groups, scheduler.get_last_value()))
