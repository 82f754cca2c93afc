"""The convolution of UniGNN modelled on GIN."""

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_features,
    check_finite_number,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph.incidence import Incidence
from hypergraph.incidence._pairs import Reduce, check_reduce
from hypergraph.nn.unignn import jump_propagate, normalize_rows


class UniGINConv(nn.Module):
    """``x'_v = (1 + eps) Theta x_v + sum over e of w_e h_ve y_e``, y_e the mean of the members.

    Huang and Yang, UniGNN (IJCAI 2021, https://arxiv.org/abs/2105.00956), the layer of UniGIN. As
    in the official code Theta comes first and has no bias by default (DHG's has one), eps is
    learned from 0, and the activation is left to the caller. DHG up to 0.9.6 multiplied the sum
    over hyperedges by 1 + eps in place of the vertex; 0.9.7 agrees with the paper. TopoModelX sums
    members in place of the mean (``v2e_reduce="sum"``). The official heads only widen Theta: give
    ``out_channels`` = heads x channels.

    The official code is unweighted; with weights, w_e h_ve takes the place of h_ve where hyperedges
    go into vertices. An isolated vertex keeps its own term; an empty hyperedge contributes 0.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        eps: initial eps.
        train_eps: learn eps; else it stays as given (a buffer).
        bias: add b to Theta x, before propagation.
        v2e_reduce: how members make a hyperedge, see ``Incidence.v2e``. ``"sum"`` and ``"mean"``
            work with every operator, others with those that list members.
        use_norm: divide the rows of the result by their norm, through which no gradient flows.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, UniGINConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> UniGINConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    eps: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        eps: float = 0.0,
        train_eps: bool = True,
        bias: bool = False,
        v2e_reduce: Reduce = "mean",
        use_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.initial_eps = check_finite_number("eps", eps)
        check_reduce("v2e_reduce", v2e_reduce)
        self.v2e_reduce: Reduce = v2e_reduce
        self.use_norm = use_norm
        self.theta = nn.Linear(in_channels, out_channels, bias=bias)
        value = torch.tensor([self.initial_eps])
        if train_eps:
            self.eps = nn.Parameter(value)
        else:
            self.register_buffer("eps", value)

    def reset_parameters(self) -> None:
        """Draw Theta and b from U(-1/sqrt(in_channels), 1/sqrt(in_channels)), as the authors."""
        self.theta.reset_parameters()
        with torch.no_grad():
            self.eps.fill_(self.initial_eps)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: any incidence operator over N vertices (a batched one with [B, N, ...]), or
                a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit, or the operator lists
                no members and the reduction needs them.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        out = jump_propagate(self.theta(x), hypergraph, self.v2e_reduce, "sum", 1 + self.eps)
        return normalize_rows(out) if self.use_norm else out

    def extra_repr(self) -> str:
        """Show the sizes and the reduction."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"v2e_reduce='{self.v2e_reduce}'"
        )
