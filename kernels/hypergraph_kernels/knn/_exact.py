"""The last step of the search: distances of the sorted candidates, again where they are close."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels.knn._select import by_ordinal

_PAIRS_PER_CHUNK = 1 << 14


class Rows(NamedTuple):
    """Rows whose candidates are ranked together."""

    itself: Tensor
    """[rows] every row's index in its sample."""
    first: Tensor
    """[rows] where its sample begins in the points of all samples."""
    rounding: Tensor
    """[rows] how far two equal ordinals may lie apart in a tile."""
    limit: Tensor | None
    """[rows] the threshold as an ordinal."""


def ranked(
    ordinal: Tensor,  # [rows, width] sorted, infinity behind the last candidate
    column: Tensor,  # [rows, width]
    wanted: int,
    rows: Rows,
    points: Tensor,  # [samples * n, channels]
    metric: str,
) -> tuple[Tensor, Tensor]:
    """Return [rows, wanted] columns and distances (squared ones for ``"euclidean"``).

    Candidates closer together than rounding are computed again, pair by pair. Bitwise ties already
    stand in the order of their columns (all of them, on zero rows).
    """
    missing = wanted - ordinal.shape[1]
    if missing > 0:
        ordinal = F.pad(ordinal, (0, missing), value=torch.inf)
        column = F.pad(column, (0, missing))
    near, distance = column[:, :wanted], _distance(ordinal[:, :wanted], metric)
    rounding = rows.rounding[:, None]
    beyond = ordinal[:, wanted:] - ordinal[:, wanted - 1 : wanted]  # does one of these compete?
    gaps = torch.cat([ordinal[:, :wanted].diff(dim=-1), beyond], -1)
    close = (gaps > 0) & (gaps <= rounding)
    if metric != "dot":  # of equal rows and the like, rounding is all there is
        close = torch.cat([close, distance <= 2 * rounding], -1)
    if rows.limit is not None:
        near = torch.where(distance.isfinite(), near, rows.itself[:, None])
        at = (ordinal[:, :wanted] - rows.limit[:, None]).abs() <= rounding
        close = torch.cat([close, at], -1)
    unclear = close.any(-1).nonzero().squeeze(-1)
    if unclear.shape[0] == 0:
        return near, distance
    again, exact = _looked_at_again(ordinal, column, wanted, rows, unclear, points, metric)
    return near.index_copy(0, unclear, again), distance.index_copy(0, unclear, exact)


def _looked_at_again(
    ordinal: Tensor,
    column: Tensor,
    wanted: int,
    rows: Rows,
    unclear: Tensor,  # which of the rows
    points: Tensor,
    metric: str,
) -> tuple[Tensor, Tensor]:
    """Columns and distances of unclear rows."""
    ordinal, column = ordinal[unclear], column[unclear]
    rounding, itself = rows.rounding[unclear][:, None], rows.itself[unclear][:, None]
    competing = ordinal <= ordinal[:, wanted - 1 : wanted] + rounding
    width = max(wanted, int(competing.sum(-1).max()))
    ordinal, column = ordinal[:, :width], column[:, :width]
    # What is farther than rounding from its neighbours keeps its place, whatever the exact value.
    near = F.pad(ordinal.diff(dim=-1) <= rounding, (1, 1))
    close = near[:, 1:] | near[:, :-1]
    distance = _distance(ordinal, metric)
    if metric != "dot":
        close |= distance <= 2 * rounding
    if rows.limit is not None:
        close |= (ordinal - rows.limit[unclear][:, None]).abs() <= rounding
    which, slot = (close & ordinal.isfinite()).nonzero().unbind(1)
    first = rows.first[unclear].index_select(0, which)
    left = first + itself.squeeze(-1).index_select(0, which)
    right = first + column[which, slot]
    distance[which, slot] = _exact_distances(points, left, right, metric)
    distance, column = by_ordinal(distance, column)
    if rows.limit is not None:
        column = torch.where(distance.isfinite(), column, itself)
    return column[:, :wanted], distance[:, :wanted]


def _distance(ordinal: Tensor, metric: str) -> Tensor:
    if metric == "cosine":
        return ordinal + 1
    return ordinal * 2 if metric == "euclidean" else ordinal.clone()


def _exact_distances(points: Tensor, left: Tensor, right: Tensor, metric: str) -> Tensor:
    """Distances summed pair by pair, in the same order for every pair."""
    values = []
    for i, j in zip(left.split(_PAIRS_PER_CHUNK), right.split(_PAIRS_PER_CHUNK), strict=True):
        a, b = points.index_select(0, i), points.index_select(0, j)
        if metric == "dot":
            values.append(-(a * b).sum(-1))
            continue
        squares = (a - b).square_().sum(-1)
        if metric == "cosine":  # of unit vectors: exactly 0 for equal rows, unlike 1 - cos
            zero = ~(a.any(-1) & b.any(-1))
            squares = torch.where(zero, 1, squares / 2)
        values.append(squares)
    return torch.cat(values)
