"""ViHGNN: images as hypergraphs of patches."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hypergraph._checks import check_float, check_positive_int
from hypergraph.construct import FuzzyCMeans
from hypergraph.models.base import ModelConfig
from hypergraph.models.hub import HubMixin
from hypergraph.nn.vihgnn_conv import ViHGNNConv

_PATCH = 16


@dataclass(frozen=True)
class ViHGNNConfig(ModelConfig):
    """Config of ``ViHGNN`` with the sizes of the isotropic ViHGNN-Ti.

    Small: 320 channels, 16 blocks; base: 640 channels, 16 blocks.

    Attributes:
        in_channels: of the image.
        out_channels: classes.
        image_size: height and width of the images, a multiple of 16.
        hidden_channels: of every vertex; a multiple of 8.
        num_blocks: of a hypergraph convolution and a feed-forward network each.
        clusters: hyperedges of the first block; the last has twice as many, those between follow
            in a straight line.
        head_channels: inside the classifier.
        dropout: before the last map.
        path_dropout: share of the samples that skip the last block's branches while training;
            those before it grow from 0 in a straight line.
    """

    image_size: int = 224
    hidden_channels: int = 192
    num_blocks: int = 12
    clusters: int = 25
    head_channels: int = 1024
    dropout: float = 0.0
    path_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "num_blocks", "clusters"):
            check_positive_int(name, getattr(self, name))
        if self.image_size % _PATCH:
            raise ValueError(f"`image_size` must be a multiple of 16, got {self.image_size}")
        if self.hidden_channels % 8:
            raise ValueError(
                f"`hidden_channels` must be a multiple of 8, got {self.hidden_channels}"
            )


class ViHGNN(HubMixin, nn.Module):
    """An image classifier whose patches are vertices and whose clusters are hyperedges.

    A stem of five convolutions makes a vertex of every 16 x 16 pixels and adds a learned position.
    Every block finds clusters of the vertices by ``FuzzyCMeans`` and convolves::

        X = X + fc2(ViHGNNConv(fc1(X), clusters of fc1(X)))
        X = X + fc4(GELU(fc3(X)))

    Every fc is a linear map and a batch norm. The mean of the vertices is classified.

    Han et al., Vision HGNN: An Image is More than a Graph of Nodes (ICCV 2023), the isotropic
    models of the released code (``vihg_ti_224_gelu``), without its padding defect (see
    ``ViHGNNConv`` and ``FuzzyCMeans``). Its pyramid models are not here.

    Example:
        >>> import torch
        >>> from hypergraph.models import ViHGNN, ViHGNNConfig
        >>> config = ViHGNNConfig(3, 10, image_size=64, hidden_channels=16, num_blocks=2)
        >>> ViHGNN(config)(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ViHGNNConfig) -> None:
        super().__init__()
        if not isinstance(config, ViHGNNConfig):
            raise TypeError(f"`config` must be a ViHGNNConfig, got {type(config).__name__}")
        self.config = config
        channels, blocks = config.hidden_channels, config.num_blocks
        self.stem = _stem(config.in_channels, channels)
        side = config.image_size // _PATCH
        self.position = nn.Parameter(torch.zeros(1, channels, side, side))
        clusters = torch.linspace(config.clusters, 2 * config.clusters, blocks).int().tolist()
        drops = torch.linspace(0, config.path_dropout, blocks).tolist()
        self.blocks = nn.ModuleList(map(_Block, [channels] * blocks, clusters, drops))
        self.head = nn.Sequential(
            nn.Conv2d(channels, config.head_channels, 1),
            nn.BatchNorm2d(config.head_channels),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Conv2d(config.head_channels, config.out_channels, 1),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: Kaiming's normal distribution, biases and positions 0."""
        nn.init.zeros_(self.position)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (ViHGNNConv, nn.BatchNorm2d)):
                module.reset_parameters()

    def forward(self, image: Tensor) -> Tensor:
        """Score the classes.

        Args:
            image: [B, in_channels, image_size, image_size].

        Returns:
            [B, out_channels], before any softmax.

        Raises:
            ValueError, TypeError: the images have another shape or are not floating point.
        """
        image = check_float("image", image)
        c = self.config
        expected = (c.in_channels, c.image_size, c.image_size)
        if image.dim() != 4 or tuple(image.shape[1:]) != expected:
            sizes = ", ".join(map(str, expected))
            raise ValueError(f"`image` must have shape [B, {sizes}], got {list(image.shape)}")
        x = self.stem(image) + self.position
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x.mean((2, 3), keepdim=True)).flatten(1)
        return scores


class _Block(nn.Module):
    def __init__(self, channels: int, clusters: int, path_dropout: float) -> None:
        super().__init__()
        self.construction = FuzzyCMeans(clusters)
        self.fc1, self.fc2 = _linear(channels, channels), _linear(2 * channels, channels)
        self.conv = ViHGNNConv(channels, 2 * channels)
        self.fc3, self.fc4 = _linear(channels, 4 * channels), _linear(4 * channels, channels)
        self.path_dropout = path_dropout

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w]
        vertices = self.fc1(x).flatten(2).mT
        clusters = self.construction(vertices.detach())
        convolved = self.conv(vertices, clusters).mT.unflatten(2, x.shape[2:])
        x = x + self._skip(self.fc2(convolved))
        return x + self._skip(self.fc4(nn.functional.gelu(self.fc3(x))))

    def _skip(self, branch: Tensor) -> Tensor:
        """Leave the branch out for some samples, and make up for it in the others."""
        p = self.path_dropout
        if not self.training or p == 0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) >= p
        return branch * (kept.to(branch.dtype) / (1 - p))


def _linear(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after))


def _stem(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = in_channels
    for share in (8, 4, 2, 1):
        after = channels // share
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.GELU()]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels))
