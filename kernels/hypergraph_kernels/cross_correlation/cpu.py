"""Tile by tile in plain PyTorch, on any device: every tile is used up while it is in the cache."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Rows and columns of a tile. 1 MiB of float32 stays in a core's cache between the product that
# makes it and the one that uses it: 512 x 512 ran at the speed of a large matrix product, while
# tiles of 256 full rows (4 MiB at M = 4096) lost 10 to 15 %.
_TILE = 512
# Bytes of scores that are kept where several products need them: all of 1024 x 1024 for a batch of
# eight, half of 4096 x 4096. A constant, so that memory still grows as O(N + M).
_KEPT = 32 << 20


class Tile(NamedTuple):
    """Samples, rows and columns of one tile of ``f(P Q^T)``."""

    samples: slice
    rows: slice
    columns: slice


def matmul(p: Tensor, q: Tensor, x: Tensor, function: str) -> Tensor:
    """``f(P Q^T) X``."""
    dtype = x.dtype
    p, q, x = _wide(p, q, x)
    out = x.new_zeros(p.shape[0], p.shape[1], x.shape[2])
    scores = Scratch(p, q)
    for tile in tiles(p, q):
        value = apply_(function, scores.product(p, q, tile))
        out[tile.samples, tile.rows].baddbmm_(value, x[tile.samples, tile.columns])
    return out.to(dtype)


def matmul_backward(
    grad: Tensor, p: Tensor, q: Tensor, x: Tensor, function: str, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``matmul`` to p, q and x (empty unless asked for) in one pass."""
    dtype = x.dtype
    grad, p, q, x = _wide(grad, p, q, x)
    grad_p, grad_q = torch.zeros_like(p), torch.zeros_like(q)
    grad_x = torch.zeros_like(x) if needs_x else x.new_empty(0)
    scores, slopes = Scratch(p, q), Scratch(p, q)
    for tile in tiles(p, q):
        samples, rows, columns = tile
        value, slope = value_and_slope_(function, scores.product(p, q, tile))
        if needs_x:
            grad_x[samples, columns].baddbmm_(value.mT, grad[samples, rows])
        grad_scores = slopes.product(grad, x, tile).mul_(slope)
        grad_p[samples, rows].baddbmm_(grad_scores, q[samples, columns])
        grad_q[samples, columns].baddbmm_(grad_scores.mT, p[samples, rows])
    return grad_p.to(dtype), grad_q.to(dtype), grad_x.to(dtype)


