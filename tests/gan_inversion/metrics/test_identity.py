"""Identity: comparing embeddings, faces that are not found, and the files of face networks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_inversion.errors import CheckpointError
from gan_inversion.metrics import (
    IdentityNetwork,
    arcface_identity,
    dlib_identity,
    face_network_identity,
    identity,
)
from gan_inversion.metrics.identity import identity_score


def pictures(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()


def bright(image: Tensor) -> Tensor | None:
    """A face is what is not black."""
    return None if image.mean() < -0.9 else image.mean((0, 2, 3))


def test_both_ways_to_compare() -> None:
    a, b = pictures(0.5), pictures(0.25)
    distance = IdentityNetwork("colour", bright, "distance")
    assert identity(a, b, distance).value == pytest.approx(0.25 * 3**0.5)
    assert "lower is better" in identity(a, b, distance).protocol
    cosine = IdentityNetwork("colour", bright, "cosine")
    assert identity(a, -b, cosine).value == pytest.approx(-1)
    assert "higher is better" in identity(a, b, cosine).protocol


def test_pairs_without_a_face_are_counted() -> None:
    network = IdentityNetwork("colour", bright, "distance")
    score = identity(pictures(0.5, -1.0, 0.5), pictures(0.25, 0.5, 0.5), network)
    assert score.n == 2 and "1 pairs left out, no face found" in score.protocol
    assert score.value == pytest.approx(0.125 * 3**0.5)
    with pytest.raises(ValueError, match="no face was found in both images of any of 1 pairs"):
        identity(pictures(-1.0), pictures(0.5), network)
    assert "left out" not in identity_score([1.0], network).protocol


def test_any_network_can_judge() -> None:
    network = face_network_identity(lambda x: x.flatten(1), "pixels of my own")
    assert network.score_protocol().startswith("ID: pixels of my own, aligned images as they are")
    x = torch.rand(2, 3, 8, 8)
    assert identity(x, x, network).value == pytest.approx(1)
    for bad in (lambda x: x, lambda x: x.flatten(1) * float("nan")):
        with pytest.raises(ValueError, match=r"`network` must return finite embeddings \[1, d\]"):
            identity(x, x, face_network_identity(bad, "bad"))


def test_face_network_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_inversion.checkpoints import load
    from gan_inversion.encoders import ArcFace, IDLoss

    net = ArcFace(input_size=112, depth=18)
    asked: list[str | None] = []

    def stand_in(path: Path, *, sha256: str | None = None) -> ArcFace:
        asked.append(sha256)
        return net

    monkeypatch.setattr(load, "load_face_id", stand_in)
    file = tmp_path / "model_ir_se50.pth"
    file.write_bytes(b"weights")
    judge = arcface_identity(file)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert asked == [digest] and digest[:16] in judge.protocol and "35:223" in judge.protocol
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 256, 256, generator=g) * 2 - 1
    with torch.no_grad():
        expected = IDLoss(net).similarity(x, y).item()
    assert identity(x, y, judge).value == pytest.approx(expected, abs=1e-5)


def test_face_network_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing\.pth"):
        arcface_identity(tmp_path / "missing.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(CheckpointError, match=r"page\.pth"):
        arcface_identity(tmp_path / "page.pth")


@pytest.mark.assets
def test_dlib_knows_the_astronaut() -> None:
    data = pytest.importorskip("skimage.data")
    astronaut = torch.from_numpy(data.astronaut()[:300, 80:380].copy()).permute(2, 0, 1)[None]
    noise = torch.randn(astronaut.shape, generator=torch.Generator().manual_seed(0)) * 8
    noisy = (astronaut + noise).round().clamp(0, 255).to(torch.uint8)
    score = identity(astronaut, noisy)
    assert 0 < score.value < 0.3 and score.n == 1 and "dlib" in score.protocol
    blank = torch.zeros(1, 3, 128, 128)
    assert dlib_identity().embed(blank) is None
    image = astronaut.float() / 127.5 - 1
    embedded = dlib_identity().embed(image)
    assert embedded is not None and embedded.shape == (128,)
    # The same numbers that the editor's reports are made with.
    from PIL import Image

    from gan_inversion.landmarks import detect_faces, identity_embedding

    picture = Image.fromarray(astronaut[0].permute(1, 2, 0).numpy())
    expected = identity_embedding(picture, detect_faces(picture)[0])
    np.testing.assert_array_equal(embedded.numpy(), expected)
