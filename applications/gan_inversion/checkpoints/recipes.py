"""What a pickle may "call": descriptions of tensors, arrays and plain containers, nothing else.

The table at the end is closed. A recipe receives values that the interpreter made and returns a
value of this package; none of them imports, looks up an attribute by a name from the file, or
calls what came from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .limits import FREE_UNPACK_BYTES, MAX_ODD_KEYS, Global, Refused, shown
from .tensors import DTYPES, STORAGES, Storage, View, array_tensor, numpy_dtype


@dataclass(eq=False)
class Instance:
    """An object of a class that is not there: what the pickle says it holds, and no behaviour."""

    cls: Global
    state: dict[Any, Any] = field(default_factory=dict)
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class DTypeRecord:
    """What numpy.dtype was called with."""

    code: Any
    order: Any = "<"

    def resolve(self) -> np.dtype[Any]:
        """The number format, or Refused."""
        return numpy_dtype(self.code, self.order if self.order in ("<", ">") else "")


@dataclass(eq=False)
class ArrayRecord:
    """What a numpy array is built from."""

    state: tuple[Any, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor will take."""
        return len(self.state[4]) if self.state and isinstance(self.state[4], (bytes, str)) else 0

    def tensor(self) -> Tensor:
        """The array as a tensor, or Refused."""
        if self.state is None or len(self.state) != 5:
            raise Refused("it holds an array without content; it is damaged")
        _, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, DTypeRecord):
            raise Refused("it holds an array without a number format; it is damaged")
        # Python 2's text.
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(content, bytes):
            raise Refused("it holds an array of Python objects, which are refused")
        return array_tensor(content, dtype.resolve(), shape, bool(fortran))


# Protocols 0 to 2 use Python 2's names.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
# Of Python itself, only these may be named at all.
_BUILTINS = (
    "object dict list tuple set frozenset bytes bytearray str int float bool complex slice".split()
)
_MAPPINGS = {
    ("collections", "OrderedDict"),
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("dnnlib.util", "EasyDict"),
    ("dnnlib", "EasyDict"),
    ("easydict", "EasyDict"),
    ("addict.addict", "Dict"),
    ("mmcv.utils.config", "ConfigDict"),
    ("mmengine.config.config", "ConfigDict"),
}
PERSISTENT = "persistent object"


def is_mapping(cls: Global) -> bool:
    """Tell whether objects of a class are dictionaries in all but name."""
    return (cls.module, cls.name) in _MAPPINGS


class Recipes:
    """The closed table, and what the recipes of one file have spent.

    Args:
        file_bytes: size of the file; bytes handled by recipes are bounded by it.
        nested: reads the storage inside what torch's ``_load_from_bytes`` was called with.
    """

    def __init__(
        self, file_bytes: int, nested: Callable[[bytes, Any], Storage] | None = None
    ) -> None:
        self.left = 4 * file_bytes + FREE_UNPACK_BYTES
        self.nested = nested

    def named(self, module: str, name: str) -> Global:
        """The pair of words, or Refused for what belongs to Python and to no checkpoint."""
        found = Global(_PYTHON_2.get(module, module), name)
        own = found.module == "builtins" and name in _BUILTINS
        if own or (found.module, name) in _TABLE or is_mapping(found):
            return found
        if found.module.partition(".")[0] in sys.stdlib_module_names or not found.module:
            raise Refused(_names(found))
        return found

    def call(self, function: Any, arguments: Any, machine: Any) -> Any:
        """What a call stands for.

        Raises:
            Refused: it is not in the table, or its arguments do not fit.
        """
        if not isinstance(function, Global):
            raise Refused(f"its pickle calls a {type(function).__name__}; it is damaged")
        recipe = _TABLE.get((function.module, function.name))
        if recipe is None:
            raise Refused(_names(function))
        if not isinstance(arguments, tuple):
            raise Refused("its pickle calls with something else than arguments; it is damaged")
        try:
            return recipe(_Context(self, machine), *arguments)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise Refused(f"its {shown(function)} has arguments that do not fit") from error

    def build(self, target: Any, state: Any) -> None:
        """Give ``target`` its state; only records take any.

        Raises:
            Refused: any other target, or a state that does not fit.
        """
        if isinstance(target, ArrayRecord):
            if target.state is not None or not isinstance(state, tuple) or len(state) != 5:
                raise Refused("it holds an array whose state does not fit; it is damaged")
            target.state = state
        elif isinstance(target, DTypeRecord):
            if not isinstance(state, tuple) or len(state) < 2:
                raise Refused("it holds a number format whose state does not fit; it is damaged")
            if any(part is not None for part in state[2:5]):
                raise Refused("it holds an array of records, which are refused")
            target.order = state[1]
        elif isinstance(target, (dict, Instance)):
            for part in state if isinstance(state, tuple) else (state,):
                if part is None:
                    continue
                if not isinstance(part, dict):
                    raise Refused("it holds an object whose state is not a dictionary")
                # An OrderedDict's own attributes (a state dict's version numbers) are not content.
                if isinstance(target, Instance):
                    self.spend(64 * len(part))
                    target.state.update(part)
        else:
            raise Refused(f"its pickle changes a {type(target).__name__}, which it may not")

    def spend(self, count: int) -> None:
        """Pay for work on ``count`` bytes, which an instruction could ask for again and again."""
        self.left -= count
        if self.left < 0:
            raise Refused("its pickle repeats its content again and again: made to exhaust memory")


