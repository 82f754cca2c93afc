"""Pasting an edited face back: exact where nothing changed, unobtrusive where something did."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from gan_inversion.align import Alignment, align_face, select_face
from gan_inversion.assets import asset_path
from gan_inversion.landmarks import detect_faces
from gan_inversion.paste import paste_back, paste_back_with_stats
from gan_inversion.photo import load_photo

SIZE = 256


def _landmarks(centre: tuple[float, float], eye_distance: float, angle: float) -> np.ndarray:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-eye_distance / 2, 0), (eye_distance / 2, 0)
    points[48] = (-eye_distance / 3, 1.1 * eye_distance)
    points[54] = (eye_distance / 3, 1.1 * eye_distance)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + np.array(centre)


def _photo(blur: float = 0.0, noise: float = 0.0, side: int = 240) -> Image.Image:
    """Discs and bars of sharp edges on a plain ground, then blur and noise of known size."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    grey = np.full((side, side), 120.0)
    for cx, cy, r, v in ((0.4, 0.45, 8, 40), (0.6, 0.45, 8, 40), (0.5, 0.55, 6, 170)):
        grey[np.hypot(x - cx * side, y - cy * side) < r] = v
    grey[(np.abs(y - 0.66 * side) < 4) & (np.abs(x - 0.5 * side) < 22)] = 200
    image = np.stack([grey, grey * 0.9, grey * 0.8], axis=-1)
    picture = Image.fromarray(np.rint(image).astype(np.uint8))
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(picture, np.float64)
    pixels = pixels + noise * np.random.default_rng(0).normal(size=(side, side, 1))
    return Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))


def _align(photo: Image.Image, native: float = 128, angle: float = 0.15) -> Alignment:
    centre = (photo.width / 2, photo.height / 2 - native * 0.03)
    return align_face(photo, _landmarks(centre, native / 4, angle), size=SIZE)


def _luma_detail(pixels: np.ndarray) -> float:
    grey = np.asarray(pixels, np.float64) @ (0.299, 0.587, 0.114)
    diagonal = grey[:-1, :-1] - grey[:-1, 1:] - grey[1:, :-1] + grey[1:, 1:]
    return float(diagonal.std() / 2)


def _add_square(alignment: Alignment, value: tuple[int, int, int]) -> Image.Image:
    edited = alignment.image.copy()
    edited.paste(value, (100, 60, 156, 90))
    return edited


@pytest.mark.parametrize("native", [70, 128, 230, 530])
def test_no_edit_is_the_photograph_to_the_bit(native: int) -> None:
    photo = _photo(noise=5, side=max(240, int(native * 1.3)))
    alignment = _align(photo, native)
    as_array = np.asarray(alignment.image)
    as_tensor = torch.from_numpy(np.array(as_array)).permute(2, 0, 1) / 127.5 - 1
    for edited in (alignment.image, as_array, as_tensor, as_tensor[None]):
        out, stats = paste_back_with_stats(photo, alignment, edited)
        assert np.array_equal(np.asarray(out), np.asarray(photo))
        assert stats.changed_share == 0


def test_float_rounding_of_a_fused_edit_changes_nothing() -> None:
    photo = _photo(noise=5)
    alignment = _align(photo)
    exact = torch.from_numpy(np.array(alignment.image)).permute(2, 0, 1) / 127.5 - 1
    nearly = exact + 1e-3 * torch.randn_like(exact)  # an eighth of a grey level
    out = paste_back(photo, alignment, nearly)
    assert np.array_equal(np.asarray(out), np.asarray(photo))


@pytest.mark.parametrize("native", [70, 128, 530])
def test_only_what_changed_changes(native: int) -> None:
    photo = _photo(noise=4, side=max(240, int(native * 1.3)))
    alignment = _align(photo, native)
    out = np.asarray(paste_back(photo, alignment, _add_square(alignment, (220, 60, 60))))
    before = np.asarray(photo)
    changed = np.argwhere((out != before).any(axis=-1))[:, ::-1]
    where = alignment.to_aligned(changed)
    # Lanczos reaches 3 photo pixels, the structure map 14; the filters see no farther.
    reach = 18 * max(SIZE / native, 1.0) + 4
    assert (where[:, 0] > 100 - reach).all() and (where[:, 0] < 156 + reach).all()
    assert (where[:, 1] > 60 - reach).all() and (where[:, 1] < 90 + reach).all()
    # and in the middle of the square the edit is there
    x, y = np.rint(alignment.to_photo(np.array([127.5, 74.5]))).astype(int)
    assert np.abs(out[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1)) - (220, 60, 60)).max() < 6


