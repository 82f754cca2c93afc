"""Aggregations of rows, and of MLPs of (vertex, hyperedge) pairs."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergraph._numerics import in_autocast, propagation_dtype, without_autocast
from hypergraph.incidence import Incidence, MemberIncidence
from hypergraph.nn._mlp import MLP

MeanOrSum = Literal["mean", "sum"]


def aggregate(
    rows: Tensor,  # [N, C] or [B, N, C]; M for N where to="nodes"
    hypergraph: Incidence,
    reduce: MeanOrSum,
    to: Literal["edges", "nodes"],
) -> Tensor:
    """Mean or sum of rows over members or over hyperedges, the latter weighted by W.

    Computed in at least float32 without autocast; the result has the dtype of ``rows``.
    """
    with without_autocast(rows.device):
        x = rows.to(propagation_dtype(rows))
        if to == "edges":
            return hypergraph.v2e(x, reduce).to(rows.dtype)
        if reduce == "sum":
            x = x * hypergraph.weight(x.dtype).unsqueeze(-1)
        return hypergraph.e2v(x, reduce).to(rows.dtype)


def needs_pairs(mlp: MLP) -> bool:
    """Tell whether ``aggregate_pairs`` needs members: not for a single linear map."""
    return len(mlp.lins) > 1 or not isinstance(mlp.normalizations[0], nn.Identity)


def aggregate_pairs(
    mlp: MLP,
    x: Tensor,  # [N, C] or [B, N, C]
    y: Tensor,  # [M, D] or [B, M, D]
    hypergraph: Incidence,
    reduce: MeanOrSum,
) -> Tensor:
    """``AGG over hyperedges e of v of mlp([x_v || y_e])``, weighted by ``w_e h_ve``.

    The first linear map is applied to vertices and hyperedges apart, before they meet at the pairs,
    and the last one after the aggregation, so that no ``[nnz, C + D]`` rows are formed (except for
    a BatchNorm at the input, whose statistics are over pairs).

    Args:
        mlp: takes C + D channels.
        x: [N, C] or [B, N, C].
        y: [M, D] or [B, M, D].
        hypergraph: an operator, with members where ``needs_pairs(mlp)``.
        reduce: ``"mean"`` or ``"sum"``.

    Returns:
        [N, out] or [B, N, out]; 0 for an isolated vertex.
    """
    if not needs_pairs(mlp):
        (first,) = mlp.lins
        of_x, of_y = first.weight.tensor_split([x.shape[-1]], 1)  # type: ignore[operator]
        own = functional.linear(x, of_x, first.bias)  # type: ignore[arg-type]
        got = functional.linear(aggregate(y, hypergraph, reduce, "nodes"), of_y)
        return own * _received(hypergraph, own, reduce) + got
    members = hypergraph.with_members()
    z = _first_map(mlp, x, y, members)
    if len(mlp.lins) > 1:
        z = mlp.between(z)
    with without_autocast(z.device):
        total = members.reduce_to_nodes(z.to(propagation_dtype(z)), reduce).to(z.dtype)
    if len(mlp.lins) == 1:
        return total
    last = mlp.lins[-1]
    out = functional.linear(total, last.weight)  # type: ignore[arg-type]
    return out + _received(members, out, reduce) * last.bias.to(out.dtype)  # type: ignore


def _received(hypergraph: Incidence, like: Tensor, reduce: MeanOrSum) -> Tensor:
    """[..., N, 1] what the aggregation makes of ones."""
    degree = hypergraph.node_degree(propagation_dtype(like)).unsqueeze(-1)
    if reduce == "mean":
        degree = degree > torch.finfo(degree.dtype).tiny
    return degree.to(like.dtype)


def _first_map(mlp: MLP, x: Tensor, y: Tensor, members: MemberIncidence) -> Tensor:
    """[..., nnz, hidden] the first norm and linear map of [x_v || y_e]."""
    norm, first = mlp.normalizations[0], mlp.lins[0]
    assert isinstance(first, nn.Linear)
    if isinstance(norm, nn.LayerNorm):
        return _normalized_first_map(norm, first, x, y, members)
    if not isinstance(norm, nn.Identity):
        pairs = [members.gather_nodes(x), members.gather_edges(y).to(x.dtype)]
        return first(norm(torch.cat(pairs, -1)))
    of_x, of_y = first.weight.tensor_split([x.shape[-1]], 1)
    own = functional.linear(x, of_x, first.bias)
    return members.gather_nodes(own) + members.gather_edges(functional.linear(y, of_y))


def _normalized_first_map(
    norm: nn.LayerNorm, first: nn.Linear, x: Tensor, y: Tensor, members: MemberIncidence
) -> Tensor:
    """A linear map of LayerNorm([x_v || y_e]).

    With means mu and variances of the two halves, p the share of x's channels and
    ``g = mu_x - mu_y``, the whole row has mean ``mu_x - (1 - p) g = mu_y + p g`` and variance
    ``p var_x + (1 - p) var_y + p (1 - p) g^2``. So per pair only g and the scale are new.
    """
    given, dtype = x.dtype, propagation_dtype(x, y)
    x, y = x.to(dtype), y.to(dtype)
    share = x.shape[-1] / first.in_features
    weight = first.weight.to(dtype) * norm.weight.to(dtype)
    of_x, of_y = weight.tensor_split([x.shape[-1]], 1)
    (x, stats_x), (y, stats_y) = _centered(x), _centered(y)
    stats_x, stats_y = members.gather_nodes(stats_x), members.gather_edges(stats_y)
    gap = stats_x[..., :1] - stats_y[..., :1]
    variance = share * stats_x[..., 1:] + (1 - share) * stats_y[..., 1:]
    scale = (variance + share * (1 - share) * gap.square() + norm.eps).rsqrt()
    own = functional.linear(x, of_x)
    z = members.gather_nodes(own) + members.gather_edges(functional.linear(y, of_y))
    z = z + gap * ((1 - share) * of_x.sum(1) - share * of_y.sum(1))
    out = z * scale + (first.weight @ norm.bias + first.bias)
    return out.to(own.dtype if in_autocast(x.device) else given)


def _centered(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows without their mean, and [..., 2] mean and variance of every row."""
    mean = x.mean(-1, keepdim=True)
    x = x - mean
    return x, torch.cat([mean, x.square().mean(-1, keepdim=True)], -1)
