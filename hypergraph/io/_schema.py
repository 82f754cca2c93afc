"""The Hypergraph Interchange Format's JSON schema, as checks that say what is wrong and where.

Schema: https://github.com/HIF-org/HIF-standard (schemas/hif_schema.json, draft 7). Three rules are
stricter than the schema: numbers are finite (JSON has no NaN), no object holds a key twice (one
value would be lost), and attributes are nested at most 200 levels deep.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

NETWORK_TYPES = ("undirected", "directed", "asc")
_TOP = ("network-type", "metadata", "incidences", "nodes", "edges")
# What records of each list must and may hold.
_REQUIRED = {"incidences": ("edge", "node"), "nodes": ("node",), "edges": ("edge",)}
_ALLOWED = {
    "incidences": ("edge", "node", "weight", "direction", "attrs"),
    "nodes": ("node", "weight", "attrs"),
    "edges": ("edge", "weight", "attrs"),
}
_DEPTH = 200  # json itself gives up at Python's recursion limit, somewhere below 1000
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


class HIFError(ValueError):
    """A file or dictionary that is not in the Hypergraph Interchange Format."""


def check_keys(data: object) -> dict[str, Any]:
    """Return ``data`` if it is a dictionary with the top-level keys of a document."""
    if not isinstance(data, dict):
        raise HIFError(f"the top level must be an object, got {_kind(data)}")
    for key, value in data.items():
        if key not in _TOP:
            raise HIFError(f"{key!r} must be one of {_listed(_TOP)}; put it into 'metadata'")
        if value is None:
            raise HIFError(f"{key!r} must not be null; leave it out")
    if "incidences" not in data:
        raise HIFError("'incidences' must be there; an empty hypergraph has 'incidences': []")
    return data


def check_document(data: object) -> None:
    """Raise HIFError, naming the place and the reason, unless ``data`` obeys the schema."""
    document = check_keys(data)
    if "network-type" in document:
        _check_choice("network-type", document["network-type"], NETWORK_TYPES)
    if "metadata" in document:
        _check_object("metadata", document["metadata"])
    for name in ("incidences", "nodes", "edges"):
        if name in document:
            _check_records(name, document[name])


def _check_records(name: str, records: object) -> None:
    if not isinstance(records, list):
        raise HIFError(f"{name!r} must be an array, got {_kind(records)}")
    allowed, required = _ALLOWED[name], _REQUIRED[name]
    for number, record in enumerate(records):
        place = f"{name}[{number}]"
        if not isinstance(record, dict):
            raise HIFError(f"{place} must be an object, got {_kind(record)}")
        for key in required:
            if key not in record:
                raise HIFError(f"{place} must have the key {key!r}")
        for key, value in record.items():
            if key not in allowed:
                raise HIFError(
                    f"{place} must only have the keys {_listed(allowed)}, got {key!r}; "
                    "put it into 'attrs'"
                )
            if key in required:
                _check_id(f"{place}.{key}", value)
            elif key == "weight":
                _check_number(f"{place}.weight", value)
            elif key == "direction":
                _check_choice(f"{place}.direction", value, ("head", "tail"))
            else:
                _check_object(f"{place}.attrs", value)


def _check_id(place: str, value: object) -> None:
    # To a JSON schema 1.0 is an integer.
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, (str, int)) or whole):
        raise HIFError(f"{place} must be a string or an integer, got {_shown(value)}")


def _check_number(place: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise HIFError(f"{place} must be a number, got {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise HIFError(f"{place} must be finite, got {value}")


def _check_choice(place: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise HIFError(f"{place} must be one of {_listed(choices)}, got {_shown(value)}")


def _check_object(place: str, value: object) -> None:
    if not isinstance(value, dict):
        raise HIFError(f"{place} must be an object, got {_kind(value)}")
    check_json(place, value)


def check_json(place: str, value: object) -> None:
    """Raise HIFError unless JSON can hold ``value`` and give back exactly the same."""
    top = place
    waiting = [(place, value, 0)]
    while waiting:  # not recursive: depth is the file's choice
        place, value, depth = waiting.pop()
        if depth > _DEPTH:
            raise HIFError(f"{top} must not be nested more than {_DEPTH} levels deep")
        if value is None or isinstance(value, (str, bool, int)):
            continue
        if isinstance(value, float):
            if not math.isfinite(value):
                raise HIFError(f"{place} must be finite, got {value}")
        elif isinstance(value, list):
            waiting += [(f"{place}[{n}]", item, depth + 1) for n, item in enumerate(value)]
        elif isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise HIFError(f"{place} must have strings as keys, got {key!r}")
                waiting.append((f"{place}.{key}", item, depth + 1))
        else:
            raise HIFError(
                f"{place} must be something that JSON can hold (None, bool, int, float, str, "
                f"list, dict), got {type(value).__name__}"
            )


def parse(text: str) -> object:
    """Parse strict JSON: no NaN, no infinity, no key twice, no bottomless nesting."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except HIFError:
        raise
    except RecursionError:
        raise HIFError("nested too deeply to be read") from None
    except ValueError as error:  # JSONDecodeError; an integer of thousands of digits
        raise HIFError(f"not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise HIFError(f"an object holds the key {twice!r} twice; one of the values would be lost")
    return found


def _refuse_constant(name: str) -> float:
    raise HIFError(f"not JSON: {name} is no number there")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise HIFError(f"the number {text[:40]} is too large")
    return value


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)


def _kind(value: object) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, (str, bool, int, float)) else _kind(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dump(document: Mapping[str, Any], indent: int | None) -> str:
    """Strict JSON of a checked document."""
    try:
        return json.dumps(document, allow_nan=False, indent=indent)
    except ValueError as error:
        raise HIFError(f"cannot be written as JSON: {error}") from error
