"""The search against its definition, its selection, and the operator around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from hypergraph_kernels import Neighbors, knn
from hypergraph_kernels.knn import cpu
from hypergraph_kernels.knn._select import Candidates, by_ordinal, select_tile

METRICS = ["cosine", "euclidean", "dot"]
F64 = torch.float64


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of some hundred rows are searched in many square tiles."""
    monkeypatch.setattr(cpu, "_TILE_ELEMENTS", 45 * 45)


def agree(x: Tensor, k: int, metric: Any, threshold: float | None = None) -> Neighbors:
    """The neighbours, which must be the reference's."""
    found = knn(x, k, metric, threshold, True)
    expected = knn(x, k, metric, threshold, True, implementation="reference")
    # Distances of equal rows that are not 0 in the reference are 0 nowhere.
    wide = x.dtype == F64
    tolerance = {"rtol": 1e-9, "atol": 1e-7} if wide else {"rtol": 1e-5, "atol": 2e-6}
    assert torch.equal(found.kept, expected.kept)
    kept = found.kept
    assert_close(found.distance[kept], expected.distance[kept], **tolerance)
    # The mean of a row counts the square root of what rounding leaves between equal points.
    size = expected.distance[kept].abs().amax() if kept.any() else 1
    assert_close(found.row_mean, expected.row_mean, rtol=1e-5, atol=float(1e-3 * size))
    assert_close(found.row_mean.mean(-1), expected.row_mean.mean(-1), rtol=1e-4, atol=1e-5)
    differs = found.nearest != expected.nearest
    if wide:
        assert not differs.any()
    else:  # where the order differs, the distances are too close for float32 to tell
        apart = (found.distance - expected.distance).abs()[differs]
        assert differs.float().mean() < 1e-3
        assert (apart <= 2e-6 * (1 + expected.distance.abs()[differs])).all()
    return found


@pytest.mark.parametrize("implementation", ["auto", "cpu", "reference"])
def test_by_hand(implementation: Any) -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0], [4.0, 3.0], [0.0, 0.0]])
    found = knn(x, 3, "euclidean", 5.0, True, implementation)
    assert found.nearest.tolist() == [[0, 2, 1], [1, 3, 0], [2, 0, 1], [3, 1, 0]]
    expected = [0, 2**0.5, 13**0.5], [0, 2, 13**0.5], [0, 2**0.5, 17**0.5], [0, 2, 5]
    assert_close(found.distance, torch.tensor(expected))
    assert found.kept.all()
    assert_close(found.row_mean[3], torch.tensor(12 / 4))
    found = knn(x, 3, "dot", -6.5, True, implementation)
    assert found.nearest.tolist() == [[0, 2, 1], [1, 0, 1], [2, 0, 2], [3, 3, 3]]
    assert found.distance[0].tolist() == [-25, -24, -8]
    assert found.kept[1].tolist() == [True, True, False]
    assert found.row_mean[0] == -32 / 4
    found = knn(x, 4, "cosine", None, True, implementation)
    assert found.nearest.tolist() == [[0, 2, 1, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]]
    assert_close(found.distance[0], torch.tensor([0, 0.04, 0.2, 1]))
    assert_close(found.row_mean[3], torch.tensor(0.75))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (129, 17), (400, 5), (3, 61, 4), (2, 300, 9)])
