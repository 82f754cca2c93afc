"""Incidence as a stored matrix."""

from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import check_float, check_non_negative
from hypergraph._numerics import without_autocast
from hypergraph.incidence.base import Incidence, Members, TensorMap
from hypergraph.incidence.pair_list import PairList


class Dense(Incidence):
    """A dense incidence matrix: for small hypergraphs, and the oracle of every other operator.

    Args:
        matrix: [N, M] or [B, N, M], non-negative.
        hyperedge_weight: [M] or [B, M]; default ones.

    Raises:
        ValueError, TypeError: the shape or dtype does not fit, or an entry is negative.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import Dense
        >>> Dense(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).edge_degree()
        tensor([2., 1.])
    """

    def __init__(self, matrix: Tensor, hyperedge_weight: Tensor | None = None) -> None:
        matrix = check_float("matrix", matrix)
        if matrix.dim() not in (2, 3):
            raise ValueError(
                f"`matrix` must have shape [N, M] or [B, N, M], got {list(matrix.shape)}"
            )
        check_non_negative("matrix", matrix)
        self.matrix = matrix
        batch_size = matrix.shape[0] if matrix.dim() == 3 else None
        super().__init__(matrix.shape[-2], matrix.shape[-1], batch_size, hyperedge_weight)

    @property
    def device(self) -> torch.device:
        """Where the matrix lives."""
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix."""
        return self.matrix.dtype

    def to_dense(self) -> Tensor:
        """The matrix itself."""
        return self.matrix

    def with_members(self) -> PairList:
        """The entries that are not 0; gradients flow to them."""
        *sample, node, hyperedge = self.matrix.nonzero(as_tuple=True)
        value = self.matrix[(*sample, node, hyperedge)]
        if sample:
            node = node + sample[0] * self.num_nodes
            hyperedge = hyperedge + sample[0] * self.num_edges
        pairs = Members(node, hyperedge, value)
        return PairList(
            pairs, self.num_nodes, self.num_edges, self.batch_size, self.hyperedge_weight
        )._like(self)

    def _v2e(self, x: Tensor) -> Tensor:
        with without_autocast(x.device):
            return self.matrix.to(x.dtype).mT @ x

    def _e2v(self, y: Tensor) -> Tensor:
        with without_autocast(y.device):
            return self.matrix.to(y.dtype) @ y

    def _map(self, function: TensorMap) -> Self:
        weight = self.hyperedge_weight
        return type(self)(function(self.matrix), None if weight is None else function(weight))
