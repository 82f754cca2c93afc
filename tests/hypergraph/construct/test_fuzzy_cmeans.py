from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import FuzzyCMeans

F64 = torch.float64


def planted(clusters: int, each: int, channels: int) -> tuple[Tensor, Tensor]:
    label = torch.arange(clusters).repeat(each)
    centers = 4 * torch.randn(clusters, channels) / channels**0.5
    return centers[label] + 0.6 * torch.randn(clusters * each, channels) / channels**0.5, label


def purity(h: Tensor, label: Tensor) -> float:
    counts = torch.zeros(h.shape[1], int(label.max()) + 1)
    counts.index_put_((h.argmax(1), label), torch.ones(label.shape[0]), accumulate=True)
    return float(counts.amax(1).sum() / label.shape[0])


def test_memberships_sum_to_one() -> None:
    soft = FuzzyCMeans(5, threshold=0.0, weighting="membership")(torch.randn(3, 40, 4))
    assert_close(soft.node_degree(), torch.ones(3, 40))


def test_the_first_steps_by_hand() -> None:
    """From centres 0 and 4 with a point at 1: memberships 9/10 and 1/10, then the means."""
    x = torch.tensor([[0.0], [1.0], [4.0]], dtype=F64)
    build = FuzzyCMeans(2, 2.0, 0.0, "membership", max_iterations=1, start="farthest")
    first, second = torch.tensor([0.0, 0.1, 1.0]), torch.tensor([1.0, 0.9, 0.0])  # 4 comes first
    centers = [((u**2)[:, None] * x).sum() / (u**2).sum() for u in (first, second)]
    distance = torch.stack([(x.flatten() - c) ** 2 for c in centers], 1)
    expected = 1 / distance / (1 / distance).sum(1, keepdim=True)
    assert_close(build(x).to_dense(), expected)


@pytest.mark.parametrize("start", ["k-means++", "farthest"])
def test_clusters_are_found_where_random_memberships_find_none(start: str) -> None:
    """Why centres start among the points: 25 clusters in 64 dimensions."""
    x, label = planted(25, 20, 64)
    ours = FuzzyCMeans(25, threshold=0.0, weighting="membership", start=start)(x).to_dense()
    assert purity(ours, label) > 0.9
    theirs = torch.rand(500, 25)
    theirs /= theirs.sum(1, keepdim=True)
    for _ in range(15):
        centers = (theirs**2).T @ x / (theirs**2).sum(0)[:, None]
        theirs = 1 / torch.cdist(x, centers) ** 2
        theirs /= theirs.sum(1, keepdim=True)
    assert (theirs > 0.01).all() and theirs.max() < 0.05  # every vertex is in every hyperedge
    assert purity(theirs, label) < 0.3


def test_hyperedge_means_are_those_of_their_members() -> None:
    """The released code pads lists of members with -1 and then reads row -1, the last vertex."""
    x, _ = planted(4, 10, 8)
    x[-1] = 1000.0  # far from every other vertex
    h = FuzzyCMeans(5, threshold=0.3, start="farthest")(x)
    lists = [column.nonzero().flatten() for column in h.to_dense().T]
    means = h.v2e(x, reduce="mean")
    padded = torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=-1)
    for members, mean, row in zip(lists, means, padded, strict=True):
        assert_close(mean, x[members].mean(0))
        if 39 not in members and (row == -1).any():
            assert (x[row].mean(0) - mean).abs().max() > 10  # what reading row -1 would give


def test_a_vertex_above_the_threshold_nowhere_joins_its_best_cluster() -> None:
    x = torch.tensor([[0.0], [1.0], [4.0], [5.0], [2.5]], dtype=F64)
    soft = FuzzyCMeans(2, threshold=0.0, weighting="membership", start="farthest")(x).to_dense()
    h = FuzzyCMeans(2, threshold=0.7, start="farthest")(x).to_dense()
    assert soft[4].max() < 0.7 and h[4].tolist() == [1, 0]  # a tie: the first cluster
    assert h[:4].tolist() == (soft[:4] > 0.7).to(F64).tolist()
    part = FuzzyCMeans(2, threshold=0.7, weighting="membership", start="farthest")(x).to_dense()
    assert_close(part[4], torch.stack([soft[4, 0], soft[4, 0] * 0]))


def test_an_undecided_vertex_changes_nothing_for_others() -> None:
    """The released code raises the threshold for the whole batch because of a single one."""
    x, _ = planted(12, 4, 5)
    alone = FuzzyCMeans(12)(x).to_dense()
    undecided = torch.zeros_like(x)
    undecided[:12, :] = torch.eye(12, 5) * 7 + torch.arange(12.0)[:, None]
    together = FuzzyCMeans(12)(torch.stack([x, undecided])).to_dense()
    assert torch.equal(together[0], alone)


