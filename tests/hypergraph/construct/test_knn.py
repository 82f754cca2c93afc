from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from hypergraph import KNN, Hypergraph, NeighborTable
from hypergraph_kernels import knn
from hypergraph_kernels.knn import cpu
from tests.hypergraph.oracle import F64, neighbors

METRICS = ["cosine", "euclidean", "dot"]


def rows(table: NeighborTable) -> list[list[int]]:
    """The members of every hyperedge, masked slots left out."""
    index = table.index.reshape(-1, table.index.shape[-1])
    keep = torch.ones_like(index, dtype=torch.bool) if table.mask is None else table.mask
    keep = keep.reshape(index.shape)
    return [row[kept].tolist() for row, kept in zip(index, keep, strict=True)]


@st.composite
def integer_points(draw: st.DrawFn) -> Tensor:
    """Points on a small grid: equal points, zero vectors and exact ties everywhere."""
    n, channels = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    values = draw(st.lists(st.integers(-2, 2), min_size=n * channels, max_size=n * channels))
    return torch.tensor(values, dtype=torch.float32).view(n, channels)


@given(integer_points(), st.integers(1, 15), st.sampled_from(METRICS))
def test_ties_go_to_the_lower_index(x: Tensor, k: int, metric: str) -> None:
    if metric == "cosine":  # tied in exact arithmetic only; brute force rounds, so does this
        x = x.sign()[:, :1] * 2
    assert rows(KNN(k, metric)(x)) == neighbors(x, k, metric, None)


