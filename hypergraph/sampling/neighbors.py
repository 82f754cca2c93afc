"""Sub-hypergraphs around seed vertices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hypergraph.incidence import Hypergraph
from hypergraph.sampling._common import (
    Batches,
    Drawn,
    check_limit,
    check_numbers,
    check_on_cpu,
    draw_pairs,
    places,
    unseen,
)


@dataclass(frozen=True, eq=False)
class NeighborBatch:
    """A sub-hypergraph around seed vertices.

    Attributes:
        hypergraph: over n vertices and m hyperedges, numbered anew; it carries the weights,
            features, groups and directions of the original.
        nodes: [n] int64, the original number of every vertex: the seeds in the order given, then
            hop by hop by number.
        edges: [m] int64, the original number of every hyperedge, in the order they were reached.
        num_seeds: the first vertices, for which outputs are meant.
        nodes_per_hop: how many vertices came with hop 0 (the seeds), 1, 2, ...
    """

    hypergraph: Hypergraph
    nodes: Tensor
    edges: Tensor
    num_seeds: int
    nodes_per_hop: tuple[int, ...]

    @property
    def seeds(self) -> Tensor:
        """[num_seeds] original numbers of the seeds."""
        return self.nodes[: self.num_seeds]

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return replace(
            self,
            hypergraph=self.hypergraph.to(device),
            nodes=self.nodes.to(device),
            edges=self.edges.to(device),
        )


class NeighborSampler:
    """Sub-hypergraphs from which L layers compute the outputs of some seed vertices.

    Hop i takes up to ``num_hyperedges[i]`` hyperedges of every vertex that hop i - 1 reached (hop 0
    starts from the seeds), and up to ``num_members`` members of every hyperedge that is new; drawn
    uniformly, without replacement. A hyperedge also keeps the members through which it was reached.
    Hamilton et al., Inductive Representation Learning on Large Graphs
    (https://arxiv.org/abs/1706.02216, section 3.2) do this for graphs, with replacement.

    With None everywhere the sub-hypergraph is the exact receptive field: L layers compute for the
    seeds what they would compute on the whole hypergraph. Layers that normalise by vertex degrees
    (``HGNNConv``, UniGCN, HNHN) need the degrees of the outermost vertices for that, which is why
    these vertices bring their hyperedges too, though not their hyperedges' other members
    (``boundary``). Some layers see further: ``HyperGCNConv`` and
    ``HypergraphAttentionConv(attention="edge")`` need two hops per layer, ``HWNNConv`` k1 + k2 - 2.
    With fewer hyperedges or members, a mean is an estimate of the mean over all; a sum is one over
    what was drawn, and is not scaled up.

    Drawing is on the CPU and vectorised; a batch costs time in proportion to its pairs, and one
    byte per vertex and hyperedge of the whole. The original features are not looked at: index
    them with ``batch.nodes``.

    Args:
        hypergraph: on the CPU.
        num_hyperedges: how many per vertex, hop by hop; None for all. Its length is L.
        num_members: how many per hyperedge, one for all hops or hop by hop; None for all.
        boundary: let the outermost vertices bring up to ``num_hyperedges[-1]`` hyperedges.

    Raises:
        ValueError, TypeError: an argument is out of range.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.sampling import NeighborSampler
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2], [2, 3], [3, 4]])
        >>> batch = NeighborSampler(h, [None])(torch.tensor([2]))
        >>> batch.nodes, batch.hypergraph.num_edges
        (tensor([2, 1, 3]), 4)
        >>> loader = NeighborSampler(h, [2, 2]).loader(batch_size=2, shuffle=True, seed=0)
        >>> [batch.num_seeds for batch in loader]
        [2, 2, 1]
    """

    def __init__(
        self,
        hypergraph: Hypergraph,
        num_hyperedges: Sequence[int | None],
        num_members: int | None | Sequence[int | None] = None,
        boundary: bool = True,
    ) -> None:
        self.hypergraph = check_on_cpu(hypergraph)
        if num_hyperedges is None or isinstance(num_hyperedges, int):
            raise TypeError(
                "`num_hyperedges` must be a list with one entry per hop, got "
                f"{num_hyperedges!r}; pass [{num_hyperedges!r}] for one hop"
            )
        self.num_hyperedges = tuple(check_limit("num_hyperedges", k) for k in num_hyperedges)
        if not self.num_hyperedges:
            raise ValueError("`num_hyperedges` must have one entry per hop, got none; pass [None]")
        if num_members is None or isinstance(num_members, int):
            num_members = [num_members] * len(self.num_hyperedges)
        self.num_members = tuple(check_limit("num_members", k) for k in num_members)
        if len(self.num_members) != len(self.num_hyperedges):
            raise ValueError(
                f"`num_members` must have one entry per hop, {len(self.num_hyperedges)}, "
                f"got {len(self.num_members)}"
            )
        self.boundary = boundary
        # Sorted here, so that worker processes share the sorting instead of repeating it.
        self._by_node, self._by_edge = hypergraph._by_node, hypergraph._by_edge

    def __call__(
        self, seeds: Tensor | Sequence[int], generator: torch.Generator | None = None
    ) -> NeighborBatch:
        """Draw the sub-hypergraph around some vertices.

        Args:
            seeds: [S] different vertices; a list of ints too, so that the sampler can be the
                ``collate_fn`` of a DataLoader over vertex numbers.
            generator: on the CPU; None for the global one, which a DataLoader seeds differently in
                every worker.

        Raises:
            ValueError, TypeError: a seed is out of range or repeated.
        """
        h = self.hypergraph
        seeds = check_numbers("seeds", seeds, h.num_nodes, "num_nodes")
        node, edge = h.hyperedge_index
        seen_nodes = torch.zeros(h.num_nodes, dtype=torch.bool)
        seen_edges = torch.zeros(h.num_edges, dtype=torch.bool)
        seen_nodes[seeds] = True
        nodes, edges, pairs = [seeds], [], []
        for num_hyperedges, num_members in zip(self.num_hyperedges, self.num_members, strict=True):
            pairs.append(draw_pairs(self._by_node, nodes[-1], num_hyperedges, generator))
            edges.append(unseen(edge[pairs[-1]], seen_edges))
            pairs.append(draw_pairs(self._by_edge, edges[-1], num_members, generator))
            nodes.append(unseen(node[pairs[-1]], seen_nodes))
        if self.boundary:
            pairs.append(draw_pairs(self._by_node, nodes[-1], self.num_hyperedges[-1], generator))
            edges.append(unseen(edge[pairs[-1]], seen_edges))
        all_nodes, all_edges = torch.cat(nodes), torch.cat(edges)
        chosen = torch.cat(pairs).unique()  # in the order of the original
        index = torch.stack([places(node[chosen], all_nodes), places(edge[chosen], all_edges)])
        sub = h._rebuilt(
            index,
            all_nodes.shape[0],
            all_edges.shape[0],
            node=lambda field: field[all_nodes],
            edge=lambda field: field[all_edges],
            pair=lambda field: field[chosen],
        )
        counts = tuple(len(reached) for reached in nodes)
        return NeighborBatch(sub, all_nodes, all_edges, seeds.shape[0], counts)

    def loader(
        self,
        nodes: Tensor | Sequence[int] | None = None,
        batch_size: int = 256,
        shuffle: bool = False,
        seed: int | torch.Generator | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> DataLoader[NeighborBatch]:
        """A DataLoader over the vertices, one ``NeighborBatch`` per step.

        Every batch is drawn with a seed of its own, so that what comes does not depend on the
        number of workers.

        Args:
            nodes: seeds, as numbers or a bool mask [N]; default all vertices.
            batch_size: seeds per batch.
            shuffle: in another order each time.
            seed: an int or a generator on the CPU, which fixes all epochs; None for the global one.
            drop_last: leave out a last batch that is smaller.
            num_workers: processes that draw batches ahead.
            kwargs: further arguments of ``torch.utils.data.DataLoader``.
        """
        count = self.hypergraph.num_nodes
        numbers = (
            torch.arange(count) if nodes is None else check_numbers("nodes", nodes, count, "N")
        )
        batches = Batches(numbers, batch_size, shuffle, seed, drop_last)
        return DataLoader(
            Drawn(self), batch_size=None, sampler=batches, num_workers=num_workers, **kwargs
        )

    def __repr__(self) -> str:
        return (
            f"NeighborSampler({self.hypergraph}, num_hyperedges={list(self.num_hyperedges)}, "
            f"num_members={list(self.num_members)}, boundary={self.boundary})"
        )
