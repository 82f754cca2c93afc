"""networkx bipartite graphs, undirected and directed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from hypergraph import Hypergraph
from hypergraph.io import Labelled, from_networkx, to_networkx
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

nx = pytest.importorskip("networkx", reason="skipped: networkx not installed")
FIELDS = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
)


@given(hypergraphs(FIELDS, repeated=False))
def test_a_hypergraph_comes_back(h: Hypergraph) -> None:
    graph = to_networkx(h)
    assert graph.is_directed() == (h.direction is not None)
    assert nx.is_bipartite(graph)
    assert_same(from_networkx(graph).hypergraph, h, ordered=False)


@given(hypergraphs(FIELDS, directions=(-1, 1)))
def test_repeated_pairs_come_back_as_a_multigraph(h: Hypergraph) -> None:
    assert_same(from_networkx(to_networkx(h, multigraph=True)).hypergraph, h, ordered=False)


def test_names_attributes_and_numbers() -> None:
    h = Hypergraph.from_edges([[0, 1], []], num_nodes=3, hyperedge_weight=torch.tensor([2.0, 0.5]))
    graph = to_networkx(h)
    assert list(graph.nodes) == [0, 1, 2, 3, 4]
    assert graph.nodes[3] == {"bipartite": 1, "weight": 2.0}
    labelled = Labelled(
        h,
        ("a", ("b", 1), 3.5),
        ("x", "y"),
        node_attrs=({"color": "red"}, {}, {"obj": object}),
        edge_attrs=({}, {"z": 1}),
        incidence_attrs=({"role": "PI"}, {}),
        metadata={"name": "toy"},
        network_type="asc",
    )
    got = from_networkx(to_networkx(labelled))
    assert_same(got.hypergraph, h)
    for name in ("node_ids", "edge_ids", "node_attrs", "edge_attrs", "incidence_attrs"):
        assert getattr(got, name) == getattr(labelled, name), name
    assert (got.metadata, got.network_type) == ({"name": "toy"}, "asc")


def test_features_that_are_not_finite_come_back() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    h = h.replace(node_features=torch.tensor([[torch.inf, torch.nan], [-torch.inf, 0]]))
    assert from_networkx(to_networkx(h)).hypergraph.equal(h)


def test_directions_are_arcs() -> None:
    h = Hypergraph.from_directed_edges([([0, 1], [1, 2])])
    graph = to_networkx(h)
    assert sorted(graph.edges) == [(0, 3), (1, 3), (3, 1), (3, 2)]
    assert from_networkx(graph).hypergraph.direction is not None
    # Arcs both ways that differ are two pairs.
    graph.edges[1, 3]["weight"] = 5
    assert from_networkx(graph).hypergraph.nnz == 4
    graph.edges[3, 1]["weight"] = 5
    assert from_networkx(graph).hypergraph.nnz == 3
    graph.edges[1, 3]["array"], graph.edges[3, 1]["array"] = np.ones(2), np.ones(2)
    assert from_networkx(graph).hypergraph.nnz == 4
    empty = nx.DiGraph()
    empty.add_node("a", bipartite=0)
    assert from_networkx(empty).hypergraph.is_directed


def test_a_graph_may_be_changed_on_the_way() -> None:
    h = everything().replace(direction=None).coalesce()
    graph = to_networkx(h)
    graph.remove_node(4)
    graph.remove_node(5 + 3)
    got = from_networkx(graph).hypergraph
    assert got.shape == (4, 3)
    assert h.node_features is not None and got.node_features is not None
    assert torch.equal(got.node_features, h.node_features[:4])
    graph.add_node("new", bipartite=0)
    with pytest.raises(ValueError, match="number 4 has no 'features'"):
        from_networkx(graph)


def test_graphs_of_others() -> None:
    graph = nx.davis_southern_women_graph()
    labelled = from_networkx(graph)
    assert labelled.hypergraph.shape == (18, 14)
    assert labelled.hypergraph.nnz == graph.number_of_edges() == 89
    ruth = labelled.node_number["Ruth Sumner"] if "Ruth Sumner" in graph else 0
    assert labelled.hypergraph.node_degree()[ruth] == graph.degree(labelled.node_ids[ruth])
    graph = nx.Graph()
    graph.add_node("v", bipartite=0, weight=np.float32(2))
    graph.add_node("w", bipartite=0)
    graph.add_node("e", bipartite=1)
    graph.add_edge("e", "v", weight=np.int64(3))
    h = from_networkx(graph, dtype=torch.float64).hypergraph
    assert h.node_weight is not None and h.node_weight.tolist() == [2, 1]
    assert h.incidence_weight is not None and h.incidence_weight.tolist() == [3]
    assert h.incidence_weight.dtype == torch.float64


def test_misuse_and_loss_are_named() -> None:
    with pytest.raises(ValueError, match="vertex 1 and hyperedge 1 repeats.*multigraph"):
        to_networkx(everything())
    with pytest.raises(ValueError, match="`direction` must be -1 or"):
        to_networkx(everything(), multigraph=True)
    h = Hypergraph.from_edges([[0, 1]])
    cases: list[tuple[Labelled, str]] = [
        (Labelled(h, node_ids=(5, 6), edge_ids=(5,)), "5 in both"),
        (Labelled(h, ("a", "b"), ("e",), node_attrs=({"bipartite": 1}, {})), "'bipartite'"),
        (
            Labelled(h.replace(node_weight=torch.ones(2)), ("a", "b"), ("e",), ({"weight": 1}, {})),
            "'weight'",
        ),
    ]
    for labelled, message in cases:
        with pytest.raises(ValueError, match=message):
            to_networkx(labelled)
    with pytest.raises(TypeError, match="`graph`"):
        from_networkx([[0, 1]])  # type: ignore[arg-type]

    def graph(**data: Any) -> Any:
        made = nx.Graph([("v", "e", data)])
        nx.set_node_attributes(made, {"v": 0, "e": 1}, "bipartite")
        return made

    for weight in ("heavy", True, float("nan"), 1j):
        with pytest.raises(ValueError, match="weight of edge"):
            from_networkx(graph(weight=weight))
    with pytest.raises(ValueError, match="non-negative"):
        from_networkx(graph(weight=-1))
    made = graph()
    made.add_node("x")
    with pytest.raises(ValueError, match="'x'"):
        from_networkx(made)
    made.nodes["x"]["bipartite"] = 0
    made.add_edge("v", "x")
    with pytest.raises(ValueError, match="both of side 0"):
        from_networkx(made)
    made.remove_edge("v", "x")
    made.graph["network-type"] = 3
    with pytest.raises(ValueError, match="network-type"):
        from_networkx(made)
