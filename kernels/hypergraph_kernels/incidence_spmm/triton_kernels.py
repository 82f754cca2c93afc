"""Segmented sums and inner products on a GPU, balanced whatever the lengths of the segments.

Segments of more than ``_WINDOW`` positions are summed in pieces: ``_window_sums`` adds up what of
a long segment lies in every window of the list of pairs (at most two long segments meet in one),
``_segment_sums`` adds up a short segment itself, and the pieces of a long one. Inner products are
computed position by position, a block of them per program. Nothing is added atomically: results do
not depend on the schedule, and no length is read back by the host.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase
from hypergraph_kernels._segments import Segments

_WINDOW = 512
_TILE = 1024  # elements of the rows that a program has in flight
_MAX_CHANNELS = 128  # of one program
_DOTS = {"POSITIONS": 16, "CHANNELS": 32}
_WARPS = 4
_DOT_WARPS = 4
_STAGES = 3  # Triton's default


@triton.jit
def weighted_sum(
    x_ptr,  # of the sample, [num_inputs, channels]
    values_ptr,  # of the sample, [nnz, heads]
    columns_ptr,
    order_ptr,
    begin,
    end,
    channel,  # [CHANNELS]
    channels,
    heads,
    HAS_VALUES: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """[CHANNELS] sum of the weighted rows at positions begin to end."""
    inside = channel < channels
    total = tl.zeros((POSITIONS, CHANNELS), tl.float32)
    for start in range(begin, end, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        present = position < end
        column = tl.load(columns_ptr + position, mask=present, other=0).to(tl.int64)
        mask = present[:, None] & inside[None, :]
        rows = tl.load(
            x_ptr + column[:, None] * channels + channel[None, :], mask=mask, other=0.0
        ).to(tl.float32)
        if HAS_VALUES:
            pair = position
            if HAS_ORDER:
                pair = tl.load(order_ptr + position, mask=present, other=0)
            head = channel // (channels // heads)
            share = tl.load(
                values_ptr + pair.to(tl.int64)[:, None] * heads + head[None, :],
                mask=mask,
                other=0.0,
            )
            rows = rows * share.to(tl.float32)
        total += rows
    return tl.sum(total, 0)


@triton.jit
def segment_at(offsets_ptr, position, num_segments, steps):
    """The segment of a position, by bisection; steps >= log2(num_segments) + 1."""
    low = position * 0
    high = low + num_segments
    for _ in range(0, steps):
        middle = (low + high) // 2
        further = tl.load(offsets_ptr + middle) <= position
        low = tl.where(further, middle, low)
        high = tl.where(further, high, middle)
    return low


@triton.jit
def _window_sums(
    partial_ptr,  # [samples, windows, 2, channels]
    x_ptr,
    values_ptr,
    columns_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    num_inputs,
    nnz,
    channels,
    heads,
    windows,
    steps,
    HAS_VALUES: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    WINDOW: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """What lies in a window of the long segments at its first and at its last position."""
    window = tl.program_id(0).to(tl.int64) // 2
    side = tl.program_id(0) % 2
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    sample = tl.program_id(2).to(tl.int64)
    begin = window * WINDOW
    end = tl.minimum(begin + WINDOW, nnz)
    segment = segment_at(offsets_ptr, tl.where(side == 0, begin, end - 1), num_segments, steps)
    segment_begin = tl.load(offsets_ptr + segment)
    segment_end = tl.load(offsets_ptr + segment + 1)
    is_new = (side == 0) | (segment_begin > begin)
    if is_new & (segment_end - segment_begin > WINDOW):
        total = weighted_sum(
            x_ptr + sample * num_inputs * channels,
            values_ptr + sample * nnz * heads,
            columns_ptr,
            order_ptr,
            tl.maximum(begin, segment_begin),
            tl.minimum(end, segment_end),
            channel,
            channels,
            heads,
            HAS_VALUES,
            HAS_ORDER,
            POSITIONS,
            CHANNELS,
        )
        row = (sample * windows + window) * 2 + side
        tl.store(partial_ptr + row * channels + channel, total, mask=channel < channels)


@triton.jit
def _segment_sums(
    out_ptr,  # [samples, num_segments, channels]
    partial_ptr,
    x_ptr,
    values_ptr,
    columns_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    num_inputs,
    nnz,
    channels,
    heads,
    windows,
    HAS_VALUES: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    WINDOW: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    sample = tl.program_id(2).to(tl.int64)
    inside = channel < channels
    begin = tl.load(offsets_ptr + segment)
    end = tl.load(offsets_ptr + segment + 1)
    is_long = end - begin > WINDOW
    total = weighted_sum(
        x_ptr + sample * num_inputs * channels,
        values_ptr + sample * nnz * heads,
        columns_ptr,
        order_ptr,
        begin,
        tl.where(is_long, begin, end),
        channel,
        channels,
        heads,
        HAS_VALUES,
        HAS_ORDER,
        POSITIONS,
        CHANNELS,
    )
    if is_long:
        pieces = tl.zeros((POSITIONS, CHANNELS), tl.float32)
        stop = (end - 1) // WINDOW + 1
        for start in range(begin // WINDOW, stop, POSITIONS):
            window = start + tl.arange(0, POSITIONS)
            # A segment that begins inside a window is the last one there.
            side = (window * WINDOW < begin).to(tl.int64)
            row = (sample * windows + window) * 2 + side
            mask = (window < stop)[:, None] & inside[None, :]
            pieces += tl.load(
                partial_ptr + row[:, None] * channels + channel[None, :], mask=mask, other=0.0
            )
        total = tl.sum(pieces, 0)
    row = sample * num_segments + segment
    tl.store(out_ptr + row * channels + channel, total, mask=inside)


@triton.jit
def _pair_dots(
    out_ptr,  # [samples, nnz, heads]
    a_ptr,  # [samples, num_segments, heads * width]
    b_ptr,  # [samples, num_inputs, heads * width]
    columns_ptr,
    offsets_ptr,
    order_ptr,
    num_segments,
    num_inputs,
    nnz,
    width,
    heads,
    steps,
    HAS_ORDER: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    head = tl.program_id(1)
    sample = tl.program_id(2).to(tl.int64)
    present = position < nnz
    position = tl.where(present, position, nnz - 1)
    segment = segment_at(offsets_ptr, position, num_segments, steps)
    column = tl.load(columns_ptr + position)
    # Scalars first: with them in every row's address, ptxas 12.8 spills one for sm_90.
    a_ptr += (sample * num_segments * heads + head) * width
    b_ptr += (sample * num_inputs * heads + head) * width
    left_ptr = a_ptr + segment * heads * width
    right_ptr = b_ptr + column * heads * width
    total = tl.zeros((POSITIONS, CHANNELS), tl.float32)
    for start in range(0, width, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        mask = present[:, None] & (channel < width)[None, :]
        left = tl.load(left_ptr[:, None] + channel[None, :], mask=mask, other=0.0)
        right = tl.load(right_ptr[:, None] + channel[None, :], mask=mask, other=0.0)
        total += left.to(tl.float32) * right.to(tl.float32)
    pair = position
    if HAS_ORDER:
        pair = tl.load(order_ptr + position)
    tl.store(out_ptr + (sample * nnz + pair) * heads + head, tl.sum(total, 1), mask=present)


def incidence_spmm(x: Tensor, values: Tensor | None, segments: Segments) -> Tensor:
    """Weighted sums of rows.

    x [n, C] with values [nnz] or None; x [..., n, heads * C] with values [..., nnz, heads].
    """
    columns, offsets, order = segments
    nnz, num_segments, channels = columns.shape[0], offsets.shape[0] - 1, x.shape[-1]
    out = x.new_empty(*x.shape[:-2], num_segments, channels)
    if out.numel() == 0:
        return out
    if nnz == 0:
        return out.zero_()
    samples = x.shape[:-2].numel()
    x, columns, offsets = x.contiguous(), columns.contiguous(), offsets.contiguous()
    values = None if values is None else values.contiguous()
    heads = values.shape[-1] if values is not None and values.dim() > 1 else 1
    tiles = _tiles(channels)
    blocks = triton.cdiv(channels, tiles["CHANNELS"])
    windows = triton.cdiv(nnz, _WINDOW)
    constants = {"HAS_VALUES": values is not None, "HAS_ORDER": order is not None, **tiles}
    weights = x if values is None else values
    given = (x, weights, columns, offsets, columns if order is None else order)
    sizes = (num_segments, x.shape[-2], nnz, channels, heads, windows)
    launch = {"num_warps": _WARPS, "num_stages": _STAGES}
    partial = x.new_empty(0, dtype=torch.float32)
    with torch.cuda.device_of(x):
        if windows > 1:
            partial = x.new_empty(samples, windows, 2, channels, dtype=torch.float32)
            _window_sums[(2 * windows, blocks, samples)](
                partial, *given, *sizes, num_segments.bit_length(), **constants, **launch
            )
        _segment_sums[(num_segments, blocks, samples)](
            out, partial, *given, *sizes, **constants, **launch
        )
    return out


def sampled_dot(a: Tensor, b: Tensor, segments: Segments, heads: int | None = None) -> Tensor:
    """Inner products of row pairs, [nnz] or with heads [..., nnz, heads]."""
    columns, offsets, order = segments
    nnz, num_segments, channels = columns.shape[0], offsets.shape[0] - 1, a.shape[-1]
    out = a.new_empty(nnz if heads is None else (*a.shape[:-2], nnz, heads))
    if out.numel() == 0:
        return out
    if channels == 0:
        return out.zero_()
    heads = 1 if heads is None else heads
    samples = a.shape[:-2].numel()
    with torch.cuda.device_of(a):
        _pair_dots[(triton.cdiv(nnz, _DOTS["POSITIONS"]), heads, samples)](
            out,
            a.contiguous(),
            b.contiguous(),
            columns.contiguous(),
            offsets.contiguous(),
            columns if order is None else order,
            num_segments,
            b.shape[-2],
            nnz,
            channels // heads,
            heads,
            num_segments.bit_length(),
            HAS_ORDER=order is not None,
            **_DOTS,
            num_warps=_DOT_WARPS,
            num_stages=_STAGES,
        )
    return out


def _tiles(channels: int) -> dict[str, int]:
    width = min(max(triton.next_power_of_2(channels), 16), _MAX_CHANNELS)
    return {"WINDOW": _WINDOW, "POSITIONS": _TILE // width, "CHANNELS": width}


def aot_cases() -> list[AotCase]:
    """Every kernel as it is launched, at the narrowest and the widest channels."""
    indices = dict.fromkeys(["columns_ptr", "offsets_ptr", "order_ptr"], "*i64")
    sizes = dict.fromkeys(["num_segments", "num_inputs", "nnz", "channels", "heads"], "i32")
    cases = []
    widths = {"*fp32": (1, 64, 256), "*bf16": (256,), "*fp16": (256,)}
    for dtype in widths:
        flags = [(channels, True) for channels in widths[dtype]]
        for channels, flag in [*flags, (256, False)]:
            rows = {"partial_ptr": "*fp32", "x_ptr": dtype, "values_ptr": dtype, **indices}
            rows |= {**sizes, "windows": "i32"}
            constants = {"HAS_VALUES": flag, "HAS_ORDER": flag, **_tiles(channels)}
            signature = {**rows, "steps": "i32"}
            cases.append(AotCase(_window_sums, signature, constants, _WARPS, _STAGES))
            signature = {"out_ptr": dtype, **rows}
            cases.append(AotCase(_segment_sums, signature, constants, _WARPS, _STAGES))
        dots = {"out_ptr": dtype, "a_ptr": dtype, "b_ptr": dtype, **indices, **sizes}
        del dots["channels"]
        dots = {**dots, "width": "i32", "steps": "i32"}
        for has_order in (True, False):
            constants = {"HAS_ORDER": has_order, **_DOTS}
            cases.append(AotCase(_pair_dots, dots, constants, _DOT_WARPS, _STAGES))
    return cases
