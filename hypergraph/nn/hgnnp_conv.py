"""The hypergraph convolution of HGNN+."""

from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import as_incidence


class HGNNPConv(nn.Module):
    """Mean over members, then weighted mean over hyperedges.

    ``X' = D_v^-1 H W D_e^-1 H^T (X Theta + b)``

    Gao et al., HGNN+: General Hypergraph Neural Networks (TPAMI 2022,
    https://doi.org/10.1109/TPAMI.2022.3182052), the spatial convolution HGNNConv+. The bias is
    added before propagation, as in the authors' DHG, whose default it is; activation,
    normalisation and dropout are left to the caller. The paper's adaptive weights of hyperedge
    groups are not in DHG; with ``Fusion`` or ``Concat`` a group's weight is a coefficient.

    W enters the messages and ``d_v = sum of w_e h_ve``, so that the weights of a vertex' hyperedges
    are relative to each other. An isolated vertex comes out as 0, an empty hyperedge contributes
    nothing, and gradients are finite everywhere.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        bias: add b.

    Example:
        >>> import torch
        >>> from hypergraph import HGNNPConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> HGNNPConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.theta = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draw Theta and b from U(-1/sqrt(in_channels), 1/sqrt(in_channels)), as DHG."""
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
        z = self.theta(x)
        hypergraph = as_incidence(hypergraph, z)
        with without_autocast(z.device):
            return hypergraph.v2v(z.to(propagation_dtype(z)), "mean").to(z.dtype)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"
