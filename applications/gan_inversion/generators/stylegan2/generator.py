"""StyleGAN2's generator (Karras et al., 2020, https://arxiv.org/abs/1912.04958), any size.

W+ rows, with ``j`` the block (block ``j`` works at ``4 * 2**j`` pixels):

====== ==========================================
row    used by
====== ==========================================
0      conv0, 4 x 4
2j-1   conv{2j-1}: up-convolution of block j >= 1
2j     conv{2j}: second convolution of block j
2j+1   rgb{j}: toRGB of block j
====== ==========================================

Hook names of :meth:`StyleGAN2Generator.synthesis` (``conv{i}`` is numbered by W+ row):

==================== =============================== =============================================
name                 tensor                          used by
==================== =============================== =============================================
const                ``[B, C, 4, 4]``                input of conv0
conv{i}.style        ``[B, I]``                      StyleSpace: scales of the layer's input
conv{i}.weight       ``[O, I, 3, 3]``                weight changes (HyperStyle, PTI): may return
                                                     ``[B, O, I, 3, 3]``, one kernel a sample
conv{i}              ``[B, O, R, R]``                feature changes, after noise and activation
                                                     (HFGI, SDIC: conv7; SAMM, DHR: others)
rgb{j}.style         ``[B, I]``                      as above
rgb{j}.weight        ``[3, I, 1, 1]``                as above
rgb{j}               ``[B, 3, R, R]``                what block j adds to the image
image{j}             ``[B, 3, R, R]``                the image up to block j
==================== =============================== =============================================

Weights are given to hooks as they are stored, before the equalised learning rate's constant, style
and demodulation, so ``lambda weight: weight * (1 + delta)`` is HyperStyle's change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...hub import Hub
from ..base import Generator, Hooks
from .mapping import EqualLinear, MappingNetwork
from .ops import fir_kernel, modulated_conv2d, upfirdn2d

_SLOPE = 0.2
_GAIN = math.sqrt(2)
W_STATISTICS_SAMPLES = 10_000
_NUMBERS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class StyleGAN2Config:
    """What a generator looks like; plain values, so that it can stand in a file's metadata.

    Attributes:
        resolution: side of the image, a power of two >= 8.
        channels: widths at 4, 8, ... ``resolution`` pixels.
        z_dim: width of the mapping's input.
        w_dim: width of a latent.
        c_dim: width of a label, 0 for an unconditional generator.
        num_mapping_layers: layers of the mapping network.
        mapping_lr_multiplier: its learning rate's factor, folded into how weights are stored.
        img_channels: 3 for RGB.
        resample_taps: low-pass filter of the up-sampling.
        conv_clamp: limit of activations and toRGB outputs; None for no limit.
        scaled_demodulation: the equalised learning rate's constant applies to convolutions with
            demodulation, too (rosinality); False as in NVlabs' code. It changes the numbers only
            where the squared kernel comes near the epsilon of 1e-8.
    """

    resolution: int
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    num_mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    img_channels: int = 3
    resample_taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    conv_clamp: float | None = None
    scaled_demodulation: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "resample_taps", tuple(self.resample_taps))
        check_pyramid(self.resolution, self.channels)

    @classmethod
    def official(
        cls, resolution: int, channel_multiplier: float = 2, **changes: Any
    ) -> StyleGAN2Config:
        """Widths of the paper: multiplier 2 is config-f, 1 is config-e (half the width from 64 px).

        Example:
            >>> StyleGAN2Config.official(256).channels
            (512, 512, 512, 512, 512, 256, 128)
        """
        return cls(resolution, official_channels(resolution, channel_multiplier), **changes)


def official_channels(resolution: int, channel_multiplier: float = 2) -> tuple[int, ...]:
    """512 up to 32 px, then ``channel_multiplier * 16384 / side``, at 4, 8, ... ``resolution``."""
    sides = [2**i for i in range(2, resolution.bit_length())]
    return tuple(
        512 if side <= 32 else min(512, int(channel_multiplier * 16384) // side) for side in sides
    )


def check_pyramid(resolution: int, channels: Sequence[int]) -> None:
    """Raise ValueError unless ``channels`` has one width for each of 4, 8, ... ``resolution``."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"`resolution` must be a power of two from 8 on, got {resolution}")
    expected = resolution.bit_length() - 2
    if len(channels) != expected or any(c < 1 for c in channels):
        raise ValueError(
            f"`channels` must be {expected} positive widths, for 4 to {resolution} px, "
            f"got {list(channels)}"
        )


