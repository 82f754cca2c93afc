"""Edit directions in the W space of StyleGAN2-FFHQ: the shipped ones, and files people have.

The shipped file was fitted by :mod:`gan_inversion.training.fit_directions`; how, and how well,
is in `data/directions.md`. Every direction is linear: row `l` of a code moves by
`strength * vector[l]` for the rows in `layers` and by nothing for the others.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_inversion.errors import CheckpointError, GanInversionError

__all__ = [
    "DIRECTIONS_FILE",
    "Direction",
    "Directions",
    "UnknownDirectionError",
    "load_direction_file",
    "load_directions",
    "save_directions",
]

DIRECTIONS_FILE = Path(__file__).parent / "data" / "directions.safetensors"
DIRECTIONS_SHA256 = "3c68dddc9fc37c84dc00fde23861ec8ab4be3fcf1e58627f54b3791a161acf99"

NUM_ROWS = 16  # of a MobileStyleGAN code
FOREIGN_ROWS = 18  # of a StyleGAN2-1024 code, which files in circulation are made for
W_DIM = 512
_HEADER_KEY = "gan_inversion.directions"
_MAX_BYTES = 64 * 2**20


class UnknownDirectionError(GanInversionError, KeyError):
    """A direction name that the registry does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, eq=False)
class Direction:
    """One edit: a vector in W, the rows it moves and the strengths it is good for.

        w_plus[:, l] += strength * vector[l]      for l in layers

    Attributes:
        name: what users type.
        vector: float32, [512] (the same for every row) or [16, 512].
        layers: rows of the code that move, increasing.
        space: "w"; kept so that other spaces can be told apart.
        range: (lowest, highest) useful strength, judged by looking at sheets.
        origin: who made it and how, in a few words.
        description: what a positive strength does, and known side effects.
        unit: what strength 1 amounts to.

    Example:
        >>> d = Direction("up", torch.eye(512)[0], tuple(range(16)))
        >>> d.apply(torch.zeros(1, 16, 512), 2.0)[0, 3, 0].item()
        2.0
    """

    name: str
    vector: Tensor
    layers: tuple[int, ...] = tuple(range(NUM_ROWS))
    space: str = "w"
    range: tuple[float, float] = (-3.0, 3.0)
    origin: str = ""
    description: str = ""
    unit: str = "a unit vector in W"

    def __post_init__(self) -> None:
        shape = tuple(self.vector.shape)
        if shape not in ((W_DIM,), (NUM_ROWS, W_DIM)):
            raise ValueError(
                f"`vector` must have shape [{W_DIM}] or [{NUM_ROWS}, {W_DIM}], got {list(shape)}"
            )
        _check_layers(self.layers)
        if not self.range[0] < self.range[1]:
            raise ValueError(f"`range` must be (lowest, highest), got {self.range}")

    def delta(self) -> Tensor:
        """Return what strength 1 adds to a code, [16, 512]: zero in rows that do not move."""
        delta = torch.zeros(NUM_ROWS, W_DIM, dtype=self.vector.dtype, device=self.vector.device)
        rows = list(self.layers)
        delta[rows] = self.vector if self.vector.ndim == 1 else self.vector[rows]
        return delta

    def apply(self, w_plus: Tensor, strength: float | Tensor) -> Tensor:
        """Move a code along the direction; the input is not changed.

        Args:
            w_plus: [B, 16, 512].
            strength: one number, or a tensor [B]; differentiable with respect to it.

        Returns:
            The moved code, [B, 16, 512], on the device and in the dtype of `w_plus`.

        Raises:
            ValueError: another shape.

        Warns:
            UserWarning: the strength is outside `range`; the face may change or break.
        """
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != (NUM_ROWS, W_DIM):
            raise ValueError(
                f"`w_plus` must have shape [B, {NUM_ROWS}, {W_DIM}], got {list(w_plus.shape)}; "
                "broadcast a W code with generator.broadcast(w)"
            )
        delta = self.delta().to(w_plus)
        if isinstance(strength, Tensor):
            if strength.ndim > 1 or (strength.ndim and len(strength) != len(w_plus)):
                raise ValueError(
                    f"`strength` must be a number or have shape [{len(w_plus)}], "
                    f"got {list(strength.shape)}"
                )
            values = strength.detach().reshape(-1)
            lowest, highest = (values.min().item(), values.max().item()) if len(values) else (0, 0)
            strength = strength.to(w_plus).reshape(-1, 1, 1)
        else:
            lowest = highest = float(strength)
        if lowest < self.range[0] or highest > self.range[1]:
            worst = lowest if lowest < self.range[0] else highest
            warnings.warn(
                f"strength {worst:g} of {self.name!r} is outside its useful range "
                f"{self.range[0]:g} to {self.range[1]:g}: other things may change or break",
                stacklevel=2,
            )
        return w_plus + strength * delta


