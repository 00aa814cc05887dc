"""What the training state says of files that are still on their way, and how to take it back."""

from __future__ import annotations

import threading
from typing import Any, Callable

from mmckpt.hooks.runner_adapter import broadcast_object
from mmckpt.store import CheckpointStore


class Claim:
    """One thing that hub and hook say of a file before it is committed.

    Args:
        take_back (callable): Lets it never have been said, when the file is lost.
        hub_keys (Sequence[str]): Under which names the message hub says it.
        is_best (bool): Whether it is that a step is kept for its score.
    """

    def __init__(self, take_back: Callable[[], None], hub_keys: tuple[str, ...], is_best: bool) -> None:
        self.take_back = take_back
        self.hub_keys = hub_keys
        self.is_best = is_best
        # None until it is known; on rank 0 only.
        self.committed: bool | None = None
        self._known = threading.Event()

    def end(self, committed: bool) -> None:
        """Say what became of the file; on any thread."""
        self.committed = committed
        self._known.set()

    def wait(self) -> None:
        """Wait until it is known."""
        self._known.wait()


class Claims:
    """The claims of one training that are not settled yet.

    A best, or the last file, counts when its file is committed. In the
    background that is known later than hub and hook must say it, for the file
    itself holds what they say; so it is said first, and taken back if need be.

    Args:
        store (CheckpointStore, optional): The open store, or None on other ranks.
    """

    def __init__(self, store: CheckpointStore | None) -> None:
        self.store = store
        self.open: list[Claim] = []
        # Whether the next file is left out, on rank 0; what it must not repeat may not be known yet then.
        self.skips_next = False

    def add(self, take_back: Callable[[], None], *hub_keys: str, is_best: bool = False) -> Claim:
        """Note a claim, on every rank; whoever hands its file over lets the store call :meth:`Claim.end`."""
        self.open.append(Claim(take_back, hub_keys, is_best))
        return self.open[-1]

    def settle(self) -> None:
        """Take back, on every rank, what is known to be lost."""
        if self.open:
            self._apply(broadcast_object([claim.committed for claim in self.open]))

    def settle_bests(self) -> None:
        """Wait until it is known what became of the bests so far; call it on every rank before the next is judged."""
        if self.store is not None:
            for claim in self.open:
                if claim.is_best:
                    claim.wait()
        self.settle()

    def settle_before_write(self) -> None:
        """Settle what the next file must not repeat; call it on every rank.

        It waits for the files before, as the write itself would do, or leaves the next one out.
        """
        self.skips_next = self.store is not None and self.store.would_skip
        if self.store is not None and not self.skips_next:
            for claim in self.open:
                claim.wait()
        self.settle()

    def settle_alone(self) -> None:
        """Settle on this rank only, when the others may never come to a collective."""
        if self.store is not None:
            self.store.join()
        # What was not even handed over is lost, too.
        self._apply([bool(claim.committed) for claim in self.open])

    def _apply(self, outcomes: list[bool | None]) -> None:
        settled = list(zip(self.open, outcomes))
        self.open = [claim for claim, committed in settled if committed is None]
        # What was said last goes first: each one leads back to what was said before it.
        for claim, committed in reversed(settled):
            if committed is False:
                claim.take_back()


def hub_restorer(message_hub: Any, *keys: str) -> Callable[[], None]:
    """Return what puts some entries of a message hub back as they are now."""
    before = {key: message_hub.runtime_info.get(key) for key in keys}

    def restore() -> None:
        for key, value in before.items():
            if value is None:
                message_hub.runtime_info.pop(key, None)
            else:
                message_hub.update_info(key, value)

    return restore
