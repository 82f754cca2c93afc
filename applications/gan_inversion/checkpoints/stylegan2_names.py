"""Which of our StyleGAN2 tensors is which of theirs, and configurations read off shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..generators.stylegan2.discriminator import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
)
from ..generators.stylegan2.generator import StyleGAN2Config, StyleGAN2Generator
from ..generators.stylegan2.ops import fir_kernel

Shape = tuple[int, ...]
Names = dict[str, tuple[str, Shape]]
"""Our name -> their name and shape; the values are the same, in the same order."""


def shape_of(theirs: Mapping[str, Tensor], name: str, ndim: int | None = None) -> Shape:
    """Shape of a tensor that must be there, with ``ndim`` axes (default: at least two)."""
    if name not in theirs:
        raise CheckpointError(f"tensors that do not fit: missing {name}")
    shape = tuple(theirs[name].shape)
    if len(shape) < 2 or (ndim is not None and len(shape) != ndim):
        raise CheckpointError(f"{name} is {list(shape)}, which fits no StyleGAN2")
    return shape


# --- which of our tensors is which of theirs ---


def own_shapes(config: StyleGAN2Config | StyleGAN2DiscriminatorConfig) -> dict[str, Shape]:
    """Names and shapes of our own state dict."""
    with torch.device("meta"):
        module = (
            StyleGAN2Generator(config)
            if isinstance(config, StyleGAN2Config)
            else StyleGAN2Discriminator(config)
        )
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def rosinality_generator(config: StyleGAN2Config) -> Names:
    """Names of a rosinality generator's tensors."""
    names: Names = {}
    for ours, shape in own_shapes(config).items():
        if m := re.fullmatch(r"mapping_network\.layers\.(\d+)\.(\w+)", ours):
            names[ours] = f"style.{int(m[1]) + 1}.{m[2]}", shape
        elif ours == "const":
            names[ours] = "input.input", shape
        elif m := re.fullmatch(r"convs\.(\d+)\.(.+)", ours):
            i = int(m[1])
            layer = "conv1" if i == 0 else f"convs.{i - 1}"
            if m[2] == "weight":
                names[ours] = f"{layer}.conv.weight", (1, *shape)
            elif m[2] == "bias":
                names[ours] = f"{layer}.activate.bias", shape
            elif m[2] == "noise_strength":
                names[ours] = f"{layer}.noise.weight", (1,)
            elif m[2] == "noise":
                names[ours] = f"noises.noise_{i}", shape
            else:
                names[ours] = f"{layer}.conv.{m[2].replace('affine', 'modulation')}", shape
        elif m := re.fullmatch(r"rgbs\.(\d+)\.(.+)", ours):
            j = int(m[1])
            layer = "to_rgb1" if j == 0 else f"to_rgbs.{j - 1}"
            if m[2] == "weight":
                names[ours] = f"{layer}.conv.weight", (1, *shape)
            elif m[2] == "bias":
                names[ours] = f"{layer}.bias", (1, *shape, 1, 1)
            else:
                names[ours] = f"{layer}.conv.{m[2].replace('affine', 'modulation')}", shape
    return names


def rosinality_discriminator(config: StyleGAN2DiscriminatorConfig) -> Names:
    """Names of a rosinality discriminator's tensors."""
    names: Names = {}
    fixed = {
        "from_rgb.weight": "convs.0.0.weight",
        "from_rgb.bias": "convs.0.1.bias",
        "final_conv.weight": "final_conv.0.weight",
        "final_conv.bias": "final_conv.1.bias",
    }
    parts = {
        "conv0.weight": "conv1.0.weight",
        "conv0.bias": "conv1.1.bias",
        "conv1.weight": "conv2.1.weight",
        "conv1.bias": "conv2.2.bias",
        "skip.weight": "skip.1.weight",
    }
    for ours, shape in own_shapes(config).items():
        if m := re.fullmatch(r"blocks\.(\d+)\.(.+)", ours):
            theirs = f"convs.{int(m[1]) + 1}.{parts[m[2]]}"
        elif ours in fixed:
            theirs = fixed[ours]
        else:
            theirs = ours.replace("final_linear.", "final_linear.0.")
            theirs = theirs.replace("out.", "final_linear.1.")
        names[ours] = theirs, shape
    return names


