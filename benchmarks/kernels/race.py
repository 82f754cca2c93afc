"""Contenders interleaved round by round, so that a slow spell of the machine meets all of them."""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock

AA_LOW, AA_HIGH = 0.95, 1.05


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    warmup: int = 3
    rounds: int = 11
    seconds: float = 2.0
    """A contender leaves when it has had so much time and ``least`` rounds."""
    least: int = 3
    shortest: float = 2e-2
    """A measurement repeats a call until it takes about this long."""
    longest_warmup: float = 0.5
    longest_call: float = 3.0


@dataclass
class Lap:
    """The times of one contender, None in rounds it took no part in."""

    repeats: int
    seconds: list[float | None] = field(default_factory=list)

    @property
    def taken(self) -> list[float]:
        return [value for value in self.seconds if value is not None]

    @property
    def spent(self) -> float:
        return sum(self.taken) * self.repeats


def race(
    calls: Mapping[str, Callable[[], Any]],
    clock: Clock,
    pace: Pace,
    first: Mapping[str, float] | None = None,
) -> dict[str, Lap]:
    """Time every call once a round, in a new order each time: nobody always follows the same.

    Those who need long leave after ``pace.least`` rounds; the race ends when all have
    ``pace.rounds`` rounds or have left. ``first`` is how long a call has taken already: a long one
    needs no warm-up and counts as a round.
    """
    laps = {}
    for name, call in calls.items():
        known = 0.0 if first is None else first.get(name, 0.0)
        if known > pace.longest_call:
            laps[name] = Lap(1, [known])
        else:
            laps[name] = Lap(_warm(call, clock, pace), [None])
    names = list(calls)
    run_rounds(calls, laps, clock, pace, names)
    return laps


def run_rounds(
    calls: Mapping[str, Callable[[], Any]],
    laps: dict[str, Lap],
    clock: Clock,
    pace: Pace,
    names: list[str],
) -> None:
    """Go on for up to ``pace.rounds`` more rounds with the named contenders."""
    begun = {name: (len(laps[name].taken), laps[name].spent) for name in names}
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(pace.rounds):
            running = [name for name in names if _goes_on(laps[name], begun[name], pace)]
            if not running:
                break
            for name in laps:
                if name not in running:
                    laps[name].seconds.append(None)
            random.Random(turn).shuffle(running)
            for name in running:
                laps[name].seconds.append(clock.seconds(calls[name], laps[name].repeats))
            gc.collect()
    finally:
        if was_enabled:
            gc.enable()


def _goes_on(lap: Lap, begun: tuple[int, float], pace: Pace) -> bool:
    rounds, spent = len(lap.taken) - begun[0], lap.spent - begun[1]
    return rounds < pace.least or (rounds < pace.rounds and spent < pace.seconds)


def _warm(call: Callable[[], Any], clock: Clock, pace: Pace) -> int:
    """Warm up; return how often to repeat a call in one measurement."""
    last = spent = 0.0
    for _ in range(pace.warmup):
        last = clock.seconds(call, 1)
        spent += last
        if spent > pace.longest_warmup:
            break
    return max(1, math.ceil(pace.shortest / max(last, 1e-7))) if last < pace.shortest else 1


def ratios(numerator: Lap, denominator: Lap) -> list[float]:
    """Per-round ratios of the rounds in which both took part."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=True)
    return [a / b for a, b in pairs if a is not None and b is not None]


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def settled(aa: float) -> bool:
    """Tell whether a contender timed against itself comes out equal."""
    return AA_LOW <= aa <= AA_HIGH
