"""A table of slots as ragged segments, in both directions."""

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation
from hypergraph_kernels._segments import Segments, segments_from


def table_segments(index: Tensor) -> Segments:  # [edges, slots]
    """The slots of a table as segments, all of one length."""
    offsets = torch.arange(index.shape[0] + 1, device=index.device) * index.shape[1]
    return Segments(index.flatten(), offsets, None)


def transpose_table(
    index: Tensor,  # [edges, slots]
    num_rows: int,
    *,
    implementation: Implementation = "auto",
) -> Segments:
    """List, for every row, the slots of a table that name it.

    Args:
        index: [edges, slots] int64 in 0 .. num_rows - 1.
        num_rows: rows that slots may name.
        implementation: see ``segments_from``.

    Returns:
        Segments of [edges * slots] pairs: ``columns`` are edges in ascending order, ``order`` the
        places of the slots in ``index.flatten()``.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import transpose_table
        >>> transpose_table(torch.tensor([[0, 1], [1, 2]]), 3).columns
        tensor([0, 0, 1, 1])
    """
    edges = torch.arange(index.shape[0], device=index.device).unsqueeze(1).expand(index.shape)
    return segments_from(index.flatten(), edges.flatten(), num_rows, implementation=implementation)
