"""The kernel gates on every supported Triton and PyTorch: ``make matrix``.

    python tests/kernels/matrix.py FOLDER RESULT [NAME ...]

Each version goes into a folder of its own in front of the environment that runs this. Installing
an older PyTorch takes several GB and minutes; a combination that cannot be had is written down with
the reason, and so is one that was not asked for.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "kernels" / "triton"
OPS = sorted(
    path.parent.name
    for path in (ROOT / "kernels" / "hypergraph_kernels").glob("*/triton_kernels.py")
)


class Combination(NamedTuple):
    """A PyTorch, a Triton, and what is run on them."""

    torch: str
    triton: str
    compiles: bool  # once for every Triton: what it compiles does not depend on PyTorch


COMBINATIONS = [
    Combination("2.13.0", "3.9.0", compiles=True),
    Combination("2.13.0", "3.6.0", compiles=True),
    Combination("2.12.0", "3.9.0", compiles=False),
    Combination("2.11.0", "3.6.0", compiles=False),
]
# Triton 3.6's interpreter makes loop bounds with an int() that newer NumPy refuses.
WITH_TRITON = {"3.6.0": ["numpy<2.3"], "3.9.0": []}


def main(folder: Path, result: Path, names: list[str]) -> None:
    told: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    for combination in COMBINATIONS:
        name = f"torch {combination.torch}, triton {combination.triton}"
        if names and name not in names:
            told.setdefault(name, {"not run": "not asked for"})
        else:
            print(name, flush=True)
            told[name] = _run(combination, folder)
            print(json.dumps(told[name])[:300], flush=True)
        result.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def _run(combination: Combination, folder: Path) -> dict[str, Any]:
    wanted = {"torch": combination.torch, "triton": combination.triton}
    layers: list[Path] = []
    for package, version in wanted.items():
        more = WITH_TRITON[version] if package == "triton" else []
        if _version(package, layers).partition("+")[0] == version and not more:
            continue
        layer = folder / f"{package}-{version}"
        if not (layer / "installed").exists():
            reason = _install(layer, f"{package}=={version}", more)
            if reason:
                return {"not run": reason}
        layers.insert(0, layer)  # PyTorch brings a Triton along
    found = {package: _version(package, layers) for package in ("torch", "triton", "numpy")}
    for package, version in wanted.items():
        if found[package].partition("+")[0] != version:
            return {"not run": f"{package} {found[package]} is imported, not {version}"}
    report: dict[str, Any] = {"versions": found | {"python": platform.python_version()}}
    chosen = [] if combination.compiles else ["--ignore", str(TESTS / "test_aot.py")]
    output = folder / f"{combination.torch}-{combination.triton}.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "triton", str(TESTS), *chosen]
        + [f"--junitxml={output}", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=_environment(layers) | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    suite = ElementTree.parse(output).getroot()[0].attrib
    broken = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    report["tests"] = {
        "passed": int(suite["tests"]) - broken - skipped,
        "failed": broken,
        "skipped": skipped,
        "failures": [
            f"{case.attrib['classname'].rpartition('.')[2]}::{case.attrib['name']}"
            for case in ElementTree.parse(output).iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ],
    }
    if combination.compiles:
        report["compiled"] = [
            usage for op in OPS for arch in (80, 90) for usage in _usage(op, arch, layers)
        ]
    return report


def _install(layer: Path, package: str, more: list[str]) -> str | None:
    """Install into a folder; return why it cannot be done."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-compile", "--target", str(layer), package, *more]
    told = subprocess.run(command, capture_output=True, text=True)
    if told.returncode:
        errors = [line for line in told.stderr.splitlines() if line.startswith("ERROR")]
        return errors[-1] if errors else f"pip ended with {told.returncode}"
    (layer / "installed").touch()
    return None


def _environment(layers: list[Path]) -> dict[str, str]:
    roots = [*layers, ROOT, ROOT / "kernels", ROOT / "applications"]
    settings = {"PYTHONPATH": os.pathsep.join(map(str, roots)), "TRITON_DEFAULT_FP_FUSION": "1"}
    outside = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return outside | settings


def _version(package: str, layers: list[Path]) -> str:
    """The version that is imported, or what the import says."""
    told = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__version__)"],
        env=_environment(layers),
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() if told.returncode == 0 else told.stderr.strip().splitlines()[-1]


def _usage(op: str, arch: int, layers: list[Path]) -> list[dict[str, Any]]:
    """The most that every kernel of an op takes in any of its configurations."""
    told = subprocess.run(
        [sys.executable, str(TESTS / "aot_runner.py"), op, str(arch)],
        env=_environment(layers),
        capture_output=True,
        text=True,
    )
    if told.returncode:
        return [{"op": op, "arch": arch, "error": told.stderr.strip().splitlines()[-1]}]
    most: dict[str, dict[str, Any]] = {}
    for line in told.stdout.splitlines():
        case = json.loads(line)
        kernel = most.setdefault(
            case["kernel"], {"op": op, "kernel": case["kernel"], "arch": arch, "cases": 0}
        )
        kernel["cases"] += 1
        for number in ("registers", "stack", "spills", "shared"):
            kernel[number] = max(kernel.get(number, 0), case[number])
    return list(most.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
