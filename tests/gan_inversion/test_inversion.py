"""Inversion on a tiny generator: it lowers the loss, repeats itself, and caches safely."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_inversion.generators.base import Generator, Hooks
from gan_inversion.inversion import (
    Inversion,
    InversionCache,
    InversionConfig,
    face_weight,
    generator_fingerprint,
    invert,
    tuned_generator,
)
from gan_inversion.perceptual import EfficientNetLite0


class TinyGenerator(Generator):
    """Four rows of eight numbers; a 16 px image from a linear layer, enlarged."""

    num_ws, w_dim, resolution, resolutions = 4, 8, 64, (32, 64)

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(3 * 16 * 16, 32, generator=g) * 0.2, False)
        self.register_buffer("w_avg", torch.zeros(8))
        self.register_buffer("w_std", torch.ones(()))
        self.eval()

    def mapping(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        return z * truncation

    def synthesis(
        self,
        w_plus: Tensor,
        resolution: int | None = None,
        noise: str | Sequence[Tensor] = "const",
        hooks: Hooks | None = None,
        return_features: bool = False,
    ) -> Tensor:
        w = self.broadcast(w_plus).flatten(1)
        image = torch.tanh(F.linear(w, self.kernel)).view(-1, 3, 16, 16)
        size = resolution or self.resolution
        image = F.interpolate(image, size=(size, size), mode="bilinear")
        # The low-resolution head is wrong on purpose, as fitted heads are.
        return image + 0.2 if size < self.resolution else image


CONFIG = InversionConfig(
    steps_w=3,
    steps_w_plus=12,
    steps_tune=6,
    steps_full=6,
    low_resolution=32,
    lr_w_plus=0.1,
    correct_every=4,
    tune=("kernel",),
)


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    torch.manual_seed(1)
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def generator() -> TinyGenerator:
    return TinyGenerator()


@pytest.fixture(scope="module")
def target(generator: TinyGenerator) -> Tensor:
    w = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(3))
    return generator.synthesis(w).clamp(-1, 1)


def _error(image: Tensor, target: Tensor) -> float:
    return (image - target).square().mean().item()


def test_each_stage_helps_and_the_generator_is_untouched(generator, target, network) -> None:
    before = generator_fingerprint(generator)
    result = invert(generator, target, CONFIG, progress=False, network=network)
    assert generator_fingerprint(generator) == before
    assert not any(p.requires_grad for p in generator.parameters())
    assert result.w_plus.shape == (1, 4, 8) and result.image.shape == (1, 3, 64, 64)
    assert [r["stage"] for r in result.log] == ["W"] * 3 + ["W+"] * 12 + ["tune"] * 6 + ["full"] * 6
    start = generator.synthesis(generator.w_avg[None])
    assert _error(result.image, target) < 0.5 * _error(start, target)
    # The image is what the tuned generator makes of the code.
    assert result.generator_delta is not None and set(result.generator_delta) == {"kernel"}
    again = tuned_generator(generator, result.generator_delta).synthesis(result.w_plus)
    torch.testing.assert_close(again.clamp(-1, 1), result.image)


def test_same_input_same_result(generator, target, network) -> None:
    first, second = (
        invert(generator, target, CONFIG, progress=False, network=network) for _ in range(2)
    )
    assert torch.equal(first.w_plus, second.w_plus) and torch.equal(first.image, second.image)


def test_the_low_heads_error_is_corrected(generator, target, network) -> None:
    # Only low-resolution steps: without the correction the image would be 0.2 too dark.
    from dataclasses import replace

    config = replace(CONFIG, steps_w=0, steps_w_plus=60, steps_tune=0, steps_full=0, lr_tune=0)
    result = invert(generator, target, config, progress=False, network=network)
    assert result.generator_delta is None
    assert abs((result.image - target).mean().item()) < 0.03


def test_starting_code(generator, target, network) -> None:
    from dataclasses import replace

    config = replace(CONFIG, lr_w=1e-9, lr_w_plus=1e-9, lr_full=1e-9, lr_tune=0.0)
    w_plus = torch.randn(1, 4, 8)
    result = invert(generator, target, config, init_w=w_plus, progress=False, network=network)
    torch.testing.assert_close(result.w_plus, w_plus)
    assert {r["stage"] for r in result.log} == {"W+", "tune", "full"}
    with pytest.raises(ValueError, match=r"\[1, 3, 8\]"):
        invert(generator, target, config, init_w=w_plus[:, :3], progress=False, network=network)


def test_bad_photographs_are_named(generator, target, network) -> None:
    with pytest.raises(ValueError, match="`aligned` must have shape"):
        invert(generator, target[..., :32], CONFIG, network=network)
    with pytest.raises(ValueError, match="`aligned` must be finite"):
        invert(generator, target * float("nan"), CONFIG, network=network)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps_w": -1},
        {"steps_w": 0, "steps_w_plus": 0, "steps_tune": 0, "steps_full": 0},
        {"correct_every": 0},
        {"face_emphasis": 0.5},
        {"lr_tune": -1.0},
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        InversionConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [4, 5, 17, 100, 153, 1000])
def test_steps_are_scaled_in_proportion(steps: int) -> None:
    config = InversionConfig().with_total_steps(steps)
    parts = (config.steps_w, config.steps_w_plus, config.steps_tune, config.steps_full)
    assert sum(parts) == steps and min(parts) >= 1
    with pytest.raises(ValueError, match="`steps` must be at least 4"):
        config.with_total_steps(3)


def test_unused_stages_stay_unused() -> None:
    config = InversionConfig(steps_tune=0, steps_full=0).with_total_steps(9)
    assert config.steps_tune == config.steps_full == 0 and config.total_steps == 9


def test_a_pattern_that_matches_nothing_is_refused(generator, target, network) -> None:
    with pytest.raises(ValueError, match="`config.tune`"):
        invert(
            generator,
            target,
            InversionConfig(tune=("nothing",), low_resolution=32),
            progress=False,
            network=network,
        )


def test_tuned_generator_checks_names_and_shapes(generator) -> None:
    assert tuned_generator(generator, None) is generator
    for delta in ({"kernel": torch.zeros(2)}, {"nothing": torch.zeros(2)}):
        with pytest.raises(ValueError, match="does not fit the generator"):
            tuned_generator(generator, delta)


def test_face_weight_is_high_inside_the_landmarks() -> None:
    angle = torch.linspace(0, 2 * torch.pi, 69)[:-1]
    landmarks = torch.stack([32 + 12 * angle.cos(), 40 + 12 * angle.sin()], 1)
    weight = face_weight(landmarks, 64, emphasis=4.0)[0, 0]
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert weight[40, 32] > 3 * weight[60, 4] and weight[40, 32] > 3 * weight[40, 62]
    flat = face_weight(landmarks, 64, emphasis=1.0)
    torch.testing.assert_close(flat, torch.ones_like(flat))
    with pytest.raises(ValueError, match="`landmarks` must have shape"):
        face_weight(landmarks[:5], 64)


def test_cache_finds_recomputes_and_warns(generator, target, network, tmp_path) -> None:
    cache = InversionCache(tmp_path / "cache")
    first = cache.invert(generator, target, CONFIG, progress=False, network=network)
    (file,) = (tmp_path / "cache").iterdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = cache.invert(generator, target, CONFIG, progress=False, network=network)
    assert second.seconds == 0 and second.log == first.log
    assert torch.equal(first.w_plus, second.w_plus)
    torch.testing.assert_close(first.image, second.image)

    for damage in (b"", b"garbage", file.read_bytes()[:-7]):
        file.write_bytes(damage)
        with pytest.warns(RuntimeWarning, match=file.name):
            third = cache.invert(generator, target, CONFIG, progress=False, network=network)
        assert third.seconds > 0 and torch.equal(first.w_plus, third.w_plus)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_cache_key_depends_on_everything(generator, target, tmp_path) -> None:
    cache = InversionCache(tmp_path)
    other = TinyGenerator()
    other.kernel.data[0, 0] += 1
    brighter = (target + 1 / 255).clamp(-1, 1)
    paths = {
        cache.path(generator, target, CONFIG),
        cache.path(generator, brighter, CONFIG),
        cache.path(generator, target, CONFIG.with_total_steps(10)),
        cache.path(generator, target, CONFIG, landmarks=torch.zeros(68, 2)),
        cache.path(generator, target, CONFIG, init_w=torch.zeros(1, 8)),
        cache.path(other, target, CONFIG),
    }
    assert len(paths) == 6
    assert cache.path(generator, target, CONFIG) in paths


def test_cache_of_another_generator_is_not_used(generator, tmp_path) -> None:
    cache = InversionCache(tmp_path)
    path = tmp_path / "x.safetensors"
    assert cache.load(path, generator) is None
    cache.store(path, Inversion(torch.zeros(1, 16, 512), torch.zeros(1, 3, 64, 64)))
    with pytest.warns(RuntimeWarning, match="x.safetensors"):
        assert cache.load(path, generator) is None


@pytest.mark.assets
@pytest.mark.slow
def test_real_generator_inverts_its_own_face() -> None:
    from gan_inversion.generators import load_default_generator

    generator = load_default_generator()
    w = generator.sample_w(1, generator=torch.Generator().manual_seed(5), truncation=0.7)
    with torch.no_grad():
        target = generator.synthesis(w)
        mean = generator.synthesis(generator.w_avg[None])
    assert isinstance(target, Tensor) and isinstance(mean, Tensor)
    target = target.clamp(-1, 1)
    config = InversionConfig(steps_w=8, steps_w_plus=8, steps_tune=2, steps_full=1)
    result = invert(generator, target, config, progress=False)
    assert _error(result.image, target) < 0.4 * _error(mean, target)
