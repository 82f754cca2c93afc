"""Structural similarity: the variants people publish, each by name.

Wang et al., "Image quality assessment: from error visibility to structural similarity"
(https://doi.org/10.1109/TIP.2003.819861), Eq. 13 with K1 = 0.01 and K2 = 0.03.

One pair of photographs scores 0.43 or 0.33 or 0.31, by the window and by what happens at the
border. A figure without the variant's name cannot be compared with any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ._inputs import cropped, image_pair, luma
from .score import Score, mean_score

_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class SSIMVariant:
    """The choices that make one SSIM differ from another.

    Attributes:
        window: weights of a neighbourhood.
        size: side of the neighbourhood in pixels.
        sample_covariance: divide by ``size^2 - 1`` instead of ``size^2``.
        border: ``"valid"`` averages over places where the window fits, ``"reflect"`` over all
            pixels of the mirrored image.
        description: for the protocol.
    """

    window: Literal["uniform", "gaussian"]
    size: int
    sample_covariance: bool
    border: Literal["valid", "reflect"]
    description: str


_GAUSSIAN = "Gaussian window 11 px, sigma 1.5"
VARIANTS: dict[str, SSIMVariant] = {
    "skimage": SSIMVariant(
        "uniform",
        7,
        True,
        "valid",
        "scikit-image's defaults: uniform window 7 px, sample covariance, valid",
    ),
    "skimage-gaussian": SSIMVariant(
        "gaussian",
        11,
        True,
        "valid",
        f"scikit-image with gaussian_weights=True: {_GAUSSIAN}, sample covariance, valid",
    ),
    "wang": SSIMVariant(
        "gaussian",
        11,
        False,
        "valid",
        f"Wang et al.: {_GAUSSIAN}, valid, no downsampling; BasicSR and the PyTorch code of pSp "
        "and HyperStyle are the same formula",
    ),
    "torchmetrics": SSIMVariant(
        "gaussian",
        11,
        False,
        "reflect",
        f"torchmetrics: {_GAUSSIAN}, mirrored at the border, all pixels",
    ),
}
# Other names of the same formula; BasicSR adds a crop and a Y channel, which are arguments here.
_SAME = {"basicsr": "wang", "pytorch": "wang", "hyperstyle": "wang"}

Values = Literal["0..1", "-1..1"]


def ssim_variant(name: str) -> SSIMVariant:
    """Look a variant up by name.

    Raises:
        ValueError: there is none of that name.

    Example:
        >>> ssim_variant("basicsr") is ssim_variant("wang")
        True
    """
    found = VARIANTS.get(_SAME.get(name, name))
    if found is None:
        names = sorted([*VARIANTS, *_SAME])
        raise ValueError(f"`variant` must be one of {', '.join(names)}; got {name!r}")
    return found


def _window(variant: SSIMVariant) -> list[float]:
    """One-dimensional weights that sum to 1; a window is their outer product."""
    if variant.window == "uniform":
        return [1 / variant.size] * variant.size
    middle = variant.size // 2
    weights = [math.exp(-((i - middle) ** 2) / (2 * 1.5**2)) for i in range(variant.size)]
    return [weight / sum(weights) for weight in weights]


def _local_mean(x: Tensor, weights: list[float]) -> Tensor:
    # Weighted sums of shifted views: a third of a depthwise convolution's time in float64.
    for dim in (2, 3):
        size = x.shape[dim] - len(weights) + 1
        total = weights[0] * x.narrow(dim, 0, size)
        for i, weight in enumerate(weights[1:], 1):
            total = total.add_(x.narrow(dim, i, size), alpha=weight)
        x = total
    return x


def similarity_maps(
    x: Tensor, y: Tensor, variant: SSIMVariant, peak: float
) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure factor at every place the (padded) window fits."""
    weight = _window(variant)
    if variant.border == "reflect":
        pad = [variant.size // 2] * 4
        x, y = F.pad(x, pad, mode="reflect"), F.pad(y, pad, mode="reflect")
    # Centred first: E[x^2] - E[x]^2 then loses no digits to the mean.
    shift = (x.mean((2, 3), keepdim=True) + y.mean((2, 3), keepdim=True)) / 2
    x, y = x - shift, y - shift
    mx, my = _local_mean(x, weight), _local_mean(y, weight)
    scale = 1.0
    if variant.sample_covariance:
        scale = variant.size**2 / (variant.size**2 - 1)
    vx = scale * (_local_mean(x * x, weight) - mx * mx)
    vy = scale * (_local_mean(y * y, weight) - my * my)
    vxy = scale * (_local_mean(x * y, weight) - mx * my)
    mx, my = mx + shift, my + shift
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    contrast = (2 * vxy + c2) / (vx + vy + c2)
    return (2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast, contrast


def prepared_pair(
    a: Tensor,
    b: Tensor,
    value_range: tuple[float, float],
    channel: str,
    crop: int,
    values: str,
    least: int,
    why: str,
) -> tuple[Tensor, Tensor, float]:
    """Check, crop and convert a pair; returns both images and the range of their values."""
    if channel not in ("rgb", "y"):
        raise ValueError(f'`channel` must be "rgb" or "y", got {channel!r}')
    if values not in ("0..1", "-1..1"):
        raise ValueError(f'`values` must be "0..1" or "-1..1", got {values!r}')
    x, y = image_pair(a, b, value_range)
    x, y = cropped(x, crop), cropped(y, crop)
    if channel == "y":
        x, y = luma(x), luma(y)
    if min(x.shape[-2:]) < least:
        raise ValueError(
            f"`a` and `b` must have sides of at least {least} px {why}, got {x.shape[-2]} x "
            f"{x.shape[-1]}"
        )
    return (x, y, 1.0) if values == "0..1" else (2 * x - 1, 2 * y - 1, 2.0)


def ssim_values(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    variant: str = "wang",
    value_range: tuple[float, float] = (-1.0, 1.0),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    values: Values = "0..1",
) -> Tensor:
    """SSIM of each pair of images, mean over places and channels, in float64.

    Differentiable in both images, in the dtype float64.

    Args:
        a: ``[B, C, H, W]``, uint8 or floating point in ``value_range``.
        b: like ``a``.
        variant: ``"wang"`` (the same as ``"basicsr"`` and ``"pytorch"``), ``"skimage"``,
            ``"skimage-gaussian"`` or ``"torchmetrics"``; see :data:`VARIANTS`.
        value_range: of floating-point images.
        channel: ``"rgb"``, or ``"y"`` for the luma in video range (BasicSR's ``test_y_channel``).
        crop: pixels cut from every side first.
        values: what the formula sees. SSIM's luminance term depends on where 0 is: code that
            feeds images in [-1, 1] with a range of 2 gets other figures, which ``"-1..1"`` gives.

    Returns:
        ``[B]``, at most 1.

    Raises:
        TypeError: not images, see the message.
        ValueError: an unknown variant; shapes, sizes or values that cannot be compared.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 3, 16, 16)
        >>> ssim_values(x, x, variant="skimage").tolist()
        [1.0, 1.0]
    """
    chosen = ssim_variant(variant)
    x, y, peak = prepared_pair(
        a, b, value_range, channel, crop, values, chosen.size, f"for the variant {variant!r}"
    )
    return similarity_maps(x, y, chosen, peak)[0].mean((1, 2, 3))


def ssim_protocol(
    variant: str = "wang", channel: str = "rgb", crop: int = 0, values: str = "0..1"
) -> str:
    """Describe what :func:`ssim_values` computes.

    Example:
        >>> ssim_protocol("skimage").startswith("SSIM (skimage): scikit-image's defaults")
        True
    """
    what = "RGB, mean over channels" if channel == "rgb" else "Y of BT.601 (16..235 of 255)"
    border = f", {crop} px cropped from every side" if crop else ""
    seen = "" if values == "0..1" else ", on values -1..1"
    return f"SSIM ({variant}): {ssim_variant(variant).description}; {what}{border}{seen}"


def ssim(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    variant: str = "wang",
    value_range: tuple[float, float] = (-1.0, 1.0),
    channel: Literal["rgb", "y"] = "rgb",
    crop: int = 0,
    values: Values = "0..1",
    seed: int = 0,
) -> Score:
    """Mean SSIM of pairs of images; see :func:`ssim_values` for the arguments.

    Example:
        >>> import torch
        >>> x = torch.rand(1, 3, 16, 16)
        >>> ssim(x, x).value
        1.0
    """
    each = ssim_values(
        a,
        b,
        variant=variant,
        value_range=value_range,
        channel=channel,
        crop=crop,
        values=values,
    )
    return mean_score(each, ssim_protocol(variant, channel, crop, values), seed=seed)
