"""The file format: plain arrays in an npz, never a pickle."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hypergraph._files import atomic_writer
from hypergraph.datasets.record import HypergraphDataset, Split
from hypergraph.incidence import Hypergraph

_Arrays = Mapping[str, NDArray[np.generic]]
_REQUIRED = ("num_nodes", "num_hyperedges", "hyperedge_index", "y")
_FEATURES = ("x_data", "x_indices", "x_indptr", "x_shape")
# What the format has no place for; write_npz refuses it, and a file that holds it is another's.
_NO_PLACE = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
    "num_samples",
)
# NotImplementedError and RuntimeError: a way of packing that is unknown, or needs a password.
# MemoryError: a size that is not true.
_BROKEN = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    MemoryError,
)


def read_npz(
    path: str | Path,
    name: str | None = None,
    source: str = "",
    licence: str = "",
) -> HypergraphDataset:
    """Read a data set from an npz file; nothing in it is ever executed.

    Keys: ``num_nodes``, ``num_hyperedges``, ``hyperedge_index`` [2, nnz] (row 0 vertices), ``y``
    [N]; optional ``x`` [N, F] or its CSR parts ``x_data``, ``x_indices``, ``x_indptr``,
    ``x_shape``; ``train_1``, ``train_2``, ... with ``valid_i`` and ``test_i`` (test defaults to all
    other vertices); ``label_names``.

    Args:
        path: the file.
        name: of the data set; default the file's stem.
        source: where it comes from.
        licence: what is stated there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one of these, with the key at fault.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be an npz file, there is none at {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an npz file: it is cut short, or of another kind")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except _BROKEN as error:
        raise ValueError(f"{path} is not an npz file of plain arrays: {error}") from error
    try:
        return dataset_from_arrays(arrays, name or path.stem, source, licence)
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: {error}") from error


def dataset_from_arrays(
    arrays: _Arrays, name: str, source: str = "", licence: str = ""
) -> HypergraphDataset:
    """Build a data set from the arrays of an npz file, see ``read_npz``."""
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise ValueError(f"the key {missing[0]!r} is missing; there are {sorted(arrays)}")
    homeless = [key for key in _NO_PLACE if key in arrays]
    if homeless:
        raise ValueError(
            f"the key {homeless[0]!r} has no place in a data set's file and would be lost; "
            "hypergraph.io reads hypergraphs with it"
        )
    num_nodes = _scalar(arrays, "num_nodes")
    num_edges = _scalar(arrays, "num_hyperedges")
    index = torch.from_numpy(_integers(arrays, "hyperedge_index"))
    hypergraph = Hypergraph(index, num_nodes, num_edges)
    y = torch.from_numpy(_integers(arrays, "y"))
    names = tuple(str(value) for value in arrays["label_names"]) if "label_names" in arrays else ()
    x = _features(arrays, num_nodes)
    splits = tuple(_splits(arrays, num_nodes))
    return HypergraphDataset(name, hypergraph, x, y, splits, names, source, licence)


def write_npz(dataset: HypergraphDataset, path: str | Path) -> Path:
    """Write a data set to an npz file that ``read_npz`` reads back; replaces an old one at once.

    Features are stored as float32, and as CSR where they are mostly zero. Weights, directions,
    groups and features of the hypergraph itself have no place in the format.

    Raises:
        ValueError: the hypergraph has one of these.
    """
    h, path = dataset.hypergraph, Path(path)
    lost = [name for name in _NO_PLACE if getattr(h, name) is not None]
    if lost:
        raise ValueError(
            "`dataset` must have a hypergraph without weights or other fields, which the format "
            f"cannot hold, got one with `{lost[0]}`; hypergraph.io has formats that do"
        )
    arrays: dict[str, NDArray[np.generic]] = {
        "num_nodes": np.array(h.num_nodes),
        "num_hyperedges": np.array(h.num_edges),
        "hyperedge_index": h.hyperedge_index.cpu().numpy().astype(np.int32),
        "y": dataset.y.cpu().numpy().astype(np.int32),
    }
    if dataset.x is not None:
        features = dataset.x.detach().cpu()
        if features.layout != torch.strided:
            features = features.to_dense()
        x = features.float().numpy()
        if np.count_nonzero(x) * 4 < x.size:
            rows, columns = np.nonzero(x)
            counts = np.bincount(rows, minlength=len(x))
            arrays["x_data"] = x[rows, columns]
            arrays["x_indices"] = columns.astype(np.int32)
            arrays["x_indptr"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            arrays["x_shape"] = np.array(x.shape)
        else:
            arrays["x"] = x
    for number, split in enumerate(dataset.splits, 1):
        for part in ("train", "valid", "test"):
            arrays[f"{part}_{number}"] = getattr(split, part).cpu().numpy().astype(np.int32)
    if dataset.label_names:
        arrays["label_names"] = np.array(dataset.label_names)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


def _scalar(arrays: _Arrays, key: str) -> int:
    value = _integers(arrays, key)
    if value.size != 1:
        raise ValueError(f"{key!r} must be one number, got shape {list(value.shape)}")
    return int(value.reshape(()))


def _integers(arrays: _Arrays, key: str) -> NDArray[np.int64]:
    array = arrays[key]
    if array.dtype.kind not in "iu":
        raise ValueError(f"{key!r} must hold integers, got {array.dtype}")
    return array.astype(np.int64)


def _features(arrays: _Arrays, num_nodes: int) -> torch.Tensor | None:
    for key in ("x", "x_data"):
        if key in arrays and arrays[key].dtype.kind not in "buif":
            raise ValueError(f"{key!r} must hold real numbers, got {arrays[key].dtype}")
    if "x" in arrays:
        return torch.from_numpy(arrays["x"].astype(np.float32))
    if not any(key in arrays for key in _FEATURES):
        return None
    missing = [key for key in _FEATURES if key not in arrays]
    if missing:
        raise ValueError(f"the key {missing[0]!r} is missing; features need {', '.join(_FEATURES)}")
    shape = _integers(arrays, "x_shape")
    starts, columns = _integers(arrays, "x_indptr"), _integers(arrays, "x_indices")
    values = arrays["x_data"].astype(np.float32)
    fits = (
        shape.shape == (2,)
        and shape.min() >= 0
        and starts.shape == (shape[0] + 1,)
        and starts[0] == 0
        and starts[-1] == len(columns)
        and bool((np.diff(starts) >= 0).all())
        and columns.shape == values.shape
        and (columns.size == 0 or (columns.min() >= 0 and columns.max() < shape[1]))
    )
    if not fits:
        raise ValueError("'x_data', 'x_indices', 'x_indptr', 'x_shape' are not a CSR matrix")
    if shape[0] != num_nodes:
        raise ValueError(f"'x_shape' must have {num_nodes} rows, got {list(shape)}")
    dense = np.zeros(tuple(shape), dtype=np.float32)
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    np.add.at(dense, (rows, columns), values)
    return torch.from_numpy(dense)


def _splits(arrays: _Arrays, num_nodes: int) -> list[Split]:
    splits = []
    number = 1
    while f"train_{number}" in arrays:
        train = _vertices(arrays, f"train_{number}", num_nodes)
        valid = np.zeros(0, dtype=np.int64)
        if f"valid_{number}" in arrays:
            valid = _vertices(arrays, f"valid_{number}", num_nodes)
        if f"test_{number}" in arrays:
            test = _vertices(arrays, f"test_{number}", num_nodes)
        else:
            test = np.setdiff1d(np.arange(num_nodes), np.concatenate([train, valid]))
        used = np.concatenate([train, valid, test])
        if len(np.unique(used)) != len(used):
            raise ValueError(f"split {number} has vertices in more than one part, or twice")
        splits.append(Split(*(torch.from_numpy(part) for part in (train, valid, test))))
        number += 1
    return splits


def _vertices(arrays: _Arrays, key: str, num_nodes: int) -> NDArray[np.int64]:
    vertices = _integers(arrays, key)
    if vertices.ndim != 1 or (
        vertices.size and not (0 <= vertices.min() and vertices.max() < num_nodes)
    ):
        raise ValueError(f"{key!r} must be a list of vertices in [0, {num_nodes})")
    return vertices
