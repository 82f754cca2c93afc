"""Weighted sums over ragged segments and their gradients, both through ``embedding_bag``.

An incidence matrix with few non-zeros is kept as two lists of segments, one per direction.
Multiplying by it is a segmented gather-sum; the gradient to the features is the same operation
over the other list, and the gradient to the values is a sampled inner product. Nothing of size
``nnz x channels`` is ever stored.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Segments(NamedTuple):
    """One direction of a sparse matrix: which rows to gather for every output row."""

    columns: Tensor
    """[nnz] int64: the input row read at each position."""
    offsets: Tensor
    """[num_segments + 1] int64: segment r covers positions offsets[r] to offsets[r + 1]."""
    order: Tensor | None
    """[nnz] int64: where the caller's list holds each position's value (None: in place)."""


def segments_from(rows: Tensor, columns: Tensor, num_rows: int) -> Segments:
    """Sort a list of (row, column) pairs into segments by row, keeping repeated pairs.

    Args:
        rows: [nnz] int64, the segment of every pair.
        columns: [nnz] int64, the row that the pair gathers.
        num_rows: number of segments, empty ones included.

    Returns:
        Segments over ``columns``; inside a segment the caller's order is kept.
    """
    sorted_rows, order = torch.sort(rows, stable=True)
    boundaries = torch.arange(num_rows + 1, device=rows.device, dtype=rows.dtype)
    return Segments(columns[order], torch.searchsorted(sorted_rows, boundaries), order)


def segment_matmul(
    x: Tensor,  # [num_inputs, channels]
    values: Tensor | None,  # [nnz]
    segments: Segments,
    transposed: Segments,
) -> Tensor:
    """Sum weighted rows of ``x`` over every segment: a sparse matrix times a dense one.

    ``out[r] = sum over positions p of segment r of values[order[p]] * x[columns[p]]``

    Args:
        x: [num_inputs, channels], any floating dtype.
        values: [nnz] in the caller's order and the dtype of ``x``; None stands for ones.
        segments: the rows to gather for each output row.
        transposed: the same pairs grouped by input row; used by the gradient.

    Returns:
        [num_segments, channels]; an empty segment gives zeros. Differentiable any number of times
        with respect to ``x`` and ``values``.
    """
    out: Tensor = _SegmentMatmul.apply(x, values, *segments, *transposed)
    return out


def sampled_dot(
    a: Tensor,  # [num_segments, channels]
    b: Tensor,  # [num_inputs, channels]
    segments: Segments,
    transposed: Segments,
) -> Tensor:
    """Inner products ``<a[r], b[columns[p]]>`` of the pairs that the segments name.

    Args:
        a: [num_segments, channels], one row per segment.
        b: [num_inputs, channels], the rows that positions gather.
        segments: pairs grouped by the rows of ``a``.
        transposed: the same pairs grouped by the rows of ``b``; used by the gradient.

    Returns:
        [nnz] in the caller's order; differentiable any number of times. While ``torch.compile``
        traces, both sides are gathered, which takes nnz x channels of memory unless it fuses them.
    """
    if torch.compiler.is_compiling():
        return _gathered_dots(a, b, segments)
    out: Tensor = _SampledDot.apply(a, b, *segments, *transposed)
    return out


def _gather_sum(x: Tensor, values: Tensor | None, segments: Segments) -> Tensor:
    index, offsets, order = segments
    num_segments = offsets.shape[0] - 1
    if index.numel() == 0 or num_segments == 0 or x.shape[1] == 0:
        return x.new_zeros(num_segments, x.shape[1])
    if values is not None and order is not None:
        values = values[order]
    return F.embedding_bag(
        index,
        x.contiguous(),
        offsets,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )


def _gathered_dots(a: Tensor, b: Tensor, segments: Segments) -> Tensor:
    columns, offsets, order = segments
    position = torch.arange(columns.shape[0], device=columns.device)
    row = torch.searchsorted(offsets, position, right=True) - 1
    dots = (a[row] * b[columns]).sum(-1)
    return dots if order is None else torch.empty_like(dots).scatter(0, order, dots)


def _pair_dots(a: Tensor, b: Tensor, segments: Segments) -> Tensor:
    index, offsets, order = segments
    if index.numel() == 0 or a.shape[1] == 0:
        return a.new_zeros(index.shape[0])
    if torch.is_inference_mode_enabled():  # which records no gradients
        with torch.inference_mode(False):
            copies = [None if t is None else t.clone() for t in segments]
            return _pair_dots(a.clone(), b.clone(), Segments(*copies))  # type: ignore[arg-type]
    # The gradient of embedding_bag with respect to its weights is this product, and is eight times
    # faster than gathering both sides (6144 x 25 pairs of 128 channels).
    with torch.enable_grad():
        weights = torch.ones(index.shape[0], dtype=a.dtype, device=a.device).requires_grad_()
        bags = _gather_sum(b.detach(), weights, Segments(index, offsets, None))
    (dots,) = torch.autograd.grad(bags, weights, a.detach().contiguous())
    if order is None:
        return dots
    return torch.empty_like(dots).scatter_(0, order, dots)


class _SegmentMatmul(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor | None,
        index: Tensor,
        offsets: Tensor,
        order: Tensor | None,
        t_index: Tensor,
        t_offsets: Tensor,
        t_order: Tensor | None,
    ) -> Tensor:
        needs_x = x if values is not None and values.requires_grad else None
        ctx.save_for_backward(needs_x, values, index, offsets, order, t_index, t_offsets, t_order)
        return _gather_sum(x, values, Segments(index, offsets, order))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, values, index, offsets, order, t_index, t_offsets, t_order = ctx.saved_tensors
        segments = Segments(index, offsets, order)
        transposed = Segments(t_index, t_offsets, t_order)
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = segment_matmul(grad, values, transposed, segments)
        if ctx.needs_input_grad[1]:
            grad_values = sampled_dot(grad, x, segments, transposed)
        return grad_x, grad_values, None, None, None, None, None, None


class _SampledDot(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        index: Tensor,
        offsets: Tensor,
        order: Tensor | None,
        t_index: Tensor,
        t_offsets: Tensor,
        t_order: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(a, b, index, offsets, order, t_index, t_offsets, t_order)
        return _pair_dots(a, b, Segments(index, offsets, order))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        a, b, index, offsets, order, t_index, t_offsets, t_order = ctx.saved_tensors
        segments = Segments(index, offsets, order)
        transposed = Segments(t_index, t_offsets, t_order)
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_a = segment_matmul(b, grad, segments, transposed)
        if ctx.needs_input_grad[1]:
            grad_b = segment_matmul(a, grad, transposed, segments)
        return grad_a, grad_b, None, None, None, None, None, None
