"""This library's contenders, through its public API."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hypergraph import KNN, HGNNConv, Incidence
from hypergraph_kernels import compiled

Column = Literal["cpu", "compiled", "triton"]


def implementations(device: str) -> list[tuple[str, str | None]]:
    """The columns of a device, each with the reason why it cannot be measured, if there is one.

    ``"cpu"`` is the path of plain PyTorch, on any device. The other is what ``"auto"`` takes where
    the compiled path has been built, or on a GPU.
    """
    if device.startswith("cuda"):
        return [("triton", None), ("cpu", None)]
    built = compiled.is_available()
    return [
        ("cpu", None),
        ("compiled", None if built else "not built; python -m hypergraph_kernels.compiled build"),
    ]


def argument(column: str) -> Any:
    """What is given as ``implementation``."""
    return "cpu" if column == "cpu" else "auto"


def knn(k: int, column: str, **options: Any) -> KNN:
    """A KNN construction that runs one implementation."""
    return KNN(k, implementation=argument(column), **options)


def forced(hypergraph: Incidence, column: str) -> Incidence:
    """The same operator, running one implementation."""
    return hypergraph.with_implementation(argument(column))


class Forced(nn.Module):
    """A construction whose operators run one implementation."""

    def __init__(self, construction: nn.Module, column: str) -> None:
        super().__init__()
        self.construction = construction
        self.column = column

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Incidence:
        return forced(self.construction(x, batch), self.column)


def hgnn_conv(weight: nn.Parameter) -> HGNNConv:
    """An HGNNConv without bias that shares a weight [out, in]."""
    layer = HGNNConv(weight.shape[1], weight.shape[0], bias=False).to(weight.device)
    layer.theta.weight = weight
    return layer


def new_weight(rows: int, columns: int, device: str, seed: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) / columns**0.5
    return nn.Parameter(weight.to(device))
