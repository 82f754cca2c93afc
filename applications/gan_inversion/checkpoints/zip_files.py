"""Zip archives of which nothing is believed that was not compared."""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO

from .limits import (
    FREE_UNPACK_BYTES,
    MAX_HEADER_BYTES,
    MAX_UNPACK_FACTOR,
    CutShort,
    Refused,
    shown,
)

_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"


class Archive:
    """The entries of a zip archive, by name.

    Python's zipfile finds them; here it is made sure that no two share a name or bytes, that none
    unpacks to more than a bounded multiple of the file, and that lengths and CRC-32 are right.

    Args:
        file: open for reading in binary.
        size: its bytes.

    Raises:
        Refused: not a whole zip archive, or a hostile one.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        declared = self._check_directory(file, size)
        try:
            self._zip = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise Refused(
                f"its zip directory is damaged ({shown(error)}); fetch it again"
            ) from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        unpacked = 0
        end = 0
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.filename in self._entries:
                raise Refused(f"its zip has two entries {shown(info.filename)}; it is damaged")
            if info.header_offset < end or info.header_offset + info.compress_size > size:
                raise Refused("its zip entries overlap: damaged, or made to exhaust memory")
            if info.flag_bits & 0x1:
                raise Refused("its zip is encrypted; unpack it with the password first")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(f"its zip uses the compression {info.compress_type}")
            if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
                raise Refused("its zip has an entry with two sizes; it is damaged")
            end = info.header_offset + 30 + info.compress_size
            unpacked += info.file_size
            self._entries[info.filename] = info
        # A damaged length in one entry of the directory can swallow those that follow it.
        if len(self._entries) != declared:
            raise Refused(
                f"its zip directory lists {len(self._entries)} entries and says {declared}; "
                "it is damaged: fetch it again"
            )
        if unpacked > MAX_UNPACK_FACTOR * size + FREE_UNPACK_BYTES:
            raise Refused(
                f"its zip unpacks from {size >> 20} to {unpacked >> 20} MiB: made to exhaust memory"
            )

    @staticmethod
    def _check_directory(file: BinaryIO, size: int) -> int:
        """Bound the directory, of which zipfile makes an object per entry, before it is read.

        Returns:
            How many entries it says it has, which zipfile does not look at.
        """
        start = max(0, size - 65557)
        file.seek(start)
        tail = file.read(size - start)
        found = tail.rfind(_END)
        if found < 0 or len(tail) - found < 22:
            raise CutShort("a zip archive without its directory, which is at its end")
        count = int.from_bytes(tail[found + 10 : found + 12], "little")
        length = int.from_bytes(tail[found + 12 : found + 16], "little")
        if length == 0xFFFFFFFF or count == 0xFFFF:
            found = tail.rfind(_END_64, 0, found)
            if found < 0:
                raise Refused("its zip lacks the directory of large archives; it is damaged")
            count = int.from_bytes(tail[found + 32 : found + 40], "little")
            length = int.from_bytes(tail[found + 40 : found + 48], "little")
        if length > MAX_HEADER_BYTES:
            raise Refused(f"its zip directory takes {length >> 20} MiB: no checkpoint's does")
        file.seek(0)
        return count

    @property
    def names(self) -> list[str]:
        """Names of the entries."""
        return list(self._entries)

    @property
    def packed(self) -> bool:
        """Whether any entry is compressed."""
        return any(info.compress_type != zipfile.ZIP_STORED for info in self._entries.values())

    def has(self, name: str) -> bool:
        """Whether there is an entry of that name."""
        return name in self._entries

    def size(self, name: str) -> int:
        """Bytes of an entry."""
        if name not in self._entries:
            raise Refused(f"its zip lacks the entry {shown(name)}; it is damaged")
        return self._entries[name].file_size

    def folder_of(self, name: str) -> str:
        """The one folder, with its slash, that has an entry of that name."""
        found = [n for n in self._entries if n == name or n.endswith("/" + name)]
        if len(found) != 1:
            raise Refused(f"its zip has {len(found)} entries {shown(name)}, expected one")
        return found[0][: len(found[0]) - len(name)]

    def read(self, name: str) -> bytearray:
        """The bytes of an entry, their number and CRC-32 checked."""
        content = bytearray(self.size(name))
        info = self._entries[name]
        try:
            with self._zip.open(info) as entry:
                view, done = memoryview(content), 0
                while done < len(content):
                    count = entry.readinto(view[done:])  # type: ignore[attr-defined]
                    if count == 0:
                        break
                    done += count
                more = entry.read(1)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise Refused(
                f"its zip entry {shown(name)} is damaged ({shown(error)}); fetch it again"
            ) from None
        if done != len(content) or more or zlib.crc32(content) != info.CRC:
            raise Refused(f"its zip entry {shown(name)} fails its checksum; fetch it again")
        return content
