"""The Triton kernels of the softmax over segments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hypergraph_kernels import Segments, incidence_softmax, segments_from
from hypergraph_kernels.incidence_softmax import reference

pytestmark = pytest.mark.triton


def allocate_nan(monkeypatch) -> None:
    """Fill what ``new_empty`` allocates with NaN."""
    new_empty = Tensor.new_empty

    def filled(self: Tensor, *size, **kinds) -> Tensor:
        out = new_empty(self, *size, **kinds)
        return out.fill_(torch.nan) if out.is_floating_point() else out

    monkeypatch.setattr(Tensor, "new_empty", filled)


@pytest.fixture
def kernels(monkeypatch):
    """The launchers; what they allocate is full of NaN, so that all of it must be written."""
    pytest.importorskip("triton")
    from hypergraph_kernels.incidence_softmax import triton_kernels

    allocate_nan(monkeypatch)
    return triton_kernels


def groups(rows: Tensor, size: int) -> Segments:
    return segments_from(rows, torch.arange(rows.shape[0], device=rows.device), size)


@pytest.mark.parametrize(
    "nnz, size, shape, spread",
    [(1, 1, (1,), 1), (63, 17, (3,), 30), (60, 70, (2, 5), 1), (0, 3, (2,), 1), (40, 3, (66,), 1)],
)
def test_agrees_with_the_reference(
    nnz: int,
    size: int,
    shape: tuple[int, ...],
    spread: float,
    device: torch.device,
    kernels,
    tolerance,
) -> None:
    rows = torch.randint(size, (nnz,), device=device)
    segments = groups(rows, size)
    full = (*shape[:-1], nnz, shape[-1])
    scores = torch.randn(full, device=device) * spread
    weight = torch.rand(nnz, device=device)
    weight[::3] = 0
    for given in (None, weight):
        alpha = kernels.incidence_softmax(scores, segments.offsets, segments.order, given)
        expected = reference.incidence_softmax(scores, segments, given)
        torch.testing.assert_close(alpha, expected, **tolerance[torch.float32])


def test_long_segments_window_by_window(
    device: torch.device, kernels, monkeypatch, tolerance
) -> None:
    monkeypatch.setattr(kernels, "_WINDOW", 32)
    for lengths in ([70, 0, 5, 33], [3, 0, 61], [32, 33, 31, 65]):
        nnz = sum(lengths)
        offsets = torch.tensor([0, *lengths], device=device).cumsum(0)
        order = torch.randperm(nnz, device=device)
        scores = torch.randn(nnz, 2, device=device) * 20
        scores[order[:40]] -= 1e30  # a first window far below the others
        weight = torch.rand(nnz, device=device)
        alpha = kernels.incidence_softmax(scores, offsets, order, weight)
        expected = reference.incidence_softmax(scores, Segments(order, offsets, order), weight)
        torch.testing.assert_close(alpha, expected, **tolerance[torch.float32])


@pytest.mark.filterwarnings("ignore:overflow encountered")  # the interpreter's numpy
def test_scores_without_bounds(device: torch.device, kernels) -> None:
    inf, rows = torch.inf, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4], device=device)
    scores = torch.tensor([-inf, -inf, -inf, 0.0, 3e38, -3e38, 1e30, 1e30, 700.0], device=device)
    segments = groups(rows, 5)
    alpha = kernels.incidence_softmax(scores[:, None], segments.offsets, segments.order, None)
    assert alpha.flatten().tolist() == [0, 0, 0, 1, 1, 0, 0.5, 0.5, 1]
    tiny = torch.finfo(torch.float32).tiny
    weight = torch.tensor([1.0, 1, 1, 1, 0, 1, tiny / 4, tiny / 4, 2], device=device)
    alpha = kernels.incidence_softmax(scores[:, None], segments.offsets, segments.order, weight)
    assert alpha.flatten().tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_gradients(shape: tuple[int, ...], device: torch.device, kernels, tolerance) -> None:
    rows = torch.randint(9, (50,), device=device)
    segments = groups(rows, 9)
    full = (50,) if not shape else (*shape[:-1], 50, shape[-1])
    scores = torch.randn(full, device=device, requires_grad=True)
    weight = (torch.rand(50, device=device) + 0.1).requires_grad_()
    grad = torch.randn(full, device=device)
    results = []
    for implementation in ("triton", "reference"):
        out = incidence_softmax(scores, segments, weight, implementation=implementation)
        results.append((out, *torch.autograd.grad(out, [scores, weight], grad)))
    for mine, definition in zip(*results, strict=True):
        torch.testing.assert_close(mine, definition, **tolerance[torch.float32])


def test_cases_for_compilation_name_every_kernel(kernels) -> None:
    names = {case.kernel.__name__ for case in kernels.aot_cases()}
    assert names == {"_window_statistics", "_segment_statistics", "_shares", "_slopes"}
