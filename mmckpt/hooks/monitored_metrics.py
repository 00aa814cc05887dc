"""What can be said of monitored metrics before the first validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.runner import ValLoop

from mmckpt.policy.selection import Selection


def warn_of_impossible(runner: Any, selections: Iterable[Selection]) -> None:
    """Warn before training of selections that no validation will serve (R22).

    What a validation gives is known at its end only, but each metric of an
    evaluator declares the prefix of its names. Hooks may add others, so this
    is a warning; the first validation decides.

    Args:
        runner (Runner): The runner, in ``before_train``.
        selections (list[Selection]): Those of ``save_best``.
    """
    names = [name for selection in selections for name in selection.needs if selection.name != 'auto']
    if not names:
        return
    if runner.val_loop is None:
        runner.logger.warning(
            f'save_best={[s.name for s in selections]} has nothing to judge: the config has no validation '
            '(val_dataloader, val_cfg, val_evaluator). Only periodic checkpoints will be saved.')
        return
    prefixes = declared_prefixes(runner.val_loop)
    for name in names:
        if prefixes and 'loss' not in name and not name.startswith(tuple(f'{prefix}/' for prefix in prefixes)):
            near = sorted({f"'{prefix}/{name.split('/')[-1]}'" for prefix in prefixes})
            runner.logger.warning(
                f'save_best: no metric of the evaluator gives {name!r}: their names begin with '
                f"{', '.join(repr(prefix + '/') for prefix in sorted(prefixes))}. Did you mean {' or '.join(near)}? "
                'Unless a hook adds it, the first validation will end the training.')


def declared_prefixes(loop: Any) -> set[str]:
    """Return the prefixes of all metrics of a validation; none if one has none, or the loop renames them.

    Args:
        loop (BaseLoop): The validation loop.
    """
    if type(loop) is not ValLoop:
        return set()
    prefixes = [getattr(metric, 'prefix', None) for metric in loop.evaluator.metrics]
    return set(prefixes) if prefixes and all(prefixes) else set()
