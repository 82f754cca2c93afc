"""Honest files in every container, and files that are something else."""

from __future__ import annotations

import argparse
import collections
import gzip
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from gan_inversion.checkpoints import read_checkpoint, read_content
from gan_inversion.errors import CheckpointError
from tests.gan_inversion.checkpoints.equal import same
from tests.gan_inversion.checkpoints.payloads import torch_bytes

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip


V3 = ("torch.float8", "torch.uint16", "torch.uint32", "torch.uint64")


def _tensors() -> dict[str, torch.Tensor]:
    x = torch.randn(6, 5, 4)
    result = {str(dtype): (x.abs() * 3).to(dtype) for dtype in DTYPES}
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64):
        result[str(dtype)] = x.abs().to(dtype)
    return result | {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "transposed": x.permute(2, 0, 1),
        "part": x[2:4, ::2, 1:],
        "one": x[0, 0, :1],
        "repeated": torch.arange(3.0).expand(4, 3),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(x),
        "subnormal": torch.tensor([1e-42, -0.0, float("inf"), float("nan")]),
    }


TREE = {
    "names": ["a", "ä€𝄞", "", b"\x00\xff", None, True, False],
    "numbers": (1, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 1.5, float("inf"), 1e-300),
    "nested": {"a": {"b": [{"c": ((), [], {}, (1,), (1, 2), (1, 2, 3, 4))}]}, 3: "three"},
    "ordered": collections.OrderedDict(a=1, b=2),
    "path": pathlib.PurePosixPath("a/b"),
}
PLAIN = TREE | {"path": "a/b"}


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_save_writes_as_torch_does(tmp_path, zipped):
    path = tmp_path / "a.pt"
    tree = {"tensors": _tensors(), "rest": {k: v for k, v in TREE.items() if k != "path"}}
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    content = read_content(path)
    assert content.container == ("torch zip" if zipped else "torch legacy")
    assert content.checksummed is zipped
    assert same(content.tree["tensors"], dict(tree["tensors"]))
    if not zipped:
        # torch 2.13 writes these into its old container and cannot read them again.
        for key in [k for k in tree["tensors"] if k.startswith(V3)]:
            del tree["tensors"][key]
        torch.save(tree, path, _use_new_zipfile_serialization=False)
        content = read_content(path)
    assert same(content.tree, torch.load(path, weights_only=True))
    for key, tensor in content.tree["tensors"].items():
        assert tensor.stride() == tree["tensors"][key].stride() or tensor.numel() < 2, key


def test_tensors_that_shared_memory_share_it(tmp_path):
    path = tmp_path / "a.pt"
    x = torch.zeros(4)
    torch.save({"x": x, "view": x[1:3], "again": x}, path)
    tree = read_checkpoint(path)
    tree["x"][1] = 5
    assert tree["view"].tolist() == [5, 0] and tree["again"][1] == 5


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_pickles_of_all_protocols(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    arrays = {
        "plain": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 2), np.float32),
        "scalar": np.array(2.0),
    }
    value = {"tree": TREE, "arrays": arrays, "tensors": _tensors(), "number": np.float32(0.5)}
    for key in list(value["tensors"]):
        # torch itself cannot pickle these without torch.save.
        if key.startswith(V3):
            del value["tensors"][key]
    path.write_bytes(pickle.dumps(value, protocol))
    content = read_content(path)
    assert content.container == "pickle"
    assert same(content.tree["tree"], PLAIN)
    assert same(content.tree["tensors"], dict(value["tensors"]))
    assert content.tree["number"] == 0.5
    for key, array in arrays.items():
        expected = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        assert same(content.tree["arrays"][key], expected), key


def test_reads_python_2_pickles(tmp_path):
    """A dict {'a': array([1, 2])} as Python 2 with numpy 1 wrote it, and text with escapes."""
    text = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02i2K\x00K\x01\x87R"
        b"q\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x04\x01\x00\x02\x00tbs."
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(text)
    assert read_checkpoint(path)["a"].tolist() == [1, 2]
    path.write_bytes(b"(dp0\nS'it\\'s'\nI01\nsS\"\\xe9\\n\"\nL12L\ns.")
    assert read_checkpoint(path) == {"it's": True, "é\n": 12}


