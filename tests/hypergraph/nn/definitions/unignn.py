from __future__ import annotations

import torch
from torch import Tensor

from hypergraph import UniGATConv, UniGCNConv, UniGCNIIConv, UniGINConv, UniSAGEConv
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def members(x: Tensor, h: Tensor, reduce: str) -> Tensor:
    """[G, M, C] sums or means over the members of every hyperedge, written out."""
    total = (h[..., None] * x[..., None, :]).sum(-3)
    return total if reduce == "sum" else total * inverse(h.sum(-2))[..., None]


def unigcn(z: Tensor, h: Tensor, w: Tensor, reduce: str = "mean") -> Tensor:
    """D_v^-1/2 H W dbar_e^-1/2 (reduction of the members), d_v and dbar_e as written."""
    degree = (h * w[..., None, :]).sum(-1)
    dbar = members(degree[..., None], h, reduce)[..., 0]
    y = members(z, h, reduce) * (w * inverse(dbar, 0.5))[..., None]
    return inverse(degree, 0.5)[..., None] * (h @ y)


def unit_rows(x: Tensor) -> Tensor:
    x = x * inverse(x.abs().amax(-1, keepdim=True))
    return x * inverse(torch.linalg.vector_norm(x, dim=-1, keepdim=True))


def _unigcnii(layer: UniGCNIIConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    smooth = unigcn(x, h, w, layer.v2e_reduce)
    if layer.use_norm:
        smooth = unit_rows(smooth)
    mixed = (1 - layer.alpha) * smooth + layer.alpha * (-0.5 * x)
    return (1 - layer.beta) * mixed + layer.beta * mixed @ layer.theta.weight.mT


def _with_x0(layer: UniGCNIIConv, x: Tensor, h: object) -> Tensor:
    return layer(x, x * -0.5, h)


def _unigcn(layer: UniGCNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    out = unigcn(layer.theta(x), h, w, layer.v2e_reduce)
    return unit_rows(out) if layer.use_norm else out


def _unisage(layer: UniSAGEConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z, weighted = layer.theta(x), h * w[..., None, :]
    if layer.v2e_reduce == "max":
        y = torch.where(h[..., None] > 0, z[..., None, :], -torch.inf).amax(-3)
        y = torch.where(y.isfinite(), y, 0)
    else:
        y = members(z, h, layer.v2e_reduce)
    out = z + members(y, weighted.mT, layer.e2v_reduce)
    return unit_rows(out) if layer.use_norm else out


def _unigin(layer: UniGINConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z = layer.theta(x)
    y = members(z, h, layer.v2e_reduce)
    return (1 + layer.eps) * z + (h * w[..., None, :]) @ y


def softmax(scores: Tensor, weight: Tensor, dim: int) -> Tensor:
    """weight exp(scores) over its sum along ``dim``, for weights >= 0."""
    present = torch.where(weight > 0, scores, -torch.inf)
    highest = present.amax(dim, keepdim=True)
    power = weight * torch.where(weight > 0, scores - highest, -torch.inf).exp()
    return power * inverse(power.sum(dim, keepdim=True))


def _unigat(layer: UniGATConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z = layer.theta(x)
    y = members(z, h, layer.v2e_reduce)
    heads = []
    for head in range(layer.heads):
        mine = slice(head * layer.out_channels, (head + 1) * layer.out_channels)
        scores = (y[..., mine] @ layer.att_e[head])[..., None, :].expand(h.shape)
        if layer.att_v is not None:
            scores = scores + (z[..., mine] @ layer.att_v[head])[..., :, None]
        scores = torch.where(scores > 0, scores, layer.negative_slope * scores)
        heads.append(softmax(scores, h * w[..., None, :], -1) @ y[..., mine])
    out = torch.cat(heads, -1)
    if layer.use_norm:
        out = unit_rows(out)
    return out + z if layer.skip_sum else out


_DETACHED = "the official use_norm detaches the norm"

CASES = [
    LayerCase(
        "UniGCNIIConv",
        lambda: UniGCNIIConv(4, layer=2, alpha=0.3),
        _unigcnii,
        call=_with_x0,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "UniGCNIIConv of sums with norm",
        lambda: UniGCNIIConv(4, beta=0.6, v2e_reduce="sum", use_norm=True),
        _unigcnii,
        call=_with_x0,
        every_operator=True,
        no_gradcheck=_DETACHED,
    ),
    LayerCase(
        "UniGCNConv",
        lambda: UniGCNConv(4, 6),
        _unigcn,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "UniGCNConv of sums with bias and norm",
        lambda: UniGCNConv(4, 6, bias=True, v2e_reduce="sum", use_norm=True),
        _unigcn,
        every_operator=True,
        no_gradcheck=_DETACHED,
    ),
    LayerCase(
        "UniSAGEConv",
        lambda: UniSAGEConv(4, 6, bias=True),
        _unisage,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "UniSAGEConv of sums, mean and norm",
        lambda: UniSAGEConv(4, 6, v2e_reduce="sum", e2v_reduce="mean", use_norm=True),
        _unisage,
        every_operator=True,
        no_gradcheck=_DETACHED,
    ),
    LayerCase("UniSAGEConv of maxima", lambda: UniSAGEConv(4, 6, v2e_reduce="max"), _unisage),
    LayerCase(
        "UniGINConv",
        lambda: UniGINConv(4, 6, eps=0.4, bias=True),
        _unigin,
        every_operator=True,
        linear=True,
    ),
    LayerCase(
        "UniGINConv of sums, eps fixed",
        lambda: UniGINConv(4, 6, eps=0.4, train_eps=False, v2e_reduce="sum"),
        _unigin,
        every_operator=True,
        linear=True,
    ),
    LayerCase("UniGATConv", lambda: UniGATConv(4, 3, heads=2), _unigat),
    LayerCase(
        "UniGATConv scored by vertices, with skip and bias",
        lambda: UniGATConv(
            4, 3, heads=2, vertex_score=True, skip_sum=True, bias=True, v2e_reduce="sum"
        ),
        _unigat,
    ),
]
