"""Tables of separate samples as one table over the vertices of a flat list."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph.incidence import NeighborTable


def joined_tables(
    construct: Callable[[Tensor], NeighborTable],
    x: Tensor,  # [N, C]
    batch: Tensor,  # [N]
) -> NeighborTable:
    """Build a table per sample and stack their rows, sample by sample.

    Args:
        construct: features [n, C] of one sample -> its table.
        x: features of all samples, in any order.
        batch: the sample of every vertex.

    Returns:
        One table over all vertices, as wide as the widest, with a mask.
    """
    order = batch.argsort(stable=True)
    sizes = torch.bincount(batch).tolist() if batch.numel() else [0]
    tables, rows = [], []
    first = 0
    for size in sizes:
        own = order[first : first + size]
        tables.append(construct(x[own]))
        rows.append(own)
        first += size
    width = max(table.index.shape[-1] for table in tables)
    index, mask, weights = [], [], []
    for table, own in zip(tables, rows, strict=True):
        padding = (0, width - table.index.shape[-1])
        members = own[table.index] if own.numel() else torch.zeros_like(table.index)
        kept = torch.ones_like(table.index, dtype=torch.bool) if table.mask is None else table.mask
        index.append(F.pad(members, padding))
        mask.append(F.pad(kept, padding))
        if table.weights is not None:
            weights.append(F.pad(table.weights, padding))
    joined = torch.cat(weights) if weights else None
    return NeighborTable(torch.cat(index), x.shape[0], joined, torch.cat(mask))
