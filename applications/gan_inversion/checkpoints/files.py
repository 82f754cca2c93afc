"""Our own files: safetensors with a SHA-256 over every name, number and setting, and a card.

safetensors holds no program, and no checksum either: of 1,500 files with random damage, 312 load
with other values than were written. The digest in the metadata finds all of it. It is a checksum
and not a signature: whoever makes a file can make its digest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergraph._files import TEMPORARY, atomic_writer, checked_path

from ..errors import CheckpointError
from .array_files import SAFETENSORS_DTYPES
from .read import Content, read_content

FORMAT = "gan_inversion"
VERSION = "1"
_DIGESTED = ("format", "version", "network", "config", "card")


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """One network as it lies in a file.

    Attributes:
        network: name of its class, such as ``"StyleGAN2Generator"``.
        config: what the class is made with; plain values.
        state: its state dict.
        card: where it comes from, its licence, figures; plain values.
    """

    network: str
    config: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    card: dict[str, Any] = field(default_factory=dict)


def save_network(path: str | os.PathLike[str], content: NetworkFile) -> None:
    """Write a network so that a reader sees the old file or the new one, never a part.

    Left-over temporary files of writers that were killed at the same place are removed.

    Args:
        path: ends in ``.safetensors``.
        content: tensors on any device; they are stored contiguous, bit for bit.

    Raises:
        ValueError: another suffix, or a configuration or card that is not plain values.
        OSError: the folder does not exist, the disk is full, ...; an old file is kept.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.safetensors"
        >>> save_network(path, NetworkFile("Tiny", {"n": 1}, {"w": torch.ones(2)}))
        >>> load_network(path).state["w"]
        tensor([1., 1.])
    """
    path = checked_path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"`path` must end in .safetensors, got {path.name!r}")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in content.state.items()}
    metadata = {"format": FORMAT, "version": VERSION, "network": content.network}
    for name, value in (("config", content.config), ("card", content.card)):
        try:
            metadata[name] = json.dumps(value, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be plain values for JSON: {error}") from error
    metadata["sha256"] = digest(metadata, state)
    header = _header(metadata, state)
    clean_orphans(path)
    with atomic_writer(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in _order(state):
            if state[name].numel():
                file.write(_bytes(state[name]))


def _order(state: Mapping[str, Tensor]) -> list[str]:
    # The widest numbers first, as the safetensors library does, so that all of them are aligned.
    return sorted(state, key=lambda name: (-state[name].dtype.itemsize, name))


def _header(metadata: dict[str, str], state: Mapping[str, Tensor]) -> bytes:
    """The JSON of a safetensors file. (The library's own varies: its metadata has no order.)"""
    codes = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for name in _order(state):
        tensor = state[name]
        if tensor.dtype not in codes or name == "__metadata__":
            raise ValueError(f"`state`: {name!r} of {tensor.dtype} has no place in safetensors")
        end = position + tensor.nbytes
        place = {"shape": list(tensor.shape), "data_offsets": [position, end]}
        entries[name] = {"dtype": codes[tensor.dtype], **place}
        position = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def load_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read a file of :func:`save_network`.

    Raises:
        CheckpointError: another file, or one that is not as it was written.
    """
    content = read_content(path)
    try:
        found = own_network(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if found is None:
        raise CheckpointError(
            f"{path}: a {content.container} file that this project did not write; convert it with "
            "`gan-inversion convert IN OUT.safetensors`"
        )
    return found


def own_network(content: Content) -> NetworkFile | None:
    """What :func:`save_network` wrote, digest checked; None for a file that it did not write.

    Raises:
        CheckpointError: ours, and damaged; without the path.
    """
    metadata = content.metadata
    # Any of the two: a damaged name of one must not turn the file into somebody else's.
    if metadata.get("format") != FORMAT and "sha256" not in metadata:
        return None
    missing = [name for name in (*_DIGESTED, "sha256") if name not in metadata]
    if missing:
        raise CheckpointError(f"its metadata lacks {', '.join(missing)}; it is damaged")
    if digest(metadata, content.tree) != metadata["sha256"]:
        raise CheckpointError(
            "its content does not match its SHA-256; it is damaged: fetch or make it again"
        )
    if metadata["version"] != VERSION:
        raise CheckpointError(
            f"it has version {metadata['version']!r} of the format, this project reads {VERSION}; "
            "update the project"
        )
    config, card = (json.loads(metadata[name]) for name in ("config", "card"))
    if not isinstance(config, dict) or not isinstance(card, dict):
        raise CheckpointError("its configuration is not a dictionary")
    return NetworkFile(metadata["network"], config, content.tree, card)


def digest(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the metadata and every tensor's name, format, shape and bytes."""
    found = hashlib.sha256()
    head = [[name, metadata.get(name, "")] for name in _DIGESTED]
    found.update(json.dumps(head).encode())
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        entry = [name, str(tensor.dtype), list(tensor.shape), tensor.nbytes]
        # Lengths come first, so that no two contents share a stream of bytes.
        found.update(json.dumps(entry).encode())
        if tensor.numel():
            found.update(_bytes(tensor))
    return found.hexdigest()


def write_torch(path: str | os.PathLike[str], tree: Any) -> None:
    """``torch.save`` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: it cannot be written; an old file is kept.
    """
    try:
        with atomic_writer(path) as file:
            torch.save(tree, file)
    except RuntimeError as error:
        # torch.save closes its archive when a write fails, and complains about that instead.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None


@contextmanager
def workplace(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder beside ``path`` for what becomes of it in several steps; it goes away at the end.

    Its name is that of a temporary file, so :func:`clean_orphans` finds those of killed processes.
    """
    path = Path(os.path.realpath(checked_path(path)))
    clean_orphans(path)
    folder = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clean_orphans(path: str | os.PathLike[str], older_than: float = 600.0) -> list[Path]:
    """Remove what killed writers of ``path`` left beside it.

    What cannot be removed (another user's) stays. A folder of many writers has
    :func:`hypergraph._files.remove_orphans`.

    Args:
        path: the file that was to be written; others' temporary files are not touched.
        older_than: seconds since the last write, so that a writer at work keeps its file.

    Returns:
        What was removed.
    """
    if not math.isfinite(older_than) or older_than < 0:
        raise ValueError(f"`older_than` must be seconds from 0 up, got {older_than}")
    path = Path(os.path.realpath(checked_path(path)))
    start = f".{path.name[:100]}."
    length = len(start) + 16 + len(".tmp")
    removed = []
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            name = other.name
            if not name.startswith(start) or len(name) != length or not TEMPORARY.fullmatch(name):
                continue
            with suppress(OSError):  # its writer finished, or it is another user's
                if time.time() - _last_write(other) < older_than:
                    continue
                if other.is_dir() and not other.is_symlink():
                    shutil.rmtree(other)
                else:
                    other.unlink()
                removed.append(other)
    return removed


def _last_write(path: Path) -> float:
    """When a file, or any in a folder, was last written to."""
    inside = path.iterdir() if path.is_dir() and not path.is_symlink() else ()
    return max(part.lstat().st_mtime for part in (path, *inside))
