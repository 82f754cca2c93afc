"""What every metric returns: a figure that says how it was made, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

BOOTSTRAP_RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One figure, with all that is needed to compare it with someone else's.

    Attributes:
        value: the figure.
        protocol: its name and every choice that changes it.
        n: how many pairs, or images of the smaller set, it was made from.
        interval: 95 % confidence interval ``(low, high)``, None where nothing was sampled.
        interval_protocol: how the interval was made; empty where there is none.

    Example:
        >>> print(Score(31.25, "PSNR: RGB, mean over images", 40, (30.5, 32.0), "bootstrap"))
        31.25 [30.5, 32] (n = 40; PSNR: RGB, mean over images)
    """

    value: float
    protocol: str
    n: int
    interval: tuple[float, float] | None = None
    interval_protocol: str = ""

    def __str__(self) -> str:
        spread = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        return f"{self.value:.4g}{spread} (n = {self.n}; {self.protocol})"

    def with_protocol(self, protocol: str) -> Score:
        """Return the same figure under another description."""
        return replace(self, protocol=protocol)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Example:
            >>> Score(1.0, "p", 2).as_dict()["n"]
            2
        """
        return {
            "value": self.value,
            "protocol": self.protocol,
            "n": self.n,
            "interval": None if self.interval is None else list(self.interval),
            "interval_protocol": self.interval_protocol,
        }


def mean_score(
    values: Tensor,  # [n]
    protocol: str,
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Score:
    """Average one value per image or pair; the interval is a percentile bootstrap over them.

    Efron, "Bootstrap methods: another look at the jackknife"
    (https://doi.org/10.1214/aos/1176344552).

    Args:
        values: ``[n]``, finite.
        protocol: what the values are.
        seed: of the resampling.
        resamples: how often the images are drawn again, with replacement.

    Returns:
        The mean with its 95 % interval; no interval for a single value or ``resamples=0``.

    Raises:
        ValueError: no values, or some that are not finite.

    Example:
        >>> mean_score(torch.tensor([1.0, 3.0]), "size").value
        2.0
    """
    values = values.detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"`values` must have shape [n] with n >= 1, got {list(values.shape)}")
    if not torch.isfinite(values).all():
        raise ValueError("`values` must be finite, got NaN or infinity; leave such images out")
    n, mean = len(values), values.mean().item()
    if n < 2 or resamples == 0:
        return Score(mean, protocol, n)
    rng = torch.Generator().manual_seed(seed)
    # Drawn in pieces: 1000 x 50,000 indices at once would take 400 MB.
    means = torch.stack(
        [values[torch.randint(n, (n,), generator=rng)].mean() for _ in range(resamples)]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Score(
        mean,
        protocol,
        n,
        (low, high),
        f"95 %, percentile bootstrap over images, {resamples} resamples, seed {seed}",
    )


def half_samples(n: int, resamples: int, seed: int) -> list[Tensor]:
    """Draw ``resamples`` halves of ``range(n)`` without replacement, as index tensors.

    Example:
        >>> [len(h) for h in half_samples(7, 2, seed=0)]
        [3, 3]
    """
    rng = torch.Generator().manual_seed(seed)
    return [torch.randperm(n, generator=rng)[: n // 2] for _ in range(resamples)]


def _student_975(degrees: int) -> float:
    """Student's 97.5 % quantile, to 3 decimals from 10 degrees of freedom up (Cornish-Fisher)."""
    z = 1.959963984540054
    first = (z**3 + z) / (4 * degrees)
    return z + first + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def half_sample_score(
    value: float,
    protocol: str,
    n: int,
    replicates: Tensor,  # [resamples]
    *,
    seed: int,
) -> Score:
    """Attach the interval that the spread of a statistic over random halves gives.

    The variance of a statistic over subsets of half the images, drawn *without* replacement,
    estimates its variance on all of them (the delete-d jackknife with d = n/2: Shao and Wu, "A
    general theory for jackknife variance estimation", https://doi.org/10.1214/aos/1176347263).
    An ordinary bootstrap does not serve here: repeated images shrink a covariance's rank and
    enter an unbiased kernel estimate as distances of 0, and both shift the replicates.

    Args:
        value: the statistic on all images.
        protocol: what it is.
        n: images of the smaller set.
        replicates: ``[resamples]``, the statistic on random halves; fewer than two: no interval.
        seed: the halves were drawn with.

    Example:
        >>> half_sample_score(1.0, "p", 9, torch.tensor([0.9, 1.1]), seed=0).interval is None
        False
    """
    if len(replicates) < 2:
        return Score(value, protocol, n)
    reach = _student_975(len(replicates) - 1) * replicates.double().std().item()
    if not math.isfinite(reach):
        raise ValueError("`replicates` must be finite, got NaN or infinity")
    return Score(
        value,
        protocol,
        n,
        (value - reach, value + reach),
        f"95 %, Student's t, deviation over {len(replicates)} random halves of the images, "
        f"seed {seed}; covers the sampling of the images, not the bias of a small n",
    )


Progress = Callable[[int], None]
"""Called with how many more items are done."""
