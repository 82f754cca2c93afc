"""DH-Net: from the inverted and the edited image to an edit-aware mask.

DHFusion: Dual Dynamic Hypergraph-Driven Fusion for GAN Inversion, Equations 1 to 8. Where this
differs from the paper or from its released code is said in this folder's README.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergraph import KNN, CrossCorrelation, Fusion, HGNNConv

from ...hub import Hub
from ...perceptual import EfficientNetLite0

TAPS = (2, 4, 10)  # EfficientNet-Lite0 blocks: 24 x 64 x 64, 40 x 32 x 32, 112 x 16 x 16
TAP_CHANNELS = (24, 40, 112)


@dataclass(frozen=True)
class DHNetConfig:
    """Sizes and choices of DH-Net; the defaults are what the shipped weights use.

    Attributes:
        num_attributes: classes of the two classifiers, one a direction.
        channels: C, width of a vertex.
        side: H = W of the grid of vertices (paper's code: 16; 32 locates a mouth better).
        iterations: L of the paper.
        k: neighbours of a vertex in the short-term hypergraph.
        threshold: largest cosine distance 1 - cos of a neighbour (the paper's 0.5 is half of it).
        num_hyperedges: columns of the long-term incidence.
        fusion: ``"concat"`` puts the two kinds of hyperedges side by side; ``"sum"`` is the
            paper's weighted sum and needs ``num_hyperedges == side ** 2``.
        nonneg: how the long-term incidence is kept non-negative, see ``CrossCorrelation``.
        heads: of the self-attention.
    """

    num_attributes: int = 8
    channels: int = 128
    side: int = 32
    iterations: int = 3
    k: int = 25
    threshold: float = 1.0
    num_hyperedges: int = 128
    fusion: str = "concat"
    nonneg: str = "abs"
    heads: int = 4

    def to_dict(self) -> dict[str, object]:
        """Return the fields, for a file's metadata."""
        return asdict(self)


class DHNetOutput(NamedTuple):
    """What DH-Net returns; lists have one entry an iteration."""

    attention: list[Tensor]  # W_S before the sigmoid, [B, 1, side, side]
    attention_logits: list[Tensor]  # the EA modules' classifiers, [B, num_attributes]
    logits: Tensor  # the final classifier, [B, num_attributes]

    def mask(self) -> Tensor:
        """Edit-aware mask M^(L) [B, 1, side, side]: min-max normalised W_S of the last iteration.

        The normalisation stretches any attention over [0, 1]; :func:`fusion_mask` in
        ``method.py`` gates it by how much the edit changes the image at all.
        """
        weights = torch.sigmoid(self.attention[-1])
        low = weights.amin((2, 3), keepdim=True)
        high = weights.amax((2, 3), keepdim=True)
        return (weights - low) / (high - low + 1e-8)


def sinusoidal_positions(side: int, channels: int) -> Tensor:
    """Two-dimensional sinusoidal position code ``[side * side, channels]``."""
    if channels % 4:
        raise ValueError(f"`channels` must be a multiple of 4, got {channels}")
    frequency = torch.exp(torch.arange(channels // 4) * (-math.log(100.0) / (channels // 4)))
    angle = torch.arange(side)[:, None] * frequency  # [side, channels / 4]
    code = torch.cat([angle.sin(), angle.cos()], 1)  # [side, channels / 2]
    rows = code[:, None].expand(side, side, -1)
    columns = code[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(side * side, channels)


class SelfAttention(nn.Module):
    """Transformer block over the vertices; positions enter queries and keys only.

    Keys and values are averaged to at most 16 x 16 places, the paper's grid: every vertex still
    sees the whole image, at a quarter of the cost on a 32 x 32 grid.
    """

    positions: Tensor

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.side = side
        self.key_side = min(side, 16)
        self.norm_attention = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.PReLU(), nn.Linear(2 * channels, channels)
        )
        self.register_buffer("positions", sinusoidal_positions(side, channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, C]
        """Let every vertex look at the whole image."""
        batch, nodes, channels = x.shape
        y = self.norm_attention(x)
        placed = y + self.positions
        query, key, value = (
            t.reshape(batch, -1, self.heads, channels // self.heads).transpose(1, 2)
            for t in (
                self.query(placed),
                self.key(self._pool(placed)),
                self.value(self._pool(y)),
            )
        )
        y = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(y.transpose(1, 2).reshape(batch, nodes, channels))
        return x + self.mlp(self.norm_mlp(x))

    def _pool(self, x: Tensor) -> Tensor:  # [B, side * side, C] -> [B, key_side ** 2, C]
        if self.key_side == self.side:
            return x
        image = x.transpose(1, 2).unflatten(2, (self.side, self.side))
        return F.adaptive_avg_pool2d(image, self.key_side).flatten(2).transpose(1, 2)


class EditAwareAttention(nn.Module):
    """The EA module: spatial attention W_S, a classifier, and Equation 7."""

    def __init__(self, config: DHNetConfig) -> None:
        super().__init__()
        self.side = config.side
        self.attention = SelfAttention(config.channels, config.heads, config.side)
        self.mask_head = nn.Sequential(
            nn.Conv2d(config.channels, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.PReLU(),
            nn.Conv2d(48, 1, 1),
        )
        self.classifier = nn.Linear(config.channels, config.num_attributes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return X^(l), W_S before its sigmoid, and the classifier's logits."""
        own = self.attention(x)  # F_self, [B, N, C]
        image = own.transpose(1, 2).unflatten(2, (self.side, self.side))
        weights = self.mask_head(image)  # [B, 1, side, side]
        gate = torch.sigmoid(weights).flatten(2).transpose(1, 2)  # [B, N, 1]
        return x + gate * x, weights, self.classifier(own.mean(1))


class DHNet(Hub, nn.Module):
    """Dual dynamic hypergraph network.

    The "plain trainable encoder" of Equation 1 is a trainable adapter on three frozen stages of
    EfficientNet-Lite0: on a CPU a trunk trained from nothing would take days. The frozen trunk
    is not part of the state dict; it is read from its package.

    Example:
        >>> net = DHNet(DHNetConfig(num_attributes=2, channels=16, side=8, num_hyperedges=8, k=5))
        >>> taps = [torch.randn(1, 24, 16, 16), torch.randn(1, 40, 8, 8), torch.randn(1, 112, 4, 4)]
        >>> net(taps, [t + 1 for t in taps]).mask().shape
        torch.Size([1, 1, 8, 8])
    """

    config_class = DHNetConfig

    def __init__(self, config: DHNetConfig) -> None:
        super().__init__()
        self.config = config
        c, vertices = config.channels, config.side**2
        if config.fusion == "sum" and config.num_hyperedges != vertices:
            raise ValueError(
                f"`fusion='sum'` needs `num_hyperedges` == side ** 2 == {vertices}, "
                f"got {config.num_hyperedges}"
            )
        self.adapter = nn.Sequential(
            nn.Conv2d(sum(TAP_CHANNELS), c, 1, bias=False),
            nn.BatchNorm2d(c),
            nn.PReLU(),
            nn.Conv2d(c, c, 3, padding=1, bias=False),
            nn.BatchNorm2d(c),
        )
        self.align = nn.Sequential(nn.Conv2d(c, c, 1), nn.PReLU(), nn.Conv2d(c, c, 1))
        tied = config.num_hyperedges == vertices
        # Dense blocks of N x M are cheap at this size and faster than streaming; same numbers.
        self.hypergraphs = Fusion(
            [
                KNN(config.k, metric="cosine", threshold=config.threshold, weighting="rbf"),
                CrossCorrelation(
                    c,
                    num_edges=None if tied else config.num_hyperedges,
                    nonneg=config.nonneg,  # type: ignore[arg-type]
                    omega="tied" if tied else "linear",
                    streamed=False,
                ),
            ],
            mode=config.fusion,  # type: ignore[arg-type]
        )
        self.convolution = HGNNConv(c, c)  # Theta, shared by the iterations
        self.edit_aware = EditAwareAttention(config)
        self.classifier = nn.Linear(c, config.num_attributes)

    @staticmethod
    def taps(trunk: EfficientNetLite0, image: Tensor) -> list[Tensor]:
        """Features of the frozen trunk for images ``[B, 3, R, R]``, resized to 256 px."""
        if image.shape[-1] != 256:
            image = F.interpolate(image, size=(256, 256), mode="area")
        return trunk.features(image, taps=TAPS)

    def encode(self, taps: list[Tensor]) -> Tensor:
        """E_trainable of Equation 1: ``[B, C, side, side]``."""
        size = (self.config.side, self.config.side)
        resized = [
            F.adaptive_avg_pool2d(t, size)
            if t.shape[-1] >= size[0]
            else F.interpolate(t, size=size, mode="bilinear", align_corners=False)
            for t in taps
        ]
        return self.adapter(torch.cat(resized, 1))

    def forward(self, inverted: list[Tensor], edited: list[Tensor]) -> DHNetOutput:
        """Compare two images by their taps (see :meth:`taps`)."""
        both = self.encode([torch.cat(pair) for pair in zip(inverted, edited, strict=True)])
        batch = inverted[0].shape[0]
        before, after = both[:batch], both[batch:]
        delta = self.align(after - before)  # Equation 1 with the released code's sign
        x = delta.flatten(2).transpose(1, 2)  # [B, N, C]: vertices are positions
        attention, attention_logits = [], []
        for _ in range(self.config.iterations):
            hyperedges = self.hypergraphs(x)  # Equations 4 and 5
            x = F.elu(x + self.convolution(x, hyperedges))  # Equation 6, with a residual
            x, weights, logits = self.edit_aware(x)  # Equation 7
            attention.append(weights)
            attention_logits.append(logits)
        return DHNetOutput(attention, attention_logits, self.classifier(x.mean(1)))
