"""StyleGAN2 layouts: exact round trips, the same image in every layout, files that do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gan_inversion.checkpoints import stylegan2_layouts as layouts
from gan_inversion.errors import CheckpointError
from gan_inversion.generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Generator,
    fir_kernel,
)
from tests.gan_inversion.stylegan2.golden import Case, close

GOLDEN_GENERATORS = {
    "a_stylegan2_rosinality": ("g64_tiny", "g256_tiny"),
    "b_stylegan2_nvlabs": ("sg3_g64", "sg3_g32_cond5", "ada_g32"),
}


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].shape == value.shape and torch.equal(got[name], value), name


def plain_config(**changes) -> dict:
    return {"resolution": 16, "channels": [8, 8, 4], "z_dim": 12, "w_dim": 12, **changes}


def random_generator(**changes) -> tuple[dict, dict[str, Tensor]]:
    generator = StyleGAN2Generator(StyleGAN2Config(**plain_config(**changes)))
    state = generator.state_dict()
    for name, value in state.items():
        if name.endswith(("bias", "noise_strength", "w_avg")):
            value.normal_()
    return plain_config(**changes), state


def image(config: dict, state: dict[str, Tensor]) -> Tensor:
    generator = StyleGAN2Generator.from_state(config, state)
    code = torch.linspace(-1, 1, generator.num_ws * generator.w_dim)
    return generator.synthesis(code.reshape(1, generator.num_ws, -1))


@pytest.mark.parametrize("name", GOLDEN_GENERATORS["a_stylegan2_rosinality"])
def test_rosinality_round_trip(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, f"a_stylegan2_rosinality/{name}")
    tree = {"g_ema": case.weights, "latent_avg": case.outputs["latent_avg"]}
    assert layouts.is_rosinality_generator(case.weights)
    config, state = layouts.rosinality_to_ours(tree)
    back = layouts.ours_to_rosinality(config, state)
    same(back["g_ema"], case.weights)
    assert torch.equal(back["latent_avg"], tree["latent_avg"])
    # a training file has no average; a bare state dict is as good as a checkpoint
    assert "w_avg" not in layouts.rosinality_to_ours({"g": case.weights})[1]
    same(
        layouts.rosinality_to_ours(case.weights)[1],
        {k: v for k, v in state.items() if k != "w_avg"},
    )


@pytest.mark.parametrize("name", GOLDEN_GENERATORS["b_stylegan2_nvlabs"])
def test_nvlabs_round_trip(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, f"b_stylegan2_nvlabs/{name}")
    assert layouts.is_nvlabs_generator(case.weights)
    config, state = layouts.nvlabs_to_ours({"state": case.weights})
    back = layouts.ours_to_nvlabs(config, state)
    same(back["state"], case.weights)
    kwargs, meta = back["init_kwargs"], case.info["meta"]
    assert kwargs["img_resolution"] == meta["res"] and kwargs["c_dim"] == meta["c_dim"]
    assert kwargs["mapping_kwargs"]["num_layers"] == meta["num_layers"]
    assert kwargs["synthesis_kwargs"]["channel_base"] == meta["channel_base"]
    assert kwargs["synthesis_kwargs"]["channel_max"] == meta["channel_max"]
    assert layouts.nvlabs_to_ours(back)[0] == config


@pytest.mark.parametrize(
    "name",
    [
        "a_stylegan2_rosinality/d64_tiny",
        "b_stylegan2_nvlabs/sg3_d64",
        "b_stylegan2_nvlabs/ada_d32",
    ],
)
def test_discriminator_round_trip(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, name)
    if name.startswith("a_"):
        ours = layouts.rosinality_discriminator_to_ours({"d": case.weights})
        same(layouts.ours_to_rosinality_discriminator(*ours)["d"], case.weights)
    else:
        ours = layouts.nvlabs_discriminator_to_ours({"state": case.weights})
        back = layouts.ours_to_nvlabs_discriminator(*ours)
        same(back["state"], case.weights)
        assert layouts.nvlabs_discriminator_to_ours(back)[0] == ours[0]


def test_nvlabs_becomes_rosinality_without_a_flip(shared_dir: Path) -> None:
    case = Case.load(shared_dir, "b_stylegan2_nvlabs/sg3_g64")
    tree = layouts.ours_to_rosinality(*layouts.nvlabs_to_ours({"state": case.weights}))
    generator = StyleGAN2Generator.from_state(*layouts.rosinality_to_ours(tree))
    assert generator.config.scaled_demodulation
    close(generator.synthesis(case.inputs["ws"]), case.outputs["img_from_ws_const"])
    flipped = {
        n: t.flip(-1, -2) if n == "convs.0.conv.weight" else t for n, t in tree["g_ema"].items()
    }
    other = StyleGAN2Generator.from_state(*layouts.rosinality_to_ours({**tree, "g_ema": flipped}))
    difference = other.synthesis(case.inputs["ws"]) - case.outputs["img_from_ws_const"]
    assert difference.abs().max() > 1


def test_every_way_and_back_without_stored_data() -> None:
    config, state = random_generator()
    for give, take, part in (
        (layouts.ours_to_rosinality, layouts.rosinality_to_ours, ()),
        (layouts.ours_to_nvlabs, layouts.nvlabs_to_ours, ()),
        (layouts.ours_to_mmgen, layouts.mmgen_to_ours, ("w_avg",)),
    ):
        config_back, back = take(give(config, state))
        same(back, {n: t for n, t in state.items() if n not in ("w_std", *part)})
        assert config_back["channels"] == config["channels"]
    conditional, weights = random_generator(c_dim=3, conv_clamp=256.0, img_channels=1)
    tree = layouts.ours_to_nvlabs(conditional, weights)
    config_back, back = layouts.nvlabs_to_ours(tree)
    same(back, {n: t for n, t in weights.items() if n != "w_std"})
    assert {k: config_back[k] for k in conditional} == conditional
    with pytest.raises(CheckpointError, match="cannot say labels, clamped"):
        layouts.ours_to_rosinality(conditional, weights)


@pytest.mark.parametrize("changes", [{}, {"architecture": "orig"}, {"c_dim": 3, "cmap_dim": 6}])
def test_discriminators_every_way(changes: dict) -> None:
    settings = {"resolution": 16, "channels": [8, 8, 4], "group_size": 2, **changes}
    config = StyleGAN2DiscriminatorConfig(**settings)
    state = StyleGAN2Discriminator(config).state_dict()
    back_config, back = layouts.nvlabs_discriminator_to_ours(
        layouts.ours_to_nvlabs_discriminator(settings, state)
    )
    same(back, state)
    assert StyleGAN2DiscriminatorConfig(**back_config) == config


def test_attributes_say_the_limit_of_activations() -> None:
    config, state = random_generator()
    tree = layouts.ours_to_nvlabs(config, state)
    assert layouts.nvlabs_to_ours(tree)[0]["conv_clamp"] is None
    attributes = {"synthesis.b4.conv1.conv_clamp": 256, "synthesis.b8.conv0.conv_clamp": 256}
    assert layouts.nvlabs_to_ours({**tree, "attributes": attributes})[0]["conv_clamp"] == 256.0
    attributes["synthesis.b8.conv1.conv_clamp"] = 128
    with pytest.raises(CheckpointError, match="different limits"):
        layouts.nvlabs_to_ours({**tree, "attributes": attributes})


def test_mmgen_images_are_bgr() -> None:
    config, state = random_generator()
    theirs = layouts.ours_to_mmgen(config, state)["state_dict"]
    prefix = "generator_ema."
    assert theirs[f"{prefix}style_mapping.1.linear.weight_orig"].shape == (12, 12)
    assert theirs[f"{prefix}convs.0.conv.style_modulation.linear.weight_orig"].shape == (8, 12)
    assert theirs[f"{prefix}to_rgbs.0.conv.weight_orig"].shape == (1, 3, 8, 1, 1)
    assert (
        f"{prefix}injected_noise_4" in theirs and f"{prefix}conv1.noise_injector.weight" in theirs
    )
    bias = theirs[f"{prefix}to_rgb1.bias"].flatten()
    assert torch.equal(bias.flip(0), state["rgbs.0.bias"])
    bare = {n.removeprefix(prefix): t for n, t in theirs.items()}
    wrapped = {f"generator_ema.module.{n}": t for n, t in bare.items()} | {
        "generator_ema.steps": torch.tensor(3)
    }
    for tree in (theirs, bare, wrapped, {"state_dict": theirs, "meta": {}}):
        same(layouts.mmgen_to_ours(tree)[1], layouts.mmgen_to_ours(theirs)[1])


def test_mmgen_discriminator() -> None:
    settings = {"resolution": 16, "channels": [8, 8, 4]}
    state = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**settings)).state_dict()
    theirs = layouts.ours_to_rosinality_discriminator(settings, state)["d"]
    renamed = {}
    for name, value in theirs.items():
        kind = "linear" if name.startswith("final_linear") else "conv"
        new = name.replace(".weight", f".{kind}.weight_orig")
        renamed[f"discriminator.{new}"] = value.flip(1) if name == "convs.0.0.weight" else value
    same(layouts.mmgen_discriminator_to_ours({"state_dict": renamed})[1], state)


def tf_variables(config: dict, state: dict[str, Tensor]) -> dict[str, object]:
    """What the original network's variables would be, from the published conversion's rules."""
    theirs = layouts.ours_to_nvlabs(config, state)["state"]
    variables: dict[str, object] = {"lod": torch.zeros(())}
    for name, value in theirs.items():
        scope, _, rest = name.partition(".")
        if name.endswith("resample_filter"):
            continue
        if name == "mapping.w_avg":
            variables["dlatent_avg"] = value.numpy()
        elif scope == "mapping":
            layer, kind = rest.replace("fc", "Dense").split(".")
            variables[f"G_mapping/{layer}/{kind}"] = (
                value.t() if kind == "weight" else value
            ).numpy()
        else:
            block, _, rest = rest.partition(".")
            side = int(block[1:])
            if rest == "const":
                variables["G_synthesis/4x4/Const/const"] = value[None].numpy()
                continue
            layer, _, kind = rest.partition(".")
            if kind == "noise_const":
                index = 2 * (side.bit_length() - 3) - (layer == "conv0")
                variables[f"G_synthesis/noise{index}"] = value[None, None].numpy()
                continue
            up = {"conv0": "Conv0_up", "conv1": "Conv" if side == 4 else "Conv1", "torgb": "ToRGB"}
            if kind == "weight":
                value = value.permute(2, 3, 1, 0)
                value = value.flip(0, 1) if layer == "conv0" else value
            elif kind == "affine.weight":
                value = value.t()
            elif kind == "affine.bias":
                value = value - 1
            kind = kind.replace("affine.", "mod_")
            variables[f"G_synthesis/{side}x{side}/{up[layer]}/{kind}"] = value.contiguous().numpy()
    return variables


def test_tf_variables() -> None:
    config, state = random_generator()
    variables = tf_variables(config, state)
    assert layouts.is_tf_generator(variables)
    config_back, back = layouts.tf_to_ours(variables)
    assert config_back["scaled_demodulation"]
    for name, value in back.items():
        assert_close(value, state[name], rtol=0, atol=1e-6)  # the biases' 1 rounds
    with torch.no_grad():
        assert_close(image(config_back, back), image(config, state), rtol=1e-4, atol=1e-4)
    short = {re.sub("^G_(synthesis|mapping)/", "", n): v for n, v in variables.items()}
    same(layouts.tf_to_ours(short)[1], back)
    with pytest.raises(CheckpointError, match="LabelConcat"):
        layouts.tf_to_ours({**variables, "G_mapping/LabelConcat/weight": torch.zeros(2, 2)})


def test_tf_discriminator() -> None:
    settings = {"resolution": 16, "channels": [8, 8, 4]}
    state = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(**settings)).state_dict()
    theirs = layouts.ours_to_nvlabs_discriminator(settings, state)["state"]
    variables: dict[str, object] = {}
    layer_names = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    for name, value in theirs.items():
        if name.endswith("resample_filter"):
            continue
        block, layer, kind = name.split(".")
        if kind == "weight":
            value = value.permute(2, 3, 1, 0) if value.ndim == 4 else value.t()
        if block == "b4":
            variables[
                {"conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}[layer] + "/" + kind
            ] = value
        else:
            side = block[1:]
            variables[f"{side}x{side}/{layer_names[layer]}/{kind}"] = value
    same(layouts.tf_discriminator_to_ours(variables)[1], state)


def test_files_that_do_not_fit_are_named() -> None:
    tree = layouts.ours_to_rosinality(*random_generator())
    weights = tree["g_ema"]

    def changed(**changes) -> dict:
        new = {n: t for n, t in weights.items() if changes.get(n, 0) is not None}
        return {"g_ema": new | {n: t for n, t in changes.items() if t is not None}}

    for bad, message in (
        ({}, "no 'g_ema or g'"),
        ({"g_ema": {"a": torch.zeros(1)}}, "is not rosinality's G"),
        (changed(**{"conv1.activate.bias": None}), "missing conv1.activate.bias"),
        (changed(**{"more": torch.zeros(1)}), "unknown more"),
        (changed(**{"convs.0.noise.weight": torch.zeros(2)}), r"convs.0.noise.weight is \[2\]"),
        (changed(**{"convs.1.conv.weight": None}), "up-convolutions number"),
        (changed(**{"style.1.weight": torch.zeros(3)}), r"style.1.weight is \[3\]"),
        (changed(**{"input.input": "text"}), "expected a tensor"),
        (changed(**{"convs.0.conv.blur.kernel": torch.rand(4, 4) + 1}), "low-pass filters"),
        (changed(**{"convs.0.conv.blur.kernel": torch.zeros(0, 0)}), "low-pass filters"),
        ({"g_ema": {**weights, 3: torch.zeros(1)}}, "named by a int"),
    ):
        with pytest.raises(CheckpointError, match=message):
            layouts.rosinality_to_ours(bad)
    tree = layouts.ours_to_nvlabs(*random_generator())
    tree["init_kwargs"]["mapping_kwargs"]["lr_multiplier"] = "much"
    with pytest.raises(CheckpointError, match="fit no StyleGAN2"):
        layouts.nvlabs_to_ours(tree)
    with pytest.raises(CheckpointError, match="not the state of NVlabs' G"):
        layouts.nvlabs_to_ours({"state": weights})
    with pytest.raises(CheckpointError, match="no mmgen network"):
        layouts.mmgen_to_ours(weights)


def test_other_low_pass_filters_are_kept() -> None:
    config, state = random_generator(resample_taps=(1.0, 2.0, 1.0))
    tree = layouts.ours_to_rosinality(config, state)
    assert torch.equal(tree["g_ema"]["to_rgbs.0.upsample.kernel"], fir_kernel([1, 2, 1], 4.0))
    back_config, back = layouts.rosinality_to_ours(tree)
    assert back_config["resample_taps"] == [1.0, 2.0, 1.0]
    with torch.no_grad():
        assert_close(image(back_config, back), image(config, state), rtol=0, atol=0)


@pytest.mark.parametrize("size, parameters", [(1024, 30_370_060), (512, 30_276_583)])
def test_full_size_lists_fit(shared_dir: Path, size: int, parameters: int) -> None:
    folder = shared_dir / "golden" / "c_encoders" / "layouts_fullsize"
    layout = json.loads((folder / f"psp_Encoder4Editing_{size}.json").read_text())
    theirs = {}
    for name, shape, _ in layout:
        if name.startswith("decoder."):
            value = torch.zeros(()).expand(shape)  # shapes without memory
            if name.endswith(".kernel"):
                value = fir_kernel([1, 3, 3, 1], 4.0)
            theirs[name.removeprefix("decoder.")] = value
    config, state = layouts.rosinality_to_ours(theirs)
    assert StyleGAN2Config(**config) == StyleGAN2Config.official(size)
    back = layouts.ours_to_rosinality(config, state)["g_ema"]
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in theirs.items()}
    learned = sum(t.numel() for n, t in state.items() if not n.endswith(".noise"))
    assert learned == parameters