def test_equals_the_reference(metric: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    agree(torch.randn(shape, dtype=dtype), 7, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("n", [47, 131, 224])
def test_many_tiles_equal_the_reference(
    metric: str, dtype: torch.dtype, n: int, small_tiles: None
) -> None:
    x = torch.randn(2, n, 5, dtype=dtype)
    agree(x, 6, metric)  # square tiles
    agree(x[0, :100], 25, metric)  # rows against all
    threshold = {"cosine": 0.05, "euclidean": 1.2, "dot": -2.0}[metric]
    found = agree(x, 6, metric, threshold)
    assert found.kept.any() and not found.kept.all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["equal", "zero", "few", "grid", "duplicates"])
def test_ties_in_many_tiles(metric: str, kind: str, small_tiles: None) -> None:
    """More equal distances than any list of candidates holds."""
    x = {
        "equal": torch.randn(1, 3).expand(240, 3),
        "zero": torch.zeros(240, 3),
        "few": torch.randn(3, 3).repeat(80, 1),
        "grid": torch.randint(-1, 2, (240, 3)).float(),
        "duplicates": torch.randn(60, 7).repeat(4, 1),
    }[kind]
    if metric == "dot":
        x = x.round()
    if metric == "cosine" and kind == "grid":
        x = x.sign()[:, :1].expand(240, 3)
    found = knn(x, 5, metric)
    expected = knn(x, 5, metric, implementation="reference")
    assert torch.equal(found.nearest, expected.nearest)
    assert_close(found.distance, expected.distance, rtol=1e-5, atol=1e-6)
    assert len({tuple(row) for row in found.nearest.tolist()}) == len(x)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_are_at_distance_zero(metric: str) -> None:
    x = 10 * torch.randn(150, 37)
    x[70:140] = x[:70]
    distance = knn(x, 2, metric).distance
    assert (distance[:140] == 0).all() and (distance[140:, 1] > 0).all()


def test_samples_are_searched_by_themselves(small_tiles: None) -> None:
    x = torch.randn(3, 80, 6) * torch.tensor([1.0, 1e12, 1e-12]).view(3, 1, 1)
    for metric in METRICS:
        together = knn(x, 5, metric)
        for sample in range(3):
            alone = knn(x[sample], 5, metric)
            assert torch.equal(together.nearest[sample], alone.nearest)
            assert_close(together.distance[sample], alone.distance, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(0, 3), (0, 5, 3), (2, 0, 3), (4, 0), (1, 1, 1)])
@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_empty_and_smallest(shape: tuple[int, ...], implementation: Any) -> None:
    for metric in METRICS:
        found = knn(torch.ones(shape), 3, metric, 0.5, True, implementation)
        n = shape[-2]
        assert found.nearest.shape == (*shape[:-2], n, min(3, n))
        assert found.kept.dtype == torch.bool and found.row_mean.shape == shape[:-1]
        if shape == (4, 0) and metric != "cosine":  # no channels: all distances are 0
            assert found.nearest.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1]]


