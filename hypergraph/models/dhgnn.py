"""DHGNN: dynamic hypergraphs from neighbours, clusters and structure."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hypergraph._checks import check_positive_int
from hypergraph.construct import KNN, KMeans
from hypergraph.incidence import Incidence, NeighborTable
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout
from hypergraph.nn.dhgnn_conv import DHGNNConv, sample_members
from hypergraph.nn.hgnn_conv import HGNNConv


@dataclass(frozen=True)
class DHGNNConfig(ModelConfig):
    """Config of ``DHGNN`` with the defaults of the official configuration file.

    Attributes:
        hidden_channels: channels between the layers.
        num_layers: one HGNN convolution, then num_layers - 1 DHGNN convolutions.
        k_nearest: members of the hyperedge of nearest vertices; 0 leaves it out.
        k_cluster: members drawn from a vertex' k-means cluster; 0 leaves it out.
        k_structured: members drawn from a vertex' hyperedges in the given hypergraph, the vertex
            itself among them; 0 leaves it out.
        clusters: k-means clusters, at most the number of vertices.
        dropout: before every map.
        sampling_seed: of the members drawn in evaluation.
    """

    hidden_channels: int = 256
    num_layers: int = 2
    k_nearest: int = 64
    k_cluster: int = 64
    k_structured: int = 128
    clusters: int = 400
    dropout: float = 0.5
    sampling_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {name: getattr(self, name) for name in ("k_nearest", "k_cluster", "k_structured")}
        for name, value in sizes.items():
            if value != 0:
                check_positive_int(name, value)
        if not any(sizes.values()):
            raise ValueError(f"one of {', '.join(f'`{name}`' for name in sizes)} must be positive")
        check_positive_int("clusters", self.clusters)


class DHGNN(NodeModel):
    """``HGNNConv``, then ``ReLU -> DHGNNConv`` once or more, on hyperedges built in every call.

    Every vertex of every DHGNN layer has up to three hyperedges: its nearest vertices by cosine
    distance, members drawn from its k-means cluster, both of the layer's input, and members drawn
    from its hyperedges in the given hypergraph.

    Jiang et al., Dynamic Hypergraph Neural Networks (IJCAI 2019,
    https://doi.org/10.24963/ijcai.2019/366), Section 3; ``DHGNN_v2`` of the official code. There
    clusters are computed once and kept, and clusters and structure join after 10 and 5 epochs; here
    the clusters follow the features in every call, from the first. In training the members are
    drawn with PyTorch's generator, in evaluation with ``sampling_seed``, so that a model has one
    answer per input (the official code averages five); in a batch [B, N, C] the samples draw one
    after the other, so that there the answer depends on a sample's place. The layer has parameters
    for every member, so that there must be at least ``k_nearest`` vertices.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import DHGNN, DHGNNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> config = DHGNNConfig(8, 3, k_nearest=2, k_cluster=3, k_structured=4, clusters=2)
        >>> DHGNN(config)(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: DHGNNConfig
    config_class = DHGNNConfig

    def __init__(self, config: DHGNNConfig) -> None:
        super().__init__(config)
        sizes = [k for k in (config.k_nearest, config.k_cluster, config.k_structured) if k]
        hidden = [config.hidden_channels] * (config.num_layers - 1)
        channels = [*hidden, config.out_channels]
        self.first = HGNNConv(config.in_channels, channels[0])
        self.convs = nn.ModuleList(
            DHGNNConv(before, after, sizes, dropout=config.dropout)
            for before, after in zip(channels[:-1], channels[1:], strict=True)
        )
        self.nearest = KNN(max(config.k_nearest, 1), metric="cosine")

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        if self.config.k_nearest > x.shape[-2]:
            raise ValueError(
                f"`x` must have at least k_nearest={self.config.k_nearest} vertices, "
                f"got {x.shape[-2]}; build the model with a smaller `k_nearest`"
            )
        x = self.first(feature_dropout(x, self.config.dropout, self.training), hypergraph)
        generator = None
        if not self.training:
            generator = torch.Generator(x.device).manual_seed(self.config.sampling_seed)
        for conv in self.convs:
            x = x.relu()
            x = conv(x, self._tables(x, hypergraph, generator))
        return x

    def _tables(
        self, x: Tensor, hypergraph: Incidence, generator: torch.Generator | None
    ) -> list[NeighborTable]:
        c = self.config
        tables: list[NeighborTable] = []
        if c.k_nearest:
            nearest = self.nearest(x)
            assert isinstance(nearest, NeighborTable)
            tables.append(nearest)
        if c.k_cluster:
            clusters = KMeans(min(c.clusters, x.shape[-2]))(x.detach())
            tables.append(sample_members(clusters, c.k_cluster, generator=generator))
        if c.k_structured:
            drawn = sample_members(hypergraph, c.k_structured, True, generator=generator)
            tables.append(drawn)
        return tables
