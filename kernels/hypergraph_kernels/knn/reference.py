"""The definition of the search: all distances, pair by pair, then a sort."""

import torch
from torch import Tensor

from hypergraph_kernels.knn._neighbors import Neighbors, finished, scaled


def search(
    points: Tensor,  # [batch, n, channels], float32 or wider
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    """Sort all rows by (distance, index), the row itself before all others."""
    points, unit = scaled(points, metric)
    n = points.shape[1]
    itself = torch.eye(n, dtype=torch.bool, device=points.device)
    distance = _distances(points, metric).masked_fill(itself, 0)
    row_mean = distance.mean(-1) if with_row_mean else None
    ordered, nearest = distance.masked_fill(itself, -torch.inf).sort(dim=-1, stable=True)
    k = min(k, n)
    if n == 0:
        row_mean = None
    return finished(nearest[..., :k], ordered[..., :k], row_mean, points, unit, metric, threshold)


def _distances(points: Tensor, metric: str) -> Tensor:
    """[batch, n, n]: equal rows have equal distances, to the bit, as no matrix product has."""
    if metric == "dot":
        return -(points.unsqueeze(2) * points.unsqueeze(1)).sum(-1)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    if metric == "euclidean":
        return distance
    zero = ~points.any(-1)  # cosine 0 with all others; of unit rows, 1 - cos = |a - b|^2 / 2
    return torch.where(zero.unsqueeze(1) | zero.unsqueeze(2), 1, distance.square() / 2)
