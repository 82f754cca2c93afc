"""The definition: gather both sides, multiply, add up."""

import torch
from torch import Tensor

from hypergraph_kernels._segments import Segments


def incidence_spmm(x: Tensor, values: Tensor | None, segments: Segments) -> Tensor:
    """``out[r] = sum over positions p of segment r of values[order[p]] * x[columns[p]]``.

    x [n, C] with values [nnz] or None; x [..., n, heads * C] with values [..., nnz, heads].
    """
    messages = x.index_select(-2, segments.columns)
    if values is not None and values.dim() == 1:
        messages = messages * in_order(values, segments).unsqueeze(-1)
    elif values is not None:
        heads = values.shape[-1]
        shares = in_order(values, segments, -2).unsqueeze(-1)
        messages = (messages.unflatten(-1, (heads, x.shape[-1] // heads)) * shares).flatten(-2)
    out = messages.new_zeros(*x.shape[:-2], segments.offsets.shape[0] - 1, x.shape[-1])
    return out.index_add(-2, rows_of(segments), messages)


def sampled_dot(a: Tensor, b: Tensor, segments: Segments, heads: int | None = None) -> Tensor:
    """``out[order[p]] = <a[r], b[columns[p]]>`` for every position p of every segment r."""
    products = a.index_select(-2, rows_of(segments)) * b.index_select(-2, segments.columns)
    if heads is None:
        dots = products.sum(-1)
        return out_of_order(dots, segments, -1)
    dots = products.unflatten(-1, (heads, a.shape[-1] // heads)).sum(-1)
    return out_of_order(dots, segments, -2)


def rows_of(segments: Segments) -> Tensor:
    """[nnz] the segment of every position."""
    position = torch.arange(segments.columns.shape[0], device=segments.columns.device)
    return torch.searchsorted(segments.offsets, position, right=True) - 1


def in_order(values: Tensor, segments: Segments, dim: int = 0) -> Tensor:
    """The caller's values in the order of the positions."""
    return values if segments.order is None else values.index_select(dim, segments.order)


def out_of_order(values: Tensor, segments: Segments, dim: int = 0) -> Tensor:
    """Values of the positions in the caller's order."""
    if segments.order is None:
        return values
    return torch.zeros_like(values).index_copy(dim, segments.order, values)
