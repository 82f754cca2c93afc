"""Reductions over (vertex, hyperedge) pairs, as plain functions of tensors."""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph._numerics import inverse_power, propagation_dtype
from hypergraph_kernels import incidence_softmax, segments_from

Reduce = Literal["sum", "mean", "max", "min", "softmax"]


def check_reduce(name: str, reduce: str) -> None:
    """Raise ValueError unless ``reduce`` is one of the reductions."""
    check_choice(name, reduce, get_args(Reduce))


def reduce_pairs(
    messages: Tensor,  # [..., nnz, C]
    index: Tensor,  # [nnz]
    size: int,
    reduce: Reduce,
    weight: Tensor | None,  # [nnz]
) -> Tensor:
    """Reduce the messages of every group; a pair of weight 0 is absent.

    Args:
        messages: [..., nnz, C], one row per pair; added up in at least float32.
        index: [nnz] int64, the group of every pair.
        size: number of groups.
        reduce: ``"sum"`` of weight x message; ``"mean"``, that over the sum of weights; ``"max"``,
            ``"min"`` over the pairs of positive weight; ``"softmax"``, the mean weighted by
            weight x exp(message), channel by channel.
        weight: [nnz], >= 0; None for ones.

    Returns:
        [..., size, C]; 0 for a group without pairs.
    """
    if weight is not None:
        messages = messages.to(torch.promote_types(messages.dtype, weight.dtype))
        weight = weight.to(messages.dtype)
    if reduce in ("max", "min"):
        return _extreme(messages, index, size, reduce == "max", weight)
    dtype = messages.dtype
    messages = messages.to(propagation_dtype(messages))
    weight = None if weight is None else weight.to(messages.dtype)
    if reduce == "softmax":
        messages = messages * softmax_pairs(messages, index, size, weight)
        return _add(messages, index, size).to(dtype)
    total = _add(messages if weight is None else messages * weight.unsqueeze(-1), index, size)
    if reduce == "mean":
        count = _count(messages, index, size, weight)
        total = total * inverse_power(count, -1.0).unsqueeze(-1)
    return total.to(dtype)


def softmax_pairs(
    scores: Tensor,  # [..., nnz, K]
    index: Tensor,  # [nnz]
    size: int,
    weight: Tensor | None,  # [nnz]
) -> Tensor:
    """``weight exp(score)`` over its sum in every group, computed without overflow.

    Args:
        scores: [..., nnz, K], K independent scores per pair; computed in at least float32.
        index: [nnz] int64, the group of every pair.
        size: number of groups.
        weight: [nnz], >= 0; None for ones.

    Returns:
        The shape of scores; sums to 1 in every group that has a pair of positive weight. A group
        whose weights sum to at most the smallest normal number gets 0.
    """
    return incidence_softmax(scores, segments_from(index, index, size), weight, rows=index)


def _add(messages: Tensor, index: Tensor, size: int) -> Tensor:
    out = messages.new_zeros(*messages.shape[:-2], size, messages.shape[-1])
    return out.index_add(-2, index, messages)


def _count(messages: Tensor, index: Tensor, size: int, weight: Tensor | None) -> Tensor:
    """[size] sums of the weights."""
    ones = messages.new_ones(index.shape[0]) if weight is None else weight
    return ones.new_zeros(size).index_add(0, index, ones)


def _extreme(
    messages: Tensor, index: Tensor, size: int, largest: bool, weight: Tensor | None
) -> Tensor:
    """Largest or smallest message of every group and channel; ties share the gradient."""
    worst = -torch.inf if largest else torch.inf
    found = messages.new_zeros(size, dtype=torch.bool)
    if weight is None:
        found = found.index_fill(0, index, True)
    else:
        present = weight > 0
        messages = messages.masked_fill(~present.unsqueeze(-1), worst)
        # Groups of absent pairs alone must come out as empty: send those pairs to one more group.
        groups = torch.where(present, index, size)
        found = messages.new_zeros(size + 1, dtype=torch.bool).index_fill(0, groups, True)[:size]
    out = messages.new_full((*messages.shape[:-2], size, messages.shape[-1]), worst)
    where = index.unsqueeze(-1).expand(messages.shape)
    out = out.scatter_reduce(-2, where, messages, "amax" if largest else "amin")
    return torch.where(found.unsqueeze(-1), out, 0)
