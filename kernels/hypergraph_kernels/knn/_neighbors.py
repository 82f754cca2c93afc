"""What implementations of the search share: its result, the scale of points, its last step."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["cosine", "euclidean", "dot"]


class Neighbors(NamedTuple):
    """Neighbours of every row, nearest first, the row itself at position 0."""

    nearest: Tensor
    """[..., n, k] int64. Where ``kept`` is False the entry repeats the row itself."""
    distance: Tensor
    """[..., n, k] distances in the dtype the search ran in (at least float32)."""
    kept: Tensor
    """[..., n, k] bool: False for neighbours beyond the threshold."""
    row_mean: Tensor
    """[..., n] mean distance to all n rows, the row itself (distance 0) included."""


def scaled(points: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Points whose squares neither overflow nor vanish, and the unit [batch, 1, 1] of distances.

    The scale is a power of two, so that nothing is rounded: one per row for ``"cosine"``, whose
    distances do not depend on it, and one for all rows of a sample otherwise. Rows are of length
    one, or zero, for ``"cosine"``.
    """
    unit = points.new_ones(points.shape[0], 1, 1)
    if points.numel() == 0:
        return points, unit
    sizes = points.abs().amax(-1, keepdim=True)
    largest = sizes if metric == "cosine" else sizes.amax(1, keepdim=True)
    # Half the exponent twice: its power of two may itself be out of range.
    half = torch.frexp(largest).exponent.div(2, rounding_mode="floor")
    root = torch.ldexp(torch.ones_like(largest), half)
    points = points / root / root
    if metric == "cosine":
        return F.normalize(points, dim=-1, eps=torch.finfo(points.dtype).tiny), unit
    return points, root * root if metric == "euclidean" else (root * root).square()


def finished(
    nearest: Tensor,  # [batch, n, k]
    distance: Tensor,  # [batch, n, k], of scaled points; anything at position 0
    row_mean: Tensor | None,  # [batch, n]
    points: Tensor,  # [batch, n, channels], scaled
    unit: Tensor,  # [batch, 1, 1]
    metric: str,
    threshold: float | None,
) -> Neighbors:
    """Give distances their unit and mark what is kept."""
    own = -points.square().sum(-1) if metric == "dot" else points.new_zeros(points.shape[:2])
    distance = torch.cat([own.unsqueeze(-1), distance[..., 1:]], -1) * unit
    kept = torch.ones_like(nearest, dtype=torch.bool)
    if threshold is not None:
        beyond = distance[..., 1:] > threshold
        kept = torch.cat([kept[..., :1], ~beyond], -1)
        nearest = torch.where(kept, nearest, nearest[..., :1])
    means = torch.zeros_like(own) if row_mean is None else row_mean * unit.squeeze(-1)
    return Neighbors(nearest, distance, kept, means)
