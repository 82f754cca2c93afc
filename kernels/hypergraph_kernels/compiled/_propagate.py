"""The HGNN operator."""

import ctypes
import math

import torch
from torch import Tensor

from hypergraph_kernels.compiled._library import in_threads, library, pointer

# Bytes that a block of channels takes for all vertices: it is to stay in a core's cache. Below 32
# channels the finding of rows takes longer than a larger cache; only threads make it less.
_BLOCK_BYTES = 1 << 18
_NARROW, _NARROWEST = 32, 16
_NARROW_ROWS = 1 << 16  # rows that 16 bits can number
_SUMS_PER_THREAD = 1 << 20


class _Segments(ctypes.Structure):
    _fields_ = [
        ("columns", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("slots", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("nnz", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("narrow", ctypes.c_void_p),
    ]


def propagate(
    z: Tensor,  # [nodes, channels]
    by_edge: tuple[Tensor, Tensor | None, Tensor | None],
    by_node: tuple[Tensor, Tensor | None, Tensor | None],
    edge_scale: Tensor | None = None,  # [edges]
    factor: float = 1.0,
    node_scale: Tensor | None = None,  # [nodes]
) -> Tensor:
    """Compute ``node_scale * H (factor * edge_scale * (H^T (node_scale * z)))``.

    Uses ``torch.get_num_threads()`` threads; the result does not depend on how many.

    Args:
        z: [nodes, channels] float32 on a CPU, contiguous, like all others.
        by_edge: columns, offsets and values: what every hyperedge gathers. Columns [edges, slots]
            int64 without offsets, or [nnz] with offsets [edges + 1]; values [nnz] float32 in the
            order of the columns, or None for ones.
        by_node: likewise, what every vertex gathers.
        edge_scale: [edges] or None for ones.
        factor: one more factor.
        node_scale: [nodes] or None for ones.

    Returns:
        [nodes, channels].

    Raises:
        IndexError: a column is out of range, or offsets do not fit.
    """
    nodes, channels = z.shape
    inward, outward = _segments(*by_edge), _segments(*by_node)
    edges = inward.rows
    room = [_room(inward, nodes), _room(outward, edges)]
    functions, first, second = library(), ctypes.byref(inward), ctypes.byref(outward)
    if (
        outward.rows != nodes
        or functions.hgk_check_segments(first, nodes)
        or functions.hgk_check_segments(second, edges)
    ):
        raise IndexError(f"segments name rows beyond {nodes} vertices and {edges} hyperedges")
    float32 = torch.float32
    for name, scale, size in (("edge", edge_scale, edges), ("node", node_scale, nodes)):
        if scale is not None and scale.shape != (size,):
            raise ValueError(f"`{name}_scale` must have shape [{size}], got {list(scale.shape)}")
    out = torch.empty_like(z)
    source, target = pointer(z, float32), pointer(out, float32)
    scales = pointer(edge_scale, float32), factor, pointer(node_scale, float32)
    width = max(_NARROW, _BLOCK_BYTES // (4 * max(nodes, 1)) // _NARROWEST * _NARROWEST)
    threads = min(torch.get_num_threads(), inward.nnz * channels // _SUMS_PER_THREAD)
    blocks = math.ceil(channels / width)
    if threads > 1:  # a multiple of their number, none much narrower than the others
        blocks = math.ceil(blocks / threads) * threads
    width = math.ceil(channels / max(blocks, 1) / _NARROWEST) * _NARROWEST
    starts = range(0, channels, max(width, 1))
    threads = max(1, min(threads, len(starts)))

    def work(part: int) -> None:
        workspace = torch.empty((2 * nodes + edges) * width)
        for start in starts[part::threads]:
            count = min(width, channels - start)
            functions.hgk_propagate(
                source,
                channels,
                start,
                count,
                first,
                second,
                *scales,
                target,
                pointer(workspace, float32),
            )

    in_threads(work, threads)
    del room  # the library has read it to here
    return out


def _segments(columns: Tensor, offsets: Tensor | None, values: Tensor | None) -> _Segments:
    slots = columns.shape[1] if offsets is None else 0
    rows = columns.shape[0] if offsets is None else offsets.shape[0] - 1
    if values is not None and values.numel() != columns.numel():
        raise ValueError(f"{columns.numel()} columns but {values.numel()} values")
    return _Segments(
        pointer(columns, torch.int64),
        pointer(offsets, torch.int64),
        slots,
        rows,
        columns.numel(),
        pointer(values, torch.float32),
    )


def _room(segments: _Segments, inputs: int) -> Tensor | None:
    """Memory for the columns in 16 bits, where those hold the number of every row."""
    if inputs > _NARROW_ROWS:
        return None
    room = torch.empty(segments.nnz, dtype=torch.int16)
    segments.narrow = pointer(room, torch.int16)
    return room
