"""What a file may ask for before it is refused, and the exception that says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

# A checkpoint with optimiser, generator and discriminator needs about 100,000 operations; two
# million take seconds and some hundred MB in the worst case, whatever the file is made of.
MAX_OPERATIONS = 2_000_000
MAX_DEPTH = 100
MAX_MODULES = 100_000
# Python hashes text with a secret key, and small integers to themselves. Keys of any other kind
# can be made to collide, which turns a dict of them into quadratic work.
MAX_ODD_KEYS = 1_000
MAX_SETS = 10_000
# Views of one storage cost nothing here, and memory in whoever copies them.
MAX_VIEW_FACTOR = 16
FREE_VIEW_BYTES = 256 * 2**20
MAX_COPY_FACTOR = 2
MAX_HEADER_BYTES = 16 * 2**20
MAX_UNPACK_FACTOR = 20
FREE_UNPACK_BYTES = 64 * 2**20


class Refused(Exception):
    """Why a file cannot be used; the door turns it into a CheckpointError with the path."""


class NotAPickle(Refused):
    """The file is no pickle, or no longer one."""


class CutShort(Refused):
    """The file ends before its content does."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the file is cut short ({what}); probably an interrupted download: fetch it again"
        )


@dataclass(frozen=True)
class Global:
    """A name in a pickle: two words, of which nothing is ever looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def printable(text: str) -> str:
    r"""Text on one line, with escapes for what would control a terminal.

    Example:
        >>> printable("a \x1b[2J b")
        'a \\x1b[2J b'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


_SHOWN = (str, bytes, int, float, type(None), Exception, Global)


def shown(value: object, length: int = 80) -> str:
    """A value from a file, made safe for a message: ASCII, one line, not long.

    Containers are named by their type only: one that holds itself twice, again and again, has few
    bytes and a text without end. Tuples of numbers are shown.
    """
    flat = isinstance(value, tuple) and all(isinstance(n, (int, float)) for n in value[:64])
    if not (isinstance(value, _SHOWN) or (flat and len(value) <= 64)):  # type: ignore[arg-type]
        value = f"a {type(value).__name__}"
    quoted = ascii(str(value))[1:-1]
    return quoted if len(quoted) <= length else quoted[: length - 3] + "..."


class Stream:
    """A file that never reads beyond its end, and counts what is asked of it.

    Args:
        file: open for reading in binary, at ``position``.
        size: bytes of the file in all.
    """

    def __init__(self, file: BinaryIO, size: int, position: int = 0) -> None:
        self._file, self.size, self.position = file, size, position

    @property
    def left(self) -> int:
        """Bytes up to the end."""
        return self.size - self.position

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes; the count is compared with what is left before any allocation.

        Raises:
            CutShort: there are not so many.
        """
        self._want(count)
        content = self._file.read(count)
        self.position += len(content)
        if len(content) != count:
            raise CutShort(f"{count - len(content)} bytes are missing")
        return content

    def read_into(self, count: int) -> bytearray:
        """As :meth:`read`, as memory that a tensor can own."""
        self._want(count)
        content = bytearray(count)
        done = self._file.readinto(content)  # type: ignore[attr-defined]
        self.position += done
        if done != count:
            raise CutShort(f"{count - done} bytes are missing")
        return content

    def line(self) -> bytes:
        """The bytes up to the next line feed, without it."""
        content = self._file.readline(self.left)
        self.position += len(content)
        if not content.endswith(b"\n"):
            raise CutShort("a line has no end")
        return content[:-1]

    def _want(self, count: int) -> None:
        if count < 0:
            raise Refused(f"it declares a length of {count} bytes; it is damaged")
        if count > self.left:
            raise CutShort(f"it declares {count} bytes where {self.left} are left")
