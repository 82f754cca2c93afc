"""Find faces, their 68 landmarks and the identity that reports are made with (all by dlib).

The networks are read on first use and kept; dlib's objects hold scratch memory, so one lock lets
one thread at a time through. The identity network is the *reported* metric of this project: it
may appear in no loss, no fit and no stopping rule.

dlib's 68-point file was trained on the 300-W data, whose terms are non-commercial.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .assets import asset_path
from .errors import AssetError

# The detector sees faces of about 80 px and more. Larger photographs are first searched reduced:
# whoever is to be edited fills a fair part of the picture, and the time grows with the area.
_SEARCH_SIDE = 1600
# Doubling the size finds smaller faces; beyond this many pixels it costs seconds and gigabytes.
_MAX_UPSAMPLE_PIXELS = 4_000_000
# Real faces score above 1 in the demo photographs at every size tried, patches of a space suit up
# to 0.18, one of them larger than the face. Weak finds beside a sure one are taken for no faces.
_SURE_SCORE, _WEAK_SCORE = 0.5, 0.25
_lock = threading.RLock()


@dataclass(frozen=True, eq=False)
class Face:
    """One face: where it is, how sure the detector was, and its landmarks.

    All coordinates are photo pixels, with pixel *centres* at whole numbers (dlib's convention).
    """

    box: tuple[float, float, float, float]  # left, top, right, bottom
    score: float  # the detector's margin; below about 0.25 it is often no face
    landmarks: np.ndarray  # [68, 2] float64, (x, y), in the order of 300-W

    @property
    def size(self) -> float:
        """Geometric mean of the box's width and height, in pixels."""
        left, top, right, bottom = self.box
        return float(np.sqrt(max(right - left, 0.0) * max(bottom - top, 0.0)))


def detect_faces(image: Image.Image) -> list[Face]:
    """Return the faces in a photograph, the largest first.

    dlib's frontal detector runs without upsampling first, since upsampling finds faces that are
    none (a second one in scikit-image's astronaut). Only when that finds nothing is more tried,
    in this order: the full size, if the photograph was reduced to 1600 px for the first search;
    then upsampling by 2, if the photograph has at most 4 million pixels. Beside a find that scores
    0.5 or more, those below 0.25 are dropped.

    Args:
        image: upright RGB photograph (see :func:`gan_inversion.photo.load_photo`).

    Returns:
        Faces sorted by size, largest first; equal sizes from left to right. Empty if none.

    Raises:
        AssetError: dlib or its landmark file is not installed.

    Example:
        >>> faces = detect_faces(load_photo("portrait.jpg"))  # doctest: +SKIP
        >>> faces[0].landmarks.shape  # doctest: +SKIP
        (68, 2)
    """
    rgb = _rgb_array(image)
    height, width = rgb.shape[:2]
    with _lock:
        scale = min(1.0, _SEARCH_SIDE / max(height, width))
        found: list[tuple[tuple[float, float, float, float], float]] = []
        if scale < 1:
            small = image.convert("RGB").resize(
                (max(1, round(width * scale)), max(1, round(height * scale))),
                Image.Resampling.BOX,
                reducing_gap=2.0,
            )
            found = _search(np.asarray(small), upsample=0)
            sx, sy = width / small.width, height / small.height
            found = [((b[0] * sx, b[1] * sy, b[2] * sx, b[3] * sy), s) for b, s in found]
        if not found:
            found = _search(rgb, upsample=0)
        if not found and height * width <= _MAX_UPSAMPLE_PIXELS:
            found = _search(rgb, upsample=1)
        if any(score >= _SURE_SCORE for _, score in found):
            found = [(box, score) for box, score in found if score >= _WEAK_SCORE]
        faces = [Face(box, score, _landmarks(rgb, box)) for box, score in found]
    return sorted(faces, key=lambda face: (-face.size, face.box[0]))


def identity_embedding(image: Image.Image, face: Face | np.ndarray) -> np.ndarray:
    """Return dlib's 128 numbers that describe who a face is. For reports only, never for a loss.

    Args:
        image: the RGB picture the face is in.
        face: a :class:`Face` found in it, or its landmarks ``[68, 2]`` in pixels.

    Returns:
        ``[128]`` float64; compare two with :func:`identity_distance`.

    Raises:
        ValueError: landmarks of another shape, or not finite.
        AssetError: dlib or its identity network is not installed.

    Example:
        >>> a, b = (identity_embedding(i, detect_faces(i)[0]) for i in photos)  # doctest: +SKIP
        >>> identity_distance(a, b) < 0.6  # doctest: +SKIP
        True
    """
    points = check_landmarks(face.landmarks if isinstance(face, Face) else face)
    dlib = _dlib()
    rgb = _rgb_array(image)
    left, top = np.floor(points.min(axis=0))
    right, bottom = np.ceil(points.max(axis=0))
    # The chip is cut by the landmarks; the box is only carried along.
    box = dlib.rectangle(int(left), int(top), int(right), int(bottom))
    parts = [dlib.point(int(x), int(y)) for x, y in np.rint(points)]
    with _lock:
        network = _identity_network()
        descriptor = network.compute_face_descriptor(rgb, dlib.full_object_detection(box, parts))
    return np.asarray(descriptor, dtype=np.float64)


def identity_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Euclidean distance of two identity embeddings.

    Below 0.6 dlib calls two faces the same person; below 0.45 they are comfortably so.

    Args:
        a: ``[128]`` embedding.
        b: ``[128]`` embedding.

    Raises:
        ValueError: the shapes differ or are not ``[128]``.

    Example:
        >>> identity_distance(np.zeros(128), np.zeros(128))
        0.0
    """
    if np.shape(a) != (128,) or np.shape(b) != (128,):
        raise ValueError(
            f"`a` and `b` must have shape [128], got {list(np.shape(a))} and {list(np.shape(b))}; "
            "pass what identity_embedding returns"
        )
    return float(np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64)))


def check_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks as float64 ``[68, 2]``, or raise ValueError if they cannot be that.

    Example:
        >>> check_landmarks(np.ones((68, 2))).dtype
        dtype('float64')
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (68, 2):
        raise ValueError(
            f"`landmarks` must have shape [68, 2], got {list(points.shape)}; "
            "pass Face.landmarks as detect_faces returns them"
        )
    if not np.isfinite(points).all():
        raise ValueError("`landmarks` must be finite, got NaN or infinity; detect the face again")
    return points


def _rgb_array(image: Image.Image) -> np.ndarray:
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"`image` must be a PIL image, got {type(image).__name__}; use load_photo to make one"
        )
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _search(
    rgb: np.ndarray, upsample: int
) -> list[tuple[tuple[float, float, float, float], float]]:
    rectangles, scores, _ = _detector().run(rgb, upsample, 0.0)
    return [
        ((float(r.left()), float(r.top()), float(r.right()), float(r.bottom())), float(score))
        for r, score in zip(rectangles, scores, strict=True)
    ]


def _landmarks(rgb: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    rectangle = _dlib().rectangle(*(round(value) for value in box))
    shape = _landmark_network()(rgb, rectangle)
    return np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)


@functools.cache
def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise AssetError(
            "faces need the package 'dlib-bin' (imported as dlib), which is not installed; run "
            "`make demo` or "
            "`pip install --no-deps --require-hashes -r requirements/face-assets.txt`"
        ) from error
    return dlib


@functools.cache
def _detector() -> Any:
    return _dlib().get_frontal_face_detector()


@functools.cache
def _landmark_network() -> Any:
    return _dlib().shape_predictor(str(asset_path("landmarks68")))


@functools.cache
def _identity_network() -> Any:
    return _dlib().face_recognition_model_v1(str(asset_path("identity")))
