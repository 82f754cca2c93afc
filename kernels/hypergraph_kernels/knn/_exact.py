"""The last step of the search: distances of the sorted candidates, again where they are close."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels.knn._select import by_ordinal

_PAIRS_PER_CHUNK = 1 << 14


@dataclass(frozen=True)
class Points:
    """Scaled points and how far they are apart (squared for ``"euclidean"``)."""

    rows: Tensor  # [samples * n, channels]
    zero: Tensor  # [samples * n] rows without a direction
    metric: str

    def distance(self, ordinal: Tensor) -> Tensor:
        """From what tiles hold."""
        if self.metric == "cosine":
            return ordinal + 1
        return ordinal * 2 if self.metric == "euclidean" else ordinal.clone()

    def exact(self, left: Tensor, right: Tensor) -> Tensor:
        """Summed pair by pair, in the same order for every pair."""
        values = []
        for i, j in zip(left.split(_PAIRS_PER_CHUNK), right.split(_PAIRS_PER_CHUNK), strict=True):
            a, b = self.rows.index_select(0, i), self.rows.index_select(0, j)
            if self.metric == "dot":
                values.append(-(a * b).sum(-1))
                continue
            squares = (a - b).square_().sum(-1)
            if self.metric == "cosine":  # of unit rows: exactly 0 for equal ones, unlike 1 - cos
                squares = torch.where(self.zero[i] | self.zero[j], 1, squares / 2)
            values.append(squares)
        return torch.cat(values)


@dataclass(frozen=True)
class Rows:
    """Rows whose candidates are ranked together."""

    row: Tensor  # [rows] index among the points of all samples
    itself: Tensor  # [rows] index in its sample
    rounding: Tensor  # [rows] how far two equal ordinals may lie apart in a tile
    limit: Tensor | None  # [rows] the threshold as an ordinal


def ranked(
    ordinal: Tensor,  # [rows, width] sorted, infinity behind the last candidate
    column: Tensor,  # [rows, width]
    wanted: int,
    rows: Rows,
    points: Points,
) -> tuple[Tensor, Tensor]:
    """Return [rows, wanted] columns and distances (squared ones for ``"euclidean"``).

    Candidates closer together than rounding are computed again, pair by pair. Bitwise ties already
    stand in the order of their columns (all of them, on zero rows).
    """
    missing = wanted - ordinal.shape[1]
    if missing > 0:
        ordinal = F.pad(ordinal, (0, missing), value=torch.inf)
        column = F.pad(column, (0, missing))
    rounding = rows.rounding[:, None]
    # What is farther than rounding beyond the last place is no rival for it.
    reach = (ordinal[:, wanted - 1 : wanted] + rounding).clamp_max(torch.finfo(ordinal.dtype).max)
    width = ordinal.shape[1]
    if width > 2 * wanted:
        width = max(wanted, int(((ordinal - reach).amin(0) <= 0).sum()))
        ordinal, column = ordinal[:, :width], column[:, :width]
    distance = points.distance(ordinal)
    gaps = ordinal.diff(dim=-1)
    # What is farther than rounding from its neighbours keeps its place, whatever the exact value.
    unclear = ((gaps > 0) & (gaps <= rounding) & (ordinal[:, 1:] <= reach)).any(-1)
    if points.metric != "dot":  # of equal rows and the like, rounding is all there is
        unclear |= distance[:, 0] <= 2 * rows.rounding
    if rows.limit is not None:
        column = torch.where(ordinal.isfinite(), column, rows.itself[:, None])
        unclear |= ((ordinal - rows.limit[:, None]).abs() <= rounding).any(-1)
    again = unclear.nonzero().squeeze(-1)
    if again.shape[0] == 0:
        return column[:, :wanted], distance[:, :wanted]
    near, rounding = ordinal.index_select(0, again), rounding.index_select(0, again)
    tight = (gaps.index_select(0, again) <= rounding) & (
        near[:, 1:] <= reach.index_select(0, again)
    )
    close = F.pad(tight, (1, 0)) | F.pad(tight, (0, 1))
    if points.metric != "dot":
        close |= distance.index_select(0, again) <= 2 * rounding
    if rows.limit is not None:
        close |= (near - rows.limit.index_select(0, again)[:, None]).abs() <= rounding
    which, slot = close.nonzero().unbind(1)
    which = again.index_select(0, which)
    row, itself = rows.row.index_select(0, which), rows.itself.index_select(0, which)
    distance[which, slot] = points.exact(row, row - itself + column[which, slot])
    new = by_ordinal(distance.index_select(0, again), column.index_select(0, again))
    distance = distance[:, :wanted].index_copy(0, again, new[0][:, :wanted])
    return column[:, :wanted].index_copy(0, again, new[1][:, :wanted]), distance