def test_every_sample_stops_for_itself() -> None:
    slow, quick = torch.randn(30, 2, dtype=F64), torch.zeros(30, 2, dtype=F64)
    build = FuzzyCMeans(3, threshold=0.0, weighting="membership", tolerance=0.05)
    both = build(torch.stack([quick, slow])).to_dense()
    assert torch.equal(both[1], build(slow).to_dense())
    assert torch.equal(both[0], build(quick).to_dense())
    exact = FuzzyCMeans(3, threshold=0.0, weighting="membership", tolerance=0.0)
    assert not torch.equal(exact(slow).to_dense(), build(slow).to_dense())


def test_fuzziness_near_one_is_hard() -> None:
    x, label = planted(4, 10, 8)
    soft = FuzzyCMeans(4, 1.05, 0.0, "membership", start="farthest")(x).to_dense()
    assert ((soft > 0.99) | (soft < 0.01)).all() and purity(soft, label) == 1


@pytest.mark.parametrize("start", ["k-means++", "farthest"])
def test_degenerate_sets(start: str) -> None:
    build = FuzzyCMeans(3, start=start)
    assert build(torch.ones(4, 2)).to_dense().tolist() == [[1, 0, 0]] * 4
    assert build(torch.ones(1, 2)).to_dense().tolist() == [[1, 0, 0]]
    assert build(torch.ones(0, 2)).shape == (0, 3)
    assert build(torch.ones(2, 0, 2)).shape == (2, 0, 3)
    assert build(torch.ones(0, 4, 2)).shape == (0, 4, 3)
    assert build(torch.ones(4, 0)).to_dense().tolist() == [[1, 0, 0]] * 4
    two = build(torch.tensor([[0.0], [1.0], [1.0]])).to_dense()
    assert two[:, 2].sum() == 0 and two.sum() == 3  # two distinct points, two clusters


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_neither_offset_nor_size_matter(offset: float, size: float) -> None:
    x = torch.randint(-8, 9, (40, 4)).to(F64) / 8
    build = FuzzyCMeans(4, threshold=0.0, weighting="membership", start="farthest")
    assert_close(build((x + offset) * size).to_dense(), build(x).to_dense(), rtol=1e-6, atol=1e-6)


def test_gradients_pass_through_all_iterations() -> None:
    x = torch.randn(2, 7, 2, dtype=F64, requires_grad=True)
    build = FuzzyCMeans(
        3, threshold=0.0, weighting="membership", differentiable=True, max_iterations=4
    )
    assert torch.autograd.gradcheck(lambda x: build(x).to_dense(), (x,))
    plain = FuzzyCMeans(3, threshold=0.0, weighting="membership", max_iterations=4)
    assert not plain(x).matrix.requires_grad
    assert_close(plain(x).to_dense(), build(x).to_dense())


def test_gradients_are_finite_at_equal_points() -> None:
    x = torch.cat([torch.zeros(3, 2), torch.ones(3, 2)]).requires_grad_()
    for clusters in (1, 2, 4):
        build = FuzzyCMeans(clusters, weighting="membership", differentiable=True)
        build(x).to_dense().square().sum().backward()
        assert x.grad.isfinite().all()


def test_repr() -> None:
    assert repr(FuzzyCMeans(3)) == (
        "FuzzyCMeans(num_clusters=3, fuzziness=2.0, threshold=0.01, max_iterations=15, "
        "start='k-means++', seed=0)"
    )
    soft = FuzzyCMeans(3, weighting="membership", straight_through=True)
    assert repr(soft).endswith("weighting='membership', straight_through=True)")
    soft = FuzzyCMeans(3, weighting="membership", differentiable=True)
    assert repr(soft).endswith("weighting='membership', differentiable=True)")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: FuzzyCMeans(0), ValueError, "`num_clusters` must be at least 1"),
        (lambda: FuzzyCMeans(2, fuzziness=1.0), ValueError, "`fuzziness` must be above 1"),
        (lambda: FuzzyCMeans(2, fuzziness="2"), TypeError, "`fuzziness` must be a number"),
        (lambda: FuzzyCMeans(2, threshold=1.0), ValueError, "`threshold` must be below 1"),
        (lambda: FuzzyCMeans(2, threshold=-0.1), ValueError, "`threshold` must be non-negative"),
        (lambda: FuzzyCMeans(2, weighting="rbf"), ValueError, "`weighting` must be one of"),
        (lambda: FuzzyCMeans(2, max_iterations=0), ValueError, "`max_iterations` must be at"),
        (lambda: FuzzyCMeans(2, tolerance=-1.0), ValueError, "`tolerance` must be non-negative"),
        (lambda: FuzzyCMeans(2, start="random"), ValueError, "`start` must be one of"),
        (lambda: FuzzyCMeans(2, seed="0"), TypeError, "`seed` must be an int"),
        (lambda: FuzzyCMeans(2, differentiable=True), ValueError, "`differentiable=True` needs"),
        (lambda: FuzzyCMeans(2, straight_through=True), ValueError, "`straight_through=True` ne"),
        (lambda: FuzzyCMeans(2)(torch.full((3, 2), torch.inf)), ValueError, "`x` must be finite"),
    ],
)
def test_bad_input_is_named(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
