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
from hypergraph._numerics import inverse_power, ordinary_tensors
from hypergraph.incidence._propagate import propagate, scales, takes_kernel
from hypergraph.incidence.base import MemberIncidence, Members, TensorMap
from hypergraph_kernels import (
    Segments,
    gather_reduce,
    gather_reduce_transposed,
    table_segments,
    transpose_table,
)


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
        self._fill(index, num_nodes, weights, mask, hyperedge_weight)

    @classmethod
    def _checked(
        cls, index: Tensor, num_nodes: int, weights: Tensor | None, mask: Tensor | None
    ) -> Self:
        """A table of values that are known to fit: a search need not be read through again."""
        table = cls.__new__(cls)
        table._fill(index, num_nodes, weights, mask, None)
        return table

    def _fill(
        self,
        index: Tensor,
        num_nodes: int,
        weights: Tensor | None,
        mask: Tensor | None,
        hyperedge_weight: Tensor | None,
    ) -> None:
        self.index = index
        self._numbered: Tensor | None = None
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
        hyperedge = torch.arange(self._rows.shape[0], device=self.device)
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

    def _grouped(self, row: int) -> Segments:
        if self.mask is not None and is_eager():  # only then are pairs left out
            return super()._grouped(row)
        return self._by_edge if row else self._by_node

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z``: one kernel where W and H are constants."""
        if not takes_kernel(self):
            return super().hgnn_propagate(z)
        return self._product("z", "num_nodes", self.num_nodes, z, self._propagate)

    def _propagate(self, z: Tensor) -> Tensor:
        edge_scale, node_scale = self._keep(("scales", z.dtype), lambda: self._scales(z.dtype))
        values = self._keep(("values", z.dtype), lambda: self._values(z.dtype))
        return propagate(self, z, self._rows, self._by_node, edge_scale, node_scale, values)

    def _scales(self, dtype: torch.dtype) -> tuple[Tensor | float, Tensor]:
        width = self.index.shape[-1]
        if width and self._is_plain and self.hyperedge_weight is None:
            return 1 / width, inverse_power(self.node_degree(dtype), -0.5).flatten()
        return scales(self, dtype)

    def _v2e(self, x: Tensor) -> Tensor:
        rows, weights = x.flatten(0, -2), self._slots(x.dtype)
        needed = x.requires_grad or (weights is not None and weights.requires_grad)
        transposed = self._by_node if needed and torch.is_grad_enabled() else None
        out = gather_reduce(
            rows, self._rows, weights, transposed, implementation=self.implementation
        )
        return out.view(*x.shape[:-2], self.num_edges, x.shape[-1])

    def _e2v(self, y: Tensor) -> Tensor:
        rows, weights = y.flatten(0, -2), self._slots(y.dtype)
        samples = 1 if self.batch_size is None else self.batch_size
        transposed = None if self.implementation == "reference" else self._by_node
        out = gather_reduce_transposed(
            rows,
            self._rows,
            samples * self.num_nodes,
            weights,
            transposed,
            implementation=self.implementation,
        )
        return out.view(*y.shape[:-2], self.num_nodes, y.shape[-1])

    def _node_degree(self, weight: Tensor) -> Tensor:
        if self._is_plain and self.hyperedge_weight is None:
            counts = self._by_node.offsets.diff()
            return counts.to(weight.dtype).view(*weight.shape[:-1], self.num_nodes)
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

    def _slots(self, dtype: torch.dtype) -> Tensor | None:
        """[B * M, K] incidence values."""
        values = self._values(dtype)
        return None if values is None else values.view(self._rows.shape)

    @property
    def _is_plain(self) -> bool:
        """Whether every slot counts once."""
        return self.weights is None and self.mask is None

    @property
    def _flat_index(self) -> Tensor:
        """[B * M * K] members, numbered through the samples."""
        return self._rows.flatten()

    @property
    def _rows(self) -> Tensor:
        """[B * M, K] members, numbered through the samples."""
        if self.batch_size is None:
            return self.index
        if self._numbered is not None:
            return self._numbered
        with ordinary_tensors():
            first = torch.arange(self.batch_size, device=self.device) * self.num_nodes
            rows = (self.index + first[:, None, None]).flatten(0, 1)
        if is_eager():  # a traced tensor must not be kept
            self._numbered = rows
        return rows

    @property
    def _by_edge(self) -> Segments:
        with ordinary_tensors():
            return table_segments(self._rows)

    @property
    def _by_node(self) -> Segments:
        if self._node_segments is not None:
            return self._node_segments
        samples = 1 if self.batch_size is None else self.batch_size
        with ordinary_tensors():
            segments = transpose_table(
                self._rows, samples * self.num_nodes, implementation=self.implementation
            )
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
