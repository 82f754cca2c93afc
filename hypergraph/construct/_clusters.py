"""What k-means and fuzzy c-means share: points on one scale, first centres, distances."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hypergraph._checks import is_eager
from hypergraph._numerics import propagation_dtype

Start = Literal["k-means++", "farthest"]

_TILE_ELEMENTS = 1 << 20  # distances alive at a time: 4 MiB of float32
_ROUNDINGS = 4.0  # distances closer together than so many units of rounding count as equal


class Centers(NamedTuple):
    """Cluster centres of a batch."""

    points: Tensor
    """[B, M, C]"""
    used: Tensor
    """[B, M] bool: False where there were fewer distinct points than clusters."""


def check_seed(seed: object) -> int:
    """Return ``seed`` if it is an int, raise otherwise."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"`seed` must be an int, got {type(seed).__name__}")
    return seed


def draws_of(seed: int, count: int) -> tuple[float, ...]:
    """Uniform numbers in [0, 1), the same in every call, process and on every device."""
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(count, generator=random, dtype=torch.float64).tolist())


def on_one_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Centred points [B, N, C] in at least float32, and the unit [B, 1, 1] of their distances.

    Distances do not depend on the origin, but their rounding does; and squares of the features
    must neither overflow nor vanish. Gradients flow to the points. The unit is a power of two.
    """
    x = x.to(propagation_dtype(x))
    if x.shape[-2] * x.shape[-1] == 0:
        return x, x.new_ones(x.shape[0], 1, 1)
    exact = x.detach()
    size = exact.abs().amax((-2, -1), keepdim=True)
    # Half the exponent twice: its power of two may itself be out of range.
    half = torch.frexp(size).exponent.div(2, rounding_mode="floor")
    root = torch.ldexp(torch.ones_like(size), half)
    origin = (exact / root / root).mean(-2, keepdim=True)
    return x / root / root - origin, root * root


def squared_distances(
    points: Tensor, centers: Tensor, norms: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """[B, N, M] squared distances and how far rounding may have moved each of them.

    Args:
        points: [B, N, C].
        centers: [B, M, C].
        norms: [B, N, 1] squared norms of the points, where they are known already.
    """
    if norms is None:
        norms = points.square().sum(-1, keepdim=True)
    sizes = centers.square().sum(-1).unsqueeze(-2)
    squared = (norms + sizes - 2 * (points @ centers.mT)).clamp_min(0)
    return squared, _noise(norms, points) + _noise(sizes, points)


def _noise(squares: Tensor, points: Tensor) -> Tensor:
    """What squared norms of one side add to the rounding of a squared distance.

    A product rounds in proportion to the squares. The points themselves are as exact as the
    features were before they were centred, which are below 2 on the common scale: that moves a
    squared distance in proportion to the distance.
    """
    unit = _ROUNDINGS * torch.finfo(points.dtype).eps * max(points.shape[-1], 1) ** 0.5
    squares = squares.detach()
    return (squares + 2 * squares.sqrt()) * unit


def first_true(condition: Tensor) -> Tensor:
    """Index of the first True of every row (0 if there is none)."""
    return condition.view(torch.uint8).argmax(-1)


def start_centers(points: Tensor, draws: tuple[float, ...], start: Start) -> Centers:
    """The first centres, chosen among the points one after the other.

    ``"k-means++"`` draws a point with probability in proportion to its squared distance from the
    nearest centre so far (the first one uniformly); ``"farthest"`` takes the farthest from the mean
    and then from all centres so far, ties to the lower index. No point is chosen twice: where all
    points are centres already, the remaining centres are not used.

    Args:
        points: [B, N, C].
        draws: one number in [0, 1) per centre, the same for every sample.
        start: the rule.
    """
    samples, size, channels = points.shape
    if size == 0:
        return Centers(
            points.new_zeros(samples, len(draws), channels),
            torch.zeros(samples, len(draws), dtype=torch.bool, device=points.device),
        )
    with torch.no_grad():
        index, used = _choose(points, draws, start)
    return Centers(points.gather(1, index.unsqueeze(-1).expand(-1, -1, channels)), used)


def _choose(points: Tensor, draws: tuple[float, ...], start: Start) -> tuple[Tensor, Tensor]:
    """[B, M] the points that become centres, and whether each is a new one."""
    norms = points.square().sum(-1, keepdim=True)
    left = torch.ones_like(norms).squeeze(-1)  # what a point is chosen by: at first all alike,
    rounding = torch.zeros_like(left)
    if start == "farthest":
        left = norms.squeeze(-1)  # or far from the mean
        rounding = _noise(left, points)
    chosen, used = [], []
    for number, draw in enumerate(draws):
        if start == "farthest":
            lowest = (left - rounding).amax(-1, keepdim=True)
            pick = first_true(left + rounding >= lowest)
        else:
            # In float64, where the sum of many distances does not swallow the small ones.
            total = left.double().cumsum(-1)
            pick = first_true(total > draw * total[:, -1:])
        chosen.append(pick)
        used.append(torch.ones_like(pick, dtype=torch.bool) if number == 0 else left.any(-1))
        center = points.gather(1, pick[:, None, None].expand(-1, 1, points.shape[-1]))
        squared, noise = (value.squeeze(-1) for value in squared_distances(points, center, norms))
        squared = torch.where(squared <= noise, 0, squared)  # the same point once more
        left = squared if number == 0 else torch.minimum(left, squared)
        rounding = torch.where(left > 0, noise if number == 0 else rounding.maximum(noise), 0)
    return torch.stack(chosen, 1), torch.stack(used, 1)


def nearest_centers(points: Tensor, centers: Centers, count: int) -> tuple[Tensor, Tensor]:
    """The nearest centres of every point, nearest first; within rounding, the lower number wins.

    Distances live in tiles. No gradient flows.

    Returns:
        [B, N, count] int64, and bool of the same shape: False beyond the centres in use.
    """
    with torch.no_grad():
        samples, size, _ = points.shape
        rows = size
        if is_eager():
            rows = max(16, _TILE_ELEMENTS // max(samples * centers.points.shape[1], 1))
        tiles = points.split(max(rows, 1), 1)
        found = [_nearest_in_tile(tile, centers, count) for tile in tiles]
        return torch.cat([index for index, _ in found], 1), torch.cat([ok for _, ok in found], 1)


def _nearest_in_tile(points: Tensor, centers: Centers, count: int) -> tuple[Tensor, Tensor]:
    # With |x|^2 left out of all distances of a row, its rounding is added to the bound instead.
    norms = points.square().sum(-1, keepdim=True)
    slack = 2 * _noise(norms, points)
    sizes = centers.points.square().sum(-1).unsqueeze(1)
    noise = _noise(sizes, points)
    sizes = sizes.masked_fill(~centers.used.unsqueeze(1), torch.inf)
    products = (points * -2) @ centers.points.mT
    low, high = products + (sizes - noise), products + (sizes + noise)
    choices, valid = [], []
    for number in range(count):
        best = high.amin(-1, keepdim=True)
        choice = first_true(low <= best + slack).unsqueeze(-1)
        choices.append(choice)
        valid.append(best.isfinite())
        if number + 1 < count:
            low, high = (bound.scatter(-1, choice, torch.inf) for bound in (low, high))
    return torch.cat(choices, -1), torch.cat(valid, -1)
