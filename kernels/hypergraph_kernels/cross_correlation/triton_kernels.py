"""Products with ``f(P Q^T)`` on a GPU: every program makes the tiles that it needs, in registers.

Three kernels serve all ops, forward and backward, each also for the transpose (with P and Q in
each other's place). No program adds to what another one writes, so results do not depend on the
schedule.

- ``_apply``: ``f(P Q^T) X``, a block of rows and channels per program, over all columns.
- ``_row_sums``: row sums of f, or log sum exp with a running maximum.
- ``_pull_back``: ``(f'(P Q^T) * (L R^T + a 1^T + 1 b^T)) Q``, the gradient of P where that of the
  matrix is a product plus sums: L and R are all pairs of factors side by side.

Tensors are contiguous float32, their last dimension filled up with zeros to a multiple of
``_STEP``: loads are aligned whatever the sizes, and need no mask there. ``tl.dot`` computes in
float32 proper, or in TF32 where ``torch.set_float32_matmul_precision`` allows it, as
``torch.matmul`` does. Sums are float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from hypergraph_kernels._aot import AotCase

_STEP = 32
# Chosen so that nothing spills on sm_80 and sm_90, by Triton 3.6 or 3.9. Full precision runs on the
# ordinary cores, where a tile takes more registers.
_TILE = {"ROWS": 64, "COLUMNS": 64, "num_warps": 8}
_TILES = {"tf32": _TILE, "ieee": _TILE}
_PULL_TILES = {"tf32": _TILE, "ieee": {"ROWS": 32, "COLUMNS": 64, "num_warps": 8}}
_WIDTH = 64  # channels, or entries of a factor, that one program writes
_STAGES = 2
_PRECISIONS = {"highest": "ieee", "high": "tf32", "medium": "tf32"}


@triton.jit
def _products(
    left_ptr,  # [n, inner]
    right_ptr,  # [m, inner]
    rows,
    columns,
    n,
    m,
    inner,
    PRECISION: tl.constexpr,
    STEP: tl.constexpr,
):
    """A tile of ``left right^T``."""
    left_at = left_ptr + rows.to(tl.int64)[:, None] * inner
    right_at = right_ptr + columns.to(tl.int64)[:, None] * inner
    out = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for start in range(0, inner, STEP):
        k = (start + tl.arange(0, STEP))[None, :]
        a = tl.load(left_at + k, mask=(rows < n)[:, None], other=0.0)
        b = tl.load(right_at + k, mask=(columns < m)[:, None], other=0.0)
        out = tl.dot(a, tl.trans(b), out, input_precision=PRECISION)
    return out


@triton.jit
def _apply(
    p_ptr,  # [batch, n, d]
    q_ptr,  # [batch, m, d]
    x_ptr,  # [batch, m, channels]
    out_ptr,  # [batch, n, channels]
    n,
    m,
    d,
    channels,
    ABS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
):
    blocks = tl.cdiv(n, ROWS)
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    p_ptr += sample * n * d
    q_ptr += sample * m * d
    x_ptr += sample * m * channels
    out_ptr += sample * n * channels
    out = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, m, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        score = _products(p_ptr, q_ptr, rows, columns, n, m, d, PRECISION, STEP)
        value = tl.abs(score) if ABS else tl.exp(score)
        x = tl.load(
            x_ptr + columns.to(tl.int64)[:, None] * channels + channel[None, :],
            mask=(columns < m)[:, None] & (channel < channels)[None, :],
            other=0.0,
        )
        out = tl.dot(value, x, out, input_precision=PRECISION)
    tl.store(
        out_ptr + rows.to(tl.int64)[:, None] * channels + channel[None, :],
        out,
        mask=(rows < n)[:, None] & (channel < channels)[None, :],
    )


@triton.jit
def _row_sums(
    p_ptr,  # [batch, n, d]
    q_ptr,  # [batch, m, d]
    out_ptr,  # [batch, n]
    n,
    m,
    d,
    ABS: tl.constexpr,
    LOGARITHM: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    blocks = tl.cdiv(n, ROWS)
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    p_ptr += sample * n * d
    q_ptr += sample * m * d
    total = tl.zeros((ROWS,), tl.float32)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    for start in range(0, m, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        score = _products(p_ptr, q_ptr, rows, columns, n, m, d, PRECISION, STEP)
        here = (columns < m)[None, :]
        if LOGARITHM:
            score = tl.where(here, score, float("-inf"))
            larger = tl.maximum(largest, tl.max(score, 1))
            total = total * tl.exp(largest - larger) + tl.sum(tl.exp(score - larger[:, None]), 1)
            largest = larger
        else:
            value = tl.abs(score) if ABS else tl.exp(score)
            total += tl.sum(tl.where(here, value, 0.0), 1)
    if LOGARITHM:
        total = largest + tl.log(total)
    tl.store(out_ptr + sample * n + rows, total, mask=rows < n)


@triton.jit
def _pull_back(
    p_ptr,  # [batch, n, d]
    q_ptr,  # [batch, m, d]
    left_ptr,  # [batch, n, inner]
    right_ptr,  # [batch, m, inner]
    by_row_ptr,  # [batch, n], where WITH_SUMS
    by_column_ptr,  # [batch, m], where WITH_SUMS
    out_ptr,  # [batch, n, d]
    n,
    m,
    d,
    inner,
    ABS: tl.constexpr,
    WITH_SUMS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
):
    blocks = tl.cdiv(n, ROWS)
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    entry = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    p_ptr += sample * n * d
    q_ptr += sample * m * d
    left_ptr += sample * n * inner
    right_ptr += sample * m * inner
    out = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, m, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        score = _products(p_ptr, q_ptr, rows, columns, n, m, d, PRECISION, STEP)
        grad = _products(left_ptr, right_ptr, rows, columns, n, m, inner, PRECISION, STEP)
        if WITH_SUMS:
            grad += tl.load(by_row_ptr + sample * n + rows, mask=rows < n, other=0.0)[:, None]
            in_column = tl.load(by_column_ptr + sample * m + columns, mask=columns < m, other=0.0)
            grad += in_column[None, :]
        if ABS:
            grad = tl.where(score > 0, grad, tl.where(score < 0, -grad, 0.0))
        else:
            grad *= tl.exp(score)
        q = tl.load(
            q_ptr + columns.to(tl.int64)[:, None] * d + entry[None, :],
            mask=(columns < m)[:, None] & (entry < d)[None, :],
            other=0.0,
        )
        out = tl.dot(grad, q, out, input_precision=PRECISION)
    tl.store(
        out_ptr + sample * n * d + rows.to(tl.int64)[:, None] * d + entry[None, :],
        out,
        mask=(rows < n)[:, None] & (entry < d)[None, :],
    )


def matmul(p: Tensor, q: Tensor, x: Tensor, function: str) -> Tensor:
    """``f(P Q^T) X``."""
    dtype = x.dtype
    p, q, x = _ready(p, q, x)
    return _applied(p, q, x, function).to(dtype)


def matmul_backward(
    grad: Tensor, p: Tensor, q: Tensor, x: Tensor, function: str, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``matmul`` to p, q and x (empty unless asked for)."""
    dtype = x.dtype
    grad, p, q, x = _ready(grad, p, q, x)
    grad_p = _pulled_back(p, q, grad, x, None, function)
    grad_q = _pulled_back(q, p, x, grad, None, function)
    grad_x = _applied(q, p, grad, function) if needs_x else x.new_empty(0)
    return grad_p.to(dtype), grad_q.to(dtype), grad_x.to(dtype)


