"""Small functions on images that several parts share."""

from __future__ import annotations

from torch import Tensor


def smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    """Return 0 below ``low``, 1 above ``high`` and a smooth ramp ``3t^2 - 2t^3`` between.

    Example:
        >>> import torch
        >>> smoothstep(torch.tensor([0.0, 0.5, 2.0]), 0.0, 1.0).tolist()
        [0.0, 0.5, 1.0]
    """
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
