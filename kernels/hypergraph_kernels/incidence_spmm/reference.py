"""The definition: gather both sides, multiply, add up."""

import torch
from torch import Tensor

from hypergraph_kernels._segments import Segments


def incidence_spmm(x: Tensor, values: Tensor | None, segments: Segments) -> Tensor:
    """``out[r] = sum over positions p of segment r of values[order[p]] * x[columns[p]]``."""
    messages = x[segments.columns]
    if values is not None:
        messages = messages * in_order(values, segments).unsqueeze(-1)
    out = messages.new_zeros(segments.offsets.shape[0] - 1, x.shape[-1])
    return out.index_add(0, rows_of(segments), messages)


def sampled_dot(a: Tensor, b: Tensor, segments: Segments) -> Tensor:
    """``out[order[p]] = <a[r], b[columns[p]]>`` for every position p of every segment r."""
    dots = (a[rows_of(segments)] * b[segments.columns]).sum(-1)
    if segments.order is None:
        return dots
    return torch.zeros_like(dots).scatter(0, segments.order, dots)


def rows_of(segments: Segments) -> Tensor:
    """[nnz] the segment of every position."""
    position = torch.arange(segments.columns.shape[0], device=segments.columns.device)
    return torch.searchsorted(segments.offsets, position, right=True) - 1


def in_order(values: Tensor, segments: Segments) -> Tensor:
    """The caller's values in the order of the positions."""
    return values if segments.order is None else values[segments.order]
