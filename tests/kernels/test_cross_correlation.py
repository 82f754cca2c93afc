"""Products with ``f(P Q^T)``: values, derivatives and memory, against the stored matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.testing import assert_close

from hypergraph_kernels.cross_correlation import (
    cpu,
    cross_correlation_degrees,
    cross_correlation_logsumexp,
    cross_correlation_matmul,
    cross_correlation_propagate,
    cross_correlation_scores,
)
from hypergraph_kernels.cross_correlation import op as ops

F64 = torch.float64
SIZES = [(1, 1, 1, 1, 1), (2, 17, 5, 3, 4), (1, 40, 63, 1, 2), (3, 1, 9, 2, 1), (2, 33, 33, 5, 7)]
EMPTY = [(0, 3, 4, 2, 2), (2, 0, 4, 2, 2), (2, 3, 0, 2, 2), (2, 3, 4, 0, 2), (2, 3, 4, 2, 0)]


@pytest.fixture(params=[8, 512], ids=["many tiles", "one tile"], autouse=True)
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_TILE", request.param)


def _inputs(size: tuple[int, ...], dtype: torch.dtype = F64) -> tuple[Tensor, Tensor, Tensor]:
    batch, rows, columns, rank, channels = size
    p = torch.randn(batch, rows, rank, dtype=dtype)
    q = torch.randn(batch, columns, rank, dtype=dtype)
    return p, q, torch.randn(batch, columns, channels, dtype=dtype)


def _pair_inputs(size: tuple[int, ...], dtype: torch.dtype, with_extra: bool) -> list[Tensor]:
    batch, rows, columns, _, channels = size
    p, q, extra = _inputs(size, dtype)
    u = torch.randn(batch, rows, channels, dtype=dtype)
    scale = torch.rand(batch, columns, dtype=dtype)
    return [p, q, u, scale, extra] if with_extra else [p, q, u, scale]


def _there_and_back(
    function: str, implementation: str = "auto"
) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(p: Tensor, q: Tensor, u: Tensor, scale: Tensor, extra: Tensor | None = None) -> Any:
        return cross_correlation_propagate(
            p, q, u, scale, function, extra, implementation=implementation
        )

    return run


def _assert_close_by_scale(part: Tensor, other: Tensor, close: dict) -> None:
    """Relative to the largest entry: a sum is rounded like its largest terms."""
    scale = 1 + other.detach().abs().max().item() if other.numel() else 1.0
    assert_close(part.to(F64) / scale, other / scale, **close)


def _with_grad(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().requires_grad_() for tensor in tensors)


def test_products_by_hand() -> None:
    p, q = torch.tensor([[[1.0, 0.0], [2.0, -1.0]]]), torch.tensor([[[3.0, 1.0], [-1.0, 2.0]]])
    # P Q^T = [[3, -1], [5, -4]]
    x = torch.tensor([[[1.0], [10.0]]])
    assert cross_correlation_matmul(p, q, x, "abs").flatten().tolist() == [13.0, 45.0]
    expected = torch.tensor([[3.0, -1.0], [5.0, -4.0]]).exp() @ x[0]
    assert_close(cross_correlation_matmul(p, q, x, "exp")[0], expected)
    log_sum = torch.tensor([[3.0, -1.0], [5.0, -4.0]]).exp().sum(1).log()
    assert_close(cross_correlation_logsumexp(p, q)[0], log_sum)


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_the_stored_matrix(
    size: tuple[int, ...], function: str, dtype: torch.dtype, tolerance: dict
) -> None:
    inputs = _inputs(size, dtype)
    got, expected = _with_grad(*inputs), _with_grad(*(tensor.to(F64) for tensor in inputs))
    out = cross_correlation_matmul(*got, function)
    stored = cross_correlation_matmul(*expected, function, implementation="reference")
    assert out.dtype == dtype and out.shape == (size[0], size[1], size[4])
    close = tolerance[dtype]
    _assert_close_by_scale(out, stored, close)
    towards = torch.randn(stored.shape, dtype=dtype)
    grads = torch.autograd.grad(out, got, towards)
    for grad, wanted in zip(
        grads, torch.autograd.grad(stored, expected, towards.to(F64)), strict=True
    ):
        assert grad.dtype == dtype
        _assert_close_by_scale(grad, wanted, close)


@pytest.mark.parametrize("size", SIZES + EMPTY[:3])
def test_logsumexp_is_that_of_the_stored_matrix(size: tuple[int, ...]) -> None:
    p, q = _with_grad(*_inputs(size)[:2])
    out = cross_correlation_logsumexp(p, q)
    stored = cross_correlation_logsumexp(p, q, implementation="reference")
    assert_close(out, stored)
    if size[2]:
        towards = torch.randn_like(out)
        assert_close(
            torch.autograd.grad(out, (p, q), towards), torch.autograd.grad(stored, (p, q), towards)
        )


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
@pytest.mark.parametrize("dtype", [F64, torch.bfloat16], ids=str)
def test_degrees_are_those_of_the_stored_matrix(
    size: tuple[int, ...], function: str, dtype: torch.dtype, tolerance: dict
) -> None:
    factors = _inputs(size, dtype)[:2]
    got, stored = _with_grad(*factors), _with_grad(*(factor.to(F64) for factor in factors))
    sums = cross_correlation_degrees(*got, function)
    expected = cross_correlation_degrees(*stored, function, implementation="reference")
    towards = [torch.randn(part.shape, dtype=dtype) for part in sums]
    grads = torch.autograd.grad(sums, got, towards)
    wanted = torch.autograd.grad(expected, stored, [part.to(F64) for part in towards])
    for part, other in zip((*sums, *grads), (*expected, *wanted), strict=True):
        assert part.dtype == dtype
        _assert_close_by_scale(part, other, tolerance[dtype])


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
@pytest.mark.parametrize("with_extra", [False, True], ids=["alone", "with others"])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16], ids=str)
def test_there_and_back_is_two_products(
    size: tuple[int, ...], function: str, with_extra: bool, dtype: torch.dtype, tolerance: dict
) -> None:
    inputs = _pair_inputs(size, dtype, with_extra)
    got, stored = _with_grad(*inputs), _with_grad(*(tensor.to(F64) for tensor in inputs))
    outs = _there_and_back(function)(*got)
    expected = _there_and_back(function, "reference")(*stored)
    towards = [torch.randn(part.shape, dtype=dtype) for part in outs]
    grads = torch.autograd.grad(outs, got, towards)
    wanted = torch.autograd.grad(expected, stored, [part.to(F64) for part in towards])
    for part, other in zip((*outs, *grads), (*expected, *wanted), strict=True):
        assert part.dtype == dtype
        _assert_close_by_scale(part, other, tolerance[dtype])


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
@pytest.mark.parametrize("entries", [0, 200, 10**6], ids=["none", "some", "all"])
def test_kept_scores_change_nothing(
    size: tuple[int, ...], function: str, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_KEPT", 8 * entries)

    def run(keep: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(5)
        got = _with_grad(*_pair_inputs(size, F64, True))
        p, q, u, scale, extra = got
        scores = cross_correlation_scores(p, q) if keep else None
        assert scores is None or scores.numel() == min(entries, size[0] * size[1] * size[2])
        outs = (
            *cross_correlation_degrees(p, q, function, scores),
            *cross_correlation_propagate(p, q, u, scale, function, extra, scores),
        )
        first = torch.autograd.grad(sum(part.sin().sum() for part in outs), got, create_graph=True)
        total = sum(grad.square().sum() for grad in first)
        once = torch.autograd.grad(sum(part.cos().sum() for part in outs), got, retain_graph=True)
        return *outs, *first, *once, *torch.autograd.grad(total, got)

    for part, other in zip(run(True), run(False), strict=True):
        _assert_close_by_scale(part, other, {"rtol": 1e-12, "atol": 1e-12})


@pytest.mark.parametrize("entries", [0, 200, 10**6], ids=["none", "some", "all"])
def test_kept_scores_are_used_where_there_are_any(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_KEPT", 8 * entries)
    p, q, u, scale = _with_grad(*_pair_inputs((2, 33, 33, 5, 7), F64, False))
    scores = cross_correlation_scores(p, q)
    assert scores is not None and not scores.requires_grad
    before = scores.clone()
    made: list[int] = []
    monkeypatch.setattr(cpu.Scratch, "product", _counted(cpu.Scratch.product, made, p.shape[2]))
    out = cross_correlation_propagate(p, q, u, scale, "abs", None, scores)[0]
    sums = cross_correlation_degrees(p, q, "abs", scores)
    torch.autograd.grad(sum(part.sin().sum() for part in (out, *sums)), (p, q, u, scale))
    tiles = [cpu._area(tile) for tile in cpu.tiles(p, q)]
    left = sum(1 for n in range(len(tiles)) if sum(tiles[: n + 1]) > entries)
    assert len(made) == 6 * left  # degrees, there, back, and three passes of the backward
    assert torch.equal(scores, before)


def _counted(product: Callable[..., Tensor], made: list[int], rank: int) -> Callable[..., Tensor]:
    def counting(self: Any, left: Tensor, right: Tensor, tile: cpu.Tile) -> Tensor:
        if left.shape[2] == rank:
            made.append(1)
        return product(self, left, right, tile)

    return counting


def test_no_scores_for_code_that_takes_none() -> None:
    p, q, _ = _inputs((1, 3, 4, 2, 1))
    assert cross_correlation_scores(p, q, implementation="reference") is None
    sums = cross_correlation_degrees(p, q, "abs", torch.ones(12), implementation="reference")
    assert_close(sums, cross_correlation_degrees(p, q, "abs"))


def test_there_and_back_of_one_output_or_constants() -> None:
    inputs = _pair_inputs((2, 17, 5, 3, 4), F64, True)
    for which in range(2):
        got, stored = _with_grad(*inputs), _with_grad(*inputs)
        grads = torch.autograd.grad(_there_and_back("abs")(*got)[which].sin().sum(), got)
        out = _there_and_back("abs", "reference")(*stored)[which]
        wanted = torch.autograd.grad(out.sin().sum(), stored, materialize_grads=True)
        assert_close(grads, wanted)
    for needed in range(5):
        got = [t.clone().requires_grad_(i == needed) for i, t in enumerate(inputs)]
        stored = [t.clone().requires_grad_(i == needed) for i, t in enumerate(inputs)]
        out = sum(part.sin().sum() for part in _there_and_back("abs")(*got))
        wanted = sum(part.sin().sum() for part in _there_and_back("abs", "reference")(*stored))
        (grad,) = torch.autograd.grad(out, got[needed])
        assert_close(grad, torch.autograd.grad(wanted, stored[needed])[0])


def test_only_the_gradients_asked_for_are_computed() -> None:
    p, q, x = _inputs((2, 17, 5, 3, 4))
    for needed in range(1, 8):
        got = [t.clone().requires_grad_(bool(needed >> i & 1)) for i, t in enumerate((p, q, x))]
        cross_correlation_matmul(*got, "abs").square().sum().backward()
        whole = _with_grad(p, q, x)
        cross_correlation_matmul(
            *whole, "abs", implementation="reference"
        ).square().sum().backward()
        for tensor, other in zip(got, whole, strict=True):
            if tensor.requires_grad:
                assert_close(tensor.grad, other.grad)
            else:
                assert tensor.grad is None


@pytest.mark.parametrize("function", ["abs", "exp"])
def test_matmul_can_be_differentiated_twice(function: str) -> None:
    p, q, x = _with_grad(*_inputs((1, 9, 10, 2, 2)))

    def run(*tensors: Tensor) -> Tensor:
        return cross_correlation_matmul(*tensors, function)

    assert torch.autograd.gradcheck(run, (p, q, x))
    assert torch.autograd.gradgradcheck(run, (p, q, x))
    for fixed in range(3):  # one of them a constant
        some = [tensor.detach() if i == fixed else tensor for i, tensor in enumerate((p, q, x))]
        assert torch.autograd.gradgradcheck(run, some)


def test_logsumexp_can_be_differentiated_twice() -> None:
    p, q = _with_grad(*_inputs((2, 9, 4, 2, 1))[:2])
    assert torch.autograd.gradcheck(cross_correlation_logsumexp, (p, q))
    assert torch.autograd.gradgradcheck(cross_correlation_logsumexp, (p, q))


@pytest.mark.parametrize("function", ["abs", "exp"])
def test_degrees_and_there_and_back_can_be_differentiated_twice(function: str) -> None:
    p, q = _with_grad(*_inputs((2, 9, 4, 2, 1))[:2])

    def sums(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return cross_correlation_degrees(p, q, function)

    assert torch.autograd.gradcheck(sums, (p, q))
    assert torch.autograd.gradgradcheck(sums, (p, q))
    inputs = _with_grad(*(0.5 * tensor for tensor in _pair_inputs((1, 9, 4, 2, 2), F64, True)))
    assert torch.autograd.gradcheck(_there_and_back(function), inputs)
    assert torch.autograd.gradgradcheck(_there_and_back(function), inputs)
    assert torch.autograd.gradgradcheck(_there_and_back(function), inputs[:4])


def test_a_third_derivative_is_refused() -> None:
    p, q, x = _with_grad(*_inputs((1, 3, 3, 2, 1)))
    (first,) = torch.autograd.grad(
        cross_correlation_matmul(p, q, x, "exp").sum(), p, create_graph=True
    )
    (second,) = torch.autograd.grad(first.square().sum(), p, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        second.sum().backward()


def test_opcheck() -> None:
    p, q, x = _with_grad(*_inputs((2, 11, 9, 3, 2), torch.float32))
    grad = torch.randn(2, 11, 2)
    for function in ("abs", "exp"):
        torch.library.opcheck(ops._matmul, (p, q, x, function, "cpu"))
        for needs_x in (False, True):
            args = (grad, p, q, x, function, needs_x, "cpu")
            torch.library.opcheck(ops._matmul_backward, args)
    torch.library.opcheck(ops._logsumexp, (p, q, "cpu"))
    kept = cross_correlation_scores(p, q)
    torch.library.opcheck(ops._scores, (p.detach(), q.detach()))
    for scores in (None, kept):
        torch.library.opcheck(ops._degrees, (p, q, scores, "abs", "cpu"))
    inputs = _with_grad(*_pair_inputs((2, 11, 9, 3, 2), torch.float32, True))
    torch.library.opcheck(ops._propagate, (*inputs, None, "abs", "cpu"))
    torch.library.opcheck(ops._propagate, (*inputs[:4], None, None, "exp", "cpu"))
    kept = cross_correlation_scores(*inputs[:2])
    torch.library.opcheck(ops._propagate, (*inputs, kept, "abs", "cpu"))
    constants = [tensor.detach() for tensor in inputs]
    log_sum, sums = torch.randn(2, 11), torch.randn(2, 9)
    torch.library.opcheck(
        ops._logsumexp_backward, (log_sum, p.detach(), q.detach(), log_sum, "cpu")
    )
    torch.library.opcheck(
        ops._degrees_backward, (log_sum, sums, p.detach(), q.detach(), None, "abs", "cpu")
    )
    for needs_factors in (False, True):
        for scores in (None, kept):
            args = (grad, constants[4], *constants, scores, "abs", needs_factors, "cpu")
            torch.library.opcheck(ops._propagate_backward, args)


def test_laws() -> None:
    p, q, x = _inputs((2, 20, 30, 4, 3))
    for function in ("abs", "exp"):
        out = cross_correlation_matmul(p, q, x, function)
        rows, columns = torch.randperm(20), torch.randperm(30)
        moved = cross_correlation_matmul(p[:, rows], q[:, columns], x[:, columns], function)
        assert_close(moved, out[:, rows])
        twice = cross_correlation_matmul(p, q, 2 * x, function)
        assert_close(twice, 2 * out)
        # <y, f(P Q^T) x> = <f(Q P^T) y, x>
        y = torch.randn_like(out)
        turned = cross_correlation_matmul(q, p, y, function)
        assert_close((y * out).sum(), (turned * x).sum())
    assert_close(
        cross_correlation_matmul(-p, q, x, "abs"), cross_correlation_matmul(p, q, x, "abs")
    )
    share = cross_correlation_matmul(p, q, torch.ones_like(x), "exp")[..., 0]
    assert_close(share.log(), cross_correlation_logsumexp(p, q))


def test_logsumexp_of_large_scores() -> None:
    p, q = torch.full((1, 3, 1), 100.0), torch.full((1, 20, 1), 100.0)
    assert_close(cross_correlation_logsumexp(p, q), torch.full((1, 3), 1e4) + 3.0)


def test_one_tile_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, backward and second derivative allocate nothing of N x M entries."""
    monkeypatch.setattr(cpu, "_TILE", 20)
    p, q, x = _with_grad(*_inputs((1, 200, 160, 4, 3), torch.float32))
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        out = (
            cross_correlation_matmul(p, q, x, "exp").sum() + cross_correlation_logsumexp(p, q).sum()
        )
        first = torch.autograd.grad(out, (p, q, x), create_graph=True)
        torch.autograd.grad(sum(grad.square().sum() for grad in first), (p, q, x))
    largest = max(event.cpu_memory_usage for event in run.events())
    assert 4 * 20 * 20 <= largest <= 4 * 8_000


