"""Compare two folders of images: what a paper's table of numbers is made from.

gan-inversion evaluate REAL FAKE --out report.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hypergraph._files import checked_path, write_text

from ..errors import PhotoError
from ..photo import load_photo
from .distribution import frechet_score, kernel_score
from .features import FeatureNetwork, efficientnet_features, extract_features, resize_clean
from .identity import IdentityNetwork, dlib_identity, identity_score
from .lpips import LPIPS
from .ms_ssim import ms_ssim_protocol, ms_ssim_values
from .psnr import capped, psnr_protocol, psnr_values
from .score import Score, mean_score
from .ssim import ssim_protocol, ssim_values

METRICS = ("psnr", "ssim", "ms-ssim", "lpips", "id", "fd", "kd", "fid", "kid")
DEFAULT_METRICS = ("psnr", "ssim", "id", "fd", "kd")
_SETS = ("fd", "kd", "fid", "kid")
_LARGEST_SIDE = 10_000  # photo.MAX_PIXELS as a square
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class FolderReport:
    """What :func:`compare_folders` found.

    Attributes:
        scores: metric name -> figure, in the order asked for.
        pairs: names in both folders that were compared.
        per_pair: metric name -> one value per pair, in the order of ``pairs``; None where there
            is no face.
        only_in_real: names without a partner.
        only_in_fake: names without a partner.
        unreadable: file -> why it could not be read.
        left_out: name -> why, of pairs that were read and cannot be compared: of unequal size, or
            too small for a metric.
        ignored: files that are no images by their suffix.
        settings: how it was called.
    """

    scores: dict[str, Score]
    pairs: list[str]
    per_pair: dict[str, list[float | None]]
    only_in_real: list[str] = field(default_factory=list)
    only_in_fake: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def table(self) -> str:
        """The scores as lines of text, and whatever was left out."""
        rows = []
        for name, score in self.scores.items():
            spread = "" if score.interval is None else "{:.4g} to {:.4g}".format(*score.interval)
            rows.append((name, f"{score.value:.4f}", spread, str(score.n), score.protocol))
        head = ("metric", "value", "95 % interval", "n", "protocol")
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            + "  "
            + row[4]
            for row in [head, *rows]
        ]
        for title, names in (
            ("unreadable", [f"{k}: {v}" for k, v in self.unreadable.items()]),
            ("not comparable", [f"{k}: {v}" for k, v in self.left_out.items()]),
            ("only in the first folder", self.only_in_real),
            ("only in the second folder", self.only_in_fake),
        ):
            if names:
                lines.append(f"\n{title} ({len(names)}), left out of the comparison by pairs:")
                lines += [f"  {name}" for name in names[:20]]
                if len(names) > 20:
                    lines.append(f"  and {len(names) - 20} more; the JSON names all")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "pairs": self.pairs,
            "per_pair": self.per_pair,
            "only_in_real": self.only_in_real,
            "only_in_fake": self.only_in_fake,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
            "ignored": self.ignored,
            "settings": self.settings,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON: all of it, or nothing.

        Raises:
            OSError: the file cannot be written.
        """
        write_text(path, json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n")


class _Folder:
    """The images of a folder by name without suffix, read one at a time."""

    def __init__(self, path: str | os.PathLike[str], argument: str, unreadable: dict[str, str]):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"`{argument}` must be a folder of images, got {os.fspath(path)!r}")
        self.files: dict[str, Path] = {}
        self.ignored: list[str] = []
        self.unreadable = unreadable
        for file in sorted(self.path.rglob("*")):
            relative = file.relative_to(self.path)
            if any(part.startswith(".") for part in relative.parts) or not file.is_file():
                continue
            if file.suffix.lower() not in _SUFFIXES:
                self.ignored.append(str(file))
                continue
            name = relative.with_suffix("").as_posix()
            if name in self.files:
                raise ValueError(
                    f"`{argument}`: {file.name} and {self.files[name].name} in {file.parent} have "
                    "one name without the suffix; move one of them away"
                )
            self.files[name] = file
        if not self.files:
            raise ValueError(
                f"`{argument}`: {self.path} holds no image ({', '.join(sorted(_SUFFIXES))})"
            )

    def read(self, name: str) -> Tensor | None:
        """Return ``[1, 3, H, W]`` uint8; None, with the reason noted, if it cannot be read."""
        file = self.files[name]
        if str(file) in self.unreadable:
            return None
        try:
            photo = load_photo(file, min_side=1)
        except PhotoError as error:
            self.unreadable[str(file)] = str(error)
            return None
        array = np.array(photo.convert("RGB"))
        return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()


