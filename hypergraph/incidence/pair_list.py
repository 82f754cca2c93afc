"""Members of a composed operator, as one list of pairs."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hypergraph.incidence._pairs import reduce_pairs
from hypergraph.incidence.base import Incidence, MemberIncidence, Members, TensorMap


class PairList(MemberIncidence):
    """The pairs of an operator that keeps its incidence in another form; see ``with_members``.

    Args:
        pairs: node [nnz], hyperedge [nnz], numbered through the samples, and value [nnz] or None.
        num_nodes: vertices (per sample).
        num_edges: hyperedges (per sample).
        batch_size: samples, or None for a single hypergraph.
        hyperedge_weight: [num_edges] or [batch_size, num_edges]; default ones.
    """

    def __init__(
        self,
        pairs: Members,
        num_nodes: int,
        num_edges: int,
        batch_size: int | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> None:
        self.pairs = pairs
        super().__init__(num_nodes, num_edges, batch_size, hyperedge_weight)

    @property
    def device(self) -> torch.device:
        """Where the pairs live."""
        return self.pairs.node.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the values; None without."""
        return None if self.pairs.value is None else self.pairs.value.dtype

    def members(self) -> Members:
        """List the pairs."""
        return self.pairs

    def _v2e(self, x: Tensor) -> Tensor:
        return self.reduce_to_edges(self.gather_nodes(x))

    def _e2v(self, y: Tensor) -> Tensor:
        messages, size = self.gather_edges(y), self.num_nodes
        if self.batch_size is None:
            return reduce_pairs(messages, self.pairs.node, size, "sum", self.pairs.value)
        samples = self.batch_size
        out = reduce_pairs(messages, self.pairs.node, samples * size, "sum", self.pairs.value)
        return out.unflatten(0, (samples, size))

    def _map(self, function: TensorMap) -> Self:
        node, hyperedge, value = self.pairs
        weight = self.hyperedge_weight
        return type(self)(
            Members(
                function(node), function(hyperedge), None if value is None else function(value)
            ),
            self.num_nodes,
            self.num_edges,
            self.batch_size,
            None if weight is None else function(weight),
        )

    def _details(self) -> str:
        return f", nnz={self.pairs.node.shape[0]}"


def joined_pairs(
    lists: Sequence[Members], dtype: torch.dtype | None, device: torch.device
) -> Members:
    """One list of pairs; values are ones where a list has none and another has some."""
    value = None
    if dtype is not None:
        value = torch.cat(
            [
                torch.ones(p.node.shape[0], dtype=dtype, device=device)
                if p.value is None
                else p.value.to(dtype)
                for p in lists
            ]
        )
    return Members(
        torch.cat([p.node for p in lists]), torch.cat([p.hyperedge for p in lists]), value
    )


def joined_weights(parts: Sequence[Incidence]) -> Tensor | None:
    """The hyperedge weights of the parts side by side; None if all are ones."""
    given = [part.hyperedge_weight for part in parts]
    if all(weight is None for weight in given):
        return None
    pairs = zip(parts, given, strict=True)
    return torch.cat([part.weight(None if w is None else w.dtype) for part, w in pairs], -1)


def with_split_weights(parts: Sequence[Incidence], weight: Tensor | None) -> tuple[Incidence, ...]:
    """The parts with their shares of weights [..., total]; None for ones."""
    if weight is None:
        return tuple(part.with_hyperedge_weight(None) for part in parts)
    pieces = weight.split([part.num_edges for part in parts], -1)
    return tuple(part.with_hyperedge_weight(w) for part, w in zip(parts, pieces, strict=True))


def renumbered(part: Incidence, num_edges: int, first: int) -> Members:
    """A part's pairs with its hyperedges as columns ``first`` onwards of ``num_edges``."""
    node, hyperedge, value = part.with_members().members()
    if part.batch_size is None:
        return Members(node, hyperedge + first, value)
    sample = hyperedge // max(part.num_edges, 1)
    return Members(node, hyperedge + sample * (num_edges - part.num_edges) + first, value)
