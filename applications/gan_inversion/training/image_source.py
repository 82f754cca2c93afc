"""Where the real images of a generative training come from: drawn, or a folder of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..errors import PhotoError
from ..photo import load_photo
from .drawn_images import draw_faces, draw_factors

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class ImageSource(Protocol):
    """A numbered set of square images.

    Attributes:
        name: says which images these are; a resumed run must have the same.
        resolution: side in pixels.
    """

    name: str
    resolution: int

    def __len__(self) -> int:
        """How many images there are."""

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return ``[n, 3, resolution, resolution]`` in [-1, 1]."""


class DrawnFaces:
    """The project's own faces, drawn when they are asked for.

    Example:
        >>> DrawnFaces(1000, 32).images([0, 999]).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, count: int, resolution: int, seed: int = 0) -> None:
        self.count, self.resolution, self.seed = count, resolution, seed
        self.name = f"drawn faces, {count}, seed {seed}"

    def __len__(self) -> int:
        return self.count

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return ``[n, 3, resolution, resolution]`` in [-1, 1]."""
        return draw_faces(draw_factors(indices, self.seed), self.resolution)


class FolderImages:
    """All pictures of a folder and its sub-folders: the central square, resized.

    They are kept in memory as bytes, ``3 * resolution**2`` each. Order and name depend on the
    files' relative paths and on what is in them.

    Raises:
        PhotoError: no folder, no pictures, or one that cannot be read or is smaller than
            ``resolution``; the file is named.
    """

    def __init__(self, folder: Path, resolution: int, *, progress: bool = False) -> None:
        if not folder.is_dir():
            raise PhotoError(f"`data` must be a folder of pictures, got {folder}")
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise PhotoError(f"{folder}: no pictures ({', '.join(SUFFIXES)}) in this folder")
        self.resolution = resolution
        self.pixels = torch.empty(len(paths), 3, resolution, resolution, dtype=torch.uint8)
        sha = hashlib.sha256()
        for i, path in enumerate(tqdm(paths, desc="reading pictures", disable=not progress)):
            photo = load_photo(path, min_side=resolution)
            side = min(photo.size)
            left, top = (photo.width - side) // 2, (photo.height - side) // 2
            # Cropped first: resizing a box looks at the pixels beside it.
            square = photo.crop((left, top, left + side, top + side))
            array = np.array(square.resize((resolution, resolution), Image.Resampling.LANCZOS))
            sha.update(path.relative_to(folder).as_posix().encode() + b"\0" + array.tobytes())
            self.pixels[i] = torch.from_numpy(array).permute(2, 0, 1)
        self.name = f"folder, {len(paths)} pictures, sha256 {sha.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return ``[n, 3, resolution, resolution]`` in [-1, 1]."""
        return self.pixels[list(indices)].float() / 127.5 - 1