class _Modulated(nn.Module):
    """A kernel, a bias, and the affine map from a latent to the kernel's style."""

    def __init__(self, in_channels: int, out_channels: int, size: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.fan_in_scale = 1 / math.sqrt(in_channels * size * size)


class StyledConv(_Modulated):
    """Modulated 3x3 convolution, noise, bias, LeakyReLU; with ``up`` at twice the side."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resolution: int,
        config: StyleGAN2Config,
        *,
        up: bool,
    ) -> None:
        super().__init__(in_channels, out_channels, 3, config.w_dim)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        self.noise: Tensor
        self.up = 2 if up else 1
        self.clamp = config.conv_clamp
        self.style_scale = self.fan_in_scale if config.scaled_demodulation else 1.0

    def forward(
        self, x: Tensor, style: Tensor, weight: Tensor, noise: Tensor | None, kernel: Tensor
    ) -> Tensor:
        """Convolve ``x [B, I, r, r]``; ``style [B, I]``, ``noise [1 or B, 1, R, R]``."""
        # sqrt(2) is folded into kernel, bias and noise: max(0.2 a, a) commutes with it.
        y = modulated_conv2d(
            x,
            weight,
            style * self.style_scale,
            up=self.up,
            kernel=kernel,
            gain=_GAIN,
            bias=(self.bias * _GAIN).to(x.dtype),
        )
        # In place: on a CPU a fresh buffer of this size costs ten times what the sum does, and
        # nothing behind needs the old values.
        if noise is not None:
            y = y.add_((noise * (self.noise_strength * _GAIN)).to(y.dtype))
        y = F.leaky_relu_(y, _SLOPE)
        return y if self.clamp is None else y.clamp(-self.clamp * _GAIN, self.clamp * _GAIN)


class ToRGB(_Modulated):
    """Modulated 1x1 convolution without demodulation, bias."""

    def __init__(self, in_channels: int, config: StyleGAN2Config) -> None:
        super().__init__(in_channels, config.img_channels, 1, config.w_dim)
        self.clamp = config.conv_clamp

    def forward(self, x: Tensor, style: Tensor, weight: Tensor) -> Tensor:
        """Return ``[B, img_channels, R, R]``."""
        y = modulated_conv2d(
            x, weight, style * self.fan_in_scale, demodulate=False, bias=self.bias.to(x.dtype)
        )
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class StyleGAN2Generator(Hub, Generator):
    """The generator; see the module's docstring for W+ rows and hook names.

    A new one has random weights as in the paper and is trainable; :meth:`from_state` gives one
    with weights, frozen and in eval mode. Behaviour does not depend on the mode.

    Example:
        >>> g = StyleGAN2Generator(StyleGAN2Config(32, (8, 8, 8, 8), z_dim=16, w_dim=16))
        >>> w = g.mapping(torch.randn(2, 16), truncation=0.7)
        >>> g.synthesis(w, noise="none").shape
        torch.Size([2, 3, 32, 32])
    """

    config_class = StyleGAN2Config

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.resolution = config.resolution
        self.resolutions = tuple(2**i for i in range(2, config.resolution.bit_length()))
        self.num_blocks = len(config.channels)
        self.num_ws = 2 * self.num_blocks
        self.w_dim = config.w_dim
        self.mapping_network = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_mapping_layers,
            config.mapping_lr_multiplier,
        )
        widths = config.channels
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        convs, rgbs = [StyledConv(widths[0], widths[0], 4, config, up=False)], []
        for j, width in enumerate(widths):
            if j:
                side = self.resolutions[j]
                convs.append(StyledConv(widths[j - 1], width, side, config, up=True))
                convs.append(StyledConv(width, width, side, config, up=False))
            rgbs.append(ToRGB(width, config))
        self.convs, self.rgbs = nn.ModuleList(convs), nn.ModuleList(rgbs)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.register_buffer("w_std", torch.ones(()))
        self.register_buffer("kernel", fir_kernel(config.resample_taps), persistent=False)
        self.kernel: Tensor
        names = ["const"]
        for kind, count in (("conv", len(convs)), ("rgb", len(rgbs))):
            for i in range(count):
                names += [f"{kind}{i}.style", f"{kind}{i}.weight", f"{kind}{i}"]
        self.hook_names = (*names, *(f"image{j}" for j in range(len(rgbs))))

    @classmethod
    def from_state(
        cls, config: StyleGAN2Config | Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> StyleGAN2Generator:
        """Build a frozen generator from a configuration and its tensors.

        ``w_avg`` and ``w_std`` may be missing: they are then measured on 10,000 mapped latents.

        Raises:
            ValueError: keys missing, unknown or of another shape than the configuration's.
        """
        settings: StyleGAN2Config = as_config(StyleGAN2Config, config)
        with torch.device("meta"):  # no time for random weights that are replaced at once
            generator = cls(settings)
        generator.kernel = fir_kernel(settings.resample_taps)
        state = dict(state)
        optional = {"w_avg": torch.zeros(settings.w_dim), "w_std": torch.ones(())}
        missing = [name for name in optional if name not in state]
        load_exactly(generator, {**optional, **state})
        generator.eval().requires_grad_(False)
        if missing:
            generator.measure_w(keep_average="w_avg" not in missing)
        return generator

    @property
    def z_dim(self) -> int:
        """Width of what :meth:`mapping` takes."""
        return self.config.z_dim

    @torch.no_grad()
    def measure_w(self, samples: int = W_STATISTICS_SAMPLES, keep_average: bool = False) -> None:
        """Set ``w_std`` and, unless told to keep it, ``w_avg`` from mapped random latents.

        Conditional generators are measured over labels drawn uniformly from the one-hot ones.
        """
        # A private generator: loading must not touch the global random state.
        rng = torch.Generator().manual_seed(0)
        config, like = self.config, self.w_avg
        # A small file may have a wide z or label: 10,000 of them at once would fill the memory.
        rows = max(1, _NUMBERS_AT_ONCE // max(config.z_dim, config.w_dim, config.c_dim))
        total = like.new_zeros(config.w_dim, dtype=torch.float64)
        squares = like.new_zeros((), dtype=torch.float64)
        for start in range(0, samples, rows):
            count = min(rows, samples - start)
            z = torch.randn(count, config.z_dim, generator=rng).to(like)
            c = None
            if config.c_dim:
                labels = torch.randint(config.c_dim, (count,), generator=rng)
                c = like.new_zeros(count, config.c_dim)
                c[torch.arange(count), labels] = 1
            w = self.mapping_network(z, c).double()
            total += w.sum(0)
            squares += w.square().sum()
        if not keep_average:
            self.w_avg.copy_(total / samples)
        average = self.w_avg.double()
        spread = squares - 2 * (average @ total) + samples * (average @ average)
        self.w_std.copy_((spread.clamp_min(0) / (samples * config.w_dim)).sqrt())

    @torch.no_grad()
    def update_w_avg(self, w: Tensor, beta: float = 0.998) -> None:
        """Move ``w_avg`` towards the mean of ``w [B, w_dim]`` while training."""
        self.w_avg.lerp_(w.mean(0).to(self.w_avg), 1 - beta)

    def mapping(
        self,
        z: Tensor,
        truncation: float = 1.0,
        *,
        c: Tensor | None = None,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map ``z [B, z_dim]`` to ``w [B, w_dim]``.

        Args:
            z: normal random numbers ``[B, z_dim]``.
            truncation: factor on the distance to ``w_avg``.
            c: label ``[B, c_dim]`` of a conditional generator.
            truncation_cutoff: truncate the first rows only, as many as this; the answer is then
                a W+ code ``[B, num_ws, w_dim]``.

        Raises:
            ValueError: wrong shapes, a label without or for a conditional network.
        """
        w = self.mapping_network(z, c)
        if truncation_cutoff is not None:
            return self.truncate(self.broadcast(w), truncation, truncation_cutoff)
        return w if truncation == 1.0 else self.w_avg.lerp(w, truncation)

    def truncate(self, w_plus: Tensor, truncation: float, cutoff: int | None = None) -> Tensor:
        """Pull the first ``cutoff`` rows (default: all) of a code towards ``w_avg``."""
        w_plus = self.broadcast(w_plus)
        cutoff = self.num_ws if cutoff is None else cutoff
        if not 0 <= cutoff <= self.num_ws:
            raise ValueError(f"`cutoff` must be from 0 to {self.num_ws}, got {cutoff}")
        return torch.cat([self.w_avg.lerp(w_plus[:, :cutoff], truncation), w_plus[:, cutoff:]], 1)

    def mix(self, first: Tensor, second: Tensor, crossover: int) -> Tensor:
        """Style mixing: rows below ``crossover`` from ``first``, the others from ``second``."""
        if not 0 <= crossover <= self.num_ws:
            raise ValueError(f"`crossover` must be from 0 to {self.num_ws}, got {crossover}")
        first, second = self.broadcast(first), self.broadcast(second)
        return torch.cat([first[:, :crossover], second[:, crossover:]], 1)

    def synthesis(
        self,
        w_plus: Tensor,
        resolution: int | None = None,
        noise: str | Sequence[Tensor | None] = "const",
        hooks: Hooks | None = None,
        return_features: bool = False,
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Render a code.

        Args:
            w_plus: ``[B, num_ws, w_dim]``, or ``[B, w_dim]`` for the same row everywhere.
            resolution: side of the answer; below the full one, the full image is averaged over
                areas (as the encoders' papers do), which costs no less time.
            noise: ``"const"`` (the stored planes), ``"none"``, ``"random"`` (PyTorch's global
                random state), or one tensor ``[1 or B, 1, R, R]`` or None per convolution.
            hooks: name -> function applied to that tensor, see the module's docstring.
            return_features: also return ``{side: features [B, C, side, side]}`` of each block.

        Returns:
            Image ``[B, img_channels, R, R]``, nominally in [-1, 1], not clamped.

        Raises:
            ValueError: wrong shape, resolution, noise or hook name.
        """
        resolution = self.resolution if resolution is None else resolution
        if resolution not in self.resolutions:
            raise ValueError(f"`resolution` must be one of {self.resolutions}, got {resolution}")
        hooks = {} if hooks is None else hooks
        if unknown := set(hooks) - set(self.hook_names):
            raise ValueError(
                f"`hooks` names no tensor: {sorted(unknown)}; names: {', '.join(self.hook_names)}"
            )
        w = self.broadcast(w_plus)
        planes = self._noise(noise, w.shape[0])

        def hooked(name: str, value: Tensor) -> Tensor:
            if name not in hooks:
                return value
            changed = hooks[name](value)
            # Another shape could fit what follows by broadcasting, and be another image.
            shape = changed.shape if isinstance(changed, Tensor) else None
            each = (w.shape[0], *value.shape) if name.endswith(".weight") else value.shape
            if shape not in (value.shape, each):
                raise ValueError(
                    f"`hooks[{name!r}]` must return a tensor {list(value.shape)}, got "
                    f"{type(changed).__name__ if shape is None else list(shape)}"
                )
            return changed

        def conv(i: int, x: Tensor) -> Tensor:
            layer: StyledConv = self.convs[i]  # type: ignore[assignment]
            style = hooked(f"conv{i}.style", layer.affine(w[:, i]))
            weight = hooked(f"conv{i}.weight", layer.weight)
            return hooked(f"conv{i}", layer(x, style, weight, planes[i], self.kernel))

        x = hooked("const", self.const.expand(w.shape[0], -1, -1, -1))
        if x.device.type == "cpu":  # everything behind follows; see benchmarks/generator
            x = x.contiguous(memory_format=torch.channels_last)
        x = conv(0, x)
        image: Tensor | None = None
        features: dict[int, Tensor] = {}
        for j in range(self.num_blocks):
            if j:
                x = conv(2 * j, conv(2 * j - 1, x))
            features[self.resolutions[j]] = x
            head: ToRGB = self.rgbs[j]  # type: ignore[assignment]
            style = hooked(f"rgb{j}.style", head.affine(w[:, 2 * j + 1]))
            rgb = hooked(f"rgb{j}", head(x, style, hooked(f"rgb{j}.weight", head.weight)))
            image = rgb if image is None else _double(image, self.kernel) + rgb
            image = hooked(f"image{j}", image)
        assert image is not None
        if resolution != self.resolution:
            image = F.avg_pool2d(image, self.resolution // resolution)
        return (image, features) if return_features else image

    def forward(self, w_plus: Tensor) -> Tensor:
        """Render at the full resolution; see :meth:`synthesis`."""
        image = self.synthesis(w_plus)
        assert isinstance(image, Tensor)
        return image

    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        """Shape of each convolution's noise plane, ``(1, 1, R, R)``."""
        return [(1, 1, *plane.shape[2:]) for plane in self._noise("const", 1)]  # type: ignore[union-attr, misc]

    def _noise(self, noise: str | Sequence[Tensor | None], batch: int) -> Sequence[Tensor | None]:
        stored: list[Tensor] = [layer.noise for layer in self.convs]  # type: ignore[misc]
        if isinstance(noise, str) or noise is None:
            if noise == "const":
                return stored
            if noise == "none":
                return [None] * len(stored)
            if noise == "random":
                return [p.new_empty(batch, *p.shape[1:]).normal_() for p in stored]
            raise ValueError(f"`noise` must be 'const', 'none', 'random' or a list, got {noise!r}")
        if len(noise) != len(stored):
            raise ValueError(f"`noise` must have {len(stored)} tensors, got {len(noise)}")
        for i, (given, plane) in enumerate(zip(noise, stored, strict=True)):
            if given is not None and (
                not isinstance(given, Tensor)
                or given.ndim != 4
                or given.shape[1:] != plane.shape[1:]
                or given.shape[0] not in (1, batch)
            ):
                raise ValueError(
                    f"`noise[{i}]` must have shape [1 or {batch}, {list(plane.shape[1:])}], "
                    f"got {list(given.shape) if isinstance(given, Tensor) else given!r:.80}"
                )
        return noise


def as_config(kind: type[Any], config: Any) -> Any:
    """Return ``config`` as a ``kind``: itself, or built from a plain mapping.

    Raises:
        ValueError: names that are no field, or values that do not fit together.
    """
    if isinstance(config, kind):
        return config
    known = {field.name for field in fields(kind)}
    if unknown := set(config) - known:
        raise ValueError(f"`config` has unknown entries {sorted(unknown)}; known: {sorted(known)}")
    try:
        return kind(**config)
    except TypeError as error:
        raise ValueError(f"`config` does not describe a {kind.__name__}: {error}") from error


def load_exactly(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put copies of ``state``'s tensors into ``module``, whose own may be without storage.

    Raises:
        ValueError: a name or a shape differs; the message lists all of them.
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unknown {name}" for name in state if name not in own]
    problems += [
        f"{name} is {list(state[name].shape)}, not {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(
            f"`state` does not fit the configuration: {'; '.join(problems[:10])}{more}"
        )
    module.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)


def _double(image: Tensor, kernel: Tensor) -> Tensor:
    size = kernel.shape[-1]
    low, high = (size + 1) // 2, (size - 2) // 2
    return upfirdn2d(image, kernel, 2, padding=(low, high, low, high), gain=4.0)
