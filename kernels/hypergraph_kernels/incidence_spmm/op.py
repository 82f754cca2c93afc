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
    x: Tensor,  # [num_inputs, channels] or [batch, num_inputs, channels]
    values: Tensor | None,  # [nnz], [nnz, heads] or [batch, nnz, heads]
    segments: Segments,
    transposed: Segments,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Sum weighted rows of ``x`` over every segment: a sparse matrix times a dense one.

    ``out[r] = sum over positions p of segment r of values[order[p]] * x[columns[p]]``

    With heads, the channels of x are ``heads`` equal blocks side by side, and every block has
    weights of its own.

    Args:
        x: [num_inputs, channels] or [batch, num_inputs, channels], any floating dtype.
        values: in the caller's order and the dtype of ``x``: [nnz], [nnz, heads], or
            [batch, nnz, heads] with x [batch, ...]; None stands for ones.
        segments: the rows to gather for each output row.
        transposed: the same pairs grouped by input row; used by the gradient.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [num_segments, channels] or [batch, num_segments, channels]; an empty segment gives zeros.
        Differentiable any number of times with respect to ``x`` and ``values``.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import incidence_spmm, segments_from
        >>> node, edge = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
        >>> by_edge, by_node = segments_from(edge, node, 2), segments_from(node, edge, 2)
        >>> x = torch.tensor([[1.0], [10.0]])
        >>> incidence_spmm(x, torch.tensor([1.0, 2.0, 3.0]), by_edge, by_node).flatten()
        tensor([21., 30.])
    """
    _check_features("x", x)
    if values is not None:
        _check_values(values, x, segments)
    chosen = choose("incidence_spmm", implementation, x)
    if x.dim() == 3 and (values is None or values.dim() == 1):  # one product of wider rows
        wide = x.transpose(0, 1).flatten(1)
        out = _product(wide, values, segments, transposed, chosen)
        return out.view(out.shape[0], x.shape[0], x.shape[2]).transpose(0, 1)
    if x.dim() == 3 and values is not None and values.dim() == 2:
        values = values.expand(x.shape[0], -1, -1)
    return _product(x, values, segments, transposed, chosen)


def sampled_dot(
    a: Tensor,  # [num_segments, channels] or [batch, num_segments, channels]
    b: Tensor,  # [num_inputs, channels] or [batch, num_inputs, channels]
    segments: Segments,
    transposed: Segments,
    *,
    heads: int | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Inner products ``<a[r], b[columns[p]]>`` of the pairs that the segments name.

    Args:
        a: [num_segments, channels] or [batch, num_segments, channels], one row per segment.
        b: [num_inputs, channels] or [batch, num_inputs, channels], the rows that positions gather.
        segments: pairs grouped by the rows of ``a``.
        transposed: the same pairs grouped by the rows of ``b``; used by the gradient.
        heads: into how many products the channels are divided; None for one, without a dimension.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [nnz], [nnz, heads], or with a batch [batch, nnz] or [batch, nnz, heads], in the caller's
        order; differentiable any number of times.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import sampled_dot, segments_from
        >>> node, edge = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
        >>> by_edge, by_node = segments_from(edge, node, 2), segments_from(node, edge, 2)
        >>> sampled_dot(torch.tensor([[2.0], [3.0]]), torch.tensor([[1.0], [10.0]]),
        ...             by_edge, by_node)
        tensor([ 2., 20., 30.])
    """
    _check_features("a", a)
    _check_features("b", b)
    if b.dtype != a.dtype:
        raise TypeError(f"`b` must have the dtype of `a`, {a.dtype}, got {b.dtype}; cast one")
    if b.shape[-1] != a.shape[-1] or b.shape[:-2] != a.shape[:-2]:
        raise ValueError(
            f"`b` must have the channels and the batch of `a`, {list(a.shape)}, got {list(b.shape)}"
        )
    if a.shape[-2] != segments.offsets.shape[0] - 1:
        raise ValueError(
            f"`a` must have a row per segment, {segments.offsets.shape[0] - 1}, got "
            f"{a.shape[-2]}; `b` holds the rows that segments gather"
        )
    if heads is not None and (heads < 1 or a.shape[-1] % heads):
        raise ValueError(f"`heads` must divide the {a.shape[-1]} channels of `a`, got {heads}")
    chosen = choose("sampled_dot", implementation, a)
    if a.dim() == 3 and heads is None:
        return _dots(a, b, segments, transposed, 1, chosen).squeeze(-1)
    return _dots(a, b, segments, transposed, heads, chosen)


