"""HGNN: Hypergraph Neural Networks."""

from dataclasses import dataclass

from torch import Tensor

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel, activation
from hypergraph.models.conv_net import run_stack, stack
from hypergraph.models.features import feature_dropout
from hypergraph.nn.hgnn_conv import HGNNConv


@dataclass(frozen=True)
class HGNNConfig(ModelConfig):
    """Config of ``HGNN`` with the defaults of the official code.

    Attributes:
        hidden_channels: channels between the layers.
        num_layers: convolutions.
        dropout: after every activation.
        input_dropout: of the features; the official code has none.
        activation: ``"relu"``; AllSet's and ED-HNN's comparisons use ``"elu"``.
    """

    hidden_channels: int = 128
    num_layers: int = 2
    dropout: float = 0.5
    input_dropout: float = 0.0
    activation: str = "relu"


class HGNN(NodeModel):
    """``conv -> ReLU -> dropout -> ... -> conv`` with the convolution of ``HGNNConv``.

    Feng et al., Hypergraph Neural Networks (AAAI 2019, https://arxiv.org/abs/1809.09401), Fig. 4.
    The official code drops features at test time as well (``F.dropout`` without ``training=``);
    here dropout ends with training.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import HGNN, HGNNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> HGNN(HGNNConfig(in_channels=8, out_channels=3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: HGNNConfig
    config_class = HGNNConfig

    def __init__(self, config: HGNNConfig) -> None:
        super().__init__(config)
        hidden = [config.hidden_channels] * (config.num_layers - 1)
        self.convs = stack(HGNNConv, config.in_channels, hidden, config.out_channels)
        self.activation = activation(config.activation)

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        c = self.config
        x = feature_dropout(x, c.input_dropout, self.training)
        return run_stack(self.convs, x, hypergraph, self.activation, c.dropout, self.training)
