"""FFHQ alignment: the quad, the transform in both directions, padding, and the choice of face."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_inversion.align import Alignment, align_face, ffhq_quad, select_face
from gan_inversion.errors import PhotoError
from gan_inversion.landmarks import Face


def face_landmarks(
    centre: tuple[float, float] = (0.0, 0.0), eye_distance: float = 40.0, angle: float = 0.0
) -> np.ndarray:
    """68 points of which only eyes and mouth corners matter: mouth 1.1 eye distances below."""
    points = np.zeros((68, 2))
    points[36:42] = (-eye_distance / 2, 0)
    points[42:48] = (eye_distance / 2, 0)
    points[48] = (-eye_distance / 3, 1.1 * eye_distance)
    points[54] = (eye_distance / 3, 1.1 * eye_distance)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + np.array(centre)


def grid_photo(width: int, height: int, offset: int = 0) -> Image.Image:
    """A smooth picture whose red and green tell the pixel's place: 8 px a grey level."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    blue = 128 + 60 * np.sin((x + offset) / 17) * np.cos(y / 23)
    return Image.fromarray(
        np.rint(np.stack([x / 4, y / 4, blue], axis=-1)).clip(0, 255).astype(np.uint8)
    )


def test_quad_by_hand() -> None:
    # eyes at (-20, 0) and (20, 0), mouth at (0, 44): x points right with length
    # max(2 * 40, 1.8 * 44) = 80, the centre is at (0, 4.4).
    quad = ffhq_quad(face_landmarks())
    expected = [[-80, -75.6], [-80, 84.4], [80, 84.4], [80, -75.6]]
    np.testing.assert_allclose(quad, expected, atol=1e-9)


@given(
    angle=st.floats(-3, 3),
    eye_distance=st.floats(1, 500),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
)
def test_quad_moves_with_the_face(angle: float, eye_distance: float, x: float, y: float) -> None:
    quad = ffhq_quad(face_landmarks((x, y), eye_distance, angle))
    plain = ffhq_quad(face_landmarks(eye_distance=eye_distance))
    cos, sin = np.cos(angle), np.sin(angle)
    moved = plain @ np.array([[cos, sin], [-sin, cos]]) + np.array([x, y])
    np.testing.assert_allclose(quad, moved, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2])
@pytest.mark.parametrize("eye_distance", [30.0, 64.0, 150.0])
def test_pixels_come_from_where_the_transform_says(angle: float, eye_distance: float) -> None:
    photo = grid_photo(1000, 1000)
    landmarks = face_landmarks((500, 490), eye_distance, angle)
    alignment = align_face(photo, landmarks, size=256)
    assert alignment.image.size == (256, 256) and alignment.image.mode == "RGB"
    assert alignment.native_size == pytest.approx(4 * eye_distance)
    assert alignment.valid.all()

    y, x = np.mgrid[8:248, 8:248]
    source = alignment.to_photo(np.stack([x, y], axis=-1))
    pixels = np.asarray(alignment.image, np.float64)[8:248, 8:248]
    blue = 128 + 60 * np.sin(source[..., 0] / 17) * np.cos(source[..., 1] / 23)
    # 8-bit rounding in the photograph, in the crop, and averaging over large pixels
    assert np.abs(pixels[..., 0] - source[..., 0] / 4).max() <= 1.3
    assert np.abs(pixels[..., 1] - source[..., 1] / 4).max() <= 1.3
    assert np.abs(pixels[..., 2] - blue).max() <= 2.0


def test_round_trip_of_points_and_corners() -> None:
    landmarks = face_landmarks((300, 250), 50, 0.4)
    alignment = align_face(grid_photo(600, 500), landmarks, size=128)
    np.testing.assert_allclose(alignment.to_photo(alignment.landmarks), landmarks, atol=1e-9)
    corners = alignment.to_aligned(alignment.quad)
    expected = [[-0.5, -0.5], [-0.5, 127.5], [127.5, 127.5], [127.5, -0.5]]
    np.testing.assert_allclose(corners, expected, atol=1e-9)
    points = np.random.default_rng(0).uniform(-100, 700, (5, 7, 2))
    back = alignment.to_photo(alignment.to_aligned(points))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_eyes_land_where_ffhq_has_them() -> None:
    alignment = align_face(grid_photo(600, 500), face_landmarks((300, 220), 60, -0.2), size=1024)
    eyes = alignment.landmarks[[36, 42]]
    assert np.allclose(eyes[:, 1], eyes[0, 1])
    assert 0.5 * (eyes[0, 0] + eyes[1, 0]) == pytest.approx(511.5, abs=1e-6)