class Directions(dict[str, Direction]):
    """Directions by name; an unknown name raises an error that lists the names there are."""

    def __missing__(self, name: str) -> Direction:
        close = difflib.get_close_matches(str(name), list(self), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UnknownDirectionError(
            f"there is no direction {name!r}{hint}; known: {', '.join(sorted(self)) or 'none'}"
        )


# ------------------------------------------------------------------------------- our own format
def save_directions(
    directions: Mapping[str, Direction],
    path: str | Path,
    notes: Mapping[str, Any] | None = None,
) -> str:
    """Write directions as safetensors: half-precision vectors, the rest as JSON in the header.

    Args:
        directions: name -> direction.
        path: where to write.
        notes: JSON-able facts about the fit (seed, samples, ...), kept in the header.

    Returns:
        SHA-256 of the file, hexadecimal.
    """
    from safetensors.torch import save

    tensors = {name: d.vector.half().contiguous() for name, d in directions.items()}
    facts = {
        name: {f.name: getattr(d, f.name) for f in fields(d) if f.name not in ("name", "vector")}
        for name, d in directions.items()
    }
    header = {_HEADER_KEY: json.dumps({"directions": facts, "notes": dict(notes or {})})}
    blob = save(tensors, header)
    Path(path).write_bytes(blob)
    return hashlib.sha256(blob).hexdigest()


def load_directions(path: str | Path | None = None, sha256: str | None = None) -> Directions:
    """Load the directions that ship with the project, or another file of the same format.

    Args:
        path: a file written by :func:`save_directions`; None means the shipped one.
        sha256: what the file must hash to; None checks the shipped file only.

    Returns:
        name -> :class:`Direction` (a dict whose error for unknown names lists the known ones).

    Raises:
        CheckpointError: the file is missing, damaged, or not what `sha256` says.

    Example:
        >>> sorted(load_directions())[0]
        'age'
    """
    if path is None:
        return Directions(_shipped())
    return _load(Path(path), sha256)


@functools.lru_cache(maxsize=1)
def _shipped() -> Directions:
    return _load(DIRECTIONS_FILE, DIRECTIONS_SHA256)


def _load(path: Path, sha256: str | None) -> Directions:
    from safetensors import SafetensorError
    from safetensors.torch import load

    blob = _read_bytes(path)
    digest = hashlib.sha256(blob).hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(f"{path}: SHA-256 is {digest}, expected {sha256}; fetch it again")
    try:
        tensors = load(blob)
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])["__metadata__"][_HEADER_KEY]
        facts = json.loads(header)["directions"]
        directions = Directions()
        for name, entry in facts.items():
            entry = {**entry, "layers": tuple(entry["layers"]), "range": tuple(entry["range"])}
            directions[name] = Direction(name=name, vector=tensors[name].float(), **entry)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a file of directions: {error!r}") from error
    return directions


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise CheckpointError(
                f"{path}: {size} bytes; a file of directions has less than {_MAX_BYTES}"
            )
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


# --------------------------------------------------------------------------------- foreign files
def load_direction_file(
    path: str | Path,
    name: str | None = None,
    layers: Sequence[int] | None = None,
    sign: int = 1,
    component: int | None = None,
    normalize: bool = True,
) -> Direction:
    """Load a direction somebody published for StyleGAN2-FFHQ: `.pt`, `.pth` or `.npy`.

    Nothing in the file is executed (`weights_only=True`, `allow_pickle=False`).

    Accepted: an array (512,), (1, 512), (18, 512), (1, 18, 512), or with 16 rows; of 18 rows the
    first 16 are used, since this generator has no counterpart of the last two. Or a GANSpace
    file, a dict with `comp` and `std`: name a `component`; strength is then in standard
    deviations of that component (added, not set as an absolute coordinate).

    Traps in files in circulation, which no loader can detect, so look at a sheet first: reversed
    signs (pass `sign=-1`), one vector under two names, and directions of StyleGAN1, whose W space
    is another one.

    Args:
        path: the file.
        name: name of the direction; None takes the file's stem.
        layers: rows to move; None means all 16.
        sign: 1, or -1 for a file whose sign is reversed.
        component: index of the component, for GANSpace files only.
        normalize: scale so that the moved rows have norm 1 (root mean square, if they differ),
            the scale the shipped directions use. This also mends files of unequal rows whose norm
            is 1 in total instead of per row. False keeps the file's scale. GANSpace components
            keep their standard deviation in any case.

    Returns:
        A :class:`Direction` with range -3 to 3.

    Raises:
        CheckpointError: the file cannot be read safely or does not hold such an array; the
            message names the path and the reason.
        ValueError: `sign`, `layers` or `component` is not usable.

    Example:
        smile = load_direction_file("smile.pt", sign=-1)
    """
    path = Path(path)
    if sign not in (1, -1):
        raise ValueError(f"`sign` must be 1 or -1, got {sign!r}")
    rows = tuple(range(NUM_ROWS)) if layers is None else tuple(sorted({int(i) for i in layers}))
    _check_layers(rows)
    content = _read_foreign(path)
    if isinstance(content, Mapping):
        vector, is_component = _from_mapping(path, content, component)
    elif component is not None:
        raise ValueError(
            f"`component` is for GANSpace files (a dict with comp and std); {path} holds an array"
        )
    else:
        vector, is_component = _to_rows(path, content), False
    if not torch.isfinite(vector).all():
        raise CheckpointError(f"{path}: the direction holds values that are not finite")
    moved = vector if vector.ndim == 1 else vector[list(rows)]
    scale = float(moved.double().norm(dim=-1).square().mean().sqrt())
    if scale < 1e-8:
        raise CheckpointError(f"{path}: the direction is zero in rows {list(rows)}")
    unit = "one standard deviation of the component" if is_component else "a unit vector in W"
    if normalize and not is_component:
        vector = vector / scale
    elif not is_component:
        unit = f"the file's own scale: a move of {scale:.3g} in W"
    stem = path.stem if component is None else f"{path.stem}_{component}"
    return Direction(
        name=name or stem,
        vector=sign * vector,
        layers=rows,
        origin=f"file {path.name}" + (", sign reversed" if sign < 0 else ""),
        description="loaded from a file; look at a sheet before trusting its name or sign",
        unit=unit,
    )


