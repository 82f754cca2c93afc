"""The residual trunk that face recognition and the pSp family of encoders share.

IR: "improved residual" units with pre-normalisation (Deng et al., "ArcFace: Additive Angular Margin
Loss for Deep Face Recognition", https://arxiv.org/abs/1801.07698, section 3.1); SE:
squeeze-and-excitation (Hu et al., https://arxiv.org/abs/1709.01507), reduction 16.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

UNITS_PER_STAGE: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
}
"""Depth -> units in the stages of 64, 128, 256 and 512 channels (CurricularFace's IR-101: 100)."""

STAGE_CHANNELS = (64, 128, 256, 512)
_REDUCTION = 16


class IRFeatures(NamedTuple):
    """What :class:`IRTrunk` computes on the way, named by how much smaller than the input it is."""

    stem: Tensor  # [B, 64, H, W]
    stride2: Tensor  # [B, 64, H/2, W/2]
    stride4: Tensor  # [B, 128, H/4, W/4]
    stride8: Tensor  # [B, 256, H/8, W/8]
    stride16: Tensor  # [B, 512, H/16, W/16]


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // _REDUCTION, 1, bias=False)
        self.expand = nn.Conv2d(channels // _REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x [B, C, H, W]``."""
        gate = self.reduce(x.mean((2, 3), keepdim=True)).relu()
        return x * self.expand(gate).sigmoid()


class ConvShortcut(nn.Module):
    """1 x 1 convolution and normalisation, for a unit that changes the number of channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, ceil(H/stride), ceil(W/stride)]``."""
        return self.norm(self.conv(x))


class Subsample(nn.Module):
    """Every ``stride``-th pixel: the shortcut of a unit that keeps its channels."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, ceil(H/stride), ceil(W/stride)]``."""
        return x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]


class IRUnit(nn.Module):
    """Norm, conv, PReLU, conv with the stride, norm (, squeeze-and-excitation), plus a shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, squeeze_excite: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False)
        self.act = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.se = SqueezeExcite(out_channels) if squeeze_excite else None
        self.shortcut: nn.Module
        if in_channels == out_channels:
            self.shortcut = Subsample(stride)
        else:
            self.shortcut = ConvShortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, ceil(H/stride), ceil(W/stride)]``."""
        y = self.norm2(self.conv2(self.act(self.conv1(self.norm1(x)))))
        if self.se is not None:
            y = self.se(y)
        return y + self.shortcut(x)


class Stem(nn.Module):
    """3 x 3 convolution to 64 channels, normalisation, PReLU."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, STAGE_CHANNELS[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(STAGE_CHANNELS[0])
        self.act = nn.PReLU(STAGE_CHANNELS[0])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, 64, H, W]``."""
        return self.act(self.norm(self.conv(x)))


class IRTrunk(nn.Module):
    """IR or IR-SE trunk: an image to five feature maps, from its own size to a sixteenth of it.

    Papers: ArcFace, https://arxiv.org/abs/1801.07698; squeeze-and-excitation,
    https://arxiv.org/abs/1709.01507. Depth 50 with squeeze-and-excitation is the "IR-SE-50" of
    pSp, e4e and ``model_ir_se50.pth``.

    Args:
        depth: one of 18, 34, 50, 100, 152.
        squeeze_excite: gate the output of every unit.
        in_channels: channels of the image.

    Raises:
        ValueError: a depth that is not in the list.

    Example:
        >>> import torch
        >>> features = IRTrunk(depth=18)(torch.zeros(1, 3, 64, 64))
        >>> features.stride16.shape
        torch.Size([1, 512, 4, 4])
    """

    def __init__(self, depth: int = 50, squeeze_excite: bool = True, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in UNITS_PER_STAGE:
            raise ValueError(f"`depth` must be one of {sorted(UNITS_PER_STAGE)}, got {depth!r}")
        self.stem = Stem(in_channels)
        self.units = nn.ModuleList()
        self.stage_ends: list[int] = []
        channels = STAGE_CHANNELS[0]
        for count, width in zip(UNITS_PER_STAGE[depth], STAGE_CHANNELS, strict=True):
            for i in range(count):
                self.units.append(IRUnit(channels, width, 2 if i == 0 else 1, squeeze_excite))
                channels = width
            self.stage_ends.append(len(self.units) - 1)

    def forward(self, x: Tensor) -> IRFeatures:
        """Return the features of ``x [B, in_channels, H, W]``; sides are halved rounding up."""
        x = stem = self.stem(x)
        ends = []
        for i, unit in enumerate(self.units):
            x = unit(x)
            if i in self.stage_ends:
                ends.append(x)
        return IRFeatures(stem, *ends)
