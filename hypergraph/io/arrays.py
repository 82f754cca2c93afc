"""Files of plain tensors: npz and safetensors. Neither holds code, neither can run any."""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from hypergraph._files import MAX_BYTES, PathLike, atomic_writer, checked_path, read_bytes
from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import FIELDS, check_hypergraph

_FORMAT = "hypergraph-nn"
_VERSION = 1
_HEADER = "header"
_TENSORS = ("hyperedge_index", *FIELDS[:-1], "node_batch", "edge_batch")


def save_npz(path: PathLike, hypergraph: Hypergraph, compressed: bool = True) -> None:
    """Write a hypergraph with all its fields to an npz file, at once; no pickles.

    The file holds one array per field and a small JSON ``header`` with the sizes. numpy has no
    bfloat16; ``save_safetensors`` takes it.

    Args:
        path: the file; an old one survives an error.
        hypergraph: any Hypergraph; tensors are detached and come back on the CPU.
        compressed: smaller and slower.

    Raises:
        OSError: the file cannot be written.
        TypeError, ValueError: it is no Hypergraph, or has a dtype that numpy does not know.

    Example:
        >>> import tempfile
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import load_npz, save_npz
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_npz(f"{folder}/h.npz", Hypergraph.from_edges([[0, 1], []], num_nodes=3))
        ...     load_npz(f"{folder}/h.npz")
        Hypergraph(num_nodes=3, num_edges=2, nnz=2, device='cpu')
    """
    tensors, header = _split(check_hypergraph(hypergraph))
    arrays: dict[str, NDArray[Any]] = {_HEADER: np.frombuffer(header.encode(), np.uint8)}
    for name, tensor in tensors.items():
        try:
            arrays[name] = tensor.numpy()
        except TypeError as error:
            raise ValueError(
                f"`{name}` must have a dtype that numpy knows, got {tensor.dtype}; "
                "use save_safetensors"
            ) from error
    save = np.savez_compressed if compressed else np.savez
    with atomic_writer(path) as file:
        save(file, **arrays)  # type: ignore[arg-type]


def load_npz(path: PathLike, max_bytes: int = MAX_BYTES) -> Hypergraph:
    """Read a file of ``save_npz``; pickles are refused.

    Args:
        path: the file.
        max_bytes: the most that its arrays may hold, unpacked.

    Raises:
        OSError: there is no such file.
        ValueError: it is broken, no such file, or describes no valid hypergraph; the message names
            the file and the reason.
    """
    path = checked_path(path)
    content = io.BytesIO(read_bytes(path, max_bytes))
    try:
        with zipfile.ZipFile(content) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise ValueError(f"it unpacks to more than {max_bytes} bytes; see `max_bytes`")
            arrays = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"it holds {name!r} twice")
                arrays[name] = _array(name, archive.read(entry))
        if _HEADER not in arrays:
            raise ValueError(f"it has no array {_HEADER!r}; hypergraph.datasets reads data sets")
        header = arrays.pop(_HEADER).tobytes().decode()
        return _join({n: torch.from_numpy(a) for n, a in arrays.items()}, header)
    except (ValueError, TypeError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a file of save_npz: {error}") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not an npz file: {error}") from error


def save_safetensors(path: PathLike, hypergraph: Hypergraph) -> None:
    """Write a hypergraph with all its fields to a safetensors file, at once.

    One tensor per field, sizes and group names in the metadata; every dtype, bfloat16 included.

    Raises:
        OSError: the file cannot be written.
        TypeError: it is no Hypergraph.
    """
    from safetensors.torch import save

    tensors, header = _split(check_hypergraph(hypergraph))
    # safetensors refuses tensors that share memory.
    content = save({n: t.contiguous().clone() for n, t in tensors.items()}, {_FORMAT: header})
    with atomic_writer(path) as file:
        file.write(content)


def load_safetensors(path: PathLike, max_bytes: int = MAX_BYTES) -> Hypergraph:
    """Read a file of ``save_safetensors``.

    Raises:
        OSError: there is no such file.
        ValueError: it is broken, no such file, or describes no valid hypergraph; the message names
            the file and the reason.

    Example:
        >>> import tempfile
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import load_safetensors, save_safetensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_safetensors(f"{folder}/h.safetensors", Hypergraph.from_edges([[0, 1]]))
        ...     load_safetensors(f"{folder}/h.safetensors")
        Hypergraph(num_nodes=2, num_edges=1, nnz=2, device='cpu')
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = checked_path(path)
    content = read_bytes(path, max_bytes)
    try:
        tensors = load(content)
        # load() checked the layout; it does not hand out the metadata.
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        if _FORMAT not in metadata:
            raise ValueError(f"its metadata have no {_FORMAT!r}")
        return _join(tensors, metadata[_FORMAT])
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: not a file of save_safetensors: {error}") from error


def _split(h: Hypergraph) -> tuple[dict[str, Tensor], str]:
    tensors = {name: getattr(h, name) for name in _TENSORS}
    header: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "num_nodes": h.num_nodes,
        "num_edges": h.num_edges,
    }
    if h.hyperedge_group is not None:
        header["group_names"] = list(h.group_names)
    if h.num_samples is not None:
        header["num_samples"] = h.num_samples
    kept = {name: tensor.detach().cpu() for name, tensor in tensors.items() if tensor is not None}
    return kept, json.dumps(header)


def _join(tensors: Mapping[str, Tensor], header_text: str) -> Hypergraph:
    try:
        header = json.loads(header_text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"its header does not say format {_FORMAT!r}")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"it has version {header.get('version')!r}, this one reads {_VERSION}; "
            "a newer hypergraph-nn may read it"
        )
    unknown = sorted(set(tensors) - set(_TENSORS))
    if unknown:
        raise ValueError(f"it holds {unknown[0]!r}, which is none of {', '.join(_TENSORS)}")
    if "hyperedge_index" not in tensors:
        raise ValueError("it has no 'hyperedge_index'")
    sizes = [header.get(name) for name in ("num_nodes", "num_edges")]
    samples = header.get("num_samples")
    if not all(type(size) is int and 0 <= size < 2**63 for size in (*sizes, samples or 0)):
        raise ValueError(f"its header must hold num_nodes and num_edges, got {sizes}")
    fields: dict[str, Any] = {**tensors, "num_samples": samples}
    names = header.get("group_names")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("its group_names must be a list of strings")
        fields["group_names"] = tuple(names)
    return Hypergraph(fields.pop("hyperedge_index"), sizes[0], sizes[1], **fields)


def _array(name: str, content: bytes) -> NDArray[Any]:
    """One npy array; the header's size is believed only if the bytes are there."""
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream)
    else:
        raise ValueError(f"{name!r} has npy version {version}")
    if dtype.kind not in "buif":
        raise ValueError(f"{name!r} must hold numbers, got {dtype} (pickles are never read)")
    data = content[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name!r} must have {shape} numbers, got {len(data)} bytes")
    array = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    return array.reshape(shape, order="F" if fortran else "C")
