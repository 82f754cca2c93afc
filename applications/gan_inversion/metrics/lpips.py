"""LPIPS v0.1: learned perceptual distance, from a local trunk and packaged linear heads.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(https://arxiv.org/abs/1801.03924). The heads (6 to 11 kB, BSD-2) come from an installed package:
torchmetrics, which the extra ``metrics`` brings, ships the same bytes as the package ``lpips``.
The trunk is torchvision's ImageNet AlexNet, VGG-16 or SqueezeNet 1.1, which no package carries:
the user names the file. Neither package is imported: ``lpips`` would bring torchvision along.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..assets import asset_path, assets_installed
from ..errors import AssetError, CheckpointError
from ._inputs import image_pair
from ._weights import fill, read_state
from .score import Score, mean_score

Trunk = Literal["alex", "vgg", "squeeze"]

# torchvision names its files after the first eight digits of their SHA-256; the second ones are
# earlier files of the same network.
_OFFICIAL = {
    "alex": ("7be5be79", "4df8aa71"),
    "vgg": ("397923af",),
    "squeeze": ("b8a52dc0", "f364aa15"),
}
_TAPS = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}
_CHANNELS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}
# ImageNet's mean and deviation, in the authors' units for images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class _Fire(nn.Module):
    def __init__(self, c_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for repeats, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _squeezenet() -> list[nn.Module]:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        nn.Conv2d(3, 64, 3, 2),
        nn.ReLU(),
        pool(),
        _Fire(64, 16, 64),
        _Fire(128, 16, 64),
        pool(),
        _Fire(128, 32, 128),
        _Fire(256, 32, 128),
        pool(),
        _Fire(256, 48, 192),
        _Fire(384, 48, 192),
        _Fire(384, 64, 256),
        _Fire(512, 64, 256),
    ]


_BUILDERS = {"alex": _alexnet, "vgg": _vgg16, "squeeze": _squeezenet}


class LPIPS(nn.Module):
    """``sum_l mean_hw w_l . (u_l(a) - u_l(b))^2``, with u_l unit feature vectors of layer l.

    Parameters take no gradients; gradients flow to both images. Use :func:`load_lpips` to fill
    it. Where features are all 0 the gradient is 0 (the published code gives NaN there).

    Args:
        trunk: ``"alex"`` (what papers report), ``"vgg"`` (what PTI optimises) or ``"squeeze"``.

    Attributes:
        protocol: what a score of this network is called.

    Example:
        >>> net = LPIPS("alex")
        >>> net(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)).tolist()
        [0.0, 0.0]
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk = "alex") -> None:
        super().__init__()
        if trunk not in get_args(Trunk):
            raise ValueError(f"`trunk` must be one of {get_args(Trunk)}, got {trunk!r}")
        self.trunk: Trunk = trunk
        self.features = nn.Sequential(*_BUILDERS[trunk]())
        self.heads = nn.ParameterList(torch.zeros(c) for c in _CHANNELS[trunk])
        self.register_buffer("shift", torch.tensor(_SHIFT)[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[None, :, None, None], persistent=False)
        self.protocol = f"LPIPS formula, {trunk}, weights not loaded"
        self.requires_grad_(False)
        self.eval()

    def layers(
        self,
        a: Tensor,  # [B, 3, H, W] in [-1, 1]
        b: Tensor,
    ) -> list[Tensor]:
        """Return the layers' shares, ``[B]`` each; the distance is their sum.

        Raises:
            ValueError: not RGB images of one shape, or too small for the trunk (under 64 px).
        """
        for name, x in (("a", a), ("b", b)):
            if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[-2:]) < 64:
                raise ValueError(
                    f"`{name}` must be RGB images [B, 3, H, W] with H, W >= 64, got shape "
                    f"{list(x.shape)}; resize them"
                )
        if a.shape != b.shape:
            raise ValueError(
                f"`a` and `b` must have the same shape, got {list(a.shape)} and {list(b.shape)}"
            )
        shares = []
        both = (torch.cat([a, b]) - self.shift) / self.scale
        taps = iter(self.heads)
        for index, layer in enumerate(self.features):
            both = layer(both)
            if index not in _TAPS[self.trunk]:
                continue
            # vector_norm has the gradient 0 at 0; the square root of a sum has none.
            norm = torch.linalg.vector_norm(both, dim=1, keepdim=True)
            u, v = (both / (norm + 1e-10)).chunk(2)
            shares.append(torch.einsum("bchw,c->bhw", (u - v).square(), next(taps)).mean((1, 2)))
        return shares

    def forward(
        self,
        a: Tensor,  # [B, 3, H, W] in [-1, 1]
        b: Tensor,
    ) -> Tensor:
        """Distance of each pair, ``[B]``, from 0; differentiable in both images.

        Images may overshoot [-1, 1], as a generator's do while something is optimised.
        """
        return torch.stack(self.layers(a, b)).sum(0)

    def load_trunk(self, state: Mapping[str, Tensor]) -> None:
        """Fill the trunk from torchvision's names (``features.0.weight``) or lpips' own.

        Raises:
            CheckpointError: not this trunk.
        """
        own = {}
        for name, value in state.items():
            # lpips cuts the same list of layers into slices and keeps the layers' numbers.
            match = re.fullmatch(r"(?:features|net\.slice\d+)\.(\d+\..+)", name)
            if match:
                own[match.group(1)] = value
        fill(self.features, own, f"torchvision's {self.trunk} trunk")

    def load_heads(self, state: Mapping[str, Tensor]) -> None:
        """Fill the linear heads from ``lin0.model.1.weight`` ... of the LPIPS v0.1 files.

        Raises:
            CheckpointError: not the heads of this trunk.
        """
        for i, head in enumerate(self.heads):
            name = f"lin{i}.model.1.weight"
            value = state.get(name)
            if value is None or value.numel() != head.numel():
                got = "nothing" if value is None else list(value.shape)
                raise CheckpointError(
                    f"`{name}` must have {head.numel()} values for the trunk {self.trunk!r}, "
                    f"got {got}; these are other heads"
                )
            with torch.no_grad():
                head.copy_(value.reshape(-1))


