"""Damage: 2,800 files, each refused or read as it was, and nothing else.

Where a container has no checksum, a changed bit inside a number cannot be seen without the file's
SHA-256. Those are read twice: with it (all of the above holds), and without it, where what can be
promised is tested: damage of another length is refused, and a number's bits change that number.
"""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from gan_inversion.checkpoints import read_checkpoint
from gan_inversion.checkpoints.files import NetworkFile, load_network, save_network
from gan_inversion.errors import CheckpointError
from tests.gan_inversion.checkpoints.equal import same
from tests.gan_inversion.checkpoints.payloads import torch_bytes

MUTANTS = 400  # of each of the seven containers


def _tree(seed: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "g_ema": {
            "conv.weight": torch.randn(4, 3, 3, 3, generator=draw),
            "conv.bias": torch.randn(4, generator=draw).half(),
            "fixed": torch.ones(4, 4) * seed,
        },
        "latent_avg": torch.randn(32, generator=draw),
        "opts": {"size": 64 + seed, "rate": 0.1, "name": "ffhq"},
    }


def _flat(seed: int) -> dict[str, torch.Tensor]:
    tree = _tree(seed)
    return tree["g_ema"] | {"latent_avg": tree["latent_avg"]}


def _npz(seed: int, save: Callable[..., None]) -> bytes:
    out = io.BytesIO()
    save(out, **{name: tensor.numpy() for name, tensor in _flat(seed).items()})
    return out.getvalue()


def _npy(seed: int) -> bytes:
    out = io.BytesIO()
    np.save(out, _flat(seed)["conv.weight"].numpy())
    return out.getvalue()


def _own(seed: int, folder: Path) -> bytes:
    path = folder / "own.safetensors"
    save_network(path, NetworkFile("Net", {"size": seed}, _flat(seed), {"licence": "MIT"}))
    return path.read_bytes()


WITH_CHECKSUM: dict[str, Callable[[int], bytes]] = {
    "torch zip": lambda seed: torch_bytes(_tree(seed)),
    "npz": lambda seed: _npz(seed, np.savez),
    "npz compressed": lambda seed: _npz(seed, np.savez_compressed),
}
WITHOUT_CHECKSUM: dict[str, Callable[[int], bytes]] = {
    "torch legacy": lambda seed: torch_bytes(_tree(seed), zipped=False),
    "pickle": lambda seed: pickle.dumps(_tree(seed), 2 + 2 * (seed % 2)),
    "safetensors": lambda seed: safetensors.torch.save(_flat(seed), {"made": "by a test"}),
}


def damaged(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """One mutant: flipped bits, a cut, an insertion, a deletion, zeros, a splice of two files."""
    kind = draw.randrange(8)
    place, length = draw.randrange(len(content)), draw.randrange(1, 64)
    changed = bytearray(content)
    if kind <= 2:
        for _ in range((1, 2, 8)[kind]):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == 3:
        del changed[place:]
    elif kind == 4:
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    elif kind == 5:
        start = draw.randrange(len(other))
        changed[place:place] = other[start : start + length]
    elif kind == 6:
        del changed[place : place + length]
    else:
        # Head of one file, tail of another, at the same place or anywhere.
        cut = place if draw.random() < 0.5 else draw.randrange(len(other))
        changed[place:] = other[cut:]
    return bytes(changed)


def _mutants(make: Callable[[int], bytes], seed: int) -> list[bytes]:
    draw = random.Random(seed)
    files = [make(0), make(1)]
    return [damaged(files[number % 2], files[1 - number % 2], draw) for number in range(MUTANTS)]


def _read(path: Path, read: Callable[[Path], Any]) -> tuple[str, Any]:
    start = time.perf_counter()
    try:
        result = "read", read(path)
    except CheckpointError as error:
        assert type(error) is CheckpointError and str(error).startswith(f"{path}: ")
        result = "refused", str(error)
    assert time.perf_counter() - start < 5
    return result


def _check(outcomes: collections.Counter[str]) -> None:
    assert outcomes["wrong"] == 0, outcomes
    assert sum(outcomes.values()) == MUTANTS and outcomes["refused"] > MUTANTS // 3, outcomes


@pytest.mark.parametrize("container", WITH_CHECKSUM)
def test_damage_is_found_by_the_container(tmp_path, container):
    make = WITH_CHECKSUM[container]
    path = tmp_path / "a.pt"
    expected = []
    for seed in (0, 1):
        path.write_bytes(make(seed))
        expected.append(read_checkpoint(path))
    assert not same(*expected)
    outcomes: collections.Counter[str] = collections.Counter()
    for mutant in _mutants(make, 1):
        path.write_bytes(mutant)
        kind, tree = _read(path, read_checkpoint)
        if kind == "read":
            kind = "identical" if any(same(tree, whole) for whole in expected) else "wrong"
        outcomes[kind] += 1
    _check(outcomes)


def test_a_zip_directory_cannot_swallow_its_entries(tmp_path):
    """One damaged length makes the first entry's comment reach to the end of the directory."""
    content = bytearray(WITH_CHECKSUM["npz"](0))
    entries = [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]
    first, second, end = entries[0], entries[1], content.rindex(b"PK\x05\x06")
    content[first + 32 : first + 34] = (end - second).to_bytes(2, "little")
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="lists 1 entries and says 4"):
        read_checkpoint(path)


