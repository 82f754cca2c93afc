"""Ops, generators and discriminators against the stored outputs of the two official codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_inversion.checkpoints.stylegan2_layouts import (
    nvlabs_discriminator_to_ours,
    nvlabs_to_ours,
    rosinality_discriminator_to_ours,
    rosinality_to_ours,
)
from gan_inversion.generators.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    bias_act,
    fir_kernel,
    modulated_conv2d,
    resample_conv2d,
    upfirdn2d,
)
from tests.gan_inversion.stylegan2.golden import GRADIENT, Case, close, draw, load_ops

ROSINALITY, NVLABS = "a_stylegan2_rosinality", "b_stylegan2_nvlabs"


def sides(value):
    if isinstance(value, int):
        return value
    return tuple(value) if len(value) == 4 else (*value, *value)


def pair(value):
    return tuple(value) if isinstance(value, list) else value


def rosinality_generator(case: Case) -> StyleGAN2Generator:
    weights = dict(case.weights)
    blocks = sum(name.startswith("to_rgbs.") and name.endswith(".bias") for name in weights)
    for j in range(blocks):  # fixed filters, which the rule does not rebuild
        weights.setdefault(f"convs.{2 * j}.conv.blur.kernel", fir_kernel([1, 3, 3, 1], 4.0))
        weights.setdefault(f"to_rgbs.{j}.upsample.kernel", fir_kernel([1, 3, 3, 1], 4.0))
    tree = {"g_ema": weights, "latent_avg": case.outputs["latent_avg"]}
    return StyleGAN2Generator.from_state(*rosinality_to_ours(tree))


def render(generator: StyleGAN2Generator, *args, **kwargs) -> Tensor:
    with torch.no_grad():
        return generator.synthesis(*args, **kwargs)


def test_rosinality_upfirdn2d(shared_dir: Path) -> None:
    cases, t = load_ops(shared_dir, f"{ROSINALITY}/ops")
    cases = [case for case in cases if case["name"].startswith("upfirdn2d")]
    assert len(cases) == 30
    for case in cases:
        x = t["upfirdn2d.x"].clone().requires_grad_()
        kernel = t["upfirdn2d.kernel." + case["kernel"]]
        y = upfirdn2d(x, kernel, case["up"], case["down"], sides(case["pad"]))
        close(y, t[case["name"] + ".y"])
        (grad,) = torch.autograd.grad(y, x, t[case["name"] + ".cotangent"])
        close(grad, t[case["name"] + ".grad_x"])


@pytest.mark.parametrize("implementation", ["auto", "weights", "activations"])
@pytest.mark.parametrize("name", ["plain3", "up3", "down3", "rgb1"])
def test_rosinality_modulated_conv2d(shared_dir: Path, name: str, implementation: str) -> None:
    _, t = load_ops(shared_dir, f"{ROSINALITY}/ops")
    keys = ("x", "weight", "style", "mod_weight", "mod_bias")
    v = {key: t[f"modconv.{name}.{key}"].clone().requires_grad_() for key in keys}
    style = v["style"] @ v["mod_weight"].T / v["style"].shape[1] ** 0.5 + v["mod_bias"]
    y = modulated_conv2d(
        v["x"],
        v["weight"][0],
        style / v["weight"][0, 0].numel() ** 0.5,
        demodulate=name != "rgb1",
        up=2 if name == "up3" else 1,
        down=2 if name == "down3" else 1,
        kernel=fir_kernel([1, 3, 3, 1]),
        implementation=implementation,
    )
    close(y, t[f"modconv.{name}.y"])
    close(y, t[f"modconv.{name}.y_unfused"])
    y.backward(t[f"modconv.{name}.cotangent"])
    for key, value in v.items():
        close(value.grad, t[f"modconv.{name}.grad_{key}"])


def test_rosinality_small_operations(shared_dir: Path) -> None:
    _, t = load_ops(shared_dir, f"{ROSINALITY}/ops")
    for name in ("2d", "4d"):
        key = f"fused_leaky_relu.{name}"
        x, bias = (t[f"{key}.{n}"].clone().requires_grad_() for n in ("x", "bias"))
        y = bias_act(x, bias)
        close(y, t[f"{key}.y"])
        y.backward(t[f"{key}.cotangent"])
        close(x.grad, t[f"{key}.grad_x"])
        close(bias.grad, t[f"{key}.grad_bias"])
    for name, factors, padding in (
        ("Upsample", (2, 1), (2, 1, 2, 1)),
        ("Downsample", (1, 2), 1),
        ("Blur_up", (1, 1), 1),
        ("Blur_down", (1, 1), 2),
    ):
        kernel = t[f"fir.{name}.kernel"]
        close(upfirdn2d(t[f"fir.{name}.x"], kernel, *factors, padding), t[f"fir.{name}.y"])


@pytest.mark.parametrize(
    "name",
    ["g64_tiny", "g256_tiny", pytest.param("g64_official_width", marks=pytest.mark.slow)],
)
def test_rosinality_generator(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, f"{ROSINALITY}/{name}")
    out, info = case.outputs, case.info["meta"]
    generator = rosinality_generator(case)
    assert generator.resolution == info["size"]
    rows = generator.num_ws
    batch = info["batch"]

    def given(key: str, *shape: int) -> Tensor:
        return case.inputs[key] if key in case.inputs else draw(shared_dir, case, key, list(shape))

    z, z2 = (given(k, batch, info["style_dim"]) for k in ("z", "z2"))
    w, wplus = given("w", batch, info["style_dim"]), given("wplus", batch, rows, info["style_dim"])
    noise = [given(f"noise_{i}", batch, *s[1:]) for i, s in enumerate(generator.noise_shapes())]
    with torch.no_grad():
        mapped, mapped2 = generator.mapping(z), generator.mapping(z2)
        truncated = generator.mapping(z, truncation=0.7)
        cut = generator.mapping(z, truncation=0.7, truncation_cutoff=rows)
    mixed = generator.mix(mapped, mapped2, 3)
    close(mapped, out["w_from_z"])
    close(mixed, out["latent_from_z_mix"])
    if "latent_from_z" in out:
        close(generator.broadcast(mapped), out["latent_from_z"])
        close(generator.broadcast(truncated), out["latent_from_z_trunc0.7"])
        close(cut, out["latent_from_z_trunc0.7"])
    close(render(generator, mapped), out["img_from_z"])
    close(render(generator, truncated), out["img_from_z_trunc0.7"])
    close(render(generator, mixed), out["img_from_z_mix"])
    close(render(generator, w), out["img_from_w"])
    close(render(generator, wplus, noise=noise), out["img_from_wplus_explicit_noise"])

    seen: dict[str, Tensor] = {}

    def keep(key: str):
        return lambda value: seen.setdefault(key, value)

    hooks = {hook: keep(hook) for hook in generator.hook_names}
    image, features = generator.synthesis(wplus, hooks=hooks, return_features=True)
    close(image, out["img_from_wplus"])
    ours = {"feat.conv1": "conv0", "feat.to_rgb1": "image0"}
    for j in range(generator.num_blocks - 1):
        ours |= {f"feat.convs.{i}": f"conv{i + 1}" for i in (2 * j, 2 * j + 1)}
        ours |= {f"feat.to_rgbs.{j}": f"image{j + 1}"}
    ours |= {"feat.conv1.conv.modulation": "conv0.style"}
    ours |= {f"feat.convs.{i}.conv.modulation": f"conv{i + 1}.style" for i in range(2 * rows)}
    checked = [key for key in out if key in ours]
    assert len(checked) >= 3
    for key in checked:
        close(seen[ours[key]], out[key])
    assert all(torch.equal(features[f.shape[-1]], f) for f in features.values())

    # Gradients: with trainable weights, and with the code alone (another formulation runs then).
    grads = {
        "grad.wplus": None,
        "grad.input.input": "const",
        "grad.conv1.conv.weight": "convs.0.weight",
        "grad.convs.0.conv.weight": "convs.1.weight",
        "grad.convs.0.conv.modulation.weight": "convs.1.affine.weight",
        "grad.convs.1.activate.bias": "convs.2.bias",
        "grad.convs.1.noise.weight": "convs.2.noise_strength",
        "grad.to_rgbs.0.conv.weight": "rgbs.1.weight",
    }
    cotangent = given("cotangent", *image.shape)
    if name == "g64_official_width":
        # Of its 3 million activations one lies 1e-7 from LeakyReLU's kink, where the side, and
        # with it the gradient (by 9e-4), depends on the order of a sum in single precision.
        generator, wplus, cotangent = generator.double(), wplus.double(), cotangent.double()
    for trainable in (False, True):
        generator.requires_grad_(trainable)
        code = wplus.clone().requires_grad_()
        (generator.synthesis(code) * cotangent).sum().backward()
        close(code.grad, out["grad.wplus"], GRADIENT)
    for key, parameter in grads.items():
        if key in out and parameter is not None:
            grad = generator.get_parameter(parameter).grad
            close(grad.reshape(out[key].shape), out[key], GRADIENT)


@pytest.mark.parametrize("name", ["sg3_g64", "sg3_g32_cond5", "ada_g32"])
def test_nvlabs_generator(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, f"{NVLABS}/{name}")
    out, inputs = case.outputs, case.inputs
    generator = StyleGAN2Generator.from_state(*nvlabs_to_ours({"state": case.weights}))
    c = inputs.get("c")
    assert generator.num_ws == case.info["meta"]["num_ws"]
    with torch.no_grad():
        w = generator.mapping(inputs["z"], c=c)
        truncated = generator.mapping(inputs["z"], 0.7, c=c)
        close(generator.broadcast(w), out["ws_from_z"])
        close(generator.broadcast(truncated), out["ws_from_z_psi0.7"])
        cut = generator.mapping(inputs["z"], 0.5, c=c, truncation_cutoff=4)
        close(cut, out["ws_from_z_psi0.5_cut4"])
    close(render(generator, w), out["img_from_z_const"])
    close(render(generator, truncated), out["img_from_z_psi0.7_const"])
    close(render(generator, inputs["ws"]), out["img_from_ws_const"])
    close(render(generator, inputs["ws"]), out["img_from_ws_const_unfused"])
    close(render(generator, inputs["ws"], noise="none"), out["img_from_ws_none"])
    images: dict[str, Tensor] = {}
    blocks = range(generator.num_blocks)
    hooks = {f"image{j}": lambda v, j=j: images.setdefault(j, v) for j in blocks}
    _, features = render(generator, inputs["ws"], hooks=hooks, return_features=True)
    for j, side in enumerate(generator.resolutions):
        close(features[side], out[f"feat.b{side}.x"])
        close(images[j], out[f"feat.b{side}.img"])


def test_nvlabs_operations(shared_dir: Path) -> None:
    cases, t = load_ops(shared_dir, f"{NVLABS}/sg3_ops")
    assert len(cases) == 22
    for case in cases:
        kind, flavour = case["name"].split(".")[:2]
        if kind == "upfirdn2d":
            factors = pair(case["up"]), pair(case["down"])
            options = {"flip": case["flip_filter"], "gain": case["gain"]}
            kernel = t[f"filter.{flavour}"]
            y = upfirdn2d(t["x"], kernel, *factors, sides(case["padding"]), **options)
        else:
            padding, flip = sides(case["padding"]), not case["flip_weight"]
            factors = case["up"], case["down"]
            y = resample_conv2d(t["x"], t["w"], t["filter.1331"], *factors, padding, flip=flip)
        close(y, t[case["name"]])
    for name, size in (("1331", 4), ("sep12", 12)):
        kernel, half = t[f"filter.{name}"], size // 2
        up, down = (half, half - 1), (half - 1, half - 1)
        close(upfirdn2d(t["x"], kernel, 2, 1, up + up, gain=4), t[f"upsample2d.{name}"])
        close(upfirdn2d(t["x"], kernel, 1, 2, down + down), t[f"downsample2d.{name}"])
        same = (half, half - 1)
        close(upfirdn2d(t["x"], kernel, padding=same + same), t[f"filter2d.{name}"])
    names = {key.split(".")[1] for key in t if key.startswith("bias_act.")}
    assert len(names) == 9
    for name in names:
        close(bias_act(t["x"], t["bias"], name), t[f"bias_act.{name}"])
        limited = bias_act(t["x"], t["bias"], name, gain=2.0, clamp=0.5)
        close(limited, t[f"bias_act.{name}.gain2_clamp0.5"])


def test_rosinality_discriminator(shared_dir: Path) -> None:
    case = Case.load(shared_dir, f"{ROSINALITY}/d64_tiny")
    out = case.outputs
    config, state = rosinality_discriminator_to_ours({"d": case.weights})
    discriminator = StyleGAN2Discriminator.from_state(config, state)
    for batch in case.info["meta"]["batches"]:
        image = case.inputs[f"img{batch}"].clone().requires_grad_()
        logit = discriminator(image)
        close(logit, out[f"logit_img{batch}"])
        (grad,) = torch.autograd.grad(logit.sum(), image)
        close(grad, out[f"grad_img{batch}"], GRADIENT)
    image = case.inputs["img8"]
    with torch.no_grad():
        features = discriminator.features(image)
        block, kernel = discriminator.blocks[0], discriminator.kernel
        close(features[0], out["feat.convs.0"])
        close(features[1], out["feat.convs.1"])
        close(block.conv0(features[0], kernel), out["feat.convs.1.conv1"])
        inner = block.conv1(block.conv0(features[0], kernel), kernel)
        close(inner, out["feat.convs.1.conv2"])
        close(block.skip(features[0], kernel), out["feat.convs.1.skip"])


@pytest.mark.parametrize("name", ["sg3_d64", "ada_d32"])
def test_nvlabs_discriminator(shared_dir: Path, name: str) -> None:
    case = Case.load(shared_dir, f"{NVLABS}/{name}")
    config, state = nvlabs_discriminator_to_ours({"state": case.weights})
    discriminator = StyleGAN2Discriminator.from_state(config, state)
    assert case.inputs
    for key, image in case.inputs.items():
        with torch.no_grad():
            close(discriminator(image), case.outputs[f"logit_{key}"])
