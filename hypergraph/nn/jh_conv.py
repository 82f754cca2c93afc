"""The jump hypergraph convolution of DHCF."""

from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import hgnn_propagate


class JHConv(nn.Module):
    """HGNN's convolution beside the features themselves.

    ``X' = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 (X Theta + b) + X``

    Ji et al., Dual Channel Hypergraph Collaborative Filtering (KDD 2020,
    https://doi.org/10.1145/3394486.3403253), the layer called JHConv, and DHG. X is added as it is,
    so ``out_channels`` must be ``in_channels`` (DHG fails in the forward pass if they differ). As
    in DHG the bias is smoothed with the rest; the activation is left to the caller.

    W enters as in ``HGNNConv``. An isolated vertex keeps its features; an empty hyperedge
    contributes nothing, and gradients are finite everywhere.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result, None for the same; they must be the same.
        bias: add b.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, JHConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> JHConv(8)(torch.randn(4, 8), h).shape
        torch.Size([4, 8])
    """

    def __init__(
        self, in_channels: int, out_channels: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        self.out_channels = check_positive_int("out_channels", out_channels)
        if out_channels != in_channels:
            raise ValueError(
                f"`out_channels` must be in_channels, {in_channels}, because the features are "
                f"added to the result, got {out_channels}; change the width with nn.Linear before"
            )
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
            The shape of x.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        z = self.theta(x)
        smooth = hgnn_propagate(z.to(propagation_dtype(z)), hypergraph)
        return (smooth + x).to(z.dtype)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"
