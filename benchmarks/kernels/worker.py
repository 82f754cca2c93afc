"""Groups of cases, measured in one process.

    python -m benchmarks.kernels.worker GROUP ... --tier smoke --out FOLDER

Every finished case is in FOLDER/GROUP.json at once; cases that are there already, made by the same
code, are not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .case import BAR_SIZES, Case, Contender, Forward, Group, Tier, answer, timed
from .clock import Clock, clock_for, load
from .groups import GROUPS
from .machine import about, fingerprint
from .ours import implementations
from .race import Lap, Pace, race, ratios, run_rounds, settled, summary
from .singles import SINGLES

AGAIN = " (again)"
_SECOND_LOOKS = 2


class Wrong(RuntimeError):
    """One of ours gives a wrong answer: nothing of it may be printed."""


@dataclass
class Store:
    """The file of a group."""

    path: Path
    heading: dict[str, Any]
    records: list[dict[str, Any]]

    @classmethod
    def open(cls, path: Path, heading: dict[str, Any]) -> Store:
        records: list[dict[str, Any]] = []
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            same = all(kept["about"].get(key) == heading[key] for key in ("code", "threads"))
            records = kept["records"] if same else []
        return cls(path, heading, records)

    def has(self, key: str) -> bool:
        return any(record["key"] == key for record in self.records)

    def add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self.write(done=False)

    def write(self, done: bool) -> None:
        text = json.dumps({"about": self.heading, "done": done, "records": self.records}, indent=1)
        partial = self.path.with_suffix(".partial")
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.path)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("groups", nargs="+", choices=[*GROUPS, *SINGLES])
    parser.add_argument("--tier", choices=("smoke", "full"), required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", default="")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")  # rivals' own, in the midst of the progress lines
    try:
        for name in options.groups:
            run(name, options)
    except Wrong as error:
        sys.exit(f"refused: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(name: str, options: argparse.Namespace) -> None:
    print(f"{name}:", flush=True)
    heading = about(options.device, options.threads, options.seed, options.command)
    heading |= {"tier": options.tier, "code": fingerprint()}
    store = Store.open(options.out / f"{name}.json", heading)
    if name in GROUPS:
        clock = clock_for(options.device, options.threads)
        store.heading["clock"] = clock.name
        run_group(GROUPS[name], options.tier, options.device, options.seed, clock, store)
    elif not store.records:
        for record in SINGLES[name](options.tier, options.device, say):
            store.add(record)
    store.write(done=True)


def run_group(group: Group, tier: Tier, device: str, seed: int, clock: Clock, store: Store) -> None:
    cases = group.cases(tier, device)
    for number, case in enumerate(cases, start=1):
        if store.has(case.key):
            continue
        start = time.perf_counter()
        record = run_case(group, case, device, seed, clock, tier)
        seconds = time.perf_counter() - start
        record["wall"] = seconds
        store.add(record)
        say(f"[{number}/{len(cases)}] {line(record)}  ({seconds:.0f} s)")


def pace_of(case: Case, tier: Tier) -> Pace:
    if tier == "smoke":
        return Pace(warmup=2, rounds=5, seconds=0.2)
    seconds = 2.0 if (case.nodes, case.channels) in BAR_SIZES else 1.0
    return Pace(rounds=case.rounds, least=case.least, seconds=seconds)


def run_case(
    group: Group, case: Case, device: str, seed: int, clock: Clock, tier: Tier
) -> dict[str, Any]:
    before = load()
    problem = group.problem(case, device, seed)
    record: dict[str, Any] = {"key": case.key, "case": case.to_json(), "contenders": {}}
    found = record["contenders"]
    calls, ours = {}, []
    for contender in group.contenders(case, device):
        entry, forward = prepare(group, problem, contender, device, tier)
        found[contender.name] = entry
        if forward is None:
            continue
        calls[contender.name] = timed(forward, problem, contender.plain)
        if contender.kind == "ours":
            ours.append(contender)
            again = timed(contender.build(problem), problem, contender.plain)
            calls[contender.name + AGAIN] = again
    for column, why in implementations(device):
        if why is not None:
            found[f"ours, {column}"] = {"kind": "ours", "status": why}
    pace = pace_of(case, tier)
    first = {name: found[name].pop("again", 0.0) for name in calls if not name.endswith(AGAIN)}
    laps = race(calls, clock, pace, first)
    aa = {one.implementation: _aa(laps, one) for one in ours}
    for _ in range(_SECOND_LOOKS if case.least > 1 else 0):
        if all(settled(value) for value in aa.values()):
            break
        run_rounds(calls, laps, clock, pace, list(calls))  # a bad spell of the machine
        aa = {one.implementation: _aa(laps, one) for one in ours}
    record["aa"] = aa
    record["verdict"] = {name: settled(value) for name, value in aa.items()}
    for name, lap in laps.items():
        if name.endswith(AGAIN):
            continue
        found[name] |= {
            "seconds": summary(lap.taken),
            "rounds": len(lap.taken),
            "repeats": lap.repeats,
            "ratio": {
                one.implementation: summary(ratios(lap, laps[one.name]))
                for one in ours
                if name != one.name and found[name].get("beside", "") in ("", one.implementation)
            },
        }
    record["rates"] = rates_of(case, device, found)
    bound = group.bound(case, record["rates"])
    record["bound"] = bound
    record["roofline"] = {
        one.implementation: bound / found[one.name]["seconds"]["median"] for one in ours
    }
    record["load"] = [round(before, 2), round(load(), 2)]
    return record


def _aa(laps: dict[str, Lap], one: Contender) -> float:
    return summary(ratios(laps[one.name + AGAIN], laps[one.name]))["median"]


def prepare(
    group: Group, problem: Any, contender: Contender, device: str, tier: Tier
) -> tuple[dict[str, Any], Forward | None]:
    """Build a contender and check its answer; None if it takes no part."""
    entry: dict[str, Any] = {"kind": contender.kind}
    if contender.kind == "rival" and contender.implementation:
        entry["beside"] = contender.implementation
    case = problem.case
    reason = contender.leave_out(case)
    if tier == "smoke" and contender.compiles:
        reason = reason or "compiling takes longer than the smoke tier"
    missing = contender.absent()
    if missing is not None:
        return entry | {"status": "not installed", "note": missing}, None
    if device.split(":")[0] not in contender.devices:
        return entry | {"status": "left out", "note": f"does not run on {device}"}, None
    if reason is not None:
        return entry | {"status": "left out", "note": reason}, None
    start = time.perf_counter()
    try:
        forward = contender.build(problem)
        if contender.kind == "anchor":
            return entry | {"status": "timed"}, forward
        built = time.process_time()
        got = answer(forward, problem)
    except Exception as error:
        if contender.kind == "ours":
            raise
        note = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return entry | {"status": "failed", "note": note[:200]}, None
    entry["first"] = time.perf_counter() - start  # wall: building, compiling, one call
    if not contender.compiles:  # a call that compiles is no warm-up for the others
        entry["again"] = time.process_time() - built
    verdict = group.check(problem, contender, got)
    entry["error"] = verdict.error
    if verdict.right:
        return entry | {"status": "timed"}, forward
    if contender.kind == "ours":
        raise Wrong(f"{contender.name} is wrong at {case.key}: {verdict.note}")
    return entry | {"status": "differs", "note": verdict.note}, None


def rates_of(case: Case, device: str, found: dict[str, Any]) -> dict[str, float]:
    """The anchors, in flops and bytes per second."""
    shape = {c.name: c for c in _anchors(case, device)}
    rates = {}
    for name, entry in found.items():
        if entry.get("kind") == "anchor" and "seconds" in entry:
            rates[name] = shape[name].work / entry["seconds"]["median"]
    return rates


def _anchors(case: Case, device: str) -> list[Contender]:
    group = GROUPS[case.group]
    return [c for c in group.contenders(case, device) if c.kind == "anchor"]


def line(record: dict[str, Any]) -> str:
    """One line of progress."""
    parts = []
    for name, entry in record["contenders"].items():
        if entry.get("kind") == "ours" and "seconds" in entry:
            parts.append(f"{name} {entry['seconds']['median'] * 1e3:.4g} ms")
    best = [
        (entry["ratio"]["cpu"]["median"], name)
        for name, entry in record["contenders"].items()
        if entry.get("kind") == "rival" and "cpu" in entry.get("ratio", {})
    ]
    if best:
        ratio, name = min(best)
        parts.append(f"closest {name} {ratio:.2f}x")
    if not all(record["verdict"].values()):
        parts.append("A/A check failed: no verdict")
    return f"{record['key']}: {', '.join(parts)}"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        main()
