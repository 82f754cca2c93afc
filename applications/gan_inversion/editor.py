"""From a photograph to an edited photograph: the whole pipeline behind three calls."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hypergraph._files import write_text

from .align import Alignment, align_face, select_face
from .directions import Direction, Directions, load_direction_file, load_directions
from .generators import Generator, load_default_generator
from .inversion import Inversion, InversionCache, InversionConfig
from .landmarks import detect_faces, identity_distance, identity_embedding
from .methods import Edited, Method, Plain
from .metrics.psnr import pooled_psnr
from .paste import paste_back
from .photo import load_photo, photo_hash, save_png
from .report import edit_sheet

METHODS = ("dhfusion", "plain")
DEFAULT_CACHE = "~/.cache/gan-inversion"


def to_tensor(image: Image.Image) -> Tensor:
    """PIL RGB image -> ``[1, 3, H, W]`` in [-1, 1]."""
    array = torch.from_numpy(np.array(image.convert("RGB")))
    return array.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_image(tensor: Tensor) -> Image.Image:
    """``[1, 3, H, W]`` in [-1, 1] -> PIL RGB image, rounded."""
    array = ((tensor[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).contiguous().numpy())


@dataclass
class EditResult:
    """What one edit made.

    Attributes:
        photo: the photograph with the edited face pasted back.
        face: the edited aligned face, 1024 x 1024.
        plain: the same edit of the inversion with no method on top.
        mask: where ``face`` was taken from the edit, ``[1, 1, 1024, 1024]`` in [0, 1].
        sheet: input, inversion, plain edit, mask and result side by side.
        report: every parameter, time and metric; goes into a JSON file.
    """

    photo: Image.Image
    face: Image.Image
    plain: Image.Image
    mask: Tensor
    sheet: Image.Image
    report: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the edited photograph as PNG, atomically, and return its path."""
        return save_png(self.photo, path)

    def save_all(self, folder: str | os.PathLike[str], name: str = "result") -> list[Path]:
        """Write ``NAME.png``, ``NAME_face.png``, ``NAME_sheet.png`` and ``NAME.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        images = {"": self.photo, "_face": self.face, "_sheet": self.sheet}
        for suffix, image in images.items():
            path = folder / f"{name}{suffix}.png"
            save_png(image, path)
            written.append(path)
        path = folder / f"{name}.json"
        write_text(path, json.dumps(self.report, indent=2) + "\n")
        return [*written, path]


@dataclass
class OpenPhoto:
    """A photograph whose face was found, aligned and inverted; edits of it are quick."""

    editor: Editor
    photo: Image.Image
    alignment: Alignment
    inversion: Inversion
    seconds: dict[str, float] = field(default_factory=dict)

    def edit(self, *, paste: bool = True, **strengths: float) -> EditResult:
        """Edit the face.

        Args:
            paste: put the face back into the photograph; otherwise ``photo`` is the face.
            **strengths: a direction's name and its strength each, for example ``smile=-2``.

        Returns:
            The :class:`EditResult`.

        Raises:
            UnknownDirectionError: no such direction; the message lists what there is.
            ValueError: a strength is not finite.
        """
        change = self.editor.change(strengths)
        aligned = to_tensor(self.alignment.image)
        edited = self.editor.method.edit(aligned, self.inversion, change)
        face = to_image(edited.image)
        seconds = dict(edited.seconds)
        start = time.perf_counter()
        if paste:
            # A method that fuses has left the photograph's pixels alone where its mask is 0.
            photo = paste_back(self.photo, self.alignment, face)
        else:
            photo = face
        seconds["paste"] = time.perf_counter() - start
        return EditResult(
            photo=photo,
            face=face,
            plain=to_image(edited.plain),
            mask=edited.mask,
            sheet=edit_sheet(
                self.alignment.image,
                to_image(self.inversion.image),
                to_image(edited.plain),
                edited.mask,
                face,
                strengths,
            ),
            report=self._report(strengths, edited, face, seconds, paste),
        )

    def _report(
        self,
        strengths: Mapping[str, float],
        edited: Edited,
        face: Image.Image,
        seconds: dict[str, float],
        paste: bool,
    ) -> dict[str, Any]:
        aligned = to_tensor(self.alignment.image)
        landmarks = self.alignment.landmarks
        before = identity_embedding(self.alignment.image, landmarks)

        def distance(image: Image.Image) -> float:
            return round(identity_distance(before, identity_embedding(image, landmarks)), 4)

        outside = (edited.mask < 0.01).float()
        return {
            "method": self.editor.method.name,
            "fusion": getattr(self.editor.method, "fusion", None),
            "edits": dict(strengths),
            "pasted": paste,
            "photograph": {
                "sha256_of_pixels": photo_hash(self.photo),
                "size": list(self.photo.size),
                "face_native_size": round(float(self.alignment.native_size), 1),
            },
            "inversion": {
                "config": asdict(self.editor.inversion_config),
                "psnr_256": round(pooled_psnr(_area(self.inversion.image), _area(aligned)), 2),
                "identity_distance": distance(to_image(self.inversion.image)),
            },
            "inversion_cached": self.inversion.seconds == 0,
            "mask_mean": round(edited.mask.mean().item(), 4),
            "identity_distance": distance(face),
            "identity_distance_of_plain_edit": distance(to_image(edited.plain)),
            "psnr_where_mask_is_0": (
                _finite(pooled_psnr(to_tensor(face), aligned, outside)) if outside.any() else None
            ),
            "seconds": {k: round(v, 3) for k, v in (self.seconds | seconds).items()},
            "versions": {"torch": torch.__version__},
        }


def _area(image: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(image, size=(256, 256), mode="area")


def _finite(value: float) -> float | str:
    return round(value, 2) if np.isfinite(value) else "inf"


class Editor:
    """Edits face photographs; see :meth:`from_pretrained`.

    Args:
        method: what turns an inversion and a change of its code into a face.
        inversion_config: how photographs are inverted.
        cache: folder of the inversions; None keeps none.
        directions: by name; None takes the shipped ones.

    Example:
        >>> editor = Editor.from_pretrained("dhfusion")                     # doctest: +SKIP
        >>> editor.open("me.jpg").edit(smile=2).save("smile.png")           # doctest: +SKIP
    """

    def __init__(
        self,
        method: Method,
        inversion_config: InversionConfig | None = None,
        cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
        directions: Mapping[str, Direction] | None = None,
    ) -> None:
        self.method = method
        self.inversion_config = inversion_config or InversionConfig()
        self.cache = None if cache is None else InversionCache(cache)
        self.directions: dict[str, Direction] = dict(
            load_directions() if directions is None else directions
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str = "dhfusion",
        *,
        fusion: str = "residual",
        inversion_config: InversionConfig | None = None,
        cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
        generator: Generator | None = None,
    ) -> Editor:
        """Build an editor with the shipped weights on the packaged generator.

        Args:
            name: ``"dhfusion"`` or ``"plain"``.
            fusion: of DHFusion: ``"residual"``, ``"feature"`` or ``"blend"``.
            inversion_config: steps and rates; None takes the defaults.
            cache: folder of the inversions; None keeps none.
            generator: None loads the packaged one.

        Raises:
            ValueError: unknown name or fusion.
            AssetError: a face package is missing.
        """
        generator = generator or load_default_generator()
        if name == "plain":
            method: Method = Plain(generator)
        elif name == "dhfusion":
            from .methods.dhfusion import DHFusion

            method = DHFusion(generator, fusion)  # type: ignore[arg-type]
        else:
            raise ValueError(f"`name` must be one of {METHODS}, got {name!r}")
        return cls(method, inversion_config, cache)

    def add_direction(self, path: str | os.PathLike[str], name: str | None = None) -> Direction:
        """Load a direction from somebody's ``.pt`` or ``.npy`` file, to be used by its name."""
        direction = load_direction_file(Path(path), name)
        self.directions[direction.name] = direction
        return direction

    def change(self, strengths: Mapping[str, float]) -> Tensor:
        """Return the change of the code ``[1, num_ws, w_dim]`` that the strengths add up to."""
        known = Directions(self.directions)
        generator = self.method.generator
        change = torch.zeros(1, generator.num_ws, generator.w_dim)
        for name, strength in strengths.items():
            if not np.isfinite(strength):
                raise ValueError(f"strength of {name!r} must be finite, got {strength}")
            change = known[name].apply(change, float(strength))
        if not bool((change.abs() < 100 * generator.w_std).all()):
            raise ValueError(
                f"strengths {dict(strengths)} leave the space of faces; `gan-inversion directions` "
                "lists useful ranges"
            )
        return change

    def open(
        self,
        photo: str | os.PathLike[str] | Image.Image | np.ndarray,
        *,
        face: int | None = None,
        progress: bool = True,
    ) -> OpenPhoto:
        """Find the face, align and invert it: about a minute the first time, cached afterwards.

        Args:
            photo: path, PIL image or array.
            face: which face, 0 being the largest; None takes the largest.
            progress: show a progress bar.

        Raises:
            PhotoError: not a usable photograph, no face, or no such face.
        """
        seconds = {}
        start = time.perf_counter()
        image = load_photo(photo)
        found = select_face(detect_faces(image), face)
        alignment = align_face(image, found.landmarks, self.method.generator.resolution)
        seconds["align"] = time.perf_counter() - start
        start = time.perf_counter()
        inversion = self._invert(alignment, progress)
        seconds["invert"] = time.perf_counter() - start
        return OpenPhoto(self, image, alignment, inversion, seconds)

    def _invert(self, alignment: Alignment, progress: bool) -> Inversion:
        from .inversion import invert

        function = invert if self.cache is None else self.cache.invert
        return function(
            self.method.generator,
            to_tensor(alignment.image),
            self.inversion_config,
            torch.from_numpy(np.asarray(alignment.landmarks, np.float32)),
            None,
            progress,
        )
