"""Multi-scale structural similarity."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .score import Score, mean_score
from .ssim import VARIANTS, Values, prepared_pair, similarity_maps

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first: Table 1 of the paper."""

_DESCRIPTIONS = {
    "wang": "Gaussian window 11 px, sigma 1.5, valid at every scale (pytorch-msssim)",
    "torchmetrics": "Gaussian window 11 px, sigma 1.5, contrast valid, luminance of the coarsest "
    "scale on the mirrored image (torchmetrics)",
}


def ms_ssim_values(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    variant: Literal["wang", "torchmetrics"] = "wang",
    value_range: tuple[float, float] = (-1.0, 1.0),
    values: Values = "0..1",
    normalize: bool = False,
) -> Tensor:
    """MS-SSIM of each pair of images in float64: five scales, halved by 2 x 2 means.

    ``prod_{j<5} cs_j^{w_j} ssim_5^{w_5}``, with ``cs_j`` the mean contrast-structure factor at
    scale j over places and channels. Negative means (inverted images) count as 0, since a
    fractional power has no value there. Wang et al.
    (https://doi.org/10.1109/ACSSC.2003.1292216), Eq. 7.

    Args:
        a: ``[B, C, H, W]`` with sides of at least 176 px, uint8 or floating point in
            ``value_range``.
        b: like ``a``.
        variant: what happens at the border; see the protocol.
        value_range: of floating-point images.
        values: what the formula sees, see :func:`gan_inversion.metrics.ssim_values`.
        normalize: use ``(cs + 1) / 2`` and ``(ssim + 1) / 2``, as an option of pytorch-msssim
            does; not the published definition.

    Returns:
        ``[B]`` between 0 and 1.

    Raises:
        TypeError: not images, see the message.
        ValueError: an unknown variant; shapes, sizes or values that cannot be compared.

    Example:
        >>> x = torch.rand(1, 3, 176, 176)
        >>> round(ms_ssim_values(x, x).item(), 6)
        1.0
    """
    if variant not in _DESCRIPTIONS:
        raise ValueError(f"`variant` must be one of {sorted(_DESCRIPTIONS)}, got {variant!r}")
    scales = len(SCALE_WEIGHTS)
    least = VARIANTS["wang"].size * 2 ** (scales - 1)
    x, y, peak = prepared_pair(a, b, value_range, "rgb", 0, values, least, "for MS-SSIM")
    result = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for j, weight in enumerate(SCALE_WEIGHTS):
        last = j == scales - 1
        whole, contrast = similarity_maps(x, y, VARIANTS[variant if last else "wang"], peak)
        factor = (whole if last else contrast).mean((1, 2, 3))
        factor = (factor + 1) / 2 if normalize else factor.clamp_min(0)
        result = result * factor**weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return result


def ms_ssim_protocol(variant: str = "wang", values: str = "0..1", normalize: bool = False) -> str:
    """Describe what :func:`ms_ssim_values` computes.

    Example:
        >>> "5 scales" in ms_ssim_protocol()
        True
    """
    seen = "" if values == "0..1" else ", on values -1..1"
    shifted = ", factors (x + 1) / 2 (not the published definition)" if normalize else ""
    return f"MS-SSIM ({variant}): 5 scales, {_DESCRIPTIONS[variant]}, RGB{seen}{shifted}"


def ms_ssim(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,
    *,
    variant: Literal["wang", "torchmetrics"] = "wang",
    value_range: tuple[float, float] = (-1.0, 1.0),
    values: Values = "0..1",
    normalize: bool = False,
    seed: int = 0,
) -> Score:
    """Mean MS-SSIM of pairs of images; see :func:`ms_ssim_values` for the arguments.

    Example:
        >>> x = torch.rand(1, 3, 176, 176)
        >>> round(ms_ssim(x, x).value, 6)
        1.0
    """
    each = ms_ssim_values(
        a, b, variant=variant, value_range=value_range, values=values, normalize=normalize
    )
    return mean_score(each, ms_ssim_protocol(variant, values, normalize), seed=seed)
