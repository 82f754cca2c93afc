"""Stored outputs of the released encoders; their weights and inputs are drawn by a rule."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ENCODER = 1e-4
"""Of the largest value; the stored float32 outputs themselves are 2.5e-6 from float64."""


@dataclass(frozen=True)
class Case:
    info: dict[str, Any]
    outputs: dict[str, Tensor]
    weights: dict[str, Tensor]
    rule: Any

    @classmethod
    def load(cls, shared_dir: Path, name: str) -> Case:
        from safetensors.torch import load_file

        spec = importlib.util.spec_from_file_location("rule", shared_dir / "golden" / "rule.py")
        assert spec is not None and spec.loader is not None
        rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rule)
        folder = shared_dir / "golden" / "c_encoders" / name
        info = json.loads((folder / "info.json").read_text())
        layout = json.loads((folder / "layout.json").read_text())
        weights = rule.fill(layout, info["weights_recipe"])
        return cls(
            info,
            load_file(folder / "outputs.safetensors"),
            {key: torch.from_numpy(value) for key, value in weights.items()},
            rule,
        )

    @property
    def salt(self) -> str:
        return self.info["weights_recipe"]["salt"]

    def image(self, name: str, shape: list[int]) -> Tensor:
        b, c, h, w = shape
        coarse = self.rule.draw(self.salt, name, (b, c, h // 8, w // 8))
        coarse = coarse.repeat(8, axis=2).repeat(8, axis=3)
        fine = self.rule.draw(self.salt, name + ".fine", tuple(shape))
        return torch.from_numpy(np.tanh(coarse + 0.3 * fine).astype(np.float32))

    def check(self, name: str, got: Tensor, tolerance: float = ENCODER) -> float:
        """Compare with the stored output; return the error relative to its largest value."""
        expected = self.outputs[name].reshape(got.shape)
        error = float((got - expected).abs().max() / expected.abs().max())
        print(f"{self.salt} {name}: {error:.1e}")
        assert error <= tolerance, f"{name}: {error:.2e} of the largest value"
        return error
