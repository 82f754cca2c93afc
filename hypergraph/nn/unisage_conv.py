"""The convolution of UniGNN modelled on GraphSAGE."""

from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph.incidence import Incidence
from hypergraph.incidence._pairs import Reduce, check_reduce
from hypergraph.nn.unignn import jump_propagate, normalize_rows


class UniSAGEConv(nn.Module):
    """A vertex and what its hyperedges say: ``x'_v = Theta x_v + sum over e of w_e h_ve y_e``.

    ``y_e`` is the mean over the members of e of ``Theta x_u``; ``v2e_reduce`` and ``e2v_reduce``
    replace the mean and the sum.

    Huang and Yang, UniGNN (IJCAI 2021, https://arxiv.org/abs/2105.00956), the layer of UniSAGE. As
    in the official code Theta comes first and has no bias by default (DHG's has one), and the
    activation is left to the caller. Defaults are the official ones, mean and sum; TopoModelX swaps
    them (sum and mean) and gives NaN on isolated vertices. The official heads only widen Theta:
    give ``out_channels`` = heads x channels.

    The official code is unweighted; with weights, w_e h_ve takes the place of h_ve where hyperedges
    go into vertices. An isolated vertex keeps ``Theta x_v``; an empty hyperedge contributes 0.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        bias: add b to Theta x, before propagation.
        v2e_reduce: how members make a hyperedge, see ``Incidence.v2e``. ``"sum"`` and ``"mean"``
            work with every operator, others with those that list members.
        e2v_reduce: how hyperedges make a vertex, see ``Incidence.e2v``; the same holds.
        use_norm: divide the rows of the result by their norm, through which no gradient flows.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, UniSAGEConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> UniSAGEConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = False,
        v2e_reduce: Reduce = "mean",
        e2v_reduce: Reduce = "sum",
        use_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        check_reduce("v2e_reduce", v2e_reduce)
        check_reduce("e2v_reduce", e2v_reduce)
        self.v2e_reduce, self.e2v_reduce = v2e_reduce, e2v_reduce
        self.use_norm = use_norm
        self.theta = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draw Theta and b from U(-1/sqrt(in_channels), 1/sqrt(in_channels)), as the authors."""
        self.theta.reset_parameters()

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
                no members and a reduction needs them.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        out = jump_propagate(self.theta(x), hypergraph, self.v2e_reduce, self.e2v_reduce)
        return normalize_rows(out) if self.use_norm else out

    def extra_repr(self) -> str:
        """Show the sizes and reductions."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"v2e_reduce='{self.v2e_reduce}', e2v_reduce='{self.e2v_reduce}'"
        )
