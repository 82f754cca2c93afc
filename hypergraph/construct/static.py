"""Constructions that know their hyperedges before they see features."""

import torch
from torch import Tensor

from hypergraph._checks import is_eager
from hypergraph.construct.base import Construction
from hypergraph.incidence import BlockDiagonal, FixedHypergraph, Incidence, MemberIncidence


class StaticConstruction(Construction):
    """One hypergraph whatever the features are, with the call protocol of every construction.

    A call looks at the shape of ``x`` only. [N, C] and [B, N, C] give one operator that all samples
    share. With a ``batch`` vector, either every sample has the N vertices of the hypergraph, or the
    hypergraph covers the whole list and no hyperedge crosses samples.

    The hypergraph moves with the module (``.to(device)``) and is not part of the ``state_dict``,
    see ``FixedHypergraph``.

    Args:
        hypergraph: an operator with members, for one sample or for the whole list.

    Raises:
        TypeError, ValueError: it is no such operator.

    Example:
        >>> import torch
        >>> from hypergraph import KNN, Fusion, Hypergraph, StaticConstruction
        >>> teams = StaticConstruction(Hypergraph.from_edges([[0, 1, 2], [2, 3]]))
        >>> Fusion([teams, KNN(2)])(torch.randn(5, 4, 8)).shape
        (5, 4, 6)
    """

    def __init__(self, hypergraph: MemberIncidence) -> None:
        super().__init__()
        if not isinstance(hypergraph, MemberIncidence) or hypergraph.batch_size is not None:
            kind = type(hypergraph).__name__
            if isinstance(hypergraph, MemberIncidence):
                raise ValueError(
                    f"`hypergraph` must be a single one, got a batch of {hypergraph.batch_size}"
                )
            raise TypeError(
                "`hypergraph` must be an operator that lists its members, such as Hypergraph, "
                f"got {kind}"
            )
        self._fixed = FixedHypergraph(hypergraph)

    @property
    def hypergraph(self) -> MemberIncidence:
        """The operator, where the module is."""
        hypergraph = self._fixed.hypergraph
        assert isinstance(hypergraph, MemberIncidence)
        return hypergraph

    @property
    def num_nodes(self) -> int:
        """Vertices."""
        return self.hypergraph.num_nodes

    def construct(self, x: Tensor) -> Incidence:
        """Check the number of vertices and return the hypergraph."""
        if x.shape[-2] != self.num_nodes:
            raise ValueError(
                f"`x` must have {self.num_nodes} vertices, for which this construction was made, "
                f"got {x.shape[-2]}"
            )
        return self._fixed(x)

    def construct_flat(self, x: Tensor, batch: Tensor) -> Incidence:
        """The hypergraph of the whole list, or one copy per sample."""
        if x.shape[0] == self.num_nodes:
            if is_eager():
                self._check_inside(batch)
            return self._fixed(x)
        sizes = torch.bincount(batch)
        if sizes.numel() == 0 or not bool((sizes == self.num_nodes).all()):
            raise ValueError(
                f"`batch` must give every sample the {self.num_nodes} vertices that this "
                f"construction was made for, got samples of {sizes.tolist()}"
            )
        return BlockDiagonal([self.hypergraph] * sizes.shape[0], batch)

    def _check_inside(self, batch: Tensor) -> None:
        node, hyperedge, _ = self.hypergraph.members()
        sample = batch[node]
        lowest = sample.new_zeros(self.hypergraph.num_edges)
        lowest = lowest.scatter_reduce(0, hyperedge, sample, "amin", include_self=False)
        crossing = hyperedge[sample != lowest[hyperedge]]
        if crossing.numel():
            raise ValueError(
                f"`batch` must keep every hyperedge inside one sample, got hyperedge "
                f"{int(crossing[0])} with vertices of several; correct `batch`"
            )
