"""Read the folder that :mod:`gan_inversion.training.edit_pairs` writes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ..errors import CheckpointError
from ..methods.dhfusion.dh_net import DHNet
from ..perceptual import EfficientNetLite0
from .edit_pairs import from_bytes

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


class PairTaps:
    """All pairs of a list of files as DH-Net's inputs: taps of I' and T, region, direction."""

    def __init__(self, files: list[Path], trunk: EfficientNetLite0) -> None:
        self.inverted: list[list[Tensor]] = []  # an identity -> taps, float16
        self.edited: list[list[Tensor]] = []  # an identity -> taps of its edits
        regions, directions, strengths = [], [], []
        with torch.no_grad():
            for path in tqdm(files, desc="features", mininterval=5):
                data = read(
                    path, "inverted_small", "edited_small", "region", "direction", "strength"
                )
                images = torch.cat([data["inverted_small"][None], data["edited_small"]])
                taps = [t.half() for t in DHNet.taps(trunk, from_bytes(images))]
                self.inverted.append([t[:1] for t in taps])
                self.edited.append([t[1:] for t in taps])
                regions.append(data["region"].float() / 255)
                directions.append(data["direction"])
                strengths.append(data["strength"])
        self.region = torch.stack(regions)  # [I, E, 1, 64, 64]
        self.direction = torch.stack(directions)  # [I, E]
        self.strength = torch.stack(strengths)
        self.edits = self.direction.shape[1]

    def __len__(self) -> int:
        return len(self.inverted) * self.edits

    def batch(
        self, indices: list[int]
    ) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
        """Return taps of I', taps of T, regions, directions and strengths of some pairs."""
        where = [divmod(i, self.edits) for i in indices]
        inverted = [
            torch.cat([self.inverted[i][level] for i, _ in where]).float() for level in range(3)
        ]
        edited = [
            torch.cat([self.edited[i][level][e : e + 1] for i, e in where]).float()
            for level in range(3)
        ]
        rows = torch.tensor([w[0] for w in where]), torch.tensor([w[1] for w in where])
        return inverted, edited, self.region[rows], self.direction[rows], self.strength[rows]
