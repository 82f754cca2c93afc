from __future__ import annotations

import torch
from torch import Tensor

from hypergraph import HypergraphAttentionConv
from tests.hypergraph import oracle
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase
from tests.hypergraph.nn.definitions.unignn import softmax


def attention(
    layer: HypergraphAttentionConv, z: Tensor, e: Tensor, h: Tensor, w: Tensor, head: int
) -> Tensor:
    """[G, N, M] the matrix A of a head."""
    own, other = layer.att[head].split(layer.out_channels)
    scores = (z @ own)[..., :, None] + (e @ other)[..., None, :]
    scores = torch.where(scores > 0, scores, layer.negative_slope * scores)
    if layer.attention == "node":
        return softmax(scores, h, -2)
    # softmax over w h, without w in the numerator
    return softmax(scores, h * w[..., None, :], -1) * inverse(w)[..., None, :]


def propagate(a: Tensor, z: Tensor, h: Tensor, w: Tensor, symmetric: bool) -> Tensor:
    """D^-1 A W B^-1 A^T Z with the degrees of H, or with D^-1/2 on both sides."""
    node = torch.diag_embed(inverse((h * w[..., None, :]).sum(-1), 0.5 if symmetric else 1.0))
    y = torch.diag_embed(inverse(h.sum(-2))) @ (a.mT @ (node @ z if symmetric else z))
    return node @ (a @ (torch.diag_embed(w) @ y))


def hcha(
    layer: HypergraphAttentionConv, x: Tensor, h: Tensor, w: Tensor, attr: Tensor | None = None
) -> Tensor:
    z = x @ layer.theta.weight.mT
    if attr is None:
        attr = torch.diag_embed(inverse(h.sum(-2))) @ h.mT @ x
    e = attr @ layer.theta.weight.mT
    heads = []
    for head in range(layer.heads):
        mine = slice(head * layer.out_channels, (head + 1) * layer.out_channels)
        if layer.attention is not None:
            a = attention(layer, z[..., mine], e[..., mine], h, w, head)
            heads.append(propagate(a, z[..., mine], h, w, layer.symmetric))
        elif layer.symmetric:
            heads.append(oracle.hgnn(z, h, w))
        else:
            heads.append(propagate(h, z, h, w, False))
    out = torch.cat(heads, -1) if layer.concat else torch.stack(heads).mean(0)
    return out if layer.bias is None else out + layer.bias


CASES = [
    LayerCase(
        "HypergraphAttentionConv without attention",
        lambda: HypergraphAttentionConv(4, 6),
        hcha,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "HypergraphAttentionConv symmetric without attention",
        lambda: HypergraphAttentionConv(4, 6, bias=False, symmetric=True),
        hcha,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "HypergraphAttentionConv over nodes",
        lambda: HypergraphAttentionConv(4, 3, attention="node", heads=2),
        hcha,
    ),
    LayerCase(
        "HypergraphAttentionConv over edges, symmetric mean of heads",
        lambda: HypergraphAttentionConv(
            4, 3, attention="edge", heads=2, concat=False, symmetric=True
        ),
        hcha,
    ),
]
