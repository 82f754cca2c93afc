"""Read the folder that :mod:`gan_inversion.training.edit_pairs` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..errors import CheckpointError
from ..images import smoothstep
from ..landmarks import detect_faces
from ..methods.dhfusion.dh_net import DHNet
from ..methods.dhfusion.mask import edit_difference
from ..perceptual import EfficientNetLite0
from .edit_pairs import REGION_SIDE, from_bytes

HELD_OUT = 24  # the last identities are for validation


def identity_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a folder: training, held out.

    Raises:
        CheckpointError: too few identities to hold some out.
    """
    files = sorted(folder.glob("*.safetensors"))
    if len(files) < 2 * HELD_OUT:
        raise CheckpointError(
            f"{folder}: needs at least {2 * HELD_OUT} identities, found {len(files)}; "
            "run python -m gan_inversion.training.edit_pairs"
        )
    return files[:-HELD_OUT], files[-HELD_OUT:]


def read(path: Path, *names: str) -> dict[str, Tensor]:
    """Read some tensors of an identity's file (all, if none is named)."""
    if not names:
        return load_file(path)
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in names}


# What a face edit changes, of the range [-1, 1]: fainter than the region of any edit, since
# inside the face a change of the skin counts.
FACE_LOW, FACE_HIGH = 0.015, 0.06
FOREHEAD = 0.5  # how far above the brows the face reaches, in brow-to-nose distances


def face_hull(landmarks: np.ndarray, size: int) -> Tensor:
    """Soft map of the face, ``[1, 64, 64]``: jaw, cheeks and the lower forehead.

    Args:
        landmarks: ``[68, 2]`` in pixels of an image of side ``size``.
        size: side in pixels.
    """
    jaw, brows, nose = landmarks[:17], landmarks[17:27], landmarks[33]
    up = FOREHEAD * (brows.mean(0) - nose)
    outline = np.concatenate([jaw, brows[::-1] + up])
    canvas = Image.new("L", (4 * REGION_SIDE, 4 * REGION_SIDE))
    scale = 4 * REGION_SIDE / size
    ImageDraw.Draw(canvas).polygon([(x * scale, y * scale) for x, y in outline], fill=255)
    area = torch.from_numpy(np.array(canvas, np.float32) / 255)[None, None]
    area = F.avg_pool2d(F.pad(area, (4,) * 4, mode="replicate"), 9, 1)
    return F.avg_pool2d(area, 4)[0]


class PairTaps:
    """All pairs of a list of files as DH-Net's inputs: taps of I' and T, regions, direction.

    Attributes:
        region: where the edit of the true latent acts, ``[I, E, 1, 64, 64]``.
        face_region: what the edit changes inside the face, ``[I, E, 1, 64, 64]``.
        direction: index of each edit's direction, ``[I, E]``.
        strength: of each edit, ``[I, E]``.
    """

    def __init__(self, files: list[Path], trunk: EfficientNetLite0) -> None:
        self.inverted: list[list[Tensor]] = []  # an identity -> taps, float16
        self.edited: list[list[Tensor]] = []  # an identity -> taps of its edits
        regions, directions, strengths, changes = [], [], [], []
        hulls: list[Tensor | None] = []
        with torch.no_grad():
            for path in tqdm(files, desc="features", mininterval=5):
                data = read(
                    path,
                    "photo",
                    "inverted_small",
                    "edited_small",
                    "region",
                    "direction",
                    "strength",
                )
                images = torch.cat([data["inverted_small"][None], data["edited_small"]])
                images = from_bytes(images)
                taps = [t.half() for t in DHNet.taps(trunk, images)]
                change = edit_difference(images[:1].expand_as(images[1:]), images[1:])
                change = smoothstep(change, FACE_LOW, FACE_HIGH)
                changes.append(F.interpolate(change, size=(REGION_SIDE,) * 2, mode="area"))
                photo = Image.fromarray(data["photo"].permute(1, 2, 0).numpy()).reduce(2)
                faces = detect_faces(photo)
                hulls.append(face_hull(faces[0].landmarks, photo.width) if faces else None)
                self.inverted.append([t[:1] for t in taps])
                self.edited.append([t[1:] for t in taps])
                regions.append(data["region"].float() / 255)
                directions.append(data["direction"])
                strengths.append(data["strength"])
        self.region = torch.stack(regions)  # [I, E, 1, 64, 64]
        self.direction = torch.stack(directions)  # [I, E]
        self.strength = torch.stack(strengths)
        found = [h for h in hulls if h is not None]
        # dlib misses a few turned heads; they get the mean face of the others.
        mean = torch.stack(found).mean(0)
        hull = torch.stack([mean if h is None else h for h in hulls])
        self.face_region = hull[:, None] * torch.maximum(torch.stack(changes), self.region)
        self.edits = self.direction.shape[1]

    def __len__(self) -> int:
        return len(self.inverted) * self.edits

    def batch(
        self, indices: list[int]
    ) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
        """Return taps of I', taps of T, regions, face regions and directions of some pairs."""
        where = [divmod(i, self.edits) for i in indices]
        inverted = [
            torch.cat([self.inverted[i][level] for i, _ in where]).float() for level in range(3)
        ]
        edited = [
            torch.cat([self.edited[i][level][e : e + 1] for i, e in where]).float()
            for level in range(3)
        ]
        rows = torch.tensor([w[0] for w in where]), torch.tensor([w[1] for w in where])
        return (
            inverted,
            edited,
            self.region[rows],
            self.face_region[rows],
            self.direction[rows],
        )
