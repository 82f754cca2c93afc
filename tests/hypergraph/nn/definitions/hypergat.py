from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hypergraph import HyperGATConv
from tests.hypergraph.nn.cases import LayerCase
from tests.hypergraph.nn.definitions.allset import softmax_sum


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def _joined(x: Tensor, y: Tensor) -> Tensor:
    """[G, N, M, C + D] rows [x_v || y_e] of all pairs."""
    shape = (x.shape[0], x.shape[1], y.shape[1])
    wide = x.unsqueeze(2).expand(*shape, x.shape[-1]), y.unsqueeze(1).expand(*shape, y.shape[-1])
    return torch.cat(wide, -1)


def _paper(layer: HyperGATConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z = layer.of_vertices(x)
    edges = softmax_sum(h.mT, _leaky(z) @ layer.a1, z).relu()
    y = layer.of_hyperedges(edges)
    half = layer.out_channels
    flipped = torch.cat([layer.a2[half:], layer.a2[:half]])  # the paper puts the hyperedge first
    return softmax_sum(h * w.unsqueeze(-2), _leaky(_joined(z, y)) @ flipped, y)


def _code(layer: HyperGATConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    keys = layer.to_scores(x)
    context = layer.context.expand_as(keys)
    scores = _leaky(torch.cat([context, keys], -1) @ layer.a1)
    edges = softmax_sum(h.mT, scores, layer.of_vertices(x))
    scores = _leaky(_joined(keys, layer.of_hyperedges(edges)) @ layer.a2)
    return softmax_sum(h * w.unsqueeze(-2), scores, edges)


CASES = [
    LayerCase("HyperGATConv paper", lambda: HyperGATConv(4, 6), _paper),
    LayerCase("HyperGATConv code", lambda: HyperGATConv(4, 6, form="code"), _code),
    LayerCase(
        "HyperGATConv code without transform",
        lambda: HyperGATConv(4, 4, form="code", transform=False),
        _code,
    ),
]