def degrees(p: Tensor, q: Tensor, function: str) -> tuple[Tensor, Tensor]:
    """Row sums and column sums of ``f(P Q^T)``."""
    dtype = p.dtype
    p, q = _ready(p, q)
    return _summed(p, q, function).to(dtype), _summed(q, p, function).to(dtype)


def degrees_backward(
    grad_row: Tensor, grad_column: Tensor, p: Tensor, q: Tensor, function: str
) -> tuple[Tensor, Tensor]:
    """Gradients of ``degrees`` to p and q."""
    dtype = p.dtype
    grad_row, grad_column, p, q = _ready(grad_row, grad_column, p, q)
    left, right = p[..., :0], q[..., :0]
    grad_p = _pulled_back(p, q, left, right, (grad_row, grad_column), function)
    grad_q = _pulled_back(q, p, right, left, (grad_column, grad_row), function)
    return grad_p.to(dtype), grad_q.to(dtype)


def propagate(
    p: Tensor, q: Tensor, u: Tensor, scale: Tensor, extra: Tensor | None, function: str
) -> tuple[Tensor, Tensor]:
    """``E = extra + f(P Q^T)^T U`` and ``f(P Q^T) (scale E)``."""
    dtype = u.dtype
    p, q, u, scale = _ready(p, q, u, scale)
    edges = _applied(q, p, u, function)
    if extra is not None:
        edges += extra
    out = _applied(p, q, scale.unsqueeze(-1) * edges, function)
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``propagate`` to p and q (empty unless asked for), u, scale and extra."""
    dtype = u.dtype
    grad, p, q, u, scale, edges = _ready(grad, p, q, u, scale, edges)
    onto_scaled = _applied(q, p, grad, function)
    grad_scale = (onto_scaled * edges).sum(-1)
    grad_extra = torch.addcmul(grad_edges.to(u.dtype), onto_scaled, scale.unsqueeze(-1))
    grad_u = _applied(p, q, grad_extra, function)
    grad_p, grad_q = p.new_empty(0), p.new_empty(0)
    if needs_factors:
        left = torch.cat([grad, u], -1)
        right = torch.cat([scale.unsqueeze(-1) * edges, grad_extra], -1)
        grad_p = _pulled_back(p, q, left, right, None, function)
        grad_q = _pulled_back(q, p, right, left, None, function)
    return tuple(  # type: ignore[return-value]
        gradient.to(dtype) for gradient in (grad_p, grad_q, grad_u, grad_scale, grad_extra)
    )


def logsumexp(p: Tensor, q: Tensor) -> Tensor:
    """Row-wise ``log sum exp(P Q^T)``."""
    dtype = p.dtype
    p, q = _ready(p, q)
    if q.shape[1] == 0:
        return p.new_full(p.shape[:2], -torch.inf).to(dtype)
    return _summed(p, q, "exp", logarithm=True).to(dtype)


def logsumexp_backward(
    grad: Tensor, p: Tensor, q: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of ``logsumexp`` to p and q: those of a sum of exp, of shifted scores."""
    dtype, rank = p.dtype, p.shape[2]
    grad, p, q, log_sum = _ready(grad, p, q, log_sum)
    rows = torch.cat([p, -log_sum.unsqueeze(-1)], -1)
    columns = torch.cat([q, torch.ones_like(q[..., :1])], -1)
    if rank == 0:
        columns = q.new_ones(*q.shape[:2], 1)
    grad_p, grad_q = degrees_backward(grad, grad.new_zeros(q.shape[:2]), rows, columns, "exp")
    grad_p, grad_q = grad_p[..., :rank], grad_q[..., :rank]
    return grad_p.to(dtype, copy=True), grad_q.to(dtype, copy=True)


