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
``StyleGAN2DiscriminatorConfig(**config)``. Tensors of single precision keep their values bit for
bit, so a way there and back is exact; others become single precision. Errors are
:class:`CheckpointError` without a path, which the caller knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..generators.stylegan2.discriminator import StyleGAN2DiscriminatorConfig
from ..generators.stylegan2.generator import StyleGAN2Config
from ..generators.stylegan2.ops import fir_kernel
from .stylegan2_names import (
    MMGEN,
    MMGEN_DISCRIMINATOR,
    NVLABS_SIZES,
    ROSINALITY_SIZES,
    TF_DISCRIMINATOR_LAYERS,
    TF_LAYERS,
    Config,
    State,
    Tree,
    base_and_limit,
    discriminator_config,
    generator_config,
    give,
    mapping_of,
    nvlabs_discriminator,
    nvlabs_generator,
    nvlabs_parts,
    part_of,
    plain,
    read_clamp,
    read_taps,
    reader,
    refuse,
    rosinality_discriminator,
    rosinality_generator,
    shape_of,
    take,
    tensors_of,
)

# --- rosinality ---


def is_rosinality_generator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is rosinality's generator."""
    return {"input.input", "conv1.conv.weight", "to_rgb1.bias"} <= set(names)


def is_rosinality_discriminator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is rosinality's discriminator."""
    return {"convs.0.0.weight", "final_conv.0.weight", "final_linear.1.weight"} <= set(names)


@reader
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
    theirs = tensors_of(
        part_of(tree, key, ("g_ema", "g"), is_rosinality_generator, "rosinality's G")
    )
    config = generator_config(theirs, ROSINALITY_SIZES)
    filters = {n: k for n, k in theirs.items() if n.endswith((".blur.kernel", ".upsample.kernel"))}
    config = StyleGAN2Config(**{**asdict(config), "resample_taps": read_taps(filters, 4.0)})
    state = take(theirs, rosinality_generator(config), ignore=set(filters))
    average = tree.get("latent_avg") if theirs is not tree else None
    if average is not None:
        if not isinstance(average, Tensor) or not average.is_floating_point():
            raise CheckpointError(f"`latent_avg` is a {type(average).__name__}, not real numbers")
        if average.ndim not in (1, 2) or average.shape[-1] != config.w_dim or not len(average):
            raise CheckpointError(
                f"`latent_avg` is {list(average.shape)}, expected [{config.w_dim}] or "
                f"[styles, {config.w_dim}]"
            )
        if not bool(torch.isfinite(average).all()):
            raise CheckpointError("`latent_avg` has values that are not finite")
        rows = average.reshape(-1, config.w_dim)
        if (rows == rows[0]).all():
            state["w_avg"] = rows[0].float()
    return plain(config), state


