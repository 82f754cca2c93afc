"""Compile one op's Triton kernels ahead of time and print what the binaries use, as JSON.

Run in a process of its own, without TRITON_INTERPRET: under it ``@triton.jit`` makes functions that
cannot be compiled. Needs neither a GPU nor a driver.

    python aot_runner.py knn 80            # the op's aot_cases() for sm_80
    python aot_runner.py FILE 90 --strip   # a file's, with every `.to(tl.int64)` taken out first
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import triton
from addresses import narrow_products
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hypergraph_kernels._aot import AotCase

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def main(op: str, arch: int, strip: bool) -> None:
    cases = _cases(op, strip)
    if strip:  # one of every kernel: what is wrong with its addresses is wrong in all cases
        cases = list({case.kernel.__name__: case for case in cases}.values())
    for case in cases:
        for aligned in (True,) if strip else (True, False):
            print(json.dumps(_compiled(case, arch, aligned)), flush=True)


def _cases(op: str, strip: bool) -> list[AotCase]:
    """The cases of an op by name, or of a file that defines ``aot_cases``."""
    if not op.endswith(".py"):
        module = importlib.import_module(f"hypergraph_kernels.{op}.triton_kernels")
        if not strip:
            return module.aot_cases()
        op = str(module.__file__)
    source = Path(op).read_text()
    if strip:
        source = source.replace(".to(tl.int64)", "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(op).name)
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("read_from_a_file", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        cases = module.aot_cases()
        for case in cases:
            _ = case.kernel.src  # read while the file is there
        return cases


def _compiled(case: AotCase, arch: int, aligned: bool) -> dict[str, Any]:
    kernel = case.kernel
    differing = set(kernel.arg_names) ^ (set(case.signature) | set(case.constexprs))
    assert not differing, f"{kernel.__name__}: its arguments and its AotCase: {sorted(differing)}"
    told = {name: case.signature.get(name, "constexpr") for name in kernel.arg_names}
    signature = {name: kind.removesuffix(":16") for name, kind in told.items()}
    # PyTorch aligns tensors. Channel counts that are multiples of 16 let the compiler vectorise,
    # and ask for the most shared memory; other counts may need more registers.
    multiples = {
        (position,): [["tt.divisibility", 16]]
        for position, kind in enumerate(told.values())
        if kind.startswith("*") or kind.endswith(":16") or (aligned and kind in ("i32", "i64"))
    }
    start = time.perf_counter()
    binary = triton.compile(
        ASTSource(kernel, signature, constexprs=dict(case.constexprs), attrs=multiples),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": case.num_warps, "num_stages": case.num_stages},
    )
    seconds = time.perf_counter() - start
    ptx, ttir = binary.asm["ptx"], binary.asm["ttir"]
    registers, stack, spills = _usage(binary.asm["cubin"])
    return {
        "kernel": kernel.__name__,
        "arch": arch,
        "aligned": aligned,
        "types": {name: kind for name, kind in case.signature.items() if kind.startswith("*")},
        "constexprs": {name: str(value) for name, value in case.constexprs.items()},
        "num_warps": case.num_warps,
        "num_stages": case.num_stages,
        "registers": registers,
        "stack": stack,
        "spills": spills,
        "shared": binary.metadata.shared,
        "tensor_core_dots": _tensor_core_dots(ttir),
        "mma": "wgmma" if "wgmma.mma" in ptx else "mma.sync" if "mma.sync" in ptx else "",
        "narrow_products": narrow_products(ttir),
        "seconds": round(seconds, 2),
    }


def _usage(cubin: bytes) -> tuple[int, int, int]:
    """Registers and bytes of stack per thread, and instructions that reach the stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        printed = _printed("-res-usage", file.name)
        found = re.findall(r"REG:(\d+) STACK:(\d+)", printed)
        assert found, f"cuobjdump says nothing of registers: {printed}"
        registers, stack = (max(map(int, numbers)) for numbers in zip(*found, strict=True))
        if not stack:
            return registers, 0, 0
        code = _printed("-sass", file.name)
    assert "EXIT" in code, f"cuobjdump shows no code: {code[:200]}"
    return registers, stack, len(re.findall(r"\b(?:STL|LDL)\b", code))


def _printed(option: str, path: str) -> str:
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}  # nvdisasm
    command = [str(TOOLS / "cuobjdump"), option, path]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return told.stdout + told.stderr


def _tensor_core_dots(ttir: str) -> list[list[int]]:
    """[rows, columns] of every product that tensor cores can do: 16-bit, or float32 as tf32."""
    dots = []
    for line in ttir.splitlines():
        found = re.search(r"= tt\.dot .*: tensor<(\d+)x(\d+)x(\w+)> \* tensor<\d+x(\d+)x", line)
        if found:
            m, _, kind, n = found.groups()
            if kind in ("bf16", "f16") or "inputPrecision = tf32" in line:
                dots.append([int(m), int(n)])
    return dots


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "--strip" in sys.argv)
