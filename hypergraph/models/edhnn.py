"""ED-HNN: equivariant hypergraph diffusion."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout
from hypergraph.nn._mlp import MLP, Norm
from hypergraph.nn.ed_hnn import EDHNNConv


@dataclass(frozen=True)
class EDHNNConfig(ModelConfig):
    """Config of ``EDHNN`` with the defaults of the official command.

    Attributes:
        hidden_channels: channels of vertices and hyperedges; the README uses 128 to 512.
        num_layers: applications of the one shared convolution.
        mlp1_layers: linear maps of W1 (0: identity); the README has 0 for Cora and Citeseer.
        mlp2_layers: linear maps of W2 (0: the hyperedge's message as it is).
        mlp3_layers: linear maps of W (0: identity).
        alpha: share of the first features in every layer; the README has 0 with one layer.
        reduce: ``"mean"`` or ``"sum"``.
        classifier_channels: channels inside the classifier.
        classifier_layers: linear maps of the classifier.
        dropout: of the features, before every convolution and the classifier, and inside the MLPs.
        norm: inside the MLPs.
    """

    hidden_channels: int = 64
    num_layers: int = 2
    mlp1_layers: int = 2
    mlp2_layers: int = 2
    mlp3_layers: int = 2
    alpha: float = 0.5
    reduce: Literal["mean", "sum"] = "mean"
    classifier_channels: int = 64
    classifier_layers: int = 2
    dropout: float = 0.5
    norm: Norm = "ln"


class EDHNN(NodeModel):
    """``dropout -> linear -> ReLU``, ``L x (dropout -> EDHNNConv -> ReLU)``, dropout, classifier.

    Wang et al., Equivariant Hypergraph Diffusion Neural Operators (ICLR 2023,
    https://arxiv.org/abs/2207.06680), Algorithm 1; ``EquivSetGNN`` of the official code, whose one
    convolution is shared by all layers. Its argument ``input_dropout`` is never used there, and has
    no counterpart here.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import EDHNN, EDHNNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> EDHNN(EDHNNConfig(8, 3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: EDHNNConfig
    config_class = EDHNNConfig

    def __init__(self, config: EDHNNConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        self.lin_in = nn.Linear(config.in_channels, hidden)
        self.conv = EDHNNConv(
            hidden,
            hidden,
            mlp1_layers=config.mlp1_layers,
            mlp2_layers=config.mlp2_layers,
            mlp3_layers=config.mlp3_layers,
            alpha=config.alpha,
            reduce=config.reduce,
            dropout=config.dropout,
            norm=config.norm,
        )
        self.classifier = MLP(
            hidden,
            config.classifier_channels,
            config.out_channels,
            config.classifier_layers,
            config.dropout,
            config.norm,
        )

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        p = self.config.dropout
        x = first = self.lin_in(feature_dropout(x, p, self.training)).relu()
        for _ in range(self.config.num_layers):
            x = self.conv(feature_dropout(x, p, self.training), first, hypergraph).relu()
        return self.classifier(feature_dropout(x, p, self.training))
