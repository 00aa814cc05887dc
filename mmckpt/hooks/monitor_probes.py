"""Measurements of the process and the machine that detectors look at every 50 iterations."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import psutil
import torch

from mmckpt.hooks.facts import optim_wrappers
from mmckpt.hooks.runner_adapter import unwrapped_model

PROBE_ITERS = 50
# What the machine has left takes ten times as long to ask for as what this process uses.
AVAILABLE_LOOKS = 20
# Asking the driver takes milliseconds.
GPU_SECONDS = 5.0


class IterationClock:
    """Times iterations and the waiting for their data on the host, without what comes between epochs."""

    def __init__(self) -> None:
        self._mark: float | None = None
        self._times: list[float] = []
        self._waits: list[float] = []
        self._wait: float | None = None

    def restart(self) -> None:
        """Leave out what has passed since the last iteration."""
        self._mark = None

    def before_iter(self) -> None:
        """The batch is there."""
        self._wait = None if self._mark is None else time.perf_counter() - self._mark

    def after_iter(self) -> None:
        """The update is done."""
        now = time.perf_counter()
        if self._mark is not None and self._wait is not None:
            self._times.append(now - self._mark)
            self._waits.append(self._wait)
        self._mark = now

    def take(self) -> dict[str, float] | None:
        """Return median ``time`` and ``data_time`` since the last call, in seconds; None if too few are known."""
        times, waits = self._times, self._waits
        self._times, self._waits = [], []
        if len(times) < PROBE_ITERS // 2:
            return None
        return {'time': statistics.median(times), 'data_time': statistics.median(waits)}


class Probes:
    """Looks at learning rate, memory and GPU; no call waits for the device.

    Args:
        runner (Runner): The runner in training.
    """

    def __init__(self, runner: Any) -> None:
        self._process = psutil.Process()
        self._looks, self._available = 0, 0.0
        device = next((p.device for p in unwrapped_model(runner).parameters()), torch.device('cpu'))
        self._device = device if device.type == 'cuda' else None
        self._gpu_at = 0.0
        self._gpu_known = self._device is not None

    def look(self, runner: Any) -> dict[str, dict[str, float]]:
        """Return what is measured, by the switch of the detector that wants it."""
        groups = [group for wrapper in optim_wrappers(runner.optim_wrapper).values() for group in wrapper.param_groups]
        found = {'memory': self._memory(), 'gpu_idle': self._utilization()}
        if groups:
            found['learning_rate'] = {'lr': max(float(group['lr']) for group in groups)}
        return found

    def _memory(self) -> dict[str, float]:
        if self._looks % AVAILABLE_LOOKS == 0:
            self._available = float(psutil.virtual_memory().available)
        self._looks += 1
        bytes_in_use = {'memory': float(own_memory(self._process)), 'available': self._available}
        if self._device is not None:
            bytes_in_use['gpu_memory'] = float(torch.cuda.memory_allocated(self._device))
        return bytes_in_use

    def _utilization(self) -> dict[str, float]:
        if not self._gpu_known or time.monotonic() - self._gpu_at < GPU_SECONDS:
            return {}
        self._gpu_at = time.monotonic()
        try:
            return {'gpu_utilization': float(torch.cuda.utilization(self._device))}
        except Exception:
            # No nvidia-ml-py, or a driver that does not tell: there is nothing to watch.
            self._gpu_known = False
            return {}


def own_memory(process: Any) -> int:
    """Return the resident bytes of this process without the pages of mapped files, where the system tells them apart.

    The system takes such pages back when it needs the memory: a data set that
    is memory-mapped and read for the first time is no leak.

    Args:
        process (psutil.Process): This process.
    """
    try:
        # As one raw read: what psutil and a file object do besides takes longer than the system's own part.
        descriptor = os.open('/proc/self/status', os.O_RDONLY)
        try:
            status = os.read(descriptor, 1 << 16)
        finally:
            os.close(descriptor)
        return 1024 * sum(int(status.split(name, 1)[1].split(None, 1)[0]) for name in (b'RssAnon:', b'RssShmem:'))
    except (OSError, IndexError, ValueError):
        return int(process.memory_info().rss)
