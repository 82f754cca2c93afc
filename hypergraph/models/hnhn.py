"""HNHN: hypergraph networks with hyperedge neurons."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.conv_net import run_stack, stack
from hypergraph.nn.hnhn_conv import HNHNConv


@dataclass(frozen=True)
class HNHNConfig(ModelConfig):
    """Config of ``HNHN`` with the defaults of AllSet's and ED-HNN's comparisons.

    Attributes:
        hidden_channels: channels of vertices and hyperedges between the layers.
        num_layers: convolutions.
        alpha: exponent of hyperedge degrees on the way to vertices.
        beta: exponent of vertex degrees on the way to hyperedges.
        dropout: after every activation; the authors' code has 0.3.
    """

    hidden_channels: int = 64
    num_layers: int = 2
    alpha: float = -1.5
    beta: float = -0.5
    dropout: float = 0.5


class HNHN(NodeModel):
    """``conv -> ReLU -> dropout -> ... -> conv`` with the convolution of ``HNHNConv``.

    Dong, Sawin and Bengio, HNHN: Hypergraph Networks with Hyperedge Neurons (ICML 2020 workshop,
    https://arxiv.org/abs/2006.12278), in the form of AllSet's comparison. The hyperedges of every
    layer have hidden_channels channels, those of the last one too.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import HNHN, HNHNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> HNHN(HNHNConfig(8, 3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: HNHNConfig
    config_class = HNHNConfig

    def __init__(self, config: HNHNConfig) -> None:
        super().__init__(config)
        make = partial(
            HNHNConv,
            hidden_channels=config.hidden_channels,
            alpha=config.alpha,
            beta=config.beta,
        )
        hidden = [config.hidden_channels] * (config.num_layers - 1)
        self.convs = stack(make, config.in_channels, hidden, config.out_channels)
        self.activation = nn.ReLU()

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        p = self.config.dropout
        return run_stack(self.convs, x, hypergraph, self.activation, p, self.training)
