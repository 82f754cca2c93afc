"""Reading photographs from untrusted files, and writing pictures atomically."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gan_inversion.errors import PhotoError
from gan_inversion.photo import load_photo, photo_hash, save_png


def _gradient(width: int = 96, height: int = 72) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // (width - 1), y * 255 // (height - 1)
    return np.stack([red, green, np.full_like(x, 40)], axis=-1).astype(np.uint8)


def _as_bytes(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_png_comes_back_to_the_bit(tmp_path: Path) -> None:
    pixels = _gradient()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, Image.fromarray(pixels)):
        photo = load_photo(source)
        assert photo.mode == "RGB"
        assert np.array_equal(np.asarray(photo), pixels)


# EXIF value -> how to turn what is stored so that it looks right
_ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", _ORIENTATIONS)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    stored = _gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(stored).save(path, exif=exif)
    photo = load_photo(path)
    assert np.array_equal(np.asarray(photo), _ORIENTATIONS[orientation](stored))
    assert photo.getexif().get(0x0112) is None and not photo.info
    # loading what was loaded turns nothing twice
    assert np.array_equal(np.asarray(load_photo(photo)), np.asarray(photo))


def test_sixteen_bit_grey(tmp_path: Path) -> None:
    values = (np.arange(80 * 80).reshape(80, 80) * 10 + 7).astype(np.uint16)
    expected = np.rint(values / 257.0).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    for source in (tmp_path / "deep.png", values):
        photo = np.asarray(load_photo(source))
        assert (photo == expected[..., None]).all()


def test_float_tiff(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 80 * 80, dtype=np.float32).reshape(80, 80)
    Image.fromarray(values).save(tmp_path / "f.tiff")
    photo = np.asarray(load_photo(tmp_path / "f.tiff"))
    assert (photo == np.rint(values * 255)[..., None]).all()
    Image.fromarray(values * 1000).save(tmp_path / "g.tiff")
    with pytest.raises(PhotoError, match="0 to 1000"):
        load_photo(tmp_path / "g.tiff")


def test_grey_alpha_palette_and_bilevel(tmp_path: Path) -> None:
    pixels = _gradient()
    grey = Image.fromarray(pixels[..., 0])
    assert np.array_equal(np.asarray(load_photo(grey))[..., 2], pixels[..., 0])

    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[:, 48:] = 255
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    rgba.save(tmp_path / "alpha.png")
    for source in (tmp_path / "alpha.png", np.dstack([pixels, alpha])):
        photo = np.asarray(load_photo(source))
        assert (photo[:, :48] == 255).all()
        assert np.array_equal(photo[:, 48:], pixels[:, 48:])
    assert (np.asarray(load_photo(rgba, background=(1, 2, 3)))[0, 0] == (1, 2, 3)).all()

    palette = Image.new("P", (80, 80), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(0, (0, 0, 40, 80))
    palette.save(tmp_path / "palette.png", transparency=0)
    photo = np.asarray(load_photo(tmp_path / "palette.png"))
    assert (photo[:, :40] == 255).all() and (photo[:, 40:] == (200, 100, 50)).all()

    bilevel = Image.new("1", (80, 80), 1)
    assert (np.asarray(load_photo(bilevel)) == 255).all()
    assert (np.asarray(load_photo(np.ones((80, 80), bool))) == 255).all()


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    photo = np.asarray(load_photo(tmp_path / "print.jpg")).reshape(-1, 3).mean(axis=0)
    assert photo[0] > 200 and photo[1] < 60 and photo[2] < 60


def test_colour_profiles(tmp_path: Path) -> None:
    pixels = _gradient()
    image = Image.fromarray(pixels)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    assert np.array_equal(np.asarray(load_photo(tmp_path / "srgb.png")), pixels)

    image.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    with pytest.warns(UserWarning, match="colour profile"):
        photo = load_photo(tmp_path / "broken.png")
    assert np.array_equal(np.asarray(photo), pixels)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (80, 80), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(load_photo(tmp_path / "a.gif")) == 10).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "bmp", "gif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PhotoError, match="half.*(damaged|not a picture)"):
        load_photo(path)


def test_every_prefix_and_bit_flip_is_a_photo_or_a_photo_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    path = tmp_path / "fuzz.bin"
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP"):
        data = _as_bytes(Image.fromarray(_gradient()), format=kind)
        for _ in range(40):
            broken = bytearray(data[: int(generator.integers(1, len(data) + 1))])
            for at in generator.integers(0, len(broken), 3):
                broken[at] ^= 1 << int(generator.integers(8))
            path.write_bytes(broken)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert load_photo(path).mode == "RGB"
                except PhotoError as error:
                    assert "fuzz.bin" in str(error)


def test_errors_name_the_file_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (20, 30)).save(tmp_path / "thumb.png")
    cases = {
        "missing.jpg": "does not exist",
        "text.jpg": "not a picture",
        "empty.jpg": "empty file",
        "thumb.png": "got 20 x 30",
        ".": "not a file",
    }
    for name, message in cases.items():
        with pytest.raises(PhotoError, match=message):
            load_photo(tmp_path / name)
    with pytest.raises(TypeError, match="got int"):
        load_photo(3)  # type: ignore[arg-type]


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (20000, 15000)).save(tmp_path / "bomb.png")
    for name, limit in (("bomb.png", {}), ("bomb.png", {"max_pixels": 1000})):
        with pytest.raises(PhotoError, match="pixels"):
            load_photo(tmp_path / name, **limit)
    with pytest.raises(PhotoError, match="got 96 x 72"):
        load_photo(_gradient(), max_pixels=1000)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 80, 80), np.uint8), "channels last"),
        (np.zeros((80, 80, 2), np.uint8), "shape"),
        (np.zeros((0, 80, 3), np.uint8), "shape"),
        (np.zeros((80, 80), np.int64), "int64"),
        (np.full((80, 80), 2.0), "0 to 1"),
        (np.full((80, 80), np.nan), "finite"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, message: str) -> None:
    with pytest.raises(PhotoError, match=message):
        load_photo(array)


def test_hash_depends_on_pixels_and_size_only(tmp_path: Path) -> None:
    pixels = _gradient()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.bmp")
    first = photo_hash(load_photo(tmp_path / "a.png"))
    assert first == photo_hash(load_photo(tmp_path / "b.bmp")) and len(first) == 64
    changed = pixels.copy()
    changed[3, 4, 1] ^= 1
    assert photo_hash(Image.fromarray(changed)) != first
    wide = Image.frombytes("RGB", (pixels.shape[1] * 2, pixels.shape[0] // 2), pixels.tobytes())
    assert photo_hash(wide) != first


def test_save_png_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.png"
    old, new = Image.fromarray(_gradient()), Image.new("RGB", (8, 8), (1, 2, 3))
    assert save_png(old, target, text={"method": "plain"}) == target
    with Image.open(target) as image:
        assert image.text["method"] == "plain"  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image), _gradient())

    def full_disk(self: Image.Image, file: io.BytesIO, **options: object) -> None:
        file.write(b"half a pict")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full_disk)
        with pytest.raises(PhotoError, match="No space left"):
            save_png(new, target)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    with Image.open(target) as image:
        assert image.size == old.size

    with pytest.raises(PhotoError, match="must end in .png"):
        save_png(new, tmp_path / "out.jpg")
    with pytest.raises(PhotoError, match="does not exist"):
        save_png(new, tmp_path / "nowhere" / "out.png")
