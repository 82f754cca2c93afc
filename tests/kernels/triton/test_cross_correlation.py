"""The Triton kernels of products with ``f(P Q^T)`` against the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph_kernels.cross_correlation import (
    cross_correlation_degrees,
    cross_correlation_logsumexp,
    cross_correlation_matmul,
    cross_correlation_propagate,
)

pytestmark = pytest.mark.triton

F64 = torch.float64
# Samples, rows, columns, rank, channels: one tile and several, in every direction.
SIZES = [(1, 1, 1, 1, 1), (2, 17, 65, 3, 5), (1, 63, 33, 35, 67), (1, 66, 2, 65, 1)]
EMPTY = [(0, 3, 4, 2, 2), (2, 0, 4, 2, 2), (2, 3, 0, 2, 2), (2, 3, 4, 0, 2), (2, 3, 4, 2, 0)]
Op = Callable[..., Any]


@pytest.fixture(autouse=True)
def _filled_with_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of an output has to be written."""
    empty, empty_like = Tensor.new_empty, torch.empty_like

    def filled(tensor: Tensor) -> Tensor:
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(Tensor, "new_empty", lambda *a, **k: filled(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: filled(empty_like(*a, **k)))


def _agree(run: Op, inputs: list[Tensor]) -> None:
    """Outputs and gradients, relative to the largest entry of each."""
    got = [tensor.detach().requires_grad_() for tensor in inputs]
    stored = [tensor.detach().to("cpu", F64).requires_grad_() for tensor in inputs]
    outs, expected = run(*got, implementation="triton"), run(*stored, implementation="reference")
    if isinstance(outs, Tensor):
        outs, expected = (outs,), (expected,)
    generator = torch.Generator().manual_seed(3)
    towards = [torch.randn(out.shape, generator=generator) for out in expected]
    grads = torch.autograd.grad(outs, got, [t.to(outs[0]) for t in towards])
    wanted = torch.autograd.grad(expected, stored, [t.to(F64) for t in towards])
    for part, other in zip((*outs, *grads), (*expected, *wanted), strict=True):
        scale = 1 + other.detach().abs().max().item() if other.numel() else 1.0
        assert_close(part.to("cpu", F64) / scale, other / scale, rtol=1e-5, atol=2e-6)


def _tensors(device: torch.device, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, device=device) for shape in shapes]


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
def test_matmul(size: tuple[int, ...], function: Any, device: torch.device) -> None:
    batch, rows, columns, rank, channels = size
    shapes = (batch, rows, rank), (batch, columns, rank), (batch, columns, channels)
    p, q, x = _tensors(device, *shapes)

    def run(p: Tensor, q: Tensor, x: Tensor, **options: Any) -> Tensor:
        return cross_correlation_matmul(p, q, x, function, **options)

    _agree(run, [p / max(rank, 1) ** 0.5, q, x])


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
def test_degrees(size: tuple[int, ...], function: Any, device: torch.device) -> None:
    batch, rows, columns, rank, _ = size
    p, q = _tensors(device, (batch, rows, rank), (batch, columns, rank))

    def run(p: Tensor, q: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return cross_correlation_degrees(p, q, function, **options)

    _agree(run, [p / max(rank, 1) ** 0.5, q])


@pytest.mark.parametrize("function", ["abs", "exp"])
@pytest.mark.parametrize("size", SIZES + EMPTY)
def test_there_and_back(size: tuple[int, ...], function: Any, device: torch.device) -> None:
    batch, rows, columns, rank, channels = size
    shapes = [(batch, rows, rank), (batch, columns, rank), (batch, rows, channels)]
    shapes += [(batch, columns), (batch, columns, channels)]
    p, *others = _tensors(device, *shapes)

    def run(p: Tensor, q: Tensor, u: Tensor, s: Tensor, e: Tensor, **options: Any) -> Any:
        return cross_correlation_propagate(p, q, u, s, function, e, **options)

    _agree(run, [p / max(rank, 1) ** 0.5, *others])


@pytest.mark.parametrize("size", SIZES + EMPTY[:2] + EMPTY[3:4])
def test_logsumexp(size: tuple[int, ...], device: torch.device) -> None:
    batch, rows, columns, rank, _ = size
    _agree(
        cross_correlation_logsumexp, _tensors(device, (batch, rows, rank), (batch, columns, rank))
    )


def test_logsumexp_of_large_scores_and_of_none(device: torch.device) -> None:
    p, q = torch.full((1, 3, 1), 100.0, device=device), torch.full((1, 65, 1), 100.0, device=device)
    out = cross_correlation_logsumexp(p, q, implementation="triton")
    assert_close(out.cpu(), torch.full((1, 3), 1e4) + torch.tensor(65.0).log())
    assert (cross_correlation_logsumexp(p, q[:, :0], implementation="triton") == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, device: torch.device) -> None:
    p, q, x = (t.to(dtype) for t in _tensors(device, (1, 17, 5), (1, 65, 5), (1, 65, 3)))
    out = cross_correlation_matmul(p, q, x, "abs", implementation="triton")
    expected = cross_correlation_matmul(
        *(t.float().cpu() for t in (p, q, x)), "abs", implementation="reference"
    )
    assert out.dtype == dtype
    assert_close(
        out.float().cpu(), expected, rtol=2 ** -(8 if dtype == torch.bfloat16 else 11), atol=0
    )


def test_second_derivatives_run(device: torch.device) -> None:
    p, q, x = (t.requires_grad_() for t in _tensors(device, (1, 9, 3), (1, 7, 3), (1, 7, 2)))
    results = []
    for implementation in ("triton", "reference"):
        out = cross_correlation_matmul(p, q, x, "abs", implementation=implementation)
        grads = torch.autograd.grad(out.square().sum(), (p, q, x), create_graph=True)
        loss = sum(grad.square().sum() for grad in grads)
        results.append(torch.autograd.grad(loss, (p, q, x)))
    for part, other in zip(*results, strict=True):
        assert_close(part / other.abs().max(), other / other.abs().max(), rtol=1e-4, atol=1e-5)
