"""Messages to people: a queue and a thread for each channel, so that none can hold up a training."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mmckpt.errors import near_matches
from mmckpt.monitor.notify_channels import Command, DeliveryError, Webhook

SEVERITIES = ('info', 'warning', 'error')
KINDS: dict[str, Any] = {'webhook': Webhook, 'command': Command}
# Messages that wait for one channel; more are counted and dropped.
MOST_WAITING = 100
# Seconds that the end of a training waits for what is still to be sent, in all.
LAST_WAIT = 10.0


@dataclass(frozen=True)
class Notice:
    """One message.

    Args:
        severity (str): ``'info'``, ``'warning'`` or ``'error'``.
        text (str): One or a few lines.
        advice (tuple[str, ...]): What to look at. Defaults to ().
    """

    severity: str
    text: str
    advice: tuple[str, ...] = ()

    def full_text(self) -> str:
        """Return text and advice, a line each."""
        return '\n'.join([self.text, *(f'- {line}' for line in self.advice)])


class Notifier(Protocol):
    """Sends a text to people; called on a thread of its own."""

    def send(self, text: str) -> None:
        """Send a text within its time-out; raise :class:`DeliveryError` if that fails."""
        ...


@dataclass(frozen=True)
class Channel:
    """A notifier and what it is for.

    Args:
        name (str): How the log calls it; holds no secret.
        notifier (Notifier): What sends.
        min_severity (str): The least that is sent.
    """

    name: str
    notifier: Notifier
    min_severity: str


def read_channels(specs: Sequence[Mapping[str, Any]]) -> list[Channel]:
    """Read the argument ``notify`` of ``TrainingMonitorHook``.

    Args:
        specs (Sequence[dict]): Each with ``type`` (``'webhook'`` or
            ``'command'``), ``min_severity`` (``'info'``, ``'warning'`` or
            ``'error'``, by default ``'warning'``) and the arguments of
            :class:`Webhook` or :class:`Command`.

    Returns:
        list[Channel]: A channel each.

    Raises:
        ValueError: If one is wrong.

    Example:
        >>> [channel] = read_channels([dict(type='command', command=['mail', '-s', 'training', 'me'])])
        >>> channel.name, channel.min_severity
        ('command mail', 'warning')
    """
    if isinstance(specs, (str, Mapping)) or not isinstance(specs, Sequence):
        raise ValueError(f'notify must be a list of dicts, but got {type(specs).__name__}.')
    return [_channel(spec) for spec in specs]


def _channel(spec: Any) -> Channel:
    if not isinstance(spec, Mapping) or spec.get('type') not in KINDS:
        # The value is not shown: an address that was pasted here is a secret.
        raise ValueError(f"An entry of notify must be a dict with type='webhook' or type='command', but got a "
                         f'{type(spec).__name__} without it.')
    arguments = {key: value for key, value in spec.items() if key not in ('type', 'min_severity')}
    severity = spec.get('min_severity', 'warning')
    if severity not in SEVERITIES:
        raise ValueError(f"min_severity must be 'info', 'warning' or 'error', but got {severity!r}.")
    kind = KINDS[spec['type']]
    for key in arguments:
        if key not in kind.ARGUMENTS:
            raise ValueError(f'notify: a {spec["type"]} has no argument {key!r}. '
                             f'{near_matches(key, [*kind.ARGUMENTS, "min_severity"])}')
    notifier = kind(**arguments)
    return Channel(notifier.name, notifier, severity)


class NotificationCentre:
    """Takes messages without waiting and delivers them on one daemon thread a channel.

    Args:
        channels (Sequence[Channel]): Where to.
        logger (Logger): Where the first failure in a row of each channel is said.

    Example:
        >>> centre = NotificationCentre([], logging.getLogger('doctest'))
        >>> centre.post(Notice('error', 'loss is nan'))
        >>> centre.close()
    """

    def __init__(self, channels: Sequence[Channel], logger: logging.Logger) -> None:
        self._lanes = [_Lane(channel, logger) for channel in channels]

    def post(self, notice: Notice) -> None:
        """Queue a message for the channels that want its severity; never waits."""
        for lane in self._lanes:
            if SEVERITIES.index(notice.severity) >= SEVERITIES.index(lane.channel.min_severity):
                lane.post(notice.full_text())

    def close(self, timeout: float = LAST_WAIT) -> None:
        """Wait for what is queued, for all channels together at most so long.

        Args:
            timeout (float): Seconds. What has not been sent by then is given up, and said.
        """
        end = time.monotonic() + timeout
        for lane in self._lanes:
            lane.close(max(0.0, end - time.monotonic()))


class _Lane:
    """One channel, its queue and its thread, which begins with the first message."""

    def __init__(self, channel: Channel, logger: logging.Logger) -> None:
        self.channel = channel
        self.logger = logger
        self.dropped = 0
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._failing = False

    def post(self, text: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name=f'mmckpt {self.channel.name}', daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float) -> None:
        if self._thread is None:
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            pass
        self._thread.join(timeout)
        left = self._waiting.qsize() if self._thread.is_alive() else 0
        if self._thread.is_alive() or self.dropped:
            self.logger.warning('%s: at least %d messages were not delivered.', self.channel.name,
                                max(1, left + self.dropped))
        self._thread = None

    def _deliver(self) -> None:
        while True:
            text = self._waiting.get()
            if text is None:
                return
            try:
                self.channel.notifier.send(text)
                self._failing = False
            except Exception as error:
                # Only our own errors are known to hold no secret.
                reason = str(error) if isinstance(error, DeliveryError) else type(error).__name__
                if not self._failing:
                    self._failing = True
                    self.logger.warning('%s could not be notified: %s. Training goes on; further failures in a row '
                                        'are not logged.', self.channel.name, reason)
