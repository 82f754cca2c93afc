"""StyleGAN2's discriminator (Karras et al., 2020, https://arxiv.org/abs/1912.04958), any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...hub import Hub
from .generator import as_config, check_pyramid, load_exactly, official_channels
from .mapping import EqualLinear, MappingNetwork
from .ops import bias_act, fir_kernel, resample_conv2d


@dataclass(frozen=True)
class StyleGAN2DiscriminatorConfig:
    """What a discriminator looks like; plain values.

    Attributes:
        resolution: side of the image, a power of two >= 8.
        channels: widths at 4, 8, ... ``resolution`` pixels.
        c_dim: width of a label, 0 for an unconditional discriminator.
        cmap_dim: width of the mapped label (conditional only).
        num_mapping_layers: layers of the label's mapping network (conditional only).
        mapping_lr_multiplier: their learning rate's factor.
        architecture: ``"resnet"``, or ``"orig"`` without skip connections.
        group_size: minibatch standard deviation is taken over groups of at most this many images;
            None for the whole batch.
        std_channels: channels that it adds; 0 for none.
        img_channels: 3 for RGB.
        resample_taps: low-pass filter of the down-sampling.
        conv_clamp: limit of activations; None for no limit.
    """

    resolution: int
    channels: tuple[int, ...]
    c_dim: int = 0
    cmap_dim: int = 512
    num_mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    architecture: Literal["resnet", "orig"] = "resnet"
    group_size: int | None = 4
    std_channels: int = 1
    img_channels: int = 3
    resample_taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "resample_taps", tuple(self.resample_taps))
        check_pyramid(self.resolution, self.channels)
        if self.architecture not in ("resnet", "orig"):
            raise ValueError(
                f"`architecture` must be 'resnet' or 'orig', got {self.architecture!r}"
            )
        if self.std_channels and self.channels[0] % self.std_channels:
            raise ValueError(
                f"`std_channels` {self.std_channels} must divide the {self.channels[0]} channels "
                "at 4 px"
            )

    @classmethod
    def official(
        cls, resolution: int, channel_multiplier: float = 2, **changes: Any
    ) -> StyleGAN2DiscriminatorConfig:
        """Widths of the paper: multiplier 2 is config-f, 1 is config-e."""
        return cls(resolution, official_channels(resolution, channel_multiplier), **changes)


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate, bias, activation, optional down-sampling."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        down: int = 1,
        activation: str = "lrelu",
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * size * size)
        self.down, self.activation, self.clamp = down, activation, clamp
        self.padding = size // 2

    def forward(self, x: Tensor, kernel: Tensor, gain: float = 1.0) -> Tensor:
        """Map ``[B, I, H, W]`` to ``[B, O, H / down, W / down]``; ``gain`` is on top."""
        weight = (self.weight * self.scale).to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        act_gain = gain * (math.sqrt(2) if self.activation == "lrelu" else 1.0)
        y = resample_conv2d(x, weight, kernel, 1, self.down, self.padding, bias=bias)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(y, None, self.activation, gain=act_gain, clamp=clamp)


class DiscriminatorBlock(nn.Module):
    """Two convolutions to half the side, beside a filtered 1x1 one: ``(a + b) / sqrt(2)``."""

    def __init__(
        self, in_channels: int, out_channels: int, config: StyleGAN2DiscriminatorConfig
    ) -> None:
        super().__init__()
        clamp = config.conv_clamp
        self.conv0 = EqualConv(in_channels, in_channels, 3, clamp=clamp)
        self.conv1 = EqualConv(in_channels, out_channels, 3, down=2, clamp=clamp)
        self.skip = (
            EqualConv(in_channels, out_channels, 1, down=2, activation="linear", bias=False)
            if config.architecture == "resnet"
            else None
        )

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Map ``[B, I, H, W]`` to ``[B, O, H / 2, W / 2]``."""
        if self.skip is None:
            return self.conv1(self.conv0(x, kernel), kernel)
        half = math.sqrt(0.5)
        y = self.skip(x, kernel, half)
        return y + self.conv1(self.conv0(x, kernel), kernel, half)


