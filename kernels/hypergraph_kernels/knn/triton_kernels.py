"""The search on a GPU: two passes of a matrix product, neither of which is ever stored.

1. ``_group_maxima``: scores tile by tile, of which only the best of every group of columns is kept.
2. ``_row_bounds``: the k-th best group maximum bounds the k-th best score from below.
3. ``_collect``: the scores once more; the columns at or above the bound, less what the rounding of
   the product may hide, are the candidates: a few more than k.
4. ``_measure`` and ``_rank``: their distances pair by pair in float32, and their places in the
   order of (distance, index), each of which is a count of the candidates before it.

A score is higher for a nearer column: the inner product, less half the column's square for
``"euclidean"``. Nothing but a count of candidates is added atomically, and ranking makes an end of
their order: the result does not depend on the schedule.

Rows come with their channels filled up with zeros to a multiple of ``_STEP``: loads are aligned
whatever the number of channels, and need no mask there.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase
from hypergraph_kernels.knn._neighbors import Neighbors, finished, scaled

_CAPACITY = 256  # candidates of a row; a row with more is searched exactly
_BUFFER = 1 << 24  # elements of the largest buffer that lives during a launch: 64 MiB
_GROUPS_PER_NEIGHBOR = 8
_MAX_GROUPS = 4096
_EXACT_ELEMENTS = 1 << 22
# Rows in a hundred beyond the capacity from which all are searched again in full precision.
_TOO_MANY = 2

_STEP = 32
_COLUMNS = 128
# Full precision runs on the ordinary cores, which need more registers for the same tile.
_MAXIMA = {
    "tf32": {"ROWS": 128, "COLUMNS": _COLUMNS, "STEP": _STEP},
    "ieee": {"ROWS": 64, "COLUMNS": _COLUMNS, "STEP": _STEP},
}
_COLLECT = {"ROWS": 64, "COLUMNS": 64, "STEP": _STEP}
_PRODUCT_WARPS, _PRODUCT_STAGES = 8, 3
_BOUND_ELEMENTS = 2048
_MEASURE = {"ROWS": 4, "SLOTS": 32, "STEP": _STEP}
_RANK = {"ROWS": 2, "CAPACITY": _CAPACITY, "SLOTS": 8}
_ROW_WARPS = 4
_STAGES = 3  # Triton's default


@triton.jit
def _scores(
    x_ptr,
    offset_ptr,
    rows,
    columns,
    n,
    channels,
    PRECISION: tl.constexpr,
    STEP: tl.constexpr,
):
    """Scores of rows against columns of one sample; minus infinity where there is no pair."""
    steps = tl.arange(0, STEP)
    row_at = x_ptr + rows.to(tl.int64)[:, None] * channels
    column_at = x_ptr + columns.to(tl.int64)[:, None] * channels
    score = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for start in range(0, channels, STEP):
        channel = (start + steps)[None, :]
        a = tl.load(row_at + channel, mask=(rows < n)[:, None], other=0.0)
        b = tl.load(column_at + channel, mask=(columns < n)[:, None], other=0.0)
        score = tl.dot(a, tl.trans(b), score, input_precision=PRECISION)
    score -= tl.load(offset_ptr + columns, mask=columns < n, other=0.0)[None, :]
    pair = (columns < n)[None, :] & (rows[:, None] != columns[None, :])
    return tl.where(pair, score, float("-inf"))


@triton.jit
def _group_maxima(
    x_ptr,  # [samples, n, channels]
    offset_ptr,  # [samples, n]
    maxima_ptr,  # [samples, stop - first, groups]
    sums_ptr,  # [samples, stop - first, column tiles], where WITH_SUMS
    n,
    channels,
    first,
    stop,
    groups,
    GROUP: tl.constexpr,
    WITH_SUMS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Best score in every group of columns; also sums of distances, for ``"euclidean"``."""
    tiles = tl.cdiv(stop - first, ROWS)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    rows = first + (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    offset_ptr += sample * n
    score = _scores(
        x_ptr + sample * n * channels, offset_ptr, rows, columns, n, channels, PRECISION, STEP
    )
    # [ROWS, GROUP, COLUMNS / GROUP]: neighbouring columns, which are alike in a picture, fall into
    # different groups.
    best = tl.max(tl.reshape(score, (ROWS, GROUP, COLUMNS // GROUP)), 1)
    group = tl.program_id(1) * (COLUMNS // GROUP) + tl.arange(0, COLUMNS // GROUP)
    row_out = sample * (stop - first) + (rows - first).to(tl.int64)
    tl.store(
        maxima_ptr + row_out[:, None] * groups + group[None, :],
        best,
        mask=(rows < stop)[:, None] & (group < groups)[None, :],
    )
    if WITH_SUMS:
        own = tl.load(offset_ptr + rows, mask=rows < n, other=0.0)
        squared = 2.0 * (own[:, None] - score)
        pair = score > float("-inf")
        distance = tl.where(pair & (squared > 0), tl.sqrt(tl.maximum(squared, 0.0)), 0.0)
        tl.store(
            sums_ptr + row_out * tl.num_programs(1) + tl.program_id(1),
            tl.sum(distance, 1),
            mask=rows < stop,
        )


@triton.jit
def _row_bounds(
    maxima_ptr,  # [rows, groups]
    floor_ptr,  # [rows]
    slack_ptr,  # [rows]
    bound_ptr,  # [rows]
    rows,
    groups,
    wanted,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """The ``wanted``-th largest maximum, found by counting, or the floor; less the slack."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = row < rows
    row = row.to(tl.int64)
    group = tl.arange(0, GROUPS)
    value = tl.load(
        maxima_ptr + row[:, None] * groups + group[None, :],
        mask=here[:, None] & (group < groups)[None, :],
        other=float("-inf"),
    )
    key = value.to(tl.int32, bitcast=True)
    key = tl.where(key < 0, key ^ 0x7FFFFFFF, key)  # integers in the order of the floats
    # Invariant: at least `wanted` keys are at or above low, fewer than that at or above high.
    low = tl.min(key, 1)
    high = tl.max(key, 1) + 1
    for _ in range(32):
        middle = (low & high) + ((low ^ high) >> 1)  # their mean: the sum would overflow
        enough = tl.sum((key >= middle[:, None]).to(tl.int32), 1) >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    bound = tl.where(low < 0, low ^ 0x7FFFFFFF, low).to(tl.float32, bitcast=True)
    floor = tl.load(floor_ptr + row, mask=here, other=0.0)
    slack = tl.load(slack_ptr + row, mask=here, other=0.0)
    tl.store(bound_ptr + row, tl.maximum(bound, floor) - slack, mask=here)


@triton.jit
def _collect(
    x_ptr,  # [samples, n, channels]
    offset_ptr,  # [samples, n]
    bound_ptr,  # [samples, stop - first]
    count_ptr,  # [samples, stop - first], zeros
    candidate_ptr,  # [samples, stop - first, capacity]
    n,
    channels,
    first,
    stop,
    capacity,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Columns at or above the row's bound; how many there are, even where they have no room."""
    tiles = tl.cdiv(stop - first, ROWS)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    rows = first + (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    score = _scores(
        x_ptr + sample * n * channels,
        offset_ptr + sample * n,
        rows,
        columns,
        n,
        channels,
        PRECISION,
        STEP,
    )
    row_out = sample * (stop - first) + (rows - first).to(tl.int64)
    bound = tl.load(bound_ptr + row_out, mask=rows < stop, other=float("inf"))
    hit = (score >= bound[:, None]) & (score > float("-inf"))
    ones = hit.to(tl.int32)
    hits = tl.sum(ones, 1)
    if tl.max(hits, 0) > 0:
        before = tl.atomic_add(count_ptr + row_out, hits, mask=(rows < stop) & (hits > 0))
        place = before[:, None] + tl.cumsum(ones, 1) - 1
        tl.store(
            candidate_ptr + row_out[:, None] * capacity + place,
            tl.broadcast_to(columns[None, :], (ROWS, COLUMNS)),
            mask=hit & (place < capacity),
        )


@triton.jit
def _measure(
    x_ptr,  # [samples, n, channels]
    zero_ptr,  # [samples, n], 1 for zero rows
    count_ptr,  # [samples, rows]
    candidate_ptr,  # [samples, rows, capacity]
    key_ptr,  # [samples, rows, capacity]
    n,
    channels,
    first,
    rows,
    total,  # samples * rows
    capacity,
    METRIC: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Distances of the rows' candidates, pair by pair, as integers in the order that ranks them.

    The products of every pair are summed in the same order: equal rows tie exactly.
    """
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = at < total
    base = (at // rows).to(tl.int64) * n  # where the sample begins
    row = base + at % rows + first
    count = tl.minimum(tl.load(count_ptr + at, mask=here, other=0), capacity)
    zero_row = tl.load(zero_ptr + row, mask=here, other=0)
    row_at = x_ptr + row[:, None, None] * channels
    for begin in range(0, tl.max(count, 0), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        there = slot[None, :] < count[:, None]
        place = at.to(tl.int64)[:, None] * capacity + slot[None, :]
        other = tl.load(candidate_ptr + place, mask=there, other=0).to(tl.int64)
        other_row = base[:, None] + other
        other_at = x_ptr + other_row[:, :, None] * channels
        distance = tl.zeros((ROWS, SLOTS), tl.float32)
        for start in range(0, channels, STEP):
            channel = (start + tl.arange(0, STEP))[None, None, :]
            a = tl.load(row_at + channel, mask=here[:, None, None], other=0.0)
            b = tl.load(other_at + channel, mask=there[:, :, None], other=0.0)
            if METRIC == "dot":
                distance -= tl.sum(a * b, 2)
            else:
                distance += tl.sum((a - b) * (a - b), 2)
        if METRIC == "cosine":  # of unit rows 1 - cos, and 0 for equal ones; 1 for zero rows
            zero = tl.load(zero_ptr + other_row, mask=there, other=0) | zero_row[:, None]
            distance = tl.where(zero != 0, 1.0, 0.5 * distance)
        distance += 0.0  # the bits of minus zero stand before those of zero
        key = distance.to(tl.int32, bitcast=True)
        key = tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.int64) << 32
        tl.store(key_ptr + place, key | other, mask=there)


@triton.jit
def _rank(
    count_ptr,  # [samples, rows]
    key_ptr,  # [samples, rows, CAPACITY]
    nearest_ptr,  # [samples, rows, k]
    distance_ptr,  # [samples, rows, k]
    first,
    rows,
    total,  # samples * rows
    k,
    ROWS: tl.constexpr,
    CAPACITY: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The row itself, then the first of its candidates: each one's place is a count of others.

    No two keys are equal. What a threshold leaves empty is filled up with the row itself.
    """
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = at < total
    row = (at % rows + first).to(tl.int64)
    count = tl.minimum(tl.load(count_ptr + at, mask=here, other=0), CAPACITY)
    at = at.to(tl.int64)
    slot = tl.arange(0, CAPACITY)
    there = slot[None, :] < count[:, None]
    key = tl.load(key_ptr + at[:, None] * CAPACITY + slot[None, :], mask=there, other=0)
    place = tl.zeros((ROWS, CAPACITY), tl.int32)
    for begin in range(0, tl.max(count, 0), SLOTS):
        other = begin + tl.arange(0, SLOTS)
        present = other[None, :] < count[:, None]
        before = tl.load(key_ptr + at[:, None] * CAPACITY + other[None, :], mask=present, other=0)
        lower = (before[:, None, :] < key[:, :, None]) & present[:, None, :]
        place += tl.sum(lower.to(tl.int32), 2)
    place = tl.where(there, place, slot[None, :]) + 1
    bits = (key >> 32).to(tl.int32)
    distance = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.float32, bitcast=True)
    distance = tl.where(there, distance, float("inf"))
    nearest = tl.where(there, key & 0x7FFFFFFF, row[:, None])
    tl.store(nearest_ptr + at * k, row, mask=here)
    tl.store(distance_ptr + at * k, 0.0, mask=here)
    wanted = here[:, None] & (place < k)
    tl.store(nearest_ptr + at[:, None] * k + place, nearest, mask=wanted)
    tl.store(distance_ptr + at[:, None] * k + place, distance, mask=wanted)


def search(
    points: Tensor,  # [batch, n, channels] float32
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
) -> Neighbors:
    """Search with k up to half of ``_CAPACITY``; waits for the device to see what overflowed."""
    samples, n, channels = points.shape
    k = min(k, n)
    if samples * n == 0:
        empty = points.new_zeros(samples, n, k)
        return Neighbors(empty.long(), empty, empty.bool(), points.new_zeros(samples, n))
    points, unit = scaled(points, metric)
    points = F.pad(points, (0, -channels % _STEP)).contiguous()
    # Distances of differences do not depend on the origin, but their rounding does.
    centred = points - points.mean(1, keepdim=True) if metric == "euclidean" else points
    squares = centred.square().sum(-1)
    floor = torch.full_like(squares, -torch.inf)
    if threshold is not None:
        limit = (threshold / unit).squeeze(-1)
        if metric == "euclidean":
            floor = (squares - limit * limit.abs()) / 2
        else:
            floor = floor.copy_(float(metric == "cosine") - limit)
    with torch.cuda.device_of(points):
        found = _search(points, centred, squares, floor, k, metric, with_row_mean, "tf32")
        nearest, ordinal, sums, overflown = found
        if int(overflown.sum()) * 100 > _TOO_MANY * overflown.numel():
            found = _search(points, centred, squares, floor, k, metric, False, "ieee")
            nearest, ordinal, _, overflown = found
    _search_exactly(points, overflown, nearest, ordinal, metric)
    if metric == "euclidean":
        ordinal = ordinal.sqrt()
    row_mean = _row_mean(points, sums, metric) if with_row_mean else None
    return finished(nearest, ordinal, row_mean, points, unit, metric, threshold)


def _search(
    points: Tensor,  # [samples, n, channels]
    centred: Tensor,  # [samples, n, channels]
    squares: Tensor,  # [samples, n] of the centred points
    floor: Tensor,  # [samples, n] scores below are beyond the threshold
    k: int,
    metric: str,
    with_row_mean: bool,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Neighbours, their ordinals, sums of distances, and which rows had too many candidates."""
    samples, n, channels = points.shape
    slack = _slack(squares, metric, channels, precision)
    offset = squares / 2 if metric == "euclidean" else torch.zeros_like(squares)
    zero = (squares == 0).to(torch.int32)
    group = min(max(16, triton.next_power_of_2(-(-n // _MAX_GROUPS))), _COLUMNS)
    while group > 1 and n < group * _GROUPS_PER_NEIGHBOR * k:
        group //= 2
    groups = -(-n // group)
    column_tiles = triton.cdiv(n, _COLUMNS)
    with_sums = with_row_mean and metric == "euclidean"
    nearest = points.new_empty(samples, n, k, dtype=torch.int64)
    ordinal = points.new_empty(samples, n, k)
    sums = points.new_empty(samples, n) if with_sums else None
    overflown = points.new_empty(samples, n, dtype=torch.bool)
    for some, rows in _launches(samples, n, max(groups, 2 * _CAPACITY)):
        x, c, shift = points[some], centred[some], offset[some]
        first, stop = rows.start, rows.stop
        shape = (some.stop - some.start, stop - first)
        maxima = x.new_empty(*shape, groups)
        partial = x.new_empty(*shape, column_tiles if with_sums else 0)
        bound = x.new_empty(shape)
        count = x.new_zeros(shape, dtype=torch.int32)
        candidate = x.new_empty(*shape, _CAPACITY, dtype=torch.int32)
        # Sums are a result: no low precision there.
        exactness = "ieee" if with_sums else precision
        tile = _MAXIMA[exactness]
        programs = shape[0] * triton.cdiv(shape[1], tile["ROWS"])
        _group_maxima[(programs, column_tiles)](
            c,
            shift,
            maxima,
            partial,
            n,
            channels,
            first,
            stop,
            groups,
            GROUP=group,
            WITH_SUMS=with_sums,
            PRECISION=exactness,
            **tile,
            num_warps=_PRODUCT_WARPS,
            num_stages=_PRODUCT_STAGES,
        )
        if sums is not None:
            sums[some, rows] = partial.sum(-1)
        total = bound.numel()
        width = triton.next_power_of_2(groups)
        together = _bound_rows(width)
        _row_bounds[(triton.cdiv(total, together),)](
            maxima,
            floor[some, rows].contiguous(),
            slack[some, rows].contiguous(),
            bound,
            total,
            groups,
            k - 1,
            ROWS=together,
            GROUPS=width,
            num_warps=_bound_warps(width),
        )
        programs = shape[0] * triton.cdiv(shape[1], _COLLECT["ROWS"])
        _collect[(programs, triton.cdiv(n, _COLLECT["COLUMNS"]))](
            c,
            shift,
            bound,
            count,
            candidate,
            n,
            channels,
            first,
            stop,
            _CAPACITY,
            PRECISION=precision,
            **_COLLECT,
            num_warps=_PRODUCT_WARPS,
            num_stages=_PRODUCT_STAGES,
        )
        key = x.new_empty(*shape, _CAPACITY, dtype=torch.int64)
        _measure[(triton.cdiv(total, _MEASURE["ROWS"]),)](
            x,
            zero[some],
            count,
            candidate,
            key,
            n,
            channels,
            first,
            shape[1],
            total,
            _CAPACITY,
            METRIC=metric,
            **_MEASURE,
            num_warps=_ROW_WARPS,
        )
        near, away = (torch.empty_like(field[some, rows]) for field in (nearest, ordinal))
        _rank[(triton.cdiv(total, _RANK["ROWS"]),)](
            count,
            key,
            near,
            away,
            first,
            shape[1],
            total,
            k,
            **_RANK,
            num_warps=_ROW_WARPS,
        )
        nearest[some, rows], ordinal[some, rows] = near, away
        overflown[some, rows] = count > _CAPACITY
    return nearest, ordinal, sums, overflown


def _launches(samples: int, n: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows of every launch: several whole samples, or some rows of one."""
    rows = min(n, max(64, _BUFFER // width))
    together = max(1, _BUFFER // (n * width)) if rows == n else 1
    for sample in range(0, samples, together):
        some = slice(sample, min(sample + together, samples))
        for start in range(0, n, rows):
            yield some, slice(start, min(start + rows, n))


def _bound_rows(groups: int) -> int:
    return max(1, _BOUND_ELEMENTS // groups)


def _bound_warps(groups: int) -> int:
    return min(max(8, groups // 1024), 16)


def _slack(squares: Tensor, metric: str, channels: int, precision: str) -> Tensor:
    """[samples, n] twice the largest error of a score, whichever way its products are summed.

    A column among the k nearest may score that much less than the k-th best score.
    """
    largest = squares.amax(-1, keepdim=True)
    product = (squares * largest).sqrt()
    scale = (squares + largest) / 2 if metric == "euclidean" else product
    eps = torch.finfo(squares.dtype).eps
    if precision == "ieee":
        return scale * ((channels + 16) * eps)
    # Inputs cut to 11 bits: 2^-10 of either factor, and twice that of the score.
    return scale * (2 * (channels + 16) * eps) + product * (1.01 * 2**-8)


def _row_mean(points: Tensor, sums: Tensor | None, metric: str) -> Tensor:
    """[samples, n] mean distance to all rows; a sum of products is a product with the sum."""
    n = points.shape[1]
    if sums is not None:
        return sums / n
    total = (points @ points.sum(1, keepdim=True).mT).squeeze(-1)
    others = total - points.square().sum(-1)
    return (((n - 1) if metric == "cosine" else 0) - others) / n


def _search_exactly(
    points: Tensor,  # [samples, n, channels]
    which: Tensor,  # [samples, n] bool
    nearest: Tensor,  # [samples, n, k], written where `which` is True
    ordinal: Tensor,  # [samples, n, k], likewise
    metric: str,
) -> None:
    """Search rows with more candidates than there is room for: many equal rows, for example."""
    n, channels = points.shape[1:]
    k = nearest.shape[-1]
    step = max(1, _EXACT_ELEMENTS // (n * channels if metric == "dot" else n))
    for sample in which.any(-1).nonzero().flatten().tolist():
        x = points[sample]
        for rows in which[sample].nonzero().flatten().split(step):
            if metric == "dot":
                distance = -(x[rows].unsqueeze(1) * x).sum(-1)
            else:
                mode = "donot_use_mm_for_euclid_dist"
                distance = torch.cdist(x[rows], x, compute_mode=mode).square()
            if metric == "cosine":
                zero = ~x.any(-1)
                distance = torch.where(zero[rows].unsqueeze(1) | zero, 1, distance / 2)
            distance.scatter_(1, rows.unsqueeze(1), -torch.inf)
            ordered, order = distance.sort(dim=-1, stable=True)
            nearest[sample, rows] = order[:, :k]
            ordinal[sample, rows, 1:] = ordered[:, 1:k]


def aot_cases() -> list[AotCase]:
    """Every kernel as ``search`` launches it."""
    points = {"x_ptr": "*fp32", "offset_ptr": "*fp32"}
    sizes = {"n": "i32", "channels": "i32:16", "first": "i32", "stop": "i32"}
    product = (_PRODUCT_WARPS, _PRODUCT_STAGES)
    cases = []
    for precision in ("tf32", "ieee"):
        maxima = {**points, "maxima_ptr": "*fp32", "sums_ptr": "*fp32", **sizes, "groups": "i32"}
        for group, with_sums in ((1, False), (16, False), (128, False), (16, True)):
            if with_sums and precision == "tf32":
                continue
            constants = {"GROUP": group, "WITH_SUMS": with_sums, "PRECISION": precision}
            constants |= _MAXIMA[precision]
            cases.append(AotCase(_group_maxima, maxima, constants, *product))
        collect = {**points, "bound_ptr": "*fp32", "count_ptr": "*i32", "candidate_ptr": "*i32"}
        constants = {"PRECISION": precision, **_COLLECT}
        cases.append(
            AotCase(_collect, {**collect, **sizes, "capacity": "i32"}, constants, *product)
        )
    bounds = dict.fromkeys(["maxima_ptr", "floor_ptr", "slack_ptr", "bound_ptr"], "*fp32")
    bounds |= {"rows": "i32", "groups": "i32", "wanted": "i32"}
    for width in (256, 1024, _MAX_GROUPS, 4 * _MAX_GROUPS):
        constants = {"ROWS": _bound_rows(width), "GROUPS": width}
        cases.append(AotCase(_row_bounds, bounds, constants, _bound_warps(width), _STAGES))
    measure = {"x_ptr": "*fp32", "zero_ptr": "*i32", "count_ptr": "*i32", "candidate_ptr": "*i32"}
    measure |= {"key_ptr": "*i64", "n": "i32", "channels": "i32:16", "first": "i32", "rows": "i32"}
    measure |= {"total": "i32", "capacity": "i32:16"}
    for metric in ("cosine", "euclidean", "dot"):
        constants = {"METRIC": metric, **_MEASURE}
        cases.append(AotCase(_measure, measure, constants, _ROW_WARPS, _STAGES))
    rank = {"count_ptr": "*i32", "key_ptr": "*i64", "nearest_ptr": "*i64", "distance_ptr": "*fp32"}
    rank |= dict.fromkeys(["first", "rows", "total", "k"], "i32")
    cases.append(AotCase(_rank, rank, _RANK, _ROW_WARPS, _STAGES))
    return cases