def test_mask_zero_is_the_photograph_to_the_bit() -> None:
    photo = _photo(noise=4)
    alignment = _align(photo)
    edited = 255 - np.asarray(alignment.image)
    mask = np.zeros((SIZE, SIZE), np.float32)
    assert np.array_equal(np.asarray(paste_back(photo, alignment, edited, mask)), np.asarray(photo))
    mask[80:180, 60:200] = 1
    out = np.asarray(paste_back(photo, alignment, edited, mask))
    ys, xs = np.mgrid[: photo.height, : photo.width]
    place = alignment.to_aligned(np.stack([xs, ys], axis=-1))
    pixel = SIZE / alignment.native_size  # one photo pixel, in aligned pixels
    outside = (
        (place[..., 0] < 60 - pixel) | (place[..., 0] > 200 + pixel)
        | (place[..., 1] < 80 - pixel) | (place[..., 1] > 180 + pixel)
    )  # fmt: skip
    assert np.array_equal(out[outside], np.asarray(photo)[outside])
    assert (out[~outside] != np.asarray(photo)[~outside]).mean() > 0.5
    # leading ones and tensors are the same mask
    again = paste_back(photo, alignment, edited, torch.from_numpy(mask)[None, None])
    assert np.array_equal(np.asarray(again), out)


def test_outside_the_crop_nothing_changes() -> None:
    photo = _photo()
    alignment = _align(photo)
    out = np.asarray(paste_back(photo, alignment, np.zeros((SIZE, SIZE, 3), np.uint8)))
    ys, xs = np.mgrid[: photo.height, : photo.width]
    place = alignment.to_aligned(np.stack([xs, ys], axis=-1))
    outside = (place < -0.5).any(axis=-1) | (place > SIZE - 0.5).any(axis=-1)
    assert np.array_equal(out[outside], np.asarray(photo)[outside])


def test_face_at_the_edge_of_the_photograph() -> None:
    photo = _photo(noise=3)
    alignment = align_face(photo, _landmarks((30, 40), 30, 0.2), size=SIZE)
    assert not alignment.valid.all()
    same = paste_back(photo, alignment, alignment.image)
    assert np.array_equal(np.asarray(same), np.asarray(photo))
    out = np.asarray(paste_back(photo, alignment, np.full((SIZE, SIZE, 3), 220, np.uint8)))
    # up to the photograph's own edge, which needs no feather
    assert np.abs(out[40, 0].astype(int) - 220).max() < 25


def test_no_step_along_the_border() -> None:
    photo = _photo()
    alignment = _align(photo)
    edited = np.clip(np.asarray(alignment.image).astype(int) + (30, 10, -30), 0, 255)
    out = np.asarray(paste_back(photo, alignment, edited.astype(np.uint8)), np.float64)
    change = out - np.asarray(photo)
    steps = max(np.abs(np.diff(change, axis=axis)).max() for axis in (0, 1))
    assert np.abs(change).max() > 25
    ramp = 30 / (0.06 * alignment.native_size)  # linear over the feather, per pixel
    assert steps < 2.2 * ramp + 1  # 8-bit rounding


def test_colour_matching_fades_the_ground_and_keeps_the_edit() -> None:
    photo = _photo()
    alignment = _align(photo)
    edited = np.clip(np.asarray(_add_square(alignment, (220, 60, 60))).astype(int) + 12, 0, 255)
    with_, without = (
        np.asarray(
            paste_back(photo, alignment, edited.astype(np.uint8), match_colour=flag), np.float64
        )
        - np.asarray(photo)
        for flag in (True, False)
    )
    band = alignment.to_photo(np.array([[8.0, 128], [246, 128], [128, 8], [128, 246]]))
    for x, y in np.rint(band).astype(int):
        assert np.abs(with_[y, x]).max() < np.abs(without[y, x]).max()
    x, y = np.rint(alignment.to_photo(np.array([127.5, 74.5]))).astype(int)
    assert np.abs(with_[y, x] - without[y, x]).max() < 1


