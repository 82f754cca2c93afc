"""Storages and the views of them that become tensors, all sizes checked before memory is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .limits import (
    FREE_UNPACK_BYTES,
    FREE_VIEW_BYTES,
    MAX_COPY_FACTOR,
    MAX_VIEW_FACTOR,
    Refused,
    shown,
)

# Class of a storage in torch's pickles -> its numbers.
STORAGES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint64 "
        "uint32 uint16 uint8 bool complex64 complex128 double float half long int short cfloat "
        "cdouble"
    ).split()
}
_NUMPY_KINDS = "biufc"


@dataclass(eq=False)
class Storage:
    """Numbers in a row. ``load`` fetches the bytes when they are first needed."""

    dtype: torch.dtype
    numel: int
    load: Callable[[], bytearray] | None = None
    flat: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return self.numel * self.dtype.itemsize

    def tensor(self) -> Tensor:
        """All numbers, ``[numel]``."""
        if self.flat is None:
            if self.load is None:
                raise Refused("it mentions a tensor whose numbers it does not hold; it is damaged")
            self.flat = flat_tensor(self.load(), self.dtype, self.numel)
            self.load = None
        return self.flat


@dataclass(eq=False)
class View:
    """A tensor that is to be made from a storage (torch's pickles) or an array's bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype | None = None  # where the storage is one of plain bytes


@dataclass(eq=False)
class ViewBudget:
    """How much the views of one file may amount to, compared with what it holds."""

    file_bytes: int
    spent: int = 0
    copied: int = 0
    seen: dict[int, Tensor] = field(default_factory=dict)

    def tensor(self, view: View) -> Tensor:
        """Return the tensor of a view that lies within its storage.

        Raises:
            Refused: it does not, or views of few bytes would amount to much memory.
        """
        if id(view) in self.seen:
            return self.seen[id(view)]
        flat = view.storage.tensor()
        if view.dtype is not None and view.dtype != flat.dtype:
            if flat.dtype != torch.uint8 or flat.numel() % view.dtype.itemsize:
                raise Refused("it gives a tensor another number format than its storage has")
            flat = flat.view(view.dtype)
        numel = check_view(view.offset, view.size, view.stride, flat.numel())
        self._spend(numel * flat.dtype.itemsize)
        # A numel of 0 may come with any stride, which as_strided would turn away.
        tensor = (
            torch.as_strided(flat, view.size, view.stride, view.offset)
            if numel
            else torch.empty(view.size, dtype=flat.dtype)
        )
        self.seen[id(view)] = tensor
        return tensor

    def array(self, nbytes: int, make: Callable[[], Tensor]) -> Tensor:
        """Return ``make()``, which takes ``nbytes``, if that is still within the budget."""
        self.copied += nbytes
        if self.copied > MAX_COPY_FACTOR * self.file_bytes + FREE_UNPACK_BYTES:
            raise self._too_much(self.copied)
        return make()

    def _spend(self, nbytes: int) -> None:
        self.spent += nbytes
        if self.spent > MAX_VIEW_FACTOR * self.file_bytes + FREE_VIEW_BYTES:
            raise self._too_much(self.spent)

    def _too_much(self, nbytes: int) -> Refused:
        return Refused(
            f"its tensors amount to more than {nbytes >> 20} MiB, out of "
            f"{self.file_bytes >> 20} MiB of file: made to exhaust memory"
        )


def check_view(offset: Any, size: Any, stride: Any, available: int) -> int:
    """Check that a strided view lies within ``available`` numbers; return how many it shows."""
    for name, values in (("size", size), ("stride", stride), ("offset", (offset,))):
        if not isinstance(values, tuple) or not all(type(v) is int for v in values):
            raise Refused(f"it holds a tensor whose {name} is not made of whole numbers")
        if any(v < 0 or v >= 2**62 for v in values):
            raise Refused(f"it holds a tensor with the impossible {name} {shown(values)}")
    if len(size) != len(stride) or len(size) > 32:
        raise Refused(f"it holds a tensor of size {shown(size)} and stride {shown(stride)}")
    numel = math.prod(size)
    if numel == 0:
        if any(v > 2**40 for v in size):
            raise Refused(f"it holds a tensor with the impossible size {shown(size)}")
        return 0
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= available:
        raise Refused(
            f"it holds a tensor of size {shown(size)}, stride {shown(stride)} and offset {offset} "
            f"that reaches beyond its {available} numbers"
        )
    if numel > max(available, 2**20):
        raise Refused(f"it repeats {available} numbers to a tensor of size {shown(size)}")
    return numel


def flat_tensor(content: bytearray, dtype: torch.dtype, numel: int) -> Tensor:
    """Return the numbers ``[numel]`` in memory that nothing else owns."""
    if len(content) != numel * dtype.itemsize:
        raise Refused(
            f"it holds {len(content)} bytes for {numel} numbers of {dtype}; it is damaged"
        )
    if numel == 0:
        return torch.empty(0, dtype=dtype)
    if dtype == torch.bool and max(content) > 1:
        raise Refused("it holds a truth value that is neither true nor false; it is damaged")
    return torch.frombuffer(content, dtype=dtype)


def numpy_dtype(code: object, order: str = "") -> np.dtype[Any]:
    """Return the numpy dtype of a code such as ``"f4"`` or ``"<i8"``; numbers only.

    Raises:
        Refused: objects, text, records, or no dtype at all.
    """
    if not isinstance(code, str) or len(code) > 5:
        raise Refused("it holds an array without a proper number format")
    kind = code.lstrip("<>|=")
    known = kind[:1] in tuple(_NUMPY_KINDS) and kind[1:] in ("1", "2", "4", "8", "16")
    if not known or len(code) - len(kind) > 1:
        raise Refused(f"it holds an array of {shown(code)!r}, which are not numbers")
    try:
        dtype = np.dtype(code)
        # complex256 and float128 have no tensor.
        torch.from_numpy(np.empty(0, dtype.newbyteorder("=")))
    except TypeError as error:
        raise Refused(f"it holds an array of {shown(code)!r}, which has no tensor") from error
    return dtype.newbyteorder(">" if order == ">" else "<") if order in ("<", ">") else dtype


def array_tensor(
    content: bytes | bytearray, dtype: np.dtype[Any], shape: Any, fortran: bool
) -> Tensor:
    """Return an array's bytes as a contiguous tensor in this machine's byte order."""
    strides = tuple(1 for _ in shape) if isinstance(shape, tuple) else shape
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise Refused("it holds an array whose shape is not made of whole numbers")
    if len(strides) > 32 or any(n > 2**40 for n in shape):
        raise Refused(f"it holds an array of the impossible shape {shown(shape)}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise Refused(
            f"it holds {len(content)} bytes for an array of shape {shown(shape)} and {dtype}"
        )
    if not content:
        return torch.from_numpy(np.empty(shape, dtype.newbyteorder("=")))
    if dtype.kind == "b" and max(content) > 1:
        raise Refused("it holds a truth value that is neither true nor false; it is damaged")
    flat = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    # A copy: what comes from bytes is read-only, and must not change under its owner.
    return torch.from_numpy(np.array(flat, dtype.newbyteorder("="), order="C"))
