"""Which of our StyleGAN2 tensors is which of theirs, and configurations read off shapes."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..generators.stylegan2.discriminator import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
)
from ..generators.stylegan2.generator import StyleGAN2Config, StyleGAN2Generator
from ..generators.stylegan2.ops import fir_kernel

_Reader = TypeVar("_Reader", bound=Callable[..., Any])
Tree = Mapping[str, Any]
Config = dict[str, Any]
State = dict[str, Tensor]
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
    square = kernel.ndim == 2 and kernel.shape[0] == kernel.shape[1] > 0
    if square and (kernel > 0).all():
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


# --- names that follow rules: (pattern, replacement) ---

# Read in the classes' source (mmgeneration 0.7); a released file was not at hand.
MMGEN = (
    (r"style_mapping\.(\d+)\.linear\.weight_orig", r"style.\1.weight"),
    (r"style_mapping\.(\d+)\.bias", r"style.\1.bias"),
    (r"constant_input\.input", "input.input"),
    (r"(.+)\.style_modulation\.linear\.weight_orig", r"\1.modulation.weight"),
    (r"(.+)\.style_modulation\.bias", r"\1.modulation.bias"),
    (r"(.+)\.noise_injector\.weight", r"\1.noise.weight"),
    (r"injected_noise_(\d+)", r"noises.noise_\1"),
    (r"((?:convs\.\d+|conv1|to_rgbs\.\d+|to_rgb1)\.conv)\.weight_orig", r"\1.weight"),
)
MMGEN_DISCRIMINATOR = (
    (r"(final_linear\.\d)\.linear\.weight_orig", r"\1.weight"),
    (r"(.+)\.conv\.weight_orig", r"\1.weight"),
)

TF_LAYERS = (
    (r"Dense(\d+)", r"mapping.fc\1"),
    (r"LabelEmbed", r"mapping.embed"),
    (r"4x4/Conv", r"synthesis.b4.conv1"),
    (r"(\d+)x\1/Conv0_up", r"synthesis.b\1.conv0"),
    (r"(\d+)x\1/Conv1", r"synthesis.b\1.conv1"),
    (r"(\d+)x\1/ToRGB", r"synthesis.b\1.torgb"),
)
TF_DISCRIMINATOR_LAYERS = (
    (r"4x4/Conv", "b4.conv"),
    (r"4x4/Dense0", "b4.fc"),
    (r"Output", "b4.out"),
    (r"(\d+)x\1/FromRGB", r"b\1.fromrgb"),
    (r"(\d+)x\1/Conv0", r"b\1.conv0"),
    (r"(\d+)x\1/Conv1_down", r"b\1.conv1"),
    (r"(\d+)x\1/Skip", r"b\1.skip"),
)


# --- plain dicts ---


def reader(function: _Reader) -> _Reader:
    """Say a value that a file must not have (a width of 0, a word for a number) as its error."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"values that fit no StyleGAN2: {error}") from error

    return cast(_Reader, wrapped)


def part_of(
    tree: Tree, key: str | None, keys: tuple[str, ...], is_layout: Any, what: str
) -> Mapping[str, Any]:
    """Return the state dict inside ``tree``, or ``tree`` itself, that is of the layout."""
    if key is None:
        if is_layout(tree):
            return tree
        key = next((k for k in keys if isinstance(tree.get(k), Mapping)), None)
    part = tree.get(key) if key is not None else None
    if not isinstance(part, Mapping):
        wanted = key or " or ".join(keys)
        raise CheckpointError(f"no {wanted!r} inside; found {sorted(map(str, tree))[:8]}")
    if not is_layout(part):
        raise CheckpointError(f"{key!r} is not {what}; found {sorted(map(str, part))[:5]}")
    return part


def nvlabs_parts(tree: Tree, is_layout: Any, what: str) -> tuple[State, Tree, Tree]:
    """Return state, constructor's arguments and attributes."""
    state = tree.get("state")
    if not isinstance(state, Mapping) or not is_layout(state):
        raise CheckpointError(f"not the state of {what}")
    kwargs, attributes = mapping_of(tree.get("init_kwargs")), mapping_of(tree.get("attributes"))
    return dict(tensors_of(state)), kwargs, attributes


def mapping_of(value: Any) -> Tree:
    """Return ``value`` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def tensors_of(part: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return ``part`` after a look that there are tensors only."""
    for name, value in part.items():
        if not isinstance(name, str):
            raise CheckpointError(f"a tensor named by a {type(name).__name__}, not by a string")
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, expected a tensor")
    return part


def take(theirs: Mapping[str, Tensor], names: Names, ignore: set[str]) -> State:
    """Return their tensors under our names and in our shapes; nothing may be missing or left."""
    known = {name for name, _ in names.values()} | ignore
    problems = [f"missing {name}" for name, _ in names.values() if name not in theirs]
    problems += [f"unknown {name}" for name in theirs if name not in known]
    problems += [
        f"{name} is {list(theirs[name].shape)}, expected {list(shape)}"
        for name, shape in names.values()
        if name in theirs and tuple(theirs[name].shape) != shape
    ]
    problems += [
        f"{name} holds {value.dtype}, not real numbers"
        for name, value in theirs.items()
        if name in known and not value.is_floating_point()
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"tensors that do not fit: {'; '.join(problems[:8])}{more}")
    # Every layout has the same numbers in the same order: only axes of length one differ.
    shapes = {ours: _squeezed(ours, shape) for ours, (_, shape) in names.items()}
    # In single precision, which every code computes in: half and double files load like others.
    return {ours: theirs[name].float().reshape(shapes[ours]) for ours, (name, _) in names.items()}


def give(state: Mapping[str, Tensor], names: Names) -> State:
    """Return our tensors under their names and in their shapes."""
    if missing := [ours for ours in names if ours not in state]:
        raise CheckpointError(f"our state is incomplete: {missing[:8]}")
    return {name: state[ours].reshape(shape) for ours, (name, shape) in names.items()}


def _squeezed(ours: str, shape: Shape) -> Shape:
    """Our shape of a tensor that is ``shape`` with them."""
    part = ours.rsplit(".", 1)[-1]
    if part == "noise_strength":
        return ()
    if part == "noise":
        return (1, 1, *shape[-2:])
    if part == "const":
        return (1, *shape[-3:])
    if part == "bias":
        return (math.prod(shape),)
    if part == "weight" and len(shape) == 5:
        return shape[1:]
    return shape


def refuse(reasons: Mapping[str, Any], where: str) -> None:
    """Raise when anything is asked for that a layout cannot say."""
    if found := [reason for reason, present in reasons.items() if present]:
        raise CheckpointError(f"{where} cannot say {', '.join(found)}")


def plain(config: StyleGAN2Config | StyleGAN2DiscriminatorConfig) -> Config:
    """Return a configuration as a plain dict."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
