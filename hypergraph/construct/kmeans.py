"""Hyperedges from k-means clusters."""

from typing import get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_positive_int, is_eager
from hypergraph.construct._clusters import (
    Centers,
    Start,
    check_seed,
    draws_of,
    nearest_centers,
    on_one_scale,
    start_centers,
)
from hypergraph.construct._flat import joined_tables
from hypergraph.construct._neighbors import Weighting
from hypergraph.construct.base import Construction, check_finite, check_soft, hard_forward, rbf
from hypergraph.incidence import NeighborTable
from hypergraph_kernels import Segments, incidence_spmm, segments_from


class KMeans(Construction):
    """One hyperedge per cluster; every vertex joins its nearest clusters.

    ``h_ve = 1 if centre e is among the nearest of x_v``, else 0

    Lloyd's algorithm with the Euclidean distance, for all samples at once: centres start among the
    points, then vertices go to the nearest centre and centres to the mean of their vertices, until
    nothing changes or ``max_iterations`` times. Members are listed in the order of their indices.

    Jiang et al., Dynamic Hypergraph Neural Networks (IJCAI 2019): its released code takes 400
    clusters of scikit-learn's KMeans and ``nearest=1``, once and for all from the input features,
    and gives each vertex a hyperedge of 64 members drawn with replacement from its clusters; here
    the clusters themselves are the hyperedges, found anew at every call.

    The result is a function of ``x`` and ``seed`` alone: every call draws the same numbers, and a
    batch gives what its samples give one by one. Where two centres are equally near, up to
    rounding, the lower number wins. A cluster that loses its members keeps its centre; where there
    are fewer distinct points than clusters, the clusters left over stay empty hyperedges (degree 0,
    which contribute nothing). Permuting the vertices may change the clusters for
    ``start="k-means++"``, whose draws go by index, but not for ``"farthest"`` (unless points tie).

    While ``torch.compile`` traces, nothing stops before ``max_iterations``, every centre and every
    iteration becomes a part of the graph, and the table is N wide.

    Args:
        num_clusters: hyperedges M.
        nearest: clusters that a vertex joins; at most M.
        max_iterations: steps of Lloyd's algorithm at most.
        start: ``"k-means++"`` (Arthur and Vassilvitskii, SODA 2007: drawn in proportion to the
            squared distance from the centres so far) or ``"farthest"`` (the farthest from all
            centres so far; the first is the farthest from the mean).
        seed: of the draws.
        weighting: None (incidence 0 or 1) or ``"rbf"``: ``exp(-d^2 / s^2)`` of the distance d from
            vertex to centre.
        bandwidth: s of the RBF; None for the mean distance of all N vertices to that centre.
        differentiable: let gradients flow from RBF weights into the features, through vertices and
            centres; who belongs to which cluster and the mean distance count as constants.
        straight_through: incidence exactly 0 or 1, with the gradient of the RBF weights.

    Returns (from a call):
        NeighborTable with N vertices and M hyperedges (M per sample); see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments; NaN or infinity in the features (eager mode only).

    Example:
        >>> import torch
        >>> from hypergraph import KMeans
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.2], [0.2]])
        >>> KMeans(2, start="farthest")(x).to_dense().T
        tensor([[0., 0., 1., 1., 0.],
                [1., 1., 0., 0., 1.]])
    """

    def __init__(
        self,
        num_clusters: int,
        nearest: int = 1,
        max_iterations: int = 30,
        start: Start = "k-means++",
        seed: int = 0,
        weighting: Weighting | None = None,
        bandwidth: float | None = None,
        differentiable: bool = False,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.num_clusters = check_positive_int("num_clusters", num_clusters)
        self.nearest = check_positive_int("nearest", nearest)
        self.max_iterations = check_positive_int("max_iterations", max_iterations)
        check_choice("start", start, get_args(Start))
        check_choice("weighting", weighting, (None, *get_args(Weighting)))
        self.start: Start = start
        self.seed = check_seed(seed)
        self.weighting = weighting
        self.bandwidth = check_soft(weighting, bandwidth, differentiable, straight_through)
        self.differentiable = differentiable or straight_through
        self.straight_through = straight_through
        self._draws = draws_of(self.seed, self.num_clusters)

    def construct(self, x: Tensor) -> NeighborTable:
        """Build from checked features [N, C] or [B, N, C]."""
        check_finite(x)
        with torch.autocast(x.device.type, enabled=False):
            points, unit = on_one_scale(x if x.dim() == 3 else x.unsqueeze(0))
            with torch.no_grad():
                centers, label = self._lloyd(points.detach())
                count = min(self.nearest, self.num_clusters)
                joined, valid = nearest_centers(points.detach(), centers, count)
            weights = None
            if self.weighting == "rbf":
                weights = self._rbf(points, unit, centers, label, joined)
                if self.straight_through:
                    weights = hard_forward(torch.ones_like(weights), weights)
            index, weights, mask = _by_cluster(joined, valid, weights, self.num_clusters)
        if x.dim() == 2:
            index, mask = index.squeeze(0), mask.squeeze(0)
            weights = None if weights is None else weights.squeeze(0)
        return NeighborTable(index, x.shape[-2], weights, mask)

    def construct_flat(self, x: Tensor, batch: Tensor) -> NeighborTable:
        """One table; the M hyperedges of sample b follow those of sample b - 1."""
        return joined_tables(self.construct, x, batch)

    def extra_repr(self) -> str:
        """Show the settings that differ from plain k-means."""
        text = f"num_clusters={self.num_clusters}, nearest={self.nearest}"
        text += f", max_iterations={self.max_iterations}, start='{self.start}', seed={self.seed}"
        for name in ("weighting", "bandwidth"):
            value = getattr(self, name)
            if value is not None:
                text += f", {name}={value!r}"
        if self.straight_through:
            return text + ", straight_through=True"
        return text + (", differentiable=True" if self.differentiable else "")

    def _lloyd(self, points: Tensor) -> tuple[Centers, Tensor]:
        """Centres, and the cluster [B, N] of every vertex whose means they are."""
        centers = start_centers(points, self._draws, self.start)
        label = nearest_centers(points, centers, 1)[0].squeeze(-1)
        for _ in range(self.max_iterations):
            centers = centers._replace(points=_means(points, label, centers.points))
            following = nearest_centers(points, centers, 1)[0].squeeze(-1)
            if is_eager() and torch.equal(following, label):
                break
            last, label = label, following
        else:
            label = last
        return centers, label

    def _rbf(
        self, points: Tensor, unit: Tensor, centers: Centers, label: Tensor, joined: Tensor
    ) -> Tensor:
        """[B, N, nearest] weights of a vertex in the clusters that it joins."""
        place = centers.points
        if self.differentiable:
            place = _means(points, label, place)
        channels = points.shape[-1]
        near = place.gather(1, joined.flatten(1).unsqueeze(-1).expand(-1, -1, channels))
        squared = (points.unsqueeze(2) - near.view(*joined.shape, channels)).square().sum(-1)
        if self.bandwidth is not None:
            return rbf(squared, self.bandwidth / unit)
        distance = torch.cdist(points.detach(), centers.points)
        mean = distance.mean(1) if points.shape[1] else distance.sum(1)  # [B, M]
        return rbf(squared, mean.gather(1, joined.flatten(1)).view(joined.shape))


def _means(points: Tensor, label: Tensor, before: Tensor) -> Tensor:
    """[B, M, C] mean of every cluster's vertices; the place before where it has none."""
    samples, size = points.shape[:2]
    clusters = before.shape[1]
    first = torch.arange(samples, device=points.device)[:, None] * clusters
    owner, vertex = (label + first).flatten(), torch.arange(samples * size, device=points.device)
    by_cluster = segments_from(owner, vertex, samples * clusters)
    by_vertex = Segments(owner, torch.arange(samples * size + 1, device=points.device), None)
    total = incidence_spmm(points.flatten(0, 1), None, by_cluster, by_vertex)
    count = by_cluster.offsets.diff().view(samples, clusters, 1)
    mean = total.view(before.shape) / count.clamp_min(1).to(points.dtype)
    return torch.where(count > 0, mean, before)


def _by_cluster(
    joined: Tensor,  # [B, N, n]
    valid: Tensor,
    weights: Tensor | None,
    clusters: int,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Turn the clusters of every vertex into the vertices [B, M, width] of every cluster."""
    samples, size = joined.shape[:2]
    device = joined.device
    # What is not valid goes to one more cluster, which is cut off.
    owner = torch.where(valid, joined, clusters)
    owner = (owner + torch.arange(samples, device=device)[:, None, None] * (clusters + 1)).flatten()
    order = owner.argsort(stable=True)
    owner = owner[order]
    bounds = torch.searchsorted(
        owner, torch.arange(samples * (clusters + 1) + 1, device=device, dtype=owner.dtype)
    )
    slot = torch.arange(owner.shape[0], device=device) - bounds[owner]
    width = size
    if is_eager():
        sizes = bounds.diff().view(samples, clusters + 1)[:, :clusters]
        width = int(sizes.max()) if sizes.numel() else 0
    # A vertex joins a cluster once, so only the cluster to be cut off can be wider than the table.
    place = owner * (width + 1) + slot.clamp_max(width)
    shape = (samples, clusters + 1, width + 1)

    def table(values: Tensor) -> Tensor:
        flat = values.new_zeros(samples * (clusters + 1) * (width + 1))
        return flat.index_put((place,), values[order]).view(shape)[:, :clusters, :width]

    vertex = torch.arange(size, device=device)[None, :, None].expand(joined.shape)
    filled = None if weights is None else table(weights.flatten())
    return table(vertex.flatten()), filled, table(valid.flatten())
