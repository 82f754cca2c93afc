"""Distances of two sets of images by their features: Frechet distance and kernel distance.

Both work on any features ``[n, d]``; :mod:`gan_inversion.metrics.features` has the networks. The
Frechet distance is called FID only when the official Inception made the features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hypergraph._files import atomic_writer

from ..checkpoints import read_checkpoint
from ..errors import CheckpointError
from .score import Score, half_sample_score, half_samples

_ROWS = 2048  # of a kernel matrix at a time: 2048 x 50,000 doubles are 0.8 GB


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and covariance of features, float64: all that a Frechet distance needs.

    Attributes:
        mean: ``[d]``.
        covariance: ``[d, d]``, with n - 1 in the denominator.
        n: how many images; 0 if a file does not say.

    Example:
        >>> FeatureStatistics.of(torch.tensor([[0.0], [2.0]])).covariance.item()
        2.0
    """

    mean: Tensor
    covariance: Tensor
    n: int

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:  # [n, d]
        """Compute them from features ``[n, d]``, n >= 2.

        Raises:
            ValueError: fewer than two rows, or values that are not finite.
        """
        x = _checked(features, "features")
        centred = x - x.mean(0)
        return cls(x.mean(0), centred.T @ centred / (len(x) - 1), len(x))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` with ``mu``, ``sigma`` and ``n``; pytorch-fid reads it as well."""
        with atomic_writer(path) as file:
            np.savez(file, mu=self.mean.numpy(), sigma=self.covariance.numpy(), n=self.n)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureStatistics:
        """Read an ``.npz`` with ``mu`` and ``sigma``, as pytorch-fid and others write it.

        Nothing in it is run: pickled objects are refused.

        Raises:
            CheckpointError: not such a file.
        """
        tree = read_checkpoint(path)
        if not isinstance(tree, dict) or not all(
            isinstance(tree.get(key), Tensor) for key in ("mu", "sigma")
        ):
            raise CheckpointError(f"{os.fspath(path)}: it must be an .npz with mu and sigma")
        if tree["mu"].is_complex() or tree["sigma"].is_complex():
            raise CheckpointError(f"{os.fspath(path)}: mu and sigma must be real numbers")
        mean, covariance = tree["mu"].double(), tree["sigma"].double()
        count = tree.get("n")
        n = 0
        if isinstance(count, Tensor) and count.ndim == 0 and not count.is_floating_point():
            n = max(0, int(count))
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise CheckpointError(
                f"{os.fspath(path)}: mu must be [d] and sigma [d, d], got {list(mean.shape)} and "
                f"{list(covariance.shape)}"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
            raise CheckpointError(f"{os.fspath(path)}: mu and sigma must be finite")
        return cls(mean, covariance, n)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """``|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``.

    Dowson and Landau, "The Frechet distance between multivariate normal distributions"
    (https://doi.org/10.1016/0047-259X(82)90077-X); Heusel et al.
    (https://arxiv.org/abs/1706.08500), Eq. 6.

    With ``S = A A^T`` the trace of the root is the sum of the singular values of ``A_a^T A_b``:
    no root of a matrix that is not symmetric, no complex numbers, and nothing added to the
    diagonal when the images are fewer than the features.

    Args:
        a: statistics of one set.
        b: of the other, with as many features.

    Returns:
        A number from 0.

    Raises:
        ValueError: the sizes differ, or a covariance is not symmetric and non-negative.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(x + 3))
        9.0
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"`a` and `b` must have as many features, got {len(a.mean)} and {len(b.mean)}; "
            "use one network for both"
        )
    root = _trace_of_root(_factor(a.covariance, "a"), _factor(b.covariance, "b"))
    spread = a.covariance.trace() + b.covariance.trace()
    return _total(a.mean, b.mean, spread, root)


def _total(mean_a: Tensor, mean_b: Tensor, spread: Tensor, root: Tensor) -> float:
    # Rounding may leave -1e-14 of the trace for two equal sets.
    return max(((mean_a - mean_b).square().sum() + spread - 2 * root).item(), 0.0)


def _factor(covariance: Tensor, name: str) -> Tensor:
    """A with ``A A^T = S``; directions of numerically no variance are dropped."""
    if not torch.isfinite(covariance).all():
        raise ValueError(f"`{name}`: the covariance must be finite, got NaN or infinity")
    scale = covariance.abs().max()
    if (covariance - covariance.T).abs().max() > 1e-6 * scale:
        raise ValueError(f"`{name}`: the covariance must be symmetric")
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    largest = values[-1].clamp_min(0)
    if values[0] < -1e-6 * scale:
        raise ValueError(
            f"`{name}`: a covariance has no negative eigenvalues, got {values[0].item():.3g}"
        )
    # What is below the rounding of eigh is noise; its root would be 1e-8 of the largest, each.
    keep = values > len(values) * torch.finfo(values.dtype).eps * largest
    return vectors[:, keep] * values[keep].sqrt()


def _trace_of_root(a: Tensor, b: Tensor, quick: bool = False) -> Tensor:
    if a.shape[1] == 0 or b.shape[1] == 0:
        return a.new_zeros(())
    product = a.T @ b
    if quick:
        # A third of the time; small singular values keep half of their digits.
        small = product if product.shape[0] <= product.shape[1] else product.T
        return torch.linalg.eigvalsh(small @ small.T).clamp_min(0).sqrt().sum()
    return torch.linalg.svdvals(product).sum()


def _frechet_of_features(x: Tensor, y: Tensor, quick: bool = False) -> float:
    """The same from the features: the covariances are never formed, so no digits are lost."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    factors, spread = [], x.new_zeros(())
    for features, mean in ((x, mean_x), (y, mean_y)):
        centred = (features - mean) / (len(features) - 1) ** 0.5
        spread = spread + centred.square().sum()
        if centred.shape[0] > centred.shape[1]:
            centred = torch.linalg.qr(centred, mode="r").R
        factors.append(centred.T)
    return _total(mean_x, mean_y, spread, _trace_of_root(factors[0], factors[1], quick))


def frechet_score(
    real: Tensor,  # [n, d]
    fake: Tensor,  # [m, d]
    protocol: str = "Frechet distance of the features given",
    *,
    resamples: int = 20,
    seed: int = 0,
) -> Score:
    """Frechet distance of two sets of features, with an interval.

    The distance of small sets is too large (by about trace / n): compare figures of equal n only.

    Args:
        real: ``[n, d]``, n >= 2.
        fake: ``[m, d]``, m >= 2.
        protocol: how the features were made.
        resamples: random halves behind the interval, each of half the distance's own cost (4 s
            on one core for 3000 images and 1280 features); 0 for no interval. Fewer than 8
            images get none either.
        seed: of the halves.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> frechet_score(x, x + 3).value
        9.0
    """
    x, y = _checked(real, "real"), _checked(fake, "fake")
    _same_width(x, y)
    n = min(len(x), len(y))
    value = _frechet_of_features(x, y)
    replicates = []
    if n >= 8:
        halves = zip(
            half_samples(len(x), resamples, seed),
            half_samples(len(y), resamples, seed + 1),
            strict=True,
        )
        replicates = [_frechet_of_features(x[i], y[j], quick=True) for i, j in halves]
    score = half_sample_score(
        value, protocol, n, torch.tensor(replicates, dtype=torch.float64), seed=seed
    )
    if score.interval is None:
        return score
    low, high = score.interval
    return replace(score, interval=(max(low, 0.0), high))  # no distance is below 0


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """``(x . y / d + 1)^3``, ``[n, m]``: the kernel of KID.

    Example:
        >>> polynomial_kernel(torch.ones(1, 4), torch.ones(2, 4)).tolist()
        [[8.0, 8.0]]
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
    x: Tensor,  # [n, d]
    y: Tensor,  # [m, d]
) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel of KID; may be negative.

    Gretton et al., "A kernel two-sample test" (https://jmlr.org/papers/v13/gretton12a.html),
    Eq. 3; Binkowski et al. (https://arxiv.org/abs/1801.01401).

    Args:
        x: ``[n, d]``, n >= 2.
        y: ``[m, d]``, m >= 2.

    Example:
        >>> abs(kernel_distance(torch.zeros(3, 2), torch.zeros(4, 2)))
        0.0
    """
    x, y = _checked(x, "x"), _checked(y, "y")
    _same_width(x, y)
    return _kernel_statistic(x, y, torch.ones(len(x), 1), torch.ones(len(y), 1)).item()


def _kernel_statistic(x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The estimate on each of R subsets, given as 0/1 columns ``u [n, R]`` and ``v [m, R]``.

    One pass over the kernel matrices, some rows at a time, serves all subsets.
    """
    u, v = u.to(x), v.to(x)

    def within(z: Tensor, w: Tensor) -> Tensor:
        total, size = z.new_zeros(w.shape[1]), w.sum(0)
        for rows in range(0, len(z), _ROWS):
            part, weight = z[rows : rows + _ROWS], w[rows : rows + _ROWS]
            total = total + (weight * (polynomial_kernel(part, z) @ w)).sum(0)
        diagonal = (z.square().sum(1) / z.shape[1] + 1) ** 3
        return (total - diagonal @ w) / (size * (size - 1))

    between = x.new_zeros(u.shape[1])
    for rows in range(0, len(x), _ROWS):
        part = polynomial_kernel(x[rows : rows + _ROWS], y) @ v
        between = between + (u[rows : rows + _ROWS] * part).sum(0)
    return within(x, u) + within(y, v) - 2 * between / (u.sum(0) * v.sum(0))


def kernel_score(
    real: Tensor,  # [n, d]
    fake: Tensor,  # [m, d]
    protocol: str = "kernel distance of the features given",
    *,
    subset_size: int = 1000,
    subsets: int = 100,
    resamples: int = 200,
    seed: int = 0,
) -> Score:
    """Kernel distance (KID with Inception features), with an interval.

    The mean of the unbiased estimate over random subsets, as published; sets smaller than
    ``subset_size`` are taken whole, once, and the protocol says so. Unlike the Frechet distance
    it is unbiased: it may be compared across n, and is around 0 (also below) for equal sources.

    Args:
        real: ``[n, d]``, n >= 2.
        fake: ``[m, d]``, m >= 2.
        protocol: how the features were made.
        subset_size: images of each set per block.
        subsets: blocks, each drawn without replacement.
        resamples: random halves of the images behind the interval, which is too wide (up to 1.8
            times) where the distance is near 0. It takes a pass over all n x m pairs: seconds
            for 3000 images, half an hour for 50,000; 0 for none. Fewer than 8 images get none.
        seed: of blocks and halves.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, blocks below 2.

    Example:
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> kernel_score(x, x + 1).value > 0
        True
    """
    x, y = _checked(real, "real"), _checked(fake, "fake")
    _same_width(x, y)
    if subset_size < 2 or subsets < 1:
        raise ValueError(
            f"`subset_size` must be at least 2 and `subsets` at least 1, got {subset_size} and "
            f"{subsets}"
        )
    n = min(len(x), len(y))
    resamples = resamples if n >= 8 else 0
    rng = torch.Generator().manual_seed(seed)
    if n <= subset_size:
        blocks, subsets = "all images as one block", 1
        chosen = [(torch.arange(len(x)), torch.arange(len(y)))]
    else:
        blocks = f"mean of {subsets} blocks of {subset_size}, seed {seed}"
        chosen = [
            (
                torch.randperm(len(x), generator=rng)[:subset_size],
                torch.randperm(len(y), generator=rng)[:subset_size],
            )
            for _ in range(subsets)
        ]
    protocol = f"{protocol}; unbiased, kernel (x.y/d + 1)^3, {blocks}"
    if resamples == 0:
        values = [kernel_distance(x[i], y[j]) for i, j in chosen]
        return Score(sum(values) / subsets, protocol, n)
    # One pass over the kernel matrices serves the blocks and the halves.
    u = _columns(len(x), [i for i, _ in chosen] + half_samples(len(x), resamples, seed))
    v = _columns(len(y), [j for _, j in chosen] + half_samples(len(y), resamples, seed + 1))
    found = _kernel_statistic(x, y, u, v)
    value = found[:subsets].mean().item()
    return half_sample_score(value, protocol, n, found[subsets:], seed=seed)


def _columns(n: int, subsets: list[Tensor]) -> Tensor:
    columns = torch.zeros(n, len(subsets), dtype=torch.float64)
    for r, subset in enumerate(subsets):
        columns[subset, r] = 1
    return columns


def _checked(features: Tensor, name: str) -> Tensor:
    if features.ndim != 2 or features.shape[0] < 2 or features.shape[1] < 1:
        raise ValueError(
            f"`{name}` must be features [n, d] with n >= 2, got shape {list(features.shape)}"
        )
    x = features.detach().to("cpu", torch.float64)
    if not torch.isfinite(x).all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinity")
    return x


def _same_width(x: Tensor, y: Tensor) -> None:
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"both sets must have as many features, got {x.shape[1]} and {y.shape[1]}; "
            "use one network for both"
        )
