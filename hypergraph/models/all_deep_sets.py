"""AllDeepSets: sums or means of sets, through multi-layer perceptrons."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout
from hypergraph.nn._mlp import MLP, Norm
from hypergraph.nn.all_deep_sets import AllDeepSetsConv


@dataclass(frozen=True)
class AllDeepSetsConfig(ModelConfig):
    """Config of ``AllDeepSets`` with the defaults of the official scripts.

    Attributes:
        hidden_channels: channels of vertices and hyperedges; the scripts use 64 to 512.
        num_layers: layers; the scripts use 1, the argument's default is 2.
        mlp_layers: linear maps of every encoder and decoder.
        reduce: ``"mean"``, the argument's default, or ``"sum"``.
        classifier_channels: channels inside the classifier.
        classifier_layers: linear maps of the classifier; the scripts use 1.
        dropout: after every half layer, and inside the MLPs.
        input_dropout: of the features.
        norm: inside the MLPs.
        input_norm: the MLPs begin with a norm.
        degree_norm: weigh every pair with 1/sqrt(d_v delta_e).
    """

    hidden_channels: int = 64
    num_layers: int = 1
    mlp_layers: int = 2
    reduce: Literal["mean", "sum"] = "mean"
    classifier_channels: int = 64
    classifier_layers: int = 1
    dropout: float = 0.5
    input_dropout: float = 0.2
    norm: Norm = "ln"
    input_norm: bool = True
    degree_norm: bool = False


class AllDeepSets(NodeModel):
    """``dropout``, ``L x (AllDeepSetsConv -> dropout)``, a multi-layer perceptron.

    Chien et al., You are AllSet: A Multiset Function Framework for Hypergraph Neural Networks (ICLR
    2022, https://arxiv.org/abs/2106.13264), section 4.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import AllDeepSets, AllDeepSetsConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> AllDeepSets(AllDeepSetsConfig(8, 3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: AllDeepSetsConfig
    config_class = AllDeepSetsConfig
    # The first thing its MLPs do is to normalise the features.
    takes_sparse_features = False

    def __init__(self, config: AllDeepSetsConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        sizes = [config.in_channels] + [hidden] * config.num_layers
        self.convs = nn.ModuleList(
            AllDeepSetsConv(
                before,
                after,
                encoder_layers=config.mlp_layers,
                decoder_layers=config.mlp_layers,
                reduce=config.reduce,
                dropout=config.dropout,
                norm=config.norm,
                input_norm=config.input_norm,
                degree_norm=config.degree_norm,
            )
            for before, after in zip(sizes[:-1], sizes[1:], strict=True)
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
        x = feature_dropout(x, self.config.input_dropout, self.training)
        for conv in self.convs:
            x = feature_dropout(conv(x, hypergraph), self.config.dropout, self.training)
        return self.classifier(x)