def compare_folders(
    real: str | os.PathLike[str],
    fake: str | os.PathLike[str],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    out: str | os.PathLike[str] | None = None,
    ssim_variant: str = "wang",
    resize: int | None = None,
    lpips_network: LPIPS | None = None,
    feature_network: FeatureNetwork | None = None,
    identity_network: IdentityNetwork | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> FolderReport:
    """Compare the images of two folders, pair by pair and as sets.

    Images are paired by their path inside the folder without the suffix (``a/1.png`` with
    ``a/1.jpg``). Unpaired ones take part in the comparison of the sets only. Files that cannot
    be read, pairs of unequal size and pairs without a face are left out *and named* in the
    report. Pictures are read upright and in sRGB. Everything is deterministic.

    Args:
        real: folder of originals; searched with its sub-folders, hidden files skipped.
        fake: folder of results.
        metrics: of :data:`METRICS`: ``"psnr"``, ``"ssim"``, ``"ms-ssim"`` and ``"lpips"`` compare
            pixels of pairs; ``"id"`` faces of pairs; ``"fd"`` and ``"kd"`` features of the sets,
            and ``"fid"`` and ``"kid"`` the same, refused unless the official Inception made them.
        out: JSON file for the report, written at once at the end; its folder must exist.
        ssim_variant: see :func:`gan_inversion.metrics.ssim_values`.
        resize: make every image a square of this side first, by antialiased bicubic and rounded
            to 8 bits; None compares the pixels that are there.
        lpips_network: needed for ``"lpips"``; see :func:`gan_inversion.metrics.load_lpips`.
        feature_network: for ``"fd"`` and ``"kd"``; None is EfficientNet-Lite0, and the scores are
            then called FD-EffLite0 and KD-EffLite0.
        identity_network: for ``"id"``; None is dlib's.
        batch_size: images per pass of the feature network.
        seed: of intervals and blocks.
        progress: show progress bars.

    Returns:
        The report; ``print(report.table())`` shows it.

    Raises:
        ValueError: an argument that cannot be used, or nothing left to compare.
        AssetError: a default network is not installed.
        OSError: ``out`` cannot be written.

    Example:
        >>> report = compare_folders("photos", "edits", out="report.json")  # doctest: +SKIP
        >>> print(report.table())  # doctest: +SKIP
    """
    chosen = _checked_metrics(metrics, lpips_network, resize)
    if not -(2**62) < seed < 2**62:
        raise ValueError(f"`seed` must fit 63 bits, got {seed}")
    if out is not None:
        _check_out(out)
    ssim_protocol(ssim_variant)  # an unknown name should fail before an hour of work
    unreadable: dict[str, str] = {}
    first, second = _Folder(real, "real", unreadable), _Folder(fake, "fake", unreadable)
    names = [name for name in first.files if name in second.files]
    by_pair = [m for m in chosen if m not in _SETS]
    if by_pair and not names:
        raise ValueError(
            f"no file of {first.path} has a partner of the same name in {second.path}, and "
            f"{', '.join(by_pair)} compare pairs; ask for `metrics` 'fd' and 'kd' alone"
        )
    for folder, argument in ((first, "real"), (second, "fake")):
        if len(by_pair) < len(chosen) and len(folder.files) < 2:
            raise ValueError(
                f"`{argument}`: {folder.path} holds one image, and sets need two; ask "
                "for `metrics` of pairs alone"
            )
    features = feature_network
    if features is None and len(by_pair) < len(chosen):
        features = efficientnet_features()
    for m in chosen:
        if features is not None and m in ("fid", "kid") and not features.is_official:
            raise ValueError(
                f"`metrics`: {m!r} is made with the official Inception only; pass "
                f"feature_network=inception_features(FILE), or ask for {m[0] + 'd'!r}, which here "
                f"gives {features.frechet_name}"
            )
    faces = identity_network or dlib_identity()

    def load(folder: _Folder, name: str) -> Tensor | None:
        image = folder.read(name)
        return image if image is None or resize is None else _resized(image, resize)

    # How one value comes from a pair, and what it is called.
    pixel: dict[str, tuple[Callable[[Tensor, Tensor], float], str]] = {
        "psnr": (lambda x, y: capped(psnr_values(x, y).item()), psnr_protocol()),
        "ssim": (
            lambda x, y: ssim_values(x, y, variant=ssim_variant).item(),
            ssim_protocol(ssim_variant),
        ),
        "ms-ssim": (lambda x, y: ms_ssim_values(x, y).item(), ms_ssim_protocol()),
    }
    if lpips_network is not None:
        pixel["lpips"] = (lambda x, y: _lpips(lpips_network, x, y), lpips_network.protocol)
    compared: list[str] = []
    values: dict[str, list[float | None]] = {m: [] for m in by_pair}
    left_out: dict[str, str] = {}
    for name in tqdm(names if by_pair else [], desc="pairs", disable=not progress):
        x, y = load(first, name), load(second, name)
        if x is None or y is None:
            continue
        if x.shape != y.shape:
            left_out[name] = f"the sizes are {_size(x)} and {_size(y)}; pass `resize`"
            continue
        row: dict[str, float | None] = {}
        try:
            for m in by_pair:
                if m == "id":
                    row[m] = faces.between(faces.embed(_signed(x)), faces.embed(_signed(y)))
                else:
                    row[m] = pixel[m][0](x, y)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        compared.append(name)
        for m, value in row.items():
            values[m].append(value)
    if by_pair and not compared:
        reasons = [*unreadable.values(), *(f"pair {k!r}: {v}" for k, v in left_out.items())]
        raise ValueError(
            f"none of {len(names)} pairs can be compared; the first reason: {reasons[0]}"
        )

    if compared and "id" in values and not any(value is not None for value in values["id"]):
        raise ValueError(
            f"no face was found in both images of any of {len(compared)} pairs: there is no ID "
            "score; ask for `metrics` without 'id'"
        )

    sets: list[Tensor] = []
    if features is not None and len(by_pair) < len(chosen):
        for folder, what in ((first, "features, first"), (second, "features, second")):
            with tqdm(total=len(folder.files), desc=what, disable=not progress) as bar:
                found = _readable(folder, load)
                sets.append(
                    extract_features(found, features, batch_size=batch_size, progress=bar.update)
                )
    scale = "" if resize is None else f", images at {resize} px (antialiased bicubic, 8 bits)"
    scores: dict[str, Score] = {}
    for m in tqdm(chosen, desc="scores", disable=not progress):
        if m == "id":
            score = identity_score(values[m], faces, seed=seed)
            scores["id"] = score.with_protocol(score.protocol + scale)
        elif m in pixel:
            each = torch.tensor(values[m], dtype=torch.float64)
            scores[m] = mean_score(each, pixel[m][1] + scale, seed=seed)
        elif features is not None:
            frechet = m in ("fd", "fid")
            name = features.frechet_name if frechet else features.kernel_name
            compute = frechet_score if frechet else kernel_score
            protocol = (
                f"{name}: {features.protocol}{scale}, {len(sets[0])} and {len(sets[1])} images"
            )
            scores[name] = compute(sets[0], sets[1], protocol, seed=seed)
    report = FolderReport(
        scores,
        compared,
        values,
        [n for n in first.files if n not in second.files],
        [n for n in second.files if n not in first.files],
        unreadable,
        left_out,
        first.ignored + second.ignored,
        {
            "real": str(first.path),
            "fake": str(second.path),
            "metrics": chosen,
            "resize": resize,
            "seed": seed,
        },
    )
    if out is not None:
        report.save(out)
    return report


def _checked_metrics(
    metrics: Sequence[str], lpips_network: LPIPS | None, resize: int | None
) -> list[str]:
    chosen = list(dict.fromkeys(metrics))
    unknown = [m for m in chosen if m not in METRICS]
    if isinstance(metrics, str) or unknown or not chosen:
        raise ValueError(f"`metrics` must be a list of some of {METRICS}, got {metrics!r}")
    if "lpips" in chosen and lpips_network is None:
        raise ValueError(
            "`metrics` has 'lpips', which needs `lpips_network`: load_lpips(FILE) with "
            "torchvision's AlexNet, VGG-16 or SqueezeNet weights"
        )
    if resize is not None and not 1 <= resize <= _LARGEST_SIDE:
        raise ValueError(f"`resize` must be a side of 1 to {_LARGEST_SIDE} pixels, got {resize}")
    return chosen


def _check_out(out: str | os.PathLike[str]) -> None:
    """What would fail, or destroy a picture, at the end of an hour's work."""
    path = checked_path(out)
    if not path.resolve().parent.is_dir():
        raise ValueError(f"`out` must lie in a folder that exists, got {os.fspath(out)!r}")
    if path.is_dir() or path.suffix.lower() in _SUFFIXES:
        what = "a folder" if path.is_dir() else "a picture's name"
        raise ValueError(f"`out` must name a JSON file, got {what}, {os.fspath(out)!r}")
    if not os.access(path.resolve().parent, os.W_OK):
        raise ValueError(f"`out` must lie in a folder that can be written, got {os.fspath(out)!r}")


def _readable(folder: _Folder, load: Callable[[_Folder, str], Tensor | None]) -> Iterator[Tensor]:
    for name in folder.files:
        image = load(folder, name)
        if image is not None:
            yield _signed(image)


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def _signed(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1


def _resized(x: Tensor, side: int) -> Tensor:
    if x.shape[-2:] == (side, side):
        return x
    return resize_clean(x.float(), side).round().clamp(0, 255).to(torch.uint8)


def _lpips(network: LPIPS, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return network(_signed(x).to(network.shift), _signed(y).to(network.shift)).item()
