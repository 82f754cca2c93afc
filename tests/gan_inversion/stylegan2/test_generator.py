"""StyleGAN2's generator without stored data: the published formulation, options, errors."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from torch import Tensor

from benchmarks.generator import reference
from gan_inversion.generators import Generator
from gan_inversion.generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Generator,
    minibatch_stddev,
)

CONFIG = StyleGAN2Config(32, (12, 10, 8, 6), z_dim=16, w_dim=16, num_mapping_layers=2)


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    torch.manual_seed(3)
    state = StyleGAN2Generator(CONFIG).state_dict()
    for name, value in state.items():
        if name.endswith((".bias", "noise_strength")):
            value.add_(torch.randn_like(value), alpha=0.2)
    del state["w_avg"], state["w_std"]
    return StyleGAN2Generator.from_state(CONFIG, state)


@pytest.fixture()
def code(generator) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(2, generator.num_ws, 16, generator=rng)


def near(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_interface_and_widths(generator) -> None:
    assert isinstance(generator, Generator)
    assert (generator.num_ws, generator.resolution, generator.w_dim) == (8, 32, 16)
    assert not generator.training and not any(p.requires_grad for p in generator.parameters())
    f, e = StyleGAN2Config.official(1024), StyleGAN2Config.official(1024, 1)
    assert f.channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    assert e.channels == (512, 512, 512, 512, 256, 128, 64, 32, 16)
    rng = torch.Generator().manual_seed(0)
    assert generator.sample_w(3, generator=rng).shape == (3, 16)


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_equals_the_published_formulation(generator, batch) -> None:
    generator = copy.deepcopy(generator)
    w = torch.randn(batch, 8, 16)
    expected = reference.synthesis(generator, w)
    near(generator.synthesis(w), expected)
    near(reference.synthesis(generator, w, depthwise=True), expected)
    for trainable in (False, True):
        generator.requires_grad_(trainable)
        grads = []
        for render in (generator.synthesis, lambda v: reference.synthesis(generator, v)):
            v = w.clone().requires_grad_()
            inputs = (v, *generator.convs.parameters()) if trainable else (v,)
            grads.append(torch.autograd.grad(render(v).square().mean(), inputs))
        for ours, theirs in zip(*grads, strict=True):
            near(ours, theirs, 1e-4)


def test_path_length_penalty_has_gradients(generator) -> None:
    trainable = copy.deepcopy(generator).double().requires_grad_(True)
    w = torch.randn(2, 8, 16, dtype=torch.float64)
    results = []
    for render in (trainable.synthesis, lambda v: reference.synthesis(trainable, v)):
        v = w.clone().requires_grad_()
        (slope,) = torch.autograd.grad(render(v).sum(), v, create_graph=True)
        parameters = [trainable.convs[2].weight, trainable.convs[1].affine.weight]
        results.append(torch.autograd.grad(slope.square().sum(), parameters))
    for ours, theirs in zip(*results, strict=True):
        near(ours, theirs, 1e-9)


def test_functional_transforms(generator, code) -> None:
    trainable = copy.deepcopy(generator).requires_grad_(True)
    state = dict(trainable.named_parameters())

    def energy(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(trainable, parameters, (code,)).square().mean()

    (expected,) = torch.autograd.grad(energy(state), state["convs.6.weight"])
    near(torch.func.grad(energy)(state)["convs.6.weight"], expected, 1e-4)
    tangents = {name: torch.zeros_like(value) for name, value in state.items()}
    tangents["convs.6.weight"] = torch.randn_like(expected)
    _, slope = torch.func.jvp(energy, (state,), (tangents,))
    near(slope, (expected * tangents["convs.6.weight"]).sum(), 1e-3)


def test_truncation_mixing_and_statistics(generator) -> None:
    z = torch.randn(3, 16)
    w = generator.mapping(z)
    assert 0.1 < generator.w_std < 10 and generator.w_avg.abs().max() > 0
    near(generator.mapping(z, 0.5), generator.w_avg + 0.5 * (w - generator.w_avg))
    near(generator.mapping(z, 0.0), generator.w_avg.expand(3, -1))
    cut = generator.mapping(z, 0.5, truncation_cutoff=3)
    near(cut[:, :3], generator.mapping(z, 0.5)[:, None].expand(-1, 3, -1))
    assert torch.equal(cut[:, 3:], generator.broadcast(w)[:, 3:])
    mixed = generator.mix(w, generator.w_avg.expand(3, -1), 2)
    assert torch.equal(mixed[:, 1], w) and torch.equal(mixed[:, 2], generator.w_avg.expand(3, -1))
    # measured the same again, without touching the global random state
    again = copy.deepcopy(generator)
    before = torch.get_rng_state()
    again.measure_w()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.w_avg, generator.w_avg) and torch.equal(again.w_std, generator.w_std)
    again.update_w_avg(w, beta=0.75)
    near(again.w_avg, 0.75 * generator.w_avg + 0.25 * w.mean(0))


def test_conditional_mapping() -> None:
    generator = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=6, w_dim=5, c_dim=3))
    z, c = torch.randn(2, 6), torch.eye(3)[:2]
    w = generator.mapping(z, c=c)
    assert w.shape == (2, 5)
    assert not torch.allclose(w, generator.mapping(z, c=c.flip(0)))
    generator.measure_w(100)
    with pytest.raises(ValueError, match="`c` must have shape"):
        generator.mapping(z)


def test_noise_modes(generator, code) -> None:
    render = generator.synthesis
    const, none = render(code), render(code, noise="none")
    assert not torch.allclose(const, none)
    planes = [layer.noise for layer in generator.convs]
    assert torch.equal(render(code, noise=planes), const)
    assert torch.equal(render(code, noise=[None] * len(planes)), none)
    torch.manual_seed(1)
    first = render(code, noise="random")
    assert not torch.allclose(first, render(code, noise="random"))
    torch.manual_seed(1)
    assert torch.equal(render(code, noise="random"), first)
    assert generator.noise_shapes() == [(1, 1, s, s) for s in (4, 8, 8, 16, 16, 32, 32)]


def test_lower_resolutions_are_area_averages(generator, code) -> None:
    image = generator.synthesis(code)
    low = generator.synthesis(code, resolution=8)
    near(low, image.unflatten(3, (8, 4)).unflatten(2, (8, 4)).mean((3, 5)))


def test_every_hook_sees_its_tensor_and_replaces_it(generator, code) -> None:
    plain = generator.synthesis(code)
    seen: dict[str, Tensor] = {}
    hooks = {n: lambda v, n=n: seen.setdefault(n, v) for n in generator.hook_names}
    image, features = generator.synthesis(code, hooks=hooks, return_features=True)
    assert torch.equal(image, plain) and set(seen) == set(generator.hook_names)
    assert seen["conv5"].shape == (2, 6, 32, 32) and seen["rgb1.weight"].shape == (3, 10, 1, 1)
    assert {s: f.shape[1] for s, f in features.items()} == {4: 12, 8: 10, 16: 8, 32: 6}
    assert torch.equal(seen["image3"], plain)
    for name in generator.hook_names:
        changed = generator.synthesis(code, hooks={name: lambda v: v * 1.5 + 0.1})
        assert not torch.allclose(changed, plain), name


def test_weight_hooks_take_one_kernel_a_sample(generator, code) -> None:
    delta = torch.rand(2, 10, 1, 1, 1) - 0.5
    both = generator.synthesis(code, hooks={"conv1.weight": lambda w: w * (1 + delta)})
    for b in range(2):
        one = {"conv1.weight": lambda w, b=b: w * (1 + delta[b])}
        near(generator.synthesis(code[b : b + 1], hooks=one), both[b : b + 1])


def test_clamp_limits_what_it_should() -> None:
    limited = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=4, w_dim=4, conv_clamp=0.1))
    with torch.no_grad():
        for layer in limited.rgbs:
            layer.bias.fill_(3.0)
    image, features = limited.synthesis(torch.randn(1, 4), return_features=True)
    assert all(f.abs().max() <= 0.1 * 2**0.5 + 1e-6 for f in features.values())
    # the up-sampled first image (inside: 0.1 as well) and 0.1 on top
    near(image[..., 3:5, 3:5], torch.full((1, 3, 2, 2), 0.2))


def test_bad_arguments_are_named(generator, code) -> None:
    for call, message in (
        (lambda: generator.synthesis(code[:, :3]), "`w_plus` must"),
        (lambda: generator.synthesis(code, resolution=12), "`resolution` must"),
        (lambda: generator.synthesis(code, noise="some"), "`noise` must be"),
        (lambda: generator.synthesis(code, noise=[None]), "`noise` must have 7"),
        (lambda: generator.synthesis(code, noise=[torch.zeros(1)] * 7), r"`noise\[0\]` must"),
        (lambda: generator.synthesis(code, hooks={"conv9": lambda v: v}), "`hooks` names no"),
        (lambda: generator.mapping(torch.zeros(2, 3)), "`z` must"),
        (lambda: generator.mapping(torch.zeros(2, 16), c=torch.zeros(2, 1)), "`c` must be None"),
        (lambda: generator.mix(code, code, 9), "`crossover` must"),
        (lambda: generator.truncate(code, 0.5, -1), "`cutoff` must"),
        (lambda: StyleGAN2Config(24, (1, 2)), "`resolution` must"),
        (lambda: StyleGAN2Config(16, (1, 2)), "`channels` must be 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    state = generator.state_dict()
    state["more"] = state.pop("const")
    with pytest.raises(ValueError, match="missing const; unknown more"):
        StyleGAN2Generator.from_state(CONFIG, state)
    with pytest.raises(ValueError, match="unknown entries"):
        StyleGAN2Generator.from_state({"size": 3}, state)


def test_an_empty_batch_gives_an_empty_batch(generator) -> None:
    w = generator.mapping(torch.empty(0, 16))
    for noise in ("const", "random"):
        assert generator.synthesis(w, noise=noise).shape == (0, 3, 32, 32)
    per_sample = {"conv2.weight": lambda weight: weight.expand(0, *weight.shape)}
    assert generator.synthesis(w, 8, hooks=per_sample).shape == (0, 3, 8, 8)
    judge = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(16, (8, 8, 8)))
    assert judge(torch.empty(0, 3, 16, 16)).shape == (0, 1)


def test_latents_are_drawn_in_the_width_of_z() -> None:
    narrow = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=8, w_dim=16))
    assert narrow.sample_w(3, generator=torch.Generator()).shape == (3, 16)


def test_statistics_do_not_depend_on_how_many_are_mapped_at_once(monkeypatch) -> None:
    """A few hundred kB of a wide z or label would otherwise take gigabytes on load."""
    module = importlib.import_module("gan_inversion.generators.stylegan2.generator")
    torch.manual_seed(0)
    for changes in ({}, {"c_dim": 3}):
        wide = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=8, w_dim=8, **changes))
        wide.measure_w()
        average, deviation = wide.w_avg.clone(), wide.w_std.clone()
        with monkeypatch.context() as patch:
            patch.setattr(module, "_NUMBERS_AT_ONCE", 8 * 999)
            wide.measure_w()
        # Other labels are drawn, and the last numbers of a piece in another order.
        assert (wide.w_avg - average).norm() < 0.05 * deviation * 8**0.5
        assert wide.w_std == pytest.approx(deviation.item(), rel=0.05)
        wide.measure_w(keep_average=True)
        rng = torch.Generator().manual_seed(1)
        c = None if not changes else torch.eye(3)[torch.randint(3, (10_000,), generator=rng)]
        w = wide.mapping(torch.randn(10_000, 8, generator=rng), c=c)
        spread = (w - wide.w_avg).square().mean().sqrt().item()
        assert wide.w_std == pytest.approx(spread, rel=0.05)


def test_a_hook_may_not_change_a_shape(generator, code) -> None:
    for name, change in (
        ("rgb1", lambda x: x[:, :, :1, :1]),
        ("conv2", lambda x: None),
        ("conv2.style", lambda x: x[:1]),
        ("conv2.weight", lambda x: x[:3]),
    ):
        with pytest.raises(ValueError, match=rf"`hooks\['{name}'\]` must return a tensor"):
            generator.synthesis(code, hooks={name: change})


def test_minibatch_stddev_by_hand() -> None:
    x = torch.tensor([0.0, 10.0, 2.0, 30.0]).reshape(4, 1, 1, 1)
    # group 2: images 0 and 2 (deviation 1), 1 and 3 (deviation 10)
    assert minibatch_stddev(x, 2)[:, 1].flatten().tolist() == pytest.approx([1, 10, 1, 10])
    assert minibatch_stddev(x[:1])[0, 1].item() == pytest.approx(1e-4)
    wide = torch.cat([x, torch.zeros(4, 1, 1, 1)], 1)
    assert minibatch_stddev(wide, None, 2)[0, 3].item() == pytest.approx(1e-4)
    with pytest.raises(ValueError, match="multiple of 4"):
        minibatch_stddev(torch.zeros(6, 1, 1, 1))


@pytest.mark.parametrize("changes", [{}, {"architecture": "orig"}, {"c_dim": 3, "cmap_dim": 6}])
def test_discriminator_and_its_penalty(changes) -> None:
    settings = StyleGAN2DiscriminatorConfig(16, (8, 6, 4), **changes)
    discriminator = StyleGAN2Discriminator(settings).double()
    image = torch.randn(4, 3, 16, 16, dtype=torch.float64).requires_grad_()
    label = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]] if "c_dim" in changes else None
    logit = discriminator(image, label)
    assert logit.shape == (4, 1)
    (slope,) = torch.autograd.grad(logit.sum(), image, create_graph=True)
    slope.square().sum().backward()  # R1
    weight = discriminator.blocks[0].conv0.weight
    assert weight.grad is not None and weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="`image` must"):
        discriminator(image[:, :2])


def test_bfloat16_generator_is_near(generator, code) -> None:
    half = copy.deepcopy(generator).bfloat16().synthesis(code.bfloat16())
    assert half.dtype == torch.bfloat16
    near(half.float(), generator.synthesis(code), 0.05)


@pytest.mark.slow
def test_compiles_in_one_graph(generator, code) -> None:
    compiled = torch.compile(generator, fullgraph=True)
    near(compiled(code), generator(code))


@pytest.mark.parametrize("dynamic", [False, True])
def test_exports(generator, code, dynamic) -> None:
    shapes = {"w_plus": {0: torch.export.Dim("batch", min=2, max=64)}} if dynamic else None
    with torch.no_grad():
        program = torch.export.export(generator, (code,), dynamic_shapes=shapes)
    for w in (code, torch.randn(3, 8, 16)) if dynamic else (code,):
        near(program.module()(w), generator(w))
