"""Products with ``f(P Q^T)`` computed tile by tile: O(N M) work, O(N + M) memory."""

from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels.cross_correlation import cpu, reference

Elementwise = Literal["abs", "exp"]


def cross_correlation_matmul(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    x: Tensor,  # [batch, M, channels]
    function: Elementwise,
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Multiply ``f(P Q^T)`` with ``X`` without storing the N x M matrix.

    ``out = f(P Q^T) X``, with f applied to every entry. The product with the transpose is
    ``cross_correlation_matmul(q, p, y, function)``.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors.
        x: [batch, M, channels] features of the same dtype.
        function: ``"abs"`` or ``"exp"``.
        implementation: which code runs; ``"auto"`` chooses, ``"reference"`` stores the matrix.

    Returns:
        [batch, N, channels]. Differentiable twice with respect to ``p``, ``q`` and ``x``; every
        derivative recomputes the tiles. The derivative of ``abs`` at 0 is taken as 0, its second
        derivative as 0 everywhere.

    Raises:
        ValueError: a shape, the function or the implementation does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import cross_correlation_matmul
        >>> p, q = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[3.0], [1.0]]])
        >>> cross_correlation_matmul(p, q, torch.ones(1, 2, 1), "abs")
        tensor([[[4.],
                 [8.]]])
    """
    _check_function(function)
    _check_factors(p, q)
    if x.dim() != 3 or x.shape[:2] != q.shape[:2]:
        raise ValueError(
            f"`x` must have shape [{q.shape[0]}, {q.shape[1]}, channels], got {list(x.shape)}"
        )
    _check_dtypes(p, q=q, x=x)
    chosen = choose("cross_correlation_matmul", implementation, p)
    if chosen == "reference":
        return reference.matmul(p, q, x, function)
    out: Tensor = _matmul(p, q, x, function, chosen)
    return out


def cross_correlation_logsumexp(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    *,
    implementation: Implementation = "auto",
) -> Tensor:
    """Row-wise ``log(sum over columns of exp(P Q^T))`` without storing the N x M matrix.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors of the same dtype.
        implementation: which code runs; ``"auto"`` chooses, ``"reference"`` stores the matrix.

    Returns:
        [batch, N], -inf where M = 0; differentiable twice.

    Raises:
        ValueError: a shape or the implementation does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import cross_correlation_logsumexp
        >>> cross_correlation_logsumexp(torch.zeros(1, 1, 3), torch.ones(1, 4, 3)).exp()
        tensor([[4.]])
    """
    _check_factors(p, q)
    _check_dtypes(p, q=q)
    chosen = choose("cross_correlation_logsumexp", implementation, p)
    if chosen == "reference":
        return reference.logsumexp(p, q)
    out: Tensor = _logsumexp(p, q, chosen)
    return out


def cross_correlation_scores(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    *,
    implementation: Implementation = "auto",
) -> Tensor | None:
    """Part of ``P Q^T``, for several ops that would make it again otherwise.

    As much as fits into a constant amount of memory (32 MiB). It is of use for nothing but the
    argument ``scores`` of ``cross_correlation_degrees`` and ``cross_correlation_propagate`` of the
    same p and q, where it changes no value and no gradient.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors of the same dtype.
        implementation: that of the ops.

    Returns:
        Entries in an order of our own, without gradient; None where the ops would not use them.

    Raises:
        ValueError, TypeError: a shape, dtype or the implementation does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import cross_correlation_degrees, cross_correlation_scores
        >>> p, q = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[3.0], [1.0]]])
        >>> scores = cross_correlation_scores(p, q)
        >>> cross_correlation_degrees(p, q, "abs", scores)
        (tensor([[4., 8.]]), tensor([[9., 3.]]))
    """
    _check_factors(p, q)
    _check_dtypes(p, q=q)
    if choose("cross_correlation_scores", implementation, p) != "cpu":
        return None
    scores: Tensor = _scores(p.detach(), q.detach())
    return scores


def cross_correlation_degrees(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    function: Elementwise,
    scores: Tensor | None = None,
    *,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Row sums and column sums of ``f(P Q^T)`` in one pass, without storing the N x M matrix.

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors of the same dtype.
        function: ``"abs"`` or ``"exp"``.
        scores: what ``cross_correlation_scores`` kept of the same factors; None for nothing.
        implementation: which code runs; ``"auto"`` chooses, ``"reference"`` stores the matrix.

    Returns:
        [batch, N] and [batch, M]; differentiable twice, as ``cross_correlation_matmul`` is.

    Raises:
        ValueError, TypeError: a shape, dtype, the function or the implementation does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import cross_correlation_degrees
        >>> p, q = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[3.0], [1.0]]])
        >>> cross_correlation_degrees(p, q, "abs")
        (tensor([[4., 8.]]), tensor([[9., 3.]]))
    """
    _check_function(function)
    _check_factors(p, q)
    _check_dtypes(p, q=q)
    chosen = choose("cross_correlation_degrees", implementation, p)
    if chosen == "reference":
        return reference.degrees(p, q, function)
    kept = _checked_scores(scores, p, q) if chosen == "cpu" else None
    by_row, by_column = _degrees(p, q, kept, function, chosen)
    return by_row, by_column


