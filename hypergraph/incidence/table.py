"""Incidence as a table: K members for every hyperedge."""

from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import (
    check_device,
    check_float,
    check_index_range,
    check_integer,
    check_non_negative,
    check_positive_int,
    is_eager,
)
from hypergraph._numerics import ordinary_tensors
from hypergraph.incidence.base import MemberIncidence, Members, TensorMap
from hypergraph_kernels import Segments, incidence_spmm, segments_from


class NeighborTable(MemberIncidence):
    """Hyperedges with at most K members each, as a table of vertex indices.

    ``h_ve = sum over slots j with index[e, j] = v of weights[e, j]``

    One convolution costs O(M K C) and stores no [M, K, C] tensor.

    Args:
        index: [M, K] or [B, M, K] int64, vertices of every hyperedge.
        num_nodes: vertices (per sample); default the largest index + 1.
        weights: same shape as index, non-negative incidence values; default ones.
        mask: same shape, bool; False leaves a slot out (it must still hold a valid index).
        hyperedge_weight: [M] or [B, M], the diagonal of W; default ones.

    Raises:
        ValueError, TypeError: an index is out of range, a shape or dtype does not fit, or a
            weight is negative.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import NeighborTable
        >>> table = NeighborTable(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> table.to_dense().T
        tensor([[1., 1., 0., 0.],
                [0., 1., 1., 0.]])
    """

    def __init__(
        self,
        index: Tensor,
        num_nodes: int | None = None,
        weights: Tensor | None = None,
        mask: Tensor | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> None:
        index = check_integer("index", index)
        if index.dim() not in (2, 3):
            raise ValueError(
                f"`index` must have shape [M, K] or [B, M, K], got {list(index.shape)}"
            )
        if num_nodes is None:
            num_nodes = int(index.max()) + 1 if index.numel() else 0
        elif isinstance(num_nodes, bool) or num_nodes != 0 or not isinstance(num_nodes, int):
            check_positive_int("num_nodes", num_nodes)
        check_index_range("index", index, num_nodes, "num_nodes")
        if weights is not None:
            weights = check_float("weights", weights)
            check_device("weights", weights, index.device, "index")
            if weights.shape != index.shape:
                raise ValueError(
                    f"`weights` must have the shape of `index`, {list(index.shape)}, "
                    f"got {list(weights.shape)}"
                )
            check_non_negative("weights", weights)
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise TypeError(f"`mask` must be bool, got {kind}; pass a tensor mask != 0")
            check_device("mask", mask, index.device, "index")
            if mask.shape != index.shape:
                raise ValueError(
                    f"`mask` must have the shape of `index`, {list(index.shape)}, "
                    f"got {list(mask.shape)}"
                )
        self.index = index
        self._edge_segments: Segments | None = None
        self._node_segments: Segments | None = None
        self.weights = weights
        self.mask = mask
        batch_size = index.shape[0] if index.dim() == 3 else None
        super().__init__(num_nodes, index.shape[-2], batch_size, hyperedge_weight)

    @property
    def device(self) -> torch.device:
        """Where the table lives."""
        return self.index.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the weights; None without weights."""
        return None if self.weights is None else self.weights.dtype

    def members(self) -> Members:
        """List the pairs that the mask keeps, hyperedge by hyperedge.

        While torch.compile traces, the others stay in the list with the value 0: the number of
        pairs must not depend on values.
        """
        hyperedge = torch.arange(self._num_rows, device=self.device)
        hyperedge = hyperedge.repeat_interleave(self.index.shape[-1])
        node, value = self._flat_index, None
        if self.weights is not None:
            value = self.weights.flatten()
        if self.mask is not None and not is_eager():
            value = self._values(self.dtype or torch.get_default_dtype())
        elif self.mask is not None:
            keep = self.mask.flatten()
            node, hyperedge = node[keep], hyperedge[keep]
            value = None if value is None else value[keep]
        return Members(node, hyperedge, value)

    def _v2e(self, x: Tensor) -> Tensor:
        out = incidence_spmm(
            x.reshape(-1, x.shape[-1]), self._values(x.dtype), self._by_edge, self._by_node
        )
        return out.view(*x.shape[:-2], self.num_edges, x.shape[-1])

    def _e2v(self, y: Tensor) -> Tensor:
        out = incidence_spmm(
            y.reshape(-1, y.shape[-1]), self._values(y.dtype), self._by_node, self._by_edge
        )
        return out.view(*y.shape[:-2], self.num_nodes, y.shape[-1])

    def _node_degree(self, weight: Tensor) -> Tensor:
        pairs = weight.unsqueeze(-1).expand(self.index.shape)
        values = self._values(weight.dtype)
        if values is not None:
            pairs = pairs * values.view(self.index.shape)
        samples = 1 if self.batch_size is None else self.batch_size
        degree = weight.new_zeros(samples * self.num_nodes)
        degree = degree.index_add(0, self._flat_index, pairs.flatten())
        return degree.view(*weight.shape[:-1], self.num_nodes)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        values = self._values(ones.dtype)
        if values is None:
            return ones.new_full(self.index.shape[:-1], self.index.shape[-1])
        return values.view(self.index.shape).sum(-1)

    def _values(self, dtype: torch.dtype) -> Tensor | None:
        """[B * M * K] incidence values, 0 where the mask leaves a slot out."""
        if self.mask is None:
            return None if self.weights is None else self.weights.to(dtype).flatten()
        if self.weights is None:
            return self.mask.to(dtype).flatten()
        return torch.where(self.mask, self.weights.to(dtype), 0).flatten()

    @property
    def _num_rows(self) -> int:
        return self.num_edges * (1 if self.batch_size is None else self.batch_size)

    @property
    def _flat_index(self) -> Tensor:
        """[B * M * K] members, numbered through the samples."""
        return self._by_edge.columns

    @property
    def _by_edge(self) -> Segments:
        if self._edge_segments is not None:
            return self._edge_segments
        with ordinary_tensors():
            index, width = self.index, self.index.shape[-1]
            if self.batch_size is not None:
                first = torch.arange(self.batch_size, device=self.device) * self.num_nodes
                index = index + first[:, None, None]
            offsets = torch.arange(self._num_rows + 1, device=self.device) * width
            segments = Segments(index.flatten(), offsets, None)
        if is_eager():  # a traced tensor must not be kept
            self._edge_segments = segments
        return segments

    @property
    def _by_node(self) -> Segments:
        if self._node_segments is not None:
            return self._node_segments
        samples = 1 if self.batch_size is None else self.batch_size
        with ordinary_tensors():
            slots = torch.arange(self._flat_index.shape[0], device=self.device)
            hyperedge = slots // max(self.index.shape[-1], 1)
            segments = segments_from(self._flat_index, hyperedge, samples * self.num_nodes)
        if is_eager():
            self._node_segments = segments
        return segments

    def _map(self, function: TensorMap) -> Self:
        return type(self)(
            function(self.index),
            self.num_nodes,
            None if self.weights is None else function(self.weights),
            None if self.mask is None else function(self.mask),
            None if self.hyperedge_weight is None else function(self.hyperedge_weight),
        )

    def _details(self) -> str:
        extra = ", weighted members" if self.weights is not None else ""
        return f", width={self.index.shape[-1]}{extra}{', masked' if self.mask is not None else ''}"
