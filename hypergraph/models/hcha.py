"""HCHA: hypergraph convolution and hypergraph attention."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.conv_net import run_stack
from hypergraph.nn.hypergraph_attention_conv import HypergraphAttentionConv


@dataclass(frozen=True)
class HCHAConfig(ModelConfig):
    """Config of ``HCHA`` with the defaults of AllSet's and ED-HNN's comparisons.

    Attributes:
        hidden_channels: channels of every head.
        num_layers: convolutions.
        heads: of the inner layers, side by side; the last has one.
        attention: None for the convolution (as in the comparisons), ``"edge"`` for the paper's
            attention, a softmax over the hyperedges of a vertex, ``"node"`` for PyG's default.
        symmetric: D^-1/2 on both sides, as in HGNN, in place of D^-1.
        dropout: after every activation; the paper has 0.6.
        attention_dropout: of the attention.
    """

    hidden_channels: int = 64
    num_layers: int = 2
    heads: int = 1
    attention: Literal["node", "edge"] | None = None
    symmetric: bool = False
    dropout: float = 0.5
    attention_dropout: float = 0.0


class HCHA(NodeModel):
    """``conv -> ELU -> dropout -> ... -> conv`` with ``HypergraphAttentionConv``.

    Bai, Zhang and Torr, Hypergraph Convolution and Hypergraph Attention (Pattern Recognition 2021,
    https://arxiv.org/abs/1901.08150).

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import HCHA, HCHAConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> model = HCHA(HCHAConfig(8, 3, attention="edge", heads=4))
        >>> model(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: HCHAConfig
    config_class = HCHAConfig
    takes_sparse_features = False

    def __init__(self, config: HCHAConfig) -> None:
        super().__init__(config)
        self.convs = nn.ModuleList()
        channels = config.in_channels
        for number in range(config.num_layers):
            last = number == config.num_layers - 1
            heads = 1 if last or config.attention is None else config.heads
            out = config.out_channels if last else config.hidden_channels
            conv = HypergraphAttentionConv(
                channels,
                out,
                attention=config.attention,
                heads=heads,
                dropout=config.attention_dropout,
                symmetric=config.symmetric,
            )
            self.convs.append(conv)
            channels = out * heads
        self.activation = nn.ELU()

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        p = self.config.dropout
        return run_stack(self.convs, x, hypergraph, self.activation, p, self.training)
