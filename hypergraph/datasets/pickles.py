"""Reading pickles of arrays without executing them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = "biufS"


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of numbers, strings, lists, dicts, sets, numpy arrays and scipy CSR matrices.

    Nothing of numpy, scipy or anything else named in the file is called: arrays are put together
    from their shape, dtype and bytes by the code below, and every other name is refused.

    Args:
        path: the file; protocols 0 to 5, Python 2's included.

    Returns:
        What was pickled, with numpy arrays, and a ``CSR`` where there was a scipy CSR matrix.

    Raises:
        ValueError: the file is not a pickle, or names anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            value = _Unpickler(file, encoding="latin1").load()
        return _finish(value)
    except _Refused as error:
        raise ValueError(f"{path} holds {error}, which is not data; it was not loaded") from error
    except FileNotFoundError:
        raise
    # A broken pickle may fail in any way.
    except Exception as error:
        raise ValueError(f"{path} is not a pickle of arrays: {error}") from error


class CSR:
    """A sparse matrix as scipy keeps it: ``data``, ``indices``, ``indptr``, ``shape``."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    @property
    def data(self) -> NDArray[np.float32]:
        """Values."""
        return np.asarray(self.state["data"], dtype=np.float32)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Column of every value."""
        return np.asarray(self.state["indices"], dtype=np.int64)

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Where every row begins."""
        return np.asarray(self.state["indptr"], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        # scipy renamed the attribute several times.
        rows, columns = self.state.get("_shape", self.state.get("shape", (0, 0)))
        return int(rows), int(columns)


class _Refused(Exception):
    pass


class _DType:
    """Takes what numpy.dtype is called with."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 3 and state[3] is not None:
            raise _Refused("an array of records")
        self.order = str(state[1])

    def resolve(self) -> np.dtype[Any]:
        code = self.code
        if not code or code[0] not in _KINDS or not code[1:].isdigit():
            raise _Refused(f"an array of dtype {code!r}")
        return np.dtype((self.order if self.order in "<>" else "") + code)


class _Array:
    """Takes what a numpy array is built from."""

    def __init__(self, *ignored: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = _DType("i1")
        self.fortran, self.raw = False, b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def resolve(self) -> NDArray[Any]:
        if not isinstance(self.dtype, _DType):
            raise _Refused("an array without a dtype")
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        if not isinstance(raw, bytes):
            raise _Refused("an array of objects")
        flat = np.frombuffer(raw, dtype=self.dtype.resolve())
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def _reconstruct(*ignored: object) -> _Array:
    return _Array()


def _from_buffer(raw: bytes | bytearray, dtype: object, shape: Any, order: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return array


def _scalar(dtype: object, raw: bytes | str) -> Any:
    if not isinstance(dtype, _DType):
        raise _Refused("a number without a dtype")
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(data, dtype=dtype.resolve())[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding not in ("latin1", "utf-8", "ascii") else encoding)


def _new_csr(*ignored: object) -> CSR:
    return CSR()


class _Name:
    """What a pickle may call. It can be called, and not be given attributes, which would stay."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: object) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change of a name")


class _Sealed(type):
    def __setstate__(cls, state: object) -> None:
        raise _Refused("a change of a class")


class _CSRClass(metaclass=_Sealed):
    """Stands for the class csr_matrix in the pickle, which makes its instances by ``__new__``."""

    def __new__(cls, *ignored: object) -> Any:
        return CSR()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Name(_DType),
    ("numpy", "ndarray"): _Name(_Array),
    ("_codecs", "encode"): _Name(_encode),
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "list"): list,
    ("builtins", "object"): object,
    ("copyreg", "_reconstructor"): _Name(_new_csr),
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _Name(_reconstruct)
    _ALLOWED[_module, "scalar"] = _Name(_scalar)
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module, "_frombuffer"] = _Name(_from_buffer)
for _module in ("scipy.sparse.csr", "scipy.sparse._csr"):
    _ALLOWED[_module, "csr_matrix"] = _CSRClass


# Protocols 0 to 2 use Python 2's names.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        if (module, name) not in _ALLOWED:
            raise _Refused(f"a reference to {module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise _Refused("a reference to another file")


def _finish(value: Any) -> Any:
    """Turn the stand-ins inside ``value`` into arrays."""
    if isinstance(value, _Array):
        return value.resolve()
    if isinstance(value, CSR):
        value.state = {key: _finish(part) for key, part in value.state.items()}
        return value
    if isinstance(value, dict):
        return {key: _finish(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finish(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise _Refused(f"an object of type {type(value).__name__}")
