"""A hypergraph as records: dictionaries with a weight, a direction and attributes.

HIF, XGI and networkx all hold a weight and named attributes per vertex, hyperedge and membership.
What a ``Hypergraph`` holds beyond that (features, groups, dtypes) is written as attributes, and a
note in the metadata, under ``NOTE``, says which; reading uses the note and removes it. Without a
note, attributes stay attributes.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hypergraph.incidence import Hypergraph
from hypergraph.io.labelled import Labelled

NOTE = "hypergraph_nn"
FEATURES, GROUP, SAMPLE = "features", "group", "sample"
DIRECTIONS = {-1: "tail", 1: "head"}
DIRECTION_NUMBERS = {"tail": -1, "head": 1, None: 0}

Record = dict[str, Any]

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Records:
    """A labelled hypergraph as records; each may have "weight", "direction" and "attrs"."""

    node_ids: Sequence[Hashable]
    edge_ids: Sequence[Hashable]
    nodes: list[Record]
    edges: list[Record]
    pairs: list[tuple[int, int]]  # numbers of vertex and hyperedge
    incidences: list[Record]
    metadata: dict[str, Any]
    network_type: str | None


def encode(labelled: Labelled) -> Records:
    """Write everything as records."""
    h = labelled.hypergraph
    note: dict[str, Any] = {}
    nodes = _start(labelled.node_attrs, h.num_nodes)
    edges = _start(labelled.edge_attrs, h.num_edges)
    incidences = _start(labelled.incidence_attrs, h.nnz)
    for name, records in (
        ("node_weight", nodes),
        ("hyperedge_weight", edges),
        ("incidence_weight", incidences),
    ):
        values = getattr(h, name)
        if values is not None:
            note[name] = _name(values)
            for record, value in zip(records, values.tolist(), strict=True):
                record["weight"] = value
    for name, records in (("node_features", nodes), ("hyperedge_features", edges)):
        values = getattr(h, name)
        if values is not None:
            note[name] = [_name(values), values.shape[1]]
            for number, (record, row) in enumerate(zip(records, values.tolist(), strict=True)):
                _put(record, FEATURES, row, name, number)
    if h.hyperedge_group is not None:
        names = list(h.group_names)
        note["group_names"] = names
        for number, (record, group) in enumerate(
            zip(edges, h.hyperedge_group.tolist(), strict=True)
        ):
            _put(record, GROUP, names[group], "hyperedge_group", number)
    if h.num_samples is not None:
        note["num_samples"] = h.num_samples
        for name, records in (("node_batch", nodes), ("edge_batch", edges)):
            for number, (record, sample) in enumerate(
                zip(records, getattr(h, name).tolist(), strict=True)
            ):
                _put(record, SAMPLE, sample, name, number)
    if h.direction is not None:
        note["direction"] = True
        for record, value in zip(incidences, h.direction.tolist(), strict=True):
            if value:
                record["direction"] = DIRECTIONS[value]
    metadata = dict(labelled.metadata)
    if NOTE in metadata:
        raise ValueError(f"`metadata` must not use the key {NOTE!r}, which is ours; rename it")
    # Plain weights and directions need no note; where there is nothing to carry them, they do.
    kind = labelled.network_type
    if kind is None:
        kind = "undirected" if h.direction is None else "directed"
    if note and not _is_plain(h, note, kind):
        metadata[NOTE] = {"version": 1, **note}
    pairs = list(zip(*h.hyperedge_index.tolist(), strict=True))
    return Records(
        labelled.node_ids, labelled.edge_ids, nodes, edges, pairs, incidences, metadata, kind
    )


def decode(records: Records, dtype: torch.dtype | None) -> Labelled:
    """Read a labelled hypergraph from records.

    Args:
        records: as ``encode`` makes them, or anybody else.
        dtype: of weights that have no note; None for PyTorch's default.
    """
    metadata = dict(records.metadata)
    note = _checked_note(metadata.pop(NOTE, None))
    dtype = dtype or torch.get_default_dtype()
    nodes = [dict(record) for record in records.nodes]
    edges = [dict(record) for record in records.edges]
    fields: dict[str, Any] = {}
    for name, group in (
        ("node_weight", nodes),
        ("hyperedge_weight", edges),
        ("incidence_weight", records.incidences),
    ):
        if name in note or any("weight" in record for record in group):
            values = [record.get("weight", 1) for record in group]
            fields[name] = _tensor(name, values, _DTYPES[note[name]] if name in note else dtype)
    for name, group in (("node_features", nodes), ("hyperedge_features", edges)):
        if name in note:
            kind, width = note[name]
            rows = [_take(record, FEATURES, name, number) for number, record in enumerate(group)]
            for number, row in enumerate(rows):
                if not isinstance(row, list) or len(row) != width:
                    raise ValueError(f"`{name}`[{number}] must be a list of {width} numbers")
            fields[name] = _tensor(name, rows, _DTYPES[kind]).reshape(len(rows), width)
    if "group_names" in note:
        names = {name: number for number, name in enumerate(note["group_names"])}
        found = [_take(r, GROUP, "hyperedge_group", number) for number, r in enumerate(edges)]
        for number, value in enumerate(found):
            if not isinstance(value, str) or value not in names:
                raise ValueError(
                    f"the group of hyperedge {number} must be one of {list(names)}, got {value!r}"
                )
        groups = [names[str(value)] for value in found]
        fields["hyperedge_group"] = torch.tensor(groups, dtype=torch.long)
        fields["group_names"] = tuple(names)
    if "num_samples" in note:
        fields["num_samples"] = note["num_samples"]
        for name, group in (("node_batch", nodes), ("edge_batch", edges)):
            samples = [_take(record, SAMPLE, name, number) for number, record in enumerate(group)]
            if not all(type(sample) is int and 0 <= sample < 2**31 for sample in samples):
                raise ValueError(f"the samples of `{name}` must be small non-negative integers")
            fields[name] = torch.tensor(samples, dtype=torch.long)
    directed = records.network_type == "directed" or "direction" in note
    if directed or any("direction" in record for record in records.incidences):
        numbers = [DIRECTION_NUMBERS[record.get("direction")] for record in records.incidences]
        fields["direction"] = torch.tensor(numbers, dtype=torch.int8)
    index = torch.tensor(records.pairs, dtype=torch.long).reshape(-1, 2).t().contiguous()
    h = Hypergraph(index, len(nodes), len(edges), **fields)
    return Labelled(
        h,
        records.node_ids,
        records.edge_ids,
        [record.get("attrs", {}) for record in nodes],
        [record.get("attrs", {}) for record in edges],
        [record.get("attrs", {}) for record in records.incidences],
        metadata,
        records.network_type,
    )


def _start(attrs: Sequence[Mapping[str, Any]], size: int) -> list[Record]:
    if not attrs:
        return [{} for _ in range(size)]
    return [{"attrs": dict(entry)} if entry else {} for entry in attrs]


def _put(record: Record, key: str, value: object, field: str, number: int) -> None:
    attrs = record.setdefault("attrs", {})
    if key in attrs:
        raise ValueError(
            f"the attribute {key!r} of number {number} takes the place of `{field}`; rename it"
        )
    attrs[key] = value


def _take(record: Record, key: str, field: str, number: int) -> object:
    attrs = dict(record.get("attrs", {}))
    if key not in attrs:
        raise ValueError(f"the metadata promise `{field}`, but number {number} has no {key!r}")
    value = attrs.pop(key)
    record["attrs"] = attrs
    return value


def _name(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(f"the dtype must be one of {', '.join(_DTYPES)}, got {name}")
    return name


def _is_plain(h: Hypergraph, note: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a reader without the note would find the same, in the default dtype."""
    default = str(torch.float32).removeprefix("torch.")
    carried = {
        "node_weight": h.num_nodes > 0,
        "hyperedge_weight": h.num_edges > 0,
        "incidence_weight": h.nnz > 0,
        "direction": kind == "directed",
    }
    return all(carried.get(name, False) and kind in (default, True) for name, kind in note.items())


