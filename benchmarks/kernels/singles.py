"""Rows of the table that are no race: start-up, memory, and very many points."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .case import Case, Tier
from .groups.cross import DENSE
from .machine import ROOT
from .memory import measure
from .ours import implementations

Record = dict[str, Any]
Say = Callable[[str], None]
_IMPORT = """
import sys, time
import torch
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
import hypergraph
print(time.perf_counter() - wall, time.process_time() - cpu, "triton" in set(sys.modules) - before)
"""
_POINTS = """
import json, sys, time
import torch
from benchmarks.kernels.memory import peak, reset_peak
from hypergraph import DynamicHGConv
points, threads = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)
x = torch.randn(points, 64, requires_grad=True)
layer = DynamicHGConv(64, 64, k=25, threshold=None)
layer(torch.randn(64, 64, requires_grad=True)).sum().backward()
before = reset_peak()
wall, cpu = time.perf_counter(), time.process_time()
out = layer(x)
forward = time.process_time() - cpu
out.sum().backward()
print(json.dumps({
    "wall": time.perf_counter() - wall,
    "seconds": time.process_time() - cpu,
    "forward": forward,
    "bytes": peak() - before,
    "whole": peak(),
    "finite": bool(out.isfinite().all() and x.grad.isfinite().all()),
}))
"""


def start_up(tier: Tier, device: str, say: Say) -> list[Record]:
    """``import hypergraph`` after ``import torch``, each time in a process of its own."""
    wall, cpu, triton = [], [], False
    for _ in range(3 if tier == "smoke" else 11):
        run = subprocess.run(
            [sys.executable, "-c", _IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
        )
        a, b, loaded = run.stdout.split()
        wall.append(float(a))
        cpu.append(float(b))
        triton = triton or loaded == "True"
    record = {
        "key": "import",
        "wall": statistics.median(wall),
        "cpu": statistics.median(cpu),
        "runs": len(wall),
        "triton imported": triton,
    }
    say(f"import hypergraph: {record['cpu']:.3f} s of CPU, {record['wall']:.3f} s wall")
    return [record]


def memory(tier: Tier, device: str, say: Say) -> list[Record]:
    """Peak memory of one forward and backward pass, one process per contender."""
    size = 1024 if tier == "smoke" else 4096
    records = []
    subjects = {
        "streamed": ["ours, {}", DENSE],
        "lowrank": ["ours, {}", DENSE],
        "knn": ["ours, {}", "GEMM + topk"],
    }
    for name, contenders in subjects.items():
        if tier == "smoke" and name != "streamed":
            continue
        case = Case(name, size, 256, backward=name != "knn")
        record: Record = {"key": f"memory {case.key}", "case": case.to_json(), "contenders": {}}
        for contender in contenders:
            for column, why in implementations(device) if "{}" in contender else [("", None)]:
                title = contender.format(column)
                if why is not None:
                    record["contenders"][title] = {"status": why}
                    continue
                found = measure(name, case, title, device)
                record["contenders"][title] = found
                if found["status"] == "measured":
                    mib = found["bytes"] / 2**20
                    say(f"memory of {case.size} {name}: {title} {mib:.0f} MiB")
        records.append(record)
    return records


def many_points(tier: Tier, device: str, say: Say) -> list[Record]:
    """The dynamic layer on 200,000 points (10,000 in the smoke tier), forward and backward."""
    return [_points(10_000 if tier == "smoke" else 200_000, 1, say)]


def million(tier: Tier, device: str, say: Say) -> list[Record]:
    """The same on 1,000,000 points, with all cores: it takes about an hour."""
    return [_points(1_000_000, os.cpu_count() or 1, say)]


def _points(points: int, threads: int, say: Say) -> Record:
    say(f"{points:,} points x 64 on {threads} thread(s) ...")
    count = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment = {**os.environ, **count}
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", _POINTS, str(points), str(threads)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    record: Record = {"key": f"points {points}", "points": points, "threads": threads}
    if run.returncode != 0:
        note = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        record |= {"status": "failed", "note": note, "wall": time.perf_counter() - start}
    else:
        record |= {"status": "finished", **json.loads(run.stdout.splitlines()[-1])}
    if record["status"] == "finished":
        say(f"{record['seconds']:.1f} s of CPU, peak {record['whole'] / 1e9:.2f} GB")
    else:
        say(f"{record['note']}")
    return record


def triton_tests(tier: Tier, device: str, say: Say) -> list[Record]:
    """The Triton kernels' own tests, as ``make test-triton`` runs them; counted, not timed."""
    if tier == "smoke":
        return []
    environment = {**os.environ}
    if not device.startswith("cuda"):
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "triton and not slow"]
    run = subprocess.run(
        [*command, "tests/kernels/triton"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (run.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    say(f"Triton kernels: {last}")
    return [{"key": "triton", "passed": run.returncode == 0, "summary": last}]


SINGLES: dict[str, Callable[[Tier, str, Say], list[Record]]] = {
    "import": start_up,
    "memory": memory,
    "points": many_points,
    "triton": triton_tests,
    "million": million,
}
"""By name. ``million`` runs only when it is named."""