def load_lpips(
    trunk_file: str | os.PathLike[str],
    trunk: Trunk = "alex",
) -> LPIPS:
    """Build LPIPS v0.1 from a trunk's file and the heads of an installed package.

    Args:
        trunk_file: torchvision's ImageNet weights, for example ``alexnet-owt-7be5be79.pth``,
            ``vgg16-397923af.pth`` or ``squeezenet1_1-b8a52dc0.pth``.
        trunk: which of them it is.

    Returns:
        The network on the CPU in float32. Its ``protocol`` says ``LPIPS v0.1`` only if the file
        is one of torchvision's (by its SHA-256), and names the hash otherwise.

    Raises:
        AssetError: neither torchmetrics nor lpips is installed, or their file is another one.
        CheckpointError: the trunk's file cannot be used.

    Example:
        >>> net = load_lpips("alexnet-owt-7be5be79.pth")  # doctest: +SKIP
        >>> net(photos, results).mean()  # doctest: +SKIP
    """
    net = LPIPS(trunk)
    heads, _ = read_state(_heads_file(trunk), "LPIPS' linear heads")
    net.load_heads(heads)
    state, digest = read_state(trunk_file, f"torchvision's {trunk} trunk")
    net.load_trunk(state)
    if digest[:8] in _OFFICIAL[trunk]:
        net.protocol = f"LPIPS v0.1, {trunk}"
    else:
        net.protocol = (
            f"LPIPS formula with v0.1 heads and a trunk of one's own, {trunk}, trunk sha256 "
            f"{digest[:16]}: not comparable with published LPIPS"
        )
    return net


def _heads_file(trunk: Trunk) -> str:
    names = [f"lpips_{trunk}", f"lpips_{trunk}_of_lpips"]
    for name in names:
        if assets_installed(name):
            return str(asset_path(name))
    try:
        return str(asset_path(names[0]))
    except AssetError as error:
        raise AssetError(
            f"{error} (the package lpips has the same file: `pip install --no-deps "
            "lpips==0.1.4`; without --no-deps it replaces torch)"
        ) from error


def lpips(
    a: Tensor,  # [B, 3, H, W]
    b: Tensor,
    network: LPIPS,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
) -> Score:
    """Mean LPIPS of pairs of images.

    Args:
        a: ``[B, 3, H, W]``, uint8 or floating point in ``value_range``.
        b: like ``a``.
        network: what :func:`load_lpips` returns.
        value_range: of floating-point images.
        seed: of the bootstrap.

    Raises:
        TypeError: not images, see the message.
        ValueError: shapes or values that cannot be compared.

    Example:
        >>> x = torch.zeros(1, 3, 64, 64)
        >>> lpips(x, x, LPIPS("squeeze")).value
        0.0
    """
    x, y = image_pair(a, b, value_range)
    like = network.shift
    with torch.no_grad():
        each = network((2 * x - 1).to(like), (2 * y - 1).to(like))
    return mean_score(each, network.protocol, seed=seed)
