"""What all encoders of photographs into latent codes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..hub import Hub
from .ir_se import IRTrunk

IMAGE_SIZE = 256
"""Side of an encoder's input."""


class EqualizedLinear(nn.Module):
    """Linear layer whose weights are stored with variance 1 and scaled by ``1/sqrt(in)`` when used.

    Karras et al., "Progressive Growing of GANs", https://arxiv.org/abs/1710.10196, section 4.1.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = in_features**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_features]`` to ``[B, out_features]``."""
        return F.linear(x, self.weight * self.scale, self.bias)


class Encoder(Hub, nn.Module, ABC):
    """An image to a W+ code: ``trunk``, something that reads its features, plus ``latent_avg``.

    Attributes:
        num_ws: rows of a code.
        w_dim: width of a row.
        config: the arguments it was made with; ``type(encoder)(**encoder.config)`` makes another.
        trunk: the :class:`~gan_inversion.encoders.ir_se.IRTrunk`.
        latent_avg: ``[num_ws, w_dim]``, added to what the network computes; zeros until it is
            loaded or set. Encoders are usually trained to tell the difference from the mean latent.
    """

    latent_avg: Tensor

    def __init__(
        self,
        num_ws: int = 18,
        *,
        w_dim: int = 512,
        depth: int = 50,
        squeeze_excite: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        for name, value in (("num_ws", num_ws), ("w_dim", w_dim), ("in_channels", in_channels)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
        self.num_ws = num_ws
        self.w_dim = w_dim
        self.config: dict[str, Any] = {
            "num_ws": num_ws,
            "w_dim": w_dim,
            "depth": depth,
            "squeeze_excite": squeeze_excite,
            "in_channels": in_channels,
        }
        self.trunk = IRTrunk(depth, squeeze_excite, in_channels)
        self.register_buffer("latent_avg", torch.zeros(num_ws, w_dim))

    @abstractmethod
    def offsets(self, image: Tensor) -> Tensor:
        """The code of ``image`` without ``latent_avg``: ``[B, num_ws, w_dim]``."""

    def forward(self, image: Tensor) -> Tensor:
        """Encode ``image [B, in_channels, 256, 256]`` in [-1, 1] as ``[B, num_ws, w_dim]``.

        Raises:
            ValueError: another shape than the encoder can read.
        """
        return self.offsets(image) + self.latent_avg

    def _check(self, image: Tensor) -> None:
        channels = self.config["in_channels"]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(
                f"`image` must have shape [B, {channels}, {IMAGE_SIZE}, {IMAGE_SIZE}], "
                f"got {list(image.shape)}"
            )
        # The heads halve a map until one pixel is left, which holds for these sides: car encoders
        # are fed 192 x 256. Anything larger would come out as several codes per image.
        low, high = IMAGE_SIZE // 2 + 1, IMAGE_SIZE
        if not all(low <= side <= high for side in image.shape[2:]):
            raise ValueError(
                f"`image` must be {IMAGE_SIZE} x {IMAGE_SIZE} pixels (each side from {low} to "
                f"{high}), got {image.shape[2]} x {image.shape[3]}; resize it first, with "
                "torch.nn.functional.adaptive_avg_pool2d for a larger one"
            )
