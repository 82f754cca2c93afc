"""HyperGCN: a graph convolution on a graph drawn from the hypergraph."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout, is_sparse
from hypergraph.nn.hypergcn_conv import HyperGCNConv, extreme_members


@dataclass(frozen=True)
class HyperGCNConfig(ModelConfig):
    """Config of ``HyperGCN`` with the defaults of the official code.

    Attributes:
        hidden_channels: channels of the last inner layer; each layer before has twice as many
            (32, 16, classes with three layers).
        num_layers: convolutions.
        mediators: connect the other members of a hyperedge as well.
        fast: choose the graph once per call, from the features; else anew in every layer.
        dropout: between the layers.
        relu_scores: a ReLU after the last layer as well, as in the official code. A class none of
            whose scores is positive for a vertex gets no gradient from it; False leaves it out.
    """

    hidden_channels: int = 16
    num_layers: int = 2
    mediators: bool = True
    fast: bool = True
    dropout: float = 0.5
    relu_scores: bool = True


class HyperGCN(NodeModel):
    """``conv -> ReLU -> dropout -> ... -> conv -> ReLU`` with the convolution of ``HyperGCNConv``.

    Yadati et al., HyperGCN: A New Method of Training Graph Convolutional Networks on Hypergraphs
    (NeurIPS 2019, https://arxiv.org/abs/1809.02589); ``fast`` is FastHyperGCN, whose official code
    draws the graph once for ever when the model is built. Here the model knows no hypergraph before
    it is called: the graph follows the features of the call along a stored direction, and is the
    same in every call with the same features.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import HyperGCN, HyperGCNConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> HyperGCN(HyperGCNConfig(8, 3))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: HyperGCNConfig
    config_class = HyperGCNConfig
    direction: Tensor

    def __init__(self, config: HyperGCNConfig) -> None:
        super().__init__(config)
        inner = [
            config.hidden_channels * 2 ** (config.num_layers - 2 - number)
            for number in range(config.num_layers - 1)
        ]
        sizes = [config.in_channels, *inner, config.out_channels]
        self.convs = nn.ModuleList(
            HyperGCNConv(before, after, mediators=config.mediators)
            for before, after in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.register_buffer("direction", torch.rand(config.in_channels))

    def reset_parameters(self) -> None:
        """Draw all parameters and directions anew."""
        super().reset_parameters()
        self.direction.uniform_()

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        extremes = None
        if self.config.fast:
            dense = x.to_dense() if is_sparse(x) else x
            extremes = extreme_members(dense, hypergraph, self.direction)
        for number, conv in enumerate(self.convs):
            if number:
                x = feature_dropout(x.relu(), self.config.dropout, self.training)
            x = conv(x, hypergraph, extremes)
        return x.relu() if self.config.relu_scores else x
