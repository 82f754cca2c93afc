"""Ragged segments: one direction of a sparse matrix."""

from typing import NamedTuple

import torch
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
