"""Softmax over segments on a GPU, balanced whatever the lengths of the segments.

Three launches: ``_window_statistics`` finds the largest score and the sum of powers of what of a
long segment lies in every window of the list of pairs, ``_segment_statistics`` those of a segment,
from its pairs or, where it is long, from its windows, and ``_shares`` goes through the pairs. The
backward sums with the kernels of ``incidence_spmm`` and ends with ``_slopes``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm import triton_kernels as spmm
from hypergraph_kernels.incidence_spmm.triton_kernels import segment_at

_WINDOW = 512
_TILE = 1024  # scores that a program has in flight
_MAX_SCORES = 64  # of one pair in one program
_TINY = torch.finfo(torch.float32).tiny
_WINDOW_WARPS = 8  # with 4, Triton 3.6 spills on sm_90
_SEGMENT_WARPS = 4
_PAIR_WARPS = 4
_STAGES = 3  # Triton's default


@triton.jit
def _finite(score):
    """The score to subtract: 0 in place of one that is infinite or NaN."""
    return tl.where(tl.abs(score) < float("inf"), score, 0.0)


@triton.jit
def _merged(highest, total, other, powers):
    """The largest score and the sum of powers of two lists."""
    joint = tl.maximum(highest, other)
    zero = _finite(joint)
    total = total * tl.exp(highest - zero)
    shift = tl.where(other == float("-inf"), other, _finite(other) - zero)
    return joint, total + powers * tl.exp(shift)


@triton.jit
def _statistics(
    scores_ptr,  # of the sample, [nnz, K]
    weight_ptr,
    order_ptr,
    begin,
    end,
    score,  # [SCORES]
    scores,
    HAS_WEIGHT: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    POSITIONS: tl.constexpr,
    SCORES: tl.constexpr,
):
    """[SCORES] largest score of positions begin to end, and the sum of their powers."""
    highest = tl.full((SCORES,), float("-inf"), tl.float32)
    total = tl.zeros((SCORES,), tl.float32)
    for start in range(begin, end, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        present = position < end
        pair = position
        if HAS_ORDER:
            pair = tl.load(order_ptr + position, mask=present, other=0)
        weight = tl.full((POSITIONS,), 1.0, tl.float32)
        if HAS_WEIGHT:
            weight = tl.load(weight_ptr + pair, mask=present, other=0.0)
            present = present & (weight > 0)
        mask = present[:, None] & (score < scores)[None, :]
        tile = tl.load(
            scores_ptr + pair.to(tl.int64)[:, None] * scores + score[None, :],
            mask=mask,
            other=float("-inf"),
        )
        best = tl.max(tile, 0)
        powers = tl.exp(tile - _finite(best)[None, :])
        powers = tl.where(mask, powers * weight[:, None], 0.0)
        highest, total = _merged(highest, total, best, tl.sum(powers, 0))
    return highest, total


@triton.jit
def _window_statistics(
    partial_ptr,  # [samples, windows, 2, 2, K]: largest score and sum, of two segments
    scores_ptr,
    weight_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    nnz,
    scores,
    windows,
    steps,
    HAS_WEIGHT: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    WINDOW: tl.constexpr,
    POSITIONS: tl.constexpr,
    SCORES: tl.constexpr,
):
    """Of the long segments at the first and at the last position of a window."""
    window = tl.program_id(0).to(tl.int64) // 2
    side = tl.program_id(0) % 2
    score = tl.program_id(1) * SCORES + tl.arange(0, SCORES)
    sample = tl.program_id(2).to(tl.int64)
    begin = window * WINDOW
    end = tl.minimum(begin + WINDOW, nnz)
    segment = segment_at(offsets_ptr, tl.where(side == 0, begin, end - 1), num_segments, steps)
    segment_begin = tl.load(offsets_ptr + segment)
    segment_end = tl.load(offsets_ptr + segment + 1)
    is_new = (side == 0) | (segment_begin > begin)
    if is_new & (segment_end - segment_begin > WINDOW):
        highest, total = _statistics(
            scores_ptr + sample * nnz * scores,
            weight_ptr,
            order_ptr,
            tl.maximum(begin, segment_begin),
            tl.minimum(end, segment_end),
            score,
            scores,
            HAS_WEIGHT,
            HAS_ORDER,
            POSITIONS,
            SCORES,
        )
        row = ((sample * windows + window) * 2 + side) * 2
        tl.store(partial_ptr + row * scores + score, highest, mask=score < scores)
        tl.store(partial_ptr + (row + 1) * scores + score, total, mask=score < scores)


@triton.jit
def _segment_statistics(
    found_ptr,  # [samples, num_segments, 2, K]: what to subtract, and 1 / sum
    partial_ptr,
    scores_ptr,
    weight_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    nnz,
    scores,
    windows,
    TINY: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    WINDOW: tl.constexpr,
    POSITIONS: tl.constexpr,
    SCORES: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    score = tl.program_id(1) * SCORES + tl.arange(0, SCORES)
    sample = tl.program_id(2).to(tl.int64)
    inside = score < scores
    begin = tl.load(offsets_ptr + segment)
    end = tl.load(offsets_ptr + segment + 1)
    is_long = end - begin > WINDOW
    highest, total = _statistics(
        scores_ptr + sample * nnz * scores,
        weight_ptr,
        order_ptr,
        begin,
        tl.where(is_long, begin, end),
        score,
        scores,
        HAS_WEIGHT,
        HAS_ORDER,
        POSITIONS,
        SCORES,
    )
    if is_long:
        for window in range(begin // WINDOW, (end - 1) // WINDOW + 1):
            # A segment that begins inside a window is the last one there.
            side = (window * WINDOW < begin).to(tl.int64)
            row = ((sample * windows + window) * 2 + side) * 2
            other = tl.load(partial_ptr + row * scores + score, mask=inside, other=float("-inf"))
            powers = tl.load(partial_ptr + (row + 1) * scores + score, mask=inside, other=0.0)
            highest, total = _merged(highest, total, other, powers)
    counts = total > TINY
    inverse = tl.where(counts, 1.0 / tl.where(counts, total, 1.0), 0.0)
    row = (sample * num_segments + segment) * 2
    tl.store(found_ptr + row * scores + score, _finite(highest), mask=inside)
    tl.store(found_ptr + (row + 1) * scores + score, inverse, mask=inside)


@triton.jit
def _shares(
    alpha_ptr,  # [samples, nnz, K]
    found_ptr,
    scores_ptr,
    weight_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    nnz,
    scores,
    steps,
    HAS_WEIGHT: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    POSITIONS: tl.constexpr,
    SCORES: tl.constexpr,
):
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    score = tl.program_id(1) * SCORES + tl.arange(0, SCORES)
    sample = tl.program_id(2).to(tl.int64)
    mask = (position < nnz)[:, None] & (score < scores)[None, :]
    position = tl.minimum(position, nnz - 1)
    segment = segment_at(offsets_ptr, position, num_segments, steps)
    pair = position
    if HAS_ORDER:
        pair = tl.load(order_ptr + position)
    place = (sample * nnz + pair)[:, None] * scores + score[None, :]
    row = (sample * num_segments + segment)[:, None] * 2
    lowered = tl.load(scores_ptr + place, mask=mask, other=0.0)
    lowered -= tl.load(found_ptr + row * scores + score[None, :], mask=mask, other=0.0)
    inverse = tl.load(found_ptr + (row + 1) * scores + score[None, :], mask=mask, other=0.0)
    alpha = tl.exp(lowered)
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + pair)[:, None]
        alpha = tl.where(weight > 0, alpha, 0.0) * tl.where(weight > 0, weight, 0.0)
    tl.store(alpha_ptr + place, alpha * inverse, mask=mask)


@triton.jit
def _slopes(
    slope_ptr,  # [samples, nnz, K]
    products_ptr,
    alpha_ptr,
    totals_ptr,  # [samples, num_segments, K]
    offsets_ptr,
    order_ptr,
    num_segments,
    nnz,
    scores,
    steps,
    HAS_ORDER: tl.constexpr,
    POSITIONS: tl.constexpr,
    SCORES: tl.constexpr,
):
    """``products - alpha totals``."""
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    score = tl.program_id(1) * SCORES + tl.arange(0, SCORES)
    sample = tl.program_id(2).to(tl.int64)
    mask = (position < nnz)[:, None] & (score < scores)[None, :]
    position = tl.minimum(position, nnz - 1)
    segment = segment_at(offsets_ptr, position, num_segments, steps)
    pair = position
    if HAS_ORDER:
        pair = tl.load(order_ptr + position)
    place = (sample * nnz + pair)[:, None] * scores + score[None, :]
    row = (sample * num_segments + segment)[:, None] * scores + score[None, :]
    slope = tl.load(products_ptr + place, mask=mask, other=0.0)
    alpha = tl.load(alpha_ptr + place, mask=mask, other=0.0)
    slope -= alpha * tl.load(totals_ptr + row, mask=mask, other=0.0)
    tl.store(slope_ptr + place, slope, mask=mask)


def incidence_softmax(
    scores: Tensor,  # [nnz, K] or [B, nnz, K]
    offsets: Tensor,
    order: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """The softmax of float32 scores."""
    alpha = scores.new_empty(scores.shape)
    if alpha.numel() == 0:
        return alpha
    nnz, width, samples = scores.shape[-2], scores.shape[-1], scores.shape[:-2].numel()
    num_segments = offsets.shape[0] - 1
    scores, offsets = scores.contiguous(), offsets.contiguous()
    tiles, windows = _tiles(width), triton.cdiv(nnz, _WINDOW)
    blocks, steps = triton.cdiv(width, tiles["SCORES"]), num_segments.bit_length()
    weights = scores if weight is None else weight.contiguous()
    given = (scores, weights, offsets, offsets if order is None else order)
    constants = {"HAS_WEIGHT": weight is not None, "HAS_ORDER": order is not None, **tiles}
    launch = {"num_warps": _WINDOW_WARPS, "num_stages": _STAGES}
    sizes = (num_segments, nnz, width, windows)
    found = scores.new_empty(samples, num_segments, 2, width)
    partial = scores.new_empty(0)
    with torch.cuda.device_of(scores):
        if windows > 1:
            partial = scores.new_empty(samples, windows, 2, 2, width)
            _window_statistics[(2 * windows, blocks, samples)](
                partial, *given, *sizes, steps, WINDOW=_WINDOW, **constants, **launch
            )
        launch["num_warps"] = _SEGMENT_WARPS
        _segment_statistics[(num_segments, blocks, samples)](
            found, partial, *given, *sizes, TINY=_TINY, WINDOW=_WINDOW, **constants, **launch
        )
        launch["num_warps"] = _PAIR_WARPS
        _shares[(triton.cdiv(nnz, tiles["POSITIONS"]), blocks, samples)](
            alpha, found, *given, num_segments, nnz, width, steps, **constants, **launch
        )
    return alpha


def incidence_softmax_backward(
    alpha: Tensor,  # [nnz, K] or [B, nnz, K]
    grad: Tensor,
    offsets: Tensor,
    order: Tensor | None,
) -> Tensor:
    """``alpha (grad - sum over the segment of alpha grad)``."""
    slope = alpha.new_empty(alpha.shape)
    if slope.numel() == 0:
        return slope
    nnz, width, samples = alpha.shape[-2], alpha.shape[-1], alpha.shape[:-2].numel()
    num_segments = offsets.shape[0] - 1
    products = (alpha * grad).contiguous()
    position = order
    if position is None:
        position = torch.arange(nnz, dtype=offsets.dtype, device=offsets.device)
    totals = spmm.incidence_spmm(products, None, Segments(position, offsets, None))
    tiles = _tiles(width)
    grid = (triton.cdiv(nnz, tiles["POSITIONS"]), triton.cdiv(width, tiles["SCORES"]), samples)
    with torch.cuda.device_of(alpha):
        _slopes[grid](
            slope,
            products,
            alpha.contiguous(),
            totals,
            offsets.contiguous(),
            position,
            num_segments,
            nnz,
            width,
            num_segments.bit_length(),
            HAS_ORDER=order is not None,
            **tiles,
            num_warps=_PAIR_WARPS,
            num_stages=_STAGES,
        )
    return slope


def _tiles(width: int) -> dict[str, int]:
    scores = min(triton.next_power_of_2(width), _MAX_SCORES)
    return {"POSITIONS": min(_TILE // scores, 256), "SCORES": scores}


def aot_cases() -> list[AotCase]:
    """Every kernel as it is launched, with few and with many scores per pair."""
    indices = {"offsets_ptr": "*i64", "order_ptr": "*i64"}
    sizes = {"num_segments": "i32", "nnz": "i32", "scores": "i32"}
    given = {"scores_ptr": "*fp32", "weight_ptr": "*fp32", **indices, **sizes}
    found = {"found_ptr": "*fp32"}
    partial = {"partial_ptr": "*fp32"}
    pairs = {"slope_ptr": "*fp32", "products_ptr": "*fp32", "alpha_ptr": "*fp32"}
    cases = []
    for width, flag in ((1, True), (1, False), (8, True), (64, True)):
        constants = {"HAS_WEIGHT": flag, "HAS_ORDER": flag, **_tiles(width)}
        windows = {**constants, "WINDOW": _WINDOW}
        signature = {**partial, **given, "windows": "i32", "steps": "i32"}
        cases.append(AotCase(_window_statistics, signature, windows, _WINDOW_WARPS, _STAGES))
        signature = {**found, **partial, **given, "windows": "i32"}
        segments = {**windows, "TINY": _TINY}
        cases.append(AotCase(_segment_statistics, signature, segments, _SEGMENT_WARPS, _STAGES))
        signature = {"alpha_ptr": "*fp32", **found, **given, "steps": "i32"}
        cases.append(AotCase(_shares, signature, constants, _PAIR_WARPS, _STAGES))
        constants = {"HAS_ORDER": flag, **_tiles(width)}
        signature = {**pairs, "totals_ptr": "*fp32", **indices, **sizes, "steps": "i32"}
        cases.append(AotCase(_slopes, signature, constants, _PAIR_WARPS, _STAGES))
    return cases
