"""Thousands of generated hypergraphs at once, as a disjoint union and as padded dense matrices.

A layer runs once on the union; its dense definition runs once on ``[graphs, nodes, edges]``
matrices. Padding adds isolated vertices and empty hyperedges to a graph, which by the library's
rules must not change anything else, so a definition needs no masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hypergraph import Hypergraph

F64 = torch.float64
MOST_NODES, MOST_EDGES, MOST_PAIRS = 8, 7, 18

# Degenerate classes; every one must be hit at least this often in every run of the oracle.
LEAST_HITS = 100
FULL_SIZE = 5_000  # hypergraphs in a suite
WEIGHT_KINDS = {
    "zero weight": 0.0,
    # Sums of it times exp(score) stay below the smallest normal number, where a softmax that
    # subtracts its maximum and one that does not may differ; its 12 digits survive a product with
    # a huge weight.
    "subnormal weight": 1e-312,
    "huge weight": 1e60,
}


@dataclass(frozen=True)
class Suite:
    """Generated hypergraphs; G graphs, padded to N vertices and M hyperedges."""

    hypergraph: Hypergraph
    matrix: Tensor  # [G, N, M], repeated pairs added up
    weight: Tensor  # [G, M]
    graph: Tensor  # [total nodes], the graph of every vertex of the union
    slot: Tensor  # [total nodes], its row in the padded matrix
    edge_graph: Tensor  # [total edges]
    edge_slot: Tensor  # [total edges]
    classes: dict[str, int]

    def pad(self, x: Tensor) -> Tensor:
        """[total nodes, C] -> [G, N, C], zeros elsewhere."""
        out = x.new_zeros(*self.matrix.shape[:2], x.shape[-1])
        return out.index_put((self.graph, self.slot), x)

    def unpad(self, x: Tensor) -> Tensor:
        """[G, N, C] -> [total nodes, C]."""
        return x[self.graph, self.slot]

    def unpad_edges(self, y: Tensor) -> Tensor:
        """[G, M, C] -> [total edges, C]."""
        return y[self.edge_graph, self.edge_slot]

    def pad_edges(self, y: Tensor) -> Tensor:
        """[total edges, C] -> [G, M, C], zeros elsewhere."""
        out = y.new_zeros(self.matrix.shape[0], self.matrix.shape[2], y.shape[-1])
        return out.index_put((self.edge_graph, self.edge_slot), y)

    @cached_property
    def num_graphs(self) -> int:
        return self.matrix.shape[0]


def generate(count: int, seed: int, weighted: bool, dtype: torch.dtype = F64) -> Suite:
    """Draw ``count`` small hypergraphs.

    Args:
        count: number of hypergraphs.
        seed: the same seed draws the same hypergraphs.
        weighted: with hyperedge weights and incidence values, degenerate ones among them; else
            without either.
        dtype: of the weights and of the union.
    """
    random = torch.Generator().manual_seed(seed)

    def integers(high: Tensor | int, size: int) -> Tensor:
        """Uniform in 0 ... high - 1; 0 where high is 0."""
        return (torch.rand(size, generator=random, dtype=F64) * high).long()

    nodes = integers(MOST_NODES + 1, count)
    edges = integers(MOST_EDGES + 1, count)
    nodes[: count // 20] = 1
    pairs = integers(MOST_PAIRS + 1, count)
    pairs = torch.where((nodes > 0) & (edges > 0), pairs, 0)
    # A third of the graphs use only some of their vertices and hyperedges: gaps in the numbering,
    # repeated pairs.
    crowded = torch.rand(count, generator=random) < 0.3
    owner = torch.arange(count).repeat_interleave(pairs)
    high_node = torch.where(crowded, (nodes + 1) // 2, nodes)[owner]
    high_edge = torch.where(crowded, (edges + 1) // 2, edges)[owner]
    node = integers(high_node, owner.shape[0])
    edge = integers(high_edge, owner.shape[0])
    flipped = torch.rand(count, generator=random)[owner] < 0.5  # use the high numbers instead
    node = torch.where(flipped, nodes[owner] - 1 - node, node)
    edge = torch.where(flipped, edges[owner] - 1 - edge, edge)
    # In a tenth, the last hyperedge is a copy of the first.
    copies = (torch.rand(count, generator=random) < 0.1) & (edges > 1)
    keep = ~(copies[owner] & (edge == edges[owner] - 1))
    owner, node, edge = owner[keep], node[keep], edge[keep]
    copied = copies[owner] & (edge == 0)
    owner = torch.cat([owner, owner[copied]])
    node, edge = (
        torch.cat([node, node[copied]]),
        torch.cat([edge, edges[owner[owner.shape[0] - int(copied.sum()) :]] - 1]),
    )

    node_first, edge_first = nodes.cumsum(0) - nodes, edges.cumsum(0) - edges
    total_nodes, total_edges = int(nodes.sum()), int(edges.sum())
    values = weight = None
    if weighted:
        values = _weights(owner.shape[0], random)
        weight = _weights(total_edges, random)
        # Repeated pairs must not cancel the copies.
        values[values.shape[0] - int(copied.sum()) :] = values[: copied.shape[0]][copied]
    shuffle = torch.randperm(owner.shape[0], generator=random)
    owner, node, edge = owner[shuffle], node[shuffle], edge[shuffle]
    values = None if values is None else values[shuffle]

    index = torch.stack([node + node_first[owner], edge + edge_first[owner]])
    union = Hypergraph(
        index,
        total_nodes,
        total_edges,
        None if weight is None else weight.to(dtype),
        None if values is None else values.to(dtype),
    )
    ones = torch.ones(owner.shape[0], dtype=F64)
    matrix = torch.zeros(count, MOST_NODES, MOST_EDGES, dtype=F64)
    matrix.index_put_((owner, node, edge), ones if values is None else values, accumulate=True)
    graph = torch.arange(count).repeat_interleave(nodes)
    edge_graph = torch.arange(count).repeat_interleave(edges)
    slot = torch.arange(total_nodes) - node_first[graph]
    edge_slot = torch.arange(total_edges) - edge_first[edge_graph]
    dense_weight = torch.zeros(count, MOST_EDGES, dtype=F64)
    dense_weight[edge_graph, edge_slot] = (
        torch.ones(total_edges, dtype=F64) if weight is None else weight
    )
    classes = _count_classes(nodes, edges, owner, node, edge, matrix, values, weight, edge_graph)
    return Suite(union, matrix, dense_weight, graph, slot, edge_graph, edge_slot, classes)


def _weights(size: int, random: torch.Generator) -> Tensor:
    drawn = torch.rand(size, generator=random, dtype=F64) + 0.1
    kind = torch.rand(size, generator=random)
    for number, value in enumerate(WEIGHT_KINDS.values()):
        drawn[(kind >= 0.02 * number) & (kind < 0.02 * (number + 1))] = value
    drawn[(kind > 0.3) & (kind < 0.7)] = 1.0
    return drawn


def _count_classes(
    nodes: Tensor,
    edges: Tensor,
    owner: Tensor,
    node: Tensor,
    edge: Tensor,
    matrix: Tensor,
    values: Tensor | None,
    weight: Tensor | None,
    edge_graph: Tensor,
) -> dict[str, int]:
    """How many of the hypergraphs belong to each degenerate class."""
    count = nodes.shape[0]
    pattern = torch.zeros(matrix.shape)
    pattern.index_put_((owner, node, edge), torch.ones(owner.shape[0]), accumulate=True)
    node_here = torch.arange(matrix.shape[1]) < nodes[:, None]
    edge_here = torch.arange(matrix.shape[2]) < edges[:, None]
    used_node, used_edge = (pattern > 0).any(2), (pattern > 0).any(1)
    later_node = used_node.flip(1).cumsum(1).flip(1) > 0
    later_edge = used_edge.flip(1).cumsum(1).flip(1) > 0
    same = (matrix[:, :, :, None] == matrix[:, :, None, :]).all(1)
    same &= (used_edge[:, :, None] & used_edge[:, None, :]).triu(1)
    hits = {
        "no vertices": nodes == 0,
        "no hyperedges": edges == 0,
        "isolated vertex": (node_here & ~used_node).any(1),
        "empty hyperedge": (edge_here & ~used_edge).any(1),
        "trailing empty hyperedge": (edge_here & ~later_edge).any(1),
        "one-vertex hyperedge": ((pattern > 0).sum(1) == 1).any(1),
        "equal hyperedges": same.flatten(1).any(1),
        "repeated pair": (pattern > 1).flatten(1).any(1),
        "gap in the numbering": ((later_node & ~used_node).any(1))
        | ((later_edge & ~used_edge).any(1)),
        "more hyperedges than vertices": edges > nodes,
        "one vertex": nodes == 1,
    }
    if values is not None and weight is not None:
        for name, value in WEIGHT_KINDS.items():
            graphs = torch.zeros(count, dtype=torch.bool)
            graphs[owner[values == value]] = True
            hits[f"{name} of a pair"] = graphs
            graphs = torch.zeros(count, dtype=torch.bool)
            graphs[edge_graph[weight == value]] = True
            hits[f"{name} of a hyperedge"] = graphs
    return {name: int(found.sum()) for name, found in hits.items()}


def hits_every_class(suite: Suite) -> bool:
    """Whether every degenerate class is there often enough; asked of suites of full size only."""
    return suite.num_graphs < FULL_SIZE or min(suite.classes.values()) >= LEAST_HITS


def mismatches(
    suite: Suite, got: Tensor, expected: Tensor, graph: Tensor, tolerance: float = 1e-9
) -> Tensor:
    """The graphs whose rows differ by more than ``tolerance`` of the graph's largest value.

    Args:
        got: [rows, C] what the layer gave on the union.
        expected: [rows, C] what the definition gave.
        graph: [rows] the graph of every row (``suite.graph`` or ``suite.edge_graph``).
    """
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if not bool(expected.isfinite().all()):
        raise AssertionError("the definition itself is not finite")
    scale = expected.new_zeros(suite.num_graphs)
    scale = scale.scatter_reduce(0, graph, expected.abs().amax(-1), "amax").clamp_min(1.0)
    wrong = ~((got.to(F64) - expected).abs().amax(-1) <= tolerance * scale[graph])
    return graph[wrong].unique()


def inverse(degree: Tensor, power: float = 1.0) -> Tensor:
    """degree ** -power, with 0 where the degree counts as 0."""
    counts = degree > torch.finfo(degree.dtype).tiny
    return torch.where(counts, degree, 1) ** -power * counts
