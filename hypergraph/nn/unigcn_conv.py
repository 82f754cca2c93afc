"""The convolution of UniGNN modelled on GCN."""

from typing import Literal

from torch import Tensor, nn

from hypergraph._checks import (
    check_choice,
    check_features,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph.incidence import Incidence
from hypergraph.nn.unignn import normalize_rows, unigcn_propagate


class UniGCNConv(nn.Module):
    """Convolution normalised by the degrees of vertices and the mean degree of members.

    ``x'_v = d_v^-1/2 sum over e of w_e h_ve dbar_e^-1/2 y_e``, where ``y_e`` is the mean over e of
    ``Theta x_u`` and ``dbar_e`` the mean over e of ``d_u``.

    Huang and Yang, UniGNN (IJCAI 2021, https://arxiv.org/abs/2105.00956), the layer of UniGCN. As
    in the official code Theta comes first and has no bias by default (DHG's has one, smoothed like
    the rest), and the activation is left to the caller. The official heads only widen Theta: give
    ``out_channels`` = heads x channels.

    The official code is unweighted. With weights, W enters once: in ``d_v = sum of w_e h_ve``, thus
    in dbar_e, and in the sum over hyperedges; this is what DHG does. Isolated vertices and empty
    hyperedges come out as, and contribute, exactly 0 (the official code puts 1 for an infinite
    d_v^-1/2, which multiplies 0). Where every hyperedge is a pair and all degrees are equal, this
    is half the vertex plus half the mean of its neighbours.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        bias: add b to Theta x, before propagation.
        v2e_reduce: how members make y_e and dbar_e, ``"mean"`` or ``"sum"`` (``first_aggregate`` of
            the official code).
        use_norm: divide the rows of the result by their norm, through which no gradient flows.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, UniGCNConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> UniGCNConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = False,
        v2e_reduce: Literal["mean", "sum"] = "mean",
        use_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        check_choice("v2e_reduce", v2e_reduce, ("mean", "sum"))
        self.v2e_reduce = v2e_reduce
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
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        out = unigcn_propagate(self.theta(x), hypergraph, self.v2e_reduce)
        return normalize_rows(out) if self.use_norm else out

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"
