"""Both sortings of a list of pairs, made when they are first needed."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

from torch import Tensor

from hypergraph._checks import is_eager
from hypergraph._numerics import ordinary_tensors
from hypergraph_kernels import Segments, segments_from


class LazyCsr:
    """A list of pairs grouped by hyperedge and by vertex.

    Each grouping is made by the first caller that asks for it, while other threads wait.
    Hypergraphs that differ only in weights or features share one object.
    """

    def __init__(
        self,
        index: Tensor | Sequence[Tensor],  # vertices and hyperedges, [2, nnz]
        num_nodes: int,
        num_edges: int,
    ) -> None:
        self._index = index
        self._sizes = (num_nodes, num_edges)
        self._kept: dict[int, Segments] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A lock cannot be copied, and sorting again is faster than reading.
        return {"_index": self._index, "_sizes": self._sizes, "_kept": {}}

    def by_node(self) -> Segments:
        """The hyperedges of every vertex."""
        return self._segments(0)

    def by_edge(self) -> Segments:
        """The vertices of every hyperedge."""
        return self._segments(1)

    def _segments(self, row: int) -> Segments:
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        if not is_eager():  # a traced tensor must not be kept
            return self._sorted(row)
        # dict.setdefault is atomic: one lock per object without a lock to make it. Not made in
        # __init__, because torch.compile traces that, and the making of a lock it cannot trace.
        with vars(self).setdefault("_lock", Lock()):
            if row not in self._kept:  # another thread may have been faster
                self._kept[row] = self._sorted(row)
            return self._kept[row]

    def _sorted(self, row: int) -> Segments:
        with ordinary_tensors():
            return segments_from(self._index[row], self._index[1 - row], self._sizes[row])
