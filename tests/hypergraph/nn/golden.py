"""Stored inputs, weights and outputs of other libraries' layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import Hypergraph

GRAPHS = ["isolated", "singleton", "weighted", "random"]


@dataclass(frozen=True)
class Golden:
    """One stored hypergraph: ``tensors`` and ``weights`` by name, and the facts in ``info``."""

    tensors: dict[str, Tensor]
    weights: dict[str, Tensor]
    info: dict

    @classmethod
    def load(cls, shared_dir: Path, graph: str) -> Golden:
        from safetensors.torch import load_file

        folder = shared_dir / "golden" / "d_hypergraph" / graph
        return cls(
            load_file(folder / "tensors.safetensors"),
            load_file(folder / "weights.safetensors"),
            json.loads((folder / "info.json").read_text()),
        )

    @property
    def x(self) -> Tensor:
        return self.tensors["X"]

    @property
    def weighted(self) -> Hypergraph:
        edges = self.info["e_list_stored"]
        return Hypergraph.from_edges(edges, self.x.shape[0], self.tensors["W_e"])

    @property
    def plain(self) -> Hypergraph:
        return self.weighted.with_hyperedge_weight(None)

    def parameters(self, case: str) -> dict[str, Tensor]:
        prefix = case + "/"
        return {k[len(prefix) :]: v for k, v in self.weights.items() if k.startswith(prefix)}

    def check_gradients(self, case: str, layer: nn.Module, h: Hypergraph) -> None:
        """Output and every gradient, for parameters that bear the stored names."""
        x = self.x.clone().requires_grad_()
        out = layer(x, h)
        close(out, self.tensors[f"{case}.out"])
        out.backward(self.tensors[f"{case}.cotangent"])
        assert x.grad is not None
        close(x.grad, self.tensors[f"{case}.grad_X"], 1e-4)
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None
            close(parameter.grad, self.tensors[f"{case}.grad/{name}"], 1e-4)


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to ``tolerance`` of the largest stored value."""
    assert_close(got, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def differs(got: Tensor, expected: Tensor) -> bool:
    """A hundredth of the largest value apart somewhere: another formula, not rounding."""
    return bool((got - expected).abs().max() > 0.01 * expected.abs().max())


def dense(h: Hypergraph) -> Tensor:
    return h.to_dense().to(torch.float32)
