"""The HGNN operator on a GPU: two passes over the members, everything else fused into them.

A table is gathered into its hyperedges by ``gather_reduce``, which scales vertices on the way in
and hyperedges on the way out; ragged hyperedges and all vertices are sums over segments, balanced
as those of ``incidence_spmm`` are, with scale, bias and ELU at the end of the same pass. All
samples of a batch are in one launch, as their vertices and hyperedges are numbered through.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase
from hypergraph_kernels._segments import Segments
from hypergraph_kernels.gather_reduce import triton_kernels as gather_reduce
from hypergraph_kernels.incidence_spmm.triton_kernels import (
    _STAGES,
    _WARPS,
    _WINDOW,
    _tiles,
    _window_sums,
    weighted_sum,
)


@triton.jit
def _scaled_segment_sums(
    out_ptr,  # [num_segments, channels]
    partial_ptr,  # [windows, 2, channels]
    x_ptr,  # [num_inputs, channels]
    values_ptr,  # [nnz]
    columns_ptr,
    offsets_ptr,
    order_ptr,
    scale_ptr,  # [num_segments]
    bias_ptr,  # [channels]
    factor,
    channels,
    HAS_VALUES: tl.constexpr,
    HAS_ORDER: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ELU: tl.constexpr,
    WINDOW: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """``out[r] = act(factor * scale[r] * sum of segment r + bias)``."""
    segment = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    begin = tl.load(offsets_ptr + segment).to(tl.int64)
    end = tl.load(offsets_ptr + segment + 1).to(tl.int64)
    is_long = end - begin > WINDOW
    sums = weighted_sum(
        x_ptr,
        values_ptr,
        columns_ptr,
        order_ptr,
        begin,
        tl.where(is_long, begin, end),
        channel,
        channels,
        1,
        HAS_VALUES,
        HAS_ORDER,
        POSITIONS,
        CHANNELS,
    )
    if is_long:  # its pieces lie in the windows
        pieces = tl.zeros((POSITIONS, CHANNELS), tl.float32)
        stop = (end - 1) // WINDOW + 1
        for start in range(begin // WINDOW, stop, POSITIONS):
            window = start + tl.arange(0, POSITIONS)
            # A segment that begins inside a window is the last one there.
            side = (window * WINDOW < begin).to(tl.int64)
            row = window * 2 + side
            mask = (window < stop)[:, None] & inside[None, :]
            pieces += tl.load(
                partial_ptr + row[:, None] * channels + channel[None, :], mask=mask, other=0.0
            )
        sums = tl.sum(pieces, 0)
    sums = sums * factor
    if HAS_SCALE:
        sums = sums * tl.load(scale_ptr + segment).to(tl.float32)
    if HAS_BIAS:
        sums = sums + tl.load(bias_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    if ELU:
        sums = tl.where(sums > 0, sums, tl.exp(tl.minimum(sums, 0.0)) - 1)
    tl.store(out_ptr + segment * channels + channel, sums, mask=inside)


def hgnn_propagate(
    z: Tensor,
    by_edge: Tensor | Segments,
    by_node: Segments,
    edge_scale: Tensor | None,
    factor: float,
    node_scale: Tensor | None,
    values: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """The operator; ``factor`` scales its result (a hyperedge scale that is one number)."""
    z = z.contiguous()
    if isinstance(by_edge, Tensor):
        edges = gather_reduce.gather_reduce(z, by_edge, values, node_scale, edge_scale)
    else:
        weights, listed = values, by_edge
        if node_scale is not None:  # one weight per pair, in the order of the segments
            weights = node_scale.index_select(0, by_edge.columns)
            listed = by_edge._replace(order=None)
            if values is not None:
                own = values if by_edge.order is None else values.index_select(0, by_edge.order)
                weights = weights * own
        edges = _sums(z, weights, listed, edge_scale, 1.0, None, None)
    return _sums(edges, values, by_node, node_scale, factor, bias, activation)


def _sums(
    x: Tensor,
    values: Tensor | None,
    segments: Segments,
    scale: Tensor | None,
    factor: float,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    columns, offsets, order = segments
    nnz, num_segments, channels = columns.shape[0], offsets.shape[0] - 1, x.shape[1]
    out = x.new_empty(num_segments, channels)
    if out.numel() == 0:
        return out
    tiles = _tiles(channels)
    blocks, windows = triton.cdiv(channels, tiles["CHANNELS"]), triton.cdiv(nnz, _WINDOW)
    constants = {"HAS_VALUES": values is not None, "HAS_ORDER": order is not None, **tiles}
    given = (
        x,
        x if values is None else values.contiguous(),
        columns.contiguous(),
        offsets.contiguous(),
        columns if order is None else order.contiguous(),
    )
    launch = {"num_warps": _WARPS, "num_stages": _STAGES}
    partial = x.new_empty(0, dtype=torch.float32)
    with torch.cuda.device_of(x):
        if windows > 1:
            partial = x.new_empty(windows, 2, channels, dtype=torch.float32)
            sizes = (num_segments, x.shape[0], nnz, channels, 1, windows)
            _window_sums[(windows, blocks, 1)](
                partial, *given, *sizes, num_segments.bit_length(), **constants, **launch
            )
        _scaled_segment_sums[(num_segments, blocks)](
            out,
            partial,
            *given,
            *(x if tensor is None else tensor.contiguous() for tensor in (scale, bias)),
            factor,
            channels,
            **constants,
            **_epilogue(scale is not None, bias is not None, activation == "elu"),
            **launch,
        )
    return out


def _epilogue(scale: bool, bias: bool, elu: bool) -> dict[str, bool]:
    return {"HAS_SCALE": scale, "HAS_BIAS": bias, "ELU": elu}


def aot_cases() -> list[AotCase]:
    """The kernel as it is launched; the others are in the lists of their own folders."""
    cases = []
    for dtype in ("*fp32", "*bf16", "*fp16"):
        signature = {
            "out_ptr": dtype,
            "partial_ptr": "*fp32",
            **dict.fromkeys(["x_ptr", "values_ptr"], dtype),
            **dict.fromkeys(["columns_ptr", "offsets_ptr", "order_ptr"], "*i64"),
            **dict.fromkeys(["scale_ptr", "bias_ptr"], dtype),
            "factor": "fp32",
            "channels": "i32",
        }
        for channels, values, epilogue in (
            (1, True, (True, True, True)),
            (64, True, (True, False, False)),
            (256, False, (True, False, False)),
            (256, True, (True, True, True)),
        ):
            constants = {
                "HAS_VALUES": values,
                "HAS_ORDER": values,
                **_epilogue(*epilogue),
                **_tiles(channels),
            }
            cases.append(AotCase(_scaled_segment_sums, signature, constants, _WARPS, _STAGES))
    return cases