@pytest.mark.parametrize("native", [200, 700, 1300])
def test_reducing_does_not_alias(native: int) -> None:
    # A one-pixel checkerboard is grey from afar; sampled without averaging it makes bands.
    side = int(native * 1.6)
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    photo = Image.fromarray(board).convert("RGB")
    landmarks = face_landmarks((side / 2, side / 2), native / 4, 0.1)
    crop = np.asarray(align_face(photo, landmarks, size=64).image, np.float64)
    assert np.abs(crop - 127.5).max() < 12


def test_padding_is_reflected_outside_and_untouched_inside() -> None:
    photo = grid_photo(400, 400)
    landmarks = face_landmarks((60, 80), 60)  # crop from -60 to 180
    alignment = align_face(photo, landmarks, size=256)
    source = alignment.to_photo(np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1))
    inside = (source >= -0.5).all(axis=-1)
    assert np.array_equal(alignment.valid, inside)
    assert 0.3 < inside.mean() < 0.9

    # the same face further inside a larger photograph has the same pixels where both are valid
    larger = np.zeros((600, 600, 3), np.uint8)
    larger[150:550, 150:550] = np.asarray(photo)
    other = align_face(Image.fromarray(larger), landmarks + 150, size=256)
    deep = (source >= 2).all(axis=-1)  # bicubic looks two pixels around
    difference = np.asarray(alignment.image, int) - np.asarray(other.image, int)
    assert np.abs(difference[deep]).max() <= 1
    # just outside it continues without a step, and nowhere is it black
    red = np.asarray(alignment.image, np.float64)[200, :, 0]
    assert np.abs(np.diff(red)).max() < 4
    assert np.asarray(alignment.image)[~inside].max(axis=-1).min() > 20


def test_errors() -> None:
    photo = grid_photo(400, 400)
    with pytest.raises(PhotoError, match="at least 64 photo pixels, got 40"):
        align_face(photo, face_landmarks((200, 200), 10))
    with pytest.raises(PhotoError, match="outside the photograph"):
        align_face(photo, face_landmarks((900, 200), 60))
    with pytest.raises(PhotoError, match="outside the photograph"):
        align_face(photo.crop((0, 0, 100, 100)), face_landmarks((50, 50), 300))
    with pytest.raises(ValueError, match=r"shape \[68, 2\], got \[5, 2\]"):
        align_face(photo, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        align_face(photo, np.full((68, 2), np.nan))
    with pytest.raises(ValueError, match="one place"):
        align_face(photo, np.zeros((68, 2)))
    with pytest.raises(ValueError, match="`size`"):
        align_face(photo, face_landmarks((200, 200), 40), size=0)


def test_select_face() -> None:
    def face(size: float) -> Face:
        return Face((0.0, 0.0, size, size), 1.0, face_landmarks())

    faces = [face(90), face(50), face(20)]
    assert select_face(faces) is faces[0]
    assert select_face(faces[::-1]) is faces[0]  # the largest, in whatever order
    assert select_face(faces, 2) is faces[2]
    with pytest.raises(PhotoError, match="from 0 to 2, got 3: 3 faces were found"):
        select_face(faces, 3)
    with pytest.raises(PhotoError, match="1 face was found"):
        select_face(faces[:1], -1)
    with pytest.raises(PhotoError, match="no face was found"):
        select_face([])


def test_alignment_says_its_scale() -> None:
    alignment = align_face(grid_photo(400, 400), face_landmarks((200, 190), 40), size=320)
    assert isinstance(alignment, Alignment)
    assert alignment.size == 320 and alignment.scale == pytest.approx(0.5)
    assert alignment.photo_size == (400, 400)
