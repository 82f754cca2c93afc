"""Hyperedges from nearest neighbours."""

from collections.abc import Sequence

from torch import Tensor

from hypergraph._checks import check_positive_int
from hypergraph.construct._neighbors import NeighborConstruction, Weighting
from hypergraph_kernels import Implementation, Neighbors, knn
from hypergraph_kernels.knn import Metric


class KNN(NeighborConstruction):
    """One hyperedge per vertex: the vertex itself and its nearest neighbours.

    Hyperedge e holds vertex e first, then the others by (distance, index), up to k members in all;
    the neighbours farther than ``threshold`` are left out. Distances are computed in tiles, never
    N x N.

    ``"cosine"`` is ``1 - cos``, in [0, 2]; a zero vector is at distance 1 from all others.
    ``"euclidean"`` is the norm of the difference. ``"dot"`` is minus the inner product.
    ``weighting="rbf"`` gives members the incidence ``exp(-d^2 / s^2)`` instead of 1, where s is
    ``bandwidth`` or the mean distance of the hyperedge's vertex to all N vertices, itself included
    (Feng et al., Hypergraph Neural Networks, https://arxiv.org/abs/1809.09401, released code).

    Several ``k`` make multi-scale hyperedges as in HGNN's released code: N hyperedges of the first
    size, then N of the next, from one search. That code puts a vertex in the last place of its
    hyperedge if it is not among its own neighbours; here it is always first. DHGNN (Jiang et al.,
    IJCAI 2019) uses the cosine distance.

    Args:
        k: members per hyperedge, the vertex itself included; at most N are taken. A list for
            several scales.
        metric: ``"cosine"``, ``"euclidean"`` or ``"dot"``.
        threshold: a distance; None keeps all k. DHFusion's code halves the cosine distance: its
            0.5 is 1.0 here.
        weighting: None (incidence 0 or 1) or ``"rbf"`` (not with ``"dot"``).
        bandwidth: s of the RBF; None for the mean distance.
        differentiable: let gradients flow from RBF weights into the features, through the members'
            distances; the choice of members and the mean distance count as constants. For
            "euclidean" the squares of the features must be in the range of their dtype.
        straight_through: incidence exactly 0 or 1, with the gradient of the RBF weights.
        implementation: of the search, "auto" or a name of ``hypergraph_kernels.knn`` to force.

    Returns (from a call):
        NeighborTable with N vertices and N hyperedges (per scale); see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments; NaN or infinity in the features (eager mode only).

    Example:
        >>> import torch
        >>> from hypergraph import KNN
        >>> x = torch.tensor([[0.0], [1.0], [5.0]])
        >>> KNN(k=2, metric="euclidean")(x).index
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
        >>> KNN(k=[1, 2], metric="euclidean")(x).edge_degree()
        tensor([1., 1., 1., 2., 2., 2.])
    """

    def __init__(
        self,
        k: int | Sequence[int],
        metric: Metric = "cosine",
        threshold: float | None = None,
        weighting: Weighting | None = None,
        bandwidth: float | None = None,
        differentiable: bool = False,
        straight_through: bool = False,
        implementation: Implementation = "auto",
    ) -> None:
        self.k: int | tuple[int, ...]
        if isinstance(k, (list, tuple)):
            if not k:
                raise ValueError("`k` must be an int or a list of at least one, got an empty list")
            scales = tuple(check_positive_int("k", scale) for scale in k)
        else:
            scales = (check_positive_int("k", k),)  # type: ignore[arg-type]
        super().__init__(
            metric, weighting, bandwidth, differentiable, straight_through, implementation
        )
        self.k = scales if isinstance(k, (list, tuple)) else scales[0]
        self.threshold = check_distance("threshold", threshold)
        self._widest = max(scales)
        self._widths = scales if len(scales) > 1 else None
        self._always_full = threshold is None

    def extra_repr(self) -> str:
        """Show the settings that differ from a plain search."""
        return f"k={self.k}" + self._settings("threshold")

    def _search(self, x: Tensor) -> Neighbors:
        return knn(
            x, self._widest, self.metric, self.threshold, self._needs_mean, self.implementation
        )


def check_distance(name: str, value: object) -> float | None:
    """Return ``value`` if it is a number or None, raise otherwise."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if value != value:
        raise ValueError(f"`{name}` must be a number or None, got NaN")
    return value
