"""XGI hypergraphs."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import torch

from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import optional_module, refuse_loss
from hypergraph.io._records import Record, Records, decode, encode
from hypergraph.io.labelled import Labelled, as_labelled
from hypergraph.io.networkx import flat, record_from

if TYPE_CHECKING:
    import xgi

# (in the tail, in the head) -> record; in both is direction 0.
_SIDES: dict[tuple[bool, bool], Record] = {
    (True, False): {"direction": "tail"},
    (False, True): {"direction": "head"},
    (True, True): {},
}


def to_xgi(
    hypergraph: Hypergraph | Labelled, lossy: bool = False
) -> "xgi.Hypergraph | xgi.DiHypergraph":
    """An XGI Hypergraph, or a DiHypergraph where there are directions.

    Weights of vertices and hyperedges become the attribute ``"weight"``, features ``"features"``,
    groups ``"group"``. Members of an XGI hyperedge are a set (two sets, tail and head, where
    directed), without weights or attributes.

    Args:
        hypergraph: names become XGI ids, numbers where there are none.
        lossy: drop what XGI cannot hold: repeated pairs, incidence weights and attributes, the
            network type "asc".

    Raises:
        ImportError: xgi is not installed.
        ValueError: something would be lost and ``lossy`` is False.

    Example::

        graph = to_xgi(Hypergraph.from_edges([[0, 1], []], num_nodes=3))
        h = from_xgi(graph).hypergraph
    """
    xgi = optional_module("xgi", "xgi")
    labelled = as_labelled(hypergraph)
    h = labelled.hypergraph
    directed = h.direction is not None
    lost = []
    if h.incidence_weight is not None:
        lost.append("`incidence_weight`")
    if labelled.incidence_attrs:
        lost.append("`incidence_attrs`")
    if len(set(zip(*h.hyperedge_index.tolist(), strict=True))) != h.nnz:
        lost.append("repeated pairs (h.coalesce() adds them up)")
    if labelled.network_type == "asc":
        lost.append("the network type 'asc' of a hypergraph that may lack faces")
    refuse_loss("XGI", lost, lossy)

    records = encode(labelled)
    tails: list[set[Hashable]] = [set() for _ in range(h.num_edges)]
    heads: list[set[Hashable]] = [set() for _ in range(h.num_edges)]
    for (node, edge), record in zip(records.pairs, records.incidences, strict=True):
        direction = record.get("direction")
        if direction != "head":
            tails[edge].add(records.node_ids[node])
        if direction != "tail":
            heads[edge].add(records.node_ids[node])
    graph = xgi.DiHypergraph() if directed else xgi.Hypergraph()
    for name in records.node_ids:
        graph.add_node(name)  # add_nodes_from would take a tuple apart
    for name, tail, head in zip(records.edge_ids, tails, heads, strict=True):
        graph.add_edge((tail, head) if directed else tail, idx=name)
    graph.set_node_attributes(_attributes(records.node_ids, records.nodes))
    graph.set_edge_attributes(_attributes(records.edge_ids, records.edges))
    for key, value in records.metadata.items():
        graph[key] = value
    return graph


def from_xgi(
    graph: "xgi.Hypergraph | xgi.DiHypergraph | xgi.SimplicialComplex",
    dtype: torch.dtype | None = None,
) -> Labelled:
    """Take an XGI hypergraph, directed hypergraph or simplicial complex.

    Args:
        graph: of XGI.
        dtype: of the weights; default PyTorch's, or that of the hypergraph which ``to_xgi`` was
            given.

    Returns:
        Vertices and hyperedges in XGI's order, with their ids; the attribute ``"weight"`` becomes
        weights (1 where only some have it), all other attributes stay. Members of a hyperedge come
        in the order of their numbers; one in both tail and head is one pair of direction 0.

    Raises:
        ImportError: xgi is not installed.
        TypeError, ValueError: it is none of these; a weight is no number.
    """
    xgi = optional_module("xgi", "xgi")
    kinds = {
        xgi.SimplicialComplex: "asc",
        xgi.DiHypergraph: "directed",
        xgi.Hypergraph: "undirected",
    }
    kind = next((name for cls, name in kinds.items() if isinstance(graph, cls)), None)
    if kind is None:
        raise TypeError(f"`graph` must be a hypergraph of xgi, got {type(graph).__name__}")
    node_ids, edge_ids = tuple(graph.nodes), tuple(graph.edges)
    number = {name: n for n, name in enumerate(node_ids)}
    pairs: list[tuple[int, int]] = []
    incidences: list[Record] = []
    for edge, name in enumerate(edge_ids):
        members = sorted(number[member] for member in graph.edges.members(name))
        pairs += [(node, edge) for node in members]
        if kind == "directed":
            tail, head = graph.edges.tail(name), graph.edges.head(name)
            sides = [(node_ids[node] in tail, node_ids[node] in head) for node in members]
            incidences += [_SIDES[side] for side in sides]
        else:
            incidences += [{}] * len(members)
    records = Records(
        node_ids,
        edge_ids,
        [record_from(f"node {i!r}", dict(graph.nodes[i])) for i in node_ids],
        [record_from(f"edge {i!r}", dict(graph.edges[i])) for i in edge_ids],
        pairs,
        incidences,
        dict(graph._net_attr),  # XGI has no public way to list these
        kind,
    )
    return decode(records, dtype)


def _attributes(ids: Any, records: list[Record]) -> dict[Hashable, dict[str, Any]]:
    return {name: flat(record) for name, record in zip(ids, records, strict=True) if record}
