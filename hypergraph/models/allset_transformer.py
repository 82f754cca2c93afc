"""AllSetTransformer: attention from vertices to hyperedges and back."""

from dataclasses import dataclass

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout
from hypergraph.nn._mlp import MLP, Norm
from hypergraph.nn.all_set_transformer import AllSetTransformerConv


@dataclass(frozen=True)
class AllSetTransformerConfig(ModelConfig):
    """Config of ``AllSetTransformer`` with the defaults of the official scripts.

    Attributes:
        hidden_channels: channels of vertices and hyperedges; the scripts use 64 to 512.
        num_layers: layers; the scripts use 1, the argument's default is 2.
        heads: attention heads; the scripts use 1 to 8.
        mlp_layers: linear maps in every rFF.
        classifier_channels: channels inside the classifier.
        classifier_layers: linear maps of the classifier; the scripts use 1.
        dropout: after every half layer.
        input_dropout: of the features.
        norm: between the classifier's linear maps.
    """

    hidden_channels: int = 64
    num_layers: int = 1
    heads: int = 1
    mlp_layers: int = 2
    classifier_channels: int = 64
    classifier_layers: int = 1
    dropout: float = 0.5
    input_dropout: float = 0.2
    norm: Norm = "ln"


class AllSetTransformer(NodeModel):
    """``dropout``, ``L x (AllSetTransformerConv -> ReLU -> dropout)``, a multi-layer perceptron.

    Chien et al., You are AllSet: A Multiset Function Framework for Hypergraph Neural Networks (ICLR
    2022, https://arxiv.org/abs/2106.13264), Eqs. 7 and 8. Self-loops are expected, see
    ``Hypergraph.add_self_loops``: without them all isolated vertices look the same.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import AllSetTransformer, AllSetTransformerConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> model = AllSetTransformer(AllSetTransformerConfig(8, 3, heads=4))
        >>> model(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: AllSetTransformerConfig
    config_class = AllSetTransformerConfig

    def __init__(self, config: AllSetTransformerConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        sizes = [config.in_channels] + [hidden] * config.num_layers
        self.convs = nn.ModuleList(
            AllSetTransformerConv(
                before,
                after,
                heads=config.heads,
                num_layers=config.mlp_layers,
                dropout=config.dropout,
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
            x = conv(x, hypergraph).relu()
            x = feature_dropout(x, self.config.dropout, self.training)
        return self.classifier(x)
