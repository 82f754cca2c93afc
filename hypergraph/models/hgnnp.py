"""HGNN+: means from vertices to hyperedges and back."""

from dataclasses import dataclass

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.conv_net import run_stack, stack
from hypergraph.nn.hgnnp_conv import HGNNPConv


@dataclass(frozen=True)
class HGNNPConfig(ModelConfig):
    """Config of ``HGNNP`` with the defaults of DHG.

    Attributes:
        hidden_channels: channels between the layers; DHG's examples have 16.
        num_layers: convolutions; DHG has 2.
        dropout: after every activation.
    """

    hidden_channels: int = 16
    num_layers: int = 2
    dropout: float = 0.5


class HGNNP(NodeModel):
    """``conv -> ReLU -> dropout -> ... -> conv`` with the convolution of ``HGNNPConv``.

    Gao et al., HGNN+: General Hypergraph Neural Networks (TPAMI 2022,
    https://doi.org/10.1109/TPAMI.2022.3182052); ``HGNNP`` of DHG without its optional batch norm.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import HGNNP, HGNNPConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> HGNNP(HGNNPConfig(8, 3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: HGNNPConfig
    config_class = HGNNPConfig

    def __init__(self, config: HGNNPConfig) -> None:
        super().__init__(config)
        hidden = [config.hidden_channels] * (config.num_layers - 1)
        self.convs = stack(HGNNPConv, config.in_channels, hidden, config.out_channels)
        self.activation = nn.ReLU()

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        p = self.config.dropout
        return run_stack(self.convs, x, hypergraph, self.activation, p, self.training)
