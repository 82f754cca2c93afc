"""StyleGAN2 files of others and our state dict, on plain dicts, both ways.

Every layout holds the same tensors under other names, with axes of length one more or less; TF's
are transposed as well. Facts about each layout:

========== ========================================================================================
rosinality ``{"g_ema", "latent_avg"}``, training files ``g`` and ``d`` as well; kernels
           ``[1, O, I, k, k]``; the low-pass filters are stored, 4 times as large for up-sampling
NVlabs     ``G_ema.state_dict()`` of stylegan2-ada-pytorch or stylegan3 (one layout); no axis of
           length one; widths and clamps are in the constructor's arguments
mmgen      rosinality's structure, ``weight_orig``; its networks give and take BGR images, so
           the channels are reversed on the way
TF         variables of the original networks: kernels HWIO, matrices transposed, modulation biases
           without the 1, up-convolutions flipped on both axes
========== ========================================================================================

``config`` is a plain dict for ``StyleGAN2Config(**config)`` or
``StyleGAN2DiscriminatorConfig(**config)``. Tensors keep their values bit for bit, so a way there
and back is exact. Errors are :class:`CheckpointError` without a path, which the caller knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..generators.stylegan2.discriminator import StyleGAN2DiscriminatorConfig
from ..generators.stylegan2.generator import StyleGAN2Config
from ..generators.stylegan2.ops import fir_kernel
from .stylegan2_names import (
    NVLABS_SIZES,
    ROSINALITY_SIZES,
    Names,
    Shape,
    base_and_limit,
    discriminator_config,
    generator_config,
    nvlabs_discriminator,
    nvlabs_generator,
    read_clamp,
    read_taps,
    rosinality_discriminator,
    rosinality_generator,
    shape_of,
)

Tree = Mapping[str, Any]
Config = dict[str, Any]
State = dict[str, Tensor]


# --- rosinality ---


def is_rosinality_generator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is rosinality's generator."""
    return {"input.input", "conv1.conv.weight", "to_rgb1.bias"} <= set(names)


def is_rosinality_discriminator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is rosinality's discriminator."""
    return {"convs.0.0.weight", "final_conv.0.weight", "final_linear.1.weight"} <= set(names)


def rosinality_to_ours(tree: Tree, key: str | None = None) -> tuple[Config, State]:
    """Read a rosinality generator.

    Args:
        tree: a whole checkpoint, or the generator's state dict.
        key: which generator: ``"g_ema"`` (default) or ``"g"``.

    Returns:
        Configuration and state. ``w_avg`` comes from ``latent_avg``, and is missing where the file
        has none (training files) or different rows.

    Raises:
        CheckpointError: not that layout, or tensors missing, unknown or of a wrong shape.
    """
    theirs = _tensors(_part(tree, key, ("g_ema", "g"), is_rosinality_generator, "rosinality's G"))
    config = generator_config(theirs, ROSINALITY_SIZES)
    filters = {n: k for n, k in theirs.items() if n.endswith((".blur.kernel", ".upsample.kernel"))}
    config = StyleGAN2Config(**{**asdict(config), "resample_taps": read_taps(filters, 4.0)})
    state = _take(theirs, rosinality_generator(config), ignore=set(filters))
    average = tree.get("latent_avg") if theirs is not tree else None
    if isinstance(average, Tensor):
        average = average[0] if average.ndim == 2 and (average == average[0]).all() else average
        if average.shape == (config.w_dim,):
            state["w_avg"] = average
    return _plain(config), state