@pytest.mark.parametrize("sigma", [0.8, 1.3, 2.0])
def test_sharp_edit_gets_the_photographs_blur(sigma: float) -> None:
    sharp, soft = _photo(), _photo(blur=sigma)
    alignment = _align(soft)
    moved = _align(sharp).image.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, (1, 0, 12, 0, 1, 9), Image.Resampling.BICUBIC
    )
    _, stats = paste_back_with_stats(soft, alignment, moved)
    assert stats.blur_sigma == pytest.approx(sigma, rel=0.25, abs=0.15)
    # a photograph as sharp as the edit is left alone
    _, same = paste_back_with_stats(sharp, _align(sharp), moved)
    assert same.blur_sigma < 0.45


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
def test_clean_edit_gets_the_photographs_grain(noise: float) -> None:
    photo, clean = _photo(noise=noise), _photo()
    alignment = _align(photo)
    # another face altogether: mirrored, so that structure changes, and without noise
    edited = _align(clean).image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    edited = edited.filter(ImageFilter.GaussianBlur(1))
    out, stats = paste_back_with_stats(photo, alignment, edited, match_blur=False)
    assert stats.photo_grain_sigma == pytest.approx(noise, rel=0.25, abs=0.3)
    x, y = np.rint(alignment.to_photo(np.array([128.0, 120]))).astype(int)
    window = (slice(y - 12, y + 12), slice(x - 6, x + 6))
    if noise:
        assert _luma_detail(np.asarray(out)[window]) == pytest.approx(noise, rel=0.4)
    assert np.array_equal(
        np.asarray(out), np.asarray(paste_back(photo, alignment, edited, match_blur=False))
    )
    other = paste_back(photo, alignment, edited, match_blur=False, seed=1)
    assert (np.asarray(other) != np.asarray(out)).any() == (noise > 0)


def test_change_of_tone_keeps_the_photographs_grain() -> None:
    photo = _photo(noise=5)
    alignment = _align(photo)
    smooth = alignment.image.filter(ImageFilter.GaussianBlur(3))
    detail = np.asarray(alignment.image).astype(int) - np.asarray(smooth)
    tone = np.clip(np.asarray(smooth).astype(int) + 20 + detail, 0, 255).astype(np.uint8)
    out = np.asarray(paste_back(photo, alignment, tone)).astype(int)
    x, y = (int(v) for v in alignment.to_photo(np.array([128.0, 128])))
    window = (slice(y - 15, y + 15), slice(x - 15, x + 15))
    change = out[window] - np.asarray(photo).astype(int)[window]
    assert np.abs(change - 20).max() <= 3


def test_reducing_does_not_alias() -> None:
    photo = Image.new("RGB", (240, 240), (128, 128, 128))
    alignment = _align(photo, native=70)
    board = (np.indices((SIZE, SIZE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    edited = np.repeat(board[..., None], 3, axis=2)
    out = np.asarray(paste_back(photo, alignment, edited)).astype(int)
    assert np.abs(out - 128).max() <= 3


def test_bad_input_is_named() -> None:
    photo = _photo()
    alignment = _align(photo)
    good = alignment.image
    with pytest.raises(ValueError, match="240 x 240 pixels, got 100 x 240"):
        paste_back(photo.crop((0, 0, 100, 240)), alignment, good)
    with pytest.raises(ValueError, match=r"uint8 \[256, 256, 3\]"):
        paste_back(photo, alignment, good.resize((64, 64)))
    with pytest.raises(ValueError, match=r"\[3, 256, 256\]"):
        paste_back(photo, alignment, torch.zeros(2, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match="NaN"):
        paste_back(photo, alignment, torch.full((3, SIZE, SIZE), torch.nan))
    with pytest.raises(TypeError, match="got str"):
        paste_back(photo, alignment, "face.png")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`mask` must have shape \[256, 256\]"):
        paste_back(photo, alignment, good, np.zeros((16, 16)))
    for bad in (np.full((SIZE, SIZE), 2.0), np.full((SIZE, SIZE), np.nan)):
        with pytest.raises(ValueError, match=r"within \[0, 1\]"):
            paste_back(photo, alignment, good, bad)
    with pytest.raises(ValueError, match="`feather`"):
        paste_back(photo, alignment, good, feather=0)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_demo_photographs_come_back_to_the_bit(name: str) -> None:
    photo = load_photo(asset_path(name))
    alignment = align_face(photo, select_face(detect_faces(photo)).landmarks)
    assert np.array_equal(
        np.asarray(paste_back(photo, alignment, alignment.image)), np.asarray(photo)
    )
