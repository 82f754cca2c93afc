"""Find the latent code of a photograph by optimisation: W, then W+, then the true output.

Four stages, each a few dozen Adam steps:

1. **W** at 256 px: one row for the whole face, so that the result starts in the middle of the
   generator's manifold.
2. **W+** at 256 px: one code a row. The 256 px image comes from a small fitted head and is only
   close to the down-sampled full image. The difference is measured every few steps and added
   back as a constant, which removes the head's bias at a fraction of a full step's cost.
3. **Tune** at 256 px: W+ together with small changes of the generator's own weights (pivotal
   tuning, Roich et al., https://arxiv.org/abs/2106.05744). This is what brings back what the
   generator was never taught: this person's features, a pair of glasses, a hat.
4. **Full**: the same on the true full-resolution output.

The loss is made of pixels and of EfficientNet-Lite0 features, both weighted towards the face. No
face-recognition network takes part in it or in any decision: those are kept for reporting.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from gan_inversion.generators.base import Generator
from gan_inversion.perceptual import (
    DEFAULT_TAPS,
    EfficientNetLite0,
    feature_distance,
    load_efficientnet_lite0,
)
from hypergraph._files import atomic_writer

__all__ = [
    "Inversion",
    "InversionCache",
    "InversionConfig",
    "face_weight",
    "generator_fingerprint",
    "invert",
    "tuned_generator",
]

_FEATURE_SIZE = 256
_PIXEL_LEVELS = (1.0, 0.5, 0.5, 0.5)
_WARM_UP = 5
_STEP_FIELDS = ("steps_w", "steps_w_plus", "steps_tune", "steps_full")


@dataclass(frozen=True)
class InversionConfig:
    """How a photograph is inverted; the defaults are what the figures in the README used.

    Attributes:
        steps_w: steps in W at `low_resolution`.
        steps_w_plus: steps in W+ at `low_resolution`.
        steps_tune: steps in W+ and in the generator's weights at `low_resolution`.
        steps_full: steps in W+ and in the generator's weights at the full resolution.
        low_resolution: side in pixels of the image the first two stages compare.
        lr_w, lr_w_plus, lr_full: Adam's learning rates for the code; the last two stages share one.
        lr_tune: Adam's learning rate for the generator's weights, as a fraction of each tensor's
            root mean square; 0 leaves them alone.
        tune: patterns (`fnmatch`) of the names of the generator's parameters that are tuned.
        feature_weight: factor of the EfficientNet-Lite0 term.
        mean_weight: pull of the code towards the mean latent.
        spread_weight: pull of the W+ rows towards each other, which keeps the code editable.
        face_emphasis: how many times more a pixel of the face weighs than one of the rest.
        correct_every: steps between two measurements of the low-resolution head's error.
    """

    steps_w: int = 30
    steps_w_plus: int = 50
    steps_tune: int = 45
    steps_full: int = 12
    low_resolution: int = 256
    lr_w: float = 0.08
    lr_w_plus: float = 0.04
    lr_full: float = 0.02
    lr_tune: float = 0.005
    # All but the last two convolutions, which would cost 0.4 GB for next to nothing.
    tune: tuple[str, ...] = (
        "convs.?.kernel",
        "convs.?.depthwise",
        "convs.?.bias",
        "convs.1[0-2].kernel",
        "convs.1[0-2].depthwise",
        "convs.1[0-2].bias",
    )
    feature_weight: float = 0.2
    mean_weight: float = 0.002
    spread_weight: float = 0.01
    face_emphasis: float = 4.0
    correct_every: int = 20

    def __post_init__(self) -> None:
        for name in _STEP_FIELDS:
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}")
        if self.total_steps == 0:
            raise ValueError(f"{_STEP_FIELDS} are all 0; set one of them")
        if self.lr_tune < 0:
            raise ValueError(f"`lr_tune` must be 0 (off) or more, got {self.lr_tune}")
        if self.correct_every < 1:
            raise ValueError(f"`correct_every` must be 1 or more, got {self.correct_every}")
        if self.face_emphasis < 1:
            raise ValueError(
                f"`face_emphasis` must be 1 (no emphasis) or more, got {self.face_emphasis}"
            )

    @property
    def total_steps(self) -> int:
        """Sum of the steps of all stages."""
        return sum(getattr(self, name) for name in _STEP_FIELDS)

    def with_total_steps(self, steps: int) -> InversionConfig:
        """Scale the stages to `steps` in total, keeping their proportions.

        Each stage that has steps keeps at least one.

        Raises:
            ValueError: `steps` is less than the number of stages that have steps.

        Example:
            >>> c = InversionConfig(steps_w=40, steps_w_plus=80, steps_tune=60, steps_full=20)
            >>> d = c.with_total_steps(100)
            >>> d.steps_w, d.steps_w_plus, d.steps_tune, d.steps_full
            (20, 40, 30, 10)
        """
        used = [name for name in _STEP_FIELDS if getattr(self, name) > 0]
        if steps < len(used):
            raise ValueError(f"`steps` must be at least {len(used)}, one a stage, got {steps}")
        total, scaled, left = self.total_steps, dict[str, int](), steps
        for position, name in enumerate(used):
            later = len(used) - position - 1
            share = round(getattr(self, name) * steps / total)
            scaled[name] = left if later == 0 else min(max(1, share), left - later)
            left -= scaled[name]
        return replace(self, **scaled)  # type: ignore[arg-type]


@dataclass
class Inversion:
    """A photograph as the generator sees it.

    Attributes:
        w_plus: the code, `[1, num_ws, w_dim]`.
        image: what the (tuned) generator renders from it, `[1, 3, R, R]`, clamped to [-1, 1].
        generator_delta: tuned parameters by name, to be given to `tuned_generator`; None when
            the generator's weights were left alone.
        log: one record a step: stage, step, loss, pixel, feature.
        seconds: wall time of the optimisation; 0 for a cached result.
    """

    w_plus: Tensor
    image: Tensor
    generator_delta: dict[str, Tensor] | None = None
    log: list[dict[str, float | str]] = field(default_factory=list)
    seconds: float = 0.0


def face_weight(
    landmarks: Tensor | None,  # [68, 2]
    size: int,
    emphasis: float = 4.0,
    softness: float = 0.03,
) -> Tensor:
    """Weight of each pixel of an aligned photograph: high on the face, 1 / emphasis off it.

    The face is the convex hull of the 68 landmarks and of the eyebrows moved up onto the
    forehead: `m = 1/e + (1 - 1/e) sigmoid(d / s)`, with d the signed distance to the hull's
    nearest edge line, scaled to a mean of 1.

    Args:
        landmarks: x, y in pixels of the aligned photograph of side `size`, `[68, 2]`; None takes
            an ellipse where FFHQ's alignment puts a face.
        size: side of the weight map in pixels.
        emphasis: ratio between the weight of a face pixel and of another one.
        softness: width of the transition as a fraction of `size`.

    Returns:
        `[1, 1, size, size]`, positive, with mean 1.

    Raises:
        ValueError: `landmarks` are not 68 points.

    Example:
        >>> m = face_weight(None, 64)
        >>> bool(m[0, 0, 36, 32] > 3 * m[0, 0, 0, 0])
        True
    """
    axis = torch.arange(size, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    if landmarks is None:
        radius = (((x / size - 0.5) / 0.29) ** 2 + ((y / size - 0.54) / 0.38) ** 2).sqrt()
        distance = (1 - radius) * 0.33 * size
    else:
        points = torch.as_tensor(landmarks, dtype=torch.float32).cpu()
        if points.shape != (68, 2):
            raise ValueError(
                f"`landmarks` must have shape [68, 2], got {list(points.shape)}; pass x, y in "
                "pixels of the aligned photograph"
            )
        up = points[36:48].mean(0) - points[48:68].mean(0)
        forehead = points[17:27] + 0.6 * up
        hull = _convex_hull(torch.cat([points, forehead]))
        start, end = hull, hull.roll(-1, 0)
        # Cross product of the edge and the vector to the pixel: the distance to the edge's line,
        # positive inside for a counter-clockwise hull.
        edge_x, edge_y = F.normalize(end - start, dim=1)[:, :, None, None].unbind(1)
        start_x, start_y = start[:, :, None, None].unbind(1)
        inside = edge_x * (y - start_y) - edge_y * (x - start_x)
        distance = inside.amin(0)
    face = torch.sigmoid(distance / (softness * size))
    weight = 1 / emphasis + (1 - 1 / emphasis) * face
    return (weight / weight.mean())[None, None]


def _convex_hull(points: Tensor) -> Tensor:
    """Vertices of the convex hull of `[N, 2]` points (Andrew's monotone chain)."""
    ordered = sorted({(float(px), float(py)) for px, py in points})

    def chain(sequence: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for px, py in sequence:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2:]
                if (bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0:
                    break
                hull.pop()
            hull.append((px, py))
        return hull[:-1]

    return torch.tensor(chain(ordered) + chain(ordered[::-1]))


def tuned_generator(generator: Generator, delta: dict[str, Tensor] | None) -> Generator:
    """Return a copy of a generator with some of its parameters replaced.

    Args:
        generator: the generator an `Inversion` was made with; it is not changed.
        delta: parameter name -> tensor, as in `Inversion.generator_delta`; None or empty returns
            `generator` itself.

    Returns:
        A frozen generator in evaluation mode.

    Raises:
        ValueError: a name or a shape in `delta` does not fit the generator.
    """
    if not delta:
        return generator
    tuned = copy.deepcopy(generator)
    parameters = dict(tuned.named_parameters())
    for name, value in delta.items():
        if name not in parameters or parameters[name].shape != value.shape:
            expected = list(parameters[name].shape) if name in parameters else "no such name"
            raise ValueError(
                f"`delta` does not fit the generator at {name!r}: expected {expected}, got "
                f"{list(value.shape)}; use the generator that the inversion was made with"
            )
        parameters[name].data.copy_(value)
    return tuned.eval().requires_grad_(False)  # type: ignore[return-value]


class _Objective:
    """Weighted pixels over a pyramid plus weighted features, against one photograph."""

    def __init__(
        self,
        target: Tensor,  # [1, 3, R, R]
        weight: Tensor,  # [1, 1, R, R]
        network: EfficientNetLite0,
        config: InversionConfig,
    ) -> None:
        self.config = config
        self.network = network
        self._targets = {target.shape[-1]: target}
        self._weights = {target.shape[-1]: weight}
        self._features: dict[int, list[Tensor]] = {}

    def target(self, size: int) -> Tensor:
        return self._at(self._targets, size)

    def weight(self, size: int) -> Tensor:
        return self._at(self._weights, size)

    @staticmethod
    def _at(pyramid: dict[int, Tensor], size: int) -> Tensor:
        if size not in pyramid:
            pyramid[size] = F.interpolate(pyramid[max(pyramid)], size=(size, size), mode="area")
        return pyramid[size]

    def _target_features(self, size: int) -> list[Tensor]:
        if size not in self._features:
            with torch.no_grad():
                self._features[size] = self.network.features(self.target(size), DEFAULT_TAPS)
        return self._features[size]

    def __call__(self, image: Tensor) -> tuple[Tensor, float, float]:
        """Return the loss, and its pixel and feature parts as numbers for the log."""
        pixel = image.new_zeros(())
        level = image
        # Full-size images get one more level than 256 px ones, so that the coarse levels,
        # which carry shape and colour, are the same in all stages.
        extra = max(0, round(math.log2(image.shape[-1] / _FEATURE_SIZE)))
        for k in range(len(_PIXEL_LEVELS) + extra):
            size = level.shape[-1]
            error = level - self.target(size)
            weight = self.weight(size)
            term = (weight * error.square()).mean() + 0.1 * (weight * error.abs()).mean()
            pixel = pixel + _PIXEL_LEVELS[max(0, k - extra)] * term / (1 + extra * (k <= extra))
            level = F.avg_pool2d(level, 2)
        small = image
        if image.shape[-1] > _FEATURE_SIZE:
            small = F.interpolate(image, size=(_FEATURE_SIZE, _FEATURE_SIZE), mode="area")
        feature = feature_distance(
            self.network.features(small, DEFAULT_TAPS),
            self._target_features(small.shape[-1]),
            self.weight(small.shape[-1]),
        )
        loss = pixel + self.config.feature_weight * feature
        return loss, float(pixel.detach()), float(feature.detach())


def invert(
    generator: Generator,
    aligned: Tensor,  # [1, 3, R, R]
    config: InversionConfig | None = None,
    landmarks: Tensor | None = None,  # [68, 2]
    init_w: Tensor | None = None,  # [1, w_dim]
    progress: bool = True,
    network: EfficientNetLite0 | None = None,
) -> Inversion:
    """Find the code (and small changes of the weights) that render an aligned photograph.

    Minimises `pixels + a * features + b |w - mean|^2 + c |rows - their mean|^2`; see the
    module's docstring for the stages. No random number is drawn: the same input gives the same
    result on the same machine with the same number of threads.

    Args:
        generator: a frozen generator; it is not changed.
        aligned: FFHQ-aligned photograph at the generator's resolution, `[1, 3, R, R]` in [-1, 1].
        config: steps, rates and weights; None takes the defaults.
        landmarks: 68 points in pixels of `aligned`, for the face weighting; None takes an ellipse.
        init_w: starting code `[1, w_dim]` or `[1, num_ws, w_dim]`, for example from an encoder;
            None starts at the mean latent.
        progress: show a progress bar on standard error.
        network: the feature network; None loads the packaged one.

    Returns:
        The inversion, on the device of `aligned`.

    Raises:
        ValueError: a tensor has the wrong shape, or `aligned` is not finite.
        AssetError: `network` is None and the packaged weights are not installed.
    """
    config = InversionConfig() if config is None else config
    size = generator.resolution
    if aligned.shape != (1, 3, size, size):
        raise ValueError(
            f"`aligned` must have shape [1, 3, {size}, {size}], got {list(aligned.shape)}; "
            "align the photograph first"
        )
    if not bool(torch.isfinite(aligned).all()):
        raise ValueError("`aligned` must be finite, got NaN or infinity; re-read the photograph")
    start = time.perf_counter()
    device = aligned.device
    if network is None:
        network = load_efficientnet_lite0().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = _Objective(
        aligned.detach().float(),
        face_weight(landmarks, size, config.face_emphasis).to(device),
        network,
        config,
    )
    log: list[dict[str, float | str]] = []
    with tqdm(total=config.total_steps, disable=not progress, desc="inverting", unit="step") as bar:

        def record(stage: str, step: int, loss: float, pixel: float, feature: float) -> None:
            log.append(
                {"stage": stage, "step": step, "loss": loss, "pixel": pixel, "feature": feature}
            )
            bar.set_postfix_str(f"{stage} loss {loss:.3f}", refresh=False)
            bar.update()

        if init_w is None:
            w = generator.w_avg[None].to(device).clone()
        else:
            w = init_w.detach().to(device).float().clone()
            generator.broadcast(w)  # checks the shape
        low, full = config.low_resolution, generator.resolution
        if w.ndim == 2:
            stage = _Stage("W", config.steps_w, low, 1.0, 0.3)
            w = _optimise(generator, {}, objective, w, config.lr_w, [stage], config, record)
        w = generator.broadcast(w).contiguous()
        stage = _Stage("W+", config.steps_w_plus, low, 1.0, 0.3)
        w = _optimise(generator, {}, objective, w, config.lr_w_plus, [stage], config, record)
        tuned: dict[str, nn.Parameter] = {}
        if config.lr_tune > 0 and config.steps_tune + config.steps_full > 0:
            generator = copy.deepcopy(generator)
            tuned = _tunable(generator, config.tune)
        stages = [
            _Stage("tune", config.steps_tune, low, 1.0, 0.5),
            _Stage("full", config.steps_full, full, 0.5, 0.05),
        ]
        w = _optimise(generator, tuned, objective, w, config.lr_full, stages, config, record)
    with torch.no_grad():
        image = generator.synthesis(w)
    assert isinstance(image, Tensor)
    delta = {name: parameter.detach().clone() for name, parameter in tuned.items()}
    return Inversion(
        w_plus=generator.broadcast(w).contiguous(),
        image=image.clamp(-1, 1).contiguous(),
        generator_delta=delta or None,
        log=log,
        seconds=time.perf_counter() - start,
    )


_Record = Callable[[str, int, float, float, float], None]


@dataclass(frozen=True)
class _Stage:
    """Steps at one resolution; the learning rate falls linearly between two fractions."""

    name: str
    steps: int
    resolution: int
    first: float
    last: float

    def rate(self, step: int) -> float:
        return self.first + (self.last - self.first) * step / max(1, self.steps)


def _tunable(generator: Generator, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    found = {
        name: parameter
        for name, parameter in generator.named_parameters()
        if any(fnmatch(name, pattern) for pattern in patterns)
    }
    if not found:
        raise ValueError(
            f"`config.tune` must match names of the generator's parameters, got {tuple(patterns)}"
        )
    return found


def _regulariser(generator: Generator, w: Tensor, config: InversionConfig) -> Tensor:
    unit = generator.w_std.to(w)
    loss = config.mean_weight * ((w - generator.w_avg.to(w)) / unit).square().mean()
    if w.ndim == 3:
        spread = (w - w.mean(1, keepdim=True)) / unit
        loss = loss + config.spread_weight * spread.square().mean()
    return loss


def _optimise(
    generator: Generator,
    parameters: dict[str, nn.Parameter],
    objective: _Objective,
    w: Tensor,
    rate: float,
    stages: Sequence[_Stage],
    config: InversionConfig,
    record: _Record,
) -> Tensor:
    """Run stages that share one optimiser; returns the code, changes `parameters` in place."""
    w = w.clone().requires_grad_(True)
    groups: list[dict[str, object]] = [{"params": [w], "lr": rate}]
    for parameter in parameters.values():
        size = float(parameter.detach().square().mean().sqrt())
        groups.append({"params": [parameter], "lr": config.lr_tune * size})
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimiser.param_groups]
    done = 0
    for stage in stages:
        bias: Tensor | float = 0.0
        low = stage.resolution != generator.resolution
        for step in range(stage.steps):
            if low and w.ndim == 3 and step % config.correct_every == 0:
                bias = _head_error(generator, w.detach(), stage.resolution)
            # Adam's first steps are as large as its later ones: warm up.
            factor = stage.rate(step) * min(1.0, (done + 1) / _WARM_UP)
            for group, group_rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = group_rate * factor
            image = generator.synthesis(w, resolution=stage.resolution)
            assert isinstance(image, Tensor)
            loss, pixel, feature = objective(image + bias)
            loss = loss + _regulariser(generator, w, config)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
            record(stage.name, step, float(loss.detach()), pixel, feature)
    for parameter in parameters.values():
        parameter.requires_grad_(False).grad = None
    return w.detach()


@torch.no_grad()
def _head_error(generator: Generator, w: Tensor, size: int) -> Tensor:
    """What the low-resolution head misses: down-sampled full image minus the head's image."""
    full, low = generator.synthesis(w), generator.synthesis(w, resolution=size)
    assert isinstance(full, Tensor) and isinstance(low, Tensor)
    return F.interpolate(full, size=(size, size), mode="area") - low


def generator_fingerprint(generator: Generator) -> str:
    """SHA-256 of a generator's parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(generator.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


_CACHE_FORMAT = "gan-inversion-1"
_DELTA_PREFIX = "delta."


class InversionCache:
    """Inversions on disk, one safetensors file each, found again by content.

    The key is a SHA-256 over the aligned pixels, the landmarks, the start, the configuration and
    the generator's weights. Files are written under a temporary name and renamed, so that a
    killed process leaves no half file; a file that cannot be read is recomputed, with a warning
    that names it.

    Args:
        directory: created when the first inversion is stored.

    Example:
        >>> cache = InversionCache("~/.cache/gan-inversion")          # doctest: +SKIP
        >>> inversion = cache.invert(generator, aligned)              # doctest: +SKIP
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser()

    def path(
        self,
        generator: Generator,
        aligned: Tensor,
        config: InversionConfig | None = None,
        landmarks: Tensor | None = None,
        init_w: Tensor | None = None,
    ) -> Path:
        """Return the file that holds, or would hold, the inversion of these arguments."""
        digest = hashlib.sha256(_CACHE_FORMAT.encode())
        digest.update(json.dumps(asdict(config or InversionConfig()), sort_keys=True).encode())
        digest.update(generator_fingerprint(generator).encode())
        for tensor in (aligned, landmarks, init_w):
            if tensor is None:
                digest.update(b"none")
            else:
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return self.directory / f"{digest.hexdigest()}.safetensors"

    def load(self, path: str | os.PathLike[str], generator: Generator) -> Inversion | None:
        """Read one stored inversion and render its image.

        Args:
            path: a file of this cache, see `path`.
            generator: the generator the inversion was made with.

        Returns:
            The inversion with `seconds` 0; None when there is no such file, or, with a
            `RuntimeWarning` that names it, when the file cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != _CACHE_FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
            w_plus = generator.broadcast(tensors.pop("w_plus"))
            delta = {name.removeprefix(_DELTA_PREFIX): value for name, value in tensors.items()}
            with torch.no_grad():
                image = tuned_generator(generator, delta).synthesis(w_plus.to(generator.w_avg))
            assert isinstance(image, Tensor)
            log = json.loads(metadata["log"])
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            warnings.warn(
                f"cached inversion {path} cannot be used ({error}); it is computed again",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return Inversion(w_plus, image.clamp(-1, 1).contiguous(), delta or None, log, 0.0)

    def store(self, path: str | os.PathLike[str], inversion: Inversion) -> None:
        """Write an inversion atomically: a reader sees the whole file or none."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"w_plus": inversion.w_plus.detach().cpu().contiguous()}
        for name, value in (inversion.generator_delta or {}).items():
            tensors[_DELTA_PREFIX + name] = value.detach().cpu().contiguous()
        data = save(tensors, {"format": _CACHE_FORMAT, "log": json.dumps(inversion.log)})
        with atomic_writer(path) as file:
            file.write(data)

    def invert(
        self,
        generator: Generator,
        aligned: Tensor,
        config: InversionConfig | None = None,
        landmarks: Tensor | None = None,
        init_w: Tensor | None = None,
        progress: bool = True,
        network: EfficientNetLite0 | None = None,
    ) -> Inversion:
        """Return the stored inversion of these arguments, or compute and store it.

        Arguments, result and errors are those of :func:`invert`.
        """
        path = self.path(generator, aligned, config, landmarks, init_w)
        inversion = self.load(path, generator)
        if inversion is None:
            inversion = invert(generator, aligned, config, landmarks, init_w, progress, network)
            self.store(path, inversion)
        return inversion
