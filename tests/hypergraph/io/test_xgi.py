"""XGI: hypergraphs, directed hypergraphs, simplicial complexes."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given

from hypergraph import Hypergraph
from hypergraph.io import HIF, Labelled, from_networkx, from_xgi, to_networkx, to_xgi
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

xgi = pytest.importorskip("xgi", reason="skipped: xgi not installed")
FIELDS = (
    "hyperedge_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
)


@given(hypergraphs(FIELDS, repeated=False))
def test_a_hypergraph_comes_back(h: Hypergraph) -> None:
    graph = to_xgi(h)
    directed = h.direction is not None
    assert isinstance(graph, xgi.DiHypergraph if directed else xgi.Hypergraph)
    assert (graph.num_nodes, graph.num_edges) == h.shape
    if not directed:
        node, edge = h.hyperedge_index
        members = [set(node[edge == e].tolist()) for e in range(h.num_edges)]
        assert graph.edges.members() == members
    assert_same(from_xgi(graph).hypergraph, h, ordered=False)


def test_names_and_attributes() -> None:
    h = Hypergraph.from_edges([[0, 1], [2, 1], []], num_nodes=4)
    labelled = Labelled(
        h,
        ("a", "b", 3, ("d", 4)),
        ("x", 0, "z"),
        ({"color": "red"}, {}, {}, {"node": 1}),
        ({}, {"idx": 2}, {}),
        metadata={"name": "toy", "year": 1999},
    )
    graph = to_xgi(labelled)
    assert graph.edges.members("x") == {"a", "b"}
    assert graph["year"] == 1999
    got = from_xgi(graph)
    assert_same(got.hypergraph, h, ordered=False)
    for name in ("node_ids", "edge_ids", "node_attrs", "edge_attrs", "metadata"):
        assert getattr(got, name) == getattr(labelled, name), name
    assert got.network_type == "undirected"


def test_their_graphs_and_their_hif() -> None:
    """What XGI writes as HIF and what we read from its object are the same hypergraph."""
    graph = xgi.Hypergraph([[1, 2, 3], [3, 4], [3, 4], []])
    graph.add_node("isolated", weight=2)
    labelled = from_xgi(graph, dtype=torch.float64)
    h = labelled.hypergraph
    assert h.shape == (5, 4)  # equal hyperedges stay two
    assert h.node_weight is not None and h.node_weight.tolist() == [1, 1, 1, 1, 2]
    hif = HIF.from_dict(json.loads(json.dumps(xgi.to_hif_dict(graph))))
    pairs = {(r["node"], r["edge"]) for r in hif.incidences}
    index = h.hyperedge_index.t().tolist()
    assert pairs == {(labelled.node_ids[n], labelled.edge_ids[e]) for n, e in index}
    ours = xgi.from_hif_dict(HIF.from_hypergraph(labelled).to_dict())
    assert ours.edges.members(dtype=dict) == graph.edges.members(dtype=dict)

    faces = from_xgi(xgi.SimplicialComplex([[1, 2, 3]]))
    assert faces.network_type == "asc"
    assert sorted(faces.hypergraph.edge_degree().tolist()) == [2, 2, 2, 3]
    with pytest.raises(ValueError, match="'asc'"):
        to_xgi(faces)

    # And through networkx, whose conventions XGI shares.
    directed = Hypergraph.from_directed_edges([([0, 1], [2]), ([2], [2, 0])])
    assert from_networkx(xgi.to_bipartite_graph(to_xgi(directed))).hypergraph.equal(directed)
    assert from_xgi(xgi.from_bipartite_graph(to_networkx(directed))).hypergraph.equal(directed)


def test_misuse_and_loss_are_named() -> None:
    with pytest.raises(ValueError, match="`incidence_weight`; repeated pairs"):
        to_xgi(everything())
    h = from_xgi(to_xgi(everything(), lossy=True)).hypergraph
    assert (h.nnz, h.shape) == (5, (5, 4))
    one = Hypergraph.from_edges([[0]])
    with pytest.raises(ValueError, match="`incidence_attrs`"):
        to_xgi(Labelled(one, incidence_attrs=({"a": 1},)))
    with pytest.raises(TypeError, match="`graph`"):
        from_xgi([[0, 1]])  # type: ignore[arg-type]
    graph = xgi.Hypergraph([[1, 2]])
    graph.set_edge_attributes({0: {"weight": "heavy"}})
    with pytest.raises(ValueError, match="weight of edge 0"):
        from_xgi(graph)