def ours_to_rosinality(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a generator as rosinality's ``{"g_ema", "latent_avg"}``.

    Raises:
        CheckpointError: that layout cannot say what the configuration asks for.
    """
    ours = StyleGAN2Config(**config)
    _refuse(
        {
            "labels": ours.c_dim,
            "a latent of another width than z": ours.z_dim != ours.w_dim,
            "clamped activations": ours.conv_clamp is not None,
            "images of other than 3 channels": ours.img_channels != 3,
        },
        "rosinality's layout",
    )
    theirs = _give(state, rosinality_generator(ours))
    kernel = fir_kernel(ours.resample_taps, 4.0)
    for j in range(len(ours.channels) - 1):
        theirs[f"convs.{2 * j}.conv.blur.kernel"] = kernel.clone()
        theirs[f"to_rgbs.{j}.upsample.kernel"] = kernel.clone()
    tree: dict[str, Any] = {"g_ema": theirs}
    if "w_avg" in state:
        tree["latent_avg"] = state["w_avg"]
    return tree


def rosinality_discriminator_to_ours(tree: Tree, key: str | None = None) -> tuple[Config, State]:
    """Read a rosinality discriminator: a whole checkpoint with ``d``, or its state dict."""
    theirs = _tensors(_part(tree, key, ("d",), is_rosinality_discriminator, "rosinality's D"))
    config = discriminator_config(
        theirs,
        first="convs.0.0.weight",
        block=r"convs\.(\d+)\.conv2\.1\.weight",
        final="final_conv.0.weight",
    )
    filters = {n: k for n, k in theirs.items() if re.search(r"\.(conv2|skip)\.0\.kernel$", n)}
    config = StyleGAN2DiscriminatorConfig(
        **{**asdict(config), "resample_taps": read_taps(filters, 1.0)}
    )
    state = _take(theirs, rosinality_discriminator(config), ignore=set(filters))
    return _plain(config), state


def ours_to_rosinality_discriminator(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a discriminator as rosinality's ``{"d"}``."""
    ours = StyleGAN2DiscriminatorConfig(**config)
    _refuse(
        {
            "labels": ours.c_dim,
            "clamped activations": ours.conv_clamp is not None,
            "blocks without skip connections": ours.architecture != "resnet",
            "groups of other than 4 images": ours.group_size != 4,
            "other than 1 channel of deviation": ours.std_channels != 1,
            "images of other than 3 channels": ours.img_channels != 3,
        },
        "rosinality's layout",
    )
    theirs = _give(state, rosinality_discriminator(ours))
    kernel = fir_kernel(ours.resample_taps)
    for i in range(1, len(ours.channels)):
        theirs[f"convs.{i}.conv2.0.kernel"] = kernel.clone()
        theirs[f"convs.{i}.skip.0.kernel"] = kernel.clone()
    return {"d": theirs}


# --- NVlabs: stylegan2-ada-pytorch and stylegan3's networks_stylegan2 ---


def is_nvlabs_generator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is NVlabs' StyleGAN2 generator."""
    return {"synthesis.b4.const", "synthesis.b4.conv1.affine.weight"} <= set(names)


def is_nvlabs_discriminator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is NVlabs' StyleGAN2 discriminator."""
    return {"b4.conv.weight", "b4.fc.weight", "b4.out.weight"} <= set(names)


def nvlabs_to_ours(tree: Tree) -> tuple[Config, State]:
    """Read an NVlabs generator.

    Args:
        tree: ``{"state": flat state dict, "init_kwargs": constructor's arguments, "attributes":
            {dotted name: plain value}}``; the last two may be missing. The limit of activations
            is taken from the attributes ``*.conv_clamp``, else from the arguments.

    Raises:
        CheckpointError: not that layout, another architecture than "skip", tensors missing,
            unknown or of a wrong shape.
    """
    theirs, kwargs, attributes = _nvlabs_parts(tree, is_nvlabs_generator, "NVlabs' G")
    synthesis = _mapping(kwargs.get("synthesis_kwargs"))
    mapping = _mapping(kwargs.get("mapping_kwargs"))
    architecture = synthesis.get("architecture", "skip")
    if architecture != "skip":
        raise CheckpointError(f"generator of architecture {architecture!r}; 'skip' is supported")
    if mapping.get("activation", "lrelu") != "lrelu":
        raise CheckpointError(f"mapping with activation {mapping['activation']!r}, not lrelu")
    config = generator_config(theirs, NVLABS_SIZES)
    filters = {n: k for n, k in theirs.items() if n.endswith("resample_filter")}
    clamps = {v for n, v in attributes.items() if n.endswith(".conv_clamp")}
    config = StyleGAN2Config(
        **{
            **asdict(config),
            "resample_taps": read_taps(filters, 1.0),
            "conv_clamp": read_clamp(clamps, synthesis),
            "mapping_lr_multiplier": float(mapping.get("lr_multiplier", 0.01)),
            "scaled_demodulation": False,
        }
    )
    names = nvlabs_generator(config)
    if "mapping.w_avg" not in theirs:  # mapping networks without an average
        del names["w_avg"]
    return _plain(config), _take(theirs, names, ignore=set(filters))


def ours_to_nvlabs(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a generator as NVlabs': ``{"state", "init_kwargs"}``."""
    ours = StyleGAN2Config(**config)
    theirs = _give(state, nvlabs_generator(ours))
    kernel = fir_kernel(ours.resample_taps)
    for j in range(len(ours.channels)):
        block = f"synthesis.b{4 * 2**j}"
        for part in ("", ".conv0", ".conv1") if j else ("", ".conv1"):
            theirs[f"{block}{part}.resample_filter"] = kernel.clone()
    kwargs = {
        "z_dim": ours.z_dim,
        "c_dim": ours.c_dim,
        "w_dim": ours.w_dim,
        "img_resolution": ours.resolution,
        "img_channels": ours.img_channels,
        "mapping_kwargs": {
            "num_layers": ours.num_mapping_layers,
            "lr_multiplier": ours.mapping_lr_multiplier,
        },
        "synthesis_kwargs": {
            **base_and_limit(ours.channels, ours.resolution),
            "num_fp16_res": 0,
            "conv_clamp": ours.conv_clamp,
            "resample_filter": list(ours.resample_taps),
        },
    }
    return {"state": theirs, "init_kwargs": kwargs}


def nvlabs_discriminator_to_ours(tree: Tree) -> tuple[Config, State]:
    """Read an NVlabs discriminator; ``tree`` as for :func:`nvlabs_to_ours`."""
    theirs, kwargs, attributes = _nvlabs_parts(tree, is_nvlabs_discriminator, "NVlabs' D")
    sides = sorted(int(m[1]) for n in theirs if (m := re.fullmatch(r"b(\d+)\.conv1\.weight", n)))
    if not sides or sides != [8 * 2**i for i in range(len(sides))]:
        raise CheckpointError(f"discriminator blocks at {sides} px, expected 8, 16, ...")
    resolution = sides[-1]
    widths = [shape_of(theirs, "b4.conv.weight", 4)[0]]
    widths += [shape_of(theirs, f"b{side}.conv1.weight", 4)[1] for side in sides]
    epilogue, block = _mapping(kwargs.get("epilogue_kwargs")), _mapping(kwargs.get("block_kwargs"))
    label = "mapping.embed.weight" in theirs
    has_skip = f"b{resolution}.skip.weight" in theirs
    if "b8.fromrgb.weight" in theirs and resolution != 8:
        raise CheckpointError("discriminator of architecture 'skip'; we have 'resnet', 'orig'")
    mapping = _mapping(kwargs.get("mapping_kwargs"))
    std = shape_of(theirs, "b4.conv.weight", 4)[1] - widths[0]
    filters = {n: k for n, k in theirs.items() if n.endswith("resample_filter")}
    clamps = {v for n, v in attributes.items() if n.endswith(".conv_clamp")}
    config = StyleGAN2DiscriminatorConfig(
        resolution=resolution,
        channels=tuple(widths),
        c_dim=shape_of(theirs, "mapping.embed.weight", 2)[1] if label else 0,
        cmap_dim=shape_of(theirs, "b4.out.weight", 2)[0] if label else 512,
        num_mapping_layers=sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", n)) for n in theirs)
        if label
        else 8,
        mapping_lr_multiplier=float(mapping.get("lr_multiplier", 0.01)),
        architecture="resnet" if has_skip else "orig",
        group_size=attributes.get("b4.mbstd.group_size", epilogue.get("mbstd_group_size", 4)),
        std_channels=std,
        img_channels=shape_of(theirs, f"b{resolution}.fromrgb.weight", 4)[1],
        resample_taps=read_taps(filters, 1.0),
        conv_clamp=read_clamp(clamps, {**block, **kwargs}),
    )
    state = _take(theirs, nvlabs_discriminator(config), ignore=set(filters))
    return _plain(config), state


def ours_to_nvlabs_discriminator(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a discriminator as NVlabs': ``{"state", "init_kwargs"}``."""
    ours = StyleGAN2DiscriminatorConfig(**config)
    theirs = _give(state, nvlabs_discriminator(ours))
    kernel = fir_kernel(ours.resample_taps)
    parts = ["", ".conv0", ".conv1"] + ([".skip"] if ours.architecture == "resnet" else [])
    for j in range(1, len(ours.channels)):
        side = 4 * 2**j
        for part in [*parts, ".fromrgb"] if side == ours.resolution else parts:
            theirs[f"b{side}{part}.resample_filter"] = kernel.clone()
    theirs["b4.conv.resample_filter"] = kernel.clone()
    kwargs = {
        "c_dim": ours.c_dim,
        "img_resolution": ours.resolution,
        "img_channels": ours.img_channels,
        "architecture": ours.architecture,
        **base_and_limit(ours.channels, ours.resolution),
        "num_fp16_res": 0,
        "conv_clamp": ours.conv_clamp,
        "cmap_dim": ours.cmap_dim if ours.c_dim else None,
        "block_kwargs": {"resample_filter": list(ours.resample_taps)},
        "mapping_kwargs": {
            "num_layers": ours.num_mapping_layers,
            "lr_multiplier": ours.mapping_lr_multiplier,
        },
        "epilogue_kwargs": {
            "mbstd_group_size": ours.group_size,
            "mbstd_num_channels": ours.std_channels,
        },
    }
    return {"state": theirs, "init_kwargs": kwargs}


# --- plain dicts ---


def _part(
    tree: Tree, key: str | None, keys: tuple[str, ...], is_layout: Any, what: str
) -> Mapping[str, Any]:
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


def _nvlabs_parts(tree: Tree, is_layout: Any, what: str) -> tuple[State, Tree, Tree]:
    state = tree.get("state")
    if not isinstance(state, Mapping) or not is_layout(state):
        raise CheckpointError(f"not the state of {what}")
    kwargs, attributes = _mapping(tree.get("init_kwargs")), _mapping(tree.get("attributes"))
    return dict(_tensors(state)), kwargs, attributes


def _mapping(value: Any) -> Tree:
    return value if isinstance(value, Mapping) else {}


def _tensors(part: Mapping[str, Any]) -> Mapping[str, Tensor]:
    for name, value in part.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, expected a tensor")
    return part


def _take(theirs: Mapping[str, Tensor], names: Names, ignore: set[str]) -> State:
    known = {name for name, _ in names.values()} | ignore
    problems = [f"missing {name}" for name, _ in names.values() if name not in theirs]
    problems += [f"unknown {name}" for name in theirs if name not in known]
    problems += [
        f"{name} is {list(theirs[name].shape)}, expected {list(shape)}"
        for name, shape in names.values()
        if name in theirs and tuple(theirs[name].shape) != shape
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"tensors that do not fit: {'; '.join(problems[:8])}{more}")
    # Every layout has the same numbers in the same order: only axes of length one differ.
    shapes = {ours: _squeezed(ours, shape) for ours, (_, shape) in names.items()}
    return {ours: theirs[name].reshape(shapes[ours]) for ours, (name, _) in names.items()}


def _give(state: Mapping[str, Tensor], names: Names) -> State:
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


def _refuse(reasons: Mapping[str, Any], where: str) -> None:
    if found := [reason for reason, present in reasons.items() if present]:
        raise CheckpointError(f"{where} cannot say {', '.join(found)}")


def _plain(config: StyleGAN2Config | StyleGAN2DiscriminatorConfig) -> Config:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
