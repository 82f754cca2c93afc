"""What constructions with one hyperedge around every vertex share."""

from abc import abstractmethod
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph._checks import check_choice, is_eager
from hypergraph._numerics import inverse_power
from hypergraph.construct.base import (
    Construction,
    check_finite,
    check_soft,
    hard_forward,
    rbf,
)
from hypergraph.incidence import NeighborTable
from hypergraph_kernels import Implementation, Neighbors, Segments, sampled_dot, segments_from
from hypergraph_kernels.knn import Metric

Weighting = Literal["rbf"]


class NeighborConstruction(Construction):
    """Hyperedges [N, K] of every vertex and others near it, the vertex itself first.

    Subclasses search (``_search``) and say which members each kind of hyperedge
    takes (``_widths``); weights, gradients and the three layouts of the input are handled here.
    """

    _widths: tuple[int, ...] | None = None  # several kinds of hyperedges: members of each
    _always_full = False  # no slot is ever left out in [N, C] and [B, N, C]

    def __init__(
        self,
        metric: Metric,
        weighting: Weighting | None,
        bandwidth: float | None,
        differentiable: bool,
        straight_through: bool,
        implementation: Implementation,
    ) -> None:
        super().__init__()
        check_choice("metric", metric, get_args(Metric))
        check_choice("weighting", weighting, (None, *get_args(Weighting)))
        check_choice("implementation", implementation, get_args(Implementation))
        if weighting == "rbf" and metric == "dot":
            raise ValueError(
                "`weighting='rbf'` needs a distance that is 0 at the vertex itself, "
                "got metric='dot'; use 'cosine' or 'euclidean'"
            )
        self.metric: Metric = metric
        self.implementation: Implementation = implementation
        self.weighting = weighting
        self.bandwidth = check_soft(weighting, bandwidth, differentiable, straight_through)
        self.differentiable = differentiable or straight_through
        self.straight_through = straight_through

    @abstractmethod
    def _search(self, x: Tensor) -> Neighbors:
        """Members of every hyperedge of one sample [n, C] or several [B, n, C]."""

    @property
    def _needs_mean(self) -> bool:
        """Whether the search has to return mean distances."""
        return self.weighting is not None and self.bandwidth is None

    def construct(self, x: Tensor) -> NeighborTable:
        """Build from checked features [N, C] or [B, N, C]."""
        check_finite(x)
        return self._table(x, self._search(x))

    def construct_flat(self, x: Tensor, batch: Tensor) -> NeighborTable:
        """One table over all samples; rows of small samples are masked."""
        check_finite(x)
        order = batch.argsort(stable=True)
        sizes = torch.bincount(batch).tolist() if batch.numel() else []
        found, first = [], 0
        for size in sizes:
            rows = order[first : first + size]
            near = self._search(x[rows])
            found.append(near._replace(nearest=rows[near.nearest]))
            first += size
        if not found:
            return self._table(x, self._search(x))
        width = max(near.nearest.shape[1] for near in found)
        fields = zip(*(_widened(near, width) for near in found), strict=True)
        joined = Neighbors(*(torch.cat(field) for field in fields))
        place = torch.empty_like(order)
        place[order] = torch.arange(order.shape[0], device=order.device)
        return self._table(x, Neighbors(*(field[place] for field in joined)))

    def _settings(self, *names: str) -> str:
        """The metric, and what differs from a plain search."""
        text = f", metric='{self.metric}'"
        for name in (*names, "weighting", "bandwidth"):
            value = getattr(self, name)
            if value is not None:
                text += f", {name}={value!r}"
        if self.straight_through:
            return text + ", straight_through=True"
        return text + (", differentiable=True" if self.differentiable else "")

    def _table(self, x: Tensor, near: Neighbors) -> NeighborTable:
        index = near.nearest
        mask: Tensor | None = near.kept
        if self._always_full and (x.dim() == 3 or _is_full(near)):
            mask = None
        weights = None
        if self.weighting == "rbf":
            weights = self._rbf(x, near)
            if self.straight_through:
                weights = hard_forward(torch.ones_like(weights), weights)
        widths = self._widths
        if widths is not None:
            slot = torch.arange(index.shape[-1], device=index.device)
            taken = [near.kept & (slot < width) for width in widths]
            mask = torch.cat(taken, -2)
            index = torch.cat([index] * len(widths), -2)
            weights = None if weights is None else torch.cat([weights] * len(widths), -2)
        return NeighborTable._checked(index, x.shape[-2], weights, mask)

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
            squared = self._squared_distances(x, near)
            # The search's own distances: of points close together, these have lost digits.
            squared = squared + (near.distance.square() - squared).detach()
            return rbf(torch.where(near.kept, squared, 0), scale)
        return torch.exp(-(torch.where(near.kept, distance, 0) / scale).square())

    def _squared_distances(self, x: Tensor, near: Neighbors) -> Tensor:
        """Squared distances of the members again, as functions of the features."""
        points = x.to(near.distance.dtype)
        if self.metric == "euclidean":  # the origin matters for rounding only
            points = points - points.mean(-2, keepdim=True).detach()
        points = points.reshape(-1, x.shape[-1])
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
        with torch.autocast(x.device.type, enabled=False):
            dots = sampled_dot(points, points, by_edge, by_node).view(near.nearest.shape)
        if self.metric == "cosine":
            squared = (1 - dots).square()
        else:
            norms = points.square().sum(-1)
            squared = norms.view(near.nearest.shape[:-1]).unsqueeze(-1) + norms[index] - 2 * dots
        itself = torch.zeros_like(squared, dtype=torch.bool)
        itself[..., :1] = True
        return torch.where(itself, 0, squared.clamp_min(0))


def _widened(near: Neighbors, width: int) -> Neighbors:
    """The same neighbours in wider rows; new slots hold the row's own vertex and are not kept."""
    missing = width - near.nearest.shape[1]
    if missing == 0:
        return near
    rows = near.nearest.shape[0]
    itself = near.nearest[:, :1].expand(rows, missing) if rows else near.nearest.new_empty(0, width)
    return Neighbors(
        torch.cat([near.nearest, itself], 1),
        F.pad(near.distance, (0, missing), value=torch.inf),
        F.pad(near.kept, (0, missing), value=False),
        near.row_mean,
    )


def _is_full(near: Neighbors) -> bool:
    """Tell whether every slot is kept (always, while tracing: nothing was padded)."""
    return not is_eager() or bool(near.kept.all())
