"""Sorting pairs by row."""

import torch
from torch import Tensor

from hypergraph_kernels.compiled._library import library, pointer


def sort_pairs(
    rows: Tensor,  # [nnz]
    columns: Tensor,  # [nnz]
    num_rows: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort (row, column) pairs by row; inside a row the caller's order is kept.

    Args:
        rows: [nnz] int64 in 0 .. num_rows - 1, contiguous, on a CPU.
        columns: [nnz] int64, likewise.
        num_rows: rows, empty ones included.

    Returns:
        columns [nnz] in the new order, offsets [num_rows + 1] of every row's first pair, and
        order [nnz]: where the caller's list holds each pair.

    Raises:
        IndexError: a row is out of range.
    """
    nnz = rows.shape[0]
    sorted_columns, order = torch.empty_like(columns), torch.empty_like(rows)
    offsets = rows.new_empty(num_rows + 1)
    int64 = torch.int64
    failed = library().hgk_sort_pairs(
        pointer(rows, int64),
        pointer(columns, int64),
        nnz,
        num_rows,
        pointer(sorted_columns, int64),
        pointer(offsets, int64),
        pointer(order, int64),
    )
    if failed:
        raise IndexError(f"`rows` must lie in 0 .. {num_rows - 1}, got an entry outside")
    return sorted_columns, offsets, order
