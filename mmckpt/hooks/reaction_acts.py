"""What is done about a finding at the end of an iteration, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mmckpt.errors import StoppedByMonitor
from mmckpt.hooks.runner_adapter import progress_after_iter
from mmckpt.policy.reaction import Reaction, SkipCount
from mmckpt.store.record import Record

# So many dropped updates are named one by one; after that each power of ten is.
NAMED = 5


@dataclass(frozen=True)
class Due:
    """What is to be done once the hooks of this iteration have been called.

    Args:
        cause (str): ``'nan'``, ``'spike'`` or ``'divergence'``.
        reaction (Reaction): What the user wants about it.
        before (int): Completed iterations up to which the state is sound.
        text (str): What happened, for a person.
    """

    cause: str
    reaction: Reaction
    before: int
    text: str


def say_skip(logger: Any, due: Due, skips: SkipCount, iteration: int) -> None:
    """Say that an update was left out, if it is one of those that are named."""
    total = skips.total
    if total <= NAMED or str(total).strip('0') == '1':
        more = ' Further ones are named at each power of ten.' if total == NAMED else ''
        logger.warning(
            f'The update of iteration {iteration} was not applied ({due.text}): {total} in this run, '
            f'{skips.in_a_row} in a row of at most {due.reaction.max_skips}.{more}')


def stop(runner: Any, due: Due, text: str) -> NoReturn:
    """Save the state as that of an interrupted run, and end the training.

    Raises:
        StoppedByMonitor: Always.
    """
    progress = progress_after_iter(runner)
    advice = ('Its state is saved without the update.' if due.cause != 'divergence' else
              'To go on from before it, give --resume-from a checkpoint of '
              f'iteration {due.before} or earlier.')
    error = StoppedByMonitor(f'iteration {progress.iter}: {text}')
    runner.logger.error(f'TrainingMonitorHook(on_{due.cause}={due.reaction.type!r}) ends the training with exit '
                        f'status {error.code}: {error}. {advice}')
    for hook in runner.hooks:
        if hasattr(hook, 'save_interrupted'):
            hook.save_interrupted(runner, progress)
    raise error


def rollback_event(due: Due, target: Record, iteration: int) -> dict[str, Any]:
    """Return what the run's history keeps of a rollback, in plain types.

    Args:
        due (Due): Why.
        target (Record): The checkpoint to go back to.
        iteration (int): Completed iterations, that of the event included.
    """
    skip = due.reaction.skip_iters
    if skip and due.cause == 'divergence':
        # It is seen long after the updates that led there, which would only lead there again.
        skip += iteration - due.before - 1
    return dict(cause=due.cause, text=due.text, from_iter=iteration, to_iter=target.iter, checkpoint=target.name,
                skip_iters=skip, lr_factor=due.reaction.lr_factor)


def say_rollback(logger: Any, event: Mapping[str, Any], number: int, most: int) -> None:
    """Say where a rollback leads, and what will be different from then on."""
    logger.warning(
        f"Going back from iteration {event['from_iter']} to {event['to_iter']} ({event['checkpoint']}): "
        f"{event['text']}. Rollback {number} of at most {most}; {_consequences(event)}.")


def _consequences(event: Mapping[str, Any]) -> str:
    last, skip = event['from_iter'], event['skip_iters']
    parts = [f'the updates of iterations {last - skip + 1} to {last} will be left out' if skip > 1 else
             f'the update of iteration {last} will be left out' if skip else 'all iterations are repeated']
    if event['lr_factor'] != 1:
        parts.append(f"the learning rate is multiplied by {event['lr_factor']:g}")
    return ', '.join(parts)
