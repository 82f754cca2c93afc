"""Random choices that generators and samplers share, vectorised."""

import torch
from torch import Tensor


def as_generator(name: str, seed: object) -> torch.Generator:
    """Return a CPU generator: the one given, or a new one started from an int."""
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(f"`{name}` must be a generator on the CPU, got {seed.device}")
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"`{name}` must be an int or a torch.Generator, got {type(seed).__name__}")
    return torch.Generator().manual_seed(seed)


def random_integers(bounds: Tensor, generator: torch.Generator | None) -> Tensor:
    """One uniform integer in [0, bound) for every entry; ``bounds`` int64, positive, < 2^52."""
    unit = torch.rand(bounds.shape, generator=generator, dtype=torch.float64)
    # The product may round up to the bound itself.
    return torch.minimum((unit * bounds).long(), bounds - 1)


def distinct_integers(bounds: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """k different uniform integers in [0, bound) for every row, in uniform order.

    Args:
        bounds: [R] int64, each at least k.
        k: integers per row.
        generator: None for the global one.

    Returns:
        [R, k] int64. Every k-subset of a row's range is equally likely. O(R k log k).
    """
    out = torch.empty(bounds.shape[0], k, dtype=torch.long)
    if k == 0 or bounds.shape[0] == 0:
        return out
    narrow = bounds < 4 * k
    if bool(narrow.any()):  # the k smallest of random keys
        width = int(bounds[narrow].max())
        keys = torch.rand(int(narrow.sum()), width, generator=generator, dtype=torch.float64)
        keys[torch.arange(width) >= bounds[narrow, None]] = 2.0
        out[narrow] = keys.topk(k, dim=1, largest=False).indices
    wide = (~narrow).nonzero().squeeze(1)
    if wide.numel():
        limits = bounds[wide, None].expand(-1, k)
        draws = random_integers(limits, generator)
        again = repeated_in_row(draws)
        while bool(again.any()):  # at most a quarter of the draws, on average
            draws[again] = random_integers(limits[again], generator)
            again = repeated_in_row(draws)
        out[wide] = draws
    return out


def repeated_in_row(values: Tensor) -> Tensor:
    """Mark every entry of [R, k] that equals an earlier one of its row."""
    ordered, order = values.sort(dim=1, stable=True)
    repeated = torch.zeros_like(values, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(repeated).scatter(1, order, repeated)


def shuffled(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """The rows of ``values`` in uniform order."""
    return values[torch.randperm(values.shape[0], generator=generator)]
