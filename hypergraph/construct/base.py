"""What every construction does with its input."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_batch,
    check_features,
    check_positive_int,
    check_positive_number,
    is_eager,
)
from hypergraph.incidence import BlockDiagonal, Incidence


class Construction(nn.Module):
    """A module that builds an incidence operator from vertex features.

    Subclasses write ``construct`` for features [N, C] or [B, N, C]; a ``batch`` vector is handled
    here, by building one hypergraph per sample.

    Example:
        >>> import torch
        >>> from hypergraph import Construction, Dense, DynamicHGConv
        >>> class Everything(Construction):
        ...     def construct(self, x):
        ...         return Dense(torch.ones(*x.shape[:-1], 1))  # one hyperedge of all vertices
        >>> layer = DynamicHGConv(8, 4, construction=Everything())
        >>> layer(torch.randn(2, 10, 8)).shape
        torch.Size([2, 10, 4])
    """

    in_channels: int | None = None

    def forward(
        self,
        x: Tensor,  # [N, C] or [B, N, C]
        batch: Tensor | None = None,  # [N]
    ) -> Incidence:
        """Build the hypergraph of ``x``.

        Args:
            x: [N, C] vertex features, or [B, N, C] for B hypergraphs of N vertices each.
            batch: [N] int64 with x of shape [N, C]: the sample of every vertex, 0 to B - 1, in any
                order; hyperedges stay inside samples.

        Returns:
            An operator over N vertices, with ``batch_size`` B for [B, N, C]; constructions that do
            not look at the features return one operator that all samples share.

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        x = check_features(x, self.in_channels)
        batch = check_batch(batch, x)
        if batch is None:
            return self.construct(x)
        return self.construct_flat(x, batch)

    @abstractmethod
    def construct(self, x: Tensor) -> Incidence:
        """Build from checked features [N, C] or [B, N, C]."""

    def construct_flat(self, x: Tensor, batch: Tensor) -> Incidence:
        """Build from checked features [N, C] and the sample of every vertex."""
        samples = int(batch.max()) + 1 if batch.numel() else 0
        if samples == 0:
            return self.construct(x)
        return BlockDiagonal([self.construct(x[batch == b]) for b in range(samples)], batch)


def check_grid(name: str, grid: object) -> tuple[int, int]:
    """Return (height, width) from a pair or one number for both, raise if it is neither."""
    if isinstance(grid, (tuple, list)) and len(grid) == 2:
        return check_positive_int(f"{name}[0]", grid[0]), check_positive_int(f"{name}[1]", grid[1])
    if isinstance(grid, (tuple, list)):
        raise ValueError(f"`{name}` must be one number or two, height and width, got {len(grid)}")
    side = check_positive_int(name, grid)
    return side, side


def check_finite(x: Tensor) -> None:
    """Raise ValueError if a feature is NaN or infinite (eager mode only)."""
    if not is_eager() or x.numel() == 0 or x.is_meta:
        return
    # The extremes are NaN where any element is, and a twentieth of the time of isfinite().all().
    if not bool(torch.stack(torch.aminmax(x.detach())).isfinite().all()):
        raise ValueError(
            "`x` must be finite, got NaN or infinity: distances to such rows are undefined; "
            "find the layer that produced it with torch.autograd.detect_anomaly()"
        )


def check_soft(
    weighting: str | None, bandwidth: float | None, differentiable: bool, straight_through: bool
) -> float | None:
    """Return the bandwidth if the settings of a soft incidence fit together, raise otherwise."""
    if bandwidth is not None:
        bandwidth = check_positive_number("bandwidth", bandwidth)
    if bandwidth is not None and weighting is None:
        raise ValueError("`bandwidth` goes with weighting='rbf', got weighting=None")
    if straight_through and weighting is None:
        raise ValueError(
            "`straight_through=True` needs weighting='rbf', whose gradient it takes; "
            "the incidence is 0 or 1 all the same"
        )
    if differentiable and weighting is None:
        raise ValueError(
            "`differentiable=True` needs weighting='rbf', got weighting=None: "
            "the choice of neighbours alone has no gradient"
        )
    return bandwidth


def rbf(
    squared: Tensor,
    scale: Tensor,
) -> Tensor:
    """``exp(-d^2 / s^2)`` with finite gradients to the squared distances, whatever the scale."""
    scale = scale.clamp_min(torch.finfo(squared.dtype).tiny ** 0.5)
    return torch.exp(-squared / scale.square())


def hard_forward(hard: Tensor, soft: Tensor) -> Tensor:
    """The straight-through estimator: exactly the values of ``hard``, the gradient of ``soft``."""
    return hard + (soft - soft.detach())