def _read_foreign(path: Path) -> Any:
    blob_size = len(_read_bytes(path))
    suffix = path.suffix.lower()
    if suffix not in (".pt", ".pth", ".npy"):
        raise CheckpointError(f"{path}: expected a .pt, .pth or .npy file, got {suffix!r}")
    if not blob_size:
        raise CheckpointError(f"{path}: the file is empty")
    try:
        if suffix == ".npy":
            return torch.from_numpy(_native(np.load(path, allow_pickle=False)))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        TypeError,
        EOFError,
        OSError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path}: cannot be read without executing what is in it: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error


def _native(array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise ValueError("not a single array")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"array of {array.dtype}, expected numbers")
    return np.ascontiguousarray(array, dtype=np.float32)


def _to_rows(path: Path, value: Any) -> Tensor:
    """Return [512] where all rows are equal, else [16, 512]."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.dtype.is_signed):
        raise CheckpointError(f"{path}: expected an array of numbers, got {_describe(value)}")
    array = value.detach().float()
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2 and array.shape == (1, W_DIM):
        array = array[0]
    if tuple(array.shape) == (W_DIM,):
        return array.clone()
    if tuple(array.shape) in ((NUM_ROWS, W_DIM), (FOREIGN_ROWS, W_DIM)):
        array = array[:NUM_ROWS].clone()
        return array[0].clone() if (array == array[0]).all() else array
    raise CheckpointError(
        f"{path}: a direction has shape (512,), (1, 512), (16 or 18, 512) or (1, 16 or 18, 512); "
        f"got {tuple(value.shape)}"
    )


def _from_mapping(
    path: Path, content: Mapping[Any, Any], component: int | None
) -> tuple[Tensor, bool]:
    if {"comp", "std"} <= set(content):
        comp, std = content["comp"], content["std"]
        if not (isinstance(comp, Tensor) and isinstance(std, Tensor)):
            raise CheckpointError(f"{path}: `comp` and `std` must be tensors")
        comp, std = comp.detach().float(), std.detach().float().reshape(-1)
        if comp.numel() != len(std) * W_DIM or comp.shape[-1] != W_DIM:
            raise CheckpointError(
                f"{path}: {len(std)} deviations for components of shape {tuple(comp.shape)}"
            )
        if component is None:
            raise ValueError(f"{path} is a GANSpace file: pass `component`, 0 to {len(std) - 1}")
        if not 0 <= component < len(std):
            raise ValueError(f"`component` must be 0 to {len(std) - 1}, got {component}")
        return comp.reshape(-1, W_DIM)[component] * std[component], True
    tensors = [v for v in content.values() if isinstance(v, Tensor)]
    if len(tensors) != 1:
        raise CheckpointError(
            f"{path}: expected one array or a GANSpace dict (comp, std), got {_describe(content)}"
        )
    if component is not None:
        raise ValueError(f"`component` is for GANSpace files; {path} holds one array")
    return _to_rows(path, tensors[0]), False


def _check_layers(layers: Sequence[int]) -> None:
    if not layers or any(not 0 <= i < NUM_ROWS for i in layers):
        raise ValueError(f"`layers` must be rows from 0 to {NUM_ROWS - 1}, got {list(layers)}")


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with keys {[str(k) for k in list(value)[:8]]}"
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return type(value).__name__
