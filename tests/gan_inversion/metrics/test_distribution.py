"""Frechet and kernel distances: by hand, by another formula, and their intervals by simulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_inversion.errors import CheckpointError
from gan_inversion.metrics import (
    FeatureStatistics,
    frechet_distance,
    frechet_score,
    kernel_distance,
    kernel_score,
)
from gan_inversion.metrics.score import half_sample_score, half_samples, mean_score


def features(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=g, dtype=torch.float64) + shift


def test_frechet_of_one_feature_is_the_formula() -> None:
    x, y = features(50, 1, 0), features(40, 1, 1, 2.0, 3.0)
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_score(x, y).value == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 8), (5, 7, 12), (3, 40, 12)])
def test_frechet_against_eigenvalues_of_the_product(n: int, m: int, d: int) -> None:
    """``tr (S_x S_y)^(1/2)`` is the sum of the roots of the eigenvalues of ``S_x S_y``."""
    x, y = features(n, d, 2), features(m, d, 3, 0.5, 2.0)
    a, b = FeatureStatistics.of(x), FeatureStatistics.of(y)
    product = np.linalg.eigvals(a.covariance.numpy() @ b.covariance.numpy())
    root = np.sqrt(np.clip(product.real, 0, None)).sum()
    traces = (a.covariance.trace() + b.covariance.trace()).item()
    expected = (a.mean - b.mean).square().sum().item() + traces - 2 * root
    # eigvals of a matrix that is not symmetric is good to half of the digits in its null space.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_score(x, y).value == pytest.approx(frechet_distance(a, b), rel=1e-11)


def test_frechet_laws() -> None:
    x, y = features(30, 20, 4), features(25, 20, 5, 0.3, 1.5)
    a, b = FeatureStatistics.of(x), FeatureStatistics.of(y)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-11)
    assert frechet_score(x, x, resamples=0).value == pytest.approx(0, abs=1e-11)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    rotation = torch.linalg.qr(features(20, 20, 6)).Q
    turned = frechet_score(x @ rotation + 7, y @ rotation + 7, resamples=0).value
    assert turned == pytest.approx(frechet_distance(a, b), rel=1e-10)
    # A shift adds its square and nothing else.
    moved = frechet_score(x, x + 2, resamples=0).value
    assert moved == pytest.approx(4 * 20, rel=1e-12)


def test_rank_deficient_by_construction() -> None:
    """Features in two planes at a known angle: the trace is known in closed form."""
    g = torch.Generator().manual_seed(0)
    u = torch.randn(40, 1, generator=g, dtype=torch.float64)
    u = (u - u.mean()) / u.std()
    direction = torch.zeros(1, 500, dtype=torch.float64)
    direction[0, 0] = 1
    other = direction.clone()
    other[0, :2] = torch.tensor([0.6, 0.8], dtype=torch.float64)
    # S_x = p p^T, S_y = q q^T: tr (S_x S_y)^(1/2) = |p . q|.
    assert frechet_score(u @ direction, u @ other, resamples=0).value == pytest.approx(0.8)
    a, b = FeatureStatistics.of(u @ direction), FeatureStatistics.of(u @ other)
    assert frechet_distance(a, b) == pytest.approx(0.8)


def test_covariances_that_are_none() -> None:
    mean = torch.zeros(2, dtype=torch.float64)
    good = FeatureStatistics(mean, torch.eye(2, dtype=torch.float64), 9)
    for bad, message in (
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "`b`: the covariance must be symmetric"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), "no negative eigenvalues, got -1"),
        (torch.tensor([[1.0, 0.0], [0.0, float("nan")]]), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            frechet_distance(good, FeatureStatistics(mean, bad.double(), 9))
    narrow = FeatureStatistics(mean[:1], torch.eye(1, dtype=torch.float64), 9)
    with pytest.raises(ValueError, match="as many features, got 2 and 1"):
        frechet_distance(good, narrow)


def test_features_that_are_none() -> None:
    x = features(4, 3, 0)
    for compute in (frechet_score, kernel_score):
        with pytest.raises(ValueError, match=r"`real` must be features \[n, d\] with n >= 2"):
            compute(x[:1], x)
        with pytest.raises(ValueError, match="`fake` must be finite"):
            compute(x, x * float("nan"))
        with pytest.raises(ValueError, match="as many features, got 3 and 2"):
            compute(x, x[:, :2])
    with pytest.raises(ValueError, match="`subset_size` must be at least 2"):
        kernel_score(x, x, subset_size=1)


def slow_kernel_distance(x: Tensor, y: Tensor) -> float:
    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def test_kernel_distance_is_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(9, 5, 0), features(7, 5, 1, 0.5)
    expected = slow_kernel_distance(x, y)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert kernel_score(x, y).value == pytest.approx(expected, rel=1e-12)
    import gan_inversion.metrics.distribution as module

    monkeypatch.setattr(module, "_ROWS", 4)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_blocks_with_and_without_interval_are_the_same_blocks() -> None:
    x, y = features(30, 4, 0), features(26, 4, 1, 0.5)
    with_interval = kernel_score(x, y, subset_size=10, subsets=7, seed=3)
    without = kernel_score(x, y, subset_size=10, subsets=7, seed=3, resamples=0)
    assert with_interval.value == pytest.approx(without.value, rel=1e-12)
    assert without.interval is None and with_interval.interval is not None
    assert "mean of 7 blocks of 10, seed 3" in without.protocol
    assert "all images as one block" in kernel_score(x, y).protocol
    assert kernel_score(x, y, subset_size=10, subsets=7, seed=4).value != without.value


def test_kernel_distance_is_unbiased_and_frechet_is_not() -> None:
    values = [
        (kernel_distance(x, y), frechet_score(x, y, resamples=0).value)
        for x, y in ((features(20, 6, 2 * i), features(20, 6, 2 * i + 1)) for i in range(200))
    ]
    kernel, frechet = torch.tensor(values, dtype=torch.float64).T
    standard_error = kernel.std() / 200**0.5
    assert kernel.mean().abs() < 3 * standard_error
    assert (kernel < 0).any() and (frechet > 0.1).all()


@pytest.mark.parametrize("name", ["frechet", "kernel"])
def test_intervals_cover_the_spread_over_samples(name: str) -> None:
    compute = frechet_score if name == "frechet" else kernel_score
    scores = [
        compute(features(80, 6, 2 * i), features(60, 6, 2 * i + 1, 0.7, 1.4)) for i in range(100)
    ]
    values = torch.tensor([s.value for s in scores])
    low, high = torch.tensor([s.interval for s in scores]).T
    covered = ((low <= values.mean()) & (values.mean() <= high)).float().mean().item()
    assert 0.85 <= covered <= 1.0
    # Not by being useless: the mean half width is near 1.96 deviations.
    reach = ((high - low) / 2).mean() / (1.96 * values.std())
    assert 0.8 < reach.item() < 1.5


def test_bootstrap_of_a_mean() -> None:
    values = features(400, 1, 0)[:, 0]
    score = mean_score(values, "p", seed=1)
    assert score.value == pytest.approx(values.mean().item()) and score.n == 400
    assert score.interval is not None
    reach = (score.interval[1] - score.interval[0]) / 2
    assert reach == pytest.approx(1.96 * values.std().item() / 20, rel=0.1)
    assert score == mean_score(values, "p", seed=1) != mean_score(values, "p", seed=2)
    assert "1000 resamples, seed 1" in score.interval_protocol
    assert mean_score(values[:1], "p").interval is None
    with pytest.raises(ValueError, match="`values` must be finite"):
        mean_score(torch.tensor([float("inf")]), "p")
    with pytest.raises(ValueError, match=r"shape \[n\] with n >= 1, got \[0\]"):
        mean_score(torch.zeros(0), "p")


def test_half_samples() -> None:
    halves = half_samples(9, 5, seed=0)
    assert all(len(set(h.tolist())) == 4 for h in halves)
    assert len({tuple(sorted(h.tolist())) for h in halves}) > 1
    score = half_sample_score(1.0, "p", 9, torch.tensor([0.0, 2.0] * 50), seed=0)
    assert score.interval is not None
    # Student's quantile for 99 degrees of freedom, from a table.
    assert score.interval[1] - 1 == pytest.approx(1.98422 * (100 / 99) ** 0.5, abs=1e-3)
    with pytest.raises(ValueError, match="`replicates` must be finite"):
        half_sample_score(1.0, "p", 9, torch.tensor([0.0, float("nan")]), seed=0)


def test_statistics_file(tmp_path: Path) -> None:
    a = FeatureStatistics.of(features(9, 4, 0))
    path = tmp_path / "a.npz"
    a.save(path)
    b = FeatureStatistics.load(path)
    assert torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance) and b.n == 9
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    # pytorch-fid's own files have no n.
    np.savez(path, mu=a.mean.numpy(), sigma=a.covariance.numpy())
    assert FeatureStatistics.load(path).n == 0
    for name, content in (
        ("text.npz", b"<html>"),
        ("empty.npz", b""),
        ("cut.npz", path.read_bytes()[:200]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            FeatureStatistics.load(tmp_path / name)
    np.savez(path, mu=np.array([object()]), sigma=np.zeros((1, 1)))
    with pytest.raises(CheckpointError, match=r"a\.npz"):
        FeatureStatistics.load(path)
    for mean, covariance, message in (
        (np.full(2, np.nan), np.eye(2), "must be finite"),
        (np.zeros(2), np.eye(2) + 1j, "must be real"),
        (np.zeros(0), np.zeros((0, 0)), r"mu must be \[d\]"),
    ):
        np.savez(path, mu=mean, sigma=covariance)
        with pytest.raises(CheckpointError, match=message):
            FeatureStatistics.load(path)
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2), n=np.nan)
    assert FeatureStatistics.load(path).n == 0
    np.savez(path, mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(CheckpointError, match=r"mu must be \[d\]"):
        FeatureStatistics.load(path)


@pytest.mark.parametrize("name", ["fid0", "fid1", "fid2"])
def test_golden_frechet(shared_dir: Path, name: str) -> None:
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "f_metrics"
    arrays = load_file(folder / "arrays.safetensors")
    facts = json.loads((folder / "metrics.json").read_text())["results"]["fid"][name]
    x, y = arrays[f"{name}.x"], arrays[f"{name}.y"]
    stored = [
        FeatureStatistics(arrays[f"{name}.mu{i}"], arrays[f"{name}.sigma{i}"], 0) for i in (1, 2)
    ]
    for ours, features_ in zip(stored, (x, y), strict=True):
        again = FeatureStatistics.of(features_)
        torch.testing.assert_close(again.mean, ours.mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(again.covariance, ours.covariance, rtol=0, atol=1e-6)
    # Both stored values take the root of a matrix that is not symmetric; where the covariances
    # are singular they differ from each other by 2e-9 of the value, and from ours by 1e-8.
    bar = 1e-7 if facts["rank_deficient"] else 1e-12
    for value in (frechet_distance(*stored), frechet_score(x, y).value):
        assert value == pytest.approx(facts["pytorch_fid"], rel=bar)
        assert value == pytest.approx(facts["torchmetrics"], rel=bar)
    assert frechet_distance(stored[0], stored[0]) == pytest.approx(
        facts["pytorch_fid_same"], abs=1e-6
    )