def test_autocast_and_inference_mode_change_nothing() -> None:
    p, q, x = _inputs((1, 20, 30, 4, 3), torch.float32)
    expected = cross_correlation_matmul(p, q, x, "abs")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(cross_correlation_matmul(p, q, x, "abs"), expected, rtol=0, atol=0)
        implementation = "reference"
        stored = cross_correlation_matmul(p, q, x, "abs", implementation=implementation)
    assert_close(stored, expected)
    with torch.inference_mode():
        assert_close(cross_correlation_matmul(p, q, x, "abs"), expected, rtol=0, atol=0)


def test_views_are_taken_as_they_are() -> None:
    p, q, x = _inputs((2, 20, 30, 4, 3))
    turned = [tensor.mT.contiguous().mT for tensor in (p, q, x)]
    assert_close(cross_correlation_matmul(*turned, "abs"), cross_correlation_matmul(p, q, x, "abs"))


def test_compile_and_export_see_one_op() -> None:
    inputs = _with_grad(*_inputs((1, 20, 30, 4, 3), torch.float32))

    class Product(torch.nn.Module):
        def forward(self, p: Tensor, q: Tensor, x: Tensor) -> Tensor:
            return cross_correlation_matmul(p, q, x, "abs")

    compiled = torch.compile(Product(), fullgraph=True, backend="aot_eager")
    out, expected = compiled(*inputs), Product()(*inputs)
    assert_close(out, expected)
    towards = torch.randn_like(out)
    got = torch.autograd.grad(out, inputs, towards)
    assert_close(got, torch.autograd.grad(expected, inputs, towards))
    program = torch.export.export(Product(), tuple(tensor.detach() for tensor in inputs))
    assert "hypergraph_kernels.cross_correlation_matmul" in str(program.graph)
    assert_close(program.module()(*inputs), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda p, q, x: cross_correlation_matmul(p, q, x, "relu"),
            ValueError,
            "`function` must be one of 'abs', 'exp', got 'relu'",
        ),
        (
            lambda p, q, x: cross_correlation_matmul(p[0], q, x, "abs"),
            ValueError,
            r"`p` must have shape \[batch, N, d\], got \[2, 3\]",
        ),
        (
            lambda p, q, x: cross_correlation_matmul(p, q[..., :2], x, "abs"),
            ValueError,
            r"`q` must have shape \[1, M, 3\], got \[1, 4, 2\]",
        ),
        (
            lambda p, q, x: cross_correlation_matmul(p, q, x[:, :2], "abs"),
            ValueError,
            r"`x` must have shape \[1, 4, channels\], got \[1, 2, 5\]",
        ),
        (
            lambda p, q, x: cross_correlation_matmul(p, q, x.double(), "abs"),
            TypeError,
            "`x` must have the dtype of `p`, torch.float32, got torch.float64",
        ),
        (
            lambda p, q, x: cross_correlation_logsumexp(p.long(), q.long()),
            TypeError,
            "`p` must be floating point, got torch.int64",
        ),
        (
            lambda p, q, x: cross_correlation_logsumexp(p, q[0]),
            ValueError,
            r"`q` must have shape \[1, M, 3\]",
        ),
        (
            lambda p, q, x: cross_correlation_degrees(p, q, "relu"),
            ValueError,
            "`function` must be one of",
        ),
        (
            lambda p, q, x: cross_correlation_propagate(p, q, x, x[..., 0], "abs"),
            ValueError,
            r"`u` must have shape \[1, 2, channels\], got \[1, 4, 5\]",
        ),
        (
            lambda p, q, x: cross_correlation_propagate(p, q, p, p[..., 0], "abs"),
            ValueError,
            r"`scale` must have shape \[1, 4\], one factor per row of `q`, got \[1, 2\]",
        ),
        (
            lambda p, q, x: cross_correlation_propagate(p, q, p, q[..., 0], "abs", x),
            ValueError,
            r"`extra` must have shape \[1, 4, 3\], got \[1, 4, 5\]",
        ),
        (
            lambda p, q, x: cross_correlation_propagate(p, q, p, q[..., 0].double(), "abs"),
            TypeError,
            "`scale` must have the dtype of `p`",
        ),
        (
            lambda p, q, x: cross_correlation_degrees(p, q, "abs", p),
            ValueError,
            r"`scores` must be what cross_correlation_scores\(p, q\) returns, \[8\] of",
        ),
        (
            lambda p, q, x: cross_correlation_logsumexp(p, q, implementation="fast"),
            ValueError,
            "`implementation` must be one of 'auto'",
        ),
    ],
)
def test_bad_input_is_named(
    call: Callable[..., object], error: type[Exception], message: str
) -> None:
    p, q, x = _inputs((1, 2, 4, 3, 5), torch.float32)
    with pytest.raises(error, match=message):
        call(p, q, x)