def _ready(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.float().contiguous() for tensor in tensors)


def _applied(p: Tensor, q: Tensor, x: Tensor, function: str) -> Tensor:
    (batch, n, _), (_, m, channels) = p.shape, x.shape
    if batch * n * channels == 0:
        return p.new_zeros(batch, n, channels)
    p, q, x = _filled(p, q, x)
    out, tile = p.new_empty(batch, n, x.shape[2]), _tile(_TILES)
    grid = (batch * triton.cdiv(n, tile["ROWS"]), triton.cdiv(x.shape[2], _WIDTH))
    _apply[grid](
        p,
        q,
        x,
        out,
        n,
        m,
        p.shape[2],
        x.shape[2],
        ABS=function == "abs",
        WIDTH=_WIDTH,
        **tile,
    )
    return out[..., :channels].contiguous()


def _summed(p: Tensor, q: Tensor, function: str, logarithm: bool = False) -> Tensor:
    (batch, n, _), m = p.shape, q.shape[1]
    if batch * n == 0:
        return p.new_zeros(batch, n)
    p, q = _filled(p, q)
    out, tile = p.new_empty(batch, n), _tile(_TILES)
    grid = (batch * triton.cdiv(n, tile["ROWS"]),)
    is_abs = function == "abs"
    _row_sums[grid](p, q, out, n, m, p.shape[2], ABS=is_abs, LOGARITHM=logarithm, **tile)
    return out