@given(integer_points(), st.integers(1, 15), st.floats(-3, 3), st.sampled_from(METRICS))
def test_threshold_is_a_distance(x: Tensor, k: int, threshold: float, metric: str) -> None:
    if metric == "cosine":
        x = x.sign()[:, :1]
    threshold = round(4 * threshold) / 4  # a threshold of -0.0 and a distance of 1e-17 are no test
    table = KNN(k, metric, threshold)(x)
    assert rows(table) == neighbors(x, k, metric, threshold)
    assert table.index.shape == (x.shape[0], min(k, x.shape[0]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [(50, 8), (700, 16), (1500, 4)])
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_equals_brute_force(metric: str, size: tuple[int, int], threshold: float | None) -> None:
    x = torch.randn(size, dtype=F64)
    assert rows(KNN(9, metric, threshold)(x)) == neighbors(x, 9, metric, threshold)


@pytest.mark.parametrize("metric", METRICS)
def test_float32_finds_the_same_distances(metric: str) -> None:
    x = torch.randn(400, 32)
    got = knn(x, 12, metric)
    expected = knn(x.double(), 12, metric)
    assert_close(got.distance.double(), expected.distance, rtol=1e-5, atol=1e-5)
    assert (got.nearest == expected.nearest).float().mean() > 0.999


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("tile", [1 << 20, 900, 100])
def test_samples_that_share_a_tile(metric: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together, two at a time, and row by row: the same neighbours as one by one."""
    x = torch.randint(-2, 3, (5, 20, 2)).double()
    x[1] *= 1e9  # every sample has its own scale
    x[2] = 0
    threshold = {"cosine": 0.8, "euclidean": 2.0, "dot": -1.0}[metric]
    alone = [knn(sample, 6, metric, threshold, True) for sample in x]
    monkeypatch.setattr(cpu, "_TILE_ELEMENTS", tile)
    together = knn(x, 6, metric, threshold, True)
    for name, field in together._asdict().items():
        expected = torch.stack([getattr(near, name) for near in alone])
        # The mean of a row counts the square root of what rounding leaves between equal points.
        assert_close(field, expected, rtol=1e-12, atol=1e-7 if name == "row_mean" else 1e-12)


def test_shapes_of_a_batch() -> None:
    x = torch.randn(3, 20, 4)
    table = KNN(5)(x)
    assert table.shape == (3, 20, 20)
    for sample in range(3):
        assert table.index[sample].tolist() == KNN(5)(x[sample]).index.tolist()


@pytest.mark.parametrize("weighting", [None, "rbf"])
@pytest.mark.parametrize("threshold", [None, 0.8])
def test_batch_vector_equals_separate_samples(
    weighting: str | None, threshold: float | None
) -> None:
    batch = torch.tensor([2, 0, 0, 2, 2, 1, 0, 0, 0, 2])
    x = torch.randn(10, 6, dtype=F64)
    build = KNN(4, threshold=threshold, weighting=weighting)
    table = build(x, batch)
    assert isinstance(table, NeighborTable) and table.shape == (10, 10)
    expected = torch.zeros(10, 10, dtype=F64)
    for sample in range(3):
        own = (batch == sample).nonzero().squeeze(-1)
        expected[own[:, None], own] = build(x[own]).to_dense().to(F64)
    assert_close(table.to_dense().to(F64), expected)


def test_a_sample_number_may_be_missing() -> None:
    table = KNN(3)(torch.randn(4, 2), torch.tensor([0, 0, 3, 3]))
    assert [sorted(row) for row in rows(table)] == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_k_beyond_the_vertices_is_clamped() -> None:
    assert KNN(25)(torch.randn(4, 3)).index.shape == (4, 4)
    assert KNN(25)(torch.randn(1, 3)).index.tolist() == [[0]]
    assert KNN(25)(torch.randn(0, 3)).shape == (0, 0)
    assert KNN(25)(torch.randn(0, 4, 3)).shape == (0, 4, 4)
    assert KNN(25)(torch.randn(0, 3), torch.zeros(0, dtype=torch.long)).shape == (0, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_vertex_itself_comes_first(metric: str) -> None:
    x = torch.cat([torch.zeros(3, 4), torch.randn(5, 4), torch.ones(4, 4), 100 * torch.ones(1, 4)])
    assert KNN(3, metric)(x).index[:, 0].tolist() == list(range(13))


def test_the_centre_is_kept_under_every_threshold() -> None:
    x = torch.randn(20, 4)
    for metric in METRICS:
        assert rows(KNN(5, metric, -1e9)(x)) == [[v] for v in range(20)]


def test_a_zero_vector_is_at_distance_one_from_all_others() -> None:
    x = torch.cat([torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]])])
    found = knn(x, 5)
    assert found.nearest[0].tolist() == [0, 1, 2, 3, 4]
    assert found.distance[0].tolist() == [0, 1, 1, 1, 1]
    assert found.nearest[2].tolist() == [2, 0, 1, 4, 3]
    assert rows(KNN(5, threshold=1.0)(x))[2] == [2, 0, 1, 4]


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e4])
def test_an_offset_of_the_features_changes_nothing(offset: float) -> None:
    """A large common offset must not push a vertex out of its own hyperedge."""
    x = torch.randint(-8, 8, (300, 6)).float() / 8 + offset
    table = KNN(7, "euclidean")(x)
    assert table.index[:, 0].tolist() == list(range(300))
    assert rows(table) == neighbors(x - offset, 7, "euclidean", None)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_points_are_taken_in_order(metric: str) -> None:
    """Products round differently in different columns; equal rows must tie all the same."""
    points = torch.randn(5, 37)
    x = points.repeat(41, 1)  # row v equals row v + 5
    table = KNN(8, metric)(x)
    for v, row in enumerate(rows(table)):
        assert row == [v, *[u for u in range(v % 5, 205, 5) if u != v][:7]]


def test_a_smooth_map_with_many_near_ties() -> None:
    angle = torch.linspace(0, 1, 900, dtype=F64)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    index = KNN(5)(x.float()).index
    distance = 1 - (x[:, None] * x[index]).sum(-1)
    best = (1 - x @ x.T).sort(-1).values[:, :5]
    assert_close(distance, best, rtol=0, atol=1e-6)


def test_one_hyperedge_per_vertex_even_if_members_agree() -> None:
    table = KNN(2, "euclidean")(torch.tensor([[0.0], [1.0]]))
    assert table.num_edges == 2 and table.to_dense().tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("k", [6, 60])
def test_no_tile_is_as_large_as_all_distances(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    select = cpu.select_tile

    def recorded(tile, *args):
        sizes.append(tile.numel())
        return select(tile, *args)

    monkeypatch.setattr(cpu, "select_tile", recorded)
    monkeypatch.setattr(cpu, "_TILE_ELEMENTS", 10_000)
    x = torch.randn(500, 4, dtype=F64)
    table = KNN(k)(x)
    assert len(sizes) >= 25 and max(sizes) <= 10_240
    assert rows(table) == neighbors(x, k, "cosine", None)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1e-25, 1e-21, 1e18, 1e25])
def test_the_size_of_the_features_does_not_matter(metric: str, size: float) -> None:
    """Squares of float32 features overflow from 1e19 and vanish below 1e-19."""
    x = torch.randn(40, 6, dtype=F64)
    got = KNN(5, metric)((x * size).float())
    assert got.index.tolist() == KNN(5, metric)(x).index.tolist()
    if metric != "dot":
        build = KNN(5, metric, weighting="rbf", differentiable=metric == "cosine")
        assert_close(
            build((x * size).float()).weights, build(x.float()).weights, rtol=1e-4, atol=1e-4
        )
    assert KNN(5, "euclidean", 1e30)(x.float()).shape == (40, 40)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_are_within_a_threshold_of_zero(metric: str) -> None:
    for _ in range(30):
        x = 10 * torch.randn(40, 37)
        x[5] = x[0]
        expected = [[v] for v in range(40)]
        expected[0], expected[5] = [0, 5], [5, 0]
        assert rows(KNN(3, metric, 0.0)(x)) == expected


def test_the_mean_distance_counts_a_zero_row_itself_as_zero() -> None:
    x = torch.cat([torch.zeros(1, 3), torch.randn(4, 3)])
    assert_close(knn(x, 3, with_row_mean=True).row_mean[0], torch.tensor(0.8))


# ---- weights


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rbf_weights_equal_their_formula(metric: str) -> None:
    x = torch.randn(2, 30, 5, dtype=F64)
    if metric == "cosine":
        unit = torch.nn.functional.normalize(x, dim=-1)
        distance = 1 - unit @ unit.mT
    else:
        distance = (x[:, :, None] - x[:, None]).norm(dim=-1)
    distance.diagonal(dim1=1, dim2=2).zero_()
    for bandwidth in (None, 0.7):
        table = KNN(6, metric, weighting="rbf", bandwidth=bandwidth)(x)
        scale = distance.mean(-1, keepdim=True) if bandwidth is None else bandwidth
        expected = (-((distance / scale) ** 2)).exp().gather(-1, table.index)
        assert_close(table.weights, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rbf_weights_of_equal_points_are_one(metric: str) -> None:
    for x in (torch.zeros(5, 3), torch.randn(1, 3).expand(5, 3), torch.randn(1, 3)):
        weights = KNN(4, metric, weighting="rbf")(x).weights
        assert weights is not None
        if metric == "cosine" and not x.any():  # zero vectors are at distance 1
            assert_close(weights[:, 0], torch.ones(5))
            assert (weights[:, 1:] < 0.5).all()
        else:
            assert_close(weights, torch.ones_like(weights), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("batched", [False, True])
def test_rbf_weights_pass_gradients(metric: str, batched: bool) -> None:
    x = torch.randn(*((2,) if batched else ()), 9, 3, dtype=F64, requires_grad=True)
    build = KNN(4, metric, 1.2, weighting="rbf", bandwidth=0.8, differentiable=True)

    def weights(x: Tensor) -> Tensor:
        return build(x).to_dense()

    assert_close(weights(x), KNN(4, metric, 1.2, weighting="rbf", bandwidth=0.8)(x).to_dense())
    assert torch.autograd.gradcheck(weights, (x,))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_gradients_are_finite_at_equal_and_zero_points(metric: str) -> None:
    x = torch.cat([torch.zeros(2, 3), torch.ones(3, 3)]).requires_grad_()
    table = KNN(4, metric, 1.0, weighting="rbf", differentiable=True)(x)
    assert table.weights is not None
    table.weights.square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_vertex_has_weight_one_in_its_own_hyperedge(metric: str) -> None:
    """However narrow the RBF: its distance is 0, not what rounding leaves of it."""
    x = (10 * torch.randn(50, 16)).requires_grad_()
    build = KNN(3, metric, weighting="rbf", bandwidth=1e-6, differentiable=True)
    weights = build(x).weights
    assert weights is not None and (weights[:, 0] == 1).all()


def test_differentiable_weights_in_inference_mode() -> None:
    x, build = torch.randn(9, 3), KNN(4, weighting="rbf", differentiable=True)
    with torch.inference_mode():
        weights = build(x).weights
    assert_close(weights, build(x).weights)


def test_plain_search_leaves_no_graph() -> None:
    x = torch.randn(10, 3, requires_grad=True)
    weights = KNN(4, weighting="rbf")(x).weights
    assert weights is not None and not weights.requires_grad


# ---- laws


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighting", [None, "rbf"])
def test_permutation_equivariance(metric: str, weighting: str | None) -> None:
    if metric == "dot" and weighting:
        pytest.skip("not a valid combination")
    x = torch.randn(40, 6, dtype=F64)
    order = torch.randperm(40)
    build = KNN(5, metric, 0.9, weighting)
    assert_close(build(x[order]).to_dense(), build(x).to_dense()[order][:, order])


def test_low_precision_is_searched_in_float32() -> None:
    x = torch.randn(50, 8).bfloat16()
    table = KNN(5, weighting="rbf")(x)
    assert table.weights is not None and table.weights.dtype == torch.float32
    assert table.index.tolist() == KNN(5)(x.float()).index.tolist()


def test_members_can_be_listed() -> None:
    table = KNN(3, threshold=0.4)(torch.randn(2, 8, 3))
    node, edge, value = table.members()
    flat = Hypergraph(torch.stack([node, edge]), 16, 16, None, value).to_dense()
    assert_close(flat, torch.block_diag(*table.to_dense()))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: KNN(0), ValueError, "`k` must be at least 1, got 0"),
        (lambda: KNN(2.0), TypeError, "`k` must be an int, got float"),
        (lambda: KNN(True), TypeError, "`k` must be an int"),
        (lambda: KNN(2, "manhattan"), ValueError, "`metric` must be one of 'cosine'.*'manhattan'"),
        (lambda: KNN(2, weighting="gauss"), ValueError, "`weighting` must be one of"),
        (lambda: KNN(2, "dot", weighting="rbf"), ValueError, "`weighting='rbf'` needs a distance"),
        (lambda: KNN(2, threshold=float("nan")), ValueError, "`threshold` must be a number"),
        (lambda: KNN(2, weighting="rbf", bandwidth=0.0), ValueError, "`bandwidth` must be pos"),
        (lambda: KNN(2, threshold="a"), TypeError, "`threshold` must be a number, got str"),
        (lambda: KNN(2, bandwidth=1.0), ValueError, "`bandwidth` goes with weighting='rbf'"),
        (lambda: knn(torch.ones(3, 2), 2, "l1"), ValueError, "`metric` must be one"),
        (lambda: knn(torch.ones(3, 2), 0), ValueError, "`k` must be at least 1"),
        (lambda: knn(torch.ones(3), 2), ValueError, "`x` must have shape .n"),
        (lambda: knn(torch.ones(3, 2).long(), 2), TypeError, "`x` must be a float"),
        (lambda: KNN(2, differentiable=True), ValueError, "`differentiable=True` needs"),
        (lambda: KNN(2)(torch.full((3, 2), torch.nan)), ValueError, "`x` must be finite"),
        (lambda: KNN(2)(torch.tensor([[torch.inf]])), ValueError, "`x` must be finite"),
        (lambda: KNN(2)(torch.ones(3)), ValueError, r"`x` must have shape \[N, C\] or"),
        (lambda: KNN(2)(torch.ones(1, 2, 3, 4)), ValueError, "x.flatten"),
        (lambda: KNN(2)(torch.ones(3, 2, dtype=torch.long)), TypeError, "`x` must be floating"),
        (lambda: KNN(2)([[1.0]]), TypeError, "`x` must be a torch.Tensor"),
        (
            lambda: KNN(2)(torch.ones(3, 2), torch.zeros(2, dtype=torch.long)),
            ValueError,
            r"`batch` must have shape \[3\]",
        ),
        (lambda: KNN(2)(torch.ones(3, 2), torch.zeros(3)), TypeError, "`batch` must hold integers"),
        (
            lambda: KNN(2)(torch.ones(3, 2), -torch.ones(3, dtype=torch.long)),
            ValueError,
            "`batch` must be non-negative",
        ),
        (
            lambda: KNN(2)(torch.ones(1, 3, 2), torch.zeros(3, dtype=torch.long)),
            ValueError,
            r"`batch` goes with `x` of shape \[N, C\]",
        ),
    ],
)
def test_bad_input_is_named(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