@pytest.mark.parametrize("metric", METRICS)
def test_permuted_rows_have_permuted_neighbors(metric: str) -> None:
    x, order = torch.randn(150, 6, dtype=F64), torch.randperm(150)
    found, permuted = knn(x, 9, metric), knn(x[order], 9, metric)
    assert torch.equal(order[permuted.nearest], found.nearest[order])
    assert_close(permuted.distance, found.distance[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_searched_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(50, 8).to(dtype)
    found = knn(x, 5)
    assert found.distance.dtype == torch.float32
    assert torch.equal(found.nearest, knn(x.float(), 5).nearest)


def test_autocast_changes_nothing() -> None:
    x = torch.randn(200, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = knn(x, 9, "euclidean", None, True)
    for field, expected in zip(found, knn(x, 9, "euclidean", None, True), strict=True):
        assert torch.equal(field, expected)


# ---- selection


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 300), st.booleans())
def test_select_tile(seed: int, rows: int, columns: int, transposed: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = (columns, rows) if transposed else (rows, columns)
    tile = torch.randint(0, 50, shape, generator=random).float()
    tile = tile.mT if transposed else tile
    bound = torch.randint(-1, 20, (rows,), generator=random).float()
    wanted = int(torch.randint(1, columns + 1, (), generator=random))
    found = select_tile(tile, bound, wanted)
    assert torch.equal(found.bound, bound)
    row, column = (tile <= bound[:, None]).nonzero().unbind(1)
    order = (found.row * columns + found.column).argsort()
    assert (found.row.diff() >= 0).all()
    assert torch.equal(found.row[order], row) and torch.equal(found.column[order], column)
    assert torch.equal(found.ordinal, tile[found.row, found.column])
    # A bound of its own: no lower than the best `wanted` need, no higher than the bound given.
    best = tile.sort(dim=-1).values[:, wanted - 1]
    found = select_tile(tile, torch.full((rows,), torch.inf), wanted, torch.ones(rows))
    assert (found.bound >= best + 1).all()
    assert torch.equal((tile <= found.bound[:, None]).sum(-1), found.row.bincount(minlength=rows))
    found = select_tile(tile, bound, wanted, torch.ones(rows))
    assert (found.bound <= bound).all() and (found.bound >= torch.minimum(bound, best + 1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_candidates_in_order(dtype: torch.dtype) -> None:
    nothing = torch.tensor(0.0, dtype=dtype)
    ordinal = torch.tensor([[2.0, -0.0, 0.0, -1.5, torch.inf, -1.5, 2.0]], dtype=dtype)
    column = torch.tensor([[3, 9, 4, 7, 0, 5, 1]])
    values, order = by_ordinal(ordinal, column)
    assert order.tolist() == [[5, 7, 4, 9, 1, 3, 0]]
    assert values.tolist() == [[-1.5, -1.5, nothing, nothing, 2.0, 2.0, torch.inf]]


def test_candidates_are_cut_to_those_within_reach() -> None:
    candidates = Candidates(2, torch.empty(0))
    row = torch.tensor([0, 0, 0, 1])
    assert candidates.add(row, torch.tensor([4, 5, 6, 7]), torch.tensor([3.0, 1.0, 2.0, 9.0])) == 3
    assert candidates.add(row[2:], torch.tensor([8, 9]), torch.tensor([2.5, 0.0])) == 4
    bound = candidates.cut(2, torch.tensor([10.0, 10.0]), torch.tensor([0.5, 0.5]))
    assert bound.tolist() == [2.5, 9.5]
    assert candidates.ordinal[0].tolist() == [1.0, 2.0, 2.5]
    assert candidates.column[0].tolist() == [5, 6, 8]
    assert candidates.drop(2).tolist() == [True, False]
    assert candidates.ordinal.tolist() == [[torch.inf, torch.inf], [0.0, 9.0]]


# ---- the operator


def test_opcheck() -> None:
    op = torch.ops.hypergraph_kernels.knn.default
    torch.library.opcheck(op, (torch.randn(2, 20, 3), 5, "cosine", 0.5, False, "cpu"))
    torch.library.opcheck(op, (torch.randn(1, 4, 3).bfloat16(), 5, "euclidean", None, True, "cpu"))
    torch.library.opcheck(op, (torch.randn(0, 3, 2), 5, "dot", None, False, "cpu"))


def test_no_gradient_flows() -> None:
    x = torch.randn(10, 3, requires_grad=True)
    for implementation in ("cpu", "reference"):
        found = knn(x, 3, with_row_mean=True, implementation=implementation)
        assert not any(field.requires_grad for field in found)
    with torch.inference_mode():
        assert torch.equal(knn(x, 3).nearest, found.nearest)


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("shape", [(30, 4), (2, 30, 4)])
def test_compiles_and_exports(implementation: Any, shape: tuple[int, ...]) -> None:
    class Search(torch.nn.Module):
        def forward(self, x: Tensor) -> Neighbors:
            return knn(x, 5, "euclidean", 1.5, True, implementation)

    torch._dynamo.reset()
    x = torch.randint(-2, 3, shape).float()
    expected = Search()(x)
    compiled = torch.compile(Search(), fullgraph=True, backend="aot_eager")
    program = torch.export.export(Search(), (x,))
    for found in (compiled(x), program.module()(x)):
        for field, value in zip(found, expected, strict=True):
            assert_close(field, value)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    custom = {name for name in called if name.startswith("hypergraph_kernels")}
    assert custom == (
        set() if implementation == "reference" else {"hypergraph_kernels.knn.default"}
    )
    assert all(name.startswith(("aten.", "hypergraph_kernels.", "<built-in")) for name in called)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: knn(x, 2, "l1"), ValueError, "`metric` must be one of 'cosine'.*got 'l1'"),
        (lambda x: knn(x, 0), ValueError, "`k` must be at least 1, got 0"),
        (lambda x: knn(x[0], 2), ValueError, r"`x` must have shape \[n, channels\].*got \[2\]"),
        (lambda x: knn(x.long(), 2), TypeError, "`x` must be a floating-point .*int64"),
        (lambda x: knn([[1.0]], 2), TypeError, "`x` must be a floating-point .*list"),
        (lambda x: knn(x, 2, implementation="gpu"), ValueError, "`implementation` must be one of"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.ones(3, 2))