class EasyDict(dict):
    """As dnnlib's: a dict with attributes."""


def _as_class_of(monkeypatch, module: str, **classes: type) -> None:
    made = types.ModuleType(module)
    for name, cls in classes.items():
        cls.__module__ = module
        cls.__qualname__ = name
        setattr(made, name, cls)
    monkeypatch.setitem(sys.modules, module, made)
    parent = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))


@pytest.mark.parametrize("zipped", [True, False, None])
def test_settings_become_dicts(tmp_path, monkeypatch, zipped):
    _as_class_of(monkeypatch, "dnnlib.util", EasyDict=EasyDict)
    value = {
        "args": argparse.Namespace(size=256, lr=0.1, path=pathlib.Path("/a/b")),
        "easy": EasyDict(a=1, b=EasyDict(c=2)),
        "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "set": {"x"},
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
    }
    path = tmp_path / "a.pt"
    content = pickle.dumps(value, 2) if zipped is None else torch_bytes(value, zipped)
    path.write_bytes(content)
    assert read_checkpoint(path) == {
        "args": {"size": 256, "lr": 0.1, "path": "/a/b"},
        "easy": {"a": 1, "b": {"c": 2}},
        "counter": {"a": 2, "b": 1},
        "default": {"a": [1]},
        "set": ["x"],
        "size": (1, 2),
        "dtype": "torch.float16",
        "device": "cuda:1",
    }


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU())
        self.head = nn.Linear(4, 2)
        self.register_buffer("fixed", torch.ones(3))
        self.register_buffer("hidden", torch.ones(3), persistent=False)
        self.register_buffer("none", None)
        self.gain, self.name, self.act = 2.0, "net", nn.functional.leaky_relu


@pytest.mark.parametrize("zipped", [True, False, None])
def test_a_network_saved_whole_gives_its_state_dict(tmp_path, monkeypatch, zipped):
    _as_class_of(monkeypatch, "models.somebody", Network=Network)
    net = Network()
    path = tmp_path / "net.pt"
    content = pickle.dumps(net) if zipped is None else torch_bytes(net, zipped)
    path.write_bytes(content)
    read = read_checkpoint(path)
    assert read["class_name"] == "Network" and read["init_kwargs"] == {}
    assert same(read["state"], dict(net.state_dict()))
    assert list(read["state"]) == list(net.state_dict())
    assert read["attributes"]["gain"] == 2.0 and read["attributes"]["body.0.kernel_size"] == (3, 3)
    assert "act" not in read["attributes"]


def test_npz_npy_and_safetensors(tmp_path):
    arrays = {"a": np.arange(6, dtype=">f8").reshape(2, 3), "b/c": np.float16([1, 2])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        tree = read_checkpoint(tmp_path / "a.npz")
        assert same(tree, {k: torch.tensor(v.astype(v.dtype.name)) for k, v in arrays.items()})
    for array in (np.asfortranarray(np.eye(3)[:2]), np.float32(3), np.zeros((0, 4)), np.arange(5)):
        np.save(tmp_path / "a.npy", array)
        expected = torch.from_numpy(np.array(array, order="C"))
        assert same(read_checkpoint(tmp_path / "a.npy"), expected)
    # The format holds contiguous tensors, and no complex128.
    tensors = {k: v.detach().clone().contiguous() for k, v in _tensors().items()}
    del tensors["torch.complex128"]
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"key": "value"})
    content = read_content(tmp_path / "a.safetensors")
    assert same(content.tree, {key: tensors[key] for key in content.tree})
    assert len(content.tree) == len(tensors) and content.metadata == {"key": "value"}


def test_content_decides_and_not_the_name(tmp_path):
    for content in (torch_bytes({"a": torch.ones(1)}), torch_bytes({"a": torch.ones(1)}, False)):
        for suffix in (".safetensors", ".npz", ".png", ""):
            path = tmp_path / f"a{suffix}"
            path.write_bytes(content)
            assert read_checkpoint(path)["a"].tolist() == [1]