def _tensor(name: str, values: list[Any], dtype: torch.dtype) -> Tensor:
    try:
        tensor = torch.tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"`{name}` must hold numbers that fit {dtype}: {error}") from error
    if bool(tensor.isinf().any()):
        exact = torch.tensor(values, dtype=torch.float64)
        if bool((tensor.isinf() & ~exact.isinf()).any()):
            largest = float(exact[exact.isfinite()].abs().max())
            raise ValueError(
                f"`{name}` must hold numbers that fit {dtype}, got one of size {largest:g}; "
                "pass dtype=torch.float64"
            )
    return tensor


def _checked_note(note: object) -> dict[str, Any]:
    """The note as a dictionary; it comes from a file and may hold anything."""
    if note is None:
        return {}
    if not isinstance(note, Mapping):
        raise ValueError(f"metadata[{NOTE!r}] must be an object, got {type(note).__name__}")
    note = dict(note)
    if (version := note.pop("version", None)) != 1:
        raise ValueError(
            f"metadata[{NOTE!r}] must have version 1, got {version!r}; a newer hypergraph-nn may "
            "read it"
        )
    for name, value in note.items():
        if name in ("hyperedge_weight", "incidence_weight", "node_weight"):
            good = isinstance(value, str) and value in _DTYPES
        elif name in ("node_features", "hyperedge_features"):
            good = (
                isinstance(value, (list, tuple))
                and len(value) == 2
                and isinstance(value[0], str)
                and value[0] in _DTYPES
                and type(value[1]) is int
                and 0 <= value[1] < 2**31
            )
        elif name == "group_names":
            good = (
                isinstance(value, (list, tuple))
                and all(isinstance(entry, str) for entry in value)
                and len(set(value)) == len(value)
            )
        elif name == "num_samples":
            good = type(value) is int and 0 <= value < 2**31
        else:
            good = name == "direction" and value is True
        if not good:
            raise ValueError(f"metadata[{NOTE!r}][{name!r}] must not be {value!r}")
    return note


def check_weight(place: str, weight: object) -> float:
    """Return a weight that is a finite number, raise ValueError otherwise."""
    if isinstance(weight, bool) or not isinstance(weight, Real):
        raise ValueError(f"{place} must be a number, got {weight!r}")
    if not math.isfinite(weight):
        raise ValueError(f"{place} must be finite, got {weight}")
    return float(weight)
