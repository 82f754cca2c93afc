"""From DH-Net's mask to the mask that fuses pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...images import smoothstep
from .ef_net import resize_mask

# Of the range [-1, 1]. Below the first an edit is invisible, above the second it is plain to see.
LOCAL_LOW, LOCAL_HIGH = 0.006, 0.03
CONTRAST_LOW, CONTRAST_HIGH = 0.15, 0.75


def blur(x: Tensor, radius: int, passes: int = 3) -> Tensor:
    """Repeated box blur, close to a Gaussian; borders are reflected."""
    for _ in range(passes):
        x = F.avg_pool2d(F.pad(x, (radius,) * 4, mode="reflect"), 2 * radius + 1, 1)
    return x


def edit_difference(inverted: Tensor, edited: Tensor) -> Tensor:
    """How much the edit changes around each place: blurred ``max_c |T - I'|`` at 256 px."""
    difference = (edited - inverted).abs().amax(1, keepdim=True)
    return blur(F.interpolate(difference, size=(256, 256), mode="area"), 4)


def fusion_mask(mask: Tensor, inverted: Tensor, edited: Tensor) -> Tensor:
    """Return M at the images' side: DH-Net's mask, gated by how much T and I' differ.

    The min-max normalised mask reaches 1 however small the edit is. The gate makes the result
    tend to the photograph as the strength tends to 0, and keeps pixels that the edit does not
    change.

    Args:
        mask: DH-Net's ``M^(L) [B, 1, h, w]``.
        inverted: ``I' [B, 3, R, R]``.
        edited: ``T``, like ``inverted``.

    Returns:
        ``[B, 1, R, R]`` in [0, 1].
    """
    side = edited.shape[-1]
    sharp = smoothstep(resize_mask(mask, 256), CONTRAST_LOW, CONTRAST_HIGH)
    gate = smoothstep(edit_difference(inverted, edited), LOCAL_LOW, LOCAL_HIGH)
    small = blur(sharp * gate, 3)
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
