"""UniGNN: UniGCN, UniGAT, UniSAGE and UniGIN."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hypergraph._checks import check_choice
from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.conv_net import run_stack
from hypergraph.models.features import feature_dropout
from hypergraph.nn.unigat_conv import UniGATConv
from hypergraph.nn.unigcn_conv import UniGCNConv
from hypergraph.nn.unigin_conv import UniGINConv
from hypergraph.nn.unisage_conv import UniSAGEConv

Variant = Literal["gcn", "gat", "sage", "gin"]


@dataclass(frozen=True)
class UniGNNConfig(ModelConfig):
    """Config of ``UniGNN`` with the defaults of the official code.

    Attributes:
        variant: ``"gcn"``, ``"gat"``, ``"sage"`` or ``"gin"``.
        hidden_channels: channels of a head.
        heads: of the inner layers, side by side; but for ``"gat"`` they only widen the layer.
        num_layers: convolutions.
        dropout: after every activation.
        input_dropout: of the features.
        attention_dropout: of the attention of ``"gat"``.
        use_norm: divide what is propagated by its norm, row by row.
    """

    variant: Variant = "sage"
    hidden_channels: int = 8
    heads: int = 8
    num_layers: int = 2
    dropout: float = 0.6
    input_dropout: float = 0.6
    attention_dropout: float = 0.6
    use_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variant", self.variant, ("gcn", "gat", "sage", "gin"))


class UniGNN(NodeModel):
    """``dropout -> conv -> ReLU -> dropout -> ... -> conv`` with one of UniGNN's convolutions.

    Huang and Yang, UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks (IJCAI
    2021, https://arxiv.org/abs/2105.00956), sections 3 and 5.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import UniGNN, UniGNNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> UniGNN(UniGNNConfig(8, 3, variant="gat"))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: UniGNNConfig
    config_class = UniGNNConfig

    def __init__(self, config: UniGNNConfig) -> None:
        super().__init__(config)
        wide = config.hidden_channels * config.heads
        self.convs = nn.ModuleList()
        channels = config.in_channels
        for _ in range(config.num_layers - 1):
            self.convs.append(_conv(config, channels, config.hidden_channels, config.heads))
            channels = wide
        self.convs.append(_conv(config, channels, config.out_channels, 1))
        self.activation = nn.ReLU()

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        c = self.config
        x = feature_dropout(x, c.input_dropout, self.training)
        return run_stack(self.convs, x, hypergraph, self.activation, c.dropout, self.training)


def _conv(config: UniGNNConfig, channels: int, out: int, heads: int) -> nn.Module:
    norm = config.use_norm
    if config.variant == "gat":
        dropout = config.attention_dropout
        return UniGATConv(channels, out, heads, dropout=dropout, use_norm=norm)
    if config.variant == "gcn":
        return UniGCNConv(channels, out * heads, use_norm=norm)
    if config.variant == "sage":
        return UniSAGEConv(channels, out * heads, use_norm=norm)
    return UniGINConv(channels, out * heads, use_norm=norm)
