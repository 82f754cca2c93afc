"""The search through the compiled path."""

import torch
from torch import Tensor

from hypergraph_kernels.compiled import MAX_NEIGHBORS, nearest_by_cosine
from hypergraph_kernels.knn._neighbors import Neighbors

_MOST_ROWS = 1 << 23  # pairs of blocks of 256 rows are counted in 32 bits


def fits(n: int, k: int, metric: str, with_row_mean: bool) -> bool:
    """Tell whether the compiled path takes such a search."""
    if metric != "cosine" or with_row_mean:
        return False
    return 1 < n <= _MOST_ROWS and min(k, n) <= MAX_NEIGHBORS


def search(
    points: Tensor,  # [batch, n, channels], float32 on a CPU
    k: int,
    threshold: float | None,
) -> Neighbors:
    """Search one sample after the other, each with all threads."""
    samples, n, _ = points.shape
    k = min(k, n)
    nearest = torch.empty(samples, n, k, dtype=torch.int64)
    distance = torch.empty(samples, n, k)
    for x, near, far in zip(points.contiguous(), nearest, distance, strict=True):
        nearest_by_cosine(x, k, threshold, out=(near, far))
    row_mean = distance.new_zeros(samples, n)
    if threshold is None:
        return Neighbors(nearest, distance, torch.ones_like(nearest, dtype=torch.bool), row_mean)
    kept = distance <= threshold
    kept[..., 0] = True
    return Neighbors(torch.where(kept, nearest, nearest[..., :1]), distance, kept, row_mean)
