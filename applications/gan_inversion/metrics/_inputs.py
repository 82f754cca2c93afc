"""The images metrics take: checked once, in one range."""

from __future__ import annotations

import torch
from torch import Tensor

# BT.601 for values of 0..255 and a result of 16..235, as MATLAB's rgb2ycbcr has it.
_LUMA = (65.481, 128.553, 24.966)


def image_pair(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    value_range: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Return two batches as float64 in [0, 1], or say what is wrong with them.

    Args:
        a: ``[B, C, H, W]`` with C of 1 or 3, uint8 (0 to 255) or floating point in ``value_range``.
        b: like ``a``.
        value_range: lowest and highest value of floating-point images.

    Raises:
        TypeError: not tensors, or another dtype.
        ValueError: the shapes differ, are empty or not images; values are not finite or lie
            outside the range.

    Example:
        >>> x = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
        >>> image_pair(x, x, (-1, 1))[0].mean().item()
        1.0
    """
    low, high = value_range
    if not low < high:
        raise ValueError(f"`value_range` must be (low, high) with low < high, got {value_range}")
    unit = []
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or not (x.is_floating_point() or x.dtype == torch.uint8):
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"`{name}` must be a uint8 or floating-point tensor, got {what}")
        if x.ndim != 4 or 0 in x.shape:
            raise ValueError(
                f"`{name}` must be images [B, C, H, W], got shape {list(x.shape)}; "
                "add the batch dimension"
            )
        if x.shape[1] not in (1, 3):
            raise ValueError(
                f"`{name}` must have 1 channel or 3, got {x.shape[1]}; lay transparent ones over "
                "a background first"
            )
        if x.dtype == torch.uint8:
            unit.append(x.double() / 255)
            continue
        x = x.double()
        least, most = x.min().item(), x.max().item()
        slack = 1e-4 * (high - low)  # half precision rounds 1 - 1e-4 to 1
        if not (low - slack <= least and most <= high + slack):
            raise ValueError(
                f"`{name}` must lie in [{low}, {high}], got values from {least:.4g} to {most:.4g}; "
                "clamp what a generator returns, or name another `value_range`"
            )
        unit.append((x - low) / (high - low))
    if a.shape != b.shape:
        raise ValueError(
            f"`a` and `b` must have the same shape, got {list(a.shape)} and {list(b.shape)}; "
            "resize one of them"
        )
    return unit[0], unit[1]


def luma(x: Tensor) -> Tensor:  # [B, 3, H, W] in [0, 1] -> [B, 1, H, W]
    """The Y channel of BT.601 in "video range", over 255: 16/255 for black, 235/255 for white.

    Example:
        >>> round(luma(torch.ones(1, 3, 1, 1)).item() * 255, 3)
        235.0
    """
    if x.shape[1] != 3:
        raise ValueError(f"the Y channel needs RGB images, got {x.shape[1]} channels")
    weight = torch.tensor(_LUMA, dtype=x.dtype, device=x.device)[None, :, None, None]
    return ((x * weight).sum(1, keepdim=True) + 16) / 255


def cropped(x: Tensor, border: int) -> Tensor:
    """Cut ``border`` pixels from every side.

    Example:
        >>> cropped(torch.zeros(1, 3, 8, 8), 2).shape[-1]
        4
    """
    if border < 0 or 2 * border >= min(x.shape[-2:]):
        raise ValueError(
            f"`crop` must leave something of {x.shape[-2]} x {x.shape[-1]} pixels, got {border}"
        )
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]
