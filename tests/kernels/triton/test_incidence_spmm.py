"""The Triton kernels of sums over ragged segments and of inner products of their pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hypergraph_kernels import Segments, incidence_spmm, sampled_dot, segments_from
from hypergraph_kernels.incidence_spmm import reference

pytestmark = pytest.mark.triton

Pairs = tuple[Segments, Segments]


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
    from hypergraph_kernels.incidence_spmm import triton_kernels

    allocate_nan(monkeypatch)
    return triton_kernels


def pairs(num_rows: int, num_columns: int, nnz: int, device: torch.device, hub: int = 0) -> Pairs:
    rows = torch.randint(max(num_rows, 1), (nnz,))
    if hub:
        rows[-hub:] = 1
    columns = torch.randint(max(num_columns, 1), (nnz,))
    mix = torch.randperm(nnz)
    rows, columns = rows[mix].to(device), columns[mix].to(device)
    return segments_from(rows, columns, num_rows), segments_from(columns, rows, num_columns)


@pytest.mark.parametrize(
    "rows, columns, nnz, channels, heads, batch",
    [
        (5, 7, 40, 6, None, None),
        (63, 17, 60, 130, None, None),
        (17, 9, 63, 12, 3, 2),
        (1, 1, 1, 1, 1, 1),
        (4, 3, 0, 5, 1, 2),
        (0, 3, 0, 5, None, None),
        (3, 4, 10, 0, None, None),
    ],
)
def test_agrees_with_the_reference(
    rows: int,
    columns: int,
    nnz: int,
    channels: int,
    heads: int | None,
    batch: int | None,
    device: torch.device,
    kernels,
    tolerance,
) -> None:
    by_row, _ = pairs(rows, columns, nnz, device)
    leading = () if batch is None else (batch,)
    x = torch.randn(*leading, columns, channels, device=device)
    a = torch.randn(*leading, rows, channels, device=device)
    values = torch.rand((nnz,) if heads is None else (*leading, nnz, heads), device=device)
    for given in (values, None):
        out = kernels.incidence_spmm(x, given, by_row)
        expected = reference.incidence_spmm(x, given, by_row)
        torch.testing.assert_close(out, expected, **tolerance[torch.float32])
    dots = kernels.sampled_dot(a, x, by_row, heads)
    expected = reference.sampled_dot(a, x, by_row, heads)
    torch.testing.assert_close(dots, expected, **tolerance[torch.float32])


@pytest.mark.parametrize("lengths", [[70, 0, 5, 33], [3, 0, 61], [64], [32, 33, 31, 65], [0, 97]])
def test_long_segments_are_summed_window_by_window(
    lengths: list[int], device: torch.device, kernels, monkeypatch, tolerance
) -> None:
    monkeypatch.setattr(kernels, "_WINDOW", 32)
    nnz = sum(lengths)
    columns = torch.randint(9, (nnz,), device=device)
    offsets = torch.tensor([0, *lengths], device=device).cumsum(0)
    segments = Segments(columns, offsets, torch.randperm(nnz, device=device))
    x = torch.randn(2, 9, 6, device=device)
    values = torch.rand(2, nnz, 2, device=device)
    out = kernels.incidence_spmm(x, values, segments)
    expected = reference.incidence_spmm(x.double(), values.double(), segments)
    torch.testing.assert_close(out.double(), expected, **tolerance[torch.float32])
    again = kernels.incidence_spmm(x, values, segments)
    assert torch.equal(out, again)


def test_gradients(device: torch.device, kernels, monkeypatch, tolerance) -> None:
    monkeypatch.setattr(kernels, "_WINDOW", 32)
    by_row, by_column = pairs(7, 5, 63, device, hub=40)
    x = torch.randn(5, 6, device=device, requires_grad=True)
    a = torch.randn(7, 6, device=device, requires_grad=True)
    for values in (torch.rand(63, device=device), torch.rand(63, 3, device=device)):
        values.requires_grad_()
        heads = None if values.dim() == 1 else 3
        results = []
        for implementation in ("triton", "reference"):
            chosen = {"implementation": implementation}
            out = incidence_spmm(x, values, by_row, by_column, **chosen)
            dots = sampled_dot(out + a, x, by_row, by_column, heads=heads, **chosen)
            loss = (out * a).square().sum() + (dots * values).sum()
            results.append((out, dots, *torch.autograd.grad(loss, [x, a, values])))
        for mine, definition in zip(*results, strict=True):
            torch.testing.assert_close(mine, definition, **tolerance[torch.float32])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_added_up_in_float32(
    dtype: torch.dtype, device: torch.device, kernels, tolerance
) -> None:
    by_row, _ = pairs(4, 9, 100, device)
    x, values = torch.rand(9, 3, device=device).to(dtype), torch.rand(100, device=device).to(dtype)
    out = kernels.incidence_spmm(x, values, by_row)
    assert out.dtype == dtype
    expected = reference.incidence_spmm(x.double(), values.double(), by_row)
    torch.testing.assert_close(out.double(), expected, **tolerance[dtype])
    a = torch.rand(4, 3, device=device).to(dtype)
    dots = kernels.sampled_dot(a, x, by_row)
    expected = reference.sampled_dot(a.double(), x.double(), by_row)
    torch.testing.assert_close(dots.double(), expected, **tolerance[dtype])


def test_cases_for_compilation_name_every_kernel(kernels) -> None:
    names = {case.kernel.__name__ for case in kernels.aot_cases()}
    assert names == {"_window_sums", "_segment_sums", "_pair_dots"}
