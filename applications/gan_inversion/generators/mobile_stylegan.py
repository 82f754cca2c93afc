"""MobileStyleGAN-FFHQ (Belousov, 2021, https://arxiv.org/abs/2104.04767) in plain PyTorch.

The weights are read from the ``random-face`` package's OpenVINO files. The network was distilled
from StyleGAN2-FFHQ and keeps its mapping network, so its W space is StyleGAN2-FFHQ's.

W+ rows, with ``i`` the block (0 to 6, block ``i`` works at ``8 * 2**i`` pixels):

====== ======================================== ==========================
row    used by                                  StyleGAN2-1024 row
====== ======================================== ==========================
0      first convolution, 4 x 4                 0
2i+1   up-sampling and first conv of block i    2i+1
2i+2   second conv of block i                   2i+2
2i+3   head of block i (image of 16 * 2**i)     2i+3 (its toRGB)
====== ======================================== ==========================

There is no demodulation that depends on the style: it is a constant, folded into the kernels, so
activations scale with the style and very large moves leave the face manifold.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..assets import asset_path
from ..errors import CheckpointError
from .base import Generator, Hooks
from .openvino_ir import Graph, Node, read_ir

_SLOPE = 0.2
_NUM_BLOCKS = 7
W_STATISTICS_SAMPLES = 10_000


def haar_synthesis(x: Tensor) -> Tensor:
    """Inverse Haar wavelet transform: ``[B, 4C, H, W] -> [B, C, 2H, 2W]``.

    The first C channels are the low band, the other 3C are laid out as
    ``channel * 3 + (vertical, horizontal, diagonal)`` detail.
    """
    batch, channels, height, width = x.shape
    channels //= 4
    # Channels last throughout: every copy below moves whole vectors of channels.
    y = x.permute(0, 2, 3, 1)
    low = y[..., :channels]
    detail = y[..., channels:].reshape(batch, height, width, channels, 3)
    vertical, horizontal, diagonal = detail.unbind(-1)
    top, bottom = low + vertical, low - vertical
    plus, minus = horizontal + diagonal, horizontal - diagonal
    rows = [
        torch.stack([top + plus, top - plus], 3),
        torch.stack([bottom + minus, bottom - minus], 3),
    ]
    image = torch.stack(rows, 2) * 0.5  # [B, H, 2, W, 2, C]
    return image.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def pointwise(x: Tensor, kernel: Tensor) -> Tensor:
    """1x1 convolution as a matrix product: on one thread PyTorch's own takes a slow path."""
    return F.linear(x.permute(0, 2, 3, 1), kernel.flatten(1)).permute(0, 3, 1, 2)


def haar_analysis(y: Tensor) -> Tensor:
    """Haar wavelet transform, the inverse of :func:`haar_synthesis`."""
    a, b = y[..., 0::2, 0::2], y[..., 0::2, 1::2]
    c, d = y[..., 1::2, 0::2], y[..., 1::2, 1::2]
    low = (a + b + c + d) * 0.5
    detail = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 2) * 0.5
    return torch.cat([low, detail.flatten(1, 2)], 1)


class Affine(nn.Module):
    """Style of a layer: ``w [B, 512] -> scale [B, C, 1, 1]``."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        # The equalised learning rate's scale is folded in once.
        self.weight = nn.Parameter(weight * scale, requires_grad=False)
        self.bias = nn.Parameter(bias.reshape(-1) * scale, requires_grad=False)

    def forward(self, w: Tensor) -> Tensor:
        """Return the scale ``[B, C, 1, 1]``."""
        return F.linear(w, self.weight, self.bias)[:, :, None, None]


class StyledConv(nn.Module):
    """Modulated convolution: scale the input, (depthwise 3x3,) kernel, noise, bias, LeakyReLU."""

    def __init__(
        self,
        affine: Affine,
        depthwise: Tensor | None,
        kernel: Tensor,
        noise: Tensor,
        bias: Tensor,
    ) -> None:
        super().__init__()
        self.affine = affine
        self.depthwise = None if depthwise is None else nn.Parameter(depthwise, False)
        self.kernel = nn.Parameter(kernel, False)
        self.noise = nn.Parameter(noise, False)
        self.bias = nn.Parameter(bias, False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Convolve ``x [B, C, H, W]`` in the style of ``w [B, 512]``."""
        x = x * self.affine(w)
        if self.depthwise is None:
            x = F.conv2d(x, self.kernel, padding=1)
        else:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
            x = pointwise(x, self.kernel)
        if noise is not None:
            x = x + noise
        return F.leaky_relu(x + self.bias, _SLOPE)


