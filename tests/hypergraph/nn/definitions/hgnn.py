from __future__ import annotations

from torch import Tensor

from hypergraph import HGNNConv
from tests.hypergraph import oracle
from tests.hypergraph.nn.cases import LayerCase


def _hgnn(layer: HGNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    return oracle.hgnn(layer.theta(x), h, w)


CASES = [
    LayerCase("HGNNConv", lambda: HGNNConv(4, 6), _hgnn, every_operator=True, linear=True),
    LayerCase(
        "HGNNConv without bias",
        lambda: HGNNConv(4, 6, bias=False),
        _hgnn,
        every_operator=True,
        linear=True,
    ),
]
