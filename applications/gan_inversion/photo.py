"""Read photographs from files nobody has checked, and write pictures that are never half there."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from hypergraph._files import atomic_writer

from .errors import PhotoError

MIN_SIDE = 64
MAX_PIXELS = 100_000_000
# Modes whose 8-bit values Pillow's own `convert("RGB")` maps to RGB as a viewer would show them.
_DIRECT_MODES = frozenset({"1", "L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
# Pillow's readers report damage by any of these, depending on the format and on the place.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def load_photo(
    source: str | os.PathLike[str] | Image.Image | np.ndarray,
    *,
    min_side: int = MIN_SIDE,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Return a photograph as upright 8-bit RGB, whatever kind of picture it came as.

    The EXIF orientation is applied; an embedded colour profile is converted to sRGB; 16-bit,
    grey, palette and CMYK pictures are converted; transparency is laid over ``background``; of an
    animation the first frame is taken. The result carries no metadata.

    Args:
        source: path of a file, a PIL image, or an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]``
            or ``[H, W, 4]`` of dtype uint8 (0..255), uint16 (0..65535), bool, or float (0..1).
        min_side: smallest accepted width and height, in pixels.
        max_pixels: largest accepted width x height, checked before any pixel is decoded.
        background: RGB colour 0..255 seen through transparent pixels.

    Returns:
        A new PIL image of mode ``"RGB"``.

    Raises:
        PhotoError: no such file, not an image, damaged, too large, too small, or an array that is
            not a picture. The message names the file.
        TypeError: ``source`` is none of the accepted types.

    Example:
        >>> load_photo(np.zeros((80, 100), dtype=np.uint8)).size
        (100, 80)
    """
    if isinstance(source, np.ndarray):
        return _finish(_from_array(source), "the array", min_side, max_pixels, background)
    if isinstance(source, Image.Image):
        name = "the PIL image"
        return _finish(source, name, min_side, max_pixels, background)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "`source` must be a path, a PIL image or a numpy array, "
            f"got {type(source).__name__}; pass one of these"
        )
    path = Path(source)
    if not path.exists():
        raise PhotoError(f"photo {str(path)!r} does not exist; check the path")
    if not path.is_file():
        raise PhotoError(f"photo {str(path)!r} is not a file; pass the path of one picture")
    if path.stat().st_size == 0:
        raise PhotoError(f"photo {str(path)!r} is an empty file; copy it again")
    try:
        with warnings.catch_warnings():
            # Our own limit below is stricter than the size at which Pillow warns.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _finish(image, repr(str(path)), min_side, max_pixels, background)
    except UnidentifiedImageError as error:
        raise PhotoError(
            f"photo {str(path)!r} is not a picture that can be read here; expected JPEG, PNG, "
            "TIFF, WebP or another format Pillow knows (HEIC is not one); convert it to JPEG or PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(
            f"photo {str(path)!r} declares more pixels than the limit of {max_pixels:,}; "
            "make a smaller copy of it"
        ) from error
    except PermissionError as error:
        raise PhotoError(
            f"photo {str(path)!r} cannot be opened: permission denied; check its access rights"
        ) from error
    except _DAMAGE as error:
        raise _damaged(repr(str(path)), error) from error


def photo_hash(image: Image.Image) -> str:
    """Return the SHA-256 of a picture's size and RGB values, as 64 hexadecimal digits.

    Two files that decode to the same pixels have the same hash, whatever they are called and
    however they are compressed, so it can name an entry in a cache.

    Args:
        image: a PIL image; other modes than ``"RGB"`` are hashed as their RGB conversion.

    Example:
        >>> len(photo_hash(Image.new("RGB", (2, 2))))
        64
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def save_png(
    image: Image.Image,
    path: str | os.PathLike[str],
    *,
    text: Mapping[str, str] | None = None,
) -> Path:
    """Write a PNG that is either there completely or not there at all.

    The picture goes to a temporary file beside ``path``, which is then renamed: a reader never
    sees half a file, and an interrupted run leaves the old one in place.

    Args:
        image: the PIL image to write.
        path: where to; must end in ``.png``, the folder must exist; an old file is replaced.
        text: entries for the PNG's text chunks, for example how the picture was made.

    Returns:
        ``path`` as a :class:`~pathlib.Path`.

    Raises:
        PhotoError: another suffix, a folder that is missing or cannot be written to, a full disk.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_png(Image.new("RGB", (2, 2)), Path(folder) / "a.png").name
        'a.png'
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise PhotoError(f"`path` must end in .png, got {str(target)!r}; rename the output")
    if not target.parent.is_dir():
        raise PhotoError(
            f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist; "
            "create it first"
        )
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    try:
        with atomic_writer(target) as file:
            image.save(file, format="PNG", pnginfo=info)
    except OSError as error:
        raise PhotoError(
            f"cannot write {str(target)!r}: {error.strerror or error}; "
            "choose a folder with space that you may write to"
        ) from error
    return target


