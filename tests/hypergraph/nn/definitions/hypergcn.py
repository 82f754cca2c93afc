from __future__ import annotations

import torch
from torch import Tensor

from hypergraph import HyperGCNConv
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def adjacency(scores: Tensor, h: Tensor, w: Tensor, mediators: bool) -> Tensor:
    """[G, N, N] edges of HyperGCN's graph, hyperedge by hyperedge, from projections [G, N]."""
    graph = torch.zeros(*scores.shape, scores.shape[-1], dtype=h.dtype)
    for e in range(h.shape[-1]):
        member = h[:, :, e]
        present = member > 0
        top = scores.masked_fill(~present, -torch.inf).argmax(1)
        low = scores.masked_fill(~present, torch.inf).argmin(1)
        size = member.sum(1)
        edge = (present.sum(1) > 1) & (size > torch.finfo(h.dtype).tiny)
        i = torch.nn.functional.one_hot(top, scores.shape[1]).to(h.dtype)
        j = torch.nn.functional.one_hot(low, scores.shape[1]).to(h.dtype)
        pair = i[:, :, None] * j[:, None, :]
        if mediators:
            others = member * (1 - i) * (1 - j)
            pair = pair + (i + j)[:, :, None] * others[:, None, :]
            factor = 1 / (1 + 2 * others.sum(1))
        else:
            factor = inverse(size)
        pair = pair * (w[:, e] * factor * edge)[:, None, None]
        graph = graph + pair + pair.mT
    return graph


def smooth(graph: Tensor, z: Tensor) -> Tensor:
    loops = graph + torch.eye(graph.shape[-1], dtype=graph.dtype)
    root = torch.diag_embed(loops.sum(-1) ** -0.5)
    return root @ loops @ root @ z


def _hypergcn(layer: HyperGCNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    if x.shape[1] == 0:
        return x.new_zeros(*x.shape[:2], layer.out_channels)
    z = x @ layer.theta.weight.T
    scores = (z * layer.direction).sum(-1)
    out = smooth(adjacency(scores, h, w, layer.mediators), z)
    return out if layer.bias is None else out + layer.bias


CASES = [
    LayerCase("HyperGCNConv", lambda: HyperGCNConv(4, 6), _hypergcn),
    LayerCase(
        "HyperGCNConv with mediators",
        lambda: HyperGCNConv(4, 6, mediators=True, bias=False),
        _hypergcn,
    ),
]
