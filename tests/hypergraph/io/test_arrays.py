"""npz and safetensors: every field to the bit, and nothing that a file may hold is believed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypergraph import Hypergraph
from hypergraph.io import load_npz, load_safetensors, save_npz, save_safetensors
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

FIELDS = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
)
Pair = tuple[Callable[..., None], Callable[..., Hypergraph], str]
BOTH: list[Pair] = [
    (save_npz, load_npz, "h.npz"),
    (save_safetensors, load_safetensors, "h.safetensors"),
]
both = pytest.mark.parametrize(("save", "load", "name"), BOTH, ids=["npz", "safetensors"])
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMPY_FLOATS = (torch.float32, torch.float64, torch.float16)


@both
@reused
@given(data=st.data())
def test_a_hypergraph_comes_back_to_the_bit(
    save: Any, load: Any, name: str, tmp_path: Path, data: st.DataObject
) -> None:
    dtypes = NUMPY_FLOATS if name == "h.npz" else (*NUMPY_FLOATS, torch.bfloat16)
    h = data.draw(hypergraphs(FIELDS, dtypes=dtypes))
    save(tmp_path / name, h)
    assert_same(load(tmp_path / name), h)


@both
def test_batches_odd_values_and_options(save: Any, load: Any, name: str, tmp_path: Path) -> None:
    h = Hypergraph.batch([everything(), everything()])
    odd = torch.full((10, 1), torch.nan)
    odd[1], odd[2] = torch.inf, -0.0
    h = h.replace(node_features=odd.requires_grad_())
    save(tmp_path / name, h)
    got = load(tmp_path / name)
    assert got.equal(h)
    assert got.node_features is not None and got.node_features.signbit()[2]
    assert not got.node_features.requires_grad
    if save is save_npz:
        save_npz(tmp_path / name, h, compressed=False)
        assert load_npz(tmp_path / name).equal(h)


def test_npz_has_no_bfloat16(tmp_path: Path) -> None:
    h = Hypergraph.from_edges([[0]], hyperedge_weight=torch.ones(1, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="use save_safetensors"):
        save_npz(tmp_path / "h.npz", h)
    assert os.listdir(tmp_path) == []
    with pytest.raises(TypeError, match="`hypergraph` must be a Hypergraph"):
        save_npz(tmp_path / "h.npz", [[0, 1]])  # type: ignore[arg-type]


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trace,)


def npy(array: np.ndarray[Any, Any], pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=pickled)
    return out.getvalue()


def claimed(text: str, data: bytes = b"") -> bytes:
    """An npy array whose header says ``text``."""
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


HEADER: dict[str, Any] = {
    "format": "hypergraph-nn", "version": 1, "num_nodes": 2, "num_edges": 1,
}  # fmt: skip


def header(**changes: Any) -> bytes:
    text = json.dumps({k: v for k, v in {**HEADER, **changes}.items() if v is not None})
    return npy(np.frombuffer(text.encode(), np.uint8))


INDEX = npy(np.array([[0, 1], [0, 0]]))
HOSTILE: dict[str, dict[str, bytes]] = {
    "no header": {"hyperedge_index": INDEX},
    "other format": {"header": header(format="other"), "hyperedge_index": INDEX},
    "newer": {"header": header(version=2), "hyperedge_index": INDEX},
    "no size": {"header": header(num_nodes=None), "hyperedge_index": INDEX},
    "negative size": {"header": header(num_nodes=-1), "hyperedge_index": INDEX},
    "boolean size": {"header": header(num_nodes=True), "hyperedge_index": INDEX},
    "small size": {"header": header(num_nodes=1), "hyperedge_index": INDEX},
    "no index": {"header": header()},
    "unknown array": {"header": header(), "hyperedge_index": INDEX, "x": INDEX},
    "index of floats": {"header": header(), "hyperedge_index": npy(np.ones((2, 2)))},
    "index of one row": {"header": header(), "hyperedge_index": npy(np.ones(2, np.int64))},
    "text": {"header": header(), "hyperedge_index": npy(np.array([["a"], ["b"]]))},
    "times": {"header": header(), "hyperedge_index": npy(np.zeros((2, 2), "M8[s]"))},
    "negative weight": {
        "header": header(), "hyperedge_index": INDEX, "hyperedge_weight": npy(-np.ones(1)),
    },
    "groups are no list": {
        "header": header(group_names="ab"), "hyperedge_index": INDEX,
        "hyperedge_group": npy(np.ones(1, np.int64)),
    },
    "groups of nothing": {"header": header(group_names=["a"]), "hyperedge_index": INDEX},
    "samples of nothing": {"header": header(num_samples=1), "hyperedge_index": INDEX},
    "no json": {"header": npy(np.frombuffer(b"{]", np.uint8)), "hyperedge_index": INDEX},
    "no utf-8": {"header": npy(np.frombuffer(b"\xff\xfe", np.uint8)), "hyperedge_index": INDEX},
    "no npy": {"header": header(), "hyperedge_index": b"nothing"},
    "empty entry": {"header": header(), "hyperedge_index": b""},
    "npy version 9": {"header": header(), "hyperedge_index": b"\x93NUMPY\x09\x00" + INDEX[8:]},
    "larger than its bytes": {
        "header": header(),
        "hyperedge_index": claimed(
            "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 1000000000000)}", bytes(32)
        ),
    },
    "negative shape": {
        "header": header(),
        "hyperedge_index": claimed(
            "{'descr': '<i8', 'fortran_order': False, 'shape': (-2, -2)}", bytes(32)
        ),
    },
    "code in the header": {
        "header": header(),
        "hyperedge_index": claimed("{'descr': __import__('os').getcwd(), 'shape': ()}"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_npz_is_one_clear_error(name: str, tmp_path: Path) -> None:
    file = tmp_path / "h.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in HOSTILE[name].items():
            archive.writestr(f"{entry}.npy", content)
    with pytest.raises(ValueError, match=r"h\.npz: not a file of save_npz: \S"):
        load_npz(file)


def test_what_does_not_belong_is_named(tmp_path: Path) -> None:
    file = tmp_path / "h.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", header(num_nodes=2**63 - 1))
        archive.writestr("hyperedge_index.npy", INDEX)
    assert load_npz(file).num_nodes == 2**63 - 1
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.npy", INDEX)
    with pytest.raises(ValueError, match="holds 'labels', which is none of hyperedge_index"):
        load_npz(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", header(num_nodes=2**63))
        archive.writestr("hyperedge_index.npy", INDEX)
    with pytest.raises(ValueError, match="num_nodes and num_edges"):
        load_npz(file)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bomb = np.array([Bomb(str(trace))], dtype=object)
    file = tmp_path / "h.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", header())
        archive.writestr("hyperedge_index.npy", npy(bomb, pickled=True))
    with pytest.raises(ValueError, match="never read"):
        load_npz(file)
    for load in (load_npz, load_safetensors):
        file.write_bytes(pickle.dumps(Bomb(str(trace))))
        with pytest.raises(ValueError, match=r"h\.npz"):
            load(file)
    assert not trace.exists()


def test_zip_bombs_and_doubles(tmp_path: Path) -> None:
    file = tmp_path / "h.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", header())
        archive.writestr("hyperedge_index.npy", npy(np.zeros((2, 10**6), np.int64)))
    assert file.stat().st_size < 100_000
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        load_npz(file, max_bytes=10**6)
    assert load_npz(file).nnz == 10**6
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("header.npy", header())
        archive.writestr("header.npy", header(num_nodes=3))
    with pytest.raises(ValueError, match="twice"):
        load_npz(file)


def test_other_byte_orders_and_integers_are_read(tmp_path: Path) -> None:
    """What another program may have written: big-endian, Fortran order, 32 bits."""
    file = tmp_path / "h.npz"
    index = np.asfortranarray(np.array([[0, 1], [0, 0]], ">i4"))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", header())
        archive.writestr("hyperedge_index.npy", npy(index))
    assert load_npz(file).hyperedge_index.tolist() == [[0, 1], [0, 0]]
    second = io.BytesIO()
    np.lib.format.write_array(second, index, version=(2, 0))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", header())
        archive.writestr("hyperedge_index.npy", second.getvalue())
    assert load_npz(file).nnz == 2


@both
def test_cut_and_changed_files(save: Any, load: Any, name: str, tmp_path: Path) -> None:
    """Every cut is an error; a changed byte is an error or gives a valid hypergraph."""
    file = tmp_path / name
    save(file, everything())
    content = file.read_bytes()
    for length in {*range(0, len(content), 41), len(content) - 1}:
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=name):
            load(file)
    random = torch.Generator().manual_seed(0)
    for place in torch.randint(0, len(content), (150,), generator=random).tolist():
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            load(file)
        except ValueError as error:
            assert name in str(error)


def test_hostile_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save

    file = tmp_path / "h.safetensors"
    index = torch.tensor([[0, 1], [0, 0]])
    good = {"hypergraph-nn": json.dumps(HEADER)}
    cases: list[tuple[dict[str, torch.Tensor], dict[str, str] | None]] = [
        ({"hyperedge_index": index}, None),
        ({"hyperedge_index": index}, {"format": "pt"}),
        ({"hyperedge_index": index}, {"hypergraph-nn": "["}),
        ({"hyperedge_index": index}, {"hypergraph-nn": "[" * 100_000}),
        ({"hyperedge_index": index, "more": index.clone()}, good),
        ({"hyperedge_index": index + 5}, good),
        ({"hyperedge_index": index.float()}, good),
        ({}, good),
    ]
    for tensors, metadata in cases:
        file.write_bytes(save(tensors, metadata))
        with pytest.raises(ValueError, match=r"h\.safetensors: not a file of save_safetensors"):
            load_safetensors(file)
    file.write_bytes(save({"hyperedge_index": index}, good))
    assert load_safetensors(file).nnz == 2
    with pytest.raises(FileNotFoundError):
        load_safetensors(tmp_path / "absent")
