"""Clocks: CPU time of one thread, wall time of several, or CUDA events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Times calls."""

    name: str

    def seconds(self, call: Callable[[], Any], repeats: int) -> float:
        """Seconds per call."""
        ...


class CpuClock:
    """CPU time of this process with one thread, else wall time.

    CPU time does not count what other processes take of the core, so it can be trusted on a busy
    machine; with several threads only wall time means anything, and only on an idle machine.
    """

    def __init__(self, threads: int) -> None:
        if threads > 1 and load() >= 1:
            raise RuntimeError(
                f"`threads={threads}` is timed by the wall clock, which needs a load average "
                f"below 1, got {load():.2f}; use threads=1 or wait"
            )
        self._now = time.process_time if threads == 1 else time.perf_counter
        self.name = "process_time" if threads == 1 else "perf_counter"

    def seconds(self, call: Callable[[], Any], repeats: int) -> float:
        start = self._now()
        for _ in range(repeats):
            call()
        return (self._now() - start) / repeats


class CudaClock:
    """CUDA events, with the L2 cache flushed before every measurement. The clocks are untouched."""

    name = "cuda events, L2 flushed"

    def __init__(self, device: str) -> None:
        properties = torch.cuda.get_device_properties(device)
        self._flush = torch.empty(2 * properties.L2_cache_size, dtype=torch.uint8, device=device)

    def seconds(self, call: Callable[[], Any], repeats: int) -> float:
        self._flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3 / repeats


def clock_for(device: str, threads: int) -> Clock:
    """The clock that a device and a number of threads are timed with."""
    return CudaClock(device) if device.startswith("cuda") else CpuClock(threads)


def load() -> float:
    """Load average of the last minute."""
    return os.getloadavg()[0]