@dataclass
class _Context:
    recipes: Recipes
    machine: Any


def _names(found: Global) -> str:
    return (
        f"it names {shown(found)}, which is no part of a tensor: a program may be hidden in it. "
        "Nothing was run; do not open it with other tools, and get the file from its author"
    )


def make_instance(cls: Any, arguments: Any) -> Any:
    """An object without behaviour; only classes that are made without arguments can be so."""
    if not isinstance(cls, Global):
        raise Refused(f"its pickle makes an object of a {type(cls).__name__}; it is damaged")
    own = cls.module.partition(".")[0] in sys.stdlib_module_names
    if arguments != () or (own and not is_mapping(cls)):
        raise Refused(_names(cls))
    return {} if cls.name == "OrderedDict" else Instance(cls)


# --- recipes: the context first, then what the pickle gives ------------------------------------
def _mapping(context: _Context, *arguments: Any) -> dict[Any, Any]:
    # OrderedDict([(key, value), ...]) in Python 2's pickles, Counter({...}), defaultdict(kind).
    content: dict[Any, Any] = {}
    if arguments and isinstance(arguments[0], dict):
        context.recipes.spend(64 * len(arguments[0]))
        content.update(arguments[0])
    elif arguments and isinstance(arguments[0], list):
        context.recipes.spend(64 * len(arguments[0]))
        for key, value in arguments[0]:
            if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**60):
                raise Refused("it has a dictionary key that is not a name")
            content[key] = value
    return content


def _namespace(context: _Context) -> Instance:
    return Instance(Global("types", "SimpleNamespace"))


def _set(context: _Context, items: Any = ()) -> set[Any]:
    if not isinstance(items, (list, tuple)):
        raise Refused("its pickle makes a set of something else than a list")
    # A tuple may take forever to hash, see shown().
    if not all(isinstance(item, (str, bytes, int, float, type(None))) for item in items):
        raise Refused("its pickle makes a set of something else than names and numbers")
    if len(items) > MAX_ODD_KEYS and not all(isinstance(item, str) for item in items):
        raise Refused(f"its pickle makes a set of more than {MAX_ODD_KEYS} numbers")
    context.recipes.spend(64 * len(items))
    return set(items)


def _bytes(context: _Context, text: str = "", encoding: str = "latin1") -> bytes:
    if isinstance(text, bytes):
        return text
    if encoding.lower() not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise Refused(f"its pickle asks for the encoding {shown(encoding)!r}")
    context.recipes.spend(len(text))
    return text.encode(encoding)


def _reconstructor(context: _Context, cls: Any, base: Any, state: Any) -> Any:
    made = make_instance(cls, ())
    if base == Global("builtins", "dict") and isinstance(state, dict):
        context.recipes.spend(64 * len(state))
        (made if isinstance(made, dict) else made.items).update(state)
    elif base != Global("builtins", "object") or state is not None:
        raise Refused(_names(cls))
    return made


def _new_object(context: _Context, cls: Any, *arguments: Any) -> Any:
    return make_instance(cls, arguments)


def _persistent(context: _Context, meta: Any) -> Instance:
    content = meta.items if isinstance(meta, Instance) else meta
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise Refused("it holds a persistent object without a state; it is damaged")
    name = content.get("class_name")
    if not isinstance(name, str):
        raise Refused("it holds a persistent object without a class; it is damaged")
    context.recipes.spend(64 * len(content["state"]))
    # meta["module_src"] is the source that NVlabs' own reader would run. It is left where it is.
    return Instance(Global(PERSISTENT, name), dict(content["state"]))


