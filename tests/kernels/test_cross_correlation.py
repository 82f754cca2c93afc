"""Products with ``f(P Q^T)``: values, derivatives and memory, against the stored matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.testing import assert_close

from hypergraph_kernels import cross_correlation_logsumexp, cross_correlation_matmul
from hypergraph_kernels.cross_correlation import cpu
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
    scale = 1 + stored.detach().abs().max().item() if stored.numel() else 1.0
    assert_close(out.to(F64) / scale, stored / scale, **close)
    towards = torch.randn(stored.shape, dtype=dtype)
    grads = torch.autograd.grad(out, got, towards)
    for grad, wanted in zip(
        grads, torch.autograd.grad(stored, expected, towards.to(F64)), strict=True
    ):
        assert grad.dtype == dtype
        scale = 1 + wanted.abs().max().item() if wanted.numel() else 1.0
        assert_close(grad.to(F64) / scale, wanted / scale, **close)


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
    p, q, x = _with_grad(*_inputs((2, 11, 9, 3, 2)))

    def run(*tensors: Tensor) -> Tensor:
        return cross_correlation_matmul(*tensors, function)

    assert torch.autograd.gradcheck(run, (p, q, x))
    assert torch.autograd.gradgradcheck(run, (p, q, x))
    for fixed in range(3):  # one of them a constant
        some = [tensor.detach() if i == fixed else tensor for i, tensor in enumerate((p, q, x))]
        assert torch.autograd.gradgradcheck(run, some)


def test_logsumexp_can_be_differentiated_twice() -> None:
    p, q = _with_grad(*_inputs((2, 11, 9, 3, 1))[:2])
    assert torch.autograd.gradcheck(cross_correlation_logsumexp, (p, q))
    assert torch.autograd.gradgradcheck(cross_correlation_logsumexp, (p, q))


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
    monkeypatch.setattr(cpu, "_TILE", 40)
    p, q, x = _with_grad(*_inputs((1, 500, 400, 4, 3), torch.float32))
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        out = (
            cross_correlation_matmul(p, q, x, "exp").sum() + cross_correlation_logsumexp(p, q).sum()
        )
        first = torch.autograd.grad(out, (p, q, x), create_graph=True)
        torch.autograd.grad(sum(grad.square().sum() for grad in first), (p, q, x))
    largest = max(event.cpu_memory_usage for event in run.events())
    assert 4 * 40 * 40 <= largest <= 4 * 20_000


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
