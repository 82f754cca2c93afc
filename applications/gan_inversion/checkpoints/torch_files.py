"""torch.save's two containers, and pickles without one."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from .limits import Global, Refused, Stream, shown
from .plain import to_plain
from .recipes import Recipes, storage_dtype
from .tensors import Storage, ViewBudget
from .unpickle import Machine
from .zip_files import Archive

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_torch_zip(archive: Archive, size: int) -> Any:
    """Read what torch.save writes since version 1.6: a zip of a pickle and one entry per storage.

    Every entry carries a CRC-32, so damage to a number is found.
    """
    prefix = archive.folder_of("data.pkl")
    if archive.has(prefix + "constants.pkl"):
        raise Refused(
            "it is a TorchScript archive (torch.jit.save), which holds a program; "
            "get the plain checkpoint"
        )
    if archive.packed:
        raise Refused("its zip entries are compressed, which torch.save never does")
    order = archive.read(prefix + "byteorder") if archive.has(prefix + "byteorder") else b"little"
    if bytes(order) != b"little":
        raise Refused(f"it was written with the byte order {shown(bytes(order))}; save it again")
    storages: dict[str, Storage] = {}

    def persistent(reference: Any) -> Storage:
        kind, cls, key, _, numel = _storage_reference(reference, 5)
        if kind != "storage":
            raise Refused(f"it refers to {shown(kind)}, which is not a storage")
        name = f"{prefix}data/{key}"
        storage = Storage(storage_dtype(cls), numel, lambda: archive.read(name))
        if archive.size(name) != storage.nbytes:
            raise Refused(f"storage {shown(key)} has another size than its pickle says")
        known = storages.setdefault(key, storage)
        if (known.dtype, known.numel) != (storage.dtype, numel):
            raise Refused(f"storage {shown(key)} is described in two ways; it is damaged")
        return known

    recipes = Recipes(size)
    content = archive.read(prefix + "data.pkl")
    stream = Stream(io.BytesIO(content), len(content))
    value = Machine(recipes).run(stream, persistent)
    if stream.left:
        raise Refused(f"{stream.left} bytes follow its pickle; it is damaged")
    return to_plain(value, ViewBudget(size))


def read_pickles(file: BinaryIO, size: int) -> tuple[str, Any]:
    """Read a pickle, or what torch.save wrote before version 1.6: pickles, then the storages.

    Returns:
        ``"pickle"`` or ``"torch legacy"``, and the content.
    """
    stream = Stream(file, size)
    recipes = Recipes(size, _nested)
    machine = Machine(recipes)
    # A first pass over a raw pickle cannot know yet; what refers outside tells it is legacy.
    value = machine.run(stream)
    budget = ViewBudget(size)
    if type(value) is int and value == LEGACY_MAGIC:
        value, finish = _legacy(stream, machine)
        finish()
        kind = "torch legacy"
    else:
        kind = "pickle"
    if stream.left:
        raise Refused(
            f"{stream.left} bytes follow its content; it is damaged, or two files were joined"
        )
    return kind, to_plain(value, budget)


def _nested(content: bytes, machine: Machine) -> Storage:
    """The storage in the bytes of a tensor that was pickled without torch.save."""
    stream = Stream(io.BytesIO(content), len(content))
    recipes, machine.recipes = machine.recipes, Recipes(len(content))
    try:
        if machine.run(stream) != LEGACY_MAGIC:
            raise Refused("it holds a storage that is not torch's")
        value, finish = _legacy(stream, machine)
    finally:
        machine.recipes = recipes
    if not isinstance(value, Storage):
        raise Refused("it holds something else where a storage should be")
    finish()
    if stream.left:
        raise Refused("it holds a storage that does not end where it should; it is damaged")
    return value


def _legacy(stream: Stream, machine: Machine) -> tuple[Any, Callable[[], None]]:
    if machine.run(stream) != _LEGACY_PROTOCOL:
        raise Refused("its torch protocol is not 1001; it is damaged or from a later torch")
    system = machine.run(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("it was not written with the byte order 'little'; save it again")
    storages: dict[str, Storage] = {}
    declared = 0

    def persistent(reference: Any) -> Any:
        nonlocal declared
        if isinstance(reference, tuple) and reference and reference[0] == "module":
            # The class of a network that was saved whole, with its source, which stays unread.
            if len(reference) != 4 or not isinstance(reference[1], Global):
                raise Refused("it refers to a network's class in an unknown way; it is damaged")
            return reference[1]
        kind, cls, key, _, numel, view = _storage_reference(reference, 6)
        if kind != "storage":
            raise Refused(f"it refers to {shown(kind)}, which is not a storage")
        if view is not None:
            raise Refused(
                "it holds a view of a storage as torch wrote it before 0.4; save it again"
            )
        if key not in storages:
            storages[key] = Storage(storage_dtype(cls), numel)
            declared += storages[key].nbytes
            if declared > stream.left:
                raise Refused(
                    f"it declares {declared} bytes of numbers where {stream.left} are left; "
                    "it is cut short (an interrupted download: fetch it again) or damaged"
                )
        known = storages[key]
        if (known.dtype, known.numel) != (storage_dtype(cls), numel):
            raise Refused(f"storage {shown(key)} is described in two ways; it is damaged")
        return known

    value = machine.run(stream, persistent)

    def finish() -> None:
        keys = machine.run(stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Refused("its list of storages is damaged")
        if sorted(keys) != sorted(storages):
            raise Refused("its list of storages is not that of its tensors; it is damaged")
        for key in keys:
            numel = int.from_bytes(stream.read(8), "little", signed=True)
            if numel != storages[key].numel:
                raise Refused(f"storage {shown(key)} has another size than its pickle says")
            content = stream.read_into(storages[key].nbytes)
            storages[key].load = lambda content=content: content

    return value, finish


def _storage_reference(reference: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(reference, tuple) or len(reference) != length:
        raise Refused("it refers to a storage in an unknown way; it is damaged")
    key, numel = reference[2], reference[4]
    if not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
        raise Refused(f"it refers to a storage {shown(key)} of {shown(numel)} numbers")
    return reference
