"""Several kinds of hyperedges over the same vertices."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hypergraph._numerics import inverse_power
from hypergraph.incidence._composite import Composite, check_parts
from hypergraph.incidence.base import Incidence, TensorMap
from hypergraph.incidence.pair_list import (
    PairList,
    joined_pairs,
    joined_weights,
    renumbered,
    with_split_weights,
)
from hypergraph.incidence.streamed import Streamed
from hypergraph.incidence.weighted_sum import WeightedSum, both_degrees


class Concat(Composite):
    """The hyperedges of all parts side by side: ``H = [H_1, H_2, ...]``.

    Every part keeps its form and its hyperedge weights. The result is permutation-equivariant
    whenever the parts are, and the parts may have different numbers of hyperedges.

    Args:
        parts: operators with equal numbers of vertices and samples.
        hyperedge_weight: [total] or [B, total]; replaces the weights of the parts.

    Raises:
        ValueError, TypeError: the parts do not fit together.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import Concat, Dense
        >>> Concat([Dense(torch.ones(2, 1)), Dense(torch.eye(2))]).to_dense()
        tensor([[1., 1., 0.],
                [1., 0., 1.]])
    """

    def __init__(self, parts: Sequence[Incidence], hyperedge_weight: Tensor | None = None) -> None:
        self.parts = check_parts(parts, same_edges=False)
        self._sizes = [part.num_edges for part in self.parts]
        first = self.parts[0]
        super().__init__(first.num_nodes, sum(self._sizes), first.batch_size, None)
        if hyperedge_weight is not None:
            self.hyperedge_weight = self._checked_weight(hyperedge_weight)

    @property
    def hyperedge_weight(self) -> Tensor | None:
        """The weights of the parts as they are now, [total] or [B, total]; None for ones."""
        return joined_weights(self.parts)

    @hyperedge_weight.setter
    def hyperedge_weight(self, weight: Tensor | None) -> None:
        self.parts = with_split_weights(self.parts, weight)

    def to_dense(self) -> Tensor:
        """H, [N, total] or [B, N, total]."""
        return torch.cat([part.to_dense() for part in self.parts], -1)

    def v2e_with_degree(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``H^T x`` and the hyperedge degrees."""
        pairs = [part.v2e_with_degree(x) for part in self.parts]
        return torch.cat([out for out, _ in pairs], -2), torch.cat([d for _, d in pairs], -1)

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z``; streamed parts go there and back at once."""
        z = self._check_product("z", "num_nodes", self.num_nodes, z)
        z = z if self.dtype is None else z.to(torch.promote_types(z.dtype, self.dtype))
        nodes, edges = zip(*(both_degrees(part, z.dtype) for part in self.parts), strict=True)
        root = inverse_power(_total(nodes), -0.5).unsqueeze(-1)
        u = z * root
        terms = [_smoothed(*pair, u) for pair in zip(self.parts, edges, strict=True)]
        return _total(terms) * root

    def with_members(self) -> PairList:
        """The pairs of all parts, if each part has them."""
        firsts = [sum(self._sizes[:part]) for part in range(len(self._sizes))]
        lists = [
            renumbered(part, self.num_edges, first)
            for part, first in zip(self.parts, firsts, strict=True)
        ]
        pairs = joined_pairs(lists, self.dtype, self.device)
        return PairList(
            pairs, self.num_nodes, self.num_edges, self.batch_size, self.hyperedge_weight
        )._like(self)

    def e2v_parts(self, y: Tensor) -> list[Tensor]:
        """The terms whose sum is ``e2v(y)``, one per part."""
        pieces = y.split(self._sizes, -2)
        return [part.e2v(piece) for part, piece in zip(self.parts, pieces, strict=True)]

    def with_hyperedge_weight(self, hyperedge_weight: Tensor | None) -> Self:
        """The same hyperedges with other weights; None for ones."""
        return type(self)(
            [part.with_hyperedge_weight(None) for part in self.parts], hyperedge_weight
        )._like(self)

    def _v2e(self, x: Tensor) -> Tensor:
        return torch.cat([part.v2e(x) for part in self.parts], -2)

    def _node_degree(self, weight: Tensor) -> Tensor:
        total = self.parts[0].node_degree(weight.dtype)
        for part in self.parts[1:]:
            total = total + part.node_degree(weight.dtype)
        return total

    def _edge_degree(self, ones: Tensor) -> Tensor:
        return torch.cat([part.edge_degree(ones.dtype) for part in self.parts], -1)

    def _map(self, function: TensorMap) -> Self:
        return type(self)([part._mapped(function) for part in self.parts])


def _smoothed(part: Incidence, edge_degree: Tensor, u: Tensor) -> Tensor:
    """``H W D_e^-1 H^T u`` of one part."""
    if isinstance(part, WeightedSum):
        return part.smoothed(u, edge_degree)
    scale = part.weight(u.dtype) * inverse_power(edge_degree, -1.0)
    if isinstance(part, Streamed) and (part.batch_size is not None or u.dim() == 2):
        return part.there_and_back(u, scale)[0]
    return part.e2v(part.v2e(u) * scale.unsqueeze(-1))


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