def _view(context: _Context, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> View:
    metadata = rest[2] if len(rest) > 2 else None
    return _checked_view(storage, offset, size, stride, metadata)


def _typed_view(
    context: _Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> View:
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in DTYPES:
        raise Refused(f"it holds a tensor of the unknown number format {shown(dtype)}")
    view = _checked_view(storage, offset, size, stride, metadata)
    view.dtype = DTYPES[dtype.name]
    return view


def _checked_view(storage: Any, offset: Any, size: Any, stride: Any, metadata: Any) -> View:
    if not isinstance(storage, Storage):
        raise Refused("it holds a tensor without a storage; it is damaged")
    if metadata and (not isinstance(metadata, dict) or any(metadata.values())):
        # A conjugate or negative view: the numbers are not what the storage holds.
        raise Refused("it holds a conjugate or negated view of a tensor, which is not supported")
    return View(storage, offset, size, stride)


def _parameter(context: _Context, data: Any, *rest: Any) -> Any:
    if not isinstance(data, (View, ArrayRecord)):
        raise Refused("it holds a parameter without a tensor; it is damaged")
    return data


def _from_type(context: _Context, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    allowed = [Global("torch._utils", name) for name in _REBUILD]
    if function not in allowed or not isinstance(arguments, tuple):
        raise Refused(_names(function if isinstance(function, Global) else Global("?", "?")))
    return context.recipes.call(function, arguments, context.machine)


def _storage_of_bytes(context: _Context, content: Any) -> Storage:
    if context.recipes.nested is None:
        raise Refused("it holds a file in a file in a file, which no checkpoint does")
    if not isinstance(content, bytes):
        raise Refused("it holds a storage without bytes; it is damaged")
    context.recipes.spend(len(content))
    return context.recipes.nested(content, context.machine)


def _size(context: _Context, values: Any = ()) -> tuple[Any, ...]:
    if not isinstance(values, (list, tuple)) or len(values) > 32:
        raise Refused("it holds a size that is not a list of numbers")
    return tuple(values)


def _device(context: _Context, kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or not isinstance(index, (int, type(None))):
        raise Refused("it holds a device that is not a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _path(context: _Context, *parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise Refused("it holds a path that is not text")
    context.recipes.spend(sum(map(len, parts)))
    # The root is a part of its own, ("/", "a").
    return "/".join(parts).replace("//", "/", 1) if parts[:1] == ("/",) else "/".join(parts)


def _dtype(context: _Context, code: Any, align: Any = False, copy: Any = False) -> DTypeRecord:
    return DTypeRecord(code)


def _array(context: _Context, *ignored: Any) -> ArrayRecord:
    return ArrayRecord()


def _array_of_bytes(context: _Context, raw: Any, dtype: Any, shape: Any, order: Any) -> ArrayRecord:
    return ArrayRecord((1, shape, dtype, order == "F", raw))


def _scalar(context: _Context, dtype: Any, raw: Any) -> Any:
    record = ArrayRecord((1, (), dtype, False, raw))
    if record.nbytes > 32:
        raise Refused("it holds a number of more than 32 bytes; it is damaged")
    return record.tensor().item()


_REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _view,
    "_rebuild_tensor_v2": _view,
    "_rebuild_tensor_v3": _typed_view,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
}
_TABLE: dict[tuple[str, str], Callable[..., Any]] = {
    **{("torch._utils", name): recipe for name, recipe in _REBUILD.items()},
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.storage", "_load_from_bytes"): _storage_of_bytes,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("collections", "Counter"): _mapping,
    ("types", "SimpleNamespace"): _namespace,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _set,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("_codecs", "encode"): _bytes,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("copyreg", "__newobj__"): _new_object,
    ("numpy", "dtype"): _dtype,
}
for _name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
    _TABLE["pathlib", _name] = _TABLE["pathlib._local", _name] = _path
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _TABLE[_module, "_reconstruct"] = _array
    _TABLE[_module, "scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _TABLE[_module, "_frombuffer"] = _array_of_bytes


def storage_dtype(cls: Any) -> Any:
    """The numbers of a storage class that a pickle names, or Refused."""
    if isinstance(cls, Global) and cls.module in ("torch", "torch.cuda", "torch.storage"):
        if cls.name in STORAGES:
            return STORAGES[cls.name]
    raise Refused(f"it holds a storage of the unknown kind {shown(cls)}")
