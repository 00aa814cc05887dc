"""Says how far a long write has come."""

from __future__ import annotations

import time
from logging import Logger
from typing import Callable

from mmckpt.store.space import megabytes


class ProgressLog:
    """Called with the bytes written so far, logs now and then if it takes long.

    Args:
        name (str): The file.
        expected (int): Bytes that it will have, about.
        logger (Logger): Where to.
        every (float): Seconds until the first line and between lines. Defaults to 5.
        clock (callable): Returns seconds. Defaults to ``time.monotonic``.

    Example:
        >>> import logging
        >>> ProgressLog('epoch_1.pth', 1000, logging.getLogger('mmckpt'))(500)
    """

    def __init__(self, name: str, expected: int, logger: Logger, every: float = 5.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.expected = expected
        self.logger = logger
        self.every = every
        self.clock = clock
        self._started = self._said = clock()

    def __call__(self, size: int) -> None:
        """Take the number of bytes written so far."""
        now = self.clock()
        if now - self._said < self.every:
            return
        self._said = now
        percent = min(99, 100 * size // max(1, self.expected))
        self.logger.info('Writing %s: %s of about %s (%d %%), %s/s.', self.name, megabytes(size),
                         megabytes(self.expected), percent, megabytes(size / (now - self._started)))
