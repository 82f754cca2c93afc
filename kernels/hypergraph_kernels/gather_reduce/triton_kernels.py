"""Sums of the rows that a table names, on a GPU: one program per row of the table and block.

All rows of a table have as many slots, so nothing has to be balanced, and no offsets are read. The
transposed sums are ragged: they are those of ``incidence_spmm``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm import triton_kernels as incidence_spmm

_TILE = 1024  # elements of the rows that a program has in flight
_MAX_CHANNELS = 128  # of one program
_WARPS = 4  # with 2, half precision rows of 64 channels spill where they are not aligned
_STAGES = 3  # Triton's default


@triton.jit
def _table_sums(
    out_ptr,  # [edges, channels]
    x_ptr,  # [num_rows, channels]
    index_ptr,  # [edges, slots]
    weights_ptr,  # [edges, slots]
    row_scale_ptr,  # [num_rows]
    edge_scale_ptr,  # [edges]
    slots,
    channels,
    HAS_WEIGHTS: tl.constexpr,
    HAS_ROW_SCALE: tl.constexpr,
    HAS_EDGE_SCALE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """``out[e] = edge_scale[e] * sum_j weights[e, j] * (row_scale * x)[index[e, j]]``."""
    edge = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    total = tl.zeros((POSITIONS, CHANNELS), tl.float32)
    for start in range(0, slots, POSITIONS):
        slot = start + tl.arange(0, POSITIONS)
        present = slot < slots
        place = edge * slots + slot
        row = tl.load(index_ptr + place, mask=present, other=0).to(tl.int64)
        rows = tl.load(
            x_ptr + row[:, None] * channels + channel[None, :],
            mask=present[:, None] & inside[None, :],
            other=0.0,
        ).to(tl.float32)
        if HAS_WEIGHTS:
            weight = tl.load(weights_ptr + place, mask=present, other=0.0).to(tl.float32)
            rows = rows * weight[:, None]
        if HAS_ROW_SCALE:
            scale = tl.load(row_scale_ptr + row, mask=present, other=0.0).to(tl.float32)
            rows = rows * scale[:, None]
        total += rows
    sums = tl.sum(total, 0)
    if HAS_EDGE_SCALE:
        sums = sums * tl.load(edge_scale_ptr + edge).to(tl.float32)
    tl.store(out_ptr + edge * channels + channel, sums, mask=inside)


def gather_reduce(
    x: Tensor,
    index: Tensor,
    weights: Tensor | None,
    row_scale: Tensor | None = None,
    edge_scale: Tensor | None = None,
) -> Tensor:
    """Weighted sums of rows, each row scaled before and each sum after in the same pass."""
    (edges, slots), channels = index.shape, x.shape[1]
    out = x.new_empty(edges, channels)
    if out.numel() == 0:
        return out
    if slots == 0:
        return out.zero_()
    x, tiles = x.contiguous(), _tiles(channels)
    given = (weights, row_scale, edge_scale)
    with torch.cuda.device_of(x):
        _table_sums[(edges, triton.cdiv(channels, tiles["CHANNELS"]))](
            out,
            x,
            index.contiguous(),
            *(x if tensor is None else tensor.contiguous() for tensor in given),
            slots,
            channels,
            **_options(*(tensor is not None for tensor in given)),
            **tiles,
            num_warps=_WARPS,
            num_stages=_STAGES,
        )
    return out


def gather_reduce_transposed(y: Tensor, transposed: Segments, weights: Tensor | None) -> Tensor:
    """Sums of the rows of ``y`` whose slots name a vertex."""
    values = None if weights is None else weights.flatten()
    return incidence_spmm.incidence_spmm(y, values, transposed)


def _tiles(channels: int) -> dict[str, int]:
    width = min(max(triton.next_power_of_2(channels), 16), _MAX_CHANNELS)
    return {"POSITIONS": _TILE // width, "CHANNELS": width}


def _options(weights: bool, row_scale: bool, edge_scale: bool) -> dict[str, bool]:
    return {"HAS_WEIGHTS": weights, "HAS_ROW_SCALE": row_scale, "HAS_EDGE_SCALE": edge_scale}


def aot_cases() -> list[AotCase]:
    """The kernel as it is launched by itself and by ``hgnn_propagate``."""
    cases = []
    for dtype in ("*fp32", "*bf16", "*fp16"):
        signature = {
            **dict.fromkeys(["out_ptr", "x_ptr"], dtype),
            "index_ptr": "*i64",
            **dict.fromkeys(["weights_ptr", "row_scale_ptr", "edge_scale_ptr"], dtype),
            "slots": "i32",
            "channels": "i32",
        }
        for channels, *given in (
            (1, True, True, True),
            (64, False, True, False),
            (64, True, True, True),
            (256, False, False, False),
            (256, True, True, True),
        ):
            constants = {**_options(*given), **_tiles(channels)}
            cases.append(AotCase(_table_sums, signature, constants, _WARPS, _STAGES))
    return cases