def _pulled_back(
    p: Tensor,
    q: Tensor,
    left: Tensor,
    right: Tensor,
    sums: tuple[Tensor, Tensor] | None,
    function: str,
) -> Tensor:
    (batch, n, d), m = p.shape, q.shape[1]
    if batch * n * d == 0:
        return torch.zeros_like(p)
    p, q, left, right = _filled(p, q, left, right)
    out, tile = torch.empty_like(p), _tile(_PULL_TILES)
    grid = (batch * triton.cdiv(n, tile["ROWS"]), triton.cdiv(p.shape[2], _WIDTH))
    by_row, by_column = (out, out) if sums is None else sums
    _pull_back[grid](
        p,
        q,
        left,
        right,
        by_row,
        by_column,
        out,
        n,
        m,
        p.shape[2],
        left.shape[2],
        ABS=function == "abs",
        WITH_SUMS=sums is not None,
        WIDTH=_WIDTH,
        **tile,
    )
    return out[..., :d].contiguous()


def _filled(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The last dimension filled up with zeros to a multiple of ``_STEP``."""
    return tuple(F.pad(tensor, (0, -tensor.shape[-1] % _STEP)) for tensor in tensors)


def _tile(tiles: dict[str, dict[str, int]], precision: str | None = None) -> dict[str, Any]:
    if precision is None:
        precision = _PRECISIONS[torch.get_float32_matmul_precision()]
    return {"PRECISION": precision, "STEP": _STEP, "num_stages": _STAGES, **tiles[precision]}


def aot_cases() -> list[AotCase]:
    """Every kernel as the functions above launch it."""
    factors = {"p_ptr": "*fp32", "q_ptr": "*fp32"}
    sizes = {"n": "i32", "m": "i32", "d": "i32:16"}
    applied = {**factors, "x_ptr": "*fp32", "out_ptr": "*fp32", **sizes, "channels": "i32:16"}
    summed = {**factors, "out_ptr": "*fp32", **sizes}
    pulled = dict.fromkeys(["left_ptr", "right_ptr", "by_row_ptr", "by_column_ptr"], "*fp32")
    pulled = {**factors, **pulled, "out_ptr": "*fp32", **sizes, "inner": "i32:16"}
    cases = []

    def add(kernel: Any, signature: dict[str, str], tile: dict[str, Any], **constants: Any) -> None:
        constants |= {name: tile[name] for name in ("PRECISION", "ROWS", "COLUMNS", "STEP")}
        cases.append(AotCase(kernel, signature, constants, tile["num_warps"], tile["num_stages"]))

    for precision in sorted(set(_PRECISIONS.values())):
        tile, pull_tile = _tile(_TILES, precision), _tile(_PULL_TILES, precision)
        for is_abs in (True, False):
            add(_apply, applied, tile, ABS=is_abs, WIDTH=_WIDTH)
            for logarithm in (False,) if is_abs else (False, True):
                add(_row_sums, summed, tile, ABS=is_abs, LOGARITHM=logarithm)
            for with_sums in (False, True):
                add(_pull_back, pulled, pull_tile, ABS=is_abs, WITH_SUMS=with_sums, WIDTH=_WIDTH)
    return cases
