"""Separate hypergraphs over the vertices of one flat list."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import check_integer, is_eager
from hypergraph.incidence._composite import widest_dtype
from hypergraph.incidence.base import Incidence, Members, TensorMap
from hypergraph.incidence.pair_list import (
    PairList,
    joined_pairs,
    joined_weights,
    with_split_weights,
)


class BlockDiagonal(Incidence):
    """Hypergraphs of different sizes side by side, as a ``batch`` vector describes them.

    Sample b has the vertices with ``batch == b``; its hyperedges follow those of sample b - 1.

    Args:
        blocks: one single hypergraph per sample.
        batch: [num_nodes] int64, the sample of every vertex, in any order.

    Raises:
        ValueError, TypeError: the blocks and ``batch`` disagree.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import BlockDiagonal, Dense
        >>> blocks = [Dense(torch.ones(2, 1)), Dense(torch.eye(1))]
        >>> BlockDiagonal(blocks, torch.tensor([0, 1, 0])).to_dense()
        tensor([[1., 0.],
                [0., 1.],
                [1., 0.]])
    """

    def __init__(self, blocks: Sequence[Incidence], batch: Tensor) -> None:
        batch = check_integer("batch", batch)
        if batch.dim() != 1 or (is_eager() and batch.numel() and int(batch.min()) < 0):
            raise ValueError(
                "`batch` must have shape [num_nodes] and no negative entry, "
                f"got shape {list(batch.shape)}"
            )
        if any(not isinstance(block, Incidence) for block in blocks):
            kinds = sorted({type(block).__name__ for block in blocks})
            raise TypeError(f"`blocks` must hold incidence operators, got {', '.join(kinds)}")
        for number, block in enumerate(blocks):
            if block.device != batch.device:
                raise ValueError(
                    f"`blocks[{number}]` must be on the device of `batch`, {batch.device}, "
                    f"got {block.device}; move it with .to({str(batch.device)!r})"
                )
        counts = torch.bincount(batch, minlength=len(blocks)).tolist()
        sizes = [block.num_nodes for block in blocks]
        if not blocks or sizes != counts or any(b.batch_size is not None for b in blocks):
            raise ValueError(
                f"`blocks` must be single hypergraphs with the vertices that `batch` counts, "
                f"{counts}, got {sizes}"
            )
        self.blocks = tuple(blocks)
        self.batch = batch
        # Vertices grouped by sample, and each vertex' place in that order.
        self._order = batch.argsort(stable=True)
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(batch.shape[0], device=batch.device)
        self._node_sizes = sizes
        self._edge_sizes = [block.num_edges for block in blocks]
        super().__init__(batch.shape[0], sum(self._edge_sizes))

    @property
    def hyperedge_weight(self) -> Tensor | None:
        """[num_edges], the weights of the blocks as they are now; None for ones."""
        return joined_weights(self.blocks)

    @hyperedge_weight.setter
    def hyperedge_weight(self, weight: Tensor | None) -> None:
        self.blocks = with_split_weights(self.blocks, weight)

    @property
    def device(self) -> torch.device:
        """Where the blocks live."""
        return self.batch.device

    @property
    def dtype(self) -> torch.dtype | None:
        """The widest dtype among the blocks; None if they store no values."""
        return widest_dtype([block.dtype for block in self.blocks])

    def to_dense(self) -> Tensor:
        """H, [N, M] with zeros between the blocks."""
        return torch.block_diag(*(block.to_dense() for block in self.blocks))[self._place]

    def with_members(self) -> PairList:
        """The pairs of all blocks, if each block has them."""
        lists, nodes, edges = [], 0, 0
        for block in self.blocks:
            node, hyperedge, value = block.with_members().members()
            lists.append(Members(self._order[node + nodes], hyperedge + edges, value))
            nodes, edges = nodes + block.num_nodes, edges + block.num_edges
        pairs = joined_pairs(lists, self.dtype, self.device)
        listed = PairList(pairs, self.num_nodes, self.num_edges, None, self.hyperedge_weight)
        return listed._like(self)

    def v2e_with_degree(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``H^T x`` and the hyperedge degrees."""
        if x.dim() != 2 or x.shape[0] != self.num_nodes:  # shared, or wrong: checked there
            return super().v2e_with_degree(x)
        pieces = x[self._order].split(self._node_sizes)
        pairs = [b.v2e_with_degree(p) for b, p in zip(self.blocks, pieces, strict=True)]
        return torch.cat([out for out, _ in pairs]), torch.cat([d for _, d in pairs])

    def with_hyperedge_weight(self, hyperedge_weight: Tensor | None) -> Self:
        """The same hyperedges with other weights [M]; None for ones."""
        weight = self._checked_weight(hyperedge_weight)
        return type(self)(with_split_weights(self.blocks, weight), self.batch)._like(self)

    def _v2e(self, x: Tensor) -> Tensor:
        pieces = x[self._order].split(self._node_sizes)
        return torch.cat([b.v2e(p) for b, p in zip(self.blocks, pieces, strict=True)])

    def _e2v(self, y: Tensor) -> Tensor:
        pieces = y.split(self._edge_sizes)
        out = torch.cat([b.e2v(p) for b, p in zip(self.blocks, pieces, strict=True)])
        return out[self._place]

    def _node_degree(self, weight: Tensor) -> Tensor:
        return torch.cat([block.node_degree(weight.dtype) for block in self.blocks])[self._place]

    def _edge_degree(self, ones: Tensor) -> Tensor:
        return torch.cat([block.edge_degree(ones.dtype) for block in self.blocks])

    def _map(self, function: TensorMap) -> Self:
        return type(self)([block._mapped(function) for block in self.blocks], function(self.batch))

    def _details(self) -> str:
        return f", blocks={len(self.blocks)}"
