"""Splits and features that a protocol makes rather than a file."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hypergraph._checks import (
    check_integer,
    check_non_negative_number,
    check_positive_int,
)
from hypergraph.datasets.record import Split


def random_splits(
    y: Tensor,  # [N]
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    seed: int = 0,
) -> Split:
    """Split the vertices at random, without regard to their labels.

    The protocol of AllSet and ED-HNN (50/25/25): ``floor(N fraction)`` vertices learn and choose,
    and the rest is the test set. The permutation is drawn by ``torch.randperm`` on the CPU with a
    generator of its own, so that a seed means the same split everywhere.

    Args:
        y: [N] labels; vertices with a negative one are left out, as in the official code.
        fractions: of train, valid and test; they add up to 1.
        seed: another one for another split.

    Returns:
        The split, on the device of y.

    Example:
        >>> import torch
        >>> from hypergraph.datasets import random_splits
        >>> split = random_splits(torch.zeros(8, dtype=torch.long))
        >>> len(split.train), len(split.valid), len(split.test)
        (4, 2, 2)
    """
    y = check_integer("y", y)
    if y.dim() != 1:
        raise ValueError(f"`y` must have shape [N], got {list(y.shape)}")
    shares = [float(fraction) for fraction in fractions]
    if len(shares) != 3 or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            "`fractions` must be three non-negative shares that add up to 1, for example "
            f"(0.5, 0.25, 0.25), got {tuple(fractions)}"
        )
    labelled = (y >= 0).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(seed)
    order = labelled[torch.randperm(len(labelled), generator=generator).to(y.device)]
    train = int(len(labelled) * shares[0] + 1e-9)
    valid = int(len(labelled) * shares[1] + 1e-9)
    return Split(order[:train], order[train : train + valid], order[train + valid :])


def label_features(
    y: Tensor,  # [N]
    channels: int = 100,
    noise: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Features for data that has none: the one-hot label, zeros, and Gaussian noise.

    ``x = [onehot(y), 0 ...] + N(0, noise^2)``

    The protocol of AllSet and ED-HNN for house, senate, walmart and congress (100 channels, noise
    1.0 or 0.6). The features contain the labels: figures obtained with them say how well a model
    denoises over the hypergraph, and are comparable at the same noise only.

    Args:
        y: [N] labels.
        channels: at least the number of classes.
        noise: standard deviation.
        seed: of a generator of its own, on the CPU.

    Returns:
        [N, channels] float32, on the device of y.
    """
    y = check_integer("y", y)
    check_positive_int("channels", channels)
    check_non_negative_number("noise", noise)
    classes = int(y.max()) + 1 if y.numel() else 0
    if channels < classes:
        raise ValueError(f"`channels` must be at least the {classes} classes, got {channels}")
    generator = torch.Generator().manual_seed(seed)
    x = noise * torch.randn(len(y), channels, generator=generator)
    x[torch.arange(len(y)), y.cpu()] += 1
    return x.to(y.device)
