import contextlib
import io
import pickle
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from hypergraph import Hypergraph
from hypergraph.datasets import HypergraphDataset, read_npz, write_npz


def same(one: HypergraphDataset, other: HypergraphDataset) -> None:
    assert one.hypergraph.shape == other.hypergraph.shape
    assert torch.equal(one.hypergraph.hyperedge_index, other.hypergraph.hyperedge_index)
    assert torch.equal(one.y, other.y)
    assert (one.x is None) == (other.x is None)
    if one.x is not None and other.x is not None:
        assert torch.equal(one.x, other.x)
    assert one.label_names == other.label_names
    assert len(one.splits) == len(other.splits)
    for mine, yours in zip(one.splits, other.splits, strict=True):
        for part in ("train", "valid", "test"):
            assert torch.equal(getattr(mine, part), getattr(yours, part))


def test_round_trip_of_sparse_dense_and_absent_features(toy, tmp_path):
    path = write_npz(toy, tmp_path / "folder" / "toy.npz")
    again = read_npz(path)
    same(toy, again)
    assert again.name == "toy" and again.num_classes == 3
    with np.load(path, allow_pickle=False) as file:
        assert "x_data" in file.files and file["x_data"].size == 4

    dense = replace(toy, x=torch.randn(6, 3))
    same(dense, read_npz(write_npz(dense, path)))
    bare = replace(toy, x=None, splits=(), label_names=())
    same(bare, read_npz(write_npz(bare, path)))
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.npz"]  # no temporary left


def test_sparse_rows_are_written_too(toy, tmp_path):
    from hypergraph.models import sparse_rows

    rows = replace(toy, x=sparse_rows(toy.x))
    same(toy, read_npz(write_npz(rows, tmp_path / "rows.npz")))


def test_an_interrupted_write_leaves_the_old_file(toy, tmp_path, monkeypatch):
    path = write_npz(toy, tmp_path / "toy.npz")
    before = path.read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_npz(replace(toy, splits=()), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_hypergraph_with_weights_is_refused(toy, tmp_path):
    weighted = replace(toy, hypergraph=toy.hypergraph.with_hyperedge_weight(torch.ones(3)))
    pairs, ends = torch.tensor([[0, 1], [0, 0]]), torch.tensor([-1, 1], dtype=torch.int8)
    directed = replace(toy, hypergraph=Hypergraph(pairs, 6, 1, direction=ends))
    for data, field in ((weighted, "hyperedge_weight"), (directed, "direction")):
        with pytest.raises(ValueError, match=f"without weights or other fields.*`{field}`"):
            write_npz(data, tmp_path / "weighted.npz")
    assert list(tmp_path.iterdir()) == []


def test_test_set_defaults_to_the_rest(toy, tmp_path):
    arrays = arrays_of(toy, tmp_path)
    for key in ("test_1", "valid_2", "test_2"):
        del arrays[key]
    np.savez(tmp_path / "a.npz", **arrays)
    first, second = read_npz(tmp_path / "a.npz").splits
    assert first.test.tolist() == [3, 4, 5]
    assert second.valid.tolist() == [] and second.test.tolist() == [0, 1, 2, 3, 4]


def arrays_of(data, folder):
    with np.load(write_npz(data, folder / "source.npz")) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "'y' is missing"),
        ({"num_nodes": np.array([1, 2])}, "'num_nodes' must be one number"),
        ({"num_nodes": np.array(3)}, "hyperedge_index"),
        ({"num_hyperedges": np.array(1)}, "hyperedge_index"),
        ({"y": np.zeros(6)}, "'y' must hold integers"),
        ({"y": np.zeros(5, int)}, "`y` must have shape [6]"),
        ({"y": np.array([0, 1, 2, 0, 1, -1])}, "`y` must hold classes"),
        ({"hyperedge_index": np.zeros((3, 4), int)}, "hyperedge_index"),
        ({"x_data": None}, "'x_data' is missing"),
        ({"x_shape": np.array([5, 10])}, "not a CSR matrix"),
        (
            {"x_shape": np.array([5, 10]), "x_indptr": np.array([0, 1, 2, 2, 3, 4])},
            "'x_shape' must have 6 rows",
        ),
        ({"x_shape": np.array([6, 4])}, "not a CSR matrix"),
        ({"x_shape": np.array([6, 10**14])}, "allocate"),
        ({"x": np.zeros((6, 2), complex)}, "'x' must hold real numbers, got complex128"),
        ({"x_data": np.array(["1"] * 4)}, "'x_data' must hold real numbers"),
        ({"hyperedge_weight": np.ones(3)}, "'hyperedge_weight' has no place"),
        ({"x_indptr": np.array([0, 3, 1, 2, 2, 3, 4])}, "not a CSR matrix"),
        ({"train_1": np.array([0, 6])}, "'train_1' must be a list of vertices"),
        ({"train_1": np.array([[0, 2]])}, "'train_1' must be a list of vertices"),
        ({"valid_1": np.array([0])}, "split 1 has vertices in more than one part"),
        ({"train_2": np.array([5, 5])}, "split 2 has vertices in more than one part"),
    ],
)
def test_broken_content_is_refused_with_file_and_key(toy, tmp_path, changes, message):
    arrays = arrays_of(toy, tmp_path)
    for key, value in changes.items():
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_npz(tmp_path / "broken.npz")
    assert "broken.npz" in str(caught.value)


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickles_inside_are_never_executed(toy, tmp_path):
    arrays = arrays_of(toy, tmp_path)
    arrays["y"] = np.array([_Bomb()] * 6, dtype=object)
    np.savez(tmp_path / "bomb.npz", **arrays)
    with pytest.raises(ValueError, match="not an npz file of plain arrays"):
        read_npz(tmp_path / "bomb.npz")


def test_any_broken_byte_is_a_value_error(toy, tmp_path):
    content = write_npz(toy, tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "broken.npz"
    for place in range(0, len(content), 5):
        for value in (0x06, 0xFF):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with contextlib.suppress(ValueError):  # it may also hit what nobody reads
                read_npz(path)


def test_a_size_that_is_not_true_is_told(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<i8", "fortran_order": False, "shape": (10**14,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(ValueError, match="not an npz file of plain arrays"):
        read_npz(tmp_path / "bomb.npz")


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none"):
        read_npz(tmp_path / "absent.npz")
    path = tmp_path / "other.npz"
    for content in (b"", b"hello", pickle.dumps({"y": 1}), _zip_of(b"not an array")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.npz"):
            read_npz(path)


def _zip_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("y.npy", content)
    return buffer.getvalue()


def test_record_checks_and_moves(toy):
    with pytest.raises(ValueError, match="`x` must have shape"):
        replace(toy, x=torch.zeros(5, 3))
    with pytest.raises(TypeError, match="`x` must be floating point"):
        replace(toy, x=torch.zeros(6, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="`hypergraph` must be a Hypergraph"):
        replace(toy, hypergraph=toy.hypergraph.hyperedge_index)
    moved = toy.to("meta")
    assert moved.y.is_meta and moved.x.is_meta and moved.splits[0].train.is_meta
    assert repr(toy) == (
        "HypergraphDataset('toy', num_nodes=6, num_edges=3, num_features=10, num_classes=3, "
        "splits=2)"
    )
    assert replace(toy, label_names=()).num_classes == 3
    assert replace(toy, label_names=("a", "b", "c", "d")).num_classes == 4
    assert replace(toy, x=None).num_features == 0
