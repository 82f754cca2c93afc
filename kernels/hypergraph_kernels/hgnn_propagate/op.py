"""The HGNN operator of a fixed hypergraph as one op, whose backward is itself.

``S = D H B H^T D`` with diagonal D (``node_scale``) and B (``edge_scale``) is symmetric: the
gradient of ``S z`` is S times the gradient that comes in. So nothing is saved but indices and
scales (and the output where an activation follows).
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.gather_reduce._table import table_segments
from hypergraph_kernels.hgnn_propagate import compiled, cpu, reference

Activation = Literal["elu"]


def hgnn_propagate(
    z: Tensor,  # [num_nodes, channels]
    by_edge: Tensor | Segments,
    by_node: Segments,
    edge_scale: Tensor | float = 1.0,  # [num_edges]
    node_scale: Tensor | None = None,  # [num_nodes]
    values: Tensor | None = None,  # [nnz]
    bias: Tensor | None = None,  # [channels]
    activation: Activation | None = None,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Smooth features over a hypergraph whose weights are constants.

    ``out = act(node_scale * (H (edge_scale * (H^T (node_scale * z)))) + bias)``

    With ``node_scale = D_v^-1/2`` and ``edge_scale = W D_e^-1`` it is the propagation of HGNN (Feng
    et al., https://arxiv.org/abs/1809.09401, Eq. 11). A batch is one call, its vertices and
    hyperedges numbered through the samples.

    Args:
        z: [num_nodes, channels], any floating dtype; the scales, values and bias have the same.
        by_edge: the members of every hyperedge: a table [num_edges, slots] int64, or segments.
        by_node: the same pairs grouped by vertex, ``transpose_table(by_edge, num_nodes)`` for a
            table. Indices are not checked.
        edge_scale: [num_edges], or one number for all.
        node_scale: [num_nodes]; None for ones.
        values: [nnz] incidence values, slot by slot for a table, else in the caller's order; None
            for ones.
        bias: [channels], added to the result.
        activation: ``"elu"`` or None.
        implementation: which code runs; ``"auto"`` chooses.

    Returns:
        [num_nodes, channels]. Differentiable any number of times with respect to ``z`` and
        ``bias``; the scales and values count as constants.

    Raises:
        ValueError, TypeError: a shape, dtype or device does not fit, a scale or value needs a
            gradient (compose ``incidence_spmm`` instead), or the implementation cannot run.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import hgnn_propagate, transpose_table
        >>> table = torch.tensor([[0, 1], [1, 2]])
        >>> z = torch.tensor([[2.0], [4.0], [8.0]])
        >>> hgnn_propagate(z, table, transpose_table(table, 3), edge_scale=0.5).flatten()
        tensor([3., 9., 6.])
    """
    _check(z, by_edge, by_node, edge_scale, node_scale, values, bias, activation)
    chosen = choose("hgnn_propagate", implementation, z, compiled=True)
    if chosen == "reference":
        segments = table_segments(by_edge) if isinstance(by_edge, Tensor) else by_edge
        values = None if values is None else values.flatten()
        return reference.hgnn_propagate(
            z, segments, edge_scale, node_scale, values, bias, activation
        )
    lists = (by_edge, None, None) if isinstance(by_edge, Tensor) else by_edge
    scale, factor = (edge_scale, 1.0) if isinstance(edge_scale, Tensor) else (None, edge_scale)
    constants = (*lists, *by_node, scale, float(factor), node_scale, values)
    out: Tensor = _hgnn_propagate(z, bias, activation, *constants, chosen)
    return out


