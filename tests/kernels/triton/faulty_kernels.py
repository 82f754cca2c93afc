"""Kernels that the ahead-of-time gate must refuse, one fault each, and one without a fault."""

from __future__ import annotations

import triton
import triton.language as tl

from hypergraph_kernels._aot import AotCase


@triton.jit
def sound(x_ptr, index_ptr, out_ptr, size, channels, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = rows < size
    source = tl.load(index_ptr + rows, mask=here, other=0).to(tl.int64)
    target = rows.to(tl.int64)
    for start in range(0, channels, WIDTH):
        columns = start + tl.arange(0, WIDTH)
        mask = here[:, None] & (columns < channels)[None, :]
        values = tl.load(x_ptr + source[:, None] * channels + columns[None, :], mask=mask)
        tl.store(out_ptr + target[:, None] * channels + columns[None, :], values, mask=mask)


@triton.jit
def narrow_row(x_ptr, out_ptr, size, channels, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, WIDTH)
    mask = (rows < size)[:, None] & (columns < channels)[None, :]
    values = tl.load(x_ptr + rows.to(tl.int64)[:, None] * channels + columns[None, :], mask=mask)
    tl.store(out_ptr + rows[:, None] * channels + columns[None, :], values, mask=mask)


@triton.jit
def widened_too_late(x_ptr, out_ptr, channels, WIDTH: tl.constexpr):
    columns = tl.arange(0, WIDTH)
    offset = (tl.program_id(0) * channels).to(tl.int64) + columns
    tl.store(out_ptr + offset, tl.load(x_ptr + offset, mask=columns < channels))


@triton.jit
def narrow_constant(x_ptr, out_ptr, WIDTH: tl.constexpr):
    offset = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    tl.store(out_ptr + offset, tl.load(x_ptr + offset))


@triton.jit
def narrow_round_a_loop(x_ptr, out_ptr, size, channels, WIDTH: tl.constexpr):
    columns = tl.arange(0, WIDTH)
    offset = columns
    total = tl.zeros((WIDTH,), tl.float32)
    for _ in range(size):
        total += tl.load(x_ptr + offset, mask=columns < channels)
        offset += channels * size
    tl.store(out_ptr + columns, total, mask=columns < channels)


@triton.jit
def too_much_shared(a_ptr, b_ptr, out_ptr, channels, SIZE: tl.constexpr, STEP: tl.constexpr):
    rows = tl.arange(0, SIZE).to(tl.int64)
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for start in range(0, channels, STEP):
        columns = start + tl.arange(0, STEP)
        a = tl.load(a_ptr + rows[:, None] * channels + columns[None, :])
        b = tl.load(b_ptr + rows[:, None] * channels + columns[None, :])
        total = tl.dot(a, tl.trans(b), total)
    out = out_ptr + rows[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    tl.store(out, total)


@triton.jit
def spills(x_ptr, out_ptr, SIZE: tl.constexpr):
    rows = tl.arange(0, SIZE).to(tl.int64)
    tile = tl.load(x_ptr + rows[:, None] * SIZE + rows[None, :])
    total = tl.sum(tile, 0)
    tl.store(out_ptr + rows[:, None] * SIZE + rows[None, :], tile * total[None, :] + tl.sum(tile))


def aot_cases() -> list[AotCase]:
    copy = {"x_ptr": "*fp32", "out_ptr": "*fp32"}
    product = {"a_ptr": "*bf16", "b_ptr": "*bf16", "out_ptr": "*fp32", "channels": "i32"}
    blocks = {"BLOCK": 16, "WIDTH": 64}
    sizes = {"size": "i32", "channels": "i32"}
    return [
        AotCase(sound, {**copy, "index_ptr": "*i32", **sizes}, blocks, 4, 1),
        AotCase(narrow_row, {**copy, **sizes}, blocks, 4, 1),
        AotCase(widened_too_late, {**copy, "channels": "i32"}, {"WIDTH": 64}, 4, 1),
        AotCase(narrow_constant, copy, {"WIDTH": 64}, 4, 1),
        AotCase(narrow_round_a_loop, {**copy, **sizes}, {"WIDTH": 64}, 4, 1),
        AotCase(too_much_shared, product, {"SIZE": 128, "STEP": 128}, 8, 4),
        AotCase(spills, copy, {"SIZE": 256}, 4, 1),
    ]
