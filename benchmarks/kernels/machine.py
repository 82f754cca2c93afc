"""What a reader needs to repeat the figures, or to doubt them."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "torch",
    "numpy",
    "triton",
    "dhg",
    "torch-geometric",
    "torch-cluster",
    "torch-scatter",
    "faiss-cpu",
    "scikit-learn",
)
_SOURCES = ("hypergraph", "kernels/hypergraph_kernels", "benchmarks/kernels")


def about(device: str, threads: int, seed: int, command: str) -> dict[str, Any]:
    """Versions, machine, commit and command."""
    model, flags = _cpu()
    entry: dict[str, Any] = {
        "command": command,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": sorted(
            line[3:] for line in _git("status", "--porcelain", "--", *_SOURCES).splitlines()
        ),
        "seed": seed,
        "device": device,
        "threads": threads,
        "cpu": model,
        "cores": os.cpu_count(),
        "flags": flags,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in _PACKAGES},
        "compiled path": _compiled(),
    }
    if device.startswith("cuda"):
        import torch

        entry["gpu"] = torch.cuda.get_device_name(device)
        entry["cuda"] = torch.version.cuda
    return entry


def fingerprint() -> str:
    """A hash of the code that is measured and that measures."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".c") and not path.name.startswith("."):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compiled() -> str:
    from hypergraph_kernels import compiled

    return compiled.instructions() if compiled.is_available() else "not built"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
    except FileNotFoundError:
        return ""
    return run.stdout.rstrip() if run.returncode == 0 else ""


def _cpu() -> tuple[str, list[str]]:
    """Model and vector instructions."""
    model, flags = platform.processor() or platform.machine(), []
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in ("flags", "Features"):
                flags = sorted(value.split())
                break
    return model, flags
