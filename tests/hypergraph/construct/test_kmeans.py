from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hypergraph import KMeans
from tests.hypergraph.construct.points import lloyd

F64 = torch.float64
RULES = ["k-means++", "farthest"]


def planted(clusters: int, each: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.arange(clusters).repeat(each)
    centers = torch.eye(clusters, channels) * 10
    return centers[label] + 0.3 * torch.randn(clusters * each, channels), label


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_planted_clusters_are_found(offset: float) -> None:
    x, label = planted(6, 15, 8)
    h = KMeans(6, start="farthest")(x + offset).to_dense()
    same = label[:, None] == label
    assert torch.equal((h @ h.T).bool(), same)


def test_members_are_in_order_and_each_vertex_joins_once() -> None:
    table = KMeans(5)(torch.randn(3, 40, 4))
    assert table.mask is not None and table.shape == (3, 40, 5)
    for sample, mask in zip(table.index, table.mask, strict=True):
        rows = [row[kept].tolist() for row, kept in zip(sample, mask, strict=True)]
        assert all(row == sorted(row) for row in rows)
        assert sorted(v for row in rows for v in row) == list(range(40))


def test_nearest_two() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0], [6.0]])
    h = KMeans(3, nearest=2, start="farthest")(x).to_dense()
    # From 0 (the farthest from the mean), 11 and 6: centres 0.5, 10.5 and 6.
    assert h.tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1]]
    assert KMeans(3, nearest=9)(x).to_dense().tolist() == [[1, 1, 1]] * 5


def test_a_cluster_that_loses_its_members_keeps_its_center() -> None:
    x = torch.tensor(
        [[0, -2], [1, -2], [-4, 4], [-2, -2], [-4, -4], [-1, 3]]
        + [[2, 1], [-4, 2], [-4, 4], [-4, -3], [-1, 2], [3, 3]],
        dtype=F64,
    )
    build = KMeans(4)
    build._draws = (0.724, 0.6442, 0.1046, 0.5547)
    _, used, last = lloyd(x[None], list(build._draws), "k-means++", 30)
    assert used.all() and (last.sum(1) == 0).any()  # it does happen
    h = build(x)
    assert torch.equal(h.to_dense(), last[0].float())
    assert h.edge_degree().min() == 0
    soft = KMeans(4, weighting="rbf", differentiable=True)
    soft._draws = build._draws
    x.requires_grad_()
    soft(x).weights.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("rule", RULES)
def test_fewer_distinct_points_than_clusters(rule: str) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).repeat(4, 1)
    h = KMeans(5, nearest=3, start=rule)(x)
    assert h.shape == (8, 5)
    assert h.edge_degree().tolist() == [8, 8, 0, 0, 0]  # two clusters are all there is to join
    equal = KMeans(3, start=rule)(torch.ones(4, 2)).to_dense()
    assert equal.tolist() == [[1, 0, 0]] * 4
    assert KMeans(3, start=rule)(torch.ones(1, 2)).to_dense().tolist() == [[1, 0, 0]]
    assert KMeans(3, start=rule)(torch.ones(0, 2)).shape == (0, 3)
    assert KMeans(3, start=rule)(torch.ones(2, 0, 2)).shape == (2, 0, 3)
    assert KMeans(3, start=rule)(torch.ones(0, 4, 2)).shape == (0, 4, 3)
    assert KMeans(3, start=rule)(torch.ones(4, 0)).to_dense().tolist() == [[1, 0, 0]] * 4


@pytest.mark.parametrize("rule", RULES)
def test_equal_points_are_one_however_they_round(rule: str) -> None:
    x = torch.randn(5, 37)[torch.arange(40) % 5]
    for offset in (0, 1000):
        degree = KMeans(9, start=rule)(x + offset).edge_degree()
        assert degree.tolist() == [8, 8, 8, 8, 8, 0, 0, 0, 0]


def test_no_point_is_drawn_twice() -> None:
    build = KMeans(3)
    build._draws = (0.0, 0.0, 0.0)  # the very beginning of every point's share
    assert build(torch.tensor([[0.0], [1.0], [5.0]])).to_dense().tolist() == torch.eye(3).tolist()


def test_weights_with_gradients_are_the_same_before_anything_has_settled() -> None:
    x = torch.randn(200, 3, dtype=F64)
    for steps in (1, 2):
        settings = {"max_iterations": steps, "weighting": "rbf"}
        moving = KMeans(6, **settings, differentiable=True)(x).to_dense()
        assert_close(moving, KMeans(6, **settings)(x).to_dense())
        assert not torch.equal(moving, KMeans(6, weighting="rbf")(x).to_dense())


def test_the_same_seed_gives_the_same_clusters() -> None:
    x = torch.randn(60, 3)
    torch.manual_seed(1)
    first = KMeans(7, seed=3)
    torch.manual_seed(2)
    second, other = KMeans(7, seed=3), KMeans(7, seed=4)
    before = torch.get_rng_state()
    assert torch.equal(first(x).to_dense(), second(x).to_dense())
    assert torch.equal(first(x).to_dense(), first(x).to_dense())
    assert not torch.equal(first(x).to_dense(), other(x).to_dense())
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's numbers are used up