def test_tensors_are_the_callers_to_change(tmp_path):
    for content in (
        torch_bytes({"a": torch.ones(2)}),
        torch_bytes({"a": torch.ones(2)}, False),
        pickle.dumps({"a": np.ones(2)}),
        safetensors.torch.save({"a": torch.ones(2)}),
    ):
        path = tmp_path / "a.pt"
        path.write_bytes(content)
        read_checkpoint(path)["a"].add_(1)
        assert read_checkpoint(path)["a"].tolist() == [1, 1] and path.read_bytes() == content


WHOLE = torch_bytes({"a": torch.ones(100)})
SOMETHING_ELSE = {
    "empty": (b"", "it is empty"),
    "zeros": (bytes(1000), "nothing but zeros"),
    "html": (b"<!DOCTYPE html><html><head><title>Google Drive - Quota</title>", "web page"),
    "html after blanks": (b"\xef\xbb\xbf \r\n <HTML lang=en>", "web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    "json": (b'{"message": "rate limit exceeded"}', "it is text"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "git-LFS pointer.*git lfs pull",
    ),
    "gzip": (gzip.compress(WHOLE), "packed with gzip; unpack it"),
    "bzip2": (b"BZh91AY&SY", "bzip2"),
    "tar": (bytes(257).replace(b"\0", b"a") + b"ustar\x0000", "tar archive"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(50), "JPEG picture"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "plain text": (b"404: Not Found", "it is text, not weights; it begins .404: Not Found"),
    "script": (b"#!/bin/sh\nrm -rf /\n", "it is a script"),
    "half a zip": (WHOLE[: len(WHOLE) // 2], "cut short.*interrupted download: fetch it again"),
    "half a legacy file": (
        torch_bytes({"a": torch.ones(100)}, False)[:-200],
        "cut short.*fetch it again",
    ),
    "half a pickle": (pickle.dumps({"a": np.ones(100)})[:-400], "cut short.*fetch it again"),
    "half safetensors": (
        safetensors.torch.save({"a": torch.ones(100)})[:-1],
        "cut short.*fetch it again",
    ),
    "two pickles": (pickle.dumps(1) + pickle.dumps(2), "follow its content"),
}


@pytest.mark.parametrize("label", SOMETHING_ELSE)
def test_what_is_no_checkpoint_is_named(tmp_path, label):
    content, message = SOMETHING_ELSE[label]
    for suffix in (".pt", ".pkl", ".safetensors", ".npz"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_checkpoint(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_other_archives_are_named(tmp_path):
    import zipfile

    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(CheckpointError, match=r"zip archive of 1 other files \(photo.jpg\)"):
        read_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(1))
        archive.writestr("a/constants.pkl", pickle.dumps(()))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(tmp_path / "a.pt")


def test_paths(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="it is not a file"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="it is not a file"):
        read_checkpoint("/dev/zero")
    with pytest.raises(TypeError, match="`path` must be a str or a path, got bytes"):
        read_checkpoint(b"a")  # type: ignore[arg-type]


def test_a_known_sha256_is_checked(tmp_path):
    import hashlib

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_checkpoint(path, sha256=good.upper()) == {"a": 1}
    assert read_content(path, digest=True).sha256 == good
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {good}, expected {'0' * 64}"):
        read_checkpoint(path, sha256="0" * 64)
    with pytest.raises(ValueError, match="`sha256` must be 64 hexadecimal digits, got 'abc'"):
        read_checkpoint(path, sha256="abc")


def test_arrays_of_other_things_are_refused(tmp_path):
    arrays = [np.array(["text"]), np.zeros(2, [("a", "i4")]), np.array([1, None]), np.array([b"a"])]
    arrays += [np.array("2020-01-01", "datetime64[D]"), np.longdouble([1])]
    for array in arrays:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(array))
        for name in ("a.npy", "a.pkl"):
            with pytest.raises(CheckpointError, match="it holds|its array|names"):
                read_checkpoint(tmp_path / name)


def test_other_tensors_are_refused(tmp_path):
    for tensor in (
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        torch.ones(2, dtype=torch.complex64).conj(),
    ):
        torch.save(tensor, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="it names|conjugate|unknown kind"):
            read_checkpoint(tmp_path / "a.pt")


def test_a_pickle_in_a_buffer_that_is_json(tmp_path):
    """A pickle whose ninth byte is a brace is not safetensors."""
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"ab{": 1}, 0))
    assert read_checkpoint(path) == {"ab{": 1}
