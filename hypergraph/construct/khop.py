"""Hyperedges from neighbourhoods in a graph."""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import (
    check_choice,
    check_index_range,
    check_integer,
    check_positive_int,
)
from hypergraph.construct.static import StaticConstruction
from hypergraph.incidence import Hypergraph

Follow = Literal["both", "out", "in"]


class KHop(StaticConstruction):
    """One hyperedge per vertex: the vertex and all vertices at most k steps away in a graph.

    ``h_ve = 1 if dist(e, v) <= k``, else 0; with ``only_last``, if v = e or ``dist(e, v) = k``.

    Gao et al., HGNN+ (TPAMI 2022) call these hyperedges N_hop_k; DHG has them as
    ``from_graph_kHop``. Distances count edges on a shortest path. The neighbourhoods are found
    once, with memory for what they contain. Members are in the order of their indices. DHG merges
    equal neighbourhoods into one hyperedge; here there is one per vertex.

    Args:
        edge_index: [2, edges] int64, sources and targets; repeated edges and loops change nothing.
        k: steps; 1 gives the neighbours.
        num_nodes: default the largest index + 1. Give it where trailing vertices have no edge.
        only_last: leave out what is nearer than k steps, except for the vertex itself.
        follow: ``"both"`` (an undirected graph), ``"out"`` (what the vertex reaches) or ``"in"``
            (what reaches it).

    Returns (from a call):
        Hypergraph with N vertices and N hyperedges, the same for all samples; see
        ``StaticConstruction``.

    Raises:
        ValueError, TypeError: bad arguments, or an index is out of range.

    Example:
        >>> import torch
        >>> from hypergraph import KHop
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> KHop(path, k=2)(torch.randn(4, 8)).to_dense().T
        tensor([[1., 1., 1., 0.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [0., 1., 1., 1.]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        k: int = 1,
        num_nodes: int | None = None,
        only_last: bool = False,
        follow: Follow = "both",
    ) -> None:
        edge_index = check_integer("edge_index", edge_index)
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise ValueError(
                f"`edge_index` must have shape [2, edges], got {list(edge_index.shape)}; "
                "pass sources and targets as two rows"
            )
        k = check_positive_int("k", k)
        check_choice("follow", follow, get_args(Follow))
        if num_nodes is None:
            num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
        elif num_nodes != 0 or isinstance(num_nodes, bool):
            check_positive_int("num_nodes", num_nodes)
        check_index_range("edge_index", edge_index, num_nodes, "num_nodes")
        source, target = edge_index
        if follow == "in":
            source, target = target, source
        elif follow == "both":
            source, target = torch.cat([source, target]), torch.cat([target, source])
        center, member = _within(source, target, k, num_nodes, only_last)
        index = torch.stack([member, center])
        super().__init__(Hypergraph(index, num_nodes, num_nodes))
        self.k, self.only_last = k, only_last
        self.follow: Follow = follow

    def extra_repr(self) -> str:
        """Show the settings."""
        text = f"num_nodes={self.num_nodes}, k={self.k}"
        text += ", only_last=True" if self.only_last else ""
        return text + ("" if self.follow == "both" else f", follow='{self.follow}'")


def _within(
    source: Tensor, target: Tensor, k: int, num_nodes: int, only_last: bool
) -> tuple[Tensor, Tensor]:
    """Pairs (centre, member) at distance at most k, or 0 and k, sorted."""
    # Neighbours of vertex v: target[first[v]:first[v + 1]], each once.
    edges = torch.unique(source * num_nodes + target)
    target = edges % max(num_nodes, 1)
    vertices = torch.arange(num_nodes + 1, device=source.device)
    first = torch.searchsorted(edges, vertices * num_nodes)
    degree = first.diff()
    itself = vertices[:-1] * (num_nodes + 1)  # a pair is written centre * num_nodes + member
    reached, front = itself, itself
    for _ in range(k):
        center, vertex = front // max(num_nodes, 1), front % max(num_nodes, 1)
        count = degree[vertex]
        start = (first[vertex] - (count.cumsum(0) - count)).repeat_interleave(count)
        neighbor = target[start + torch.arange(start.shape[0], device=start.device)]
        pairs = torch.unique(center.repeat_interleave(count) * num_nodes + neighbor)
        front = pairs[~torch.isin(pairs, reached, assume_unique=True)]
        reached = torch.cat([reached, front]).sort().values
    if only_last:
        reached = torch.cat([itself, front]).sort().values
    return reached // max(num_nodes, 1), reached % max(num_nodes, 1)
