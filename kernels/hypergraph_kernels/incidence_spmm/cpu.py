"""Both products through kernels that PyTorch has, on any device."""

import warnings
from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels._segments import Segments, check_segments
from hypergraph_kernels.incidence_spmm.reference import in_order, out_of_order, rows_of

# Where there are several threads, segments longer than this, and than 1 / 256 of all pairs, are
# added up in pieces: embedding_bag gives every thread equally many segments, whatever their
# lengths. One thread would be a fifth slower for it.
_LONG = 1024
_PIECE = 512

_SUM = 0  # embedding_bag's number for mode="sum"


def incidence_spmm(x: Tensor, values: Tensor | None, segments: Segments) -> Tensor:
    """Weighted sums of rows; nothing of size nnz x channels is stored.

    x [n, C] with values [nnz] or None; x [..., n, heads * C] with values [..., nnz, heads].
    """
    columns, offsets, _ = segments
    num_segments = offsets.shape[0] - 1
    if columns.numel() == 0 or num_segments == 0 or x.numel() == 0:
        return x.new_zeros(*x.shape[:-2], num_segments, x.shape[-1])
    if values is not None and values.dim() == 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if values is None or values.dim() == 1:
        weights = None if values is None else in_order(values, segments)
        return _sums(columns, offsets, x.contiguous(), weights)
    samples, heads = _groups(values)
    # One list of segments for all samples and heads, over rows of one head: head k of row r is row
    # r * heads + k. An index out of range would be a row of another sample.
    check_segments(segments, x.shape[-2])
    columns, offsets = _repeated(segments, samples, heads, x.shape[-2])
    weights = in_order(values, segments, -2).transpose(-1, -2).flatten()
    channels = x.shape[-1] // heads
    out = _sums(columns, offsets, x.reshape(-1, channels), weights)
    out = out.view(*x.shape[:-2], heads, num_segments, channels)
    return out.transpose(-3, -2).flatten(-2).contiguous()


def sampled_dot(a: Tensor, b: Tensor, segments: Segments, heads: int | None = None) -> Tensor:
    """Inner products of row pairs, [nnz] or with heads [..., nnz, heads]."""
    columns, offsets, _ = segments
    nnz = columns.shape[0]
    if heads is None:
        if columns.numel() == 0 or a.shape[1] == 0:
            return a.new_zeros(nnz)
        check_segments(segments, b.shape[-2])
        dots = _dots(a.contiguous(), b.contiguous(), columns, offsets)
        return out_of_order(dots, segments, 0)
    if columns.numel() == 0 or a.numel() == 0 or b.numel() == 0:
        return a.new_zeros(*a.shape[:-2], nnz, heads)
    check_segments(segments, b.shape[-2])
    channels = a.shape[-1] // heads
    columns, offsets = _repeated(segments, a.shape[:-2].numel(), heads, b.shape[-2])
    a = a.unflatten(-1, (heads, channels)).transpose(-3, -2).reshape(-1, channels)
    dots = _dots(a, b.reshape(-1, channels), columns, offsets).view(*b.shape[:-2], heads, nnz)
    return out_of_order(dots.transpose(-1, -2).contiguous(), segments, -2)


def _groups(values: Tensor) -> tuple[int, int]:
    return values.shape[:-2].numel(), values.shape[-1]


def _repeated(
    segments: Segments, samples: int, heads: int, num_inputs: int
) -> tuple[Tensor, Tensor]:
    """The segments once for every sample and head, one after the other."""
    columns, offsets, _ = segments
    nnz, groups, device = columns.shape[0], samples * heads, columns.device
    if groups == 1:
        return columns, offsets
    small = max(groups * nnz, groups * num_inputs) < 1 << 31
    dtype = torch.int32 if small else torch.int64
    group = torch.arange(groups, dtype=dtype, device=device).unsqueeze(-1)
    first = group + group // heads * ((num_inputs - 1) * heads)
    # sample * num_inputs * heads + column * heads + head
    repeated = (columns.to(dtype) * heads + first).flatten()
    bounds = (offsets[:-1].to(dtype) + group * nnz).flatten()
    return repeated, torch.cat([bounds, bounds.new_full((1,), groups * nnz)])


def _sums(columns: Tensor, offsets: Tensor, x: Tensor, weights: Tensor | None) -> Tensor:
    limit = _long(columns, offsets)
    if limit is None:
        return _bags(columns, offsets, x, weights)
    return _balanced_sums(columns, offsets, x, weights, limit)


