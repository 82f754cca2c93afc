"""Products with ``f(P Q^T)`` computed tile by tile: O(N M) work, O(N + M) memory."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Elementwise = Literal["abs", "exp"]

_TILE_ELEMENTS = 1 << 20  # entries of f(P Q^T) alive at a time: 4 MiB of float32


def streamed_matmul(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    x: Tensor,  # [batch, M, channels]
    function: Elementwise,
) -> Tensor:
    """Multiply ``f(P Q^T)`` with ``X`` without storing the N x M matrix.

    ``out = f(P Q^T) X``, with f applied to every entry. The product with the transpose is
    ``streamed_matmul(q, p, y, function)``.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors.
        x: [batch, M, channels] features of the same dtype.
        function: ``"abs"`` or ``"exp"``.

    Returns:
        [batch, N, channels]. Differentiable once with respect to ``p``, ``q`` and ``x``; the
        backward recomputes the tiles (2 N M (2d + 2 channels) multiply-adds). The derivative of
        ``abs`` at 0 is taken as 0.

    Raises:
        ValueError: a shape or the function does not fit.
    """
    if function not in get_args(Elementwise):
        raise ValueError(f"`function` must be one of 'abs', 'exp', got {function!r}")
    _check_factors(p, q)
    if x.dim() != 3 or x.shape[:2] != q.shape[:2]:
        raise ValueError(
            f"`x` must have shape [{q.shape[0]}, {q.shape[1]}, channels], got {list(x.shape)}"
        )
    out: Tensor = _StreamedMatmul.apply(p, q, x, function)
    return out


def streamed_logsumexp(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
) -> Tensor:
    """Row-wise ``log(sum over columns of exp(P Q^T))`` without storing the N x M matrix.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors.

    Returns:
        [batch, N]; differentiable once.

    Raises:
        ValueError: a shape does not fit.
    """
    _check_factors(p, q)
    out: Tensor = _StreamedLogSumExp.apply(p, q)
    return out


def _check_factors(p: Tensor, q: Tensor) -> None:
    if p.dim() != 3:
        raise ValueError(f"`p` must have shape [batch, N, d], got {list(p.shape)}")
    if q.dim() != 3 or q.shape[0] != p.shape[0] or q.shape[2] != p.shape[2]:
        raise ValueError(
            f"`q` must have shape [{p.shape[0]}, M, {p.shape[2]}], got {list(q.shape)}"
        )


def _row_tiles(p: Tensor, q: Tensor) -> Iterator[slice]:
    batch, num_rows, _ = p.shape
    rows = max(16, _TILE_ELEMENTS // max(1, batch * q.shape[1]))
    return (slice(start, start + rows) for start in range(0, num_rows, rows))


def _apply_(function: Elementwise, scores: Tensor) -> Tensor:
    return scores.abs_() if function == "abs" else scores.exp_()


class _StreamedMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor, x: Tensor, function: Elementwise) -> Tensor:
        ctx.save_for_backward(p, q, x)
        ctx.function = function
        with torch.autocast(p.device.type, enabled=False):
            q_t = q.mT
            tiles = [_apply_(function, p[:, t] @ q_t) @ x for t in _row_tiles(p, q)]
        if not tiles:
            return x.new_zeros(p.shape[0], 0, x.shape[2])
        return torch.cat(tiles, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        p, q, x = ctx.saved_tensors
        needs_p, needs_q, needs_x = ctx.needs_input_grad[:3]
        grad_p = torch.empty_like(p) if needs_p else None
        grad_q = torch.zeros_like(q) if needs_q else None
        grad_x = torch.zeros_like(x) if needs_x else None
        with torch.autocast(p.device.type, enabled=False):
            for tile in _row_tiles(p, q):
                p_tile, grad_tile = p[:, tile], grad[:, tile]
                scores = p_tile @ q.mT
                slope = scores.sign() if ctx.function == "abs" else None
                value = _apply_(ctx.function, scores)
                if grad_x is not None:
                    grad_x.baddbmm_(value.mT, grad_tile)
                if grad_p is None and grad_q is None:
                    continue
                grad_scores = (grad_tile @ x.mT).mul_(value if slope is None else slope)
                if grad_p is not None:
                    grad_p[:, tile] = grad_scores @ q
                if grad_q is not None:
                    grad_q.baddbmm_(grad_scores.mT, p_tile)
        return grad_p, grad_q, grad_x, None


class _StreamedLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor) -> Tensor:
        with torch.autocast(p.device.type, enabled=False):
            tiles = [(p[:, t] @ q.mT).logsumexp(-1) for t in _row_tiles(p, q)]
        out = torch.cat(tiles, 1) if tiles else p.new_zeros(p.shape[:2])
        ctx.save_for_backward(p, q, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        p, q, out = ctx.saved_tensors
        grad_p = torch.empty_like(p)
        grad_q = torch.zeros_like(q)
        with torch.autocast(p.device.type, enabled=False):
            for tile in _row_tiles(p, q):
                scores = p[:, tile] @ q.mT
                scores.sub_(out[:, tile, None]).exp_().mul_(grad[:, tile, None])
                grad_p[:, tile] = scores @ q
                grad_q.baddbmm_(scores.mT, p[:, tile])
        return grad_p, grad_q
