"""Faces, landmarks and identity of the two demo photographs; checks that need no network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gan_inversion.align import align_face, select_face
from gan_inversion.assets import asset_path
from gan_inversion.landmarks import (
    Face,
    check_landmarks,
    detect_faces,
    identity_distance,
    identity_embedding,
)
from gan_inversion.photo import load_photo


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return load_photo(asset_path("astronaut"))


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    return load_photo(asset_path("hopper"))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[68, 2\], got \[2, 68\]"):
        check_landmarks(np.zeros((2, 68)))
    with pytest.raises(ValueError, match="finite"):
        check_landmarks(np.full((68, 2), np.inf))
    with pytest.raises(ValueError, match=r"\[128\], got \[128\] and \[2\]"):
        identity_distance(np.zeros(128), np.zeros(2))
    assert identity_distance(np.zeros(128), np.full(128, 0.5)) == pytest.approx(np.sqrt(32))


def test_face_size() -> None:
    assert Face((10.0, 20.0, 50.0, 110.0), 1.0, np.zeros((68, 2))).size == pytest.approx(60)


@pytest.mark.assets
def test_one_face_in_the_astronaut(astronaut: Image.Image) -> None:
    faces = detect_faces(astronaut)
    assert len(faces) == 1
    face = faces[0]
    assert face.score > 1 and face.landmarks.shape == (68, 2)
    left, top, right, bottom = face.box
    assert left < face.landmarks[:, 0].mean() < right
    # eyes above the mouth, the left one (in the picture) first
    assert face.landmarks[36:48, 1].max() < face.landmarks[48:, 1].min()
    assert face.landmarks[36:42, 0].max() < face.landmarks[42:48, 0].min()
    # 172 px with another landmark network, 175 with this one
    native = align_face(astronaut, face.landmarks, size=64).native_size
    assert native == pytest.approx(172, rel=0.03)


@pytest.mark.assets
def test_one_face_in_hopper(hopper: Image.Image) -> None:
    faces = detect_faces(hopper)
    assert len(faces) == 1
    # 336 px with another landmark network, 355 with this one
    native = align_face(hopper, faces[0].landmarks, size=64).native_size
    assert native == pytest.approx(336, rel=0.07)


@pytest.mark.assets
def test_identity(astronaut: Image.Image, hopper: Image.Image) -> None:
    def embed(image: Image.Image) -> np.ndarray:
        return identity_embedding(image, detect_faces(image)[0])

    first, second = embed(astronaut), embed(hopper)
    assert first.shape == (128,) and np.isfinite(first).all()
    assert identity_distance(first, first) == 0
    assert identity_distance(first, second) > 0.6
    # landmarks carried into the aligned crop find the same person there
    alignment = align_face(astronaut, select_face(detect_faces(astronaut)).landmarks, size=512)
    aligned = identity_embedding(alignment.image, alignment.landmarks)
    assert identity_distance(first, aligned) < 0.2


@pytest.mark.assets
def test_sorted_by_size_and_large_photographs(astronaut: Image.Image, hopper: Image.Image) -> None:
    pair = Image.new("RGB", (1024, 600), (90, 90, 90))
    pair.paste(astronaut, (0, 0))
    pair.paste(hopper, (512, 0))
    faces = detect_faces(pair)
    assert len(faces) == 2
    assert faces[0].size > faces[1].size and faces[0].box[0] > 512 > faces[1].box[2]

    large = pair.resize((3072, 1800), Image.Resampling.BICUBIC)
    found = detect_faces(large)
    assert len(found) == 2
    # searched reduced, but landmarks are of the full size
    assert np.abs(found[0].landmarks / 3 - faces[0].landmarks).max() < 8


@pytest.mark.assets
def test_false_face_larger_than_the_true_one_is_dropped(astronaut: Image.Image) -> None:
    # dlib alone finds a second one in the suit here, score 0.13 and a pixel larger.
    faces = detect_faces(astronaut.resize((1024, 1024), Image.Resampling.BICUBIC))
    assert len(faces) == 1
    assert faces[0].box[3] < 400


@pytest.mark.assets
def test_small_face(astronaut: Image.Image) -> None:
    small = astronaut.resize((256, 256), Image.Resampling.LANCZOS)
    faces = detect_faces(small)
    assert len(faces) >= 1
    assert abs(faces[0].box[0] * 2 - 179) < 20


@pytest.mark.assets
def test_no_face() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert detect_faces(Image.fromarray(noise)) == []
    with pytest.raises(TypeError, match="load_photo"):
        detect_faces(noise)  # type: ignore[arg-type]


@pytest.mark.assets
def test_threads_agree(astronaut: Image.Image) -> None:
    expected = detect_faces(astronaut)[0]
    with ThreadPoolExecutor(4) as pool:
        for faces in pool.map(detect_faces, [astronaut] * 8):
            assert np.array_equal(faces[0].landmarks, expected.landmarks)
