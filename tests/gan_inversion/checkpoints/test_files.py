"""Our own file format."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gan_inversion.checkpoints.files import (
    NetworkFile,
    clean_orphans,
    load_network,
    save_network,
    workplace,
    write_torch,
)
from gan_inversion.errors import CheckpointError
from tests.gan_inversion.checkpoints.equal import same


def _network() -> NetworkFile:
    state = {
        "a": torch.randn(3, 4).t(),
        "half": torch.randn(5).half(),
        "count": torch.tensor(3),
        "none": torch.empty(0, 2),
        "shared": torch.ones(6),
        "bad": torch.tensor([float("nan"), -0.0]),
    }
    state["again"] = state["shared"][2:]
    config = {"channels": [4, 8], "name": "ü", "clamp": None}
    return NetworkFile("Net", config, state, {"licence": "MIT", "fd": 1.5})


def test_a_network_comes_back_as_it_was(tmp_path):
    path = tmp_path / "a.safetensors"
    saved = _network()
    save_network(path, saved)
    loaded = load_network(path)
    assert (loaded.network, loaded.config, loaded.card) == ("Net", saved.config, saved.card)
    assert set(loaded.state) == set(saved.state)
    assert all(same(loaded.state[name], saved.state[name]) for name in saved.state)
    # The library reads it, too.
    theirs = safetensors.torch.load_file(path)
    assert all(same(theirs[name], loaded.state[name]) for name in saved.state)


def test_equal_networks_are_equal_files(tmp_path):
    saved = _network()
    for name in ("a", "b"):
        save_network(tmp_path / f"{name}.safetensors", saved)
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("key", ["network", "config", "card", "sha256", "version", "format"])
def test_a_change_of_any_setting_is_found(tmp_path, key):
    path = tmp_path / "a.safetensors"
    save_network(path, _network())
    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = safetensors.torch.load_file(path)
    changed = metadata | {key: metadata[key].replace(metadata[key][-2:], "00")}
    missing = {name: value for name, value in metadata.items() if name != key}
    for other in (changed, missing):
        safetensors.torch.save_file(tensors, path, other)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: .*(damaged|SHA-256|lacks)"):
            load_network(path)


def test_a_file_of_others_is_not_taken_for_ours(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="did not write; convert it with"):
        load_network(path)


def test_bad_arguments(tmp_path):
    network = _network()
    with pytest.raises(ValueError, match=r"`path` must end in \.safetensors, got 'a\.pt'"):
        save_network(tmp_path / "a.pt", network)
    for config in ({"a": float("nan")}, {"a": torch.ones(1)}):
        with pytest.raises(ValueError, match="`config` must be plain values for JSON"):
            save_network(tmp_path / "a.safetensors", NetworkFile("N", config, {}))
    with pytest.raises(FileNotFoundError):
        save_network(tmp_path / "absent" / "a.safetensors", network)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="`older_than` must be seconds"):
        clean_orphans(tmp_path / "a", older_than=-1)


def test_an_error_while_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_network(path, _network())
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_network(path, NetworkFile("Other", {}, {"a": torch.ones(10)}))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_orphans_of_killed_writers_are_cleaned(tmp_path, source_environment):
    path = tmp_path / "a.safetensors"
    script = (
        "import os, sys, time, torch\n"
        "from gan_inversion.checkpoints.files import NetworkFile, save_network\n"
        "os.fsync = lambda descriptor: (print('writing', flush=True), time.sleep(60))\n"
        "save_network(sys.argv[1], NetworkFile('N', {}, {'a': torch.ones(1000)}))\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        env=source_environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (orphan,) = tmp_path.iterdir()
    neighbour = tmp_path / ".b.safetensors.0123456789abcdef.tmp"
    neighbour.write_bytes(b"")
    # It could be a writer at work, until it has been still for a while.
    assert clean_orphans(path) == [] and orphan.exists()
    old = time.time() - 3600
    os.utime(orphan, (old, old))
    os.utime(neighbour, (old, old))
    save_network(path, _network())
    assert sorted(tmp_path.iterdir()) == sorted([neighbour, path])
    assert load_network(path).network == "Net"


def test_orphans_that_cannot_be_removed_stop_nobody(tmp_path, monkeypatch):
    """Another user's, in a folder such as /tmp; an export's orphan is a folder."""
    path = tmp_path / "a.safetensors"
    names = [f".a.safetensors.{digit * 16}.tmp" for digit in "012"]
    theirs, folder, busy = (tmp_path / name for name in names)
    theirs.touch()
    old = time.time() - 3600
    for place, written in ((folder, old), (busy, time.time())):
        place.mkdir()
        (place / "part").touch()
        os.utime(place / "part", (written, written))
    for place in (theirs, folder, busy):
        os.utime(place, (old, old))

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert clean_orphans(path) == [folder]
        save_network(path, _network())
    assert sorted(tmp_path.iterdir()) == sorted([theirs, busy, path])


def test_a_workplace_goes_away(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(RuntimeError), workplace(path) as folder:
        (folder / "part").touch()
        assert folder.parent == tmp_path
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    orphan = tmp_path / folder.name
    orphan.mkdir()
    assert clean_orphans(path, older_than=0) == [orphan]


def test_what_torch_says_of_a_full_disk_is_an_os_error(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    write_torch(path, {"a": torch.ones(1)})
    before = path.read_bytes()

    def save(tree: object, file: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        write_torch(path, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
