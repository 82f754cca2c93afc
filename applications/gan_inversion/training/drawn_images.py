"""Faces that the project draws itself: as many as wanted, each from its number alone.

A picture is a function of a few continuous factors (:data:`FACTORS`): where the head is, its size
and shape, colours of skin, hair, shirt and background, the length of the hair, eyes and where they
look, brows, the mouth's curve and opening, glasses. So a generator trained on them can be judged
against what is known of every picture, and nobody's photograph is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FACTORS = (
    "head_x",
    "head_y",
    "head_size",
    "head_width",
    "skin",
    "hair_hue",
    "hair_shade",
    "hair_length",
    "shirt_hue",
    "background_hue",
    "background_shade",
    "eye_size",
    "gaze",
    "brows",
    "smile",
    "mouth_open",
    "glasses",
)
GLASSES_ABOVE = 0.75  # a quarter of the faces wear some


def draw_factors(indices: Sequence[int], seed: int = 0) -> Tensor:
    """Return the factors ``[n, len(FACTORS)]`` of the pictures with these numbers, in [0, 1).

    Example:
        >>> torch.equal(draw_factors([3, 5])[1:], draw_factors([5]))
        True
    """
    generator = torch.Generator()
    rows = [
        torch.rand(len(FACTORS), generator=generator.manual_seed(seed * 1_000_000_007 + int(index)))
        for index in indices
    ]
    return torch.stack(rows) if rows else torch.zeros(0, len(FACTORS))


def draw_faces(factors: Tensor, resolution: int) -> Tensor:
    """Draw pictures from their factors, with smooth edges at any size.

    Args:
        factors: ``[n, len(FACTORS)]``, nominally in [0, 1].
        resolution: side in pixels.

    Returns:
        ``[n, 3, resolution, resolution]`` in [-1, 1], on the factors' device; it can be
        differentiated with respect to them, but for the glasses.

    Raises:
        ValueError: another shape, or a side below 4.

    Example:
        >>> draw_faces(draw_factors(range(2)), 32).shape
        torch.Size([2, 3, 32, 32])
    """
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(
            f"`factors` must have shape [n, {len(FACTORS)}], got {list(factors.shape)}"
        )
    if resolution < 4:
        raise ValueError(f"`resolution` must be at least 4, got {resolution}")
    f = {name: factors[:, i, None, None, None] for i, name in enumerate(FACTORS)}
    pixel = 2 / resolution
    axis = (torch.arange(resolution, device=factors.device) + 0.5) * pixel - 1
    page_x, page_y = axis[None, None, None, :], axis[None, None, :, None]

    size = 0.42 + 0.16 * f["head_size"]
    # Everything of the head is placed in its own coordinates.
    x = (page_x - 0.3 * (f["head_x"] - 0.5)) / size
    y = (page_y - 0.05 - 0.2 * (f["head_y"] - 0.5)) / size
    edge = pixel / size
    wide = 0.75 + 0.2 * f["head_width"]

    def over(picture: Tensor, colour: Tensor, distance: Tensor) -> Tensor:
        """Lay a colour over where ``distance`` (in units of the head) is negative."""
        alpha = (0.5 - distance / edge).clamp(0, 1)
        return picture + alpha * (colour - picture)

    def ellipse(cx: Tensor | float, cy: Tensor | float, a: Tensor, b: Tensor) -> Tensor:
        r = (((x - cx) / a).square() + ((y - cy) / b).square() + 1e-9).sqrt()
        return (r - 1) * torch.minimum(a, b)

    def number(value: float) -> Tensor:
        return torch.full_like(size, value)

    background = _hue(f["background_hue"]) * (0.35 + 0.5 * f["background_shade"])
    picture = background * (1 - 0.25 * page_y) + 0 * page_x

    hair = (0.15 + 0.65 * f["hair_shade"]) * (0.35 + 0.65 * _hue(f["hair_hue"]))
    length = 0.1 + 1.1 * f["hair_length"]
    behind = torch.maximum(x.abs() - wide - 0.14, torch.maximum(-y - 0.25, y - length))
    picture = over(picture, hair, behind)
    picture = over(picture, hair, ellipse(0.0, -0.25, wide + 0.14, number(0.98)))

    skin = _between((0.36, 0.22, 0.15), (1.0, 0.85, 0.72), f["skin"])
    picture = over(picture, 0.85 * skin, torch.maximum(x.abs() - 0.3, -y + 0.4))
    shirt = 0.2 + 0.7 * _hue(f["shirt_hue"])
    picture = over(picture, shirt, ellipse(0.0, 2.15, number(1.35), number(0.95)))
    # The face ends at the fringe, a little slanted.
    face = torch.maximum(ellipse(0.0, 0.08, wide, number(1.0)), -(y + 0.5 + 0.15 * x))
    picture = over(picture, skin, face)

    eye = 0.13 + 0.08 * f["eye_size"]
    at = 0.42 * wide / 0.85
    white, black = number(1.0), number(0.05)
    for side in (-1.0, 1.0):
        picture = over(picture, white, ellipse(side * at, -0.02, 1.3 * eye, eye))
        gaze = side * at + 0.9 * eye * (f["gaze"] - 0.5)
        picture = over(picture, black, ellipse(gaze, -0.02, 0.6 * eye, 0.7 * eye))
        brow = -0.25 - 0.17 * f["brows"] + 0.3 * (x - side * at).square()
        line = torch.maximum((y - brow).abs() - 0.045, (x - side * at).abs() - 0.24)
        picture = over(picture, 0.5 * hair, line)
        ring = (ellipse(side * at, 0.0, number(0.33), number(0.3))).abs() - 0.045
        worn = (f["glasses"] > GLASSES_ABOVE).to(ring)
        picture = over(picture, black, ring + 10 * (1 - worn))
    picture = over(picture, 0.8 * skin, ellipse(0.0, 0.27, number(0.09), number(0.13)))

    curve = 0.62 + 0.9 * (f["smile"] - 0.5) * (0.12 - x.square())
    lips = (y - curve).abs() - 0.06 - 0.14 * f["mouth_open"]
    mouth = torch.maximum(lips, x.abs() - 0.38)
    picture = over(picture, _colour((0.6, 0.15, 0.2), x), mouth)
    inside = torch.maximum((y - curve).abs() - 0.14 * f["mouth_open"] + 0.02, x.abs() - 0.3)
    picture = over(picture, number(0.12), inside)
    return picture.clamp(0, 1) * 2 - 1


def _hue(hue: Tensor) -> Tensor:
    """Return a saturated colour ``[n, 3, 1, 1]`` of a place on the circle of hues."""
    shift = torch.tensor([0.0, 1 / 3, 2 / 3], device=hue.device).view(1, 3, 1, 1)
    return 0.5 + 0.5 * torch.cos(2 * torch.pi * (hue - shift))


def _between(low: Sequence[float], high: Sequence[float], t: Tensor) -> Tensor:
    a, b = _colour(low, t), _colour(high, t)
    return a + (b - a) * t


def _colour(rgb: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(rgb, device=like.device).view(1, 3, 1, 1)
