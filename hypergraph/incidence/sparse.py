"""Incidence as a list of (vertex, hyperedge) pairs."""

import operator
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import (
    check_float,
    check_index_range,
    check_integer,
    check_non_negative,
    is_eager,
)
from hypergraph._numerics import ordinary_tensors
from hypergraph.incidence.base import MemberIncidence, Members, TensorMap
from hypergraph_kernels import Segments, segment_matmul, segments_from


class Hypergraph(MemberIncidence):
    """A sparse hypergraph, kept as pairs; sorted by hyperedge and by vertex when first needed.

    ``h_ve = sum over pairs (v, e) of incidence_weight``: a repeated pair counts twice. Vertices
    without a hyperedge, hyperedges without a vertex and weights of zero are all allowed.

    Args:
        hyperedge_index: [2, nnz] int64, row 0 vertices and row 1 hyperedges.
        num_nodes: default the largest vertex + 1. Give it where trailing vertices are isolated.
        num_edges: default the largest hyperedge + 1. Give it where trailing hyperedges are empty.
        hyperedge_weight: [num_edges], the diagonal of W, >= 0; default ones.
        incidence_weight: [nnz], values of the pairs, >= 0; default ones.

    Raises:
        ValueError, TypeError: an index is out of range, a shape or dtype does not fit, or a weight
            is negative.

    Example:
        >>> from hypergraph import Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=5)
        >>> h
        Hypergraph(num_nodes=5, num_edges=2, nnz=5, device='cpu')
        >>> h.node_degree()
        tensor([1., 1., 2., 1., 0.])
    """

    def __init__(
        self,
        hyperedge_index: Tensor,
        num_nodes: int | None = None,
        num_edges: int | None = None,
        hyperedge_weight: Tensor | None = None,
        incidence_weight: Tensor | None = None,
    ) -> None:
        index = check_integer("hyperedge_index", hyperedge_index)
        if index.dim() != 2 or index.shape[0] != 2:
            raise ValueError(
                f"`hyperedge_index` must have shape [2, nnz], got {list(index.shape)}; "
                "pass the incidence as vertex and hyperedge rows"
            )
        num_nodes = _size("num_nodes", num_nodes, index[0])
        num_edges = _size("num_edges", num_edges, index[1])
        check_index_range("hyperedge_index[0]", index[0], num_nodes, "num_nodes")
        check_index_range("hyperedge_index[1]", index[1], num_edges, "num_edges")
        if incidence_weight is not None:
            incidence_weight = check_float("incidence_weight", incidence_weight)
            if incidence_weight.shape != index.shape[1:]:
                raise ValueError(
                    f"`incidence_weight` must have shape [{index.shape[1]}], one value per pair, "
                    f"got {list(incidence_weight.shape)}"
                )
            check_non_negative("incidence_weight", incidence_weight)
        self.hyperedge_index = index
        self._edge_segments: Segments | None = None
        self._node_segments: Segments | None = None
        self.incidence_weight = incidence_weight
        super().__init__(num_nodes, num_edges, None, hyperedge_weight)

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[Iterable[int]],
        num_nodes: int | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> Self:
        """Build from a list of hyperedges, each a list of vertices.

        Args:
            edges: the vertices of every hyperedge; an empty one is allowed.
            num_nodes: default the largest vertex + 1.
            hyperedge_weight: [num_edges]; default ones.

        Example:
            >>> Hypergraph.from_edges([[0, 1], []], num_nodes=2).edge_degree()
            tensor([2., 0.])
        """
        lists = [list(edge) for edge in edges]
        nodes = [_vertex(node) for edge in lists for node in edge]
        numbers = [number for number, edge in enumerate(lists) for _ in edge]
        index = torch.tensor([nodes, numbers], dtype=torch.long).view(2, -1)
        return cls(index, num_nodes, len(lists), hyperedge_weight)

    @classmethod
    def from_dense(cls, matrix: Tensor, hyperedge_weight: Tensor | None = None) -> Self:
        """Build from an incidence matrix; its non-zero entries become weighted pairs.

        Args:
            matrix: [num_nodes, num_edges], non-negative; bool and integer matrices, and floating
                ones with no entry but 0 and 1, give a hypergraph without incidence weights.
            hyperedge_weight: [num_edges]; default ones.
        """
        if not isinstance(matrix, Tensor) or matrix.dim() != 2:
            shape = list(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
            raise ValueError(f"`matrix` must be a tensor [num_nodes, num_edges], got {shape}")
        if matrix.dtype != torch.bool:
            check_non_negative("matrix", matrix)
        nodes, edges = matrix.nonzero(as_tuple=True)
        values: Tensor | None = matrix[nodes, edges]
        assert values is not None
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        if bool((values == 1).all()) and not values.requires_grad:
            values = None
        num_nodes, num_edges = matrix.shape
        index = torch.stack([nodes, edges])
        return cls(index, num_nodes, num_edges, hyperedge_weight, values)

    @classmethod
    def batch(cls, hypergraphs: Sequence["Hypergraph"]) -> Self:
        """Put hypergraphs side by side as one block-diagonal hypergraph.

        Args:
            hypergraphs: at least one; vertices and hyperedges are numbered on.

        Returns:
            One hypergraph; weights given for some are ones for the others.
        """
        if not hypergraphs:
            raise ValueError("`hypergraphs` must hold at least one hypergraph, got none")
        pieces, nodes, edges = [], 0, 0
        for graph in hypergraphs:
            shift = torch.tensor([[nodes], [edges]], device=graph.device)
            pieces.append(graph.hyperedge_index + shift)
            nodes, edges = nodes + graph.num_nodes, edges + graph.num_edges
        weight = value = None
        if any(graph.hyperedge_weight is not None for graph in hypergraphs):
            weight = torch.cat([graph.weight() for graph in hypergraphs])
        if any(graph.incidence_weight is not None for graph in hypergraphs):
            value = torch.cat([graph._pair_values() for graph in hypergraphs])
        return cls(torch.cat(pieces, 1), nodes, edges, weight, value)

    @property
    def device(self) -> torch.device:
        """Where the pairs live."""
        return self.hyperedge_index.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the incidence weights; None without."""
        return None if self.incidence_weight is None else self.incidence_weight.dtype

    def members(self) -> Members:
        """List the pairs in the order they were given."""
        return Members(self.hyperedge_index[0], self.hyperedge_index[1], self.incidence_weight)

    def _v2e(self, x: Tensor) -> Tensor:
        return segment_matmul(x, self._values(x.dtype), self._by_edge, self._by_node)

    def _e2v(self, y: Tensor) -> Tensor:
        return segment_matmul(y, self._values(y.dtype), self._by_node, self._by_edge)

    def _node_degree(self, weight: Tensor) -> Tensor:
        node, edge = self.hyperedge_index
        pairs = weight[edge]
        values = self._values(weight.dtype)
        if values is not None:
            pairs = pairs * values
        return weight.new_zeros(self.num_nodes).index_add(0, node, pairs)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        values = self._values(ones.dtype)
        if values is None:
            values = ones.new_ones(self.hyperedge_index.shape[1])
        return ones.new_zeros(self.num_edges).index_add(0, self.hyperedge_index[1], values)

    def _values(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.incidence_weight is None else self.incidence_weight.to(dtype)

    def _pair_values(self) -> Tensor:
        if self.incidence_weight is not None:
            return self.incidence_weight
        return torch.ones(self.hyperedge_index.shape[1], device=self.device)

    @property
    def _by_edge(self) -> Segments:
        node, edge = self.hyperedge_index
        if not is_eager() and self._edge_segments is None:  # a traced tensor must not be kept
            return segments_from(edge, node, self.num_edges)
        if self._edge_segments is None:
            with ordinary_tensors():
                self._edge_segments = segments_from(edge, node, self.num_edges)
        return self._edge_segments

    @property
    def _by_node(self) -> Segments:
        node, edge = self.hyperedge_index
        if not is_eager() and self._node_segments is None:
            return segments_from(node, edge, self.num_nodes)
        if self._node_segments is None:
            with ordinary_tensors():
                self._node_segments = segments_from(node, edge, self.num_nodes)
        return self._node_segments

    def _map(self, function: TensorMap) -> Self:
        weight, value = self.hyperedge_weight, self.incidence_weight
        return type(self)(
            function(self.hyperedge_index),
            self.num_nodes,
            self.num_edges,
            None if weight is None else function(weight),
            None if value is None else function(value),
        )

    def _details(self) -> str:
        extra = ", weighted members" if self.incidence_weight is not None else ""
        return f", nnz={self.hyperedge_index.shape[1]}{extra}"


def _vertex(node: object) -> int:
    try:
        return operator.index(node)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"`edges` must hold integer vertex numbers, got {node!r}; number the vertices from 0"
        ) from None


def _size(name: str, given: int | None, index: Tensor) -> int:
    if given is None:
        return int(index.max()) + 1 if index.numel() else 0
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"`{name}` must be an int, got {type(given).__name__}")
    if given < 0:
        raise ValueError(f"`{name}` must be non-negative, got {given}")
    return given