def nvlabs_generator(config: StyleGAN2Config) -> Names:
    """Names of an NVlabs generator's tensors."""
    names: Names = {}
    for ours, shape in own_shapes(config).items():
        if m := re.fullmatch(r"mapping_network\.(.+)", ours):
            names[ours] = "mapping." + re.sub(r"^layers\.", "fc", m[1]), shape
        elif ours == "w_avg":
            names[ours] = "mapping.w_avg", shape
        elif ours == "const":
            names[ours] = "synthesis.b4.const", shape[1:]
        elif m := re.fullmatch(r"convs\.(\d+)\.(.+)", ours):
            i = int(m[1])
            layer = f"synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{(i + 1) % 2}"
            part = "noise_const" if m[2] == "noise" else m[2]
            names[ours] = f"{layer}.{part}", shape[2:] if m[2] == "noise" else shape
        elif m := re.fullmatch(r"rgbs\.(\d+)\.(.+)", ours):
            names[ours] = f"synthesis.b{4 * 2 ** int(m[1])}.torgb.{m[2]}", shape
    return names


def nvlabs_discriminator(config: StyleGAN2DiscriminatorConfig) -> Names:
    """Names of an NVlabs discriminator's tensors."""
    names: Names = {}
    top = config.resolution
    for ours, shape in own_shapes(config).items():
        if m := re.fullmatch(r"blocks\.(\d+)\.(.+)", ours):
            theirs = f"b{top // 2 ** int(m[1])}.{m[2]}"
        elif m := re.fullmatch(r"mapping_network\.(.+)", ours):
            theirs = "mapping." + re.sub(r"^layers\.", "fc", m[1])
        else:
            theirs = ours.replace("from_rgb.", f"b{top}.fromrgb.").replace("out.", "b4.out.")
            theirs = theirs.replace("final_conv.", "b4.conv.").replace("final_linear.", "b4.fc.")
        names[ours] = theirs, shape
    return names


# --- configurations, from the shapes of what is there ---

ROSINALITY_SIZES = {
    "const": "input.input",
    "conv": r"convs\.(\d+)\.conv\.weight",
    "mapping": r"style\.(\d+)\.weight",
    "first": "style.1.weight",
    "affine": "conv1.conv.modulation.weight",
    "rgb": "to_rgb1.conv.weight",
}
NVLABS_SIZES = {
    "const": "synthesis.b4.const",
    "conv": r"synthesis\.b(\d+)\.conv[01]\.weight",
    "mapping": r"mapping\.fc(\d+)\.weight",
    "first": "mapping.fc0.weight",
    "affine": "synthesis.b4.conv1.affine.weight",
    "rgb": "synthesis.b4.torgb.weight",
    "embed": "mapping.embed.weight",
}


