"""How far a run has come, in completed counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Completed epochs and iterations of a run.

    This is the only form in which counters travel inside mmckpt. Runner
    counters lag by one inside some hooks; the adapter corrects that once.

    Args:
        epoch (int): Completed epochs (always 0 in iteration-based training).
        iter (int): Completed iterations since the start of the run.

    Example:
        >>> Progress(epoch=3, iter=120).count(by_epoch=True)
        3
    """

    epoch: int
    iter: int

    def count(self, by_epoch: bool) -> int:
        """Return the completed epochs, or iterations if ``by_epoch`` is False."""
        return self.epoch if by_epoch else self.iter