def cross_correlation_propagate(
    p: Tensor,  # [batch, N, d]
    q: Tensor,  # [batch, M, d]
    u: Tensor,  # [batch, N, channels]
    scale: Tensor,  # [batch, M]
    function: Elementwise,
    extra: Tensor | None = None,  # [batch, M, channels]
    scores: Tensor | None = None,
    *,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Rows to columns and back through ``f(P Q^T)``, which is not stored.

    ``E = extra + f(P Q^T)^T U``, ``out = f(P Q^T) diag(scale) E``

    The two products of a hypergraph convolution as one op: its backward makes the gradient of the
    matrix once for both, in two passes over the tiles instead of three. Where H is a sum of
    ``f(P Q^T)`` and other terms, ``extra`` is what those send to the hyperedges, and the returned E
    is what to send back through them (times ``scale``).

    Args:
        p: [batch, N, d] left factors.
        q: [batch, M, d] right factors; all tensors have the dtype of ``p``.
        u: [batch, N, channels] features.
        scale: [batch, M] factors of the hyperedges, W D_e^-1 in a convolution.
        function: ``"abs"`` or ``"exp"``.
        extra: [batch, M, channels], added to E; None for zeros.
        scores: what ``cross_correlation_scores`` kept of the same factors; None for nothing.
        implementation: which code runs; ``"auto"`` chooses, ``"reference"`` stores the matrix.

    Returns:
        out [batch, N, channels] and E [batch, M, channels]; differentiable twice with respect to
        every tensor, as ``cross_correlation_matmul`` is.

    Raises:
        ValueError, TypeError: a shape, dtype, the function or the implementation does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import cross_correlation_propagate
        >>> p, q = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[[3.0]]])
        >>> u, scale = torch.tensor([[[1.0], [10.0]]]), torch.tensor([[0.1]])
        >>> cross_correlation_propagate(p, q, u, scale, "abs")
        (tensor([[[18.9000],
                 [37.8000]]]), tensor([[[63.]]]))
    """
    _check_function(function)
    _check_factors(p, q)
    if u.dim() != 3 or u.shape[:2] != p.shape[:2]:
        raise ValueError(
            f"`u` must have shape [{p.shape[0]}, {p.shape[1]}, channels], got {list(u.shape)}"
        )
    if scale.shape != q.shape[:2]:
        raise ValueError(
            f"`scale` must have shape {list(q.shape[:2])}, one factor per row of `q`, "
            f"got {list(scale.shape)}"
        )
    _check_dtypes(p, q=q, u=u, scale=scale)
    if extra is not None:
        expected = (*q.shape[:2], u.shape[2])
        if extra.shape != expected:
            raise ValueError(f"`extra` must have shape {list(expected)}, got {list(extra.shape)}")
        _check_dtypes(p, extra=extra)
    chosen = choose("cross_correlation_propagate", implementation, p)
    if chosen == "reference":
        return reference.propagate(p, q, u, scale, extra, function)
    kept = _checked_scores(scores, p, q) if chosen == "cpu" else None
    out, edges = _propagate(p, q, u, scale, extra, kept, function, chosen)
    return out, edges


def _code(implementation: str) -> ModuleType:
    """The module that an op runs."""
    if implementation == "triton":
        from hypergraph_kernels.cross_correlation import triton_kernels

        return triton_kernels
    return cpu


def _if_kept(kept: Tensor | None) -> tuple[Tensor, ...]:
    """An argument that only the cpu code takes."""
    return () if kept is None else (kept,)


def _checked_scores(scores: Tensor | None, p: Tensor, q: Tensor) -> Tensor | None:
    if scores is None:
        return None
    size, dtype = cpu.kept_size(p, q), torch.promote_types(p.dtype, torch.float32)
    if scores.shape != (size,) or scores.dtype != dtype:
        raise ValueError(
            f"`scores` must be what cross_correlation_scores(p, q) returns, [{size}] of {dtype}, "
            f"got {list(scores.shape)} of {scores.dtype}"
        )
    return scores.detach()


def _check_function(function: str) -> None:
    if function not in get_args(Elementwise):
        raise ValueError(f"`function` must be one of 'abs', 'exp', got {function!r}")


def _check_factors(p: Tensor, q: Tensor) -> None:
    if p.dim() != 3:
        raise ValueError(f"`p` must have shape [batch, N, d], got {list(p.shape)}")
    if q.dim() != 3 or q.shape[0] != p.shape[0] or q.shape[2] != p.shape[2]:
        raise ValueError(
            f"`q` must have shape [{p.shape[0]}, M, {p.shape[2]}], got {list(q.shape)}"
        )


def _check_dtypes(p: Tensor, **others: Tensor) -> None:
    if not p.is_floating_point():
        raise TypeError(f"`p` must be floating point, got {p.dtype}; convert it with .float()")
    for name, other in others.items():
        if other.dtype != p.dtype:
            raise TypeError(
                f"`{name}` must have the dtype of `p`, {p.dtype}, got {other.dtype}; "
                f"convert it with .to({p.dtype})"
            )


# ---- f(P Q^T) X and its two derivatives


@torch.library.custom_op("hypergraph_kernels::cross_correlation_matmul", mutates_args=())
def _matmul(p: Tensor, q: Tensor, x: Tensor, function: str, implementation: str) -> Tensor:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).matmul(p, q, x, function)


@_matmul.register_fake
def _(p: Tensor, q: Tensor, x: Tensor, function: str, implementation: str) -> Tensor:
    return x.new_empty(p.shape[0], p.shape[1], x.shape[2])


@torch.library.custom_op("hypergraph_kernels::cross_correlation_matmul_backward", mutates_args=())
def _matmul_backward(
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    x: Tensor,
    function: str,
    needs_x: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).matmul_backward(grad, p, q, x, function, needs_x)


@_matmul_backward.register_fake
def _(
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    x: Tensor,
    function: str,
    needs_x: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty_like(x) if needs_x else x.new_empty(0)
    return p.new_empty(p.shape), q.new_empty(q.shape), grad_x


@torch.library.custom_op(
    "hypergraph_kernels::cross_correlation_matmul_double_backward", mutates_args=()
)
def _matmul_double_backward(
    toward_p: Tensor,
    toward_q: Tensor,
    toward_x: Tensor,
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    x: Tensor,
    function: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return cpu.matmul_double_backward(toward_p, toward_q, toward_x, grad, p, q, x, function)


@_matmul_double_backward.register_fake
def _(
    toward_p: Tensor,
    toward_q: Tensor,
    toward_x: Tensor,
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    x: Tensor,
    function: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (grad, p, q, x))  # type: ignore[return-value]


def _save_matmul(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    p, q, x, ctx.function, ctx.implementation = inputs
    ctx.save_for_backward(p, q, x)


def _differentiate_matmul(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    p, q, x = ctx.saved_tensors
    needs_p, needs_q, needs_x = ctx.needs_input_grad[:3]
    if not needs_p and not needs_q:
        grad_x = _matmul(q, p, grad, ctx.function, ctx.implementation)
        return None, None, grad_x, None, None
    grad_p, grad_q, grad_x = _matmul_backward(
        grad, p, q, x, ctx.function, needs_x, ctx.implementation
    )
    return grad_p, grad_q, grad_x if needs_x else None, None, None


def _save_matmul_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.function, ctx.needs_x, _ = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_matmul_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    grad, p, q, x = ctx.saved_tensors
    toward_p, toward_q, toward_x = grads
    out = _matmul_double_backward(
        torch.zeros_like(p) if toward_p is None else toward_p,
        torch.zeros_like(q) if toward_q is None else toward_q,
        torch.zeros_like(x) if toward_x is None or not ctx.needs_x else toward_x,
        grad,
        p,
        q,
        x,
        ctx.function,
    )
    return *out, None, None, None


_matmul.register_autograd(_differentiate_matmul, setup_context=_save_matmul)
_matmul_backward.register_autograd(
    _differentiate_matmul_backward, setup_context=_save_matmul_backward
)


# ---- log sum exp(P Q^T)


@torch.library.custom_op("hypergraph_kernels::cross_correlation_logsumexp", mutates_args=())
def _logsumexp(p: Tensor, q: Tensor, implementation: str) -> Tensor:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).logsumexp(p, q)


@_logsumexp.register_fake
def _(p: Tensor, q: Tensor, implementation: str) -> Tensor:
    return p.new_empty(p.shape[:2])


@torch.library.custom_op(
    "hypergraph_kernels::cross_correlation_logsumexp_backward", mutates_args=()
)
def _logsumexp_backward(
    grad: Tensor, p: Tensor, q: Tensor, log_sum: Tensor, implementation: str
) -> tuple[Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).logsumexp_backward(grad, p, q, log_sum)


@_logsumexp_backward.register_fake
def _(
    grad: Tensor, p: Tensor, q: Tensor, log_sum: Tensor, implementation: str
) -> tuple[Tensor, Tensor]:
    return p.new_empty(p.shape), q.new_empty(q.shape)


def _save_logsumexp(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    p, q, ctx.implementation = inputs
    ctx.save_for_backward(p, q, output)


def _differentiate_logsumexp(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    p, q, log_sum = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return *_logsumexp_backward(grad, p, q, log_sum, ctx.implementation), None
    # For a second derivative: the same sums as two products with exp(P Q^T - log_sum), which can
    # be differentiated; they form every tile once more than the fused pass does.
    one = q.new_ones(*q.shape[:2], 1)
    rows = torch.cat([p, -log_sum.unsqueeze(-1)], -1)
    columns = torch.cat([q, one], -1)
    weight = grad.unsqueeze(-1)
    grad_p = weight * _matmul(rows, columns, q, "exp", ctx.implementation)
    grad_q = _matmul(columns, rows, weight * p, "exp", ctx.implementation)
    return grad_p, grad_q, None


_logsumexp.register_autograd(_differentiate_logsumexp, setup_context=_save_logsumexp)


# ---- what is kept of P Q^T


@torch.library.custom_op("hypergraph_kernels::cross_correlation_scores", mutates_args=())
def _scores(p: Tensor, q: Tensor) -> Tensor:
    with torch.autocast(p.device.type, enabled=False):
        return cpu.scores(p, q)


@_scores.register_fake
def _(p: Tensor, q: Tensor) -> Tensor:
    dtype = torch.promote_types(p.dtype, torch.float32)
    return p.new_empty(cpu.kept_size(p, q), dtype=dtype)


# ---- row and column sums of f(P Q^T)


@torch.library.custom_op("hypergraph_kernels::cross_correlation_degrees", mutates_args=())
def _degrees(
    p: Tensor, q: Tensor, kept: Tensor | None, function: str, implementation: str
) -> tuple[Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).degrees(p, q, function, *_if_kept(kept))


@_degrees.register_fake
def _(
    p: Tensor, q: Tensor, kept: Tensor | None, function: str, implementation: str
) -> tuple[Tensor, Tensor]:
    return p.new_empty(p.shape[:2]), q.new_empty(q.shape[:2])


@torch.library.custom_op("hypergraph_kernels::cross_correlation_degrees_backward", mutates_args=())
def _degrees_backward(
    grad_row: Tensor,
    grad_column: Tensor,
    p: Tensor,
    q: Tensor,
    kept: Tensor | None,
    function: str,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).degrees_backward(
            grad_row, grad_column, p, q, function, *_if_kept(kept)
        )


@_degrees_backward.register_fake
def _(
    grad_row: Tensor,
    grad_column: Tensor,
    p: Tensor,
    q: Tensor,
    kept: Tensor | None,
    function: str,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    return p.new_empty(p.shape), q.new_empty(q.shape)


def _save_degrees(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    p, q, kept, ctx.function, ctx.implementation = inputs
    ctx.save_for_backward(p, q, kept)


def _differentiate_degrees(
    ctx: Any, grad_row: Tensor | None, grad_column: Tensor | None
) -> tuple[Any, ...]:
    p, q, kept = ctx.saved_tensors
    grad_row = p.new_zeros(p.shape[:2]) if grad_row is None else grad_row
    grad_column = q.new_zeros(q.shape[:2]) if grad_column is None else grad_column
    settings = (ctx.function, ctx.implementation)
    if not torch.is_grad_enabled():
        return *_degrees_backward(grad_row, grad_column, p, q, kept, *settings), None, None, None
    # For a second derivative: the sums as products with a column of ones.
    grad_p, grad_q = _factor_gradients(
        [(grad_row.unsqueeze(-1), q.new_ones(*q.shape[:2], 1))],
        [(grad_column.unsqueeze(-1), p.new_ones(*p.shape[:2], 1))],
        p,
        q,
        settings,
    )
    return grad_p, grad_q, None, None, None


_degrees.register_autograd(_differentiate_degrees, setup_context=_save_degrees)


# ---- there and back through f(P Q^T)


@torch.library.custom_op("hypergraph_kernels::cross_correlation_propagate", mutates_args=())
def _propagate(
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    extra: Tensor | None,
    kept: Tensor | None,
    function: str,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).propagate(p, q, u, scale, extra, function, *_if_kept(kept))


@_propagate.register_fake
def _(
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    extra: Tensor | None,
    kept: Tensor | None,
    function: str,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty(q.shape[0], q.shape[1], u.shape[2])


@torch.library.custom_op(
    "hypergraph_kernels::cross_correlation_propagate_backward", mutates_args=()
)
def _propagate_backward(
    grad: Tensor,
    grad_edges: Tensor,
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    edges: Tensor,
    kept: Tensor | None,
    function: str,
    needs_factors: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(p.device.type, enabled=False):
        return _code(implementation).propagate_backward(
            grad, grad_edges, p, q, u, scale, edges, function, needs_factors, *_if_kept(kept)
        )


@_propagate_backward.register_fake
def _(
    grad: Tensor,
    grad_edges: Tensor,
    p: Tensor,
    q: Tensor,
    u: Tensor,
    scale: Tensor,
    edges: Tensor,
    kept: Tensor | None,
    function: str,
    needs_factors: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shapes = (p.shape, q.shape) if needs_factors else ((0,), (0,))
    shapes = (*shapes, u.shape, scale.shape, edges.shape)
    return tuple(u.new_empty(shape) for shape in shapes)  # type: ignore[return-value]


def _save_propagate(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    p, q, u, scale, extra, kept, ctx.function, ctx.implementation = inputs
    ctx.has_extra = extra is not None
    ctx.save_for_backward(p, q, u, scale, output[1], kept)


def _differentiate_propagate(
    ctx: Any, grad: Tensor | None, grad_edges: Tensor | None
) -> tuple[Any, ...]:
    p, q, u, scale, edges, kept = ctx.saved_tensors
    needs_factors = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
    grad = torch.zeros_like(u) if grad is None else grad
    grad_edges = torch.zeros_like(edges) if grad_edges is None else grad_edges
    settings = (ctx.function, ctx.implementation)
    if not torch.is_grad_enabled():
        grad_p, grad_q, grad_u, grad_scale, grad_extra = _propagate_backward(
            grad,
            grad_edges,
            p,
            q,
            u,
            scale,
            edges,
            kept,
            ctx.function,
            needs_factors,
            ctx.implementation,
        )
        factors = (grad_p, grad_q) if needs_factors else (None, None)
        onto_extra = grad_extra if ctx.has_extra else None
        return *factors, grad_u, grad_scale, onto_extra, None, None, None
    # For a second derivative: the same formula from products that can be differentiated.
    onto_scaled = _matmul(q, p, grad, *settings)
    grad_extra = grad_edges + onto_scaled * scale.unsqueeze(-1)
    grad_u = _matmul(p, q, grad_extra, *settings)
    grad_scale = (onto_scaled * edges).sum(-1)
    scaled = scale.unsqueeze(-1) * edges
    grad_p, grad_q = _factor_gradients([(grad, scaled), (u, grad_extra)], [], p, q, settings)
    onto_extra = grad_extra if ctx.has_extra else None
    return grad_p, grad_q, grad_u, grad_scale, onto_extra, None, None, None


def _factor_gradients(
    pairs: list[tuple[Tensor, Tensor]],
    turned: list[tuple[Tensor, Tensor]],
    p: Tensor,
    q: Tensor,
    settings: tuple[str, str],
) -> tuple[Tensor, Tensor]:
    """Gradients to p and q where that of ``f(P Q^T)`` is a sum of ``left right^T``.

    ``turned`` are terms of the transpose's gradient.
    """
    grad_p, grad_q = torch.zeros_like(p), torch.zeros_like(q)
    for left, right in pairs:
        onto_p, onto_q, _ = _matmul_backward(left, p, q, right, settings[0], False, settings[1])
        grad_p, grad_q = grad_p + onto_p, grad_q + onto_q
    for left, right in turned:
        onto_q, onto_p, _ = _matmul_backward(left, q, p, right, settings[0], False, settings[1])
        grad_p, grad_q = grad_p + onto_p, grad_q + onto_q
    return grad_p, grad_q


_propagate.register_autograd(_differentiate_propagate, setup_context=_save_propagate)
