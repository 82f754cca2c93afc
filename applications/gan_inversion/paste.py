"""Put an edited face back into its photograph so that only the edit is seen.

What is pasted is the *difference* between the edited and the aligned face, so a pixel that the
edit did not touch keeps its value to the bit. Where the edit did change structure, what replaces
the photograph is brought to the photograph's sharpness and grain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .align import Alignment

# All pixel values in this file are 0..255.
# A difference in *structure* (the difference without its slow part) below the first is noise of
# the two resamplings; above the second, the photograph's own detail no longer belongs there.
_STRUCTURE_LOW, _STRUCTURE_HIGH = 2.0, 8.0
_LANCZOS_RADIUS = 3
_MASK_FEATHER = 0.012  # of the crop's side
_COLOUR_REACH = 0.06  # of the crop's side
_EDGE_CONTRAST = 24.0  # of 255: weaker edges say more about noise than about sharpness
_MAX_BLUR = 3.0  # photo pixels
_MIN_SAMPLES = 100
_GRAIN_BLOCK, _MIN_BLOCKS, _GRAIN_QUANTILE = 8, 12, 0.2
_GRAIN_BIAS = 0.89  # that quantile over blocks of white noise of deviation 1, measured
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PasteStats:
    """What :func:`paste_back_with_stats` measured and did, for a report."""

    blur_sigma: float  # Gaussian blur given to the edit, photo pixels
    grain_sigma: float  # luminance grain added where structure changed, of 255
    photo_grain_sigma: float  # luminance grain of the photograph around the face, of 255
    changed_share: float  # share of the photograph's pixels that differ from before


def paste_back(
    photo: Image.Image,
    alignment: Alignment,
    edited: Image.Image | np.ndarray | Tensor,
    mask: np.ndarray | Tensor | None = None,
    *,
    feather: float = 0.06,
    match_blur: bool = True,
    match_grain: bool = True,
    match_colour: bool = True,
    seed: int = 0,
) -> Image.Image:
    """Return the photograph with the edit of its aligned face pasted in.

    With P the photograph, A and E the aligned and the edited face warped back (Lanczos, so
    reducing does not alias), D = E - A, f the feathered weight and c in [0, 1] how much
    structure D has at a pixel::

        out = P + f * ((1 - c) * tone(D) + c * (blur(E) - P) + sqrt(c * (2 - c)) * grain)

    Where nothing changed D = c = 0 and out = P exactly. Where only the tone changed c = 0,
    tone(D) is the slow part of D, and the photograph keeps its own detail and grain. Where
    structure changed the old detail goes, and the new one is blurred to the sharpness of the
    photograph's face (never sharpened) and gets the grain it lacks. Toward the feathered border
    the slow part of D is taken out, so a difference in overall colour leaves no step and no halo.

    Args:
        photo: the photograph that ``alignment`` was made from.
        alignment: what :func:`gan_inversion.align.align_face` returned.
        edited: the edited face at the alignment's size: PIL image, uint8 array ``[S, S, 3]``, or
            tensor ``[3, S, S]`` or ``[1, 3, S, S]`` in [-1, 1] (values beyond are clamped).
        mask: optional weight ``[S, S]`` (or with leading ones) in [0, 1]; 1 takes the edit. Where
            it is 0 the photograph comes back to the bit. Leave it out for an edit that is already
            fused with ``alignment.image``: the weight would be applied twice.
        feather: width of the soft border inside the crop, as a share of its side.
        match_blur: blur the edit to the photograph's sharpness.
        match_grain: add the grain the edit lacks.
        match_colour: take out the difference in overall colour along the border.
        seed: seed of the grain; the same call gives the same picture.

    Returns:
        A new RGB photograph of the same size.

    Raises:
        ValueError: the photograph, edited face or mask has another size than the alignment says,
            or values that are not finite or out of range.
        TypeError: ``edited`` or ``mask`` is of another type.

    Example:
        >>> same = paste_back(photo, alignment, alignment.image)  # doctest: +SKIP
        >>> bool((np.asarray(same) == np.asarray(photo)).all())  # doctest: +SKIP
        True
    """
    return paste_back_with_stats(
        photo,
        alignment,
        edited,
        mask,
        feather=feather,
        match_blur=match_blur,
        match_grain=match_grain,
        match_colour=match_colour,
        seed=seed,
    )[0]


@torch.no_grad()
def paste_back_with_stats(
    photo: Image.Image,
    alignment: Alignment,
    edited: Image.Image | np.ndarray | Tensor,
    mask: np.ndarray | Tensor | None = None,
    *,
    feather: float = 0.06,
    match_blur: bool = True,
    match_grain: bool = True,
    match_colour: bool = True,
    seed: int = 0,
) -> tuple[Image.Image, PasteStats]:
    """Do what :func:`paste_back` does, and also return what was measured on the way.

    Args:
        photo: see :func:`paste_back`, as for all the others.
        alignment: the alignment of the face.
        edited: the edited face.
        mask: optional weight.
        feather: width of the soft border.
        match_blur: blur the edit.
        match_grain: add grain.
        match_colour: take out the border's colour difference.
        seed: seed of the grain.

    Returns:
        The photograph and its :class:`PasteStats`.
    """
    size = alignment.size
    if photo.size != alignment.photo_size:
        raise ValueError(
            f"`photo` must be the one that was aligned, {alignment.photo_size[0]} x "
            f"{alignment.photo_size[1]} pixels, got {photo.width} x {photo.height}; "
            "pass the upright photograph that load_photo returned"
        )
    if not 0 < feather < 0.5:
        raise ValueError(f"`feather` must be between 0 and 0.5, got {feather}; 0.06 is usual")
    after = _picture(edited, size)
    before = _picture(alignment.image, size)
    mask_weight = _mask_weight(mask, size)
    pixels = np.array(photo.convert("RGB"))

    # The edit has no detail beyond its own pixels: for larger faces the change is made on a
    # reduced photograph and enlarged, and the photograph's finest detail and grain stay.
    reduction = max(1, math.floor(alignment.native_size / size + 0.2))
    view = _View.of(alignment, photo.size, reduction)
    left, top, right, bottom = view.box
    if right - left < 1 or bottom - top < 1:
        return Image.fromarray(pixels), PasteStats(0.0, 0.0, 0.0, 0.0)
    full = torch.from_numpy(pixels[top:bottom, left:right]).permute(2, 0, 1).float()
    patch = F.avg_pool2d(full[None], reduction, ceil_mode=True)[0] if reduction > 1 else full

    difference = view.warp(after - before)
    weight = view.border_weight(feather)
    if mask_weight is not None:
        weight = weight * view.warp_weight(mask_weight)
    if match_colour:
        colour = _border_colour(difference, weight, view.native)
        difference = difference - colour * (1 - weight)
    tone, structure = _split(difference)
    replacement = view.warp(before) + difference

    blur_sigma = 0.0
    face = view.face_region()
    changed = face & (structure[0] > 0.5) & (weight[0] > 0.5)
    if match_blur:
        blur_sigma = _matching_blur(patch, replacement, face, changed)
        replacement = _blur(replacement, blur_sigma)
    grain = torch.zeros_like(replacement)
    photo_grain = added = 0.0
    if match_grain:
        grain, photo_grain, added = _matching_grain(patch, replacement, changed, seed)

    delta = weight * (
        (1 - structure) * tone
        + structure * (replacement - patch)
        + torch.sqrt(structure * (2 - structure)) * grain
    )
    if reduction > 1:
        delta = _enlarge(delta, reduction, full.shape[-2:])
    result = torch.round((full + delta).clamp(0, 255)).to(torch.uint8)
    out = pixels.copy()
    out[top:bottom, left:right] = result.permute(1, 2, 0).numpy()
    share = float((out != pixels).any(axis=-1).mean())
    stats = PasteStats(blur_sigma, added, photo_grain, share)
    return Image.fromarray(out), stats


@dataclass(frozen=True, eq=False)
class _View:
    """The part of the (reduced) photograph that the aligned crop covers, and the way into it."""

    box: tuple[int, int, int, int]  # in the photograph
    shape: tuple[int, int]  # height, width of the reduced patch
    to_aligned: np.ndarray  # [2, 3]: aligned point = to_aligned @ (x, y, 1) of the patch
    size: int  # of the aligned crop
    native: float  # side of the crop in patch pixels

    @staticmethod
    def of(alignment: Alignment, photo_size: tuple[int, int], reduction: int) -> _View:
        margin = 8 * reduction  # for the statistics and blurs at the border
        low = np.floor(alignment.quad.min(axis=0)).astype(int) - margin
        high = np.ceil(alignment.quad.max(axis=0)).astype(int) + margin + 1
        left, top = (max(0, int(v)) for v in low)
        right = max(left, min(photo_size[0], int(high[0])))
        bottom = max(top, min(photo_size[1], int(high[1])))
        # patch (x, y) -> photo -> aligned; a reduced pixel's centre is that of its block.
        inverse = np.linalg.inv(alignment.matrix[:, :2])
        offset = np.array([left, top]) + (reduction - 1) / 2 - alignment.matrix[:, 2]
        return _View(
            (left, top, right, bottom),
            (math.ceil((bottom - top) / reduction), math.ceil((right - left) / reduction)),
            np.column_stack([inverse * reduction, inverse @ offset]),
            alignment.size,
            alignment.native_size / reduction,
        )

    def points(self, samples: int = 1, margin: int = 0) -> tuple[Tensor, Tensor]:
        """Aligned (x, y) of ``samples`` x ``samples`` points in every pixel of the patch."""
        height, width = self.shape

        def axis(count: int) -> Tensor:
            steps = torch.arange((count + 2 * margin) * samples, dtype=torch.float64)
            return (steps + 0.5) / samples - 0.5 - margin

        y, x = axis(height)[:, None], axis(width)[None, :]
        a = self.to_aligned
        return a[0, 0] * x + a[0, 1] * y + a[0, 2], a[1, 0] * x + a[1, 1] * y + a[1, 2]

    def _sample(self, image: Tensor, samples: int, margin: int) -> Tensor:
        x, y = self.points(samples, margin)
        grid = torch.stack([(2 * x + 1) / self.size - 1, (2 * y + 1) / self.size - 1], dim=-1)
        return F.grid_sample(
            image[None],
            grid[None].to(image.dtype),
            mode="bilinear" if samples > 1 else "bicubic",
            padding_mode="border",
            align_corners=False,
        )[0]

    @property
    def _samples(self) -> int:
        # At least one sample per aligned pixel, so that none is skipped.
        return max(1, math.ceil(self.size / self.native - 1e-6))

    def warp(self, image: Tensor) -> Tensor:
        """Warp ``[C, S, S]`` to the patch, through a Lanczos filter where it is reduced."""
        samples = self._samples
        if samples == 1:
            return self._sample(image, 1, 0)
        fine = self._sample(image, samples, _LANCZOS_RADIUS)
        # Taps of one output pixel, centred on it: `samples` per photo pixel, 3 pixels each way.
        taps = (2 * _LANCZOS_RADIUS + 1) * samples
        at = (torch.arange(taps, dtype=torch.float64) + 0.5) / samples - _LANCZOS_RADIUS - 0.5
        kernel = torch.sinc(at) * torch.sinc(at / _LANCZOS_RADIUS) * (at.abs() < _LANCZOS_RADIUS)
        kernel = (kernel / kernel.sum()).to(image.dtype)
        rows = F.conv2d(fine[:, None], kernel.view(1, 1, -1, 1), stride=(samples, 1))
        return F.conv2d(rows, kernel.view(1, 1, 1, -1), stride=(1, samples))[:, 0]

    def warp_weight(self, weight: Tensor) -> Tensor:
        """Warp ``[1, S, S]`` to the patch by the mean over each pixel: no overshoot, 0 stays 0."""
        fine = self._sample(weight, max(2, self._samples), 0)
        return F.avg_pool2d(fine[None], max(2, self._samples))[0].clamp(0, 1)

    def border_weight(self, feather: float) -> Tensor:
        """1 inside the crop, falling smoothly to 0 at its border: [1, h, w]."""
        x, y = self.points()
        x, y = (x + 0.5) / self.size, (y + 0.5) / self.size
        inside = torch.minimum(torch.minimum(x, 1 - x), torch.minimum(y, 1 - y))
        return _smoothstep(inside / feather)[None].float()

    def face_region(self) -> Tensor:
        """Pixels on the face proper, where every aligned crop has it: [h, w] bool."""
        x, y = self.points()
        x, y = (x + 0.5) / self.size, (y + 0.5) / self.size
        return ((x - 0.5) / 0.28) ** 2 + ((y - 0.57) / 0.36) ** 2 < 1


def _picture(image: Image.Image | np.ndarray | Tensor, size: int) -> Tensor:
    """Return a face as float [3, S, S] in 0..255."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape != (size, size, 3):
            raise ValueError(
                f"`edited` as a picture must be uint8 [{size}, {size}, 3], "
                f"got {image.dtype} {list(image.shape)}; edit at the alignment's size"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    if not isinstance(image, Tensor):
        raise TypeError(
            "`edited` must be a PIL image, a uint8 array or a tensor, "
            f"got {type(image).__name__}; pass one of these"
        )
    if image.shape not in ((3, size, size), (1, 3, size, size)):
        raise ValueError(
            f"`edited` must have shape [3, {size}, {size}] or [1, 3, {size}, {size}], "
            f"got {list(image.shape)}; edit at the alignment's size"
        )
    image = image.detach().to("cpu", torch.float32).reshape(3, size, size)
    if not torch.isfinite(image).all():
        raise ValueError("`edited` must be finite, got NaN or infinity; lower the edit's strength")
    return (image.clamp(-1, 1) + 1) * 127.5


def _mask_weight(mask: np.ndarray | Tensor | None, size: int) -> Tensor | None:
    """Return the mask as float [1, S, S], its hard edges softened inwards."""
    if mask is None:
        return None
    if not isinstance(mask, (np.ndarray, Tensor)):
        raise TypeError(f"`mask` must be an array or a tensor, got {type(mask).__name__}")
    shape = tuple(mask.shape)
    if shape[-2:] != (size, size) or any(n != 1 for n in shape[:-2]):
        raise ValueError(
            f"`mask` must have shape [{size}, {size}], got {list(shape)}; "
            "resize it to the alignment's size"
        )
    weight = torch.as_tensor(mask).detach().to("cpu", torch.float32).reshape(1, size, size)
    if not bool(((weight >= 0) & (weight <= 1)).all()):
        raise ValueError(
            "`mask` must be within [0, 1], got "
            f"{float(weight.min()):g} to {float(weight.max()):g}; rescale or clamp it"
        )
    # The mean over a window is 1/2 on a straight edge of the mask and 1 a radius inside: a ramp
    # that starts at the edge. A mask that fades out by itself is hardly touched.
    radius = max(1, round(_MASK_FEATHER * size))
    support = F.pad((weight > 0).float()[None], (radius,) * 4, mode="replicate")
    mean = F.avg_pool2d(support, 2 * radius + 1, stride=1)[0]
    return weight * _smoothstep(2 * mean - 1)


def _smoothstep(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _blur_taps(sigma: float) -> Tensor:
    """Gaussian taps of sum 1, out to three sigma; the identity for sigma 0."""
    radius = max(1, math.ceil(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (at / max(sigma, 1e-6)) ** 2)
    return taps / taps.sum()


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [C, H, W] with repeated borders; sigma 0 returns the image."""
    if sigma <= 0:
        return image
    kernel = _blur_taps(sigma).to(image.dtype)
    radius = len(kernel) // 2
    padded = F.pad(image[:, None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def _border_colour(difference: Tensor, weight: Tensor, native: float) -> Tensor:
    """Slow part of the difference along the soft border, spread from there: [3, h, w]."""
    band = 4 * weight * (1 - weight)
    sigma = max(1.0, _COLOUR_REACH * native)
    # So slow a blur is made at a size where sigma is about 4 pixels.
    step = max(1, math.floor(sigma / 4))
    values = torch.cat([difference * band, band])[None]
    small = F.avg_pool2d(values, step, ceil_mode=True) if step > 1 else values
    spread = _blur(small[0], sigma / step)
    colour = spread[:3] / (spread[3:] + 1e-3)
    return _enlarge(colour, step, difference.shape[-2:]) if step > 1 else colour


def _split(difference: Tensor) -> tuple[Tensor, Tensor]:
    """Return the change of tone [3, h, w], and how much structure changes, 0 to 1: [1, h, w].

    Where only the tone changes, the fast part of the difference is the grain of the photograph
    with the opposite sign: left in, it would wipe the grain out. Where there is no difference at
    all, the tone is exactly 0.
    """
    slow = _blur(difference, 4.0)
    detail = (difference - slow).abs().amax(dim=0, keepdim=True)
    level = _blur(detail, 1.5)
    structure = _smoothstep((level - _STRUCTURE_LOW) / (_STRUCTURE_HIGH - _STRUCTURE_LOW))
    present = _smoothstep(_blur(difference.abs().amax(dim=0, keepdim=True), 1.5) / 2)
    return difference + present * (slow - difference), structure


def _luma(image: Tensor) -> Tensor:
    return torch.einsum("c,chw->hw", torch.tensor(_LUMA, dtype=image.dtype), image)


def _edge_sharpness(grey: Tensor, region: Tensor) -> float | None:
    """Steepest step between neighbours over the local contrast, at the region's sharp edges.

    1 for an ideal edge, about 0.4 / sigma for one blurred by sigma pixels; None without edges.
    It is a ratio, so it depends on how sharp the edges are and little on how many there are.
    """
    step = torch.zeros_like(grey)
    step[:, :-1] = (grey[:, 1:] - grey[:, :-1]).abs()
    step[:-1] = torch.maximum(step[:-1], (grey[1:] - grey[:-1]).abs())

    def around(values: Tensor) -> Tensor:
        return F.max_pool2d(values[None, None], 9, stride=1, padding=4)[0, 0]

    contrast = around(grey) + around(-grey)
    chosen = region & (contrast > _EDGE_CONTRAST)
    if int(chosen.sum()) < _MIN_SAMPLES:
        return None
    return float(torch.quantile(around(step)[chosen] / contrast[chosen], 0.9))


def _matching_blur(patch: Tensor, replacement: Tensor, face: Tensor, changed: Tensor) -> float:
    """Sigma of the Gaussian that makes the replacement as sharp as the photograph's face."""
    rows, columns = (torch.nonzero(face.any(dim=axis)).flatten() for axis in (1, 0))
    if len(rows) == 0 or len(columns) == 0:
        return 0.0
    box = (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    face, region = face[box], changed[box]
    target = _edge_sharpness(_luma(patch)[box], face)
    grey = _luma(replacement)[box]
    sharpness = _edge_sharpness(grey, region)
    if sharpness is None:
        region = face
        sharpness = _edge_sharpness(grey, region)
    if target is None or sharpness is None or sharpness <= 1.02 * target:
        return 0.0
    low, high = 0.0, _MAX_BLUR
    for _ in range(8):
        middle = (low + high) / 2
        blurred = _edge_sharpness(_blur(grey[None], middle)[0], region)
        if blurred is not None and blurred > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _opponent(image: Tensor) -> Tensor:
    """RGB -> luma, R - luma, B - luma, in which grain is nearly uncorrelated."""
    luma = _luma(image)
    return torch.stack([luma, image[0] - luma, image[2] - luma])


def _diagonal_level(channels: Tensor, region: Tensor) -> Tensor | None:
    """Standard deviation of the finest detail where there is least of it: [3], or None.

    The level is the rms of the diagonal Haar coefficients in blocks of 8 x 8, and of all blocks
    inside the region the value that a fifth stays below: a plain wall shows the grain, hair and
    pores would be taken for it. White noise of deviation s has the level s.
    """
    diagonal = (
        channels[:, :-1, :-1] - channels[:, :-1, 1:] - channels[:, 1:, :-1] + channels[:, 1:, 1:]
    ) / 2
    if min(diagonal.shape[-2:]) < _GRAIN_BLOCK:
        return None
    step = _GRAIN_BLOCK // 2
    level = F.avg_pool2d(diagonal[None] ** 2, _GRAIN_BLOCK, stride=step)[0].sqrt()
    inside = F.avg_pool2d(region[None, :-1, :-1].float(), _GRAIN_BLOCK, stride=step)[0] > 0.99
    if int(inside.sum()) < _MIN_BLOCKS:
        return None
    return torch.quantile(level[:, inside], _GRAIN_QUANTILE, dim=1) / _GRAIN_BIAS


def _matching_grain(
    patch: Tensor, replacement: Tensor, changed: Tensor, seed: int
) -> tuple[Tensor, float, float]:
    """Return grain [3, h, w] as the photograph has it, less what the replacement has.

    Also the photograph's and the returned grain's level in luma.
    """
    none = torch.zeros_like(patch)
    channels = _opponent(patch)
    unclipped = (channels[0] > 10) & (channels[0] < 245)
    wanted = _diagonal_level(channels, unclipped)
    if wanted is None:
        return none, 0.0, 0.0
    own_channels = _opponent(replacement)
    own = _diagonal_level(own_channels, changed)
    if own is None:
        own = _diagonal_level(own_channels, unclipped)
    missing = torch.sqrt((wanted**2 - (0.0 if own is None else own**2)).clamp_min(0))

    white = torch.randn(patch.shape, generator=torch.Generator().manual_seed(seed))
    coarse = _diagonal_level(_halve(channels), _halve(unclipped[None].float())[0] > 1.99)
    if coarse is None or float(wanted[0]) < 1e-3:
        noise = white
    else:
        # Compressed or resized photographs have softer grain than white noise. Of some softness,
        # take the one whose levels at the two scales have the photograph's ratio.
        ratio = float(coarse[0] / wanted[0])
        softness = min(_GRAIN_RATIOS, key=lambda sigma: abs(_GRAIN_RATIOS[sigma] - ratio))
        noise = _blur(white, softness) / _diagonal_gain(softness)
    return _from_opponent(noise * missing.view(3, 1, 1)), float(wanted[0]), float(missing[0])


def _halve(channels: Tensor) -> Tensor:
    """Half the size, scaled so that white noise keeps its level."""
    return F.avg_pool2d(channels[None], 2)[0] * 2


def _diagonal_gain(sigma: float, halved: bool = False) -> float:
    """Level of blurred white noise of deviation 1, at full or at half size, in closed form.

    The filter is separable: blur, then (for half size) the mean of two, then the difference of
    neighbours. The gain is the energy of the taps of one axis, for both axes.
    """
    taps = _blur_taps(sigma)
    box = torch.tensor([1.0, 1.0] if halved else [1.0], dtype=torch.float64)
    difference = torch.tensor([1.0, 0.0, -1.0] if halved else [1.0, -1.0], dtype=torch.float64)
    for other in (box, difference):
        taps = F.conv1d(
            taps.view(1, 1, -1), other.flip(0).view(1, 1, -1), padding=len(other) - 1
        ).view(-1)
    # The two-dimensional (a - b - c + d) / 2 has energy 1 for white noise: 1/2 an axis. The
    # halved picture is (a + b + c + d) / 2: again 1/2 an axis.
    return float((taps**2).sum()) / (4 if halved else 2)


# Softness of grain (Gaussian sigma in pixels) -> level at half size over level at full size.
_GRAIN_RATIOS = {
    sigma: _diagonal_gain(sigma, halved=True) / _diagonal_gain(sigma)
    for sigma in (0.0, 0.3, 0.4, 0.5, 0.6)
}


def _from_opponent(channels: Tensor) -> Tensor:
    """Luma, R - luma, B - luma -> RGB."""
    luma, red, blue = channels
    green = -(_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
    return torch.stack([luma + red, luma + green, luma + blue])


def _enlarge(small: Tensor, factor: int, shape: torch.Size) -> Tensor:
    """Undo an average pooling by ``factor``, smoothly; 0 stays 0."""
    height, width = shape
    large = F.interpolate(small[None], scale_factor=factor, mode="bilinear", align_corners=False)
    return large[0, :, :height, :width]
