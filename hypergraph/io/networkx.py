"""networkx bipartite graphs."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import torch

from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import optional_module
from hypergraph.io._records import Record, Records, check_weight, decode, encode
from hypergraph.io.labelled import Labelled, as_labelled

if TYPE_CHECKING:
    from networkx import Graph


def to_networkx(hypergraph: Hypergraph | Labelled, multigraph: bool = False) -> "Graph":
    """The star expansion as a networkx graph: one node per vertex and per hyperedge.

    Nodes have ``bipartite=0`` for vertices and 1 for hyperedges, as networkx and XGI expect, and
    an edge joins a vertex to each of its hyperedges. Weights become the attribute ``"weight"``,
    features ``"features"``, groups ``"group"``. A directed hypergraph gives a DiGraph: vertex ->
    hyperedge for tails, hyperedge -> vertex for heads, both for direction 0.

    Args:
        hypergraph: a bare one gets nodes 0 ... N - 1 for vertices and N ... N + M - 1 for
            hyperedges; a ``Labelled`` keeps its names, which must differ between the two.
        multigraph: return a MultiGraph (MultiDiGraph), which can hold repeated pairs.

    Raises:
        ValueError: a name is both a vertex' and a hyperedge's; a pair repeats and ``multigraph`` is
            False, or ``multigraph`` is True and a direction is 0.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import from_networkx, to_networkx
        >>> graph = to_networkx(Hypergraph.from_edges([[0, 1, 2], [2]]))
        >>> sorted(graph.edges)
        [(0, 3), (1, 3), (2, 3), (2, 4)]
        >>> from_networkx(graph).hypergraph
        Hypergraph(num_nodes=3, num_edges=2, nnz=4, device='cpu')
    """
    nx = optional_module("networkx", "networkx")
    labelled = as_labelled(hypergraph)
    if isinstance(hypergraph, Hypergraph):
        first = hypergraph.num_nodes
        labelled = Labelled(hypergraph, edge_ids=tuple(range(first, first + hypergraph.num_edges)))
    shared = set(labelled.node_ids) & set(labelled.edge_ids)
    if shared:
        raise ValueError(
            f"`node_ids` and `edge_ids` must differ in a networkx graph, got "
            f"{next(iter(shared))!r} in both; rename, or pass labelled.hypergraph"
        )
    records = encode(labelled)
    direction = labelled.hypergraph.direction
    directed = direction is not None
    if multigraph and direction is not None and bool((direction == 0).any()):
        raise ValueError(
            "`direction` must be -1 or +1 to give a MultiDiGraph, where two arcs are two pairs, "
            "got 0; use multigraph=False, write_hif or save_npz"
        )
    graph = {
        (False, False): nx.Graph,
        (False, True): nx.MultiGraph,
        (True, False): nx.DiGraph,
        (True, True): nx.MultiDiGraph,
    }[directed, multigraph]()
    graph.graph.update(records.metadata)
    if labelled.network_type is not None:
        graph.graph["network-type"] = labelled.network_type
    for side, (ids, group) in enumerate(
        ((records.node_ids, records.nodes), (records.edge_ids, records.edges))
    ):
        for name, record in zip(ids, group, strict=True):
            graph.add_node(name)
            graph.nodes[name].update(flat(record, "bipartite"), bipartite=side)
    seen = set()
    for (node, edge), record in zip(records.pairs, records.incidences, strict=True):
        if not multigraph and (node, edge) in seen:
            raise ValueError(
                f"the pair of vertex {node} and hyperedge {edge} repeats: "
                "pass multigraph=True, or h.coalesce() to add repeated pairs up"
            )
        seen.add((node, edge))
        ends = (records.node_ids[node], records.edge_ids[edge])
        arcs = [ends if side == "tail" else ends[::-1] for side in _sides(record, directed)]
        for arc in arcs:
            if multigraph:
                key = graph.add_edge(*arc)
                graph.edges[*arc, key].update(flat(record))
            else:
                graph.add_edge(*arc)
                graph.edges[arc].update(flat(record))
    return graph


def from_networkx(graph: "Graph", dtype: torch.dtype | None = None) -> Labelled:
    """Take a bipartite networkx graph as a hypergraph.

    Args:
        graph: Graph, DiGraph or their multigraph forms, whose nodes have ``bipartite`` 0 (vertex)
            or 1 (hyperedge). In a directed one, vertex -> hyperedge is a tail, hyperedge -> vertex
            a head, and both, if they agree, are one pair of direction 0 (not in a multigraph).
        dtype: of the weights; default PyTorch's, or that of the hypergraph which ``to_networkx``
            was given.

    Returns:
        Vertices and hyperedges in the order of the graph's nodes, with their names. The attribute
        ``"weight"`` becomes weights (1 where only some have it), all others stay attributes.

    Raises:
        ValueError: a node has no side, an edge joins two of one side, a weight is no number.
    """
    nx = optional_module("networkx", "networkx")
    if not isinstance(graph, nx.Graph):
        raise TypeError(f"`graph` must be a networkx graph, got {type(graph).__name__}")
    sides: dict[Hashable, int] = {}
    ids: tuple[list[Hashable], list[Hashable]] = ([], [])
    found: tuple[list[Record], list[Record]] = ([], [])
    numbers: dict[Hashable, int] = {}
    for name, data in graph.nodes(data=True):
        side = data.get("bipartite")
        if side not in (0, 1):
            raise ValueError(
                f"`graph` must have bipartite=0 or 1 at every node, got {side!r} at {name!r}; "
                "set it with nx.set_node_attributes"
            )
        rest = {key: value for key, value in data.items() if key != "bipartite"}
        sides[name] = side
        numbers[name] = len(ids[side])
        ids[side].append(name)
        found[side].append(record_from(f"node {name!r}", rest))
    pairs: list[tuple[int, int]] = []
    incidences: list[Record] = []
    merge = graph.is_directed() and not graph.is_multigraph()
    known: dict[tuple[int, int], Record] = {}
    for a, b, data in graph.edges(data=True):
        if sides[a] == sides[b]:
            raise ValueError(
                f"`graph` must join vertices to hyperedges, got an edge between {a!r} and {b!r}, "
                f"both of side {sides[a]}"
            )
        record = record_from(f"edge {a!r}, {b!r}", dict(data))
        node, edge = (a, b) if sides[a] == 0 else (b, a)
        pair = (numbers[node], numbers[edge])
        if graph.is_directed():
            record["direction"] = "tail" if sides[a] == 0 else "head"
        other = known.get(pair)
        if merge and other is not None and _agree(other, record):
            del other["direction"]
            continue
        known[pair] = record
        pairs.append(pair)
        incidences.append(record)
    metadata = dict(graph.graph)
    kind = metadata.pop("network-type", "directed" if graph.is_directed() else None)
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f"graph.graph['network-type'] must be a string, got {kind!r}")
    records = Records(*ids, *found, pairs, incidences, metadata, kind)
    return decode(records, dtype)


def _sides(record: Record, directed: bool) -> tuple[str, ...]:
    """The arcs of a pair; one where there are no directions."""
    side = record.pop("direction", None)
    return (side,) if side is not None else ("tail", "head") if directed else ("tail",)


def _agree(a: Record, b: Record) -> bool:
    try:
        return {**a, "direction": None} == {**b, "direction": None}
    except ValueError:  # attributes that are arrays, which do not compare to one bool
        return False


def flat(record: Record, *reserved: str) -> dict[str, Any]:
    """One dictionary of attributes, the weight among them."""
    attrs = dict(record.get("attrs", {}))
    for key in (*reserved, *(("weight",) if "weight" in record else ())):
        if key in attrs:
            raise ValueError(f"the attribute {key!r} has a meaning of its own there; rename it")
    if "weight" in record:
        attrs["weight"] = record["weight"]
    return attrs


def record_from(place: str, attrs: dict[str, Any]) -> Record:
    """The other way round."""
    record: Record = {}
    if attrs.get("weight") is not None:
        record["weight"] = check_weight(f"the weight of {place}", attrs.pop("weight"))
    if attrs:
        record["attrs"] = attrs
    return record