def generator_config(theirs: Mapping[str, Tensor], sizes: Mapping[str, str]) -> StyleGAN2Config:
    """Read a generator's configuration off its tensors' names and shapes."""
    widths = [shape_of(theirs, sizes["const"])[-3]]
    kernels = {
        int(m[1]): tuple(value.shape)
        for name, value in theirs.items()
        if (m := re.fullmatch(sizes["conv"], name)) and value.ndim >= 4
    }
    if sizes is NVLABS_SIZES:
        kernels = {2 * (side.bit_length() - 3) - 1: s for side, s in kernels.items() if side > 4}
        order = sorted(kernels)
    else:
        order = [i for i in sorted(kernels) if i % 2]
    widths += [kernels[i][-4] for i in order]
    expected = [2 * j + 1 for j in range(len(order))]
    if not order or order != expected:
        raise CheckpointError(f"up-convolutions number {order}, expected {expected or [1]}")
    layers = sum(bool(re.fullmatch(sizes["mapping"], name)) for name in theirs)
    w_dim = shape_of(theirs, sizes["affine"], 2)[1]
    label = sizes.get("embed") in theirs
    z_dim = shape_of(theirs, sizes["first"], 2)[1] - (w_dim if label else 0)
    try:
        return StyleGAN2Config(
            resolution=4 * 2 ** len(order),
            channels=tuple(widths),
            z_dim=z_dim,
            w_dim=w_dim,
            c_dim=shape_of(theirs, sizes["embed"], 2)[1] if label else 0,
            num_mapping_layers=layers,
            img_channels=shape_of(theirs, sizes["rgb"])[-4],
        )
    except ValueError as error:
        raise CheckpointError(f"shapes that fit no StyleGAN2 generator: {error}") from error


def discriminator_config(
    theirs: Mapping[str, Tensor], *, first: str, block: str, final: str
) -> StyleGAN2DiscriminatorConfig:
    """Read a discriminator's configuration off its tensors' names and shapes."""
    kernels = {
        int(m[1]): tuple(value.shape)
        for name, value in theirs.items()
        if (m := re.fullmatch(block, name)) and value.ndim == 4
    }
    if sorted(kernels) != list(range(1, len(kernels) + 1)):
        raise CheckpointError(f"discriminator blocks {sorted(kernels)}, expected 1, 2, ...")
    widths = [kernels[i][1] for i in sorted(kernels)]  # from the image down
    widths.append(shape_of(theirs, final, 4)[0])
    try:
        return StyleGAN2DiscriminatorConfig(
            resolution=4 * 2 ** len(kernels),
            channels=tuple(reversed(widths)),
            img_channels=shape_of(theirs, first, 4)[1],
        )
    except ValueError as error:
        raise CheckpointError(f"shapes that fit no StyleGAN2 discriminator: {error}") from error


def read_taps(filters: Mapping[str, Tensor], gain: float) -> tuple[float, ...]:
    """The taps of stored low-pass filters, all equal to one outer product of sum ``gain``."""
    if not filters:
        return (1.0, 3.0, 3.0, 1.0)
    kernel = next(iter(filters.values())).float()
    if kernel.ndim == 2 and kernel.shape[0] == kernel.shape[1] and (kernel > 0).all():
        taps = kernel.sum(1)
        taps = taps / taps.min()
        if torch.allclose(taps, taps.round(), atol=1e-4):
            taps = taps.round()
        expected = fir_kernel(taps, gain)
        if all(
            k.shape == kernel.shape and torch.allclose(k.float(), expected, rtol=1e-5, atol=0)
            for k in filters.values()
        ):
            return tuple(taps.tolist())
    raise CheckpointError(
        f"low-pass filters ({next(iter(filters))}, ...) that are not one product of taps with "
        f"themselves of sum {gain:g}; such networks are not supported"
    )


def read_clamp(stored: set[Any], kwargs: Mapping[str, Any]) -> float | None:
    """The one limit of activations, from stored attributes or the constructor's arguments."""
    if len(stored) > 1:
        raise CheckpointError(f"layers with different limits of activations: {stored}")
    value = next(iter(stored)) if stored else kwargs.get("conv_clamp")
    return None if value is None else float(value)


def base_and_limit(channels: tuple[int, ...], resolution: int) -> dict[str, int]:
    """Widths as NVlabs says them: ``min(base / side, limit)``."""
    base, limit = channels[-1] * resolution, max(channels)
    said = tuple(min(base // (4 * 2**j), limit) for j in range(len(channels)))
    if said != channels:
        raise CheckpointError(
            f"widths {list(channels)} cannot be said in NVlabs' layout, which has a base and a "
            f"limit: these would give {list(said)}"
        )
    return {"channel_base": base, "channel_max": limit}
