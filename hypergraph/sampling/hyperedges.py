"""Batches of hyperedges with negatives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hypergraph._checks import check_choice, check_non_negative_number
from hypergraph.incidence import Hypergraph
from hypergraph.sampling._common import Batches, Drawn, check_numbers, check_on_cpu, draw_pairs
from hypergraph.sampling.negatives import NegativeDraw, Negatives


@dataclass(frozen=True, eq=False)
class HyperedgeBatch:
    """Hyperedges that exist and hyperedges that do not, to be told apart.

    Attributes:
        candidates: the hyperedges, those that exist first, over the vertices in ``nodes``; members
            are distinct, weights and features are left out.
        labels: [P + Q] float, 1 for the P that exist and 0 for the Q negatives.
        nodes: [n] int64, the original numbers of the candidates' members, ascending: seeds for a
            ``NeighborSampler``, or rows to pick from the outputs for all vertices.
        edges: [P] int64, the original numbers of the hyperedges that exist.
    """

    candidates: Hypergraph
    labels: Tensor
    nodes: Tensor
    edges: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return replace(
            self,
            candidates=self.candidates.to(device),
            labels=self.labels.to(device),
            nodes=self.nodes.to(device),
            edges=self.edges.to(device),
        )


class HyperedgeSampler:
    """Batches of hyperedges with negatives, for hyperedge prediction.

    See ``negative_hyperedges`` for the kinds. A model that passes messages over the very
    hyperedges it is asked about learns to look them up: take them out first, with
    ``hypergraph.drop_edges(batch.edges)`` or by holding some out.

    Args:
        hypergraph: on the CPU.
        negatives: ``"sized"``, ``"motif"`` or ``"clique"``. The first two have the sizes of the
            batch' hyperedges, so that size alone tells nothing.
        ratio: negatives per hyperedge; ``round(P ratio)`` in a batch of P.
        known: hyperedges that must not come as negatives; default those of ``hypergraph``.

    Raises:
        ValueError, TypeError: an argument is out of range.

    Example:
        >>> from hypergraph.generators import uniform_hypergraph
        >>> from hypergraph.sampling import HyperedgeSampler
        >>> h = uniform_hypergraph(30, 3, num_edges=20, seed=0)
        >>> batch = next(iter(HyperedgeSampler(h).loader(batch_size=8, seed=0)))
        >>> batch.labels.sum(), batch.candidates.num_edges
        (tensor(8.), 16)
    """

    def __init__(
        self,
        hypergraph: Hypergraph,
        negatives: Negatives = "sized",
        ratio: float = 1.0,
        known: Hypergraph | None = None,
    ) -> None:
        self.hypergraph = check_on_cpu(hypergraph)
        check_choice("negatives", negatives, get_args(Negatives))
        check_non_negative_number("ratio", ratio)
        self.negatives, self.ratio = negatives, ratio
        self._draw = NegativeDraw(hypergraph, negatives, known)

    def __call__(
        self, edges: Tensor | Sequence[int], generator: torch.Generator | None = None
    ) -> HyperedgeBatch:
        """Put negatives beside some hyperedges.

        Args:
            edges: [P] different hyperedges, which should have at least 2 members.
            generator: on the CPU; None for the global one.

        Raises:
            ValueError, TypeError: a number is out of range or repeated, or no negatives are found.
        """
        edges = check_numbers("edges", edges, self.hypergraph.num_edges, "num_edges")
        sets = self._draw.sets
        count = round(edges.shape[0] * self.ratio)
        sizes = None
        if self.negatives != "clique" and count:
            sizes = sets.size[edges].repeat(-(-count // edges.shape[0]))[:count].clamp_min(2)
        negative = self._draw(count, sizes, generator)
        positions = draw_pairs(sets.segments, edges, None, None)
        place = torch.arange(edges.shape[0]).repeat_interleave(sets.size[edges])
        rows, columns = (negative < self.hypergraph.num_nodes).nonzero(as_tuple=True)
        node = torch.cat([sets.segments.columns[positions], negative[rows, columns]])
        nodes, local = node.unique(return_inverse=True)
        index = torch.stack([local, torch.cat([place, edges.shape[0] + rows])])
        candidates = Hypergraph(index, nodes.shape[0], edges.shape[0] + count)
        labels = (torch.arange(edges.shape[0] + count) < edges.shape[0]).float()
        return HyperedgeBatch(candidates, labels, nodes, edges)

    def loader(
        self,
        edges: Tensor | Sequence[int] | None = None,
        batch_size: int = 256,
        shuffle: bool = False,
        seed: int | torch.Generator | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> DataLoader[HyperedgeBatch]:
        """A DataLoader over the hyperedges, one ``HyperedgeBatch`` per step.

        Args:
            edges: numbers or a bool mask [M]; default all with at least 2 members.
            batch_size: hyperedges per batch, to which the negatives are added.
            shuffle: in another order each time.
            seed: an int or a generator on the CPU, which fixes all epochs; None for the global one.
            drop_last: leave out a last batch that is smaller.
            num_workers: processes that draw batches ahead.
            kwargs: further arguments of ``torch.utils.data.DataLoader``.
        """
        if edges is None:
            edges = self._draw.sets.size >= 2
        numbers = check_numbers("edges", edges, self.hypergraph.num_edges, "M")
        batches = Batches(numbers, batch_size, shuffle, seed, drop_last)
        return DataLoader(
            Drawn(self), batch_size=None, sampler=batches, num_workers=num_workers, **kwargs
        )

    def __repr__(self) -> str:
        return (
            f"HyperedgeSampler({self.hypergraph}, negatives={self.negatives!r}, ratio={self.ratio})"
        )
