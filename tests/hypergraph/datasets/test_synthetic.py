"""Planted labels: that they are right, and that the knobs do what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hypergraph._draws import as_generator
from hypergraph.datasets.synthetic import (
    WIRINGS,
    majority_label,
    planted_partition,
    wiring_families,
)
from hypergraph.incidence import Hypergraph


def purity(h: Hypergraph, label: Tensor) -> float:
    """Mean share of the most frequent class among a hyperedge's members."""
    votes = h.v2e(torch.nn.functional.one_hot(label).float())
    return float((votes.max(1).values / votes.sum(1)).mean())


def test_planted_partition_has_the_sizes_classes_and_isolated_vertices() -> None:
    data = planted_partition(403, 4, 500, (2, 6), 0.8, isolated=0.25, seed=3)
    sizes = data.hypergraph.edge_degree()
    assert set(sizes.tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0}
    assert data.hypergraph.to_dense().max() == 1
    counts = torch.bincount(data.y, minlength=4)
    assert counts.max() - counts.min() <= 1
    assert int((data.hypergraph.node_degree() == 0).sum()) >= round(0.25 * 403)
    (split,) = data.splits
    every = torch.cat([split.train, split.valid, split.test])
    assert torch.equal(every.sort().values, torch.arange(403))
    given = torch.arange(500) % 7
    exact = planted_partition(403, 4, 500, given, seed=3).hypergraph.edge_degree()
    assert torch.equal(exact.long(), given)


def test_homophily_is_the_probability_of_the_home_class() -> None:
    """With pairs of vertices, P(same class) = h^2 + (1 - h^2) / classes, up to 1 / N."""
    for homophily in (0.0, 0.5, 0.9, 1.0):
        data = planted_partition(2000, 4, 20_000, 2, homophily, seed=1)
        node = data.hypergraph.hyperedge_index[0]
        edge = data.hypergraph.hyperedge_index[1]
        first, second = data.y[node[edge.argsort(stable=True)]].view(-1, 2).T
        share = float((first == second).float().mean())
        expected = homophily**2 + (1 - homophily**2) / 4
        assert abs(share - expected) < 5 * math.sqrt(0.25 / 20_000) + 1 / 500, homophily
    assert purity(data.hypergraph, data.y) == 1.0


def test_no_hyperedge_of_a_full_class_is_impossible() -> None:
    """size = class size and homophily 1 leave one choice per class, found all the same."""
    data = planted_partition(12, 3, 9, 4, 1.0, num_features=3, seed=0)
    assert purity(data.hypergraph, data.y) == 1.0
    assert data.hypergraph.to_dense().max() == 1


def test_noise_and_features() -> None:
    data = planted_partition(noise=0.0, num_features=7)
    assert data.x is not None
    expected = torch.nn.functional.one_hot(data.y, 7).float()
    assert torch.equal(data.x, expected)


def test_majority_labels_are_majorities_without_ties() -> None:
    data = majority_label(60, 3, 300, (2, 7), 0.2, seed=4)
    votes = [[0, 0, 0] for _ in range(300)]
    for node, edge in data.hypergraph.hyperedge_index.T.tolist():
        votes[edge][int(data.node_label[node])] += 1
    for vote, label in zip(votes, data.y.tolist(), strict=True):
        assert vote.count(max(vote)) == 1
        assert vote.index(max(vote)) == label
    assert set(data.y.tolist()) == {0, 1, 2}
    assert torch.cat([data.splits[0].train, data.splits[0].test]).max() < 300


@pytest.mark.parametrize("size", [2.5, (2, 3.5), (1, 2, 3), True, "23"])
def test_a_size_that_is_no_size_is_named(size: Any) -> None:
    with pytest.raises(TypeError, match="`size` must be an int, a pair"):
        planted_partition(size=size)


def test_majority_without_any_majority_is_refused() -> None:
    with pytest.raises(ValueError, match="`size`"):
        majority_label(200, 200, 50, 1 + torch.arange(50) * 0 + 1, homophily=0.0, num_features=200)