def _finish(
    image: Image.Image,
    name: str,
    min_side: int,
    max_pixels: int,
    background: tuple[int, int, int],
) -> Image.Image:
    """Check the size, decode, turn upright, and convert to sRGB."""
    width, height = image.size
    if width * height > max_pixels:
        raise PhotoError(
            f"photo {name} is too large: expected at most {max_pixels:,} pixels, "
            f"got {width} x {height}; make a smaller copy of it"
        )
    if min(width, height) < min_side:
        raise PhotoError(
            f"photo {name} is too small: expected at least {min_side} x {min_side} pixels, "
            f"got {width} x {height}; use the original rather than a thumbnail"
        )
    try:
        image.load()
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    return _to_srgb(_upright(image, name), name, background)


def _damaged(name: str, error: Exception) -> PhotoError:
    return PhotoError(
        f"photo {name} is damaged or incomplete ({error}); expected a whole picture; "
        "copy or download it again"
    )


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE as error:
        warnings.warn(
            f"photo {name} has EXIF data that cannot be read ({error}); "
            "it is taken as it is stored, without turning",
            stacklevel=4,
        )
        return image.copy()


def _to_srgb(image: Image.Image, name: str, background: tuple[int, int, int]) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        return _from_high_depth(image, name)
    if image.mode == "P":
        # A palette may hold a transparent colour, either in the palette or as an entry of `info`.
        image = image.convert("RGBA")
    if "transparency" in image.info and image.mode in {"1", "L", "RGB"}:
        image = image.convert("RGBA")
    if image.mode in _ALPHA_MODES:
        rgba = image.convert("RGBA")
        colours = _apply_profile(rgba.convert("RGB"), profile, name)
        canvas = Image.new("RGB", rgba.size, background)
        canvas.paste(colours, mask=rgba.getchannel("A"))
        return canvas
    if image.mode not in _DIRECT_MODES:
        raise PhotoError(
            f"photo {name} has the pixel format {image.mode!r}, which is not known here; "
            "save it as an 8-bit RGB PNG or JPEG"
        )
    return _apply_profile(image, profile, name)


def _apply_profile(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """Convert 8-bit colours to sRGB by the embedded profile, if there is one to apply."""
    if profile and image.mode in {"L", "RGB", "CMYK"}:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            # Nearly every profile in the wild says sRGB; converting would only add rounding.
            if image.mode != "RGB" or "srgb" not in _profile_name(source):
                converted = ImageCms.profileToProfile(
                    image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
                if converted is not None:
                    return _bare(converted)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            warnings.warn(
                f"photo {name} has a colour profile that cannot be applied ({error}); "
                "its colours are read as sRGB",
                stacklevel=5,
            )
    return _bare(image.convert("RGB"))


def _profile_name(profile: ImageCms.ImageCmsProfile) -> str:
    return ImageCms.getProfileDescription(profile).lower()


def _bare(image: Image.Image) -> Image.Image:
    """Drop metadata: it described the file, not the picture made from it."""
    image = image.copy()
    image.info = {}
    return image


def _from_high_depth(image: Image.Image, name: str) -> Image.Image:
    """Map a one-channel picture of 16 or 32 bits per value to 8-bit RGB."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise PhotoError(f"photo {name} contains NaN or infinity; save it as an 8-bit picture")
    low, high = float(values.min()), float(values.max())
    # Float pictures are by habit 0..1; whole numbers in these modes come from 16-bit files.
    limit = (1.0 if high <= 1.0 else 255.0) if image.mode == "F" else 65535.0
    if low < 0 or high > limit:
        raise PhotoError(
            f"photo {name} of pixel format {image.mode!r} has values {low:g} to {high:g}; "
            f"expected 0 to {limit:g}; save it as an 8-bit picture"
        )
    grey = np.rint(values.astype(np.float64) * (255.0 / limit)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    shape = tuple(array.shape)
    if array.ndim == 3 and shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (3, 4)) or 0 in shape:
        raise PhotoError(
            "an array must have shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], "
            f"got {list(shape)}; put the channels last and pass one picture"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.rint(array.astype(np.float64) / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotoError(
                "a float array must hold finite values from 0 to 1, "
                f"got {float(array.min()):g} to {float(array.max()):g}; "
                "rescale it, or convert it to uint8"
            )
        array = np.rint(array.astype(np.float64) * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PhotoError(
            f"an array must be of dtype uint8, uint16, bool or float, got {array.dtype}; convert it"
        )
    return Image.fromarray(np.ascontiguousarray(array))