def ours_to_rosinality(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a generator as rosinality's ``{"g_ema", "latent_avg"}``.

    Raises:
        CheckpointError: that layout cannot say what the configuration asks for.
    """
    ours = StyleGAN2Config(**config)
    refuse(
        {
            "labels": ours.c_dim,
            "a latent of another width than z": ours.z_dim != ours.w_dim,
            "clamped activations": ours.conv_clamp is not None,
            "images of other than 3 channels": ours.img_channels != 3,
        },
        "rosinality's layout",
    )
    theirs = give(state, rosinality_generator(ours))
    kernel = fir_kernel(ours.resample_taps, 4.0)
    for j in range(len(ours.channels) - 1):
        theirs[f"convs.{2 * j}.conv.blur.kernel"] = kernel.clone()
        theirs[f"to_rgbs.{j}.upsample.kernel"] = kernel.clone()
    tree: dict[str, Any] = {"g_ema": theirs}
    if "w_avg" in state:
        tree["latent_avg"] = state["w_avg"]
    return tree


@reader
def rosinality_discriminator_to_ours(tree: Tree, key: str | None = None) -> tuple[Config, State]:
    """Read a rosinality discriminator: a whole checkpoint with ``d``, or its state dict."""
    theirs = tensors_of(part_of(tree, key, ("d",), is_rosinality_discriminator, "rosinality's D"))
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
    state = take(theirs, rosinality_discriminator(config), ignore=set(filters))
    return plain(config), state


def ours_to_rosinality_discriminator(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a discriminator as rosinality's ``{"d"}``."""
    ours = StyleGAN2DiscriminatorConfig(**config)
    refuse(
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
    theirs = give(state, rosinality_discriminator(ours))
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


@reader
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
    theirs, kwargs, attributes = nvlabs_parts(tree, is_nvlabs_generator, "NVlabs' G")
    synthesis = mapping_of(kwargs.get("synthesis_kwargs"))
    mapping = mapping_of(kwargs.get("mapping_kwargs"))
    architecture = synthesis.get("architecture", "skip")
    if architecture != "skip":
        raise CheckpointError(f"generator of architecture {architecture!r}; 'skip' is supported")
    _check_activations(attributes, synthesis, mapping)
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
    return plain(config), take(theirs, names, ignore=set(filters))


def _check_activations(attributes: Tree, *arguments: Tree) -> None:
    """Raise unless layers are as published: leaky, or linear where nothing else can be said."""
    said = [part.get("activation", "lrelu") for part in arguments]
    layers = [v for n, v in attributes.items() if n.endswith(".activation")]
    for activation in [*said, *(v for v in layers if v != "linear")]:
        if activation != "lrelu":
            raise CheckpointError(f"layers with activation {activation!r}, not lrelu")


def ours_to_nvlabs(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a generator as NVlabs': ``{"state", "init_kwargs"}``."""
    ours = StyleGAN2Config(**config)
    theirs = give(state, nvlabs_generator(ours))
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


@reader
def nvlabs_discriminator_to_ours(tree: Tree) -> tuple[Config, State]:
    """Read an NVlabs discriminator; ``tree`` as for :func:`nvlabs_to_ours`."""
    theirs, kwargs, attributes = nvlabs_parts(tree, is_nvlabs_discriminator, "NVlabs' D")
    sides = sorted(int(m[1]) for n in theirs if (m := re.fullmatch(r"b(\d+)\.conv1\.weight", n)))
    if not sides or sides != [8 * 2**i for i in range(len(sides))]:
        raise CheckpointError(f"discriminator blocks at {sides} px, expected 8, 16, ...")
    resolution = sides[-1]
    widths = [shape_of(theirs, "b4.conv.weight", 4)[0]]
    widths += [shape_of(theirs, f"b{side}.conv1.weight", 4)[1] for side in sides]
    epilogue, block = (
        mapping_of(kwargs.get("epilogue_kwargs")),
        mapping_of(kwargs.get("block_kwargs")),
    )
    mapping = mapping_of(kwargs.get("mapping_kwargs"))
    _check_activations(attributes, block, epilogue, mapping)
    label = "mapping.embed.weight" in theirs
    has_skip = f"b{resolution}.skip.weight" in theirs
    if "b8.fromrgb.weight" in theirs and resolution != 8:
        raise CheckpointError("discriminator of architecture 'skip'; we have 'resnet', 'orig'")
    std = shape_of(theirs, "b4.conv.weight", 4)[1] - widths[0]
    filters = {n: k for n, k in theirs.items() if n.endswith("resample_filter")}
    # Their skip layers are never limited, whatever the others are.
    limited = {n: v for n, v in attributes.items() if not n.endswith(".skip.conv_clamp")}
    clamps = {v for n, v in limited.items() if n.endswith(".conv_clamp")}
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
    state = take(theirs, nvlabs_discriminator(config), ignore=set(filters))
    return plain(config), state


def ours_to_nvlabs_discriminator(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a discriminator as NVlabs': ``{"state", "init_kwargs"}``."""
    ours = StyleGAN2DiscriminatorConfig(**config)
    theirs = give(state, nvlabs_discriminator(ours))
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


# --- mmgen, mmediting, mmagic ---


def is_mmgen_generator(names: Iterable[str]) -> bool:
    """Whether a state dict with these names holds mmgen's StyleGAN2 generator."""
    return any(re.search(r"(^|\.)conv1\.conv\.style_modulation\.bias$", n) for n in names)


@reader
def mmgen_to_ours(tree: Tree, key: str | None = None) -> tuple[Config, State]:
    """Read an mmgen generator.

    Its images are BGR (its demos and metrics swap channels for the official weights, too); ours
    are RGB, so the channels of the toRGB layers are reversed.

    Args:
        tree: a whole checkpoint with ``state_dict``, or the state dict.
        key: ``"generator_ema"`` (default where there is one), ``"generator"``, or ``""`` for
            names without a prefix.

    Raises:
        CheckpointError: not that layout, or tensors missing, unknown or of a wrong shape.
    """
    theirs = _mmgen_part(tree, key, ("generator_ema", "generator"), is_mmgen_generator)
    return rosinality_to_ours(_reverse(_renamed(theirs, MMGEN)))


def ours_to_mmgen(config: Tree, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a generator as mmgen's ``{"state_dict": {"generator_ema...": ...}}``."""
    rosinality = ours_to_rosinality(config, state)["g_ema"]
    theirs = {}
    for name, value in _reverse(rosinality).items():
        name = re.sub(r"^style\.(\d+)\.weight", r"style_mapping.\1.linear.weight_orig", name)
        name = re.sub(r"^style\.(\d+)\.bias", r"style_mapping.\1.bias", name)
        name = re.sub(r"^noises\.noise_", "injected_noise_", name)
        name = name.replace("input.input", "constant_input.input")
        name = name.replace("modulation.weight", "style_modulation.linear.weight_orig")
        name = name.replace("modulation.bias", "style_modulation.bias")
        name = name.replace("style_style_", "style_").replace(".noise.", ".noise_injector.")
        theirs["generator_ema." + re.sub(r"\.conv\.weight$", ".conv.weight_orig", name)] = value
    return {"state_dict": theirs}


@reader
def mmgen_discriminator_to_ours(tree: Tree, key: str | None = None) -> tuple[Config, State]:
    """Read an mmgen discriminator (``key`` default ``"discriminator"``), from BGR to RGB."""
    theirs = _mmgen_part(
        tree, key, ("discriminator",), lambda names: "convs.0.0.conv.weight_orig" in set(names)
    )
    return rosinality_discriminator_to_ours(_reverse(_renamed(theirs, MMGEN_DISCRIMINATOR)))


def _mmgen_part(tree: Tree, key: str | None, keys: tuple[str, ...], is_layout: Any) -> State:
    tree = mapping_of(tree.get("state_dict")) or tree
    for prefix in keys if key is None else (key,):
        # An averaged copy is wrapped once more since mmediting 1.0.
        for start in (f"{prefix}.module.", f"{prefix}.") if prefix else ("",):
            part = {n.removeprefix(start): t for n, t in tree.items() if n.startswith(start)}
            if part and is_layout(part):
                return dict(tensors_of(part))
    if key is None and is_layout(tree):
        return dict(tensors_of(tree))
    raise CheckpointError(f"no mmgen network under {key or keys}; found {sorted(tree)[:5]}")


def _renamed(theirs: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> State:
    renamed = {}
    for name, value in theirs.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                name = match.expand(replacement)
        renamed[name] = value
    return renamed


def _reverse(theirs: Mapping[str, Tensor]) -> State:
    """Reverse the image's channels, in rosinality's names."""
    image = r"to_rgb(1|s\.\d+)\.(conv\.weight|bias)|convs\.0\.0\.weight"
    return {n: t.flip(1) if re.fullmatch(image, n) else t for n, t in theirs.items()}


# --- the original TensorFlow networks ---


def is_tf_generator(names: Iterable[str]) -> bool:
    """Whether variables with these names are the TensorFlow generator's."""
    return any(re.search(r"(^|/)4x4/Const/const$", name) for name in names)


@reader
def tf_to_ours(variables: Tree, static_kwargs: Tree | None = None) -> tuple[Config, State]:
    """Read the generator of the original TensorFlow code.

    Args:
        variables: name -> array or tensor; the components' names in front may be missing:
            ``[G_synthesis/]4x4/Conv/weight``, ``[G_mapping/]Dense0/weight``, ``dlatent_avg``.
        static_kwargs: the network's arguments; ``conv_clamp`` is used.

    Raises:
        CheckpointError: not that layout, or tensors missing, unknown or of a wrong shape.
    """
    theirs: State = {}
    for name, value in _tf_variables(variables, ("synthesis", "mapping")).items():
        layer, _, kind = name.rpartition("/")
        if name == "lod":
            continue
        if name == "dlatent_avg":
            theirs["mapping.w_avg"] = value
        elif name == "4x4/Const/const":
            theirs["synthesis.b4.const"] = value.reshape(value.shape[1:])
        elif match := re.fullmatch(r"noise(\d+)", name):
            i = int(match[1])
            plane = f"synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{(i + 1) % 2}.noise_const"
            theirs[plane] = value.reshape(value.shape[-2:])
        else:
            layer = _tf_layer(layer, TF_LAYERS, name)
            if kind == "weight" and layer.endswith("conv0"):
                value = value.flip(0, 1)  # their up-convolution is a correlation
            if kind == "mod_bias":
                value = value + 1
            kind = kind.replace("mod_", "affine.")
            theirs[f"{layer}.{kind}"] = _from_tf(value) if kind.endswith("weight") else value
    clamp = mapping_of(static_kwargs).get("conv_clamp")
    kwargs = {"synthesis_kwargs": {"conv_clamp": clamp}}
    config, state = nvlabs_to_ours({"state": theirs, "init_kwargs": kwargs})
    return {**config, "scaled_demodulation": True}, state


@reader
def tf_discriminator_to_ours(
    variables: Tree, static_kwargs: Tree | None = None
) -> tuple[Config, State]:
    """Read the discriminator of the original TensorFlow code."""
    theirs: State = {}
    for name, value in _tf_variables(variables, ()).items():
        layer, _, kind = name.rpartition("/")
        if name != "lod":
            layer = _tf_layer(layer, TF_DISCRIMINATOR_LAYERS, name)
            theirs[f"{layer}.{kind}"] = _from_tf(value) if kind == "weight" else value
    said = mapping_of(static_kwargs)
    epilogue = {"mbstd_group_size": said.get("mbstd_group_size", 4)}
    kwargs = {"epilogue_kwargs": epilogue, "conv_clamp": said.get("conv_clamp")}
    return nvlabs_discriminator_to_ours({"state": theirs, "init_kwargs": kwargs})


def _tf_variables(variables: Tree, components: tuple[str, ...]) -> State:
    found = {}
    for name, value in variables.items():
        for component in components:
            name = re.sub(rf"^(?:[A-Za-z]+_)?{component}/", "", name)
        found[name] = torch.as_tensor(value)
    return found


def _tf_layer(layer: str, rules: Iterable[tuple[str, str]], name: str) -> str:
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, layer):
            return match.expand(replacement)
    raise CheckpointError(f"TensorFlow variable {name}, which StyleGAN2 with skips has not")


def _from_tf(weight: Tensor) -> Tensor:
    """``[k, k, I, O]`` to ``[O, I, k, k]``, ``[I, O]`` to ``[O, I]``."""
    weight = weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.t()
    return weight.contiguous()