def test_wirings_share_degrees_and_sizes_and_differ_in_who_meets_whom() -> None:
    data = wiring_families(160, seed=0)
    assert data.label_names == WIRINGS and len(data) == 160
    meets: dict[int, list[float]] = {label: [] for label in range(4)}
    large: dict[int, list[float]] = {label: [] for label in range(4)}
    degrees: dict[int, list[Tensor]] = {label: [] for label in range(4)}
    for h, label in zip(data.hypergraphs, data.y.tolist(), strict=True):
        assert h.to_dense().max() == 1
        degree, size = h.node_degree(), h.edge_degree()
        assert int(degree.min()) >= 1 and int(degree.max()) <= 6
        assert int((degree >= 4).sum()) == h.num_nodes // 3
        busy = (degree >= 4).float()
        share = h.v2e(busy[:, None]).squeeze(1) / size
        meets[label].append(float((2 * share - 1).square().mean()))
        large[label].append(float(share[size >= 4].mean() - share[size <= 3].mean()))
        degrees[label].append(torch.stack([degree.mean(), size.mean(), size.var()]))
    mean = {k: sum(v) / len(v) for k, v in meets.items()}
    slope = {k: sum(v) / len(v) for k, v in large.items()}
    assert mean[1] > mean[0] + 0.2, "assortative hyperedges are of one kind"
    assert mean[2] < mean[0] - 0.1, "balanced ones are mixed"
    assert slope[3] > 0.6 and max(abs(slope[k]) for k in range(3)) < 0.2
    overall = torch.stack([torch.stack(v).mean(0) for v in degrees.values()])
    spread = torch.stack([torch.stack(v).std(0) for v in degrees.values()]).mean(0)
    assert ((overall - overall.mean(0)).abs() < 5 * spread / math.sqrt(40)).all()


def test_wirings_without_strength_are_random() -> None:
    data = wiring_families(40, wirings=("by-size", "assortative"), strength=0.0, seed=2)
    shares = []
    for h in data.hypergraphs:
        busy, size = (h.node_degree() >= 4).float(), h.edge_degree()
        share = h.v2e(busy[:, None]).squeeze(1) / size
        shares.append(float(share[size >= 4].mean() - share[size <= 3].mean()))
    assert abs(sum(shares) / len(shares)) < 0.1


def test_seeds() -> None:
    for make in (planted_partition, majority_label):
        a, b, c = make(seed=1), make(seed=1), make(seed=2)
        assert torch.equal(a.hypergraph.hyperedge_index, b.hypergraph.hyperedge_index)
        assert torch.equal(a.x, b.x) and torch.equal(a.splits[0].test, b.splits[0].test)
        assert not torch.equal(a.y, c.y)
    one, two = wiring_families(4, seed=5), wiring_families(4, seed=as_generator("seed", 5))
    for a, b in zip(one.hypergraphs, two.hypergraphs, strict=True):
        assert torch.equal(a.hyperedge_index, b.hyperedge_index)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: planted_partition(homophily=1.1), "`homophily`"),
        (lambda: planted_partition(homophily=-0.1), "`homophily`"),
        (lambda: planted_partition(isolated=2.0), "`isolated`"),
        (lambda: planted_partition(num_classes=0), "`num_classes`"),
        (lambda: planted_partition(3, 4), "`num_classes`"),
        (lambda: planted_partition(40, 4, 5, 11), "`size`"),
        (lambda: planted_partition(40, 4, 5, (3, 2)), "`size`"),
        (lambda: planted_partition(40, 4, 5, torch.ones(4, dtype=torch.long)), "`size`"),
        (lambda: planted_partition(num_features=3), "`channels`"),
        (lambda: wiring_families(4, wirings=("ring",)), "`wirings`"),
        (lambda: wiring_families(4, wirings=()), "`wirings`"),
        (lambda: wiring_families(4, num_nodes=(5, 9)), "`num_nodes`"),
        (lambda: wiring_families(4, strength=1.5), "`strength`"),
        (lambda: wiring_families(0), "`num_hypergraphs`"),
    ],
)
def test_bad_arguments_are_named(call: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()  # type: ignore[operator]
