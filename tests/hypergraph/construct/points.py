"""Thousands of generated point sets in batches of equal shape, and dense definitions for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

F64 = torch.float64
MOST_POINTS, MOST_CHANNELS = 9, 3
LEAST_HITS = 100  # of every degenerate class, in every run of the oracle
_ROUNDED = 1e-9  # distances closer together are equal: float64 rounding is no difference


def point_sets(count: int, seed: int = 0) -> Iterator[Tensor]:
    """Batches [B, N, C] with N from 0 to 9 and C from 1 to 3, ``count`` sets in all.

    Points on a small grid (ties, equal points, zero vectors), all equal, all zero, two distinct
    ones, normal ones, grid points with a large common offset, and corners of a cube anywhere.
    """
    random = torch.Generator().manual_seed(seed)
    sizes = [(n, c) for n in range(MOST_POINTS + 1) for c in range(1, MOST_CHANNELS + 1)]
    for number, (n, c) in enumerate(sizes):
        batch = count * (number + 1) // len(sizes) - count * number // len(sizes)
        grid = torch.randint(-2, 3, (batch, n, c), generator=random).to(F64)
        normal = torch.randn(batch, n, c, generator=random, dtype=F64)
        kind = torch.randint(0, 10, (batch, 1, 1), generator=random)
        first = grid[:, :1]
        two = torch.where(torch.rand(batch, n, 1, generator=random) < 0.5, first, first + 1.5)
        x = torch.where(kind < 4, grid, normal)
        for value, points in (
            (4, normal[:, :1].expand_as(x)),
            (5, 0 * x),
            (6, two),
            (7, grid + 1000),
            (8, (normal[:, :1] * 64).round() / 64 + (grid > 0)),
        ):
            x = torch.where(kind == value, points, x)
        yield x


def classes(x: Tensor, distance: Tensor, k: int) -> Counter[str]:
    """How many of the sets belong to each degenerate class."""
    size = x.shape[1]
    found = Counter({"no points": x.shape[0] * (size == 0), "one point": x.shape[0] * (size == 1)})
    found["k beyond the points"] = x.shape[0] * (k > size)
    if size < 2:
        return found
    off = ~torch.eye(size, dtype=torch.bool)
    equal = (x[:, :, None] == x[:, None]).all(-1) & off
    found["equal points"] = int(equal.flatten(1).any(1).sum())
    found["all points equal"] = int((equal | ~off).flatten(1).all(1).sum())
    found["zero vector"] = int((x == 0).all(-1).any(1).sum())
    if k < size:
        ranked = distance.masked_fill(~off, -torch.inf).sort(-1).values
        found["tie for the last place"] = int((ranked[..., k - 1] == ranked[..., k]).any(1).sum())
    return found


def distances(x: Tensor, metric: str) -> Tensor:
    """[B, N, N], every pair by itself, without the last digits."""
    if metric == "dot":
        distance = -(x[:, :, None] * x[:, None]).sum(-1)
    elif metric == "euclidean":
        distance = (x[:, :, None] - x[:, None]).square().sum(-1).sqrt()
    else:
        norm = x.norm(dim=-1)
        both = norm[:, :, None] * norm[:, None]
        dots = (x[:, :, None] * x[:, None]).sum(-1)
        distance = 1 - torch.where(both > 0, dots / torch.where(both > 0, both, 1), 0)
        # Not rounded: far from the origin all cosines are close to each other.
        return torch.where(torch.eye(x.shape[1], dtype=torch.bool), 0, distance)
    return (distance / _ROUNDED).round() * _ROUNDED


def neighbors(distance: Tensor, k: int, limit: float | None) -> tuple[Tensor, Tensor]:
    """[B, N, k] the vertex itself, then by (distance, index), and which are within the limit."""
    itself = torch.eye(distance.shape[-1], dtype=torch.bool)
    ranked, order = distance.masked_fill(itself, -torch.inf).sort(dim=-1, stable=True)
    keep = ranked <= (torch.inf if limit is None else limit)
    return order[..., :k], keep[..., :k]


def first_minimum(distance: Tensor) -> Tensor:
    """Index of the smallest entry of every row, the first of those that tie."""
    ties = distance <= distance.min(-1, keepdim=True).values + _ROUNDED
    place = torch.arange(distance.shape[-1]).expand(distance.shape)
    return torch.where(ties, place, distance.shape[-1]).min(-1).values


def squared(points: Tensor, centers: Tensor) -> Tensor:
    """[B, N, M] squared distances, every pair by itself."""
    return (points[:, :, None] - centers[:, None]).square().sum(-1)


def first_nearest(distance: Tensor, x: Tensor) -> Tensor:
    """Index of the smallest squared distance of every row, the first of those that tie.

    Coordinates are rounded in proportion to their size, which moves a squared distance in
    proportion to the distance: points a hair apart do not tie with equal ones.
    """
    size = x.abs().amax((1, 2)).clamp_min(1)[:, None, None]
    least = distance.min(-1, keepdim=True).values
    rounding = (
        torch.where(distance.isfinite(), distance, 0).sqrt() * (size * 1e-13) + (size * 1e-13) ** 2
    )
    ties = distance <= least + rounding
    place = torch.arange(distance.shape[-1]).expand(distance.shape)
    return torch.where(ties, place, distance.shape[-1]).min(-1).values


def start(x: Tensor, draws: list[float], rule: str) -> tuple[Tensor, Tensor]:
    """First centres [B, M, C] and which are used [B, M], by the published rules, one at a time."""
    centers: list[Tensor] = []
    used: list[Tensor] = []
    for draw in draws:
        if centers:
            left = squared(x, torch.stack(centers, 1)).min(-1).values
            used.append((left > 0).any(1))
        elif rule == "farthest":
            left = (x - x.mean(1, keepdim=True)).square().sum(-1)
            used.append(torch.ones(x.shape[0], dtype=torch.bool))
        else:
            left = torch.ones(x.shape[:2], dtype=F64)
            used.append(torch.ones(x.shape[0], dtype=torch.bool))
        if rule == "farthest":
            # Mirrored points tie; points a hair apart are still farther than equal ones.
            pick = (left >= left.amax(1, keepdim=True) * (1 - _ROUNDED)).byte().argmax(1)
        else:  # the point in whose share of the total the draw falls
            target = draw * left.sum(1)
            passed = torch.stack([left[:, : v + 1].sum(1) <= target for v in range(x.shape[1])], 1)
            pick = passed.sum(1).clamp_max(x.shape[1] - 1)
            pick = torch.where(used[-1], pick, 0)
        centers.append(x[torch.arange(x.shape[0]), pick])
    return torch.stack(centers, 1), torch.stack(used, 1)


def lloyd(x: Tensor, draws: list[float], rule: str, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres, which are used, and the one-hot clusters [B, N, M] whose means they are."""
    centers, used = start(x, draws, rule)

    def clusters() -> Tensor:
        distance = squared(x, centers).masked_fill(~used[:, None], torch.inf)
        return torch.nn.functional.one_hot(first_nearest(distance, x), len(draws)).to(F64)

    hot = clusters()
    for _ in range(steps):
        last = hot
        size = hot.sum(1)[..., None]
        means = hot.mT @ x / size.clamp_min(1)
        centers = torch.where(size > 0, means, centers)
        hot = clusters()
    return centers, used, last


def fuzzy(
    x: Tensor, draws: list[float], rule: str, fuzziness: float, steps: int, tolerance: float
) -> Tensor:
    """Memberships [B, N, M]; every sample stops for itself."""
    centers, used = start(x, draws, rule)

    def update() -> Tensor:
        distance = squared(x, centers)
        hit = (distance < 1e-13) & used[:, None]
        power = torch.where(hit, 1, distance) ** (-1 / (fuzziness - 1)) * used[:, None]
        power = torch.where(hit.any(-1, keepdim=True), hit.to(F64), power)
        return power / power.sum(-1, keepdim=True)

    soft = update()
    running = torch.ones(x.shape[0], dtype=torch.bool)
    for _ in range(steps):
        weight = soft**fuzziness
        total = weight.sum(1)[..., None]
        centers = torch.where(total > 0, weight.mT @ x / torch.where(total > 0, total, 1), centers)
        following = update()
        change = (following - soft).square().sum((1, 2)).sqrt()
        soft = torch.where(running[:, None, None], following, soft)
        running = running & (change >= tolerance)
    return soft
