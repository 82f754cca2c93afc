"""From what a pickle made to nested dicts, lists, tuples, tensors and plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .limits import MAX_DEPTH, MAX_MODULES, MAX_OPERATIONS, Global, Refused, shown
from .recipes import PERSISTENT, ArrayRecord, DTypeRecord, Instance, is_mapping
from .tensors import DTYPES, Storage, View, ViewBudget

_SCALARS = (str, bytes, int, float, bool, type(None))
_MODULE = ("_parameters", "_buffers", "_modules")


def _is_setting(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= 64 and all(isinstance(part, _SCALARS) for part in value)
    return isinstance(value, _SCALARS)


def to_plain(value: Any, budget: ViewBudget) -> Any:
    """Resolve a pickle's value.

    Dictionaries in all but name (``OrderedDict``, ``Namespace``, ``EasyDict``) become dicts, sets
    become lists, arrays become tensors. A network that was pickled as an object becomes
    ``{"class_name", "state", "attributes", "init_args", "init_kwargs"}``: ``state`` is what its
    ``state_dict()`` would return, ``attributes`` its plain settings by dotted name. Any other
    object becomes ``{"class_name", "state"}``.

    Raises:
        Refused: a function or class where a value should be, a value that contains itself, is
            nested too deeply or amounts to too much, or a tensor that does not fit its storage.
    """
    return _Plain(budget).resolve(value, 0, False)[0]


@dataclass(eq=False)
class _Plain:
    budget: ViewBudget
    done: dict[tuple[int, bool], tuple[Any, int]] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    # id() of a value is its own only as long as the value lives.
    kept: list[Any] = field(default_factory=list)
    visits: int = 0

    def resolve(self, value: Any, depth: int, lenient: bool) -> tuple[Any, int]:
        """The plain value, and how many values it consists of, repetitions counted."""
        if isinstance(value, _SCALARS):
            return value, 1
        key = id(value), lenient
        if key in self.done:
            return self.done[key]
        if depth > MAX_DEPTH:
            raise Refused(f"it is nested more than {MAX_DEPTH} levels deep: no checkpoint is")
        if id(value) in self.open:
            raise Refused("it holds a value that contains itself: no checkpoint does")
        self.open.add(id(value))
        plain, count = self._convert(value, depth + 1, lenient)
        self.open.remove(id(value))
        if count > MAX_OPERATIONS:
            raise Refused("it repeats a part of itself until it would not fit any memory")
        self.done[key] = plain, count
        self.kept.append(value)
        return plain, count

    def _convert(self, value: Any, depth: int, lenient: bool) -> tuple[Any, int]:
        if isinstance(value, View):
            return self.budget.tensor(value), 1
        if isinstance(value, ArrayRecord):
            return self.budget.array(value.nbytes, value.tensor), 1
        if isinstance(value, dict):
            return self._mapping(value, depth, lenient)
        if isinstance(value, (list, tuple, set)):
            # The order of a set of texts differs from process to process; its members are plain.
            ordered = sorted(value, key=repr) if isinstance(value, set) else value
            parts = [self.resolve(part, depth, lenient) for part in ordered]
            count = 1 + sum(size for _, size in parts)
            items = [part for part, _ in parts]
            return (tuple(items) if isinstance(value, tuple) else items), count
        if isinstance(value, Instance):
            return self._instance(value, depth)
        if isinstance(value, Storage):
            return value.tensor(), 1
        if isinstance(value, DTypeRecord):
            return str(value.resolve()), 1
        if isinstance(value, Global):
            if value.module == "torch" and value.name in DTYPES:
                return str(DTYPES[value.name]), 1
            if lenient:
                return str(value), 1
            raise Refused(f"it holds the name {shown(value)} where a value should be")
        raise Refused(f"it holds a {type(value).__name__} where a value should be")

    def _mapping(self, value: dict[Any, Any], depth: int, lenient: bool) -> tuple[Any, int]:
        result, count = {}, 1
        for key, part in value.items():
            result[key], size = self.resolve(part, depth, lenient)
            count += size
        return result, count

    def _instance(self, value: Instance, depth: int) -> tuple[Any, int]:
        if is_mapping(value.cls):
            return self._mapping(value.items or value.state, depth, False)
        if all(isinstance(value.state.get(name), dict) for name in _MODULE):
            return self._module(value, depth)
        name = value.cls.name if value.cls.module == PERSISTENT else str(value.cls)
        state, count = self._mapping({**value.items, **value.state}, depth, True)
        return {"class_name": name, "state": state}, count + 2

    def _module(self, value: Instance, depth: int) -> tuple[Any, int]:
        state: dict[str, Tensor] = {}
        attributes: dict[str, Any] = {}
        self._collect(value, "", depth, state, attributes)
        result: dict[str, Any] = {
            "class_name": value.cls.name,
            "state": state,
            "attributes": attributes,
        }
        count = 3 + len(state) + len(attributes)
        for name in ("init_args", "init_kwargs"):
            part, size = self.resolve(value.state.get(f"_{name}"), depth, True)
            result[name] = part if part is not None else ([] if name == "init_args" else {})
            count += size
        return result, count

    def _collect(
        self,
        module: Instance,
        prefix: str,
        depth: int,
        state: dict[str, Tensor],
        attributes: dict[str, Any],
    ) -> None:
        """Add a module's tensors and settings, and those of its parts, under their dotted names."""
        self.visits += 1
        if depth > MAX_DEPTH or self.visits > MAX_MODULES:
            raise Refused("it holds networks within networks without end: no checkpoint does")
        own = module.state
        hidden = own.get("_non_persistent_buffers_set") or ()
        hidden = set(hidden) if isinstance(hidden, (list, tuple, set)) else set()
        for group in ("_parameters", "_buffers"):
            for name, part in own[group].items():
                if part is None or (group == "_buffers" and name in hidden):
                    continue
                tensor, _ = self.resolve(part, depth, False)
                if not isinstance(tensor, Tensor) or not isinstance(name, str):
                    raise Refused(f"it holds a network whose {shown(name)} is not a tensor")
                state[prefix + name] = tensor
        for name, part in own.items():
            if isinstance(name, str) and not name.startswith("_") and _is_setting(part):
                attributes[prefix + name] = part
        if len(state) + len(attributes) > MAX_OPERATIONS // 4:
            raise Refused("it repeats a part of itself until it would not fit any memory")
        for name, part in own["_modules"].items():
            if part is None:
                continue
            if not isinstance(name, str) or not isinstance(part, Instance):
                raise Refused(f"it holds a network whose part {shown(name)} is not a network")
            if not all(isinstance(part.state.get(key), dict) for key in _MODULE):
                raise Refused(f"it holds a network whose part {shown(name)} is not a network")
            self._collect(part, f"{prefix}{name}.", depth + 1, state, attributes)
