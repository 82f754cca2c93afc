"""DHGNN's layer takes tables with one row per vertex; here they are made from any hypergraph, so
that it is held to the laws of all layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hypergraph import DHGNNConv, Incidence, NeighborTable
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def softmax(scores: Tensor, weight: Tensor) -> Tensor:
    scores = scores.masked_fill(weight <= 0, -torch.inf)
    highest = scores.amax(-1, keepdim=True).nan_to_num(neginf=0)
    powers = (scores - highest).exp() * weight
    return powers * inverse(powers.sum(-1, keepdim=True))


def define(layer: DHGNNConv, x: Tensor, tables: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """x [G, N, C]; per kind of hyperedge index [G, N, k], incidence h [G, N, k], w [G, N]."""
    edges, weights = [], []
    for conv, (index, h, w) in zip(layer.vertex_convs, tables, strict=True):
        k = index.shape[-1]
        graphs = torch.arange(x.shape[0])[:, None, None]
        members = x[graphs, index]  # [G, N, k, C]
        matrices = conv.multiplier.weight.view(k, k, -1)
        scores = torch.einsum("gnjc,jlc->gnjl", members, matrices)
        scores = scores + conv.multiplier.bias.view(k, k)
        transform = softmax(scores, h.unsqueeze(-2).expand_as(scores))
        mixed = transform @ members
        y = torch.einsum("j,gnj,gnjc->gnc", conv.mix.weight[0], h, mixed) + conv.mix.bias
        edges.append(y)
        weights.append(w * (h.sum(-1) > torch.finfo(h.dtype).tiny))
    y, w = torch.stack(edges, -2), torch.stack(weights, -1)
    alpha = softmax(layer.edge_scores(y)[..., 0], w)
    return layer.theta((alpha[..., None] * y).sum(-2))


# For every vertex, the members of its hyperedges with the largest and smallest first feature: a
# table of itself and the largest, and a table of both and itself that isolated vertices lack.


def _call(layer: nn.Module, x: Tensor, h: Incidence) -> Tensor:
    dtype = next(layer.parameters()).dtype
    if not (isinstance(x, Tensor) and x.dtype == dtype and isinstance(h, Incidence)):
        return layer(x, h)  # which says what is wrong
    first = x[..., :1].detach()
    largest = h.e2v(h.v2e(first, "max"), "max").to(dtype)
    smallest = h.e2v(h.v2e(first, "min"), "min").to(dtype)
    values, order = torch.sort(first.squeeze(-1))

    def found(value: Tensor) -> Tensor:
        place = torch.searchsorted(values, value.squeeze(-1))
        return order.gather(-1, place.clamp_max(max(x.shape[-2] - 1, 0)))

    itself = torch.arange(x.shape[-2], device=x.device).expand(x.shape[:-1])
    degree = h.node_degree(x.dtype).to(x.dtype).expand(x.shape[:-1])
    share = degree / (1 + degree)
    # Where there is no pair of positive weight the maximum is 0, and finds any vertex.
    share = torch.where(degree > torch.finfo(degree.dtype).tiny, share, 0)
    one = torch.ones_like(share)
    tables = [
        NeighborTable(
            torch.stack([itself, found(largest)], -1),
            x.shape[-2],
            torch.stack([one, share], -1),
            hyperedge_weight=1 / (1 + degree),
        ),
        NeighborTable(
            torch.stack([found(largest), found(smallest), itself], -1),
            x.shape[-2],
            share.unsqueeze(-1).expand(*share.shape, 3),
        ),
    ]
    return layer(x, tables)


def _define(layer: DHGNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    graphs, nodes = x.shape[:2]
    if nodes == 0:
        return x.new_zeros(graphs, 0, layer.out_channels)
    pair = h * w[:, None]
    # [G, N, N]: u is in a hyperedge of v that has a weight.
    near = ((pair > 0)[:, :, None] & (h > 0)[:, None]).any(-1)
    first = x[:, None, :, 0].expand(graphs, nodes, nodes)
    largest = first.masked_fill(~near, -torch.inf).argmax(-1)
    smallest = first.masked_fill(~near, torch.inf).argmin(-1)
    degree = pair.sum(-1)
    share = degree / (1 + degree) * (degree > torch.finfo(degree.dtype).tiny)
    itself, one = torch.arange(nodes).expand(graphs, nodes), torch.ones_like(share)
    near_pair = torch.stack([itself, largest], -1)
    triple = torch.stack([largest, smallest, itself], -1)
    tables = [
        (near_pair, torch.stack([one, share], -1), 1 / (1 + degree)),
        (triple, share[..., None].expand(graphs, nodes, 3), one),
    ]
    return define(layer, x, tables)


CASES = [LayerCase("DHGNNConv", lambda: DHGNNConv(4, 6, k=[2, 3]), _define, call=_call)]
