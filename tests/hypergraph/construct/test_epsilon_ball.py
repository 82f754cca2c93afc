from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hypergraph import KNN, EpsilonBall

F64 = torch.float64


@pytest.mark.parametrize("size", [31, 32, 33, 128, 129, 300])
def test_balls_wider_than_the_first_search(size: int) -> None:
    """One ball holds everything, others hold next to nothing."""
    x = torch.cat([torch.linspace(0, 1, size, dtype=F64), 100 + 10 * torch.arange(5.0).to(F64)])
    table = EpsilonBall(1.0)(x[:, None])
    distance = (x[:, None] - x).abs()
    assert torch.equal(table.to_dense().bool(), distance <= 1)
    assert table.index.shape == (size + 5, size)


def test_members_are_the_nearest_first() -> None:
    x = torch.tensor([[0.0], [0.3], [-0.2], [0.2], [9.0]])
    table = EpsilonBall(0.25)(x)
    assert table.index.tolist() == [[0, 2, 3], [1, 3, 1], [2, 0, 2], [3, 1, 0], [4, 4, 4]]
    assert table.mask.tolist()[1] == [True, True, False]


def test_a_cap_keeps_the_nearest() -> None:
    x = torch.randn(60, 3, dtype=F64)
    capped, near = EpsilonBall(1.5, max_members=4)(x), KNN(4, "euclidean", 1.5)(x)
    assert torch.equal(capped.to_dense(), near.to_dense())


def test_samples_share_one_width() -> None:
    close, far = torch.zeros(6, 2), torch.arange(12.0).view(6, 2)
    table = EpsilonBall(0.5)(torch.stack([close, far]))
    assert table.index.shape == (2, 6, 6)
    assert table.to_dense()[1].tolist() == torch.eye(6).tolist()
    flat = EpsilonBall(0.5)(torch.cat([far, close[:3]]), torch.tensor([0] * 6 + [1] * 3))
    expected = torch.block_diag(torch.eye(6), torch.ones(3, 3))
    assert torch.equal(flat.to_dense(), expected)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e4])
def test_an_offset_of_the_features_changes_nothing(offset: float) -> None:
    x = torch.randint(-8, 8, (200, 6)).float() / 8
    expected = EpsilonBall(1.1)(x.to(F64)).to_dense()
    assert torch.equal(EpsilonBall(1.1)(x + offset).to_dense(), expected.float())


def test_a_radius_of_zero_holds_equal_points() -> None:
    x = torch.randn(5, 37).repeat(3, 1)
    for metric in ("cosine", "euclidean"):
        assert torch.equal(EpsilonBall(0.0, metric)(x).to_dense(), torch.eye(5).repeat(3, 3))


def test_default_bandwidth_is_the_mean_distance() -> None:
    x = torch.randn(2, 20, 3, dtype=F64)
    distance = torch.cdist(x, x)
    expected = (-((distance / distance.mean(-1, keepdim=True)) ** 2)).exp() * (distance <= 1.2)
    assert_close(EpsilonBall(1.2, weighting="rbf")(x).to_dense().mT, expected)


def test_repr() -> None:
    assert repr(EpsilonBall(0.5)) == "EpsilonBall(radius=0.5, metric='euclidean')"
    ball = EpsilonBall(0.5, max_members=3, weighting="rbf", bandwidth=2.0, straight_through=True)
    assert repr(ball) == (
        "EpsilonBall(radius=0.5, metric='euclidean', max_members=3, weighting='rbf', "
        "bandwidth=2.0, straight_through=True)"
    )
    assert repr(KNN([2, 3], differentiable=True, weighting="rbf")) == (
        "KNN(k=(2, 3), metric='cosine', weighting='rbf', differentiable=True)"
    )


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: EpsilonBall(-0.1), ValueError, "`radius` must be at least 0"),
        (lambda: EpsilonBall(float("nan")), ValueError, "`radius` must be a number"),
        (lambda: EpsilonBall("1"), TypeError, "`radius` must be a number, got str"),
        (lambda: EpsilonBall(True), TypeError, "`radius` must be a number, got bool"),
        (lambda: EpsilonBall(None), TypeError, "`radius` must be a number, got None"),
        (lambda: EpsilonBall(1.0, "l1"), ValueError, "`metric` must be one of"),
        (lambda: EpsilonBall(1.0, max_members=0), ValueError, "`max_members` must be at least 1"),
        (lambda: EpsilonBall(1.0, bandwidth=1.0), ValueError, "`bandwidth` goes with"),
        (lambda: EpsilonBall(1.0, "dot", weighting="rbf"), ValueError, "`weighting='rbf'` needs"),
        (lambda: EpsilonBall(1.0, straight_through=True), ValueError, "`straight_through=True` n"),
        (lambda: EpsilonBall(1.0, differentiable=True), ValueError, "`differentiable=True` needs"),
        (lambda: KNN([]), ValueError, "`k` must be an int or a list"),
        (lambda: KNN([2, 0]), ValueError, "`k` must be at least 1, got 0"),
        (lambda: KNN([2, 1.5]), TypeError, "`k` must be an int, got float"),
        (lambda: KNN("3"), TypeError, "`k` must be an int, got str"),
    ],
)
def test_bad_input_is_named(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


# ---- several scales of neighbours


def test_scales_stand_side_by_side() -> None:
    x = torch.randn(2, 15, 3, dtype=F64)
    table = KNN([2, 5, 3], "euclidean", 1.4, "rbf")(x)
    parts = [KNN(k, "euclidean", 1.4, "rbf")(x).to_dense() for k in (2, 5, 3)]
    assert table.shape == (2, 15, 45)
    assert_close(table.to_dense(), torch.cat(parts, -1))


def test_scales_of_a_batch_vector() -> None:
    x, batch = torch.randn(9, 3, dtype=F64), torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 1])
    table = KNN([1, 4], "euclidean")(x, batch)
    parts = [KNN(k, "euclidean")(x, batch).to_dense() for k in (1, 4)]
    assert_close(table.to_dense(), torch.cat(parts, -1))


def test_scales_beyond_the_points() -> None:
    x = torch.randn(3, 2)
    assert KNN([2, 9])(x).edge_degree().tolist() == [2, 2, 2, 3, 3, 3]
    assert KNN([2, 9])(x[:0]).shape == (0, 0)
    assert KNN([2, 9])(x[:1]).to_dense().tolist() == [[1, 1]]