def test_damage_is_found_in_our_own_files(tmp_path):
    path = tmp_path / "a.safetensors"
    expected = []
    for seed in (0, 1):
        path.write_bytes(_own(seed, tmp_path))
        expected.append(load_network(path))
    outcomes: collections.Counter[str] = collections.Counter()
    for mutant in _mutants(lambda seed: _own(seed, tmp_path), 2):
        path.write_bytes(mutant)
        kind, found = _read(path, load_network)
        if kind == "read":
            kind = "wrong"
            for whole in expected:
                equal = (found.network, found.config, found.card) == (
                    whole.network,
                    whole.config,
                    whole.card,
                )
                if equal and same(found.state, whole.state):
                    kind = "identical"
        outcomes[kind] += 1
    _check(outcomes)


@pytest.mark.parametrize("container", WITHOUT_CHECKSUM)
def test_damage_is_found_by_a_known_sha256(tmp_path, container):
    make = WITHOUT_CHECKSUM[container]
    path = tmp_path / "a.pt"
    files = [make(seed) for seed in (0, 1)]
    hashes = [hashlib.sha256(content).hexdigest() for content in files]
    outcomes: collections.Counter[str] = collections.Counter()
    for number, mutant in enumerate(_mutants(make, 3)):
        path.write_bytes(mutant)
        kind, _ = _read(path, lambda p, n=number: read_checkpoint(p, sha256=hashes[n % 2]))
        if kind == "read":
            kind = "identical" if mutant == files[number % 2] else "wrong"
        outcomes[kind] += 1
        # And without it: the one exception, or a tree of plain values; never anything else.
        kind, tree = _read(path, read_checkpoint)
        assert kind == "refused" or _is_plain(tree)
    _check(outcomes)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (torch.Tensor, str, bytes, int, float, bool, type(None)))


@pytest.mark.parametrize("container", ["torch legacy", "safetensors", "npy"])
def test_without_a_checksum_a_bit_of_a_number_changes_that_number_only(tmp_path, container):
    """What can be promised without a SHA-256; in these containers the numbers come last."""
    content = _npy(0) if container == "npy" else WITHOUT_CHECKSUM[container](0)
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    whole = _numbers(read_checkpoint(path))
    draw = random.Random(4)
    found = 0
    for _ in range(100):
        changed = bytearray(content)
        changed[-1 - draw.randrange(100)] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        kind, tree = _read(path, read_checkpoint)
        if kind == "read":
            numbers = _numbers(tree)
            assert [n.shape for n in numbers] == [n.shape for n in whole]
            bits = [n.flatten().view(torch.uint8) for n in numbers]
            kept = [n.flatten().view(torch.uint8) for n in whole]
            assert sum(int((a != b).sum()) for a, b in zip(bits, kept, strict=True)) == 1
            found += 1
    assert found > 50


def _numbers(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree.contiguous()]
    if isinstance(tree, dict):
        return [n for part in tree.values() for n in _numbers(part)]
    return []


@pytest.mark.parametrize("container", [*WITH_CHECKSUM, *WITHOUT_CHECKSUM])
def test_every_other_length_is_refused(tmp_path, container):
    content = {**WITH_CHECKSUM, **WITHOUT_CHECKSUM}[container](0)
    path = tmp_path / "a.pt"
    for cut in sorted({*range(0, len(content), 37), *range(len(content) - 40, len(content))}):
        path.write_bytes(content[:cut])
        assert _read(path, read_checkpoint)[0] == "refused", cut
    for more in (b"\x00", b"a" * 100):
        path.write_bytes(content + more)
        kind, _ = _read(path, read_checkpoint)
        # A zip is found from its end; what follows may pass for a comment, and changes nothing.
        assert kind == "refused" or container in WITH_CHECKSUM
