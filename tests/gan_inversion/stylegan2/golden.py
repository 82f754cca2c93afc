"""Stored inputs, weights and outputs of the official StyleGAN2 codes, and how close is close."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORWARD, GRADIENT = 1e-5, 1e-4


@dataclass(frozen=True)
class Case:
    """One folder: what went in, what came out, the weights under their official names."""

    info: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    weights: dict[str, Tensor]

    @classmethod
    def load(cls, shared_dir: Path, name: str) -> Case:
        from safetensors.torch import load_file

        folder = shared_dir / "golden" / name
        info = json.loads((folder / "info.json").read_text())
        stored = folder / "weights.safetensors"
        weights = load_file(stored) if stored.exists() else _rebuilt(shared_dir, folder, info)
        return cls(
            info,
            load_file(folder / "inputs.safetensors"),
            load_file(folder / "outputs.safetensors"),
            weights,
        )


def load_ops(shared_dir: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Cases and tensors of a folder of single operations."""
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / name
    return json.loads((folder / "info.json").read_text())["cases"], load_file(
        folder / "ops.safetensors"
    )


def draw(shared_dir: Path, case: Case, name: str, shape: list[int]) -> Tensor:
    """An input that is not stored, by the stored data's rule."""
    salt = case.info["weights_recipe"]["salt"]
    return torch.from_numpy(_rule(shared_dir).tensor(salt, f"input.{name}", shape))


def close(got: Tensor, expected: Tensor, tolerance: float = FORWARD) -> None:
    """Equal to ``tolerance`` of the largest stored value."""
    assert got.shape == expected.shape, (got.shape, expected.shape)
    error = (got - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"{error:.2e} of the largest value, allowed {tolerance:.0e}"


def _rule(shared_dir: Path) -> Any:
    spec = importlib.util.spec_from_file_location("rule", shared_dir / "golden" / "rule.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _rebuilt(shared_dir: Path, folder: Path, info: dict[str, Any]) -> dict[str, Tensor]:
    layout = json.loads((folder / "layout.json").read_text())
    filled = _rule(shared_dir).fill(layout, info["weights_recipe"])
    return {name: torch.from_numpy(value) for name, value in filled.items()}
