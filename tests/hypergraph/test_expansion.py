"""Expansions against dense products and, for the line expansion, against the list of pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    Dense,
    Hypergraph,
    LowRank,
    NeighborTable,
    clique_expansion,
    line_expansion,
    line_graph,
    star_expansion,
)
from tests.hypergraph.oracle import F64, dense_incidence, hypergraphs


@st.composite
def directed(draw: st.DrawFn) -> Hypergraph:
    h = draw(hypergraphs())
    if not draw(st.booleans()):
        return h
    sign = st.sampled_from([-1, 0, 1])
    drawn = draw(st.lists(sign, min_size=h.nnz, max_size=h.nnz))
    return h.replace(direction=torch.tensor(drawn, dtype=torch.long))


def sides(h: Hypergraph) -> tuple[Tensor, Tensor, Tensor]:
    """H, its tails and its heads, summed pair by pair."""
    out = []
    for signs in ((-1, 0, 1), (-1, 0), (0, 1)):
        pick = torch.tensor([int(s) in signs for s in h._pair_direction()], dtype=torch.bool)
        values = None if h.incidence_weight is None else h.incidence_weight[pick]
        shape = (h.num_nodes, h.num_edges)
        out.append(dense_incidence(h.hyperedge_index[:, pick], shape, values))
    return out[0], out[1], out[2]


def as_matrix(edge_index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Dense; every edge may appear once only, and in the order of (source, target)."""
    keys = edge_index[0] * size + edge_index[1]
    assert torch.equal(keys, keys.sort().values) and keys.unique().numel() == keys.numel()
    out = torch.zeros(size, size, dtype=F64)
    out[edge_index[0], edge_index[1]] = weight.to(F64)
    return out


def divided(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1e-30), 0)


@given(directed(), st.sampled_from(["sum", "mean", "newman", "ones"]), st.booleans())
def test_clique_is_the_product(h: Hypergraph, weight, loops: bool) -> None:
    whole, tail, head = sides(h)
    w, size = h.weight(F64), h.num_nodes
    there = tail @ torch.diag(w) @ head.T > 0
    whole = whole * (w > 0)
    factor = {
        "sum": torch.ones_like(w),
        "mean": divided(torch.ones_like(w), whole.sum(0)),
        "newman": divided(torch.ones_like(w), whole.sum(0) - 1),
        "ones": torch.ones_like(w),
    }[weight]
    expected = tail @ torch.diag(w * factor) @ head.T
    if weight == "ones":
        expected = there.to(F64)
    if not loops:
        there = there & ~torch.eye(size, dtype=torch.bool)
    edge_index, got = clique_expansion(h, weight, self_loops=loops)
    assert_close(as_matrix(edge_index, got, size), expected * there)
    assert {tuple(e) for e in edge_index.T.tolist()} == {tuple(e) for e in there.nonzero().tolist()}


@given(directed(), st.sampled_from(["incidence", "hyperedge", "mean"]))
def test_star_is_bipartite(h: Hypergraph, weight) -> None:
    whole, tail, head = sides(h)
    n, size, w = h.num_nodes, h.num_nodes + h.num_edges, h.weight(F64)
    alive = (w > 0).to(F64)
    factor = {"incidence": alive, "hyperedge": w, "mean": divided(w, whole.sum(0))}[weight]
    expected = torch.zeros(size, size, dtype=F64)
    expected[:n, n:] = tail * factor
    expected[n:, :n] = (head * factor).T
    edge_index, got = star_expansion(h, weight)
    out = torch.zeros(size, size, dtype=F64)
    out.index_put_((edge_index[0], edge_index[1]), got.to(F64), accumulate=True)
    assert_close(out, expected)
    assert bool((got > 0).all())