def _bags(columns: Tensor, offsets: Tensor, x: Tensor, weights: Tensor | None) -> Tensor:
    return F.embedding_bag(
        columns, x, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _long(columns: Tensor, offsets: Tensor) -> int | None:
    """From which length on a segment is cut; None if none is as long."""
    limit = max(_LONG, columns.shape[0] // 256)
    if columns.device.type != "cpu" or columns.shape[0] <= limit or torch.get_num_threads() == 1:
        return None
    return limit if int(offsets.diff().max()) > limit else None


def _balanced_sums(
    columns: Tensor, offsets: Tensor, x: Tensor, weights: Tensor | None, limit: int
) -> Tensor:
    """Long segments in pieces of one length, in a call of their own."""
    dtype = x.dtype
    x = x.to(torch.promote_types(dtype, torch.float32))  # sums of pieces are not rounded
    weights = None if weights is None else weights.to(x.dtype)
    lengths = offsets.diff()
    long = (lengths > limit).nonzero().flatten()
    starts, sizes = offsets[long].tolist(), lengths[long].tolist()
    inside = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    ends = [0, *(part.stop for part in inside)]
    outside = [slice(a, b) for a, b in zip(ends, [*starts, columns.shape[0]], strict=True)]

    short = lengths.index_fill(0, long, 0).cumsum(0).to(offsets.dtype)
    out = _bags(
        _joined(columns, outside),
        torch.cat([short.new_zeros(1), short]),
        x,
        None if weights is None else _joined(weights, outside),
    )
    pieces: list[int] = []
    first, begin = [0], 0
    for size in sizes:
        pieces.extend(range(begin, begin + size, _PIECE))
        begin += size
        first.append(len(pieces))
    partial = _bags(
        _joined(columns, inside),
        offsets.new_tensor([*pieces, begin]),
        x,
        None if weights is None else _joined(weights, inside),
    )
    numbers = torch.arange(len(pieces), dtype=offsets.dtype)
    out[long] = _bags(numbers, offsets.new_tensor(first), partial, None)
    return out.to(dtype)


def _joined(tensor: Tensor, parts: Iterable[slice]) -> Tensor:
    pieces = [tensor[part] for part in parts if part.stop > part.start]
    return pieces[0] if len(pieces) == 1 else torch.cat([tensor[:0], *pieces])


def _dots(a: Tensor, b: Tensor, columns: Tensor, offsets: Tensor) -> Tensor:
    """[nnz] inner products in the order of the positions.

    On a CPU ``sampled_addmm`` takes 1.0 ms for 4096 x 25 pairs of 64 channels, the gradient of
    embedding_bag with respect to its weights 2.5, gathering both sides 48.
    """
    if a.device.type != "cpu":
        rows = rows_of(Segments(columns, offsets, None)).to(columns.dtype)
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            a, b, columns.contiguous(), offsets[:-1], rows, _SUM
        )
    dtype = a.dtype
    wide = torch.promote_types(dtype, torch.float32)
    a, b = a.to(wide), b.to(wide)
    limit = _long(columns, offsets)
    if columns.shape[0] > a.shape[0] * b.shape[0]:
        # sampled_addmm drops what a matrix of this shape without repeated entries cannot hold.
        limit = b.shape[0]
    if limit is not None:
        owner, offsets = _cut(offsets, limit)
        a = a.index_select(0, owner)
    quiet()
    shape = (a.shape[0], b.shape[0])
    zeros = a.new_zeros(columns.shape[0])
    pattern = torch.sparse_csr_tensor(offsets, columns, zeros, shape, check_invariants=False)
    dots = torch.sparse.sampled_addmm(pattern, a, b.t(), beta=0.0, out=pattern).values()
    return dots.to(dtype)


def _cut(offsets: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Segments of at most ``limit`` positions, and of which segment each is a piece."""
    pieces = offsets.diff().add_(limit - 1).div_(limit, rounding_mode="floor").clamp_min_(1)
    owner = torch.repeat_interleave(pieces)
    number = torch.arange(owner.shape[0]) - (pieces.cumsum(0) - pieces).index_select(0, owner)
    bounds = offsets.index_select(0, owner) + (number * limit).to(offsets.dtype)
    return owner, torch.cat([bounds, offsets[-1:]])


@cache
def quiet() -> None:
    """Take the warning that sparse CSR is in beta, which PyTorch gives once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)
