"""Constructions that know their hyperedges before they see features."""

import torch
from torch import Tensor

from hypergraph._checks import is_eager
from hypergraph.construct.base import Construction
from hypergraph.incidence import BlockDiagonal, Incidence, MemberIncidence


class StaticConstruction(Construction):
    """One hypergraph whatever the features are, with the call protocol of every construction.

    A call looks at the shape and device of ``x`` only. [N, C] and [B, N, C] give one operator that
    all samples share. With a ``batch`` vector, either every sample has the N vertices of the
    hypergraph, or the hypergraph covers the whole list and no hyperedge crosses samples.

    Attributes:
        hypergraph: the operator, on the device where it was used last.
    """

    def __init__(self, hypergraph: MemberIncidence) -> None:
        super().__init__()
        self.hypergraph = hypergraph

    @property
    def num_nodes(self) -> int:
        """Vertices."""
        return self.hypergraph.num_nodes

    def construct(self, x: Tensor) -> Incidence:
        """Check the number of vertices and return the hypergraph, on the device of ``x``."""
        if x.shape[-2] != self.num_nodes:
            raise ValueError(
                f"`x` must have {self.num_nodes} vertices, for which this construction was made, "
                f"got {x.shape[-2]}"
            )
        return self._on(x.device)

    def construct_flat(self, x: Tensor, batch: Tensor) -> Incidence:
        """The hypergraph of the whole list, or one copy per sample."""
        if x.shape[0] == self.num_nodes:
            hypergraph = self._on(x.device)
            samples = int(batch.max()) + 1 if batch.numel() else 0
            if samples > 1 and is_eager():
                self._check_inside(hypergraph, batch)
            return hypergraph
        sizes = torch.bincount(batch)
        if sizes.numel() == 0 or not bool((sizes == self.num_nodes).all()):
            raise ValueError(
                f"`batch` must give every sample the {self.num_nodes} vertices that this "
                f"construction was made for, got samples of {sizes.tolist()}"
            )
        hypergraph = self._on(x.device)
        return BlockDiagonal([hypergraph] * sizes.shape[0], batch)

    def _on(self, device: torch.device) -> MemberIncidence:
        if self.hypergraph.device != device:
            self.hypergraph = self.hypergraph.to(device)
        return self.hypergraph

    def _check_inside(self, hypergraph: MemberIncidence, batch: Tensor) -> None:
        node, hyperedge, _ = hypergraph.members()
        sample = batch[node]
        lowest = sample.new_zeros(self.hypergraph.num_edges)
        lowest = lowest.scatter_reduce(0, hyperedge, sample, "amin", include_self=False)
        crossing = hyperedge[sample != lowest[hyperedge]]
        if crossing.numel():
            raise ValueError(
                f"`batch` must keep every hyperedge inside one sample, got hyperedge "
                f"{int(crossing[0])} with vertices of several; correct `batch`"
            )
