"""The definition, and what every implementation computes with it."""

import torch
from torch import Tensor

from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm.reference import out_of_order, rows_of


def incidence_softmax(
    scores: Tensor,  # [..., nnz, K]
    segments: Segments,
    weight: Tensor | None,  # [nnz]
) -> Tensor:
    """``weight exp(score)`` over its sum in every segment, computed without overflow."""
    rows = pair_rows(segments)
    size = segments.offsets.shape[0] - 1
    # An absent pair may have the largest score of all: it must not overflow.
    if weight is not None:
        scores = scores.masked_fill((weight <= 0).unsqueeze(-1), -torch.inf)
    highest = scores.new_full((*scores.shape[:-2], size, scores.shape[-1]), -torch.inf)
    index = rows.unsqueeze(-1).expand(scores.shape)
    highest = highest.scatter_reduce(-2, index, scores.detach(), "amax")
    highest = torch.where(highest.isfinite(), highest, 0)  # where every score is -inf
    powers = (scores - highest.index_select(-2, rows)).exp()
    if weight is not None:
        powers = powers * weight.unsqueeze(-1)
    total = torch.zeros_like(highest).index_add(-2, rows, powers)
    # A constant factor per segment cancels; this one keeps the slope of 1 / total in bounds.
    powers = powers * inverse(total.detach()).index_select(-2, rows)
    total = torch.zeros_like(highest).index_add(-2, rows, powers)
    return powers * inverse(total).index_select(-2, rows)


def inverse(total: Tensor) -> Tensor:
    """``1 / total``; 0, with a gradient of 0, where it is at most the smallest normal number."""
    counts = total > torch.finfo(total.dtype).tiny
    return torch.where(counts, total, 1).reciprocal() * counts


def pair_rows(segments: Segments) -> Tensor:
    """[nnz] the segment of every pair, in the caller's order."""
    return out_of_order(rows_of(segments), segments)