@given(directed(), st.integers(1, 3), st.sampled_from(["overlap", "product", "jaccard", "ones"]))
def test_line_graph_counts_shared_vertices(h: Hypergraph, s: int, weight) -> None:
    whole = sides(h)[0] * (h.weight(F64) > 0)
    members = (whole > 0).to(F64)
    shared, sizes = members.T @ members, members.sum(0)
    expected = {
        "overlap": shared,
        "product": whole.T @ whole,
        "jaccard": divided(shared, sizes[:, None] + sizes[None] - shared),
        "ones": torch.ones_like(shared),
    }[weight]
    joined = (shared >= s) & ~torch.eye(h.num_edges, dtype=torch.bool)
    edge_index, got = line_graph(h, s, weight)
    assert_close(as_matrix(edge_index, got, h.num_edges), expected * joined)
    assert edge_index.shape[1] == int(joined.sum())


@given(directed())
def test_line_expansion_joins_pairs(h: Hypergraph) -> None:
    whole = sides(h)[0] * (h.weight(F64) > 0)
    expected_pairs = [(v, e) for e, v in whole.T.nonzero().tolist()]
    edge_index, weight, pairs = line_expansion(h, vertex_weight=2.0, hyperedge_weight=0.5)
    assert list(zip(*pairs.tolist(), strict=True)) == expected_pairs
    size = len(expected_pairs)
    expected = torch.zeros(size, size, dtype=F64)
    for i, (v, e) in enumerate(expected_pairs):
        for j, (u, f) in enumerate(expected_pairs):
            if i != j:
                expected[i, j] = 2.0 * (v == u) + 0.5 * (e == f)
    assert_close(as_matrix(edge_index, weight, size), expected)


def test_by_hand() -> None:
    h = Hypergraph.from_directed_edges([([0, 1], [2])], hyperedge_weight=torch.tensor([4.0]))
    assert clique_expansion(h)[0].tolist() == [[0, 1], [2, 2]]
    assert clique_expansion(h, "newman")[1].tolist() == [2, 2]
    assert star_expansion(h, "mean")[0].tolist() == [[0, 1, 3], [3, 3, 2]]
    assert line_expansion(Hypergraph.from_edges([[0, 1], [1]]))[1].tolist() == [1, 1, 1, 1]
    both = Hypergraph.from_edges([[0, 1], [0, 1]])
    assert line_graph(both)[1].tolist() == [2, 2]
    empty = Hypergraph.from_edges([[], []], 0)
    for edge_index, weight in (clique_expansion(empty), line_graph(empty), star_expansion(empty)):
        assert edge_index.shape == (2, 0) and weight.shape == (0,)


def test_other_operators_expand_alike() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2], [2, 2]], 4, torch.tensor([1.0, 2.0, 3.0]))
    table = NeighborTable(torch.tensor([[0, 1], [1, 2], [2, 2]]), 4, None, None, h.weight())
    for function in (clique_expansion, star_expansion, line_graph, line_expansion):
        for other in (table, Dense(h.to_dense(), h.weight())):
            for got, expected in zip(function(other), function(h), strict=True):
                assert torch.equal(got, expected), function
    with pytest.raises(TypeError, match="members can be listed"):
        clique_expansion(LowRank(torch.rand(3, 2), torch.rand(4, 2)))
    with pytest.raises(ValueError, match="one hypergraph, got a batch of 2"):
        star_expansion(Dense(torch.ones(2, 3, 3)))
    with pytest.raises(TypeError, match="`hypergraph` must be an incidence operator"):
        line_graph(h.hyperedge_index)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`s` must be at least 1"):
        line_graph(h, 0)
    for function in (clique_expansion, star_expansion, line_graph):
        with pytest.raises(ValueError, match="`weight` must be one of"):
            function(h, weight="heavy")  # type: ignore[arg-type]


def test_weights_have_gradients() -> None:
    index = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 1, 0]])
    values = torch.rand(6, dtype=F64).add(0.6).requires_grad_()
    weight = torch.rand(2, dtype=F64).add(0.1).requires_grad_()

    def run(values: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        h = Hypergraph(index, 4, 2, weight, values)
        kinds = [clique_expansion(h, kind, True)[1] for kind in ("sum", "mean", "newman")]
        return (*kinds, star_expansion(h, "mean")[1], line_graph(h, weight="product")[1])

    assert torch.autograd.gradcheck(run, (values, weight))
