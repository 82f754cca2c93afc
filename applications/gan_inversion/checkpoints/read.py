"""The one door through which files from others come in: ``read_checkpoint``."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CheckpointError
from .array_files import NPY_MAGIC, read_npy, read_npz, read_safetensors
from .limits import CutShort, NotAPickle, Refused, Stream, shown
from .torch_files import read_pickles, read_torch_zip
from .zip_files import Archive

# How a file begins -> what it is, and what to do. Asked before anything is parsed.
_NOT_CHECKPOINTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec",
        "it is a git-LFS pointer, a note of where the content lies; run `git lfs pull` in the "
        "repository it came from, or download the file itself",
    ),
    (b"\x1f\x8b", "it is packed with gzip; unpack it with `gunzip` (a .tar.gz with `tar xzf`)"),
    (b"BZh", "it is packed with bzip2; unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "it is packed with xz; unpack it with `unxz`"),
    (b"(\xb5/\xfd", "it is packed with zstd; unpack it with `unzstd`"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"Rar!", "it is a rar archive; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file (Keras), which no supported network comes in"),
    (b"\x89PNG", "it is a PNG picture"),
    (b"\xff\xd8\xff", "it is a JPEG picture"),
    (b"GIF8", "it is a GIF picture"),
    (b"%PDF", "it is a PDF document"),
    (b"\x7fELF", "it is a program"),
    (b"MZ", "it is a Windows program"),
    (b"#!", "it is a script"),
)
_WEB = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<script", b"<!--")


@dataclass(frozen=True)
class Content:
    """What :func:`read_content` found.

    Attributes:
        container: "torch zip", "torch legacy", "pickle", "npz", "npy" or "safetensors".
        tree: nested dicts, lists, tuples, tensors and plain values.
        metadata: of safetensors.
        checksummed: whether the container would show damage to any number in it.
        size: bytes.
        sha256: of the whole file, where it was asked for.
    """

    container: str
    tree: Any
    metadata: dict[str, str] = field(default_factory=dict)
    checksummed: bool = False
    size: int = 0
    sha256: str | None = None


def read_checkpoint(path: str | os.PathLike[str], sha256: str | None = None) -> Any:
    """Read a file of weights from anywhere, without executing anything in it.

    What a file is, is seen from its content, never from its name: ``torch.save`` (both
    containers), pickles of protocols 0 to 5 (NVlabs' ``.pkl`` among them), ``.npy``, ``.npz``,
    safetensors. Arrays become tensors; a network that was pickled as an object becomes
    ``{"class_name", "state", "attributes", "init_args", "init_kwargs"}`` with the content of its
    ``state_dict()`` in ``state``; source code stored beside it is never run.

    What damage is found: any at all, if ``sha256`` is given. Without it, any change to the numbers
    of a ``torch.save`` zip or an .npz (they carry CRC-32), and in every container a change of
    length or of a size. Legacy ``torch.save``, pickle, .npy and safetensors have no checksum: a
    changed bit inside a number there is a changed number, which only ``sha256`` can show.

    Args:
        path: the file.
        sha256: what the file must hash to, 64 hexadecimal digits.

    Returns:
        Nested dicts, lists, tuples, CPU tensors (contiguous or as they were saved) and plain
        values; tensors that shared memory share it.

    Raises:
        CheckpointError: with the path, and why the file cannot be used and what to do: missing,
            not a checkpoint (an HTML page, a git-LFS pointer, ...), cut short, damaged, or hostile.
        TypeError: ``path`` is not a path.
        ValueError: ``sha256`` is not one.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.mkdtemp()
        >>> torch.save({"w": torch.arange(3.0)}, folder + "/a.pt")
        >>> read_checkpoint(folder + "/a.pt")
        {'w': tensor([0., 1., 2.])}
    """
    return read_content(path, sha256).tree


def read_content(
    path: str | os.PathLike[str], sha256: str | None = None, *, digest: bool = False
) -> Content:
    """As :func:`read_checkpoint`, with the container, metadata and, on request, the SHA-256."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a str or a path, got {type(path).__name__}")
    if sha256 is not None and not _is_sha256(sha256):
        raise ValueError(f"`sha256` must be 64 hexadecimal digits, got {sha256!r}")
    path = Path(os.fspath(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("it is not a file; name the file itself")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = _sha256(file) if digest or sha256 is not None else None
            if sha256 is not None and found != sha256.lower():
                raise Refused(f"its SHA-256 is {found}, expected {sha256.lower()}; fetch it again")
            return _read(file, size, found)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except PermissionError:
        raise CheckpointError(f"{path}: it may not be read; check its access rights") from None
    except Refused as refusal:
        raise CheckpointError(f"{path}: {refusal}") from refusal
    except MemoryError as error:
        raise CheckpointError(f"{path}: there is not enough memory to read it") from error
    # Whatever a damaged file makes the parsers below stumble over is damage, and one exception.
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read; it is damaged ({type(error).__name__}: {shown(error)})"
        ) from error


def _is_sha256(text: Any) -> bool:
    return (
        isinstance(text, str)
        and len(text) == 64
        and all(digit in "0123456789abcdef" for digit in text.lower())
    )


def _sha256(file: BinaryIO) -> str:
    found = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    file.seek(0)
    return found.hexdigest()


def _read(file: BinaryIO, size: int, sha256: str | None) -> Content:
    head = file.read(512)
    file.seek(0)
    _check_head(head, size)
    if head[:2] == b"PK":
        archive = Archive(file, size)
        if any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.names):
            return Content("torch zip", read_torch_zip(archive, size), {}, True, size, sha256)
        if archive.names and all(name.endswith(".npy") for name in archive.names):
            return Content("npz", read_npz(archive), {}, True, size, sha256)
        raise Refused(
            f"it is a zip archive of {len(archive.names)} other files "
            f"({shown(', '.join(archive.names[:3]))}); unpack it first"
        )
    if head.startswith(NPY_MAGIC):
        return Content("npy", read_npy(Stream(file, size)), {}, False, size, sha256)
    # A header of less than 4 GiB, as eight bytes, then JSON.
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        tree, metadata = read_safetensors(Stream(file, size))
        return Content("safetensors", tree, metadata, False, size, sha256)
    try:
        container, tree = read_pickles(file, size)
    except (NotAPickle, CutShort):
        if _is_text(head):
            start = shown(head[:40].decode())
            raise Refused(f"it is text, not weights; it begins {start!r}") from None
        raise
    return Content(container, tree, {}, False, size, sha256)


def _is_text(head: bytes) -> bool:
    """Whether a file begins as people write. A pickle of protocol 0 has letters, but no words."""
    return head.isascii() and b" " in head and all(32 <= c < 127 or c in b"\t\r\n" for c in head)


def _check_head(head: bytes, size: int) -> None:
    """Name what is not a checkpoint at all."""
    if size == 0:
        raise Refused("it is empty; the download failed or the disk was full: fetch it again")
    if not any(head):
        raise Refused("it begins with nothing but zeros; the download failed: fetch it again")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_WEB):
        raise Refused(
            "it is a web page (HTML), not weights: the link led to a page that asks for a click, "
            "a login or a quota; download the file itself in a browser"
        )
    if text.startswith((b'{"', b"{'", b"{\n", b"{}")):
        raise Refused("it is text (JSON), not weights; perhaps a server's error message")
    if head[257:262] == b"ustar":
        raise Refused("it is a tar archive (or from torch before 0.1.10); unpack it first")
    for magic, what in _NOT_CHECKPOINTS:
        if head.startswith(magic):
            raise Refused(what)
