"""Pictures that show what an edit did."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 384
MARGIN = 28


def mask_overlay(image: Image.Image, mask: Tensor) -> Image.Image:
    """Tint a face where the mask ``[1, 1, H, W]`` takes the edit: grey is kept, red is edited."""
    weight = mask[0, 0].clamp(0, 1).cpu().numpy()[..., None]
    grey = np.asarray(image.convert("L"), np.float32)[..., None].repeat(3, 2)
    red = np.array([235.0, 60.0, 40.0], np.float32)
    mixed = grey * (1 - 0.65 * weight) + red * (0.65 * weight)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def sheet(tiles: list[tuple[str, Image.Image]], tile: int = TILE) -> Image.Image:
    """Lay labelled pictures side by side."""
    canvas = Image.new("RGB", (tile * len(tiles), tile + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(16)
    for i, (label, image) in enumerate(tiles):
        canvas.paste(
            image.convert("RGB").resize((tile, tile), Image.Resampling.LANCZOS), (i * tile, MARGIN)
        )
        draw.text((i * tile + 8, 5), label, fill="black", font=font)
    return canvas


def edit_sheet(
    photo: Image.Image,
    inversion: Image.Image,
    plain: Image.Image,
    mask: Tensor,
    result: Image.Image,
    strengths: Mapping[str, float],
) -> Image.Image:
    """Input, inversion, plain edit, mask overlay and result, with the edit in the last label."""
    edit = ", ".join(f"{name} {strength:+g}" for name, strength in strengths.items()) or "no edit"
    return sheet(
        [
            ("photograph", photo),
            ("inversion", inversion),
            ("plain edit of the inversion", plain),
            (f"mask (mean {mask.mean().item():.2f})", mask_overlay(photo, mask)),
            (f"result: {edit}", result),
        ]
    )