def test_more_iterations_never_worsen_the_clusters() -> None:
    x = torch.randn(20, 50, 3, dtype=F64)

    def spread(steps: int) -> torch.Tensor:
        h = KMeans(6, max_iterations=steps)(x)
        means = h.v2e(x, reduce="mean")
        return (h.e2v(means) - x).square().sum((1, 2))

    values = torch.stack([spread(steps) for steps in (1, 2, 4, 8, 30)])
    assert (values.diff(dim=0) <= 1e-9).all() and (values[-1] < values[0]).any()


def test_plus_plus_draws_in_proportion_to_squared_distances() -> None:
    """Points at 0, 1 and 2.9: after 0, the second centre is at 2.9 in 0.894 of all cases."""
    x = torch.tensor([[0.0], [1.0], [2.9]], dtype=F64)
    count, second = 0, 0
    for seed in range(400):
        build = KMeans(2, max_iterations=1, seed=seed)
        if build._draws[0] < 1 / 3:
            count += 1
            second += build(x).to_dense().tolist() == [[1, 0], [1, 0], [0, 1]]
    assert count > 100 and 0.83 < second / count < 0.96


@pytest.mark.parametrize("size", [1e-25, 1e-18, 1e18, 1e25])
@pytest.mark.parametrize("rule", RULES)
def test_the_size_of_the_features_does_not_matter(size: float, rule: str) -> None:
    x, _ = planted(4, 10, 6)
    for weighting in (None, "rbf"):
        build = KMeans(4, start=rule, weighting=weighting)
        assert_close(build((x.to(F64) * size).float()).to_dense(), build(x).to_dense())


def test_soft_weights() -> None:
    x = torch.randn(2, 30, 4, dtype=F64)
    h = KMeans(5, nearest=2)(x).to_dense()
    soft = KMeans(5, nearest=2, weighting="rbf")(x).to_dense()
    members = KMeans(5)(x).to_dense().to(F64)
    centers = members.mT @ x / members.sum(1)[..., None]  # converged: means of the members
    distance = torch.cdist(x, centers)
    expected = (-((distance / distance.mean(1, keepdim=True)) ** 2)).exp() * h
    assert_close(soft, expected)


def test_centers_take_part_in_gradients() -> None:
    """Moving one vertex moves the centre that the others are weighed by."""
    x = torch.tensor([[0.0], [1.0], [10.0]], dtype=F64, requires_grad=True)
    h = KMeans(2, start="farthest", weighting="rbf", bandwidth=2.0, differentiable=True)(x)
    (grad,) = torch.autograd.grad(h.to_dense()[0].sum(), x)
    # Centre (x0 + x1) / 2: the weight is exp(-((x0 - x1) / 4)^2).
    slope = 2 / 16 * torch.exp(torch.tensor(-1 / 16, dtype=F64))
    assert_close(grad.flatten(), torch.stack([slope, -slope, slope * 0]))


def test_low_precision_is_searched_in_float32() -> None:
    x = torch.randn(50, 8).bfloat16()
    table = KMeans(5, weighting="rbf")(x)
    assert table.weights.dtype == torch.float32
    assert torch.equal(table.to_dense(), KMeans(5, weighting="rbf")(x.float()).to_dense())


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 200, 3)
    expected = KMeans(9)(x).to_dense()
    monkeypatch.setattr("hypergraph.construct._clusters._TILE_ELEMENTS", 500)
    assert torch.equal(KMeans(9)(x).to_dense(), expected)


def test_repr() -> None:
    assert repr(KMeans(3)) == (
        "KMeans(num_clusters=3, nearest=1, max_iterations=30, start='k-means++', seed=0)"
    )
    assert "weighting='rbf', bandwidth=1.0, straight_through=True" in repr(
        KMeans(3, weighting="rbf", bandwidth=1.0, straight_through=True)
    )
    assert "differentiable=True" in repr(KMeans(3, weighting="rbf", differentiable=True))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: KMeans(0), ValueError, "`num_clusters` must be at least 1"),
        (lambda: KMeans(2.0), TypeError, "`num_clusters` must be an int"),
        (lambda: KMeans(2, nearest=0), ValueError, "`nearest` must be at least 1"),
        (lambda: KMeans(2, max_iterations=0), ValueError, "`max_iterations` must be at least 1"),
        (lambda: KMeans(2, start="random"), ValueError, "`start` must be one of 'k-means"),
        (lambda: KMeans(2, seed=1.5), TypeError, "`seed` must be an int, got float"),
        (lambda: KMeans(2, seed=True), TypeError, "`seed` must be an int, got bool"),
        (lambda: KMeans(2, weighting="membership"), ValueError, "`weighting` must be one of"),
        (lambda: KMeans(2, bandwidth=1.0), ValueError, "`bandwidth` goes with"),
        (lambda: KMeans(2, weighting="rbf", bandwidth=-1), ValueError, "`bandwidth` must be pos"),
        (lambda: KMeans(2, differentiable=True), ValueError, "`differentiable=True` needs"),
        (lambda: KMeans(2, straight_through=True), ValueError, "`straight_through=True` needs"),
        (lambda: KMeans(2)(torch.full((3, 2), torch.nan)), ValueError, "`x` must be finite"),
        (lambda: KMeans(2)(torch.ones(3)), ValueError, r"`x` must have shape \[N, C\] or"),
    ],
)
def test_bad_input_is_named(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
