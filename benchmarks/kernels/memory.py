"""Memory of a single call, in a process of its own.

    python -m benchmarks.kernels.memory GROUP CASE-AS-JSON CONTENDER [--device cuda]

prints one line of JSON: the peak of the resident set during one call, less what was resident before
it. The parent's own peak must not count (a child's ``ru_maxrss`` starts with it on Linux), so that
the high-water mark is reset first; where there is no /proc, ``ru_maxrss`` has to do.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .case import Case, answer
from .machine import ROOT

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(group: str, case: Case, contender: str, device: str) -> dict[str, Any]:
    """Start the process and read its answer."""
    command = [sys.executable, "-m", "benchmarks.kernels.memory", group]
    command += [json.dumps(case.to_json()), contender, "--device", device]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return {"status": "failed", "note": (run.stderr.strip().splitlines() or ["?"])[-1]}
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def reset_peak() -> int:
    """Forget the peak so far; return the bytes that are resident now."""
    gc.collect()
    if _RESET.exists():
        _RESET.write_text("5")
    return _field("VmRSS")


def peak() -> int:
    """The largest number of resident bytes since ``reset_peak``."""
    return _field("VmHWM")


def _field(name: str) -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def main() -> None:
    from .groups import GROUPS

    parser = argparse.ArgumentParser()
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("case")
    parser.add_argument("contender")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    group, case = GROUPS[options.group], Case.from_json(json.loads(options.case))
    # A small problem first: libraries that are loaded, and buffers that they keep, are not the
    # call's.
    for one in (replace(case, nodes=64), case):
        problem = group.problem(one, options.device, 0)
        (chosen,) = (
            c for c in group.contenders(one, options.device) if c.name == options.contender
        )
        forward = chosen.build(problem)
        if one is not case:
            answer(forward, problem)
    cuda = options.device.startswith("cuda")
    before = reset_peak()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.process_time()
    answer(forward, problem)
    seconds = time.process_time() - start
    most = torch.cuda.max_memory_allocated() if cuda else peak()
    result = {"status": "measured", "bytes": most - before, "whole": most, "seconds": seconds}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