def _check_features(name: str, x: Tensor) -> None:
    if x.dim() not in (2, 3):
        raise ValueError(
            f"`{name}` must have shape [rows, channels] or [batch, rows, channels], got "
            f"{list(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"`{name}` must be floating point, got {x.dtype}; convert it with .float()")


def _check_values(values: Tensor, x: Tensor, segments: Segments) -> None:
    if values.dtype != x.dtype:
        raise TypeError(
            f"`values` must have the dtype of `x`, {x.dtype}, got {values.dtype}; cast one of them"
        )
    nnz, heads = segments.columns.shape[0], values.shape[-1] if values.dim() > 1 else 1
    fits = values.dim() in (1, 2, 3) and values.shape[0 if values.dim() == 1 else -2] == nnz
    if values.dim() == 3:
        fits = fits and x.dim() == 3 and values.shape[0] == x.shape[0]
    if not fits:
        raise ValueError(
            f"`values` must have shape [nnz={nnz}], [nnz, heads] or, with `x` of three "
            f"dimensions, [batch, nnz, heads], got {list(values.shape)} with `x` {list(x.shape)}"
        )
    if heads < 1 or x.shape[-1] % heads:
        raise ValueError(
            f"`values` must have a number of heads that divides the {x.shape[-1]} channels of `x`, "
            f"got {heads}"
        )


def _product(
    x: Tensor, values: Tensor | None, segments: Segments, transposed: Segments, chosen: str
) -> Tensor:
    if chosen == "reference":
        return reference.incidence_spmm(x, values, segments)
    out: Tensor = _incidence_spmm(x, values, *segments, *transposed, chosen)
    return out


def _dots(
    a: Tensor, b: Tensor, segments: Segments, transposed: Segments, heads: int | None, chosen: str
) -> Tensor:
    if chosen == "reference":
        return reference.sampled_dot(a, b, segments, heads)
    out: Tensor = _sampled_dot(a, b, *segments, *transposed, heads, chosen)
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
    segments = Segments(columns, offsets, order)
    if implementation == "triton":
        from hypergraph_kernels.incidence_spmm import triton_kernels

        return triton_kernels.incidence_spmm(x, values, segments)
    return cpu.incidence_spmm(x, values, segments)


@_incidence_spmm.register_fake
def _(x: Tensor, values: Tensor | None, columns: Tensor, offsets: Tensor, *others: Any) -> Tensor:
    return x.new_empty(*x.shape[:-2], offsets.shape[0] - 1, x.shape[-1])


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
    heads: int | None,
    implementation: str,
) -> Tensor:
    segments = Segments(columns, offsets, order)
    if implementation == "triton":
        from hypergraph_kernels.incidence_spmm import triton_kernels

        return triton_kernels.sampled_dot(a, b, segments, heads)
    return cpu.sampled_dot(a, b, segments, heads)


@_sampled_dot.register_fake
def _(
    a: Tensor,
    b: Tensor,
    columns: Tensor,
    offsets: Tensor,
    order: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    t_order: Tensor | None,
    heads: int | None,
    implementation: str,
) -> Tensor:
    if heads is None:
        return a.new_empty(columns.shape[0])
    return a.new_empty(*a.shape[:-2], columns.shape[0], heads)


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
        heads = None if values.dim() == 1 else values.shape[-1]
        grad_values = _sampled_dot(grad, x, *segments, *transposed, heads, ctx.implementation)
    return grad_x, grad_values, *([None] * 7)


def _save_dots(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, _, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)


def _dots_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b, *indices = ctx.saved_tensors
    segments, transposed = indices[:3], indices[3:]
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = _incidence_spmm(b, grad, *segments, *transposed, ctx.implementation)
    if ctx.needs_input_grad[1]:
        grad_b = _incidence_spmm(a, grad, *transposed, *segments, ctx.implementation)
    return grad_a, grad_b, *([None] * 8)


_incidence_spmm.register_autograd(_product_backward, setup_context=_save_product)
_sampled_dot.register_autograd(_dots_backward, setup_context=_save_dots)
