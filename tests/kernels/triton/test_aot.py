"""Every Triton kernel, compiled for sm_80 and sm_90 without a GPU, and what its binary uses.

That a kernel compiles says little: one that asks for more shared memory than there is compiles
without a word. So registers, spills and shared memory are read from the binary, the instructions
from the PTX, and the width of addresses from the IR.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hypergraph_kernels._dispatch import has_triton

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not has_triton(), reason="skipped: triton is not installed"),
]

HERE = Path(__file__).parent
OPS = sorted(
    path.parent.name
    for path in (HERE.parents[2] / "kernels" / "hypergraph_kernels").glob("*/triton_kernels.py")
)
# What one block may have, in bytes (CUDA C++ Programming Guide, compute capabilities).
SHARED = {80: 163 * 1024, 90: 227 * 1024}
REGISTERS = 255
# For some kernels of few registers ptxas lays out 8 bytes of stack that no instruction reads.
STACK = 8


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("op", OPS)
def test_kernels_fit(op: str, arch: int, source_environment: dict[str, str]) -> None:
    compiled = _compiled(op, arch, source_environment)
    assert compiled
    faults = [
        f"{report['kernel']} (sm_{arch}, {report['types']}, {report['constexprs']}): {fault}"
        for report in compiled
        for fault in _faults(report)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("op", OPS)
def test_addresses_need_their_casts(op: str, source_environment: dict[str, str]) -> None:
    """Without its ``.to(tl.int64)`` the gate refuses the op: it would notice a lost cast."""
    stripped = _compiled(op, 80, source_environment, "--strip")
    assert any(report["narrow_products"] for report in stripped)


def test_faults_are_found(source_environment: dict[str, str], tmp_path: Path) -> None:
    fresh = {**source_environment, "TRITON_CACHE_DIR": str(tmp_path)}
    compiled = _compiled(str(HERE / "faulty_kernels.py"), 80, fresh)
    found: dict[str, list[str]] = {}
    for report in compiled:
        if report["aligned"]:
            found[report["kernel"]] = _faults(report)
    source = (HERE / "faulty_kernels.py").read_text().splitlines()

    def line(text: str) -> int:
        return next(number for number, one in enumerate(source, 1) if text in one)

    def narrow(text: str) -> str:
        where = f"faulty_kernels.py:{line(text)} arith.muli"
        return f"an address is multiplied in 32 bits at {where}"

    assert found.pop("sound") == []
    assert found.pop("narrow_row") == [narrow("tl.store(out_ptr + rows[:, None] * channels")]
    assert found.pop("widened_too_late") == [narrow("offset = (tl.program_id(0) * channels)")]
    assert found.pop("narrow_constant") == [narrow("offset = tl.program_id(0) * WIDTH")]
    assert found.pop("narrow_round_a_loop") == [narrow("offset += channels * size")]
    (shared,) = found.pop("too_much_shared")
    assert shared.endswith("bytes of shared memory, more than 166912")
    (spilled,) = found.pop("spills")
    assert "bytes of stack" in spilled
    assert not found


def _faults(report: dict[str, Any]) -> list[str]:
    """What is wrong with one compiled kernel."""
    arch = report["arch"]
    faults = []
    if report["shared"] > SHARED[arch]:
        faults.append(f"{report['shared']} bytes of shared memory, more than {SHARED[arch]}")
    if report["registers"] > REGISTERS:
        faults.append(f"{report['registers']} registers, more than {REGISTERS}")
    if report["spills"] or report["stack"] > STACK:
        faults.append(f"{report['stack']} bytes of stack: it spills; use smaller tiles")
    if report["tensor_core_dots"]:
        # A warp group multiplies 64 rows at a time; smaller products have no wgmma.
        rows = max(dot[0] for dot in report["tensor_core_dots"])
        wide = arch == 90 and rows >= 64 and report["num_warps"] >= 4
        expected = "wgmma" if wide else "mma.sync"
        if report["mma"] != expected:
            faults.append(f"its products use {report['mma'] or 'no tensor core'}, not {expected}")
    for product in report["narrow_products"]:
        faults.append(f"an address is multiplied in 32 bits at {product}")
    return faults


def _compiled(op: str, arch: int, environment: dict[str, str], *options: str) -> list[Any]:
    told = subprocess.run(
        [sys.executable, str(HERE / "aot_runner.py"), op, str(arch), *options],
        env={
            **{name: value for name, value in environment.items() if name != "TRITON_INTERPRET"},
            # Another Triton may stand in front of the installed one (make matrix).
            "PYTHONPATH": os.pathsep.join([*sys.path, environment["PYTHONPATH"]]),
            # What Triton 3.9 does without a word and warns about.
            "TRITON_DEFAULT_FP_FUSION": "1",
        },
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr[-4000:]
    return [json.loads(line) for line in told.stdout.splitlines()]
