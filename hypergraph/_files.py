"""Files: read whole and bounded, written at once."""

import gzip
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PathLike = str | os.PathLike[str]

# The names that `atomic_writer` gives its temporary files.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")

# More than this in one file is a mistake or an attack (a few MB of gzip unpack to it).
MAX_BYTES = 4 * 2**30


def checked_path(path: object) -> Path:
    """Return ``path`` as a Path, raise TypeError if it is not one."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a str or a path, got {type(path).__name__}")
    checked = Path(os.fspath(path))  # type: ignore[arg-type]
    if not checked.name:
        raise ValueError(f"`path` must name a file, got {str(path)!r}")
    return checked


def read_bytes(path: PathLike, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file, unpacked if its name ends in .gz.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is no gzip file, cut short, or larger than ``max_bytes``.
    """
    path = checked_path(path)
    if path.suffix == ".gz":
        try:
            with gzip.open(path, "rb") as packed:
                content = packed.read(max_bytes + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file: {error}") from error
    else:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(
            f"{path}: holds more than {max_bytes} bytes; pass a larger `max_bytes` if you trust it"
        )
    return content


def read_text(path: PathLike, max_bytes: int = MAX_BYTES) -> str:
    """The content of a UTF-8 file, see ``read_bytes``; a byte-order mark is skipped."""
    content = read_bytes(path, max_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from error


@contextmanager
def atomic_writer(path: PathLike) -> Iterator[BinaryIO]:
    """Write to a temporary file beside ``path`` that takes its place when all went well.

    Nobody ever sees half a file, and an old one survives an error. A name that ends in .gz is
    packed, without a time stamp, so that equal contents are equal files.
    """
    # Through a symbolic link, what it points to is replaced, not the link.
    path = Path(os.path.realpath(checked_path(path)))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` must lie in a folder that exists, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"`path` must name a file, got the folder {path}")
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_orphans(folder: PathLike) -> list[Path]:
    """Remove the temporary files that killed writers left in a folder; return their paths.

    Only for a folder that nobody else is writing to: a file being written would be removed, too.
    """
    orphans = [
        path for path in Path(folder).iterdir() if TEMPORARY.fullmatch(path.name) and path.is_file()
    ]
    for path in orphans:
        path.unlink(missing_ok=True)
    return orphans


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 text at once, see ``atomic_writer``."""
    content = text.encode("utf-8")
    with atomic_writer(path) as file:
        file.write(content)
