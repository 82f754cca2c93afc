"""Softmax over the pairs of every segment, with weights as multiplicities."""

from typing import Any

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_softmax import cpu, reference
from hypergraph_kernels.incidence_spmm.op import incidence_spmm


def incidence_softmax(
    scores: Tensor,  # [nnz], [nnz, K] or [batch, nnz, K]
    segments: Segments,
    weight: Tensor | None = None,  # [nnz]
    *,
    rows: Tensor | None = None,  # [nnz]
    implementation: Implementation = "auto",
) -> Tensor:
    """Attention over the pairs of every segment: ``alpha = w exp(s) / sum of w exp(s)``.

    Computed in at least float32 and without overflow. A pair of weight 0 (or less) is absent and
    gets 0, whatever its score. So does every pair of a segment whose weights, scaled by exp of
    their scores' distance to the largest one, sum to at most the smallest normal number.

    Args:
        scores: [nnz], [nnz, K] or [batch, nnz, K], in the caller's order; any floating dtype.
        segments: which pairs belong together; only ``offsets`` and ``order`` are used.
        weight: [nnz] in the caller's order, shared by batch and K; None for ones.
        rows: [nnz] the segment of every pair in the caller's order; computed where it is not given.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        The shape of scores, in the wider dtype of scores and weight. Differentiable any number of
        times with respect to ``scores`` and ``weight``; gradients are finite.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import incidence_softmax, segments_from
        >>> edge = torch.tensor([1, 0, 0])
        >>> incidence_softmax(torch.zeros(3), segments_from(edge, edge, 2))
        tensor([1.0000, 0.5000, 0.5000])
    """
    nnz = segments.columns.shape[0]
    if not scores.is_floating_point():
        raise TypeError(f"`scores` must be floating point, got {scores.dtype}; use .float()")
    if scores.dim() not in (1, 2, 3) or scores.shape[-2 if scores.dim() > 1 else 0] != nnz:
        raise ValueError(
            f"`scores` must have shape [nnz={nnz}], [nnz, K] or [batch, nnz, K], "
            f"got {list(scores.shape)}"
        )
    for name, given in (("weight", weight), ("rows", rows)):
        if given is not None and given.shape != (nnz,):
            raise ValueError(f"`{name}` must have shape [nnz={nnz}], got {list(given.shape)}")
    dtype = scores.dtype if weight is None else torch.promote_types(scores.dtype, weight.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    chosen = choose("incidence_softmax", implementation, scores.to(wide))
    many = (scores.unsqueeze(-1) if scores.dim() == 1 else scores).to(wide)
    weight = None if weight is None else weight.to(wide)
    if chosen == "reference":
        out = reference.incidence_softmax(many, segments, weight)
    else:
        out = _incidence_softmax(many, weight, segments.offsets, segments.order, rows, chosen)
    return (out.squeeze(-1) if scores.dim() == 1 else out).to(dtype)


@torch.library.custom_op("hypergraph_kernels::incidence_softmax", mutates_args=())
def _incidence_softmax(
    scores: Tensor,
    weight: Tensor | None,
    offsets: Tensor,
    order: Tensor | None,
    rows: Tensor | None,
    implementation: str,
) -> Tensor:
    if implementation == "triton":
        from hypergraph_kernels.incidence_softmax import triton_kernels

        return triton_kernels.incidence_softmax(scores, offsets, order, weight)
    return cpu.incidence_softmax(scores, offsets, order, rows, weight)


@torch.library.custom_op("hypergraph_kernels::incidence_softmax_backward", mutates_args=())
def _incidence_softmax_backward(
    alpha: Tensor,
    grad: Tensor,
    offsets: Tensor,
    order: Tensor | None,
    rows: Tensor | None,
    implementation: str,
) -> Tensor:
    if implementation == "triton":
        from hypergraph_kernels.incidence_softmax import triton_kernels

        return triton_kernels.incidence_softmax_backward(alpha, grad, offsets, order)
    return cpu.incidence_softmax_backward(alpha, grad, offsets, order, rows)


@_incidence_softmax.register_fake
@_incidence_softmax_backward.register_fake
def _(scores: Tensor, *others: Any) -> Tensor:
    return scores.new_empty(scores.shape)


def _save_softmax(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, weight, offsets, order, rows, ctx.implementation = inputs
    needs_weight = weight if ctx.needs_input_grad[1] else None
    ctx.save_for_backward(output, needs_weight, offsets, order, rows)


def _softmax_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    alpha, weight, offsets, order, rows = ctx.saved_tensors
    slope = _incidence_softmax_backward(alpha, grad, offsets, order, rows, ctx.implementation)
    grad_weight = None
    if ctx.needs_input_grad[1]:
        # w counts as log(w) added to the scores. The clamp keeps the gradient finite.
        present = torch.where(weight > 0, weight, torch.inf)
        share = present.reciprocal().clamp_max(torch.finfo(weight.dtype).max ** 0.5)
        total = slope.sum(-1)
        grad_weight = (total if total.dim() == 1 else total.sum(0)) * share
    return slope if ctx.needs_input_grad[0] else None, grad_weight, None, None, None, None


def _save_slope(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)


def _slope_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of ``a (g - S(a g))``, where S are a segment's sums at its pairs: symmetric in g."""
    alpha, first, offsets, order, rows = ctx.saved_tensors
    grad_alpha = grad_first = None
    if ctx.needs_input_grad[1]:
        grad_first = _incidence_softmax_backward(
            alpha, grad, offsets, order, rows, ctx.implementation
        )
    if ctx.needs_input_grad[0]:
        position = torch.arange(alpha.shape[-2] + 1, device=alpha.device)
        into = Segments(position[:-1] if order is None else order, offsets, None)
        if rows is None:
            rows = reference.pair_rows(Segments(into.columns, offsets, order))
        back = Segments(rows, position, None)

        def sums(values: Tensor) -> Tensor:
            total = incidence_spmm(values, None, into, back, implementation=ctx.implementation)
            return total.index_select(-2, rows)

        grad_alpha = grad * (first - sums(alpha * first)) - first * sums(alpha * grad)
    return grad_alpha, grad_first, None, None, None, None


_incidence_softmax.register_autograd(_softmax_backward, setup_context=_save_softmax)
_incidence_softmax_backward.register_autograd(_slope_backward, setup_context=_save_slope)
