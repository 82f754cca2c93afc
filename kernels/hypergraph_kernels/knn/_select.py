"""From tiles of ordinals to the few candidates of every row.

An ordinal orders the candidates of a row like their distance: minus the inner product, or half the
squared distance.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_GROUPS = 128  # at least so many minima per row, where it is long enough
_BOUNDING = 128  # at least so many, of twice as large groups, bound its best
_FEW = 2  # groups of so few entries cost more to look at than the entries themselves


class Selection(NamedTuple):
    """Entries of a tile, in the order of its rows."""

    row: Tensor
    column: Tensor
    ordinal: Tensor
    bound: Tensor
    """[rows] what the entries were compared with."""


def select_tile(
    tile: Tensor,  # [rows, columns], contiguous or the transpose of such
    bound: Tensor,  # [rows]
    wanted: int,
    slack: Tensor | None = None,  # [rows]
) -> Selection:
    """Find all entries at or below the bound of their row.

    With ``slack``, the bound is first lowered to what at least ``wanted`` entries of the row are at
    or below, plus the slack. Every entry is read once, for the minima of groups of entries; then
    only groups whose minimum is low enough are looked at.
    """
    rows, columns = tile.shape
    size = _group_size(columns, wanted)
    groups = columns // size
    if tile.is_contiguous():
        minima = tile.view(rows, size, groups).amin(1)
        flat, across, down = tile.view(-1), 1, columns
    else:
        minima = tile.mT.view(size, groups, rows).amin(0).mT.contiguous()
        flat, across, down = tile.mT.view(-1), rows, 1
    if slack is not None:
        few = minima
        while few.shape[1] % 2 == 0 and few.shape[1] // 2 >= max(_BOUNDING, 2 * wanted):
            few = few.view(rows, 2, -1).amin(1)
        lowest = few.topk(wanted, largest=False, sorted=False).values.amax(-1)
        bound = torch.minimum(bound, lowest + slack)
    if size <= _FEW:
        row, column = (tile <= bound[:, None]).nonzero().unbind(1)
        place = row * down + column * across
        return Selection(row, column, flat.index_select(0, place), bound)
    row, group = (minima <= bound[:, None]).nonzero().unbind(1)
    step = torch.arange(size, device=tile.device) * groups
    place = (row * down + group * across)[:, None] + step * across
    entries = flat.index_select(0, place.view(-1)).view(-1, size)
    which, member = (entries <= bound.index_select(0, row)[:, None]).nonzero().unbind(1)
    ordinal = entries.view(-1).index_select(0, which * size + member)
    column = group.index_select(0, which) + step.index_select(0, member)
    return Selection(row.index_select(0, which), column, ordinal, bound)


def _group_size(columns: int, wanted: int) -> int:
    """Entries per group: few enough groups to pay, enough of them to bound ``wanted`` closely."""
    for size in (16, 8, 4, 2):
        if columns % size == 0 and columns // size >= max(_GROUPS, 2 * wanted):
            return size
    return 1


class Candidates:
    """The candidates of some rows, in the order in which tiles brought them."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self.ordinal = like.new_empty(rows, 0)
        self.column = torch.empty(rows, 0, dtype=torch.int64, device=like.device)
        self._filled = torch.zeros(rows, dtype=torch.int64, device=like.device)

    def add(self, row: Tensor, column: Tensor, ordinal: Tensor) -> int:
        """Append entries that stand in the order of their rows; return the longest row's count."""
        rows = self.ordinal.shape[0]
        numbers = torch.arange(rows + 1, device=row.device)
        starts = torch.searchsorted(row, numbers)
        filled = self._filled + starts.diff()
        width = int(filled.max())
        self._widen(width)
        first = self._filled - starts[:-1] + numbers[:-1] * self.ordinal.shape[1]
        place = first.index_select(0, row) + torch.arange(row.shape[0], device=row.device)
        self.ordinal.view(-1).scatter_(0, place, ordinal)
        self.column.view(-1).scatter_(0, place, column)
        self._filled = filled
        return width

    def _widen(self, width: int) -> None:
        rows, have = self.ordinal.shape
        if width <= have:
            return
        ordinal = self.ordinal.new_full((rows, width), torch.inf)
        column = self.column.new_zeros(rows, width)
        ordinal[:, :have], column[:, :have] = self.ordinal, self.column
        self.ordinal, self.column = ordinal, column

    def sort(self) -> None:
        """Put the candidates of every row in the order of (ordinal, column)."""
        self.ordinal, self.column = by_ordinal(self.ordinal, self.column)

    def cut(self, wanted: int, bound: Tensor, slack: Tensor) -> Tensor:
        """Sort, drop what is beyond the best ``wanted`` plus slack, and return the new bound."""
        self.sort()
        if self.ordinal.shape[1] < wanted:
            return bound
        bound = torch.minimum(bound, self.ordinal[:, wanted - 1] + slack)
        self._filled = (self.ordinal <= bound[:, None]).sum(-1)
        width = int(self._filled.max())
        self.ordinal = self.ordinal[:, :width].clone()
        self.column = self.column[:, :width].clone()
        return bound

    def drop(self, most: int) -> Tensor:
        """Forget rows that have more candidates than that, and say which."""
        long = self._filled > most
        self._filled = self._filled.masked_fill(long, 0)
        self.ordinal = self.ordinal[:, :most].masked_fill(long[:, None], torch.inf)
        self.column = self.column[:, :most].clone()
        return long


def by_ordinal(ordinal: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Both [rows, width], every row in the order of (ordinal, column)."""
    if ordinal.dtype != torch.float32:
        column, order = column.sort(dim=-1)
        ordinal, rank = ordinal.gather(-1, order).sort(dim=-1, stable=True)
        return ordinal, column.gather(-1, rank)
    # One integer per candidate: the bits of a float32 (-0 made 0) with the order of their values,
    # then the column.
    bits = (ordinal + 0.0).view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys, order = ((bits.long() << 32) | column).sort(dim=-1)
    return ordinal.gather(-1, order), keys & 0xFFFFFFFF
