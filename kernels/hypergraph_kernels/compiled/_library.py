"""The loaded library, and the one place where its functions are declared."""

import ctypes
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergraph_kernels.compiled._build import (
    BuildError,
    build,
    built_libraries,
    fault_of,
    source_digest,
)

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_looked = False
_pool: ThreadPoolExecutor | None = None


def is_available() -> bool:
    """Tell whether the library has been built and loads; looked up once in a process.

    A file that is damaged or belongs to someone else is left alone, with a RuntimeWarning that says
    why.
    """
    global _library, _looked
    if not _looked:
        with _lock:
            if not _looked:
                _library = _first_sound()
                _looked = True
    return _library is not None


# torch.compile must not trace the look-up. What torch.compiler.assume_constant_result does, which
# would import the compiler, and with it Triton, here and now:
is_available._dynamo_marked_constant = True  # type: ignore[attr-defined]


def build_and_load(compiler: str | None = None, force: bool = False) -> Path:
    """``build``, and use the library in this process from now on."""
    path = build(compiler, force)
    forget()
    if not is_available():
        raise BuildError(f"{path} was built but does not load")
    return path


def forget() -> None:
    """Look for the library again when it is next needed."""
    global _library, _looked
    with _lock:
        _library, _looked = None, False


def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        RuntimeError: it has not been built.
    """
    if not is_available() or _library is None:
        raise RuntimeError(
            "the compiled path has not been built; "
            "run `python -m hypergraph_kernels.compiled build`"
        )
    return _library


def instructions() -> str:
    """The instruction set that the library uses on this processor."""
    text: bytes = library().hgk_instructions()
    return text.decode()


def pointer(tensor: Tensor | None, dtype: torch.dtype) -> int | None:
    """Address of a contiguous CPU tensor for the library."""
    if tensor is None:
        return None
    if tensor.device.type != "cpu" or tensor.dtype != dtype or not tensor.is_contiguous():
        raise TypeError(
            f"the compiled path takes contiguous {dtype} on a CPU, got {tensor.dtype} on "
            f"{tensor.device} with strides {tensor.stride()}"
        )
    return tensor.data_ptr()


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Call ``work(0) .. work(count - 1)`` side by side, the first in this thread.

    The library's functions run without the interpreter's lock.
    """
    global _pool
    if count <= 1:
        return [work(0)]
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hypergraph")
        futures = [_pool.submit(work, part) for part in range(1, count)]
    try:
        first = work(0)
    finally:
        wait(futures)  # they write into memory of the caller's
    return [first, *(future.result() for future in futures)]


def _after_fork() -> None:
    """A child process has none of its parent's threads, and a lock may be held for ever."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _first_sound() -> ctypes.CDLL | None:
    for path in built_libraries():
        fault = fault_of(path)
        if fault is None:
            try:
                return _load(path)
            except (OSError, AttributeError, ValueError) as error:
                fault = str(error)
        warnings.warn(
            f"{path} is not used: {fault}; run `python -m hypergraph_kernels.compiled build`",
            RuntimeWarning,
            stacklevel=3,
        )
    return None


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    loaded.hgk_digest.restype = ctypes.c_char_p
    digest = loaded.hgk_digest().decode()
    if digest != source_digest():
        raise ValueError(f"it says that it was built from source {digest}")
    loaded.hgk_instructions.restype = ctypes.c_char_p
    array, size = ctypes.c_void_p, ctypes.c_int64
    loaded.hgk_sort_pairs.argtypes = [array, array, size, size, array, array, array]
    loaded.hgk_sort_pairs.restype = ctypes.c_int
    loaded.hgk_knn_prepare.argtypes = [array]
    loaded.hgk_knn_prepare.restype = ctypes.c_int
    loaded.hgk_knn_collect.argtypes = [array]
    loaded.hgk_knn_collect.restype = None
    loaded.hgk_knn_finish.argtypes = [array, size, size, array, array, array]
    loaded.hgk_knn_finish.restype = None
    loaded.hgk_check_segments.argtypes = [array, size]
    loaded.hgk_check_segments.restype = ctypes.c_int
    number = ctypes.c_float
    loaded.hgk_propagate.argtypes = [
        *(array, size, size, size, array, array, array, number, array, array, array)
    ]
    loaded.hgk_propagate.restype = None
    return loaded
