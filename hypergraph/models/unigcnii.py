"""UniGCNII: the deep model of UniGNN."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel
from hypergraph.models.features import feature_dropout
from hypergraph.nn.unigcnii_conv import UniGCNIIConv


@dataclass(frozen=True)
class UniGCNIIConfig(ModelConfig):
    """Config of ``UniGCNII`` with the defaults of the official code.

    Attributes:
        hidden_channels: channels of every convolution (8 heads of 8 in the official code).
        num_layers: convolutions; the paper goes up to 64.
        dropout: of the features and before every map; AllSet's and ED-HNN's comparisons have 0.2.
        alpha: share of the first features in every layer.
        lam: lambda in ``beta_l = log(lambda / l + 1)``.
        use_norm: divide what is propagated by its norm, row by row.
        conv_weight_decay: weight decay of the convolutions, or None to decay everything alike; the
            official code has 0.01 where the rest has 5e-4, AllSet's comparison decays nothing.
    """

    hidden_channels: int = 64
    num_layers: int = 2
    dropout: float = 0.6
    alpha: float = 0.1
    lam: float = 0.5
    use_norm: bool = False
    conv_weight_decay: float | None = 0.01


class UniGCNII(NodeModel):
    """``dropout -> linear -> ReLU``, ``L x (dropout -> UniGCNIIConv -> ReLU)``, dropout, linear.

    Huang and Yang, UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks (IJCAI
    2021, https://arxiv.org/abs/2105.00956), section 3. The comparisons of AllSet and ED-HNN replace
    the propagation by mean-mean; here it is the paper's.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import UniGCNII, UniGCNIIConfig
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> UniGCNII(UniGCNIIConfig(8, 3, num_layers=16))(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: UniGCNIIConfig
    config_class = UniGCNIIConfig

    def __init__(self, config: UniGCNIIConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_channels
        self.lin_in = nn.Linear(config.in_channels, hidden)
        self.convs = nn.ModuleList(
            UniGCNIIConv(hidden, layer, config.alpha, config.lam, use_norm=config.use_norm)
            for layer in range(1, config.num_layers + 1)
        )
        self.lin_out = nn.Linear(hidden, config.out_channels)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: the convolutions with ``conv_weight_decay``, the linear maps."""
        decay = self.config.conv_weight_decay
        linear = [*self.lin_in.parameters(), *self.lin_out.parameters()]
        return [
            {
                "params": list(self.convs.parameters()),
                "weight_decay": weight_decay if decay is None else decay,
            },
            {"params": linear, "weight_decay": weight_decay},
        ]

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        p = self.config.dropout
        x = first = self.lin_in(feature_dropout(x, p, self.training)).relu()
        for conv in self.convs:
            x = conv(feature_dropout(x, p, self.training), first, hypergraph).relu()
        return self.lin_out(feature_dropout(x, p, self.training))
