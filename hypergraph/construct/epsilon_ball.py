"""Hyperedges from all vertices within a radius."""

from torch import Tensor

from hypergraph._checks import check_positive_int, is_eager
from hypergraph.construct._neighbors import NeighborConstruction, Weighting
from hypergraph.construct.knn import check_distance
from hypergraph_kernels import Implementation, Neighbors, knn
from hypergraph_kernels.knn import Metric

_FIRST_WIDTH = 32


class EpsilonBall(NeighborConstruction):
    """One hyperedge per vertex: the vertex itself and all vertices within a radius.

    ``h_ve = 1 if v = e or d(v, e) <= radius``, else 0

    Members are sorted like those of ``KNN``: the vertex itself first, then by (distance, index).
    The table is as wide as the largest ball, which is found by searching with growing widths, so
    that nothing of size N x N is stored unless a ball holds everything. Metrics, RBF weights,
    gradients and the straight-through option are those of ``KNN``.

    While ``torch.compile`` traces, shapes must not depend on values: without ``max_members`` the
    table is then N wide.

    Args:
        radius: largest distance of a member, included; at least 0 unless the metric is "dot".
        metric: ``"euclidean"``, ``"cosine"`` or ``"dot"``.
        max_members: keep only the nearest so many, the vertex itself included; None keeps all.
        weighting: None (incidence 0 or 1) or ``"rbf"`` (not with ``"dot"``).
        bandwidth: s of ``exp(-d^2 / s^2)``; None for the vertex' mean distance to all vertices.
        differentiable: let gradients flow from RBF weights into the features; see ``KNN``.
        straight_through: incidence exactly 0 or 1, with the gradient of the RBF weights.
        implementation: of the search, "auto" or a name of ``hypergraph_kernels.knn`` to force.

    Returns (from a call):
        NeighborTable with N vertices and N hyperedges; see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments; NaN or infinity in the features (eager mode only).

    Example:
        >>> import torch
        >>> from hypergraph import EpsilonBall
        >>> EpsilonBall(1.0)(torch.tensor([[0.0], [1.0], [2.0], [5.0]])).to_dense().T
        tensor([[1., 1., 0., 0.],
                [1., 1., 1., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 1.]])
    """

    def __init__(
        self,
        radius: float,
        metric: Metric = "euclidean",
        max_members: int | None = None,
        weighting: Weighting | None = None,
        bandwidth: float | None = None,
        differentiable: bool = False,
        straight_through: bool = False,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__(
            metric, weighting, bandwidth, differentiable, straight_through, implementation
        )
        checked = check_distance("radius", radius)
        if checked is None:
            raise TypeError("`radius` must be a number, got None")
        if checked < 0 and metric != "dot":
            raise ValueError(f"`radius` must be at least 0 for metric='{metric}', got {radius}")
        self.radius = checked
        self.max_members = None
        if max_members is not None:
            self.max_members = check_positive_int("max_members", max_members)

    def extra_repr(self) -> str:
        """Show the settings that differ from a plain ball."""
        return f"radius={self.radius}" + self._settings("max_members")

    def _search(self, x: Tensor) -> Neighbors:
        most = x.shape[-2] if self.max_members is None else min(self.max_members, x.shape[-2])
        width = min(_FIRST_WIDTH, most) if is_eager() else most
        while True:
            near = knn(
                x, max(width, 1), self.metric, self.radius, self._needs_mean, self.implementation
            )
            if not is_eager():
                return near
            # A row that is kept to its end may go on beyond it.
            if width == most or not bool(near.kept[..., -1].any()):
                break
            width = min(4 * width, most)
        largest = int(near.kept.sum(-1).max()) if near.kept.numel() else 0
        index, distance, kept = (field[..., :largest] for field in near[:3])
        return Neighbors(index, distance, kept, near.row_mean)
