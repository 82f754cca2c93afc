"""Networks whose features the distribution metrics compare, and what the result is then called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..perceptual import EfficientNetLite0, load_efficientnet_lite0
from ._weights import read_state
from .inception import OFFICIAL_SHA256, SIDE, load_with_digest
from .score import Progress


@dataclass(frozen=True)
class FeatureNetwork:
    """A function from images to features, and its name.

    Attributes:
        frechet_name: what the Frechet distance of its features is called.
        kernel_name: what the kernel distance is called.
        protocol: network, weights and resizing.
        prepare: one image ``[1, 3, H, W]`` in [-1, 1] to the input of fixed size.
        embed: prepared images ``[B, 3, S, S]`` to features ``[B, d]``.
        is_official: the file is FID's own Inception, by its hash.

    Example:
        >>> net = FeatureNetwork("FD-mean", "KD-mean", "mean colour", lambda x: x,
        ...                      lambda x: x.mean((2, 3)))
        >>> extract_features([torch.zeros(1, 3, 4, 4)] * 3, net).shape
        torch.Size([3, 3])
    """

    frechet_name: str
    kernel_name: str
    protocol: str
    prepare: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]
    is_official: bool = False


def extract_features(
    images: Iterable[Tensor],
    network: FeatureNetwork,
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Tensor:
    """Return the features ``[n, d]`` of images that may differ in size.

    Args:
        images: each ``[1, 3, H, W]`` in [-1, 1]; read one at a time.
        network: see :func:`efficientnet_features` and :func:`inception_features`.
        batch_size: images per pass.
        progress: called with the number of images done.

    Raises:
        ValueError: no images, or one of another shape.
    """
    found: list[Tensor] = []
    batch: list[Tensor] = []

    def flush() -> None:
        found.append(network.embed(torch.cat(batch)).double().cpu())
        if progress is not None:
            progress(len(batch))
        batch.clear()

    with torch.no_grad():
        for image in images:
            if image.ndim != 4 or image.shape[:2] != (1, 3):
                raise ValueError(
                    f"`images` must each be [1, 3, H, W] in [-1, 1], got {list(image.shape)}"
                )
            batch.append(network.prepare(image))
            if len(batch) == batch_size:
                flush()
        if batch:
            flush()
    if not found:
        raise ValueError("`images` must not be empty: there are no features to compare")
    return torch.cat(found)


def resize_clean(x: Tensor, side: int) -> Tensor:
    """Pillow's bicubic resize on float values: smoothed when it shrinks, never rounded.

    Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation"
    (https://arxiv.org/abs/2104.11222).

    Example:
        >>> resize_clean(torch.zeros(1, 3, 8, 8), 4).shape
        torch.Size([1, 3, 4, 4])
    """
    return F.interpolate(x, (side, side), mode="bicubic", align_corners=False, antialias=True)


def efficientnet_features(path: str | os.PathLike[str] | None = None) -> FeatureNetwork:
    """The default: EfficientNet-Lite0's 1280 pooled features, trained on ImageNet.

    Its distances are called FD-EffLite0 and KD-EffLite0. They are no FID and no KID, and compare
    only with each other.

    Args:
        path: another file of the same layout; None takes the hash-pinned packaged one.

    Raises:
        AssetError: the package is not installed.
        CheckpointError: the file cannot be used.
    """
    if path is None:
        net, weights = load_efficientnet_lite0(), "packaged weights"
    else:
        state, digest = read_state(path, "EfficientNet-Lite0")
        net = EfficientNetLite0.from_packaged_state_dict(state)
        weights = f"weights sha256 {digest[:16]}"
    return FeatureNetwork(
        "FD-EffLite0",
        "KD-EffLite0",
        f"EfficientNet-Lite0 ({weights}), 1280 pooled features, 224 px by antialiased bicubic",
        lambda x: resize_clean(x, 224),
        net.pooled,
    )


def inception_features(
    path: str | os.PathLike[str],
    *,
    resize: Literal["pytorch-fid", "clean"] = "pytorch-fid",
) -> FeatureNetwork:
    """FID's own Inception from a local file: 2048 pooled features at 299 px.

    Args:
        path: ``pt_inception-2015-12-05-6726825d.pth``.
        resize: ``"pytorch-fid"`` is bilinear without smoothing, what most published figures were
            made with; ``"clean"`` is clean-fid's antialiased bicubic. They give different
            numbers, and different names.

    Returns:
        A network named FID / KID, or clean-FID / clean-KID; with another file than the official
        one (by its SHA-256) it is named FD-Inception.

    Raises:
        CheckpointError: the file cannot be used.
        ValueError: an unknown way to resize.
    """
    if resize not in ("pytorch-fid", "clean"):
        raise ValueError(f'`resize` must be "pytorch-fid" or "clean", got {resize!r}')
    net, digest = load_with_digest(path)
    prefix = "clean-" if resize == "clean" else ""
    official = digest.startswith(OFFICIAL_SHA256)
    if official:
        names, weights = (f"{prefix}FID", f"{prefix}KID"), "pt_inception-2015-12-05"
    else:
        names = (f"{prefix}FD-Inception", f"{prefix}KD-Inception")
        weights = f"weights sha256 {digest[:16]}, not the official file: no FID"
    how = "antialiased bicubic, not rounded" if resize == "clean" else "bilinear, not antialiased"
    return FeatureNetwork(
        *names,
        f"Inception ({weights}), 2048 pooled features, {SIDE} px by {how}",
        (lambda x: resize_clean(x, SIDE)) if resize == "clean" else _bilinear,
        net,
        official,
    )


def _bilinear(x: Tensor) -> Tensor:
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
