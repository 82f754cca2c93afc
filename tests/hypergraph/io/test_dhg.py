"""DHG: the same degrees there and here, and what its dictionaries merge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from hypergraph import Hypergraph
from hypergraph.io import from_dhg, to_dhg
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

dhg = pytest.importorskip("dhg", reason="skipped: dhg not installed")
FIELDS = ("hyperedge_weight", "node_weight", "hyperedge_group")


def _distinct(h: Hypergraph) -> Hypergraph:
    """Without equal hyperedges, groups in order and all in use: what DHG can hold."""
    groups = torch.zeros(h.num_edges) if h.hyperedge_group is None else h.hyperedge_group
    node, edge = h.hyperedge_index
    members = [sorted(node[edge == e].tolist()) for e in range(h.num_edges)]
    keys = [(int(groups[e]), *members[e]) for e in range(h.num_edges)]
    kept = [e for e in range(h.num_edges) if keys[e] not in keys[:e]]
    h = h.edge_subgraph(torch.tensor(sorted(kept, key=lambda e: keys[e][0]), dtype=torch.long))
    if h.hyperedge_group is None:
        return h
    used, numbers = h.hyperedge_group.unique(return_inverse=True)
    if not len(used):
        return h.replace(hyperedge_group=None)
    names = [h.group_names[i] for i in used]
    return h.replace(hyperedge_group=numbers, group_names=names)


@given(hypergraphs(FIELDS, dtypes=(torch.float32,), least_nodes=1).map(_distinct))
def test_a_hypergraph_comes_back(h: Hypergraph) -> None:
    graph = to_dhg(h)
    assert (graph.num_v, graph.num_e) == h.shape
    if h.num_edges:
        assert torch.equal(graph.H.to_dense(), h.to_dense())
        assert torch.equal(graph.D_e.to_dense().diagonal(), h.edge_degree())
        torch.testing.assert_close(graph.D_v.to_dense().diagonal(), h.node_degree())
    got = from_dhg(graph)
    for name in ("hyperedge_weight", "node_weight"):  # weights of one are DHG's default
        if (value := getattr(h, name)) is not None and bool((value == 1).all()):
            h = h.replace(**{name: None})
    assert_same(got, h, ordered=False)


def test_what_it_merges_is_named_and_refused() -> None:
    """Reproduced in 0.9.7: equal hyperedges become one, with the mean of their weights."""
    twice = Hypergraph.from_edges([[0, 1], [1, 0]], hyperedge_weight=torch.tensor([1.0, 3.0]))
    with pytest.raises(ValueError, match="DHG cannot hold equal hyperedges"):
        to_dhg(twice)
    merged = from_dhg(to_dhg(twice, lossy=True))
    assert merged.num_edges == 1 and merged.weight().tolist() == [2]
    with pytest.raises(ValueError, match="`incidence_weight`.*`direction`"):
        to_dhg(everything())
    grouped = Hypergraph.from_edges([[0], [1], [2]])
    for groups, names, message in (
        ([0, 1, 0], ["a", "b"], "order of hyperedges"),
        ([0, 0, 0], ["a", "b"], "groups without hyperedges"),
        ([0, 0, 0], ["main"], "'main'"),
    ):
        h = grouped.replace(hyperedge_group=torch.tensor(groups), group_names=names)
        with pytest.raises(ValueError, match=message):
            to_dhg(h)
        assert to_dhg(h, lossy=True).num_e == 3
    with pytest.raises(ValueError, match="at least one vertex"):
        to_dhg(Hypergraph(torch.empty(2, 0, dtype=torch.long)))
    with pytest.raises(TypeError, match="`graph`"):
        from_dhg([[0, 1]])  # type: ignore[arg-type]


def test_their_hypergraphs() -> None:
    graph = dhg.Hypergraph(4, [[0, 1, 1], []], e_weight=[0.5, 2.0], v_weight=[1.0, 2.0, 3.0, 4.0])
    graph.add_hyperedges([[3, 2]], group_name="other")
    h = from_dhg(graph, dtype=torch.float64)
    assert h.to_dense().tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert h.group_names == ("main", "other")
    assert h.weight().tolist() == [0.5, 2, 1]
    assert h.node_weight is not None and h.node_weight.dtype == torch.float64
    with pytest.raises(ValueError, match="hyperedge_weight"):
        from_dhg(dhg.Hypergraph(2, [[0, 1]], e_weight=[-1.0]))