def matmul_double_backward(
    toward_p: Tensor,
    toward_q: Tensor,
    toward_x: Tensor,
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    x: Tensor,
    function: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``matmul_backward`` to grad, p, q and x; see the README for the formula."""
    dtype = x.dtype
    toward_p, toward_q, toward_x = _wide(toward_p, toward_q, toward_x)
    grad, p, q, x = _wide(grad, p, q, x)
    grad_grad, grad_p = torch.zeros_like(grad), torch.zeros_like(p)
    grad_q, grad_x = torch.zeros_like(q), torch.zeros_like(x)
    for tile in tiles(p, q):
        samples, rows, columns = tile
        p_t, q_t, grad_t, x_t = p[samples, rows], q[samples, columns], grad[samples, rows], None
        x_t, a, b = x[samples, columns], toward_p[samples, rows], toward_q[samples, columns]
        c = toward_x[samples, columns]
        value, slope = value_and_slope_(function, p_t @ q_t.mT)
        towards = a @ q_t.mT + p_t @ b.mT
        inner = grad_t @ x_t.mT
        bent = slope * towards
        grad_grad[samples, rows] += bent @ x_t + value @ c
        grad_x[samples, columns] += bent.mT @ grad_t
        grad_scores = slope * (grad_t @ c.mT)
        if function == "exp":  # the second derivative of abs is 0 away from 0
            grad_scores += bent * inner
        inner *= slope
        grad_p[samples, rows] += grad_scores @ q_t + inner @ b
        grad_q[samples, columns] += grad_scores.mT @ p_t + inner.mT @ a
    return grad_grad.to(dtype), grad_p.to(dtype), grad_q.to(dtype), grad_x.to(dtype)


def kept_size(p: Tensor, q: Tensor) -> int:
    """How many entries of ``P Q^T`` are kept."""
    itemsize = torch.promote_types(p.dtype, torch.float32).itemsize
    return min(p.shape[0] * p.shape[1] * q.shape[1], _KEPT // itemsize)


def scores(p: Tensor, q: Tensor) -> Tensor:
    """``P Q^T`` for the first tiles, one after another, as many as are kept."""
    size = kept_size(p, q)
    p, q = _wide(p, q)
    out = p.new_empty(size)
    start = 0
    for tile in tiles(p, q):
        stop = start + _area(tile)
        if stop > size:
            break
        part = out[start:stop].view(_shape(tile))
        torch.bmm(p[tile.samples, tile.rows], q[tile.samples, tile.columns].mT, out=part)
        start = stop
    return out


def degrees(
    p: Tensor, q: Tensor, function: str, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Row sums and column sums of ``f(P Q^T)`` in one pass."""
    dtype = p.dtype
    p, q = _wide(p, q)
    by_row, by_column = p.new_zeros(p.shape[:2]), q.new_zeros(q.shape[:2])
    for tile, score, room in scored_tiles(p, q, kept):
        samples, rows, columns = tile
        value = value_into(function, score, room)
        by_row[samples, rows] += value.sum(-1)
        by_column[samples, columns] += value.sum(-2)
    return by_row.to(dtype), by_column.to(dtype)


def degrees_backward(
    grad_row: Tensor,
    grad_column: Tensor,
    p: Tensor,
    q: Tensor,
    function: str,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of ``degrees`` to p and q in one pass."""
    dtype = p.dtype
    grad_row, grad_column, p, q = _wide(grad_row, grad_column, p, q)
    grad_p, grad_q = torch.zeros_like(p), torch.zeros_like(q)
    sums = Scratch(p, q)
    for tile, score, room in scored_tiles(p, q, kept):
        samples, rows, columns = tile
        slope = slope_into(function, score, room)
        grad_scores = sums.outer_sum(grad_row, grad_column, tile).mul_(slope)
        grad_p[samples, rows].baddbmm_(grad_scores, q[samples, columns])
        grad_q[samples, columns].baddbmm_(grad_scores.mT, p[samples, rows])
    return grad_p.to(dtype), grad_q.to(dtype)


def propagate(
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    extra: Tensor | None,
    function: str,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``E = extra + f(P Q^T)^T U`` and ``f(P Q^T) (scale E)``."""
    dtype = u.dtype
    p, q, u, scale = _wide(p, q, u, scale)
    if extra is None:
        edges = u.new_zeros(q.shape[0], q.shape[1], u.shape[2])
    else:
        edges = extra.to(u.dtype, copy=True, memory_format=torch.contiguous_format)
    out = torch.zeros_like(u)
    for tile, score, room in scored_tiles(p, q, kept):
        value = value_into(function, score, room)
        edges[tile.samples, tile.columns].baddbmm_(value.mT, u[tile.samples, tile.rows])
    scaled = scale.unsqueeze(-1) * edges
    for tile, score, room in scored_tiles(p, q, kept):
        value = value_into(function, score, room)
        out[tile.samples, tile.rows].baddbmm_(value, scaled[tile.samples, tile.columns])
    return out.to(dtype), edges.to(dtype)


def propagate_backward(
    grad: Tensor,
    grad_edges: Tensor,
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    edges: Tensor,
    function: str,
    needs_factors: bool,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``propagate`` to p and q (empty unless asked for), u, scale and extra.

    The first pass finds the gradient of E. With it the gradient of the whole matrix is known, as a
    sum of two products; the second pass makes it tile by tile.
    """
    dtype = u.dtype
    grad, p, q, u, scale, edges = _wide(grad, p, q, u, scale, edges)
    onto_scaled = torch.zeros_like(edges)
    for tile, score, room in scored_tiles(p, q, kept):
        value = value_into(function, score, room)
        onto_scaled[tile.samples, tile.columns].baddbmm_(value.mT, grad[tile.samples, tile.rows])
    grad_scale = (onto_scaled * edges).sum(-1)
    grad_extra = torch.addcmul(grad_edges.to(u.dtype), onto_scaled, scale.unsqueeze(-1))
    del onto_scaled
    grad_u = torch.zeros_like(u)
    if not needs_factors:
        for tile, score, room in scored_tiles(p, q, kept):
            value = value_into(function, score, room)
            grad_u[tile.samples, tile.rows].baddbmm_(value, grad_extra[tile.samples, tile.columns])
        grad_p, grad_q = p.new_empty(0), p.new_empty(0)
    else:
        grad_p, grad_q = torch.zeros_like(p), torch.zeros_like(q)
        scaled = scale.unsqueeze(-1) * edges
        matrix = Scratch(p, q)
        for tile, score, room in scored_tiles(p, q, kept, apart=True):
            samples, rows, columns = tile
            value = value_into(function, score, room)
            grad_u[samples, rows].baddbmm_(value, grad_extra[samples, columns])
            slope = value if function == "exp" else slope_into(function, score, room)
            grad_scores = matrix.product(grad, scaled, tile)
            grad_scores.baddbmm_(u[samples, rows], grad_extra[samples, columns].mT).mul_(slope)
            grad_p[samples, rows].baddbmm_(grad_scores, q[samples, columns])
            grad_q[samples, columns].baddbmm_(grad_scores.mT, p[samples, rows])
    return tuple(  # type: ignore[return-value]
        gradient.to(dtype) for gradient in (grad_p, grad_q, grad_u, grad_scale, grad_extra)
    )


def logsumexp(p: Tensor, q: Tensor) -> Tensor:
    """Row-wise ``log sum exp(P Q^T)``."""
    dtype = p.dtype
    p, q = _wide(p, q)
    out = p.new_empty(p.shape[:2])
    height = max(16, _TILE * _TILE // max(1, p.shape[0] * q.shape[1]))
    for start in range(0, p.shape[1], height):
        rows = slice(start, start + height)
        out[:, rows] = (p[:, rows] @ q.mT).logsumexp(-1)
    return out.to(dtype)


def logsumexp_backward(
    grad: Tensor, p: Tensor, q: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of ``logsumexp`` to p and q."""
    dtype = p.dtype
    grad, p, q, log_sum = _wide(grad, p, q, log_sum)
    grad_p, grad_q = torch.zeros_like(p), torch.zeros_like(q)
    scores = Scratch(p, q)
    for tile in tiles(p, q):
        samples, rows, columns = tile
        share = scores.product(p, q, tile).sub_(log_sum[samples, rows, None]).exp_()
        share.mul_(grad[samples, rows, None])
        grad_p[samples, rows].baddbmm_(share, q[samples, columns])
        grad_q[samples, columns].baddbmm_(share.mT, p[samples, rows])
    return grad_p.to(dtype), grad_q.to(dtype)


def tiles(p: Tensor, q: Tensor) -> Iterator[Tile]:
    """Cover every sample, row and column; small samples share a tile."""
    batch, height, width = p.shape[0], p.shape[1], q.shape[1]
    area = max(1, min(height, _TILE) * min(width, _TILE))
    together = max(1, _TILE * _TILE // area)
    for sample in range(0, batch, together):
        for row in range(0, height, _TILE):
            for column in range(0, width, _TILE):
                yield Tile(
                    slice(sample, min(sample + together, batch)),
                    slice(row, min(row + _TILE, height)),
                    slice(column, min(column + _TILE, width)),
                )


def scored_tiles(
    p: Tensor, q: Tensor, kept: Tensor | None, apart: bool = False
) -> Iterator[tuple[Tile, Tensor, Tensor]]:
    """Every tile, its scores ``P Q^T``, and memory of their size to write into.

    Scores are taken from what ``scores`` kept, as far as that goes. Where they are made again, the
    memory is their own, unless it is to be ``apart``.
    """
    made = Scratch(p, q)
    room = Scratch(p, q) if apart else made
    start = 0
    for tile in tiles(p, q):
        stop = start + _area(tile)
        if kept is not None and stop <= kept.shape[0]:
            score = kept[start:stop].view(_shape(tile))
        else:
            score = made.product(p, q, tile)
        yield tile, score, room.part(tile)
        start = stop


class Scratch:
    """Memory for one tile, used again for the next."""

    def __init__(self, p: Tensor, q: Tensor) -> None:
        first = next(tiles(p, q), None)
        size = 0 if first is None else _area(first)
        self._memory = p.new_empty(size)

    def product(self, left: Tensor, right: Tensor, tile: Tile) -> Tensor:
        """``left right^T`` restricted to the tile."""
        samples, rows, columns = tile
        out = self.part(tile)
        torch.bmm(left[samples, rows], right[samples, columns].mT, out=out)
        return out

    def outer_sum(self, left: Tensor, right: Tensor, tile: Tile) -> Tensor:
        """``left_i + right_j`` restricted to the tile."""
        samples, rows, columns = tile
        out = self.part(tile)
        torch.add(left[samples, rows, None], right[samples, None, columns], out=out)
        return out

    def part(self, tile: Tile) -> Tensor:
        """The memory, in the shape of a tile."""
        return self._memory[: _area(tile)].view(_shape(tile))


def _shape(tile: Tile) -> list[int]:
    return [part.stop - part.start for part in tile]


def _area(tile: Tile) -> int:
    return (
        (tile.samples.stop - tile.samples.start)
        * (tile.rows.stop - tile.rows.start)
        * (tile.columns.stop - tile.columns.start)
    )


def apply_(function: str, scores: Tensor) -> Tensor:
    """``f`` in place."""
    return scores.abs_() if function == "abs" else scores.exp_()


def value_and_slope_(function: str, scores: Tensor) -> tuple[Tensor, Tensor]:
    """``f`` in place of its argument, and the derivative (that of ``abs`` at 0 is 0)."""
    if function == "exp":
        value = scores.exp_()
        return value, value
    slope = scores.sign()
    return scores.abs_(), slope


def value_into(function: str, scores: Tensor, out: Tensor) -> Tensor:
    """``f`` of the scores."""
    return torch.abs(scores, out=out) if function == "abs" else torch.exp(scores, out=out)


def slope_into(function: str, scores: Tensor, out: Tensor) -> Tensor:
    """The derivative of ``f`` (that of ``abs`` at 0 is 0)."""
    return torch.sign(scores, out=out) if function == "abs" else torch.exp(scores, out=out)


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Contiguous and at least float32: sums over tiles must not be rounded to half precision."""
    return tuple(
        tensor.to(torch.promote_types(tensor.dtype, torch.float32)).contiguous()
        for tensor in tensors
    )
