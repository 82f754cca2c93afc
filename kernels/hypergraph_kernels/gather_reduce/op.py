"""Sums of the rows that a table names, and the transposed sums: each is the other's gradient.

A neighbour table is an incidence matrix with K slots in every column. Its products are
``H^T x = gather_reduce(x, index)`` and ``H y = gather_reduce_transposed(y, index, num_rows)``;
nothing of size edges x slots x channels is ever stored.
"""

from typing import Any

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.gather_reduce import cpu, reference
from hypergraph_kernels.gather_reduce._table import table_segments, transpose_table
from hypergraph_kernels.incidence_spmm import sampled_dot


def gather_reduce(
    x: Tensor,  # [num_rows, channels]
    index: Tensor,  # [edges, slots]
    weights: Tensor | None = None,  # [edges, slots]
    transposed: Segments | None = None,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Sum, for every row of a table, the rows of ``x`` that it names.

    ``out[e] = sum over slots j of weights[e, j] * x[index[e, j]]``

    Args:
        x: [num_rows, channels], any floating dtype.
        index: [edges, slots] int64 in 0 .. num_rows - 1 (not checked).
        weights: [edges, slots] in the dtype of ``x``; None stands for ones.
        transposed: ``transpose_table(index, num_rows)``, which the gradient uses; None to have it
            made if there will be one.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [edges, channels]; without slots zeros. Differentiable any number of times with respect to
        ``x`` and ``weights``.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit, or the implementation cannot
            run.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import gather_reduce
        >>> gather_reduce(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0, 1], [2, 2]]))
        tensor([[3.],
                [8.]])
    """
    _check("x", x, index, weights)
    chosen = choose("gather_reduce", implementation, x)
    if chosen == "reference":
        return reference.gather_reduce(x, index, weights)
    if transposed is None and torch.is_grad_enabled():
        if x.requires_grad or (weights is not None and weights.requires_grad):
            transposed = transpose_table(index, x.shape[0])
    lists: tuple[Tensor | None, ...] = (None, None, None) if transposed is None else transposed
    out: Tensor = _gather_reduce(x, index, weights, *lists, chosen)
    return out


def gather_reduce_transposed(
    y: Tensor,  # [edges, channels]
    index: Tensor,  # [edges, slots]
    num_rows: int,
    weights: Tensor | None = None,  # [edges, slots]
    transposed: Segments | None = None,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Add every row of ``y`` to the rows that the table names in its place.

    ``out[v] = sum over slots (e, j) with index[e, j] = v of weights[e, j] * y[e]``

    Args:
        y: [edges, channels], any floating dtype.
        index: [edges, slots] int64 in 0 .. num_rows - 1 (not checked).
        num_rows: rows of the result.
        weights: [edges, slots] in the dtype of ``y``; None stands for ones.
        transposed: ``transpose_table(index, num_rows)``; None to have it made.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [num_rows, channels]; a row that no slot names is zero. Differentiable any number of times
        with respect to ``y`` and ``weights``.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit, or the implementation cannot
            run.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import gather_reduce_transposed
        >>> table = torch.tensor([[0, 1], [2, 2]])
        >>> gather_reduce_transposed(torch.tensor([[1.0], [10.0]]), table, 4).flatten()
        tensor([ 1.,  1., 20.,  0.])
    """
    _check("y", y, index, weights)
    if y.shape[0] != index.shape[0]:
        raise ValueError(
            f"`y` must have as many rows as `index`, {index.shape[0]}, got {list(y.shape)}"
        )
    if transposed is not None and transposed.offsets.shape[0] != num_rows + 1:
        raise ValueError(
            f"`transposed` must have num_rows={num_rows} segments, "
            f"got {transposed.offsets.shape[0] - 1}; make it by transpose_table(index, num_rows)"
        )
    chosen = choose("gather_reduce_transposed", implementation, y)
    if chosen == "reference":
        return reference.gather_reduce_transposed(y, index, num_rows, weights)
    if transposed is None:
        transposed = transpose_table(index, num_rows)
    out: Tensor = _gather_reduce_transposed(y, index, weights, *transposed, chosen)
    return out


