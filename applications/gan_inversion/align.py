"""Cut a face out of a photograph the way the faces of FFHQ were cut, and remember how.

Coordinates are (x, y) pixels with pixel *centres* at whole numbers, in the photograph and in the
aligned crop alike, except where "edge coordinates" are named: those put the picture's top left
corner at (0, 0), so pixel centres at halves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .errors import PhotoError
from .landmarks import Face, check_landmarks

MIN_NATIVE_SIZE = 64.0
# Of the crop's side; FFHQ blurs its padding by this much, and reaches the full blur within a
# third of the padding.
_PADDING_BLUR = 0.02
_MIN_PADDING = 0.3
_MIN_VALID = 0.25


@dataclass(frozen=True, eq=False)
class Alignment:
    """An aligned face and the similarity transform that takes it back into the photograph."""

    image: Image.Image  # RGB, size x size
    quad: np.ndarray  # [4, 2] crop corners in the photo: top left, bottom left, b. right, t. right
    native_size: float  # side of the crop in photo pixels: how much detail there is
    valid: np.ndarray  # [size, size] bool, True where the photograph is, False where padding is
    matrix: np.ndarray  # [2, 3]: photo point = matrix @ (x, y, 1) of the aligned point
    photo_size: tuple[int, int]  # width, height of the photograph
    landmarks: np.ndarray  # [68, 2] in the aligned crop

    @property
    def size(self) -> int:
        """Side of the aligned crop in pixels."""
        return self.image.width

    @property
    def scale(self) -> float:
        """Photo pixels per aligned pixel."""
        return self.native_size / self.size

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Map points ``[..., 2]`` of the aligned crop to the photograph."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_aligned(self, points: np.ndarray) -> np.ndarray:
        """Map points ``[..., 2]`` of the photograph to the aligned crop."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return (np.asarray(points, np.float64) - self.matrix[:, 2]) @ inverse.T


def ffhq_quad(landmarks: np.ndarray) -> np.ndarray:
    """Return the corners of FFHQ's crop of a face.

    With e the vector between the eyes' centres and m the one from the eyes to the mouth,
    x = e - rot90(m) is scaled to the length max(2.0 |e|, 1.8 |m|), y = rot90(x), and the square
    is c -+ x -+ y around c = eyes + 0.1 m. From "A Style-Based Generator Architecture for
    Generative Adversarial Networks" (https://arxiv.org/abs/1812.04948), appendix A, and its
    published data recipe.

    Args:
        landmarks: ``[68, 2]`` photo pixels, in the order of 300-W.

    Returns:
        ``[4, 2]`` float64: top left, bottom left, bottom right, top right.

    Raises:
        ValueError: another shape, values that are not finite, or landmarks all in one place.
    """
    points = check_landmarks(landmarks)
    eye_left, eye_right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    eyes = (eye_left + eye_right) / 2
    mouth = (points[48] + points[54]) / 2
    eye_to_eye, eye_to_mouth = eye_right - eye_left, mouth - eyes
    x = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    length = float(np.hypot(*x))
    if length < 1e-6:
        raise ValueError("`landmarks` lie in one place or upside down; detect the face again")
    x = x / length * max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth))
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * eye_to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def align_face(
    image: Image.Image,
    landmarks: np.ndarray,
    size: int = 1024,
    *,
    min_native_size: float = MIN_NATIVE_SIZE,
) -> Alignment:
    """Cut out a face by FFHQ's rule, upright and centred, at the generator's size.

    Where the crop reaches beyond the photograph, the photograph is reflected and the reflection
    is blurred and fades to the median colour, as in FFHQ; unlike there, no pixel inside the
    photograph is blurred, so that what is pasted back starts from what was there. Enlarging is
    bicubic; reducing averages over the area first.

    Args:
        image: upright RGB photograph.
        landmarks: ``[68, 2]`` photo pixels (:attr:`gan_inversion.landmarks.Face.landmarks`).
        size: side of the result in pixels.
        min_native_size: smallest side of the crop, in photo pixels, that is accepted.

    Returns:
        The :class:`Alignment`: picture, corners, native size, valid mask and transform.

    Raises:
        PhotoError: the face is too small, or mostly outside the photograph.
        ValueError: landmarks of another shape, or a ``size`` that is not positive.

    Example:
        >>> face = select_face(detect_faces(photo))  # doctest: +SKIP
        >>> align_face(photo, face.landmarks).image.size  # doctest: +SKIP
        (1024, 1024)
    """
    if size < 1:
        raise ValueError(f"`size` must be positive, got {size}; 1024 fits the default generator")
    quad = ffhq_quad(landmarks)
    native = float(np.hypot(*(quad[3] - quad[0])))
    if native < min_native_size:
        raise PhotoError(
            f"the face is too small: expected a crop of at least {min_native_size:.0f} photo "
            f"pixels, got {native:.0f}; use a larger copy of the photograph"
        )
    photo = image.convert("RGB")
    # Pixel centre (i, j) of the crop is at ((i + 0.5) / size, (j + 0.5) / size) of the square.
    right, down = (quad[3] - quad[0]) / size, (quad[1] - quad[0]) / size
    matrix = np.column_stack([right, down, quad[0] + (right + down) / 2])
    points = matrix @ _centres(size)
    width, height = photo.size
    valid = (
        (points[0] >= -0.5) & (points[0] <= width - 0.5)
        & (points[1] >= -0.5) & (points[1] <= height - 0.5)
    ).reshape(size, size)  # fmt: skip

    if valid.mean() < _MIN_VALID:
        raise PhotoError(
            "the face lies mostly outside the photograph: expected at least "
            f"{_MIN_VALID:.0%} of its crop inside, got {valid.mean():.0%}; "
            "use a photograph that shows the whole face"
        )

    aligned = _resample(photo, quad, native, size)
    alignment = Alignment(aligned, quad, native, valid, matrix, photo.size, np.empty((0, 2)))
    placed = alignment.to_aligned(check_landmarks(landmarks))
    return Alignment(aligned, quad, native, valid, matrix, photo.size, placed)