def _check(
    z: Tensor,
    by_edge: Tensor | Segments,
    by_node: Segments,
    edge_scale: Tensor | float,
    node_scale: Tensor | None,
    values: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        kind = z.dtype if isinstance(z, Tensor) else type(z).__name__
        raise TypeError(f"`z` must be a floating-point tensor, got {kind}")
    if z.dim() != 2 or by_node.offsets.shape[0] != z.shape[0] + 1:
        raise ValueError(
            f"`z` must have shape [{by_node.offsets.shape[0] - 1}, channels], one row per segment "
            f"of `by_node`, got {list(z.shape)}"
        )
    if activation not in (None, *get_args(Activation)):
        raise ValueError(f"`activation` must be None or 'elu', got {activation!r}")
    table = isinstance(by_edge, Tensor)
    columns = by_edge if isinstance(by_edge, Tensor) else by_edge.columns
    if columns.dtype != torch.int64 or columns.dim() != (2 if table else 1):
        raise ValueError(
            "`by_edge` must be an int64 table [num_edges, slots] or segments, "
            f"got {columns.dtype} {list(columns.shape)}"
        )
    if columns.numel() != by_node.columns.shape[0]:
        raise ValueError(
            f"`by_node` must hold the pairs of `by_edge`, {columns.numel()}, "
            f"got {by_node.columns.shape[0]}"
        )
    num_edges = columns.shape[0] if isinstance(by_edge, Tensor) else by_edge.offsets.shape[0] - 1
    _check_like("node_scale", node_scale, [[z.shape[0]]], z)
    _check_like("values", values, [[columns.numel()], list(columns.shape)], z)
    _check_like("bias", bias, [[z.shape[1]]], z)
    if isinstance(edge_scale, Tensor):
        _check_like("edge_scale", edge_scale, [[num_edges]], z)
    constants = {"edge_scale": edge_scale, "node_scale": node_scale, "values": values}
    for name, constant in constants.items():
        if isinstance(constant, Tensor) and constant.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"`{name}` must not require a gradient, which this op has not; "
                "compose incidence_spmm for that, or pass it detached"
            )


def _check_like(name: str, tensor: Tensor | None, shapes: list[list[int]], z: Tensor) -> None:
    if tensor is None:
        return
    if list(tensor.shape) not in shapes or tensor.dtype != z.dtype or tensor.device != z.device:
        raise ValueError(
            f"`{name}` must have shape {shapes[0]} and the dtype and device of `z`, {z.dtype} on "
            f"{z.device}, got {list(tensor.shape)} {tensor.dtype} on {tensor.device}"
        )


@torch.library.custom_op("hypergraph_kernels::hgnn_propagate", mutates_args=())
def _hgnn_propagate(
    z: Tensor,
    bias: Tensor | None,
    activation: str | None,
    columns: Tensor,  # [num_edges, slots], or [nnz] with
    offsets: Tensor | None,
    order: Tensor | None,
    t_columns: Tensor,
    t_offsets: Tensor,
    t_order: Tensor | None,
    edge_scale: Tensor | None,
    factor: float,
    node_scale: Tensor | None,
    values: Tensor | None,
    implementation: str,
) -> Tensor:
    by_edge = columns if offsets is None else Segments(columns, offsets, order)
    by_node = Segments(t_columns, t_offsets, t_order)
    values = None if values is None else values.flatten()
    given = (z, by_edge, by_node, edge_scale, factor, node_scale, values, bias, activation)
    if implementation == "triton":
        from hypergraph_kernels.hgnn_propagate import triton_kernels

        return triton_kernels.hgnn_propagate(*given)
    if implementation == "compiled":
        return compiled.hgnn_propagate(*given)
    return cpu.hgnn_propagate(*given)


@_hgnn_propagate.register_fake
def _(z: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(z, memory_format=torch.contiguous_format)


_CONSTANTS = 11  # arguments after `activation`


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, ctx.activation, *constants = inputs
    ctx.plain = [None if isinstance(item, Tensor) else item for item in constants]
    tensors = [item if isinstance(item, Tensor) else None for item in constants]
    ctx.save_for_backward(output if ctx.activation else None, *tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    output, *tensors = ctx.saved_tensors
    grad_z = grad_bias = None
    if ctx.activation == "elu":
        grad = torch.ops.aten.elu_backward(grad, 1, 1, 1, True, output)
    if ctx.needs_input_grad[0]:
        pairs = zip(tensors, ctx.plain, strict=True)
        constants = [item if tensor is None else tensor for tensor, item in pairs]
        grad_z = _hgnn_propagate(grad, None, None, *constants)
    if ctx.needs_input_grad[1]:
        grad_bias = grad.sum(0)
    return grad_z, grad_bias, *([None] * (1 + _CONSTANTS))


_hgnn_propagate.register_autograd(_backward, setup_context=_save)
