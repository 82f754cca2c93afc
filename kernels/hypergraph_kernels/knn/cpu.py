"""The search in plain PyTorch: tiles of a matrix product, a bound, and a look at what is left."""

from collections.abc import Iterator

import torch
from torch import Tensor

from hypergraph_kernels.knn._neighbors import Neighbors, finished, scaled

_TILE_ELEMENTS = 1 << 20  # distances alive at a time: 4 MiB of float32
_PAIRS_PER_CHUNK = 1 << 14
_GROUPS_PER_NEIGHBOR = 5  # 128 groups at k = 25


def search(
    points: Tensor,  # [batch, n, channels]
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    """Search in tiles of bounded size."""
    samples, n, channels = points.shape
    k = min(k, n)
    if samples * n == 0:
        empty = points.new_zeros(samples, n, k)
        return Neighbors(empty.long(), empty, empty.bool(), points.new_zeros(samples, n))
    points, unit = scaled(points, metric)
    # Distances of differences do not depend on the origin, but their rounding does.
    centred = points - points.mean(1, keepdim=True) if metric == "euclidean" else points
    squares = centred.square().sum(-1)
    limits = None
    if threshold is not None:
        limits = _ordinal(threshold / unit, metric).expand(samples, n, 1).squeeze(-1)
    index, distance, means = [], [], []
    for some, rows in _tiles(samples, n):
        tile = _tile(centred[some], squares[some], rows, metric)
        diagonal = tile.diagonal(rows.start, -2, -1)
        diagonal.fill_(0)
        if with_row_mean:
            means.append(_row_mean(tile, metric).flatten())
        diagonal.fill_(-torch.inf)  # first, whatever else is at distance 0
        tile = tile.flatten(0, 1)
        rounding = _rounding(squares[some], rows, metric, channels).flatten()
        limit = None if limits is None else limits[some, rows].flatten()
        itself = torch.arange(rows.start, rows.stop, device=points.device)
        first = torch.arange(some.stop - some.start, device=points.device) * n
        first = first.repeat_interleave(itself.shape[0])
        itself = itself.repeat(some.stop - some.start)
        own = points[some].flatten(0, 1)
        near, ordinal = _select(tile, k, rounding, limit, own, itself, first, metric)
        index.append(near)
        distance.append(ordinal)
    near, ordinal = (torch.cat(part).view(samples, n, k) for part in (index, distance))
    dist = ordinal.clamp_min(0).sqrt() if metric == "euclidean" else ordinal
    if metric == "cosine":
        dist = dist.clamp_min(0)
    row_mean = torch.cat(means).view(samples, n) if with_row_mean else None
    return finished(near, dist, row_mean, points, unit, metric, threshold)


def _tiles(samples: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows of every tile: several whole samples, or some rows of one."""
    rows = min(n, max(16, _TILE_ELEMENTS // n))
    together = max(1, _TILE_ELEMENTS // (n * n)) if rows == n else 1
    for sample in range(0, samples, together):
        some = slice(sample, min(sample + together, samples))
        for start in range(0, n, rows):
            yield some, slice(start, min(start + rows, n))


def _ordinal(threshold: Tensor, metric: str) -> Tensor:
    """The threshold in what tiles hold: the squared distance for ``"euclidean"``."""
    return threshold * threshold.abs() if metric == "euclidean" else threshold


def _tile(centred: Tensor, squares: Tensor, rows: slice, metric: str) -> Tensor:
    """[samples, rows, n] distances; squared for ``"euclidean"``."""
    tile = centred[:, rows] @ centred.mT
    if metric == "cosine":
        return tile.neg_().add_(1)
    if metric == "dot":
        return tile.neg_()
    return tile.mul_(-2).add_(squares[:, rows, None]).add_(squares[:, None])


def _row_mean(tile: Tensor, metric: str) -> Tensor:
    distance = tile.clamp_min(0).sqrt_() if metric == "euclidean" else tile
    return distance.mean(-1)


def _rounding(squares: Tensor, rows: slice, metric: str, channels: int) -> Tensor:
    """[samples, rows] how far two equal distances may lie apart in a tile."""
    largest = squares.amax(-1, keepdim=True)
    if metric == "cosine":
        scale = torch.ones_like(squares[:, rows])
    elif metric == "dot":
        scale = (squares[:, rows] * largest).sqrt()
    else:
        scale = squares[:, rows] + largest
    return scale * (4 * torch.finfo(squares.dtype).eps * max(channels, 1) ** 0.5)


def _select(
    tile: Tensor,  # [rows, n]
    k: int,
    rounding: Tensor,  # [rows]
    limit: Tensor | None,  # [rows]
    points: Tensor,  # [samples * n, channels]
    itself: Tensor,  # [rows], every row's own index in its sample,
    first: Tensor,  # [rows], and where in the points that sample begins
    metric: str,
) -> tuple[Tensor, Tensor]:
    """Bound the k-th distance from group minima, compress what is below, sort what is left."""
    num_rows, n = tile.shape
    bound = _upper_bound(tile, k)
    if limit is not None:
        bound = torch.minimum(bound, limit)
    row, column = (tile <= (bound + rounding)[:, None]).nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=num_rows)
    width = max(k, int(counts.max()))
    slot = torch.arange(row.shape[0], device=row.device) - (counts.cumsum(0) - counts)[row]
    # A row with fewer than k candidates (threshold) is filled up with itself at infinity.
    distance = tile.new_full((num_rows, width), torch.inf)
    index = itself[:, None].repeat(1, width)
    distance[row, slot] = tile[row, column]
    index[row, slot] = column
    distance, order = distance.sort(dim=-1, stable=True)
    index = index.gather(-1, order)

    # Candidates closer together than rounding: look again, pair by pair.
    # Bitwise ties already stand in the order of their indices (all of them, on zero rows).
    gaps = distance[:, 1:k].diff(dim=-1)
    beyond = distance[:, k:] - distance[:, k - 1 : k]
    gaps = torch.cat([gaps, beyond], -1)
    close = ((gaps > 0) & (gaps <= rounding[:, None])).any(-1)
    if limit is not None:
        close |= ((distance[:, 1:k] - limit[:, None]).abs() <= rounding[:, None]).any(-1)
    unclear = close.nonzero().squeeze(-1)
    if unclear.numel():
        again = index[unclear]
        offset = first[unclear]
        pairs = (offset + itself[unclear], offset[:, None] + again)
        exact = _exact_ordinals(points, *pairs, distance[unclear], metric)
        by_index = again.argsort(dim=-1, stable=True)
        exact = exact.gather(-1, by_index)
        exact, by_distance = exact.sort(dim=-1, stable=True)
        distance[unclear] = exact
        index[unclear] = again.gather(-1, by_index).gather(-1, by_distance)
    return index[:, :k], distance[:, :k]


def _exact_ordinals(
    points: Tensor, rows: Tensor, columns: Tensor, distance: Tensor, metric: str
) -> Tensor:
    """Distances summed pair by pair, in the same order for every pair; infinities are kept."""
    exact = distance.clone()
    which, slot = distance.isfinite().nonzero(as_tuple=True)
    values = []
    for w, s in zip(which.split(_PAIRS_PER_CHUNK), slot.split(_PAIRS_PER_CHUNK), strict=True):
        a, b = points[rows[w]], points[columns[w, s]]
        if metric == "euclidean":
            values.append((a - b).square().sum(-1))
        elif metric == "cosine":  # of unit vectors: exactly 0 for equal rows, unlike 1 - cos
            zero = ~(a.any(-1) & b.any(-1))
            values.append(torch.where(zero, 1, (a - b).square().sum(-1) / 2))
        else:
            values.append(-(a * b).sum(-1))
    if values:
        exact[which, slot] = torch.cat(values)
    return exact


def _upper_bound(tile: Tensor, k: int) -> Tensor:
    """[rows] at least k entries of every row are at or below this."""
    num_rows, n = tile.shape
    groups = max(k * _GROUPS_PER_NEIGHBOR, 128)
    if n < 2 * groups:
        return tile.kthvalue(k, dim=-1).values
    per_group = n // groups
    minima = tile[:, : per_group * groups].view(num_rows, per_group, groups).amin(1)
    return minima.kthvalue(k, dim=-1).values
