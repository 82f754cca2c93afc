"""Random hypergraphs: what they promise exactly, and their distributions by counting."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hypergraph._draws import as_generator, distinct_integers, repeated_in_row
from hypergraph.generators import configuration_model, uniform_hypergraph
from hypergraph.incidence import Hypergraph


def edge_sets(h: Hypergraph) -> list[tuple[int, ...]]:
    rows: list[list[int]] = [[] for _ in range(h.num_edges)]
    for node, edge in h.hyperedge_index.T.tolist():
        rows[edge].append(node)
    return [tuple(sorted(row)) for row in rows]


def assert_uniform(counts: Counter[object], cells: int, draws: int) -> None:
    """Chi-squared below its mean plus five standard deviations."""
    expected = draws / cells
    chi = sum((count - expected) ** 2 for count in counts.values()) / expected
    chi += (cells - len(counts)) * expected
    assert chi <= cells - 1 + 5 * math.sqrt(2 * (cells - 1)), chi


@pytest.mark.parametrize("bound", [3, 5, 11, 12, 40])  # dense and sparse branches meet at 4 k
def test_distinct_integers_are_uniform_subsets_in_uniform_order(bound: int) -> None:
    rows = 24_000
    drawn = distinct_integers(torch.full((rows,), bound), 3, as_generator("seed", 1))
    assert not repeated_in_row(drawn).any()
    assert_uniform(Counter(drawn[:, 0].tolist()), bound, rows)
    assert_uniform(Counter(drawn[:, 2].tolist()), bound, rows)
    if bound <= 12:
        orders = Counter(map(tuple, drawn.tolist()))
        assert_uniform(orders, math.perm(bound, 3), rows)


def test_distinct_integers_keep_to_every_rows_bound() -> None:
    bounds = torch.tensor([4, 100, 4, 17, 5]).repeat(200)
    drawn = distinct_integers(bounds, 4, None)
    assert (drawn >= 0).all() and (drawn < bounds[:, None]).all()
    assert not repeated_in_row(drawn).any()
    assert (drawn[bounds == 4].sort(1).values == torch.arange(4)).all()


def test_repeated_in_row_marks_all_but_the_first() -> None:
    values = torch.tensor([[3, 1, 3, 3, 1], [5, 4, 3, 2, 1]])
    assert repeated_in_row(values).tolist() == [
        [False, False, True, True, True],
        [False] * 5,
    ]


@pytest.mark.parametrize(("n", "k", "m"), [(5, 2, 3), (5, 2, 8), (5, 4, 2), (4, 4, 1), (9, 2, 5)])
def test_every_uniform_hypergraph_is_equally_likely(n: int, k: int, m: int) -> None:
    generator = as_generator("seed", 3)
    subsets = list(combinations(range(n), k))
    draws, seen, first = 1500, Counter(), Counter()
    for _ in range(draws):
        edges = edge_sets(uniform_hypergraph(n, k, num_edges=m, seed=generator))
        assert len(set(edges)) == m and all(len(set(edge)) == k for edge in edges)
        seen.update(edges)
        first[edges[0]] += 1
    # Each subset is in m / C(n, k) of them, and in any column equally often.
    assert_uniform(first, len(subsets), draws)
    for subset in subsets:
        share = m / len(subsets)
        deviation = math.sqrt(draws * share * (1 - share)) if share < 1 else 0.0
        assert abs(seen[subset] - draws * share) <= 5 * deviation


def test_gnp_counts_are_binomial_and_edges_independent() -> None:
    generator = as_generator("seed", 5)
    n, k, p, draws = 6, 3, 0.3, 2000
    counts, both = [], 0
    for _ in range(draws):
        edges = edge_sets(uniform_hypergraph(n, k, probability=p, seed=generator))
        counts.append(float(len(edges)))
        both += (0, 1, 2) in edges and (3, 4, 5) in edges
    mean, variance = 20 * p, 20 * p * (1 - p)
    drawn = torch.tensor(counts)
    assert abs(float(drawn.mean()) - mean) < 5 * math.sqrt(variance / draws)
    assert abs(float(drawn.var()) - variance) < 0.15 * variance
    assert abs(both / draws - p * p) < 5 * math.sqrt(p * p / draws)


def test_gnp_ends_of_the_range() -> None:
    assert uniform_hypergraph(7, 3, probability=0.0).num_edges == 0
    whole = uniform_hypergraph(7, 3, probability=1.0)
    assert set(edge_sets(whole)) == set(combinations(range(7), 3))
    assert uniform_hypergraph(50, 25, probability=0.0).num_edges == 0


@pytest.mark.parametrize(("n", "k"), [(2000, 2), (2000, 3), (2000, 10), (5000, 40), (2000, 1999)])
def test_no_overflow_with_thousands_of_vertices(n: int, k: int) -> None:
    wanted = 300
    h = uniform_hypergraph(n, k, num_edges=wanted, seed=0)
    edges = edge_sets(h)
    assert len(set(edges)) == wanted and all(len(set(edge)) == k for edge in edges)
    total = math.comb(n, k)
    p = math.exp(math.log(wanted) - math.log(total))
    drawn = uniform_hypergraph(n, k, probability=p, seed=1)
    assert abs(drawn.num_edges - wanted) < 6 * math.sqrt(wanted)
    assert len(set(edge_sets(drawn))) == drawn.num_edges


@given(st.data())
def test_configuration_model_has_the_degrees_and_no_repeated_pair(data: st.DataObject) -> None:
    """Degrees of a 0/1 matrix can be realised by definition, however tight they are."""
    n, m = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    cells = data.draw(st.lists(st.integers(0, 1), min_size=n * m, max_size=n * m))
    matrix = torch.tensor(cells).view(n, m)
    h = configuration_model(matrix.sum(1), matrix.sum(0), seed=data.draw(st.integers(0, 99)))
    dense = h.to_dense()
    assert dense.max() <= 1
    assert torch.equal(dense.sum(1), matrix.sum(1).float())
    assert torch.equal(dense.sum(0), matrix.sum(0).float())


def test_configuration_model_at_size() -> None:
    generator = as_generator("seed", 0)
    sizes = torch.randint(2, 9, (4000,), generator=generator)
    degrees = torch.bincount(
        torch.randint(3000, (int(sizes.sum()),), generator=generator), minlength=3000
    )
    h = configuration_model(degrees, sizes, seed=generator)
    assert torch.equal(h.node_degree().long(), degrees)
    assert torch.equal(h.edge_degree().long(), sizes)
    assert h.hyperedge_index.unique(dim=1).shape[1] == int(sizes.sum())


def test_stub_matching_is_uniform() -> None:
    """Two vertices of degree 2 and two hyperedges of size 2: 4 of the 6 matchings mix them."""
    generator = as_generator("seed", 2)
    degrees, draws = torch.tensor([2, 2]), 1500
    mixed = sum(
        len(set(edge_sets(configuration_model(degrees, degrees, generator, True))[0])) == 2
        for _ in range(draws)
    )
    assert abs(mixed / draws - 2 / 3) < 5 * math.sqrt(2 / 9 / draws)


def test_seeds() -> None:
    a = uniform_hypergraph(50, 3, num_edges=40, seed=7)
    b = uniform_hypergraph(50, 3, num_edges=40, seed=7)
    c = uniform_hypergraph(50, 3, num_edges=40, seed=8)
    assert torch.equal(a.hyperedge_index, b.hyperedge_index)
    assert not torch.equal(a.hyperedge_index, c.hyperedge_index)
    generator = as_generator("seed", 7)
    d = uniform_hypergraph(50, 3, num_edges=40, seed=generator)
    e = uniform_hypergraph(50, 3, num_edges=40, seed=generator)
    assert torch.equal(a.hyperedge_index, d.hyperedge_index)
    assert not torch.equal(d.hyperedge_index, e.hyperedge_index)
    before = torch.get_rng_state()
    uniform_hypergraph(50, 3, num_edges=40)
    assert torch.equal(before, torch.get_rng_state()), "the global generator must be left alone"


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: uniform_hypergraph(4, 5, num_edges=1), ValueError, "`size`"),
        (lambda: uniform_hypergraph(0, 1, num_edges=1), ValueError, "`num_nodes`"),
        (lambda: uniform_hypergraph(4, 2), ValueError, "`num_edges`"),
        (lambda: uniform_hypergraph(4, 2, 1, 0.5), ValueError, "`num_edges`"),
        (lambda: uniform_hypergraph(4, 2, num_edges=7), ValueError, "`num_edges`"),
        (lambda: uniform_hypergraph(4, 2, num_edges=1.5), TypeError, "`num_edges`"),
        (lambda: uniform_hypergraph(4, 2, probability=1.5), ValueError, "`probability`"),
        (lambda: uniform_hypergraph(4, 2, probability=math.nan), ValueError, "`probability`"),
        (lambda: uniform_hypergraph(2000, 50, probability=0.5), ValueError, "`probability`"),
        (lambda: uniform_hypergraph(4, 2, 1, seed="0"), TypeError, "`seed`"),
        (
            lambda: configuration_model(torch.tensor([1]), torch.tensor([2])),
            ValueError,
            "`node_degrees`",
        ),
        (
            lambda: configuration_model(torch.tensor([2]), torch.tensor([2])),
            ValueError,
            "`node_degrees`",
        ),
        (
            lambda: configuration_model(torch.tensor([2, 2, 0]), torch.tensor([3, 1])),
            ValueError,
            "`edge_sizes`",
        ),
        (
            lambda: configuration_model(torch.tensor([-1]), torch.tensor([-1])),
            ValueError,
            "`node_degrees`",
        ),
        (
            lambda: configuration_model(torch.tensor([1.0]), torch.tensor([1])),
            TypeError,
            "`node_degrees`",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        call()  # type: ignore[operator]
