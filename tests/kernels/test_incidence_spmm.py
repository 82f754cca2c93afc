"""Sums over ragged segments, inner products of their pairs, and the sorting behind both."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from hypergraph_kernels import Segments, incidence_spmm, sampled_dot, segments_from
from hypergraph_kernels.incidence_spmm import cpu, op, reference

Pairs = tuple[Segments, Segments]


def pairs(num_rows: int, num_columns: int, nnz: int, hub: int = 0) -> Pairs:
    """Random pairs by row and by column; the last ``hub`` of them belong to row 1."""
    rows = torch.randint(max(num_rows, 1), (nnz,))
    if hub:
        rows[-hub:] = 1
    columns = torch.randint(max(num_columns, 1), (nnz,))
    mix = torch.randperm(nnz)
    rows, columns = rows[mix], columns[mix]
    return segments_from(rows, columns, num_rows), segments_from(columns, rows, num_columns)


def test_sums_by_hand() -> None:
    rows, columns = torch.tensor([2, 0, 2, 2]), torch.tensor([1, 0, 0, 1])
    by_row, by_column = segments_from(rows, columns, 3), segments_from(columns, rows, 2)
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for implementation in ("cpu", "reference"):
        out = incidence_spmm(x, values, by_row, by_column, implementation=implementation)
        assert out.tolist() == [[2.0, 4.0], [0.0, 0.0], [53.0, 106.0]]
        out = incidence_spmm(x, None, by_row, by_column, implementation=implementation)
        assert out.tolist() == [[1.0, 2.0], [0.0, 0.0], [21.0, 42.0]]
        heads = torch.stack([values, -values], 1)
        out = incidence_spmm(x, heads, by_row, by_column, implementation=implementation)
        assert out.tolist() == [[2.0, -4.0], [0.0, 0.0], [53.0, -106.0]]
        a = torch.tensor([[1.0, 1.0], [5.0, 5.0], [0.0, 2.0]])
        dots = sampled_dot(a, x, by_row, by_column, implementation=implementation)
        assert dots.tolist() == [40.0, 3.0, 4.0, 40.0]
        dots = sampled_dot(a, x, by_row, by_column, heads=2, implementation=implementation)
        assert dots.tolist() == [[0.0, 40.0], [1.0, 2.0], [0.0, 4.0], [0.0, 40.0]]


def test_segments_by_hand() -> None:
    found = segments_from(torch.tensor([1, 0, 1]), torch.tensor([5, 6, 7]), 3)
    assert [part.tolist() for part in found] == [[6, 5, 7], [0, 1, 3, 3], [1, 0, 2]]
    kept = segments_from(torch.tensor([0, 1, 1]), torch.tensor([5, 6, 7]), 3)
    assert kept.order is None and kept.columns.tolist() == [5, 6, 7]
    empty = segments_from(torch.empty(0).long(), torch.empty(0).long(), 2)
    assert empty.offsets.tolist() == [0, 0, 0] and empty.columns.numel() == 0
    assert segments_from(empty.columns, empty.columns, 0).offsets.tolist() == [0]


@pytest.mark.parametrize("as_installed", [False, True])
@pytest.mark.parametrize("num_rows", [1, 32767, 32768, 32769, 100_000])
@pytest.mark.parametrize("nnz", [1, 50, 4095, 4096, 32767, 32768, 40_000])
def test_segments_are_a_stable_sort(
    nnz: int, num_rows: int, as_installed: bool, monkeypatch
) -> None:
    if not as_installed:  # in plain PyTorch, whether or not the compiled path has been built
        monkeypatch.setattr("hypergraph_kernels._segments.has_compiled", lambda: False)
    rows, columns = torch.randint(num_rows, (nnz,)), torch.randint(7, (nnz,))
    rows[0], rows[-1] = num_rows - 1, 0
    found = segments_from(rows, columns, num_rows)
    order = rows.argsort(stable=True)
    assert torch.equal(found.columns, columns[order])
    counts = torch.bincount(rows, minlength=num_rows)
    assert torch.equal(found.offsets.diff(), counts) and found.offsets[0] == 0
    if num_rows > 1 and nnz > 1:
        assert found.order is not None and torch.equal(found.order, order)
    else:
        assert found.order is None


def test_traced_segments_are_the_same() -> None:
    rows, columns = torch.randint(70, (5000,)), torch.randint(9, (5000,))
    traced = torch.compile(segments_from, backend="eager", fullgraph=True)(rows, columns, 70)
    for one, other in zip(traced, segments_from(rows, columns, 70), strict=True):
        assert torch.equal(one, other)


CASES = [
    # rows, columns, nnz, channels, heads, batch
    (5, 7, 40, 6, None, None),
    (63, 17, 500, 33, None, None),
    (5, 7, 40, 6, 1, None),
    (17, 63, 200, 12, 4, None),
    (17, 9, 100, 6, 3, 2),
    (17, 9, 100, 5, None, 3),
    (1, 1, 1, 1, 1, 1),
    (4, 3, 0, 5, 1, 2),
    (0, 3, 0, 5, None, None),
    (3, 0, 0, 4, 2, None),
    (3, 4, 10, 0, None, None),
]


@pytest.mark.parametrize("rows, columns, nnz, channels, heads, batch", CASES)
def test_agrees_with_the_reference(
    rows: int, columns: int, nnz: int, channels: int, heads: int | None, batch: int | None
) -> None:
    by_row, by_column = pairs(rows, columns, nnz)
    leading = () if batch is None else (batch,)
    x = torch.randn(*leading, columns, channels, dtype=torch.float64, requires_grad=True)
    a = torch.randn(*leading, rows, channels, dtype=torch.float64, requires_grad=True)
    shape = (nnz,) if heads is None else (*leading, nnz, heads)
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    for given in (values, None):
        inputs = [x, a] if given is None else [x, a, given]
        results = []
        for implementation in ("cpu", "reference"):
            out = incidence_spmm(x, given, by_row, by_column, implementation=implementation)
            assert out.shape == (*leading, rows, channels)
            dots = sampled_dot(a, x, by_row, by_column, heads=heads, implementation=implementation)
            assert dots.shape == (*leading, nnz, *([] if heads is None else [heads]))
            loss = (out * a.detach()).sum() + (dots * values.detach()).sum()
            if given is not None and given.dim() == dots.dim():
                loss = loss + (dots * given).sum() * 2
            gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
            results.append((out, dots, *gradients))
        for mine, definition in zip(*results, strict=True):
            torch.testing.assert_close(mine, definition)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype, tolerance) -> None:
    by_row, by_column = pairs(20, 30, 90)
    x, a = torch.randn(30, 8).to(dtype), torch.randn(20, 8).to(dtype)
    values = torch.rand(90).to(dtype)
    for given in (values, values.unsqueeze(1).repeat(1, 2), None):
        out = incidence_spmm(x, given, by_row, by_column)
        double = None if given is None else given.double()
        expected = reference.incidence_spmm(x.double(), double, by_row)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, **tolerance[dtype])
    for heads in (None, 4):
        dots = sampled_dot(a, x, by_row, by_column, heads=heads)
        assert dots.dtype == dtype
        expected = reference.sampled_dot(a.double(), x.double(), by_row, heads)
        torch.testing.assert_close(dots.double(), expected, **tolerance[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("heads", [None, 2])
def test_hubs_are_cut_into_pieces(
    heads: int | None, dtype: torch.dtype, tolerance, monkeypatch
) -> None:
    by_row, by_column = pairs(40, 30, 6000, hub=4000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert cpu._long(by_row.columns, by_row.offsets) == 1024
    x, a = torch.randn(30, 4).to(dtype), torch.randn(40, 4).to(dtype)
    values = torch.rand(6000 if heads is None else (6000, heads)).to(dtype)
    out = incidence_spmm(x, values, by_row, by_column)
    assert out.dtype == dtype
    expected = reference.incidence_spmm(x.double(), values.double(), by_row)
    torch.testing.assert_close(out.double(), expected, **tolerance[dtype])
    out = incidence_spmm(x, None, by_row, by_column)
    expected = reference.incidence_spmm(x.double(), None, by_row)
    torch.testing.assert_close(out.double(), expected, **tolerance[dtype])
    dots = sampled_dot(a, x, by_row, by_column, heads=heads)
    expected = reference.sampled_dot(a.double(), x.double(), by_row, heads)
    torch.testing.assert_close(dots.double(), expected, **tolerance[dtype])


def test_pieces_where_every_segment_is_long_or_the_hub_is_first_or_last(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x = torch.randn(30, 4, dtype=torch.float64)
    for lengths in ([3000, 0, 5], [5, 0, 3000], [3000], [2000, 2001, 1500], [0, 1025, 0]):
        columns = torch.randint(30, (sum(lengths),))
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        segments = Segments(columns, offsets, None)
        out = cpu.incidence_spmm(x, None, segments)
        torch.testing.assert_close(out, reference.incidence_spmm(x, None, segments))
        a = torch.randn(len(lengths), 4, dtype=torch.float64)
        dots = cpu.sampled_dot(a, x, segments)
        torch.testing.assert_close(dots, reference.sampled_dot(a, x, segments))


@pytest.mark.parametrize("heads, batch", [(None, None), (2, None), (2, 2)])
def test_differentiable_twice(heads: int | None, batch: int | None) -> None:
    by_row, by_column = pairs(4, 5, 9)
    leading = () if batch is None else (batch,)
    kinds = {"dtype": torch.float64, "requires_grad": True}
    x, a = torch.randn(*leading, 5, 4, **kinds), torch.randn(*leading, 4, 4, **kinds)
    values = torch.randn((9,) if heads is None else (*leading, 9, heads), **kinds)

    def product(x: Tensor, values: Tensor) -> Tensor:
        return incidence_spmm(x, values, by_row, by_column)

    def dots(a: Tensor, x: Tensor) -> Tensor:
        return sampled_dot(a, x, by_row, by_column, heads=heads)

    for function, inputs in ((product, (x, values)), (dots, (a, x))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("leading, heads", [((), None), ((), 2), ((3,), 2)])
def test_operator_registration(leading: tuple[int, ...], heads: int | None) -> None:
    by_row, by_column = pairs(4, 5, 9)
    x = torch.randn(*leading, 5, 4, requires_grad=True)
    a = torch.randn(*leading, 4, 4, requires_grad=True)
    values = torch.rand((9,) if heads is None else (*leading, 9, heads), requires_grad=True)
    torch.library.opcheck(op._incidence_spmm, (x, values, *by_row, *by_column, "cpu"))
    torch.library.opcheck(op._sampled_dot, (a, x, *by_row, *by_column, heads, "cpu"))


def test_runs_compiled_in_inference_mode_and_on_meta() -> None:
    by_row, by_column = pairs(4, 5, 9)
    x, values = torch.randn(5, 4, requires_grad=True), torch.rand(9, 2)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        out = incidence_spmm(x, values, by_row, by_column)
        return out, sampled_dot(out, x, by_row, by_column)

    expected = both(x)
    traced = torch.compile(both, backend="aot_eager", fullgraph=True)
    for one, other in zip(traced(x), expected, strict=True):
        torch.testing.assert_close(one, other)
    (mine,) = torch.autograd.grad(traced(x)[1].sum(), x)
    (eager,) = torch.autograd.grad(expected[1].sum(), x)
    torch.testing.assert_close(mine, eager)
    with torch.inference_mode():
        torch.testing.assert_close(both(x)[1], expected[1])
    meta = [Segments(*(part.to("meta") for part in s if part is not None)) for s in (by_row,) * 2]
    assert incidence_spmm(x.to("meta"), values.to("meta"), *meta).shape == (4, 4)


def test_nothing_of_pairs_times_channels_is_kept_for_the_backward() -> None:
    by_row, by_column = pairs(40, 50, 900)
    x, values = torch.randn(50, 64, requires_grad=True), torch.rand(900, 4, requires_grad=True)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        incidence_spmm(x, values, by_row, by_column)
    assert max(tensor.numel() for tensor in saved) <= max(900 * 4, 50 * 64)


def test_laws() -> None:
    by_row, by_column = pairs(6, 8, 50)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    values = torch.rand(50, 2, dtype=torch.float64)
    # The transposed product is the adjoint.
    forward = incidence_spmm(x, values, by_row, by_column)
    back = incidence_spmm(y, values, by_column, by_row)
    torch.testing.assert_close((forward * y).sum(), (x * back).sum())
    # Linear in both; equal heads are no heads.
    twice = incidence_spmm(2 * x, values, by_row, by_column)
    torch.testing.assert_close(twice, incidence_spmm(x, 2 * values, by_row, by_column))
    same = values[:, :1].expand(-1, 2)
    one = incidence_spmm(x, values[:, 0], by_row, by_column)
    torch.testing.assert_close(incidence_spmm(x, same, by_row, by_column), one)
    torch.testing.assert_close(
        sampled_dot(y, x, by_row, by_column, heads=2).sum(-1), sampled_dot(y, x, by_row, by_column)
    )
    # A batch gives what its samples give; values without a batch serve all of them.
    xs, many = torch.stack([x, -x]), torch.stack([values, values * 3])
    out = incidence_spmm(xs, many, by_row, by_column)
    torch.testing.assert_close(out, torch.stack([forward, -3 * forward]))
    shared = incidence_spmm(xs, values, by_row, by_column)
    torch.testing.assert_close(shared, torch.stack([forward, -forward]))


def test_no_warning_reaches_the_user() -> None:
    by_row, by_column = pairs(4, 5, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampled_dot(torch.randn(4, 2), torch.randn(5, 2), by_row, by_column)


def test_bad_arguments_are_named() -> None:
    by_row, by_column = pairs(4, 5, 9)
    x, a, values = torch.randn(5, 4), torch.randn(4, 4), torch.rand(9)
    two = (by_row, by_column)
    with pytest.raises(ValueError, match=r"`x` must have shape \[rows, channels\]"):
        incidence_spmm(x[0], None, *two)
    with pytest.raises(TypeError, match="`x` must be floating point"):
        incidence_spmm(x.long(), None, *two)
    with pytest.raises(TypeError, match="`values` must have the dtype of `x`"):
        incidence_spmm(x, values.double(), *two)
    for wrong in (values[:-1], torch.rand(2, 9, 1), torch.rand(())):
        with pytest.raises(ValueError, match=r"`values` must have shape \[nnz=9\]"):
            incidence_spmm(x, wrong, *two)
    with pytest.raises(ValueError, match="`values` must have a number of heads that divides"):
        incidence_spmm(x, torch.rand(9, 3), *two)
    with pytest.raises(ValueError, match="`implementation` must be one of"):
        incidence_spmm(x, values, *two, implementation="fast")
    with pytest.raises(TypeError, match="`b` must have the dtype of `a`"):
        sampled_dot(a, x.double(), *two)
    with pytest.raises(ValueError, match="`b` must have the channels and the batch of `a`"):
        sampled_dot(a, x[:, :2], *two)
    with pytest.raises(ValueError, match="`a` must have a row per segment, 4, got 5"):
        sampled_dot(x, x, *two)
    with pytest.raises(ValueError, match="`heads` must divide the 4 channels"):
        sampled_dot(a, x, *two, heads=3)