def select_face(faces: Sequence[Face], index: int | None = None) -> Face:
    """Choose the face to edit.

    Without an ``index`` it is the largest, however many there are. With one, faces count from 0
    in the order of :func:`gan_inversion.landmarks.detect_faces`, which is from large to small.

    Args:
        faces: what ``detect_faces`` returned.
        index: which one (``--face`` on the command line), or None for the largest.

    Returns:
        One of ``faces``.

    Raises:
        PhotoError: there is no face, or not that many.
    """
    if not faces:
        raise PhotoError(
            "no face was found in the photograph; expected one that looks roughly at the camera "
            "and is at least 40 pixels wide; try a larger, sharper or brighter photograph"
        )
    if index is None:
        return max(faces, key=lambda face: face.size)
    if not 0 <= index < len(faces):
        count = "1 face was" if len(faces) == 1 else f"{len(faces)} faces were"
        raise PhotoError(
            f"`face` must be from 0 to {len(faces) - 1}, got {index}: {count} found, "
            "0 is the largest"
        )
    return faces[index]


def _centres(size: int) -> np.ndarray:
    """Homogeneous pixel centres of a square picture, row by row: [3, size * size]."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x.ravel(), y.ravel(), np.ones(size * size)]).astype(np.float64)


def _resample(photo: Image.Image, quad: np.ndarray, native: float, size: int) -> Image.Image:
    """Crop, pad, and warp the quad to an upright square."""
    # Reduce first, as FFHQ does, so that a face of many megapixels costs no more than its crop
    # needs; what is left for the exact warp is at least 1.5 pixels for one.
    shrink = max(1, math.floor(native / size / 1.5))
    if shrink > 1:
        photo = photo.reduce(shrink)
        quad, native = (quad + 0.5) / shrink - 0.5, native / shrink
    factor = native / size

    border = max(3, math.ceil(0.1 * native))
    left, top = (math.floor(v) - border for v in quad.min(axis=0))
    right, bottom = (math.ceil(v) + border + 1 for v in quad.max(axis=0))
    patch = _padded_crop(photo, (left, top, right, bottom), native)
    corners = quad + 0.5 - np.array([left, top])  # edge coordinates of the patch
    # Bicubic interpolation sees one source pixel's surroundings only: when reducing, take enough
    # samples per output pixel and average them.
    samples = max(1, math.ceil(factor - 1e-6))
    fine = size * samples
    step_x, step_y = (corners[3] - corners[0]) / fine, (corners[1] - corners[0]) / fine
    coefficients = (
        step_x[0], step_y[0], corners[0][0],
        step_x[1], step_y[1], corners[0][1],
    )  # fmt: skip
    channels = []
    # In float: on 8-bit pictures Pillow's warp cuts off fractions, half a level on average.
    for channel in patch.split():
        values = channel.convert("F").transform(
            (fine, fine), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
        )
        if samples > 1:
            values = values.resize((size, size), Image.Resampling.LANCZOS)
        channels.append(np.asarray(values))
    return Image.fromarray(np.rint(np.stack(channels, -1).clip(0, 255)).astype(np.uint8))


def _padded_crop(photo: Image.Image, box: tuple[int, int, int, int], native: float) -> Image.Image:
    """Crop a box that may reach beyond the photograph; reflect and blur what lies outside."""
    width, height = photo.size
    left, top, right, bottom = box
    pad = (max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height))
    inside = photo.crop((max(0, left), max(0, top), min(width, right), min(height, bottom)))
    if not any(pad):
        return inside

    # The whole photograph may be reflected, not only the part inside the box.
    rows = _reflect(np.arange(top, bottom), height)
    columns = _reflect(np.arange(left, right), width)
    pixels = np.asarray(photo)[rows][:, columns]
    reach = max(max(pad), _MIN_PADDING * native)  # the padding's width in FFHQ's recipe
    x, y = np.arange(left, right), np.arange(top, bottom)
    beyond_x = np.maximum(np.maximum(-x, x - (width - 1)), 0)
    beyond_y = np.maximum(np.maximum(-y, y - (height - 1)), 0)
    beyond = np.maximum(beyond_x[None, :], beyond_y[:, None])
    distance = beyond.astype(np.float32) / reach  # 0 inside the photograph

    blurred = np.asarray(
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_PADDING_BLUR * native))
    )
    median = np.median(np.asarray(inside).reshape(-1, 3), axis=0).astype(np.float32)
    towards_blur, towards_median = np.clip(3 * distance, 0, 1), np.clip(distance, 0, 1)
    for channel in range(3):  # one at a time: the photograph may be large
        mixed = pixels[..., channel].astype(np.float32)
        mixed += (blurred[..., channel] - mixed) * towards_blur
        mixed += (median[channel] - mixed) * towards_median
        pixels[..., channel] = np.rint(mixed.clip(0, 255))
    return Image.fromarray(pixels)


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Fold indices into 0..length-1 by mirroring at the first and last pixel, as often as needed.

    >>> _reflect(np.array([-2, -1, 0, 2, 3, 4]), 3).tolist()
    [2, 1, 0, 2, 1, 0]
    """
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.where(folded >= length, period - folded, folded)
