"""Weighted sums over ragged segments and inner products of the pairs that they name.

An incidence matrix with few non-zeros is kept as two lists of segments, one per direction.
Multiplying by it is a segmented gather-sum; the gradient to the features is the same operation
over the other list, and the gradient to the values is a sampled inner product, whose gradients are
sums again. Nothing of size ``nnz x channels`` is ever stored.
"""

from typing import Any

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm import cpu, reference


def incidence_spmm(
    x: Tensor,  # [num_inputs, channels]
    values: Tensor | None,  # [nnz]
    segments: Segments,
    transposed: Segments,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Sum weighted rows of ``x`` over every segment: a sparse matrix times a dense one.

    ``out[r] = sum over positions p of segment r of values[order[p]] * x[columns[p]]``

    Args:
        x: [num_inputs, channels], any floating dtype.
        values: [nnz] in the caller's order and the dtype of ``x``; None stands for ones.
        segments: the rows to gather for each output row.
        transposed: the same pairs grouped by input row; used by the gradient.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [num_segments, channels]; an empty segment gives zeros. Differentiable any number of times
        with respect to ``x`` and ``values``.
    """
    chosen = choose("incidence_spmm", implementation, x, triton=False)
    if chosen == "reference":
        return reference.incidence_spmm(x, values, segments)
    out: Tensor = _incidence_spmm(x, values, *segments, *transposed, chosen)
    return out


def sampled_dot(
    a: Tensor,  # [num_segments, channels]
    b: Tensor,  # [num_inputs, channels]
    segments: Segments,
    transposed: Segments,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Inner products ``<a[r], b[columns[p]]>`` of the pairs that the segments name.

    Args:
        a: [num_segments, channels], one row per segment.
        b: [num_inputs, channels], the rows that positions gather.
        segments: pairs grouped by the rows of ``a``.
        transposed: the same pairs grouped by the rows of ``b``; used by the gradient.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [nnz] in the caller's order; differentiable any number of times.
    """
    chosen = choose("sampled_dot", implementation, a, triton=False)
    if chosen == "reference":
        return reference.sampled_dot(a, b, segments)
    out: Tensor = _sampled_dot(a, b, *segments, *transposed, chosen)
    return out


@torch.library.custom_op("hypergraph_kernels::incidence_spmm", mutates_args=())
def _incidence_spmm(
    x: Tensor,
    values: Tensor | None,
    columns: Tensor,
    offsets: Tensor,
    order: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    t_order: Tensor | None,
    implementation: str,
) -> Tensor:
    return cpu.incidence_spmm(x, values, Segments(columns, offsets, order))


@_incidence_spmm.register_fake
def _(x: Tensor, values: Tensor | None, columns: Tensor, offsets: Tensor, *others: Any) -> Tensor:
    return x.new_empty(offsets.shape[0] - 1, x.shape[1])


@torch.library.custom_op("hypergraph_kernels::sampled_dot", mutates_args=())
def _sampled_dot(
    a: Tensor,
    b: Tensor,
    columns: Tensor,
    offsets: Tensor,
    order: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    t_order: Tensor | None,
    implementation: str,
) -> Tensor:
    return cpu.sampled_dot(a, b, Segments(columns, offsets, order))


@_sampled_dot.register_fake
def _(a: Tensor, b: Tensor, columns: Tensor, *others: Any) -> Tensor:
    return a.new_empty(columns.shape[0])


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, *indices, ctx.implementation = inputs
    needs_x = x if ctx.needs_input_grad[1] else None
    ctx.save_for_backward(needs_x, values, *indices)


def _product_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, *indices = ctx.saved_tensors
    segments, transposed = indices[:3], indices[3:]
    grad_x = grad_values = None
    if ctx.needs_input_grad[0]:
        grad_x = _incidence_spmm(grad, values, *transposed, *segments, ctx.implementation)
    if ctx.needs_input_grad[1]:
        grad_values = _sampled_dot(grad, x, *segments, *transposed, ctx.implementation)
    return grad_x, grad_values, *([None] * 7)


def _save_dots(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)


def _dots_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b, *indices = ctx.saved_tensors
    segments, transposed = indices[:3], indices[3:]
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = _incidence_spmm(b, grad, *segments, *transposed, ctx.implementation)
    if ctx.needs_input_grad[1]:
        grad_b = _incidence_spmm(a, grad, *transposed, *segments, ctx.implementation)
    return grad_a, grad_b, *([None] * 7)


_incidence_spmm.register_autograd(_product_backward, setup_context=_save_product)
_sampled_dot.register_autograd(_dots_backward, setup_context=_save_dots)
