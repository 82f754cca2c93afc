"""Known-answer editing: measure an edit against the true edited photograph.

No one has the true edited photograph of a real face, but a generator gives it. Take a latent
``w``, an edit ``d``, and a layer ``O`` with alpha ``A`` that the generator cannot make (a cap, a
microphone, text, ...)::

    input   I  = G(w) (1 - A) + O A
    ideal   T* = G(w + d) (1 - A) + O A

A method sees ``I`` only. Its score is ``S = 1 - |out - T*|^2 / |I - T*|^2``: 0 for doing nothing,
1 for the ideal.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

CANVAS = 512  # layers are drawn at this size and enlarged

Painter = Callable[[ImageDraw.ImageDraw, ImageDraw.ImageDraw, np.random.Generator], None]


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = rng.integers(0, 256, 3).tolist()
    return r, g, b


def _cap(alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    top, brim = int(rng.integers(60, 110)), int(rng.integers(130, 185))
    crown = (120 - top // 2, 10, 392 + top // 2, 2 * brim - 10)
    alpha.pieslice(crown, 180, 360, fill=255)
    paint.pieslice(crown, 180, 360, fill=_colour(rng))
    bar = (90, brim - 18, 422, brim + int(rng.integers(4, 22)))
    alpha.rounded_rectangle(bar, 12, fill=255)
    paint.rounded_rectangle(bar, 12, fill=_colour(rng))
    badge = (236, brim - 70, 276, brim - 30)
    paint.ellipse(badge, fill=_colour(rng))


def _glasses(
    alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    y, half, width = (
        int(rng.integers(235, 250)),
        int(rng.integers(36, 52)),
        int(rng.integers(4, 12)),
    )
    colour, filled = _colour(rng), rng.random() < 0.4
    for x in (193, 319):
        box = (x - half, y - int(half * 0.7), x + half, y + int(half * 0.75))
        for draw, ink in ((alpha, 255), (paint, colour)):
            draw.rounded_rectangle(box, 16, outline=ink, width=width, fill=ink if filled else None)
    for line in (
        (193 + half, y, 319 - half, y),
        (193 - half, y, 100, y - 8),
        (319 + half, y, 412, y - 8),
    ):
        alpha.line(line, fill=255, width=width)
        paint.line(line, fill=colour, width=width)


def _microphone(
    alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    x, y = int(rng.integers(150, 360)), int(rng.integers(350, 430))
    radius, colour = int(rng.integers(26, 44)), _colour(rng)
    stick = (x, y, x + int(rng.integers(-120, 120)), 530)
    alpha.line(stick, fill=255, width=radius)
    paint.line(stick, fill=_colour(rng), width=radius)
    ball = (x - radius, y - radius, x + radius, y + radius)
    alpha.ellipse(ball, fill=255)
    paint.ellipse(ball, fill=colour)


def _hand(alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    side = 1 if rng.random() < 0.5 else -1
    x0, y0 = 256 + side * int(rng.integers(110, 190)), int(rng.integers(300, 430))
    skin = (int(rng.integers(120, 240)), int(rng.integers(90, 190)), int(rng.integers(70, 160)))
    for k in range(4):
        y = y0 + 30 * k
        finger = (x0, y, x0 - side * int(rng.integers(60, 110)), y - int(rng.integers(0, 50)))
        for draw, ink in ((alpha, 255), (paint, skin)):
            draw.line(finger, fill=ink, width=26)
            draw.ellipse((finger[2] - 13, finger[3] - 13, finger[2] + 13, finger[3] + 13), fill=ink)
    palm = (min(x0, x0 + side * 150), y0 - 30, max(x0, x0 + side * 150), y0 + 140)
    alpha.rounded_rectangle(palm, 30, fill=255)
    paint.rounded_rectangle(palm, 30, fill=skin)


def _stripes(
    alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    left = rng.random() < 0.5
    edge = int(rng.integers(50, 120))
    x0, x1 = (0, edge) if left else (CANVAS - edge, CANVAS)
    alpha.rectangle((x0, 0, x1, CANVAS), fill=255)
    step, colours = int(rng.integers(18, 50)), (_colour(rng), _colour(rng))
    for k, y in enumerate(range(0, CANVAS, step)):
        paint.rectangle((x0, y, x1, y + step), fill=colours[k % 2])


def _collar(
    alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    y, colour = int(rng.integers(440, 475)), _colour(rng)
    ring = (60, y, 452, y + 220)
    alpha.ellipse(ring, fill=255)
    paint.ellipse(ring, fill=colour)
    paint.arc(ring, 180, 360, fill=_colour(rng), width=14)


def _text(alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    letters = "".join(chr(c) for c in rng.integers(65, 91, 7))
    at = (int(rng.integers(20, 200)), int(rng.integers(20, 460)))
    font = ImageFont.load_default(int(rng.integers(28, 60)))
    alpha.text(at, letters, fill=255, font=font)
    paint.text(at, letters, fill=_colour(rng), font=font)


def _earring(
    alpha: ImageDraw.ImageDraw, paint: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    colour, size = _colour(rng), int(rng.integers(10, 24))
    for x in (112, 400):
        hoop = (x - size, 320, x + size, 320 + 3 * size)
        alpha.ellipse(hoop, outline=255, width=6)
        paint.ellipse(hoop, outline=colour, width=6)


TRAINING_LAYERS: dict[str, Painter] = {
    "cap": _cap,
    "glasses": _glasses,
    "microphone": _microphone,
    "hand": _hand,
    "stripes": _stripes,
    "collar": _collar,
}
REPORTING_LAYERS: dict[str, Painter] = {"text": _text, "earring": _earring}  # never trained on


def draw_layer(kind: str, seed: int, side: int = 1024) -> tuple[Tensor, Tensor]:
    """Draw an out-of-domain layer for an aligned face.

    Args:
        kind: a key of :data:`TRAINING_LAYERS` or :data:`REPORTING_LAYERS`.
        seed: of its colours and places.
        side: pixels.

    Returns:
        Colours ``O [1, 3, side, side]`` in [-1, 1] and alpha ``A [1, 1, side, side]``.

    Raises:
        ValueError: unknown kind.
    """
    painters = TRAINING_LAYERS | REPORTING_LAYERS
    if kind not in painters:
        raise ValueError(f"`kind` must be one of {sorted(painters)}, got {kind!r}")
    rng = np.random.default_rng(seed)
    alpha = Image.new("L", (CANVAS, CANVAS), 0)
    paint = Image.new("RGB", (CANVAS, CANVAS), _colour(rng))
    painters[kind](ImageDraw.Draw(alpha), ImageDraw.Draw(paint), rng)
    alpha = alpha.filter(ImageFilter.GaussianBlur(1.0))
    colours = np.asarray(paint, np.float32)
    ramp = np.linspace(-1, 1, CANVAS, dtype=np.float32)
    shade = rng.normal(0, 25) * ramp[:, None] + rng.normal(0, 25) * ramp[None]
    colours = colours + shade[..., None] + rng.normal(0, 6, colours.shape).astype(np.float32)
    o = torch.from_numpy(colours.clip(0, 255) / 127.5 - 1).float().permute(2, 0, 1)[None]
    a = torch.from_numpy(np.array(alpha, np.float32) / 255)[None, None]
    size = (side, side)
    return (
        F.interpolate(o, size=size, mode="bilinear", align_corners=False),
        F.interpolate(a, size=size, mode="bilinear", align_corners=False),
    )


def composite(image: Tensor, colours: Tensor, alpha: Tensor) -> Tensor:
    """``image (1 - A) + O A``."""
    return image * (1 - alpha) + colours * alpha


def score(out: Tensor, ideal: Tensor, photo: Tensor) -> float:
    """``S = 1 - |out - T*|^2 / |I - T*|^2``: 0 for doing nothing, 1 for the ideal.

    Raises:
        ValueError: the ideal equals the photograph, so that there is nothing to score.
    """
    change = (photo - ideal).square().sum().item()
    if change == 0:
        raise ValueError("`ideal` equals `photo`: an edit of strength 0 has no score")
    return 1 - (out - ideal).square().sum().item() / change


def average_precision(prediction: Tensor, truth: Tensor) -> float:
    """Area under precision-recall of ``prediction`` against the soft labels ``truth``.

    A pixel counts as positive with weight ``truth`` and as negative with ``1 - truth``; ties in
    the prediction are broken by order.
    """
    order = prediction.flatten().argsort(descending=True, stable=True)
    positive = truth.flatten()[order].double()
    total = positive.sum()
    if total == 0:
        return math.nan
    precision = positive.cumsum(0) / torch.arange(1, len(positive) + 1)
    return ((precision * positive).sum() / total).item()
