"""Is it still the same person: identity similarity by a named network.

The default is dlib's network, which this project uses in no loss, fit or stopping rule. Papers
report ArcFace or CurricularFace, whose weights no package carries: pass the network as a function.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import CheckpointError
from ._inputs import image_pair
from .score import Score, mean_score


@dataclass(frozen=True)
class IdentityNetwork:
    """A function from one image to an embedding, and how two embeddings are compared.

    Attributes:
        protocol: the network, its weights, and how the face is cut out.
        embed: one RGB image ``[1, 3, H, W]`` in [-1, 1] to ``[d]``; None if it shows no face.
        compare: ``"cosine"`` (1: the same; higher is better) or ``"distance"`` (Euclidean; 0: the
            same; lower is better).

    Example:
        >>> colour = IdentityNetwork("mean colour", lambda x: x.mean((0, 2, 3)), "distance")
        >>> identity(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), colour).value
        1.7320508075688772
    """

    protocol: str
    embed: Callable[[Tensor], Tensor | None]
    compare: Literal["cosine", "distance"]

    def score_protocol(self, missing: int = 0) -> str:
        """Describe what is reported, and how many pairs it leaves out."""
        what = (
            "cosine similarity, higher is better"
            if self.compare == "cosine"
            else "Euclidean distance, lower is better"
        )
        left_out = f"; {missing} pairs left out, no face found" if missing else ""
        return f"ID: {self.protocol}; {what}{left_out}"

    def between(self, a: Tensor | None, b: Tensor | None) -> float | None:
        """Compare two embeddings; None if one is missing."""
        if a is None or b is None:
            return None
        x, y = a.detach().double().flatten(), b.detach().double().flatten()
        if self.compare == "distance":
            return (x - y).norm().item()
        return F.cosine_similarity(x, y, dim=0).item()


def dlib_identity() -> IdentityNetwork:
    """dlib's ResNet: the largest face found, its 68 landmarks, 128 numbers, Euclidean distance.

    Below 0.6 dlib calls two faces the same person. Faces are looked for when images come; where
    dlib or its files are not installed, that raises AssetError.

    Example:
        >>> dlib_identity().compare
        'distance'
    """
    from ..landmarks import detect_faces, identity_embedding

    def embed(image: Tensor) -> Tensor | None:
        array = ((image[0].permute(1, 2, 0).double() + 1) * 127.5).round().clamp(0, 255)
        picture = Image.fromarray(array.to("cpu", torch.uint8).numpy())
        faces = detect_faces(picture)
        if not faces:
            return None
        return torch.from_numpy(np.asarray(identity_embedding(picture, faces[0])))

    return IdentityNetwork(
        "dlib face_recognition_resnet_model_v1, largest face, 68 landmarks", embed, "distance"
    )


def face_network_identity(network: Callable[[Tensor], Tensor], protocol: str) -> IdentityNetwork:
    """Any network that maps aligned face photographs to embeddings, compared by cosine.

    Args:
        network: ``[1, 3, H, W]`` in [-1, 1] to ``[1, d]``; ArcFace or CurricularFace with the
            crop that belongs to it. It sees the image as it is: no face is looked for, so the
            photographs must be aligned (FFHQ's alignment for the ArcFace of pSp's ID loss).
        protocol: its name, its weights and its crop, for the report.

    Example:
        >>> face_network_identity(lambda x: x.flatten(1), "pixels").compare
        'cosine'
    """

    def embed(image: Tensor) -> Tensor:
        with torch.no_grad():
            found = network(image)
        if found.ndim != 2 or len(found) != 1 or not torch.isfinite(found).all():
            raise ValueError(
                f"`network` must return finite embeddings [1, d], got shape {list(found.shape)}"
            )
        return found[0]

    return IdentityNetwork(f"{protocol}, aligned images as they are", embed, "cosine")


def arcface_identity(path: str | os.PathLike[str]) -> IdentityNetwork:
    """ArcFace or CurricularFace from a file, with the crop of pSp's and e4e's ID figures.

    Images must be aligned as FFHQ's are and at least 256 px: they are averaged down to 256 x 256,
    of which ``[35:223, 32:220]`` is averaged down to 112 x 112.

    Args:
        path: ``model_ir_se50.pth``, or CurricularFace's file; see
            :func:`gan_inversion.checkpoints.load.load_face_id`.

    Raises:
        CheckpointError: the file cannot be used.

    Example:
        >>> identity(photos, edits, arcface_identity("model_ir_se50.pth"))  # doctest: +SKIP
    """
    from ..checkpoints.load import load_face_id
    from ..encoders import IDLoss

    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: it cannot be read: {error}") from error
    judge = IDLoss(load_face_id(Path(path), sha256=digest))
    name = f"face network {Path(path).name} (sha256 {digest[:16]}), 256 px, crop 35:223, 32:220"
    return face_network_identity(judge.embed, name)


def identity(
    a: Tensor,  # [B, 3, H, W]
    b: Tensor,
    network: IdentityNetwork | None = None,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
) -> Score:
    """Mean identity similarity of pairs of images.

    Args:
        a: ``[B, 3, H, W]``, uint8 or floating point in ``value_range``.
        b: like ``a``.
        network: what embeds a face; None is :func:`dlib_identity`.
        value_range: of floating-point images.
        seed: of the bootstrap.

    Returns:
        The mean over the pairs with a face in both; the protocol counts the others.

    Raises:
        AssetError: dlib or its files are not installed.
        ValueError: no pair has a face in both images.

    Example:
        >>> pixels = face_network_identity(lambda x: x.flatten(1), "pixels")
        >>> x = torch.rand(1, 3, 8, 8)
        >>> round(identity(x, x, pixels).value, 6)
        1.0
    """
    chosen = dlib_identity() if network is None else network
    x, y = image_pair(a, b, value_range)
    if x.shape[1] != 3:
        raise ValueError(f"`a` and `b` must be RGB images, got {x.shape[1]} channel; repeat it")
    x, y = (2 * x - 1).float(), (2 * y - 1).float()
    values = [
        chosen.between(chosen.embed(x[i : i + 1]), chosen.embed(y[i : i + 1]))
        for i in range(len(x))
    ]
    return identity_score(values, chosen, seed=seed)


def identity_score(values: list[float | None], network: IdentityNetwork, *, seed: int = 0) -> Score:
    """Average what :meth:`IdentityNetwork.between` returned, and count what it could not.

    Raises:
        ValueError: no pair has a face in both images.
    """
    found = [value for value in values if value is not None]
    if not found:
        raise ValueError(
            f"no face was found in both images of any of {len(values)} pairs: there is no ID score"
        )
    protocol = network.score_protocol(len(values) - len(found))
    return mean_score(torch.tensor(found, dtype=torch.float64), protocol, seed=seed)
