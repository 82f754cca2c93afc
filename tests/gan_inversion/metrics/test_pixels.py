"""PSNR, SSIM and MS-SSIM: by hand, against a slow definition, and against other libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_inversion.metrics import (
    VARIANTS,
    ms_ssim,
    ms_ssim_values,
    psnr,
    psnr_values,
    ssim,
    ssim_values,
)
from gan_inversion.metrics.psnr import CAP_DB, capped, pooled_psnr
from gan_inversion.metrics.ssim import similarity_maps, ssim_variant

# Libraries that compute in float32 round their windows: their variances are 1e-5 off.
DOUBLE, SINGLE = 1e-12, 1e-5


def noisy_pair(height: int = 23, width: int = 31, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.randint(0, 256, (2, 3, height, width), generator=g, dtype=torch.uint8)
    noise = torch.randint(-40, 41, a.shape, generator=g)
    return a, (a.int() + noise).clamp(0, 255).to(torch.uint8)


def slow_ssim(a: Tensor, b: Tensor, variant: str) -> float:
    """The definition, one window after the other."""
    chosen = VARIANTS[variant]
    size, half = chosen.size, chosen.size // 2
    x, y = a.double().numpy() / 255, b.double().numpy() / 255
    if chosen.border == "reflect":
        pad = ((0, 0), (0, 0), (half, half), (half, half))
        x, y = np.pad(x, pad, mode="reflect"), np.pad(y, pad, mode="reflect")
    i = np.arange(size) - half
    line = np.ones(size) if chosen.window == "uniform" else np.exp(-(i**2) / (2 * 1.5**2))
    weight = np.outer(line, line)
    weight /= weight.sum()
    factor = size**2 / (size**2 - 1) if chosen.sample_covariance else 1
    found = []
    for image in range(x.shape[0]):
        for channel in range(x.shape[1]):
            for top in range(x.shape[2] - size + 1):
                for left in range(x.shape[3] - size + 1):
                    p = x[image, channel, top : top + size, left : left + size]
                    q = y[image, channel, top : top + size, left : left + size]
                    mp, mq = (weight * p).sum(), (weight * q).sum()
                    vp = factor * (weight * (p - mp) ** 2).sum()
                    vq = factor * (weight * (q - mq) ** 2).sum()
                    vpq = factor * (weight * (p - mp) * (q - mq)).sum()
                    top_line = (2 * mp * mq + 1e-4) * (2 * vpq + 9e-4)
                    found.append(top_line / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return float(np.mean(found))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_ssim_is_its_definition(variant: str) -> None:
    a, b = noisy_pair(17, 19)
    got = ssim_values(a, b, variant=variant)
    assert got.shape == (2,)
    assert got.mean().item() == pytest.approx(slow_ssim(a, b, variant), abs=1e-12)


def test_names_of_one_formula() -> None:
    for name in ("basicsr", "pytorch", "hyperstyle"):
        assert ssim_variant(name) is VARIANTS["wang"]
    with pytest.raises(ValueError, match="`variant` must be one of basicsr, .*; got 'best'"):
        ssim_variant("best")


def test_psnr_by_hand_and_whatever_the_range() -> None:
    a, b = noisy_pair()
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    expected = 10 * torch.log10(255**2 / error)
    torch.testing.assert_close(psnr_values(a, b), expected)
    signed = psnr_values(a.double() / 127.5 - 1, b.double() / 127.5 - 1)
    torch.testing.assert_close(signed, expected)
    unit = psnr_values(a.double() / 255, b.double() / 255, value_range=(0, 1))
    torch.testing.assert_close(unit, expected)
    score = psnr(a, b)
    assert score.value == pytest.approx(expected.mean().item()) and score.n == 2
    assert score.interval is not None and score.interval[0] <= score.value <= score.interval[1]


def test_equal_images() -> None:
    a, _ = noisy_pair(176, 176)
    assert psnr_values(a, a).tolist() == [math.inf] * 2
    assert psnr(a, a).value == CAP_DB and "120 dB" in psnr(a, a).protocol
    assert capped(math.inf) == 120 and capped(31.0) == 31
    for variant in VARIANTS:
        torch.testing.assert_close(ssim_values(a, a, variant=variant), torch.ones(2).double())
    torch.testing.assert_close(ms_ssim_values(a, a), torch.ones(2).double())


def test_pooled_psnr_weighs_pixels() -> None:
    a, b = torch.zeros(1, 3, 1, 2), torch.tensor([0.2, 2.0]).expand(1, 3, 1, 2)
    left = torch.tensor([[[[1.0, 0.0]]]])
    assert pooled_psnr(a, b, left) == pytest.approx(20, abs=1e-4)
    with pytest.raises(ValueError, match="`weight` is 0 everywhere"):
        pooled_psnr(a, b, left * 0)


def test_laws_of_ssim() -> None:
    a, b = noisy_pair()
    for variant in VARIANTS:
        torch.testing.assert_close(
            ssim_values(a, b, variant=variant), ssim_values(b, a, variant=variant)
        )
        flipped = ssim_values(a.flip(-1), b.flip(-1), variant=variant)
        torch.testing.assert_close(ssim_values(a, b, variant=variant), flipped)
    assert (ssim_values(a, b) < 1).all()
    inverted = ssim_values(a, 255 - a)
    assert (inverted < 0).all()


def test_ssim_is_differentiable_twice() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 11, 12, generator=g, dtype=torch.float64).mul(0.8).requires_grad_()
    y = torch.rand(1, 1, 11, 12, generator=g, dtype=torch.float64).mul(0.8)

    def f(z: Tensor) -> Tensor:
        return ssim_values(z, y, value_range=(0, 1))

    assert torch.autograd.gradcheck(f, (x,))
    assert torch.autograd.gradgradcheck(f, (x,))


def test_ms_ssim_is_the_product_over_scales() -> None:
    a, b = noisy_pair(180, 200)
    x, y = a.double() / 255, b.double() / 255
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    expected = torch.ones(2, dtype=torch.float64)
    for j, weight in enumerate(weights):
        whole, contrast = similarity_maps(x, y, VARIANTS["wang"], 1.0)
        expected *= (whole if j == 4 else contrast).mean((1, 2, 3)) ** weight
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        x, y = (
            (
                z[..., 0:height:2, 0:width:2]
                + z[..., 1:height:2, 0:width:2]
                + z[..., 0:height:2, 1:width:2]
                + z[..., 1:height:2, 1:width:2]
            )
            / 4
            for z in (x, y)
        )
    torch.testing.assert_close(ms_ssim_values(a, b), expected)
    assert ms_ssim(a, b).value == pytest.approx(expected.mean().item())
    assert (ms_ssim_values(a, b, normalize=True) > ms_ssim_values(a, b)).all()
    # A picture and its negative: contrast means below 0, which no power can take.
    assert ms_ssim_values(a, 255 - a).tolist() == [0, 0]


def test_bad_images_are_named() -> None:
    a, b = noisy_pair()
    with pytest.raises(ValueError, match=r"`a` must be images \[B, C, H, W\], got shape \[3, 23"):
        psnr(a[0], b[0])
    with pytest.raises(ValueError, match="must have the same shape"):
        ssim(a, b[..., :-1])
    with pytest.raises(
        TypeError, match="`b` must be a uint8 or floating-point tensor, got torch.i"
    ):
        psnr(a, b.int())
    with pytest.raises(
        ValueError, match=r"`b` must lie in \[-1.0, 1.0\], got values from .* to 1.2"
    ):
        psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 1.2))
    with pytest.raises(ValueError, match="`a` must lie in"):
        psnr(torch.full((1, 3, 2, 2), math.nan), torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="`value_range`"):
        psnr(a, b, value_range=(1, 1))
    with pytest.raises(ValueError, match="sides of at least 11 px"):
        ssim(a[..., :10], b[..., :10])
    with pytest.raises(ValueError, match="sides of at least 176 px for MS-SSIM"):
        ms_ssim(a, b)
    with pytest.raises(ValueError, match="`crop` must leave something of 23 x 31"):
        psnr(a, b, crop=12)
    with pytest.raises(ValueError, match="`channel`"):
        psnr(a, b, channel="z")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`values`"):
        ssim(a, b, values="0..2")  # type: ignore[arg-type]
    transparent = torch.cat([a, a[:, :1]], 1)
    with pytest.raises(ValueError, match="`a` must have 1 channel or 3, got 4"):
        psnr(transparent, transparent)
    with pytest.raises(ValueError, match="needs RGB images, got 1"):
        psnr(a[:, :1], b[:, :1], channel="y")
    with pytest.raises(ValueError, match="`variant` must be one of"):
        ms_ssim(a, b, variant="skimage")  # type: ignore[arg-type]


def test_protocols_differ_where_figures_do() -> None:
    a, b = noisy_pair()
    scores = [
        ssim(a, b, variant="skimage"),
        ssim(a, b, variant="wang"),
        ssim(a, b, variant="torchmetrics"),
        ssim(a, b, crop=2),
        ssim(a, b, channel="y"),
        ssim(a, b, values="-1..1"),
        psnr(a, b),
        psnr(a, b, crop=2),
        psnr(a, b, channel="y"),
    ]
    assert len({s.protocol for s in scores}) == len({s.value for s in scores}) == len(scores)


# --- golden values: scikit-image, BasicSR, HyperStyle's pytorch-msssim, torchmetrics ---


def golden_pairs(shared_dir: Path) -> tuple[list[tuple[Tensor, Tensor]], list[dict[str, float]]]:
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "f_metrics"
    arrays = load_file(folder / "arrays.safetensors")
    results = json.loads((folder / "metrics.json").read_text())["results"]
    names = ("pair0", "pair1", "pair2")
    pairs = [
        tuple(arrays[f"{n}.{k}_uint8"].permute(2, 0, 1)[None].contiguous() for k in "ab")
        for n in names
    ]
    return pairs, [results[n] for n in names]  # type: ignore[return-value]


def unit(x: Tensor) -> Tensor:
    return x.double() / 255


def gray(x: Tensor) -> Tensor:
    weight = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[None, :, None, None]
    return (unit(x) * weight).sum(1, keepdim=True)


WANG = "skimage.ssim.wang(gaussian_weights,sigma1.5,sample_cov_False)"
# The stored run handed RGB arrays to a function that takes BGR.
GOLDEN = {
    "skimage.psnr.uint8": (lambda a, b: psnr(a, b), DOUBLE),
    "skimage.psnr.float_range1": (lambda a, b: psnr(unit(a), unit(b), value_range=(0, 1)), DOUBLE),
    "skimage.psnr.m1_1_range2": (lambda a, b: psnr(2 * unit(a) - 1, 2 * unit(b) - 1), DOUBLE),
    "basicsr.psnr": (lambda a, b: psnr(a, b), DOUBLE),
    "basicsr.psnr.crop4": (lambda a, b: psnr(a, b, crop=4), DOUBLE),
    "basicsr.psnr.y(bgr order)": (lambda a, b: psnr(a.flip(1), b.flip(1), channel="y"), SINGLE),
    "torchmetrics.psnr": (lambda a, b: psnr(a, b), SINGLE),
    "skimage.ssim.uint8.default": (lambda a, b: ssim(a, b, variant="skimage"), DOUBLE),
    "skimage.ssim.float.range1": (
        lambda a, b: ssim(unit(a), unit(b), variant="skimage", value_range=(0, 1)),
        DOUBLE,
    ),
    "skimage.ssim.m1_1.range2": (
        lambda a, b: ssim(a, b, variant="skimage", values="-1..1"),
        DOUBLE,
    ),
    WANG: (lambda a, b: ssim(a, b, variant="wang"), DOUBLE),
    "skimage.ssim.gaussian_default": (lambda a, b: ssim(a, b, variant="skimage-gaussian"), DOUBLE),
    "skimage.ssim.gray(.299,.587,.114)": (
        lambda a, b: ssim(gray(a), gray(b), variant="skimage", value_range=(0, 1)),
        DOUBLE,
    ),
    "basicsr.ssim": (lambda a, b: ssim(a, b, variant="basicsr"), DOUBLE),
    "basicsr.ssim.crop4": (lambda a, b: ssim(a, b, variant="basicsr", crop=4), DOUBLE),
    "basicsr.ssim.y(bgr order)": (
        lambda a, b: ssim(a.flip(1), b.flip(1), variant="basicsr", channel="y"),
        SINGLE,
    ),
    "hyperstyle.ssim.range1": (lambda a, b: ssim(a, b, variant="hyperstyle"), SINGLE),
    "hyperstyle.ssim.01(val_range None)": (lambda a, b: ssim(a, b, variant="hyperstyle"), SINGLE),
    "hyperstyle.ssim.m1_1(val_range None)": (
        lambda a, b: ssim(a, b, variant="hyperstyle", values="-1..1"),
        SINGLE,
    ),
    "torchmetrics.ssim": (lambda a, b: ssim(a, b, variant="torchmetrics"), SINGLE),
    "torchmetrics.ssim.sigma1.5_k11": (lambda a, b: ssim(a, b, variant="torchmetrics"), SINGLE),
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_psnr_and_ssim(shared_dir: Path, name: str) -> None:
    pairs, results = golden_pairs(shared_dir)
    compute, bar = GOLDEN[name]
    got = [compute(a, b).value for a, b in pairs]
    expected = [r[name] for r in results]
    assert got == pytest.approx(expected, rel=0, abs=bar * max(map(abs, expected)))


def test_golden_contrast_and_errors(shared_dir: Path) -> None:
    pairs, results = golden_pairs(shared_dir)
    for (a, b), r in zip(pairs, results, strict=True):
        contrast = similarity_maps(unit(a), unit(b), VARIANTS["wang"], 1.0)[1].mean().item()
        assert contrast == pytest.approx(r["hyperstyle.cs.range1"], abs=SINGLE * 0.5)
        # The error behind PSNR, in both ranges.
        assert 10 ** (-psnr(a, b).value / 10) == pytest.approx(r["mse.01"], rel=1e-12)
        assert 4 * 10 ** (-psnr(a, b).value / 10) == pytest.approx(r["mse.m1_1"], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hyperstyle.msssim", {}),
        ("hyperstyle.msssim.normalize", {"normalize": True}),
        ("torchmetrics.ms_ssim", {"variant": "torchmetrics"}),
    ],
)
def test_golden_ms_ssim(shared_dir: Path, name: str, arguments: dict) -> None:
    pairs, results = golden_pairs(shared_dir)
    expected = results[2][name]
    assert ms_ssim(*pairs[2], **arguments).value == pytest.approx(expected, rel=SINGLE)


def test_golden_cases_are_all_covered(shared_dir: Path) -> None:
    _, results = golden_pairs(shared_dir)
    elsewhere = {"hyperstyle.cs.range1", "mse.01", "mse.m1_1"}
    elsewhere |= {"hyperstyle.msssim", "hyperstyle.msssim.normalize", "torchmetrics.ms_ssim"}
    assert set().union(*results) == set(GOLDEN) | elsewhere


def test_scikit_image_agrees() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="skipped: scikit-image not installed")
    a, b = noisy_pair(40, 52)
    for i in range(2):
        x, y = (z[i].permute(1, 2, 0).numpy() for z in (a, b))
        expected = metrics.structural_similarity(x, y, channel_axis=-1, data_range=255)
        got = ssim(a[i : i + 1], b[i : i + 1], variant="skimage").value
        assert got == pytest.approx(expected, abs=1e-12)