def _check(name: str, x: Tensor, index: Tensor, weights: Tensor | None) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`{name}` must be a floating-point tensor, got {kind}")
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        kind = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(f"`index` must be an int64 tensor, got {kind}; convert it with .long()")
    if x.dim() != 2 or index.dim() != 2:
        raise ValueError(
            f"`{name}` and `index` must have shapes [rows, channels] and [edges, slots], "
            f"got {list(x.shape)} and {list(index.shape)}"
        )
    if x.device != index.device:
        raise ValueError(
            f"`index` must be on the device of `{name}`, {x.device}, got {index.device}"
        )
    if weights is None:
        return
    if weights.shape != index.shape or weights.dtype != x.dtype or weights.device != x.device:
        raise ValueError(
            f"`weights` must have the shape of `index` and the dtype and device of `{name}`, "
            f"{list(index.shape)} {x.dtype} on {x.device}, "
            f"got {list(weights.shape)} {weights.dtype} on {weights.device}"
        )


@torch.library.custom_op("hypergraph_kernels::gather_reduce", mutates_args=())
def _gather_reduce(
    x: Tensor,
    index: Tensor,
    weights: Tensor | None,
    t_columns: Tensor | None,
    t_offsets: Tensor | None,
    t_order: Tensor | None,
    implementation: str,
) -> Tensor:
    if implementation == "triton":
        from hypergraph_kernels.gather_reduce import triton_kernels

        return triton_kernels.gather_reduce(x, index, weights)
    return cpu.gather_reduce(x, index, weights)


@_gather_reduce.register_fake
def _(x: Tensor, index: Tensor, *others: Any) -> Tensor:
    return x.new_empty(index.shape[0], x.shape[1])


@torch.library.custom_op("hypergraph_kernels::gather_reduce_transposed", mutates_args=())
def _gather_reduce_transposed(
    y: Tensor,
    index: Tensor,
    weights: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    t_order: Tensor | None,
    implementation: str,
) -> Tensor:
    transposed = Segments(t_columns, t_offsets, t_order)
    if implementation == "triton":
        from hypergraph_kernels.gather_reduce import triton_kernels

        return triton_kernels.gather_reduce_transposed(y, transposed, weights)
    return cpu.gather_reduce_transposed(y, transposed, weights)


@_gather_reduce_transposed.register_fake
def _(
    y: Tensor,
    index: Tensor,
    weights: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    *others: Any,
) -> Tensor:
    return y.new_empty(t_offsets.shape[0] - 1, y.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, index, weights, *transposed, ctx.implementation = inputs
    needs_features = features if ctx.needs_input_grad[2] else None
    ctx.save_for_backward(needs_features, index, weights, *transposed)


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, index, weights, *lists = ctx.saved_tensors
    transposed = Segments(*lists)
    grad_x = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_x = _gather_reduce_transposed(grad, index, weights, *transposed, ctx.implementation)
    if ctx.needs_input_grad[2]:
        grad_weights = _slot_dots(grad, x, index, transposed, ctx.implementation)
    return grad_x, None, grad_weights, None, None, None, None


def _transposed_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    y, index, weights, *lists = ctx.saved_tensors
    transposed = Segments(*lists)
    grad_y = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_y = _gather_reduce(grad, index, weights, *transposed, ctx.implementation)
    if ctx.needs_input_grad[2]:
        grad_weights = _slot_dots(y, grad, index, transposed, ctx.implementation)
    return grad_y, None, grad_weights, None, None, None, None


def _slot_dots(
    a: Tensor, b: Tensor, index: Tensor, transposed: Segments, implementation: Implementation
) -> Tensor:
    """[edges, slots] inner products ``<a[e], b[index[e, j]]>``."""
    dots = sampled_dot(a, b, table_segments(index), transposed, implementation=implementation)
    return dots.view(index.shape)


_gather_reduce.register_autograd(_gather_backward, setup_context=_save)
_gather_reduce_transposed.register_autograd(_transposed_backward, setup_context=_save)
