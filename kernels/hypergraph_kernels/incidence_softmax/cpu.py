"""Softmax over segments through kernels that PyTorch has, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels._segments import Segments, check_segments
from hypergraph_kernels.incidence_softmax.reference import inverse
from hypergraph_kernels.incidence_spmm.cpu import quiet
from hypergraph_kernels.incidence_spmm.reference import out_of_order

# exp of scores in this range, times weights in that one, neither overflow nor vanish in float32.
_EXPONENT = 40.0
_WEIGHTS = (1e-10, 1e10)


def incidence_softmax(
    scores: Tensor,  # [nnz, K] or [B, nnz, K]
    offsets: Tensor,
    order: Tensor | None,
    rows: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """The softmax; ``rows`` [nnz] is the segment of every pair, if at hand."""
    if scores.numel() == 0:
        return torch.zeros_like(scores)
    if scores.dim() == 3:  # the samples as more scores of one list of pairs
        flat = scores.transpose(0, 1).flatten(1)
        out = incidence_softmax(flat, offsets, order, rows, weight)
        return out.view(scores.shape[1], -1, scores.shape[2]).transpose(0, 1).contiguous()
    rows = pair_rows(offsets, order) if rows is None else rows
    if _is_moderate(scores, weight):
        # As large as the result needs to be without subtracting the maximum, and not rounded once.
        powers = scores.exp()
    else:
        if weight is not None:
            scores = scores.masked_fill((weight <= 0).unsqueeze(-1), -torch.inf)
        highest = _maximum(scores, offsets, order)
        powers = (scores - _spread(highest, rows)).exp_()
    if weight is not None:
        powers.mul_(weight.unsqueeze(-1))
    return powers.mul_(_spread(inverse(segment_sums(powers, offsets, order)), rows))


def incidence_softmax_backward(
    alpha: Tensor,  # [nnz, K] or [B, nnz, K]
    grad: Tensor,
    offsets: Tensor,
    order: Tensor | None,
    rows: Tensor | None,
) -> Tensor:
    """``alpha (grad - sum over the segment of alpha grad)``."""
    if alpha.numel() == 0:
        return torch.zeros_like(alpha)
    rows = pair_rows(offsets, order) if rows is None else rows
    products = alpha * grad
    if alpha.dim() == 3:
        flat = products.transpose(0, 1).flatten(1)
        totals = segment_sums(flat, offsets, order).index_select(0, rows)
        totals = totals.view(alpha.shape[1], -1, alpha.shape[2]).transpose(0, 1)
        return products.sub_(totals.mul_(alpha))
    totals = _spread(segment_sums(products, offsets, order), rows)
    return products.sub_(totals.mul_(alpha))


def segment_sums(values: Tensor, offsets: Tensor, order: Tensor | None) -> Tensor:
    """[num_segments, K] sums of values [nnz, K] in the caller's order."""
    if order is None:
        order = torch.arange(values.shape[0], dtype=offsets.dtype, device=offsets.device)
    return F.embedding_bag(
        order, values.contiguous(), offsets, mode="sum", include_last_offset=True
    )


def pair_rows(offsets: Tensor, order: Tensor | None) -> Tensor:
    """[nnz] the segment of every pair, in the caller's order."""
    rows = torch.repeat_interleave(offsets.diff())
    return out_of_order(rows, Segments(rows, offsets, order))


def _is_moderate(scores: Tensor, weight: Tensor | None) -> bool:
    """Tell whether no power of these scores comes near the bounds of the dtype."""
    low, high = (float(bound) for bound in torch.aminmax(scores))
    if not (low >= -_EXPONENT and high <= _EXPONENT):
        return False
    if weight is None:
        return True
    low, high = (float(bound) for bound in torch.aminmax(weight))
    if low <= 0:
        low = float(weight.masked_fill(weight <= 0, torch.inf).min())
    return low >= _WEIGHTS[0] and high <= _WEIGHTS[1]


def _maximum(scores: Tensor, offsets: Tensor, order: Tensor | None) -> Tensor:
    """[num_segments, K] largest score; 0 where it is not finite."""
    if scores.device.type == "cpu" and scores.shape[1] > 1:
        # Four to eight times faster than segment_reduce with 4 and 16 scores per pair.
        if order is None:
            order = torch.arange(scores.shape[0])
        check_segments(Segments(order, offsets, None), scores.shape[0])
        quiet()
        shape = (offsets.shape[0] - 1, scores.shape[0])
        ones = scores.new_ones(scores.shape[0])
        pairs = torch.sparse_csr_tensor(offsets, order, ones, shape, check_invariants=False)
        highest = torch.sparse.mm(pairs, scores.contiguous(), reduce="amax")
    else:
        ordered = scores if order is None else scores.index_select(0, order)
        highest = torch.segment_reduce(ordered, "max", offsets=offsets, axis=0, initial=-torch.inf)
    return torch.where(highest.isfinite(), highest, 0)


def _spread(values: Tensor, rows: Tensor) -> Tensor:
    """Values [num_segments, K] of the segments to their pairs."""
    if values.shape[1] == 1:  # three times faster in one dimension
        return values.flatten().index_select(0, rows).unsqueeze(1)
    return values.index_select(0, rows)
