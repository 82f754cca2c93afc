"""Hyperedges from nearest neighbours."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph._checks import check_choice, check_positive_int, check_positive_number, is_eager
from hypergraph._numerics import inverse_power
from hypergraph.construct.base import Construction
from hypergraph.incidence import NeighborTable
from hypergraph_kernels import Neighbors, Segments, nearest_neighbors, sampled_dot, segments_from
from hypergraph_kernels.nearest_neighbors import Metric

Weighting = Literal["rbf"]


class KNN(Construction):
    """One hyperedge per vertex: the vertex itself and its nearest neighbours.

    Hyperedge e holds vertex e first, then the others by (distance, index), up to k members in all;
    the neighbours farther than ``threshold`` are left out. Distances are computed in tiles, never
    N x N.

    ``"cosine"`` is ``1 - cos``, in [0, 2]; a zero vector is at distance 1 from all others.
    ``"euclidean"`` is the norm of the difference. ``"dot"`` is minus the inner product.
    ``weighting="rbf"`` gives members the incidence ``exp(-d^2 / s^2)`` instead of 1, where s is
    ``bandwidth`` or the mean distance of the hyperedge's vertex to all N vertices, itself included
    (Feng et al., Hypergraph Neural Networks, https://arxiv.org/abs/1809.09401, released code).

    Args:
        k: members per hyperedge, the vertex itself included; at most N are taken.
        metric: ``"cosine"``, ``"euclidean"`` or ``"dot"``.
        threshold: a distance; None keeps all k. DHFusion's code halves the cosine distance: its
            0.5 is 1.0 here.
        weighting: None (incidence 0 or 1) or ``"rbf"`` (not with ``"dot"``).
        bandwidth: s of the RBF; None for the mean distance.
        differentiable: let gradients flow from RBF weights into the features, through the members'
            distances; the choice of members and the mean distance count as constants. For
            "euclidean" the squares of the features must be in the range of their dtype.

    Returns (from a call):
        NeighborTable with N vertices and N hyperedges; see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments; NaN or infinity in the features (eager mode only).

    Example:
        >>> import torch
        >>> from hypergraph import KNN
        >>> KNN(k=2, metric="euclidean")(torch.tensor([[0.0], [1.0], [5.0]])).index
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
    """

    def __init__(
        self,
        k: int,
        metric: Metric = "cosine",
        threshold: float | None = None,
        weighting: Weighting | None = None,
        bandwidth: float | None = None,
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        self.k = check_positive_int("k", k)
        check_choice("metric", metric, get_args(Metric))
        check_choice("weighting", weighting, (None, *get_args(Weighting)))
        if weighting == "rbf" and metric == "dot":
            raise ValueError(
                "`weighting='rbf'` needs a distance that is 0 at the vertex itself, "
                "got metric='dot'; use 'cosine' or 'euclidean'"
            )
        if threshold is not None and not isinstance(threshold, (int, float)):
            raise TypeError(f"`threshold` must be a number, got {type(threshold).__name__}")
        if threshold is not None and threshold != threshold:
            raise ValueError("`threshold` must be a number or None, got NaN")
        if bandwidth is not None:
            bandwidth = check_positive_number("bandwidth", bandwidth)
        if bandwidth is not None and weighting is None:
            raise ValueError("`bandwidth` goes with weighting='rbf', got weighting=None")
        if differentiable and weighting is None:
            raise ValueError(
                "`differentiable=True` needs weighting='rbf': "
                "the choice of neighbours alone has no gradient"
            )
        self.metric: Metric = metric
        self.threshold = threshold
        self.weighting = weighting
        self.bandwidth = bandwidth
        self.differentiable = differentiable

    def construct(self, x: Tensor) -> NeighborTable:
        """Build from checked features [N, C] or [B, N, C]."""
        _check_finite(x)
        if x.dim() == 2:
            samples = [x]
        else:  # an empty batch gets its shapes from one made-up sample
            samples = list(x.unbind(0)) or [x.new_zeros(x.shape[1:])]
        found = [self._search(sample) for sample in samples]
        return self._table(x, found, x.shape[-2])

    def construct_flat(self, x: Tensor, batch: Tensor) -> NeighborTable:
        """One table over all samples; rows of small samples are masked."""
        _check_finite(x)
        order = batch.argsort(stable=True)
        sizes = torch.bincount(batch).tolist() if batch.numel() else []
        width = min(self.k, max(sizes, default=0))
        found, first = [], 0
        for size in sizes:
            rows = order[first : first + size]
            near = self._search(x[rows])
            pad = width - near.nearest.shape[1]
            index = rows[near.nearest]
            index = torch.cat([index, rows[:, None].expand(-1, pad)], 1)
            distance = F.pad(near.distance, (0, pad), value=torch.inf)
            kept = F.pad(near.kept, (0, pad), value=False)
            found.append(Neighbors(index, distance, kept, near.row_mean))
            first += size
        if not found:
            return self._table(x, [self._search(x)], x.shape[0])
        joined = Neighbors(*(torch.cat(field) for field in zip(*found, strict=True)))
        place = torch.empty_like(order)
        place[order] = torch.arange(order.shape[0], device=order.device)
        return self._table(x, [Neighbors(*(field[place] for field in joined))], x.shape[0])

    def extra_repr(self) -> str:
        """Show the settings that differ from a plain search."""
        text = f"k={self.k}, metric='{self.metric}'"
        for name in ("threshold", "weighting", "bandwidth"):
            value = getattr(self, name)
            if value is not None:
                text += f", {name}={value!r}"
        return text + (", differentiable=True" if self.differentiable else "")

    def _search(self, x: Tensor) -> Neighbors:
        needs_mean = self.weighting is not None and self.bandwidth is None
        return nearest_neighbors(x, self.k, self.metric, self.threshold, needs_mean)

    def _table(self, x: Tensor, found: list[Neighbors], num_nodes: int) -> NeighborTable:
        if x.dim() == 2:
            near = found[0]
        else:
            fields = zip(*found, strict=True)
            near = Neighbors(*(torch.stack(field)[: x.shape[0]] for field in fields))
        if self.threshold is None and (x.dim() == 3 or _is_full(near)):
            mask = None
        else:
            mask = near.kept
        weights = None
        if self.weighting == "rbf":
            weights = self._rbf(x, near)
        return NeighborTable(near.nearest, num_nodes, weights, mask)

    def _rbf(self, x: Tensor, near: Neighbors) -> Tensor:
        distance = near.distance
        if self.bandwidth is None:
            # Below this the mean itself is rounding: equal points, all of them at distance 0.
            finfo = torch.finfo(distance.dtype)
            floor = 64 * finfo.eps if self.metric == "cosine" else finfo.tiny
            scale = near.row_mean.unsqueeze(-1).clamp_min(floor)
        else:
            scale = torch.full_like(distance[..., :1], self.bandwidth)
        # Slots that the mask leaves out stay finite, so that their gradient is 0 and not NaN.
        if self.differentiable:
            scale = scale.clamp_min(torch.finfo(distance.dtype).tiny ** 0.5)
            squared = torch.where(near.kept, self._squared_distances(x, near), 0)
            return torch.exp(-squared / scale.square())
        return torch.exp(-(torch.where(near.kept, distance, 0) / scale).square())

    def _squared_distances(self, x: Tensor, near: Neighbors) -> Tensor:
        """Squared distances of the members again, as functions of the features."""
        points = x.to(near.distance.dtype).reshape(-1, x.shape[-1])
        index = near.nearest
        if index.dim() == 3:
            first = torch.arange(index.shape[0], device=index.device) * x.shape[1]
            index = index + first[:, None, None]
        flat, width = index.flatten(), index.shape[-1]
        offsets = torch.arange(points.shape[0] + 1, device=index.device) * width
        owner = torch.arange(flat.shape[0], device=index.device) // max(width, 1)
        by_edge = Segments(flat, offsets, None)
        by_node = segments_from(flat, owner, points.shape[0])
        if self.metric == "cosine":
            # Unlike F.normalize, this has a zero gradient at a zero row, not an infinite one. The
            # size of a row does not matter, but its square must neither overflow nor vanish.
            if points.shape[-1]:
                size = points.detach().abs().amax(-1, keepdim=True)
                points = points / torch.where(size > 0, size, 1)
            points = points * inverse_power(points.square().sum(-1, keepdim=True), -0.5)
        else:
            points = points - points.mean(0).detach()  # the origin matters for rounding only
        with torch.autocast(x.device.type, enabled=False):
            dots = sampled_dot(points, points, by_edge, by_node).view(near.nearest.shape)
        if self.metric == "cosine":
            squared = (1 - dots).square()
        else:
            norms = points.square().sum(-1)
            squared = norms.view(near.nearest.shape[:-1]).unsqueeze(-1) + norms[index] - 2 * dots
        itself = torch.zeros_like(squared, dtype=torch.bool)
        itself[..., 0] = True
        return torch.where(itself, 0, squared.clamp_min(0))


def _is_full(near: Neighbors) -> bool:
    """Tell whether every slot is kept (always, while tracing: nothing was padded)."""
    return not is_eager() or bool(near.kept.all())


def _check_finite(x: Tensor) -> None:
    if is_eager() and not bool(torch.isfinite(x.detach()).all()):
        raise ValueError(
            "`x` must be finite, got NaN or infinity: distances to such rows are undefined; "
            "find the layer that produced it with torch.autograd.detect_anomaly()"
        )