class HaarHead(nn.Module):
    """Image from features: modulated 1x1 convolution to 12 Haar channels, inverse transform."""

    def __init__(self, affine: Affine, kernel: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.affine = affine
        self.kernel = nn.Parameter(kernel, False)
        self.bias = nn.Parameter(bias, False)

    def coefficients(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the 12 Haar channels at the resolution of ``x``."""
        return pointwise(x * self.affine(w), self.kernel) + self.bias

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the image ``[B, 3, 2H, 2W]``."""
        return haar_synthesis(self.coefficients(x, w))


class FittedHead(nn.Module):
    """Low-resolution head that this project fitted: styled depthwise 3x3, 1x1, then Haar.

    The original heads were pruned when the network was exported. See
    :mod:`gan_inversion.training.fit_heads`.
    """

    hidden = 64

    def __init__(self, channels: int, w_dim: int = 512) -> None:
        super().__init__()
        self.affine = nn.Linear(w_dim, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.hidden_conv = nn.Conv2d(channels, self.hidden, 1)
        self.linear = nn.Conv2d(channels, 12, 1)
        self.out = nn.Conv2d(self.hidden, 12, 1, bias=False)
        nn.init.zeros_(self.affine.weight)
        nn.init.ones_(self.affine.bias)
        nn.init.zeros_(self.out.weight)

    def coefficients(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the 12 Haar channels at the resolution of ``x``."""
        x = x * self.affine(w)[:, :, None, None]
        nonlinear = F.leaky_relu(self.hidden_conv(self.depthwise(x)), _SLOPE)
        return self.linear(x) + self.out(nonlinear)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the image ``[B, 3, 2H, 2W]``."""
        return haar_synthesis(self.coefficients(x, w))


class MobileStyleGAN(Generator):
    """The generator, frozen, in eval mode; see the module's docstring for its layers.

    Hook names of :meth:`synthesis`: ``"conv0"`` to ``"conv14"`` (output of each styled
    convolution, numbered by W+ row) and ``"up0"`` to ``"up6"`` (output of each up-sampling).

    Example:
        >>> g = load_default_generator()                              # doctest: +SKIP
        >>> w = g.mapping(torch.randn(1, 512), truncation=0.7)        # doctest: +SKIP
        >>> g.synthesis(w, resolution=256).shape                      # doctest: +SKIP
        torch.Size([1, 3, 256, 256])
    """

    num_ws = 16
    w_dim = 512
    resolution = 1024
    resolutions = (256, 512, 1024)

    def __init__(self, mapping: Graph, synthesis: Graph) -> None:
        super().__init__()
        weights, biases = _mapping_parameters(mapping)
        self.mapping_weights = nn.ParameterList([nn.Parameter(t, False) for t in weights])
        self.mapping_biases = nn.ParameterList([nn.Parameter(t, False) for t in biases])
        self.const = nn.Parameter(_tensor(synthesis.constant("m.input.input")), False)
        convs = [_styled_conv(synthesis, "m.conv1", depthwise=False)]
        ups = []
        for i in range(_NUM_BLOCKS):
            ups.append(_affine(synthesis, f"m.layers.{i}.up"))
            convs.append(_styled_conv(synthesis, f"m.layers.{i}.conv1", depthwise=True))
            convs.append(_styled_conv(synthesis, f"m.layers.{i}.conv2", depthwise=True))
        self.convs = nn.ModuleList(convs)
        self.ups = nn.ModuleList(ups)
        last = f"m.layers.{_NUM_BLOCKS - 1}.to_img"
        channels = synthesis.constant(f"{last}.conv.modulation.weight").shape[0]
        self.head = HaarHead(
            _affine(synthesis, f"{last}.conv", channels**-0.5),
            _tensor(synthesis.constant(f"{last}.conv.weight")),
            _tensor(synthesis.constant(f"{last}.bias")),
        )
        self.low_heads = nn.ModuleDict(
            {"256": FittedHead(self._channels(4)), "512": FittedHead(self._channels(5))}
        )
        self._has_low_heads = False
        self.register_buffer("w_avg", torch.zeros(self.w_dim))
        self.register_buffer("w_std", torch.ones(()))
        self.eval().requires_grad_(False)
        self._measure_w()

    def _channels(self, block: int) -> int:
        return int(self.convs[2 * block + 2].kernel.shape[0])  # type: ignore[union-attr, index]

    @torch.no_grad()
    def _measure_w(self) -> None:
        # A private generator: importing or loading must not touch the global random state.
        g = torch.Generator().manual_seed(0)
        w = self.mapping(torch.randn(W_STATISTICS_SAMPLES, self.w_dim, generator=g))
        self.w_avg = w.mean(0)
        self.w_std = (w - self.w_avg).square().mean().sqrt()

    def load_low_resolution_heads(self, path: Path) -> None:
        """Load the 256 and 512 px heads from a safetensors file.

        Raises:
            CheckpointError: the file's keys or shapes are not those of the two heads.
        """
        from safetensors.torch import load_file

        state = {k: v.float() for k, v in load_file(path).items()}
        try:
            self.low_heads.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: not low-resolution heads: {error}") from error
        self._has_low_heads = True

    def mapping(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Map ``z [B, 512]`` to ``w [B, 512]``."""
        if z.ndim != 2 or z.shape[1] != self.w_dim:
            raise ValueError(f"`z` must have shape [B, {self.w_dim}], got {list(z.shape)}")
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.mapping_weights, self.mapping_biases, strict=True):
            x = F.leaky_relu(F.linear(x, weight, bias), _SLOPE) * 2**0.5
        return x if truncation == 1.0 else self.w_avg + truncation * (x - self.w_avg)

    def _noise(self, noise: str | Sequence[Tensor], index: int, batch: int) -> Tensor | None:
        baked = self.convs[index].noise
        assert isinstance(baked, Tensor)
        if isinstance(noise, str):
            if noise == "const":
                return baked
            if noise == "none":
                return None
            if noise == "random":
                # The strength is inseparable from the baked sample; a fresh normal sample of
                # the same standard deviation is equivalent.
                return torch.randn(batch, *baked.shape[1:], device=baked.device) * baked.std()
            raise ValueError(f"`noise` must be 'const', 'none', 'random' or a list, got {noise!r}")
        if len(noise) != len(self.convs):
            raise ValueError(f"`noise` must have {len(self.convs)} tensors, got {len(noise)}")
        return noise[index]

    def synthesis(
        self,
        w_plus: Tensor,
        resolution: int | None = None,
        noise: str | Sequence[Tensor] = "const",
        hooks: Hooks | None = None,
        return_features: bool = False,
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Render a code.

        Args:
            w_plus: ``[B, 16, 512]``, or ``[B, 512]`` for the same row everywhere.
            resolution: 256, 512 or 1024 (default). 256 and 512 come from heads fitted by this
                project and are close to, not equal to, the down-sampled 1024 image.
            noise: ``"const"`` (baked), ``"none"``, ``"random"``, or one tensor a convolution.
            hooks: layer name -> function applied to that layer's output.
            return_features: also return ``{side: features [B, C, side, side]}`` of each block.

        Returns:
            Image ``[B, 3, R, R]``, nominally in [-1, 1], not clamped.

        Raises:
            ValueError: wrong shape, resolution, noise or hook name.
            CheckpointError: a low resolution was asked for before its heads were loaded.
        """
        resolution = self.resolution if resolution is None else resolution
        if resolution not in self.resolutions:
            raise ValueError(f"`resolution` must be one of {self.resolutions}, got {resolution}")
        if resolution != self.resolution and not self._has_low_heads:
            raise CheckpointError(
                f"the {resolution} px head is not loaded; use load_default_generator(), or "
                "MobileStyleGAN.load_low_resolution_heads(path)"
            )
        hooks = hooks or {}
        names = {f"conv{i}" for i in range(len(self.convs))} | {
            f"up{i}" for i in range(_NUM_BLOCKS)
        }
        if unknown := set(hooks) - names:
            raise ValueError(f"`hooks` names no layer: {sorted(unknown)}; layers: {sorted(names)}")

        def run_hook(name: str, x: Tensor) -> Tensor:
            return hooks[name](x) if name in hooks else x

        w = self.broadcast(w_plus)
        batch = w.shape[0]
        x = self.const.expand(batch, -1, -1, -1)
        x = run_hook("conv0", self.convs[0](x, w[:, 0], self._noise(noise, 0, batch)))
        features = {x.shape[-1]: x}
        image = None
        for i in range(_NUM_BLOCKS):
            first, second = 2 * i + 1, 2 * i + 2
            x = run_hook(f"up{i}", haar_synthesis(x * self.ups[i](w[:, first])))
            x = self.convs[first](x, w[:, first], self._noise(noise, first, batch))
            x = run_hook(f"conv{first}", x)
            x = self.convs[second](x, w[:, second], self._noise(noise, second, batch))
            x = run_hook(f"conv{second}", x)
            features[x.shape[-1]] = x
            if 2 * x.shape[-1] == resolution:
                head = (
                    self.head if resolution == self.resolution else self.low_heads[str(resolution)]
                )
                image = head(x, w[:, second + 1])
                break
        assert image is not None
        return (image, features) if return_features else image

    def forward(self, w_plus: Tensor) -> Tensor:
        """Render at the full resolution; see :meth:`synthesis`."""
        image = self.synthesis(w_plus)
        assert isinstance(image, Tensor)
        return image


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float32))


def _affine(graph: Graph, prefix: str, scale: float = 1.0) -> Affine:
    return Affine(
        _tensor(graph.constant(f"{prefix}.modulation.weight")),
        _tensor(graph.constant(f"{prefix}.modulation.bias")),
        scale,
    )


def _single(nodes: list[Node], what: str, graph: Graph) -> Node:
    if len(nodes) != 1:
        raise CheckpointError(f"{graph.path}: expected one {what}, found {len(nodes)}")
    return nodes[0]


def _styled_conv(graph: Graph, prefix: str, *, depthwise: bool) -> StyledConv:
    # Kernels and noise have no stable name in the file: walk back from the named bias,
    # out = (conv(x, kernel) + noise) + bias.
    bias = graph.by_name[f"{prefix}.bias"]
    add_bias = _single(graph.consumers[bias.id], f"consumer of {bias.name}", graph)
    inputs = [graph.nodes[i] for i in add_bias.inputs.values()]
    add_noise = _single([n for n in inputs if n.type == "Add"], f"noise of {prefix}", graph)
    inputs = [graph.nodes[i] for i in add_noise.inputs.values()]
    conv = _single([n for n in inputs if n.type != "Const"], f"kernel of {prefix}", graph)
    affine_weight = graph.constant(f"{prefix}.conv.modulation.weight")
    scale = (9 * affine_weight.shape[0]) ** -0.5
    assert bias.value is not None
    return StyledConv(
        _affine(graph, f"{prefix}.conv", scale),
        _tensor(graph.constant(f"{prefix}.conv.weight_dw")[:, 0]) if depthwise else None,
        _tensor(graph.constant_input(conv)),
        _tensor(graph.constant_input(add_noise)),
        _tensor(bias.value),
    )


def _mapping_parameters(graph: Graph) -> tuple[list[Tensor], list[Tensor]]:
    weights = [_tensor(graph.constant_input(n)) for n in graph.of_type("MatMul")]
    biases = [_tensor(graph.input(n, 0).value) for n in graph.of_type("Reshape")]  # type: ignore[arg-type]
    if len(weights) != 8 or len(biases) != 8:
        raise CheckpointError(
            f"{graph.path}: expected 8 mapping layers, got {len(weights)} weights and "
            f"{len(biases)} biases"
        )
    return weights, biases


HEADS_FILE = Path(__file__).parent.parent / "pretrained" / "mobile_stylegan_heads.safetensors"


@functools.lru_cache(maxsize=1)
def load_default_generator() -> MobileStyleGAN:
    """Load MobileStyleGAN-FFHQ from the installed ``random-face`` package.

    The object is cached and shared: it is frozen, do not change its weights in place.

    Raises:
        AssetError: the package is missing or holds other files.
    """
    generator = MobileStyleGAN(
        read_ir(asset_path("mapping.xml"), asset_path("mapping.bin")),
        read_ir(asset_path("synthesis.xml"), asset_path("synthesis.bin")),
    )
    if HEADS_FILE.is_file():
        generator.load_low_resolution_heads(HEADS_FILE)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
