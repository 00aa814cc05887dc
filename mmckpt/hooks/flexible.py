"""Lets MMEngine's FlexibleRunner start a run in the order in which its Runner does."""

from __future__ import annotations

import functools
from typing import Any, Callable

from mmengine.runner import FlexibleRunner

_ORDERED = '_mmckpt_prepares_first'


def prepare_before_load() -> None:
    """Call ``before_run`` ahead of the load in every FlexibleRunner that has a ``mmckpt.CheckpointHook``.

    A Runner calls ``before_run`` and then loads. A FlexibleRunner loads first, which leaves no event in which the
    newest valid checkpoint could be chosen: one that is truncated ends the program, a lost ``last_checkpoint`` starts
    the training from scratch, and MMEngine's own ``EMAHook`` fails in every resume, because it makes its model in
    ``before_run``. No hook hears of the runner before that, so the order is set in the class, once; a runner without
    our hook keeps the stock order.
    """
    stock = FlexibleRunner.load_or_resume
    if hasattr(stock, _ORDERED):
        return

    @functools.wraps(stock)
    def load_or_resume(runner: Any) -> None:
        if not runner._has_loaded and any(getattr(hook, 'prepares_load', False) for hook in runner.hooks):
            # A path in `resume` is what `load_from` together with `resume` is to a Runner.
            if isinstance(runner._resume, str):
                runner._resume, runner._load_from = True, runner._resume
            runner.call_hook('before_run')
            runner.call_hook = _without_next('before_run', runner)
        try:
            stock(runner)
        except BaseException:
            # The event that would have been left out does not come; another attempt needs its own.
            vars(runner).pop('call_hook', None)
            raise

    setattr(load_or_resume, _ORDERED, True)
    FlexibleRunner.load_or_resume = load_or_resume


def _without_next(event: str, runner: Any) -> Callable[..., None]:
    """Return a ``call_hook`` for the runner that leaves an event out once, and then is gone."""

    def call_hook(fn_name: str, **kwargs: Any) -> None:
        if fn_name == event:
            del runner.call_hook
        else:
            type(runner).call_hook(runner, fn_name, **kwargs)

    return call_hook
