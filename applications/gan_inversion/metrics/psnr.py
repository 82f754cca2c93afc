"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ._inputs import cropped, image_pair, luma
from .score import Score, mean_score

CAP_DB = 120.0
"""What equal images count as where a finite number is needed: in a mean and in JSON."""


def pooled_psnr(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    weight: Tensor | None = None,  # [B, 1, H, W]
    peak: float = 2.0,
) -> float:
    """``10 log10(peak^2 / mean squared error)`` over all pixels together, optionally weighted.

    Args:
        a: ``[B, C, H, W]``; no range is asked for, so that what a generator returns can be
            measured as it is.
        b: like ``a``.
        weight: ``[B, 1, H, W]``, for example a polygon's mask.
        peak: the range of the values: 2 for images in [-1, 1].

    Returns:
        Decibels; infinity for equal images. Computed in the dtype of the images.

    Raises:
        ValueError: the weight is 0 everywhere.

    Example:
        >>> round(pooled_psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2)), 3)
        20.0
    """
    if weight is not None and not weight.any():
        raise ValueError("`weight` is 0 everywhere: there is nothing to compare")
    error = (a - b).square().mean(1, keepdim=True)
    mean = error.mean() if weight is None else (error * weight).sum() / weight.sum()
    return math.inf if mean == 0 else 10 * math.log10(peak * peak / mean.item())


def capped(decibels: float) -> float:
    """Replace the infinity of equal images by 120 dB, for means and JSON.

    Example:
        >>> capped(math.inf)
        120.0
    """
    return min(decibels, CAP_DB)


def psnr_values(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
) -> Tensor:
    """PSNR of each pair of images, in float64.

    The figure does not depend on the range, as long as ``value_range`` is the images' own.

    Args:
        a: ``[B, C, H, W]``, uint8 or floating point in ``value_range``.
        b: like ``a``.
        value_range: of floating-point images.
        channel: ``"rgb"`` pools the error over the channels; ``"y"`` compares the luma of BT.601
            in video range with a peak of 255, as BasicSR's ``test_y_channel`` does.
        crop: pixels cut from every side first.

    Returns:
        ``[B]`` in decibels; infinity for equal images.

    Raises:
        TypeError: not images, see the message.
        ValueError: shapes or values that cannot be compared.

    Example:
        >>> x = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
        >>> psnr_values(x, x).tolist()
        [inf, inf]
    """
    if channel not in ("rgb", "y"):
        raise ValueError(f'`channel` must be "rgb" or "y", got {channel!r}')
    x, y = image_pair(a, b, value_range)
    x, y = cropped(x, crop), cropped(y, crop)
    if channel == "y":
        x, y = luma(x), luma(y)
    values = [pooled_psnr(x[i : i + 1], y[i : i + 1], peak=1.0) for i in range(len(x))]
    return torch.tensor(values, dtype=torch.float64)


def psnr_protocol(channel: str = "rgb", crop: int = 0) -> str:
    """Describe what :func:`psnr_values` computes.

    Example:
        >>> psnr_protocol()
        'PSNR: RGB pooled, per image then mean, equal images count 120 dB'
    """
    what = "RGB pooled" if channel == "rgb" else "Y of BT.601 (16..235, peak 255)"
    border = f", {crop} px cropped from every side" if crop else ""
    return f"PSNR: {what}{border}, per image then mean, equal images count {CAP_DB:.0f} dB"


def psnr(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    seed: int = 0,
) -> Score:
    """Mean PSNR of pairs of images; see :func:`psnr_values` for the arguments.

    Returns:
        The mean over images with a bootstrap interval; equal images count as 120 dB in it.

    Example:
        >>> x = torch.zeros(1, 3, 4, 4)
        >>> round(psnr(x, x + 0.2).value, 3)
        20.0
    """
    values = psnr_values(a, b, value_range=value_range, channel=channel, crop=crop)
    return mean_score(values.clamp(max=CAP_DB), psnr_protocol(channel, crop), seed=seed)
