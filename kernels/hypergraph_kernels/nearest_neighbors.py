"""Exact k nearest neighbours in tiles, with one rule for ties."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["cosine", "euclidean", "dot"]

_TILE_ELEMENTS = 1 << 20  # distances alive at a time: 4 MiB of float32
_PAIRS_PER_CHUNK = 1 << 14
_GROUPS_PER_NEIGHBOR = 5  # 128 groups at k = 25


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


def nearest_neighbors(
    x: Tensor,  # [n, channels] or [batch, n, channels]
    k: int,
    metric: Metric = "cosine",
    threshold: float | None = None,
    with_row_mean: bool = False,
) -> Neighbors:
    """Find the k nearest rows of every row in its sample, itself first, then by (distance, index).

    ``"cosine"`` is ``1 - cos``, where a zero row has cosine 0 with all others; ``"euclidean"`` is
    the norm of the difference; ``"dot"`` is minus the inner product.

    Distances come from matrix products, tile by tile; small samples share a tile. Where two
    candidates differ by less than the rounding of such a product, their distances are computed
    again pair by pair, so that equal rows tie exactly and the lower index wins; so are distances as
    close to the threshold. While ``torch.compile`` traces, that second look is left out: only
    bitwise equal distances count as ties.

    Args:
        x: [n, channels] or [batch, n, channels], finite (not checked), of any magnitude; float16
            and bfloat16 are searched in float32.
        k: neighbours wanted, the row itself included; clamped to n.
        metric: the distance.
        threshold: neighbours farther than this are marked in ``kept``; never the row itself.
        with_row_mean: also compute ``row_mean`` (zeros otherwise).

    Returns:
        Neighbours; no gradient flows through them.

    Raises:
        ValueError, TypeError: a shape, dtype or setting does not fit.
    """
    _check(x, k, metric)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        points = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.dim() == 3:
            return _search(points, k, metric, threshold, with_row_mean)
        found = _search(points.unsqueeze(0), k, metric, threshold, with_row_mean)
        return Neighbors(*(field.squeeze(0) for field in found))


def _search(
    points: Tensor,  # [batch, n, channels]
    k: int,
    metric: Metric,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    samples, n, channels = points.shape
    k = min(k, n)
    if samples * n == 0:
        empty = points.new_zeros(samples, n, k)
        return Neighbors(empty.long(), empty, empty.bool(), points.new_zeros(samples, n))
    points, unit = _scaled(points, metric)
    if metric == "cosine":
        points = F.normalize(points, dim=-1, eps=torch.finfo(points.dtype).tiny)
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
        if torch.compiler.is_compiling():
            near, ordinal = _select_static(tile, k)
        else:
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
    own = -points.square().sum(-1) if metric == "dot" else points.new_zeros(samples, n)
    dist[..., 0] = own
    dist = dist * unit
    kept = torch.ones_like(near, dtype=torch.bool)
    if threshold is not None:
        kept = dist <= threshold
    kept[..., 0] = True
    near = torch.where(kept, near, near[..., :1])
    if not with_row_mean:
        return Neighbors(near, dist, kept, points.new_zeros(samples, n))
    return Neighbors(near, dist, kept, torch.cat(means).view(samples, n) * unit.squeeze(-1))


def _tiles(samples: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows of every tile: several whole samples, or some rows of one."""
    rows = min(n, max(16, _TILE_ELEMENTS // n))
    together = max(1, _TILE_ELEMENTS // (n * n)) if rows == n else 1
    for sample in range(0, samples, together):
        some = slice(sample, min(sample + together, samples))
        for start in range(0, n, rows):
            yield some, slice(start, min(start + rows, n))


def _check(x: Tensor, k: int, metric: Metric) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`x` must be a floating-point tensor, got {kind}")
    if x.dim() not in (2, 3):
        raise ValueError(
            f"`x` must have shape [n, channels] or [batch, n, channels], got {list(x.shape)}"
        )
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    if metric not in get_args(Metric):
        expected = ", ".join(repr(choice) for choice in get_args(Metric))
        raise ValueError(f"`metric` must be one of {expected}, got {metric!r}")


def _scaled(points: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """Points whose squares neither overflow nor vanish, and the unit [batch, 1, 1] of distances.

    The scale is a power of two, so that nothing is rounded: one per row for ``"cosine"``, whose
    distances do not depend on it, and one for all rows of a sample otherwise.
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
    if metric == "euclidean":
        unit = root * root
    elif metric == "dot":
        unit = (root * root).square()
    return points, unit


def _ordinal(threshold: Tensor, metric: Metric) -> Tensor:
    """The threshold in what tiles hold: the squared distance for ``"euclidean"``."""
    return threshold * threshold.abs() if metric == "euclidean" else threshold


def _tile(centred: Tensor, squares: Tensor, rows: slice, metric: Metric) -> Tensor:
    """[samples, rows, n] distances; squared for ``"euclidean"``."""
    tile = centred[:, rows] @ centred.mT
    if metric == "cosine":
        return tile.neg_().add_(1)
    if metric == "dot":
        return tile.neg_()
    return tile.mul_(-2).add_(squares[:, rows, None]).add_(squares[:, None])


def _row_mean(tile: Tensor, metric: Metric) -> Tensor:
    distance = tile.clamp_min(0).sqrt_() if metric == "euclidean" else tile
    return distance.mean(-1)


def _rounding(squares: Tensor, rows: slice, metric: Metric, channels: int) -> Tensor:
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
    metric: Metric,
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
    points: Tensor, rows: Tensor, columns: Tensor, distance: Tensor, metric: Metric
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


def _select_static(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same choice with shapes known in advance, for tracing."""
    n = tile.shape[-1]
    kth = tile.topk(k, largest=False).values.amax(-1, keepdim=True)
    column = torch.arange(n, device=tile.device)
    rank = torch.where(tile < kth, -1, torch.where(tile == kth, column, n))
    index = rank.topk(k, largest=False).indices.sort(dim=-1).values
    distance, order = tile.gather(-1, index).sort(dim=-1, stable=True)
    return index.gather(-1, order), distance