def minibatch_stddev(
    x: Tensor,  # [B, C, H, W]
    group_size: int | None = 4,
    channels: int = 1,
) -> Tensor:
    """Append the standard deviation over groups of images: ``[B, C + channels, H, W]``.

    A group has ``min(group_size, B)`` images, ``B / group`` apart in the batch. The deviation is
    biased, with 1e-8 under the root, averaged over a channel group and all pixels
    (https://arxiv.org/abs/1710.10196, section 3).

    Raises:
        ValueError: the batch is not divisible into groups.

    Example:
        >>> minibatch_stddev(torch.zeros(8, 3, 4, 4)).shape
        torch.Size([8, 4, 4, 4])
    """
    batch, width, height, side = x.shape
    if batch == 0:
        return x.new_empty(0, width + channels, height, side)
    group = batch if group_size is None else min(group_size, batch)
    if batch % group:
        raise ValueError(f"`x` must have a multiple of {group} images (one group), got {batch}")
    y = x.reshape(group, batch // group, channels, width // channels, height, side)
    # Explicit, so that it can be differentiated twice in every PyTorch we support.
    y = (y - y.mean(0)).square().mean(0)
    y = (y + 1e-8).sqrt().mean((2, 3, 4))  # [B / group, channels]
    y = y.repeat(group, 1)[:, :, None, None].expand(-1, -1, height, side)
    return torch.cat([x, y], 1)


class StyleGAN2Discriminator(Hub, nn.Module):
    """Image to logit.

    Example:
        >>> d = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(16, (8, 8, 8)))
        >>> d(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 1])
    """

    config_class = StyleGAN2DiscriminatorConfig

    def __init__(self, config: StyleGAN2DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths, clamp = config.channels, config.conv_clamp
        self.from_rgb = EqualConv(config.img_channels, widths[-1], 1, clamp=clamp)
        # From the image down: blocks.0 works at the full resolution.
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(widths[j], widths[j - 1], config)
            for j in range(len(widths) - 1, 0, -1)
        )
        self.final_conv = EqualConv(widths[0] + config.std_channels, widths[0], 3, clamp=clamp)
        self.final_linear = EqualLinear(widths[0] * 16, widths[0])
        self.mapping_network = (
            MappingNetwork(
                0,
                config.c_dim,
                config.cmap_dim,
                config.num_mapping_layers,
                config.mapping_lr_multiplier,
            )
            if config.c_dim
            else None
        )
        self.out = EqualLinear(widths[0], config.cmap_dim if config.c_dim else 1)
        self.register_buffer("kernel", fir_kernel(config.resample_taps), persistent=False)
        self.kernel: Tensor

    @classmethod
    def from_state(
        cls,
        config: StyleGAN2DiscriminatorConfig | Mapping[str, Any],
        state: Mapping[str, Tensor],
    ) -> StyleGAN2Discriminator:
        """Build a frozen discriminator in eval mode from a configuration and its tensors.

        Raises:
            ValueError: keys missing, unknown or of another shape than the configuration's.
        """
        settings: StyleGAN2DiscriminatorConfig = as_config(StyleGAN2DiscriminatorConfig, config)
        with torch.device("meta"):
            discriminator = cls(settings)
        discriminator.kernel = fir_kernel(settings.resample_taps)
        load_exactly(discriminator, state)
        return discriminator.eval().requires_grad_(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return what goes into every block, from the full resolution down to 4 px.

        Args:
            image: ``[B, img_channels, R, R]`` in [-1, 1].

        Raises:
            ValueError: another shape.
        """
        side = self.config.resolution
        if image.ndim != 4 or image.shape[1:] != (self.config.img_channels, side, side):
            raise ValueError(
                f"`image` must have shape [B, {self.config.img_channels}, {side}, {side}], "
                f"got {list(image.shape)}"
            )
        outputs = [self.from_rgb(image, self.kernel)]
        for block in self.blocks:
            outputs.append(block(outputs[-1], self.kernel))
        return outputs

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logits ``[B, 1]``.

        Args:
            image: ``[B, img_channels, R, R]`` in [-1, 1]; the batch must be a multiple of
                ``min(group_size, B)``.
            c: label ``[B, c_dim]`` of a conditional discriminator.
        """
        if c is not None and self.mapping_network is None:
            raise ValueError("`c` must be None: the network is not conditional")
        x = self.features(image)[-1]
        if self.config.std_channels:
            x = minibatch_stddev(x, self.config.group_size, self.config.std_channels)
        x = self.final_conv(x, self.kernel)
        x = self.out(bias_act(self.final_linear(x.flatten(1))))
        if self.mapping_network is None:
            return x
        label = self.mapping_network(None, c)
        return (x * label).sum(1, keepdim=True) / math.sqrt(self.config.cmap_dim)
