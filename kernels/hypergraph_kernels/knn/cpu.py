"""The search in plain PyTorch.

The matrix of all inner products is symmetric: one square tile of it serves its rows and, read down
its columns, the rows that those stand for. Every row keeps a bound on its k-th best, and of every
tile only the few entries below the bounds are looked at (``select_tile``).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels.knn._exact import Points, Rows, ranked
from hypergraph_kernels.knn._neighbors import Neighbors, finished, scaled
from hypergraph_kernels.knn._select import Candidates, select_tile

_TILE_ELEMENTS = 1 << 21  # ordinals alive at a time: 8 MiB of float32
_TOGETHER = 1 << 18  # entries of several samples' tiles that stay in a cache
_GROUPED = 16  # long rows come in multiples of this, so that they divide into groups
_MOST_CANDIDATES = 8  # times k, or the row is searched by itself
_HALVED = 128  # channels from which half of a symmetric product is worth a transposed copy
_SMALLEST_PRODUCT = 256


@dataclass(frozen=True)
class _Task:
    """Scaled samples, and what ranks their rows.

    Ordinals are ``-left @ right^T``: minus the inner product, or half the squared distance.
    """

    points: Points
    n: int
    left: Tensor  # [samples, n or some more, channels or 2 more]
    right: Tensor  # likewise
    rounding: Tensor  # [samples, n or some more]
    bound: Tensor  # the same: no neighbour lies beyond; -inf for rows that are not there
    limit: Tensor | None  # [samples, n]: the threshold as an ordinal
    wanted: int  # neighbours other than the row itself, at least one
    distance_sum: Tensor | None  # [samples, n or some more], where means need every distance

    def rank(
        self, ordinal: Tensor, column: Tensor, sample: slice, rows: slice | Tensor
    ) -> tuple[Tensor, Tensor]:
        """The nearest of sorted candidates, and their distances."""
        samples, n = sample.stop - sample.start, self.n
        itself = torch.arange(n, device=ordinal.device)[rows]
        row = itself + sample.start * n
        if samples > 1:
            row = torch.arange(sample.start * n, sample.stop * n, device=ordinal.device)
            row = row.view(samples, n)[:, rows].flatten()
            itself = row % n
        rounding = self.rounding[sample, :n][:, rows].flatten()
        limit = None if self.limit is None else self.limit[sample][:, rows].flatten()
        which = Rows(row, itself, rounding, limit)
        return ranked(ordinal, column, self.wanted, which, self.points)


_Found = tuple[slice, slice | Tensor, Tensor, Tensor]  # samples, rows, columns, distances


def search(
    points: Tensor,  # [batch, n, channels]
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    """Search in tiles of bounded size."""
    samples, n, _ = points.shape
    k = min(k, n)
    if samples * n == 0:
        empty = points.new_zeros(samples, n, k)
        return Neighbors(empty.long(), empty, empty.bool(), points.new_zeros(samples, n))
    # Few samples at a time, so that what is made of them stays in a cache.
    together = max(1, min(_TOGETHER, _TILE_ELEMENTS) // (n * n))
    parts = [
        _search_some(some, k, metric, threshold, with_row_mean) for some in points.split(together)
    ]
    return parts[0] if len(parts) == 1 else Neighbors(*map(torch.cat, zip(*parts, strict=True)))


def _search_some(
    points: Tensor,  # [samples, n, channels]
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    samples, n, _ = points.shape
    points, unit = scaled(points, metric)
    task = _task(points, k, metric, None if threshold is None else threshold / unit, with_row_mean)
    near = torch.arange(n, device=points.device).view(1, n, 1).repeat(samples, 1, k)
    distance = points.new_zeros(samples, n, k)
    if n > 1 and (k > 1 or task.distance_sum is not None):
        for sample, rows, index, found in _search(task):
            shape = near[sample, rows, 1:].shape
            near[sample, rows, 1:] = index[:, : k - 1].view(shape)
            distance[sample, rows, 1:] = found[:, : k - 1].view(shape)
    if metric == "euclidean":
        distance = distance.clamp_min(0).sqrt()
    elif metric == "cosine":
        distance = distance.clamp_min(0)
    mean = _row_mean(points, metric, task.distance_sum) if with_row_mean else None
    return finished(near, distance, mean, points, unit, metric, threshold)


def _task(
    points: Tensor, k: int, metric: str, threshold: Tensor | None, with_row_mean: bool
) -> _Task:
    samples, n, channels = points.shape
    right = points
    if metric == "euclidean":
        # Distances of differences do not depend on the origin, but their rounding does.
        right = points - points.mean(1, keepdim=True)
    squares = right.square().sum(-1)
    largest = squares.amax(-1, keepdim=True)
    if metric == "cosine":
        scale = torch.ones_like(squares)
    elif metric == "dot":
        scale = (squares * largest).sqrt()
    else:
        scale = (squares + largest) / 2
    rounding = scale * (4 * torch.finfo(points.dtype).eps * max(channels, 1) ** 0.5)
    limit, bound = None, torch.full_like(squares, torch.inf)
    if threshold is not None:
        ordinal = {"cosine": threshold - 1, "euclidean": threshold * threshold.abs() / 2}
        limit = ordinal.get(metric, threshold).view(samples, 1).expand(samples, n)
        bound = limit + rounding
    left = right
    if metric == "euclidean":
        half, one = squares.unsqueeze(-1) / 2, torch.ones_like(squares.unsqueeze(-1))
        left, right = torch.cat([right, -half, -one], -1), torch.cat([right, one, half], -1)
    more = -n % _GROUPED if n > 8 * _GROUPED else 0
    if more:
        same = left is right
        right = F.pad(right, (0, 0, 0, more))
        left = right if same else F.pad(left, (0, 0, 0, more))
        rounding = F.pad(rounding, (0, more))
        bound = F.pad(bound, (0, more), value=-torch.inf)
    every = with_row_mean and metric == "euclidean"
    distance_sum = torch.zeros_like(bound) if every else None
    found = Points(points.flatten(0, 1), squares.flatten() == 0, metric)
    return _Task(found, n, left, right, rounding, bound, limit, max(k - 1, 1), distance_sum)


def _row_mean(points: Tensor, metric: str, distance_sum: Tensor | None) -> Tensor:
    """[samples, n]: the means of inner products are inner products with the mean."""
    n = points.shape[1]
    if distance_sum is not None:
        return distance_sum[:, :n] / n
    total = points.sum(1, keepdim=True)
    others = (points * total).sum(-1) - points.square().sum(-1)
    return (n - 1 - others) / n if metric == "cosine" else -others / n


def _search(task: _Task) -> Iterator[_Found]:
    samples, n = slice(0, task.left.shape[0]), task.n
    if n * n <= _TILE_ELEMENTS:
        yield _strip(task, samples, slice(0, n), True)
        return
    edge = math.isqrt(_TILE_ELEMENTS)  # from here on there is one sample
    if edge >= 8 * task.wanted:
        yield from _blocks(task, samples, edge)
        return
    step = max(16, _TILE_ELEMENTS // n)
    for start in range(0, n, step):
        yield _strip(task, samples, slice(start, min(start + step, n)), True)


def _strip(task: _Task, sample: slice, rows: slice | Tensor, first_time: bool) -> _Found:
    """Some rows of some samples against all of their sample."""
    n = task.n
    left, right = task.left[sample, :n][:, rows], task.right[sample]
    if left.shape[:2] == (1, n):
        tile = left.new_empty(right.shape[1], right.shape[1])
        _symmetric(task.left[sample][0], right[0], tile)
        tile = tile[:n]
    else:
        tile = torch.bmm(left, right.mT).neg_().flatten(0, 1)
    itself = torch.arange(n, device=tile.device)[rows].repeat(left.shape[0])[:, None]
    tile[:, n:] = torch.inf
    if task.distance_sum is not None and first_time:
        tile.scatter_(1, itself, 0)
        total = tile[:, :n].mul(2).clamp_min_(0).sqrt_().sum(-1)
        task.distance_sum[sample, rows] = total.view(left.shape[:2])
    tile.scatter_(1, itself, torch.inf)
    bound = task.bound[sample, :n][:, rows].flatten()
    rounding = task.rounding[sample, :n][:, rows].flatten()
    selection = select_tile(tile, bound, task.wanted, rounding)
    candidates = Candidates(tile.shape[0], tile)
    candidates.add(selection.row, selection.column, selection.ordinal)
    candidates.sort()
    return sample, rows, *task.rank(candidates.ordinal, candidates.column, sample, rows)


class _Block:
    """Some rows of a sample, while tiles come by."""

    def __init__(self, task: _Task, sample: slice, rows: slice) -> None:
        self.task, self.rows = task, rows
        self.bound = task.bound[sample, rows].flatten()
        self.slack = task.rounding[sample, rows].flatten()
        self.candidates = Candidates(self.bound.shape[0], self.bound)
        self.hard = torch.zeros_like(self.bound, dtype=torch.bool)
        self.visits = 0

    def visit(self, tile: Tensor, start: int) -> None:
        """Take what matters of a tile whose columns begin at ``start``."""
        wanted = self.task.wanted
        slack = None if self.visits else self.slack
        selection = select_tile(tile, self.bound, wanted, slack)
        self.bound = selection.bound
        width = self.candidates.add(selection.row, selection.column + start, selection.ordinal)
        self.visits += 1
        most = _MOST_CANDIDATES * (wanted + 8)
        # Bounds are lowered after 2, 4, 8, ... tiles: as many candidates come between two of these.
        if self.visits & (self.visits - 1) == 0 and self.visits > 1 or width > most:
            self.bound = self.candidates.cut(wanted, self.bound, self.slack)
            if self.candidates.ordinal.shape[1] > most:
                # Ties without end: to be searched again, each row by itself.
                hard = self.candidates.drop(most)
                self.hard |= hard
                self.bound = self.bound.masked_fill(hard, -torch.inf)

    def found(self, sample: slice) -> Iterator[_Found]:
        """Rank what has come, and search again for the rows that had too much of it."""
        stop = min(self.rows.stop, self.task.n)
        rows, some = slice(self.rows.start, stop), stop - self.rows.start
        self.candidates.sort()
        ordinal, column = self.candidates.ordinal[:some], self.candidates.column[:some]
        yield sample, rows, *self.task.rank(ordinal, column, sample, rows)
        self.candidates = Candidates(0, self.bound)
        hard = self.hard[:some].nonzero().squeeze(-1) + rows.start
        for part in hard.split(max(16, _TILE_ELEMENTS // self.task.left.shape[1])):
            if part.shape[0]:
                yield _strip(self.task, sample, part, False)


def _blocks(task: _Task, sample: slice, edge: int) -> Iterator[_Found]:
    """One sample in square tiles, each for its rows and, transposed, for its columns."""
    n, size = task.n, task.left.shape[1]
    step = -(-size // -(-size // edge))
    if size % _GROUPED == 0 and step > 8 * _GROUPED:
        step += -step % _GROUPED
    left, right = task.left[sample][0], task.right[sample][0]
    slices = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    blocks = [_Block(task, sample, rows) for rows in slices]
    buffer = left.new_empty(step * step)
    # Diagonal tiles first, then the ones beside them: neighbours often have indices close to each
    # other (pixels of an image), and what is near already keeps most of the rest out.
    pairs = [(i, i + apart) for apart in range(len(blocks)) for i in range(len(blocks) - apart)]
    for first, second in pairs:
        block, other = blocks[first], blocks[second]
        rows, columns = block.rows, other.rows
        height, width = rows.stop - rows.start, columns.stop - columns.start
        tile = buffer[: height * width].view(height, width)
        if block is other:
            _symmetric(left[rows], right[rows], tile)
        else:
            torch.addmm(tile, left[rows], right[columns].mT, beta=0, alpha=-1, out=tile)
        if task.distance_sum is not None:
            _add_distances(task.distance_sum[sample][0], tile, rows, columns, n)
        if columns.stop > n:
            tile[:, n - columns.start :] = torch.inf
        if block is other:
            tile.diagonal().fill_(torch.inf)
        block.visit(tile, columns.start)
        if block is not other:
            other.visit(tile.mT, rows.start)
    for block in blocks:
        yield from block.found(sample)


def _add_distances(total: Tensor, tile: Tensor, rows: slice, columns: slice, n: int) -> None:
    """Add a tile's Euclidean distances to the sums of its rows and of its columns."""
    distance = tile[:, : n - columns.start].mul(2).clamp_min_(0).sqrt_()
    if rows == columns:
        distance.fill_diagonal_(0)
    else:
        total[columns.start : min(columns.stop, n)] += distance.sum(0)
    total[rows] += distance.sum(1)


def _symmetric(left: Tensor, right: Tensor, out: Tensor) -> None:
    """``out = -left @ right^T``, of which one half is the transpose of the other."""
    size, channels = left.shape
    half = size // 2
    if channels < _HALVED or half < _SMALLEST_PRODUCT:
        torch.addmm(out, left, right.mT, beta=0, alpha=-1, out=out)
        return
    _symmetric(left[:half], right[:half], out[:half, :half])
    _symmetric(left[half:], right[half:], out[half:, half:])
    corner = out[:half, half:]
    torch.addmm(corner, left[:half], right[half:].mT, beta=0, alpha=-1, out=corner)
    out[half:, :half] = corner.mT
