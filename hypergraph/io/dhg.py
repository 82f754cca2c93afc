"""Hypergraphs of DHG (DeepHypergraph)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import check_hypergraph, given_fields, optional_module, refuse_loss

if TYPE_CHECKING:
    import dhg

_MAIN = "main"  # DHG's name for the group of hyperedges that were given none
_CARRIED = ("hyperedge_weight", "node_weight", "hyperedge_group")


def to_dhg(hypergraph: Hypergraph, lossy: bool = False) -> "dhg.Hypergraph":
    """A ``dhg.Hypergraph`` with the weights of hyperedges and vertices, and the groups.

    DHG keeps hyperedges as dictionary keys: equal hyperedges of a group become one (with the mean
    of their weights), members are sorted, groups follow each other. A vertex that a hyperedge lists
    twice counts twice there too. DHG computes in float32.

    Args:
        hypergraph: with at least one vertex, which DHG requires.
        lossy: drop what DHG cannot hold: incidence weights, features, directions, equal
            hyperedges, the order of hyperedges whose groups alternate, groups without hyperedges.

    Raises:
        ImportError: dhg is not installed.
        ValueError: something would be lost and ``lossy`` is False; there is no vertex.

    Example::

        graph = to_dhg(Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4))
        h = from_dhg(graph)
    """
    library = optional_module("dhg", "dhg")
    h = check_hypergraph(hypergraph)
    if h.num_nodes == 0:
        raise ValueError("`hypergraph` must have at least one vertex to become a dhg.Hypergraph")
    lost = given_fields(h, but=_CARRIED)
    members: list[list[int]] = [[] for _ in range(h.num_edges)]
    for node, edge in h.hyperedge_index.t().tolist():
        members[edge].append(node)
    names = [_MAIN] if h.hyperedge_group is None else list(h.group_names)
    groups = [0] * h.num_edges if h.hyperedge_group is None else h.hyperedge_group.tolist()
    keys = [(group, tuple(sorted(edge))) for group, edge in zip(groups, members, strict=True)]
    if len(set(keys)) != len(keys):
        lost.append("equal hyperedges (h.merge_duplicate_edges() merges them)")
    if groups != sorted(groups):
        lost.append("the order of hyperedges whose groups alternate")
    if h.hyperedge_group is not None and set(groups) != set(range(len(names))):
        lost.append("groups without hyperedges")
    if h.hyperedge_group is not None and names == [_MAIN]:
        lost.append(f"a group that is the only one and called {_MAIN!r}, which is DHG's default")
    refuse_loss("DHG", lost, lossy)

    node_weight = None if h.node_weight is None else h.node_weight.tolist()
    graph = library.Hypergraph(h.num_nodes, v_weight=node_weight)
    weights = [1.0] * h.num_edges if h.hyperedge_weight is None else h.hyperedge_weight.tolist()
    of_group: list[list[int]] = [[] for _ in names]
    for edge, group in enumerate(groups):
        of_group[group].append(edge)
    for name, mine in zip(names, of_group, strict=True):
        if mine:
            graph.add_hyperedges(
                [members[edge] for edge in mine],
                [weights[edge] for edge in mine],
                group_name=name,
            )
    return graph


def from_dhg(graph: "dhg.Hypergraph", dtype: torch.dtype | None = None) -> Hypergraph:
    """Take a ``dhg.Hypergraph``.

    Args:
        graph: of DHG; one with the single group "main" gives a hypergraph without groups.
        dtype: of the weights, which DHG keeps as Python numbers; default PyTorch's.

    Returns:
        Hyperedges in DHG's order, group by group. Weights that are all one, DHG's default, become
        None.

    Raises:
        ImportError: dhg is not installed.
        TypeError, ValueError: it is no dhg.Hypergraph; a weight is negative, which DHG allows.
    """
    library = optional_module("dhg", "dhg")
    if not isinstance(graph, library.Hypergraph):
        raise TypeError(f"`graph` must be a dhg.Hypergraph, got {type(graph).__name__}")
    dtype = dtype or torch.get_default_dtype()
    nodes: list[int] = []
    edges: list[int] = []
    weights: list[float] = []
    groups: list[int] = []
    for group, name in enumerate(graph.group_names):
        for members, weight in zip(*graph.e_of_group(name), strict=True):
            nodes += members
            edges += [len(weights)] * len(members)
            weights.append(weight)
            groups.append(group)
    fields: dict[str, Any] = {}
    if graph.group_names and list(graph.group_names) != [_MAIN]:
        fields["hyperedge_group"] = torch.tensor(groups, dtype=torch.long)
        fields["group_names"] = tuple(graph.group_names)
    return Hypergraph(
        torch.tensor([nodes, edges], dtype=torch.long),
        graph.num_v,
        len(weights),
        _weights(weights, dtype),
        node_weight=_weights(graph.v_weight, dtype),
        **fields,
    )


def _weights(values: list[float], dtype: torch.dtype) -> Tensor | None:
    return None if all(value == 1 for value in values) else torch.tensor(values, dtype=dtype)
