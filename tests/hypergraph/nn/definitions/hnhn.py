from __future__ import annotations

from torch import Tensor

from hypergraph import HNHNConv
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def _hnhn(layer: HNHNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    into = h * w.unsqueeze(-2)
    to_edges = h.mT * inverse(into.sum(-1), -layer.beta).unsqueeze(-2)
    edges = to_edges @ layer.theta_v(x) * inverse(to_edges.sum(-1, keepdim=True))
    if layer.nonlinear:
        edges = edges.relu()
    to_nodes = into * inverse(h.sum(-2), -layer.alpha).unsqueeze(-2)
    return to_nodes @ layer.theta_e(edges) * inverse(to_nodes.sum(-1, keepdim=True))


CASES = [
    LayerCase("HNHNConv", lambda: HNHNConv(4, 6), _hnhn, every_operator=True),
    LayerCase(
        "HNHNConv positive exponents",
        lambda: HNHNConv(4, 6, 5, alpha=0.5, beta=0.0, nonlinear=False, bias=False),
        _hnhn,
        every_operator=True,
        linear=True,
    ),
]
