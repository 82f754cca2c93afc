"""Hyperedges from fuzzy c-means clusters."""

from contextlib import nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import (
    check_choice,
    check_non_negative_number,
    check_positive_int,
    check_positive_number,
    is_eager,
)
from hypergraph.construct._clusters import (
    Centers,
    Start,
    check_seed,
    draws_of,
    first_true,
    on_one_scale,
    squared_distances,
    start_centers,
)
from hypergraph.construct.base import Construction, check_finite, hard_forward
from hypergraph.incidence import Dense

Membership = Literal["membership"]


class FuzzyCMeans(Construction):
    """One hyperedge per fuzzy cluster: the vertices whose membership exceeds a threshold.

    ``u_ve = d_ve^(-2/(m-1)) / sum over clusters f of d_vf^(-2/(m-1))`` for the distance d from
    vertex to centre, and ``c_e = sum over v of u_ve^m x_v / sum over v of u_ve^m``, in turns; then
    ``h_ve = 1 if u_ve > threshold``, or ``u_ve`` itself for ``weighting="membership"``.

    Bezdek, Pattern Recognition with Fuzzy Objective Function Algorithms (1981); Han et al., Vision
    HGNN (ICCV 2023), whose released code has ``fuzziness=2``, ``threshold=0.01``,
    ``max_iterations=15`` and ``tolerance=1e-3``, the defaults here. Memberships average one over
    the number of clusters, so that at 25 clusters this threshold keeps nearly all of them. What
    differs from that code, and why:

    - It pads lists of members by -1 and then reads row -1: every padded mean is pulled towards the
      last vertex. There is no padding here.
    - It starts from random memberships, so that all centres start next to the mean of the points;
      here they start among the points, see ``start``.
    - Where the largest membership of a single vertex is below 0.1, it raises the threshold to 0.5
      for all vertices of all samples. Here a vertex that is above the threshold nowhere joins its
      best cluster, and nothing else changes. (There it joins on the way from hyperedge to vertex
      only.)
    - Its stopping rule looks at the whole batch; here every sample stops for itself, so that a
      batch gives what its samples give one by one.

    A point that is a centre, up to rounding, belongs to that cluster alone (to several in equal
    parts). Clusters beyond the number of distinct points stay empty. The result is a function of
    ``x`` and ``seed`` alone. Permuting the vertices may change the clusters for
    ``start="k-means++"``, whose draws go by index, but not for ``"farthest"`` (unless points tie).

    While ``torch.compile`` traces, no sample's iterations end early as a whole, and every centre
    and every iteration becomes a part of the graph; the values are the same.

    Args:
        num_clusters: hyperedges M.
        fuzziness: m, above 1; near 1 the clusters are hard.
        threshold: memberships at or below it are left out; at least 0 and below 1.
        weighting: None (incidence 0 or 1) or ``"membership"``.
        max_iterations: updates of the memberships at most.
        tolerance: stop where the memberships change by less, as a norm over a sample.
        start: ``"k-means++"`` or ``"farthest"``, see ``KMeans``.
        seed: of the draws.
        differentiable: let gradients flow from memberships into the features, through all
            iterations; the choice of members and of the first centres count as constants.
        straight_through: incidence exactly 0 or 1, with the gradient of the memberships.

    Returns (from a call):
        Dense with N vertices and M hyperedges (per sample); see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments; NaN or infinity in the features (eager mode only).

    Example:
        >>> import torch
        >>> from hypergraph import FuzzyCMeans
        >>> x = torch.tensor([[0.0], [0.2], [5.0], [5.2], [2.6]])
        >>> FuzzyCMeans(2, threshold=0.3, start="farthest")(x).to_dense().T
        tensor([[1., 1., 0., 0., 1.],
                [0., 0., 1., 1., 1.]])
    """

    def __init__(
        self,
        num_clusters: int,
        fuzziness: float = 2.0,
        threshold: float = 0.01,
        weighting: Membership | None = None,
        max_iterations: int = 15,
        tolerance: float = 1e-3,
        start: Start = "k-means++",
        seed: int = 0,
        differentiable: bool = False,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.num_clusters = check_positive_int("num_clusters", num_clusters)
        self.fuzziness = check_positive_number("fuzziness", fuzziness)
        if self.fuzziness <= 1:
            raise ValueError(
                f"`fuzziness` must be above 1, got {fuzziness}; use KMeans for hard clusters"
            )
        check_non_negative_number("threshold", threshold)
        if threshold >= 1:
            raise ValueError(f"`threshold` must be below 1, got {threshold}: memberships sum to 1")
        self.threshold = float(threshold)
        check_choice("weighting", weighting, (None, *get_args(Membership)))
        for name, value in (
            ("differentiable", differentiable),
            ("straight_through", straight_through),
        ):
            if value and weighting is None:
                raise ValueError(
                    f"`{name}=True` needs weighting='membership': "
                    "the choice of members alone has no gradient"
                )
        self.weighting = weighting
        self.max_iterations = check_positive_int("max_iterations", max_iterations)
        check_non_negative_number("tolerance", tolerance)
        self.tolerance = float(tolerance)
        check_choice("start", start, get_args(Start))
        self.start: Start = start
        self.seed = check_seed(seed)
        self.differentiable = differentiable or straight_through
        self.straight_through = straight_through
        self._draws = draws_of(self.seed, self.num_clusters)

    def construct(self, x: Tensor) -> Dense:
        """Build from checked features [N, C] or [B, N, C]."""
        check_finite(x)
        gradients = nullcontext() if self.differentiable else torch.no_grad()
        with torch.autocast(x.device.type, enabled=False), gradients:
            points, _ = on_one_scale(x if x.dim() == 3 else x.unsqueeze(0))
            soft, used = self._memberships(points)
            kept = soft.detach() > self.threshold
            best = soft.detach().masked_fill(~used, -1)
            best = first_true(best >= best.amax(-1, keepdim=True) - _rounding(soft))
            # Above the threshold, the best is kept already.
            kept = kept | (torch.zeros_like(kept).scatter(-1, best.unsqueeze(-1), True) & used)
            soft = torch.where(kept, soft, 0)
            matrix = kept.to(soft.dtype)
            if self.straight_through:
                matrix = hard_forward(matrix, soft)
            elif self.weighting is not None:
                matrix = soft
        return Dense(matrix if x.dim() == 3 else matrix.squeeze(0))

    def extra_repr(self) -> str:
        """Show the settings."""
        text = f"num_clusters={self.num_clusters}, fuzziness={self.fuzziness}"
        text += f", threshold={self.threshold}, max_iterations={self.max_iterations}"
        text += f", start='{self.start}', seed={self.seed}"
        if self.weighting is not None:
            text += f", weighting='{self.weighting}'"
        if self.straight_through:
            return text + ", straight_through=True"
        return text + (", differentiable=True" if self.differentiable else "")

    def _memberships(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, M] memberships, and [B, 1, M] which clusters are in use."""
        centers = start_centers(points, self._draws, self.start)
        soft = self._update(points, centers)
        running = torch.ones(points.shape[0], 1, 1, dtype=torch.bool, device=points.device)
        for _ in range(self.max_iterations):
            weight = soft.pow(self.fuzziness).mT  # [B, M, N]
            total = weight.sum(-1, keepdim=True)
            empty = total <= torch.finfo(total.dtype).tiny
            means = weight @ points / torch.where(empty, 1, total)
            centers = centers._replace(points=torch.where(empty, centers.points, means))
            update = self._update(points, centers)
            change = (update - soft).detach().square().sum((-2, -1), keepdim=True).sqrt()
            soft = torch.where(running, update, soft)
            running = running & (change >= self.tolerance)
            if is_eager() and not bool(running.any()):
                break
        return soft, centers.used.unsqueeze(1)

    def _update(self, points: Tensor, centers: Centers) -> Tensor:
        """Memberships [B, N, M] for given centres; zeros where no cluster is in use."""
        squared, rounding = squared_distances(points, centers.points)
        used = centers.used.unsqueeze(1)
        hit = (squared <= rounding) & used
        apart = torch.where(hit | ~used, 1, squared)
        score = (-apart.log() / (self.fuzziness - 1)).masked_fill(~used, -torch.inf)
        hits = hit.sum(-1, keepdim=True)
        on_center = hit / hits.clamp_min(1).to(squared.dtype)
        # A sample without points uses no cluster; it has no rows that the softmax could spoil.
        return torch.where(hits > 0, on_center, score.softmax(-1))


def _rounding(soft: Tensor) -> float:
    return 64 * torch.finfo(soft.dtype).eps
