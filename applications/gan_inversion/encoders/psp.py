"""The encoders of pSp: into W+ from a feature pyramid, and into W from the last layer.

Richardson et al., "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation",
https://arxiv.org/abs/2008.00951, section 3 and figure 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Encoder, EqualizedLinear
from .ir_se import STAGE_CHANNELS, IRFeatures

COARSE_ROWS = 3
"""Rows 0 to 2 are read from the map of 16 x 16 ..."""
MIDDLE_ROWS = 7
"""... rows 3 to 6 from that of 32 x 32, all others from that of 64 x 64."""
_COARSE_HALVINGS = 4  # 16 pixels to one


class Pyramid(NamedTuple):
    """The maps that the style heads read, all with 512 channels."""

    coarse: Tensor  # [B, 512, 16, 16]
    middle: Tensor  # [B, 512, 32, 32]
    fine: Tensor  # [B, 512, 64, 64]

    def of_row(self, row: int) -> Tensor:
        """The map from which a row of the code is read."""
        return self.coarse if row < COARSE_ROWS else self.middle if row < MIDDLE_ROWS else self.fine


class StyleHead(nn.Module):
    """A feature map to one row of the code: convolutions of stride 2 to one pixel, then linear.

    This is the paper's ``map2style``. The linear layer is equalized.
    """

    def __init__(self, in_channels: int, w_dim: int, halvings: int) -> None:
        super().__init__()
        widths = [in_channels] + [w_dim] * halvings
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.linear = EqualizedLinear(w_dim, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, s, s]``, ``s`` up to ``2**halvings``, to ``[B, w_dim]``."""
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.01)
        return self.linear(x.flatten(1))


class PyramidEncoder(Encoder):
    """IR-SE trunk, feature pyramid and one style head per row: what pSp and e4e have in common.

    Their networks have the same parameters; only what a head's output means differs.
    """

    def __init__(
        self,
        num_ws: int = 18,
        *,
        w_dim: int = 512,
        depth: int = 50,
        squeeze_excite: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__(
            num_ws,
            w_dim=w_dim,
            depth=depth,
            squeeze_excite=squeeze_excite,
            in_channels=in_channels,
        )
        width = STAGE_CHANNELS[-1]
        self.heads = nn.ModuleList(
            StyleHead(width, w_dim, _COARSE_HALVINGS + (row >= COARSE_ROWS) + (row >= MIDDLE_ROWS))
            for row in range(num_ws)
        )
        self.lateral_middle = nn.Conv2d(STAGE_CHANNELS[2], width, 1)
        self.lateral_fine = nn.Conv2d(STAGE_CHANNELS[1], width, 1)

    def pyramid(self, features: IRFeatures) -> Pyramid:
        """Merge the trunk's features from coarse to fine, with bilinear up-sampling.

        ``align_corners=True``, as in the released code.
        """
        coarse = features.stride16
        middle = _upsample_add(coarse, self.lateral_middle(features.stride8))
        fine = _upsample_add(middle, self.lateral_fine(features.stride4))
        return Pyramid(coarse, middle, fine)


def _upsample_add(x: Tensor, lateral: Tensor) -> Tensor:
    size = lateral.shape[2:]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True) + lateral


class GradualStyleEncoder(PyramidEncoder):
    """pSp's encoder into W+: every row from its own head on the map of its level of detail.

    Paper: https://arxiv.org/abs/2008.00951, figure 2. The released network is the default, with 267
    million parameters; ``checkpoints`` reads its files.

    Args:
        num_ws: rows of the code, any number from 1 on: ``2 * log2(resolution) - 2`` for StyleGAN2.
        w_dim: width of a row.
        depth: of the trunk: 18, 34, 50, 100 or 152.
        squeeze_excite: IR-SE units if true, IR units if not.
        in_channels: channels of the image (1 for sketches, the number of classes for label maps).

    Raises:
        ValueError: an argument out of range; in ``forward``, an image of another size.

    Example:
        >>> import torch
        >>> encoder = GradualStyleEncoder(num_ws=4, w_dim=32, depth=18).eval()
        >>> encoder(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 4, 32])
    """

    def offsets(self, image: Tensor) -> Tensor:
        """The code of ``image [B, in_channels, 256, 256]`` without ``latent_avg``."""
        self._check(image)
        pyramid = self.pyramid(self.trunk(image))
        rows = [head(pyramid.of_row(row)) for row, head in enumerate(self.heads)]
        return torch.stack(rows, 1)


class LastLayerWEncoder(Encoder):
    """An encoder into W: the mean of the trunk's last features through one linear layer.

    pSp's ablation "into W" (https://arxiv.org/abs/2008.00951, section 4.1) and the encoder with
    which HyperStyle starts (https://arxiv.org/abs/2111.15666, section 3.2;
    ``faces_w_encoder.pt``). The one row is repeated, so that the output is a W+ code as everywhere.

    Args:
        num_ws: how often the row is repeated.
        w_dim: width of the row.
        depth: of the trunk: 18, 34, 50, 100 or 152.
        squeeze_excite: IR-SE units if true, IR units if not.
        in_channels: channels of the image.

    Raises:
        ValueError: an argument out of range; in ``forward``, an image of another size.

    Example:
        >>> import torch
        >>> encoder = LastLayerWEncoder(num_ws=4, w_dim=32, depth=18).eval()
        >>> encoder(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 4, 32])
    """

    def __init__(
        self,
        num_ws: int = 18,
        *,
        w_dim: int = 512,
        depth: int = 50,
        squeeze_excite: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__(
            num_ws,
            w_dim=w_dim,
            depth=depth,
            squeeze_excite=squeeze_excite,
            in_channels=in_channels,
        )
        self.linear = EqualizedLinear(STAGE_CHANNELS[-1], w_dim)

    def offsets(self, image: Tensor) -> Tensor:
        """The code of ``image [B, in_channels, 256, 256]`` without ``latent_avg``."""
        self._check(image)
        w = self.linear(self.trunk(image).stride16.mean((2, 3)))
        return w[:, None].expand(-1, self.num_ws, -1)
