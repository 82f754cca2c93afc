"""Names and shapes of HyperStyle's hypernetwork, to tell a whole one from a damaged one.

Alaluf et al., "HyperStyle: StyleGAN Inversion with HyperNetworks for Real Image Editing",
https://arxiv.org/abs/2111.15666, section 3.3. The network itself belongs to the method; this is
what a checkpoint of it must hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import CheckpointError
from .encoder_names import some
from .limits import shown

Shapes = dict[str, tuple[int, ...]]

SHARED_LAYERS = (0, 2, 3, 5, 6, 8, 9, 11, 12)
"""Layers of 512 x 512 x 3 x 3, whose changes come from one shared pair of matrices."""
_WIDE, _SHARED_INNER, _INNER = 512, 128, 256
# Channels of StyleGAN2 (config f) from 4 x 4 to 1024 x 1024.
_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
_RESNET34 = ((3, 64), (4, 128), (6, 256), (3, 512))


@dataclass(frozen=True)
class HypernetLayout:
    """Which hypernetwork a checkpoint holds.

    Attributes:
        layers: the tuned layers of the generator: 0 is the 4 x 4 convolution, 1 its toRGB, then
            up-convolution, convolution and toRGB per resolution.
        separable: changes of the large layers are outer products.
        in_channels: of the images it reads: 6, the photograph and its reconstruction.
    """

    layers: tuple[int, ...]
    separable: bool
    in_channels: int

    def shapes(self) -> Shapes:
        """Every name in the state dict with its shape."""
        shapes = _resnet(self.in_channels) | _two_matrices("shared_weight_hypernet")
        for layer in self.layers:
            shapes |= _block(layer, self.separable)
        return shapes


def layer_channels(layer: int) -> tuple[int, int, bool]:
    """(input channels, output channels, is a toRGB) of a layer of the generator at 1024.

    Example:
        >>> [layer_channels(i) for i in (0, 1, 14, 25)]
        [(512, 512, False), (512, 3, True), (512, 256, False), (32, 3, True)]
    """
    # Layers 0 and 1 belong to the first resolution, then every resolution has three.
    resolution, place = divmod(layer + 1, 3)
    width = _CHANNELS[resolution]
    if place == 2:
        return width, 3, True
    return (_CHANNELS[resolution - 1] if place == 0 else width), width, False


def _norm(name: str, width: int) -> Shapes:
    vectors = ("weight", "bias", "running_mean", "running_var")
    shapes: Shapes = {f"{name}.{kind}": (width,) for kind in vectors}
    return shapes | {f"{name}.num_batches_tracked": ()}


def _resnet(in_channels: int) -> Shapes:
    shapes: Shapes = {"conv1.weight": (64, in_channels, 7, 7), "relu.weight": (64,)}
    shapes |= _norm("bn1", 64)
    before, unit = 64, 0
    for count, width in _RESNET34:
        for _ in range(count):
            name = f"body.{unit}"
            shapes[f"{name}.conv1.weight"] = (width, before, 3, 3)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            shapes |= _norm(f"{name}.bn1", width) | _norm(f"{name}.bn2", width)
            if before != width:
                shapes[f"{name}.downsample.0.weight"] = (width, before, 1, 1)
                shapes |= _norm(f"{name}.downsample.1", width)
            before, unit = width, unit + 1
    return shapes


def _two_matrices(name: str) -> Shapes:
    first, second = _WIDE * 9, _WIDE * _WIDE
    return {
        f"{name}.w1": (_WIDE, first),
        f"{name}.b1": (first,),
        f"{name}.w2": (_WIDE, second),
        f"{name}.b2": (second,),
    }


def _affine(name: str, *weight: int) -> Shapes:
    return {f"{name}.weight": weight, f"{name}.bias": (weight[0],)}


def _block(layer: int, separable: bool) -> Shapes:
    name = f"refinement_blocks.{layer}"
    shared = layer in SHARED_LAYERS
    channels_in, channels_out, is_rgb = layer_channels(layer)
    inner = _SHARED_INNER if shared else _INNER
    # 16 x 16 comes in; how far it is reduced differs by the kind of block.
    convs = 5 if shared else 4 if is_rgb or separable else 3
    widths = [_WIDE] + [inner] * (convs - 1) + [_WIDE]
    shapes: Shapes = {}
    for i in range(convs):
        shapes |= _affine(f"{name}.convs.{2 * i}", widths[i + 1], widths[i], 3, 3)
    if shared:
        shapes |= _affine(f"{name}.linear", _WIDE, _WIDE) | _two_matrices(f"{name}.hypernet")
    elif is_rgb:
        shapes |= _affine(f"{name}.output.0", channels_in * channels_out, _WIDE, 1, 1)
    elif separable:
        shapes |= _affine(f"{name}.output.0.make_kernel_in", channels_in * 9, _WIDE)
        shapes |= _affine(f"{name}.output.0.make_kernel_out", channels_out * 9, _WIDE)
        shapes |= _affine(f"{name}.output.0.kernel_linear_in", channels_in, channels_in)
        shapes |= _affine(f"{name}.output.0.kernel_linear_out", channels_out, channels_out)
    else:
        shapes |= _affine(f"{name}.output.1", channels_in * channels_out, _WIDE, 1, 1)
    return shapes


def hypernet_layout(part: Mapping[str, Tensor]) -> HypernetLayout:
    """Which hypernetwork the names belong to, every name and shape compared.

    Args:
        part: its state dict, without ``hypernet.``.

    Raises:
        CheckpointError: a missing, unexpected or mis-shaped tensor.
    """
    layers = _layers(part)
    separable = any(".make_kernel_in." in name for name in part)
    first = part.get("conv1.weight")
    in_channels = int(first.shape[1]) if first is not None and first.ndim == 4 else 6
    layout = HypernetLayout(layers, separable, in_channels)
    wanted = layout.shapes()
    missing = [name for name in wanted if name not in part]
    unexpected = [name for name in part if name not in wanted]
    if missing or unexpected or not layers:
        raise CheckpointError(
            f"its hypernetwork for {len(layers)} layers is not HyperStyle's: "
            f"missing {some(missing)}, unexpected {some(unexpected)}"
        )
    for name, shape in wanted.items():
        if tuple(part[name].shape) != shape:
            raise CheckpointError(
                f"hypernet.{shown(name)} has shape {list(part[name].shape)}, not {list(shape)}"
            )
    return layout


def _layers(names: Collection[str]) -> tuple[int, ...]:
    found = {
        int(match[1])
        for name in names
        if (match := re.match(r"refinement_blocks\.(\d{1,2})\.", name))
    }
    return tuple(sorted(layer for layer in found if layer < 3 * len(_CHANNELS) - 1))
