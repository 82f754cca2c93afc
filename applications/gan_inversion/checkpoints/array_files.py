"""numpy's .npy and .npz, and safetensors: containers without any program in them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import torch
from torch import Tensor

from .limits import MAX_HEADER_BYTES, CutShort, Refused, Stream, shown
from .tensors import array_tensor, flat_tensor, numpy_dtype
from .zip_files import Archive

NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,8})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), ?\} *\n?"
)
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def read_npy(stream: Stream) -> Tensor:
    """Read one array of numbers; arrays of objects (pickles inside) and text are refused."""
    if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
        raise Refused("it does not begin as a .npy file does; it is damaged")
    version = stream.read(2)
    if version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise Refused(f"its .npy version {shown(version)} is unknown; it is damaged")
    length = int.from_bytes(stream.read(2 if version[0] == 1 else 4), "little")
    if length > 2**16:
        raise Refused(f"its .npy header takes {length} bytes; it is damaged")
    header = stream.read(length).decode("latin1")
    found = _NPY_HEADER.fullmatch(header)
    if found is None:
        # Objects have the descr '|O'; records have a list there.
        raise Refused(f"its array is not one of numbers, or damaged: {shown(header)}")
    dtype = numpy_dtype(found[1])
    shape = tuple(int(part) for part in re.findall(r"\d+", found[3]))
    if math.prod(shape) * dtype.itemsize != stream.left:
        expected = math.prod(shape) * dtype.itemsize
        if stream.left < expected:
            raise CutShort(f"an array of {expected} bytes of which {stream.left} are there")
        raise Refused(f"{stream.left - expected} bytes follow its array; it is damaged")
    return array_tensor(stream.read_into(stream.left), dtype, shape, found[2] == "True")


def read_npz(archive: Archive) -> dict[str, Tensor]:
    """Read the arrays of a .npz by name; every entry carries a CRC-32."""
    import io

    result = {}
    for name in archive.names:
        content = archive.read(name)
        try:
            tensor = read_npy(Stream(io.BytesIO(content), len(content)))
        except Refused as refusal:
            raise Refused(f"its entry {shown(name)}: {refusal}") from None
        result[name.removesuffix(".npy")] = tensor
    return result


def read_safetensors(stream: Stream) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata.

    The format has no checksum: a changed bit in a number is not seen here. Files of this project
    carry a SHA-256 (:mod:`.files`), and :func:`.read_checkpoint` takes one.
    """
    length = int.from_bytes(stream.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise Refused(f"its safetensors header would take {length} bytes; it is damaged")
    header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise Refused("its safetensors header is not a dictionary; it is damaged")
    metadata = header.pop("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts:
        raise Refused("its safetensors metadata is not text; it is damaged")
    entries = sorted((_entry(name, value) for name, value in header.items()), key=_place)
    position = 0
    for name, _, _, start, stop in entries:
        if start != position:
            raise Refused(f"its tensor {shown(name)} leaves a gap or overlaps; it is damaged")
        position = stop
    if position > stream.left:
        raise CutShort(f"{position} bytes of tensors, of which {stream.left} are there")
    if position < stream.left:
        raise Refused(f"{stream.left - position} bytes follow its tensors; it is damaged")
    result = {}
    for name, dtype, shape, start, stop in entries:
        flat = flat_tensor(stream.read_into(stop - start), dtype, math.prod(shape))
        result[name] = flat.reshape(shape)
    return {name: result[name] for name in header}, metadata


def _place(entry: tuple[str, torch.dtype, list[int], int, int]) -> tuple[int, int]:
    return entry[3], entry[4]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Refused("its safetensors header names something twice; it is damaged")
    return result


def _entry(name: str, value: Any) -> tuple[str, torch.dtype, list[int], int, int]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"its tensor {shown(name)} is not described as it should; it is damaged")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_DTYPES:
        raise Refused(f"its tensor {shown(name)} has the unknown number format {shown(dtype)}")
    if not _counts(shape) or len(shape) > 32 or not _counts(offsets) or len(offsets) != 2:
        raise Refused(f"its tensor {shown(name)} has an impossible shape or place; it is damaged")
    numbers = SAFETENSORS_DTYPES[dtype]
    if math.prod(shape) * numbers.itemsize != offsets[1] - offsets[0]:
        raise Refused(f"its tensor {shown(name)} has another size than its place; it is damaged")
    return name, numbers, shape, offsets[0], offsets[1]


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**48 for v in values)
