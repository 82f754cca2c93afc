"""The hypergraph convolution of HGNN."""

from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Hypergraph, Incidence
from hypergraph.incidence.base import check_fit


class HGNNConv(nn.Module):
    """Hypergraph convolution with symmetric normalisation.

    ``X' = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 (X Theta + b)``

    Feng et al., Hypergraph Neural Networks (AAAI 2019, https://arxiv.org/abs/1809.09401), Eq. 11;
    Eq. 6 of DHFusion. As in the official code the bias is added before propagation; an activation
    is left to the caller. A degree at or below the smallest normal number counts as 0, and what has
    degree 0 contributes exactly 0 (the official code gives NaN): an isolated vertex comes out as 0.
    Gradients are finite everywhere.

    Theta runs in the dtype of the input, or bfloat16 under autocast; propagation runs in at least
    float32, and the result has the dtype of ``X Theta + b``.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        bias: add b.

    Example:
        >>> import torch
        >>> from hypergraph import HGNNConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> HGNNConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.theta = nn.Linear(in_channels, out_channels, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Theta and b from U(-1/sqrt(out_channels), 1/sqrt(out_channels)), as the authors."""
        bound = self.out_channels**-0.5
        nn.init.uniform_(self.theta.weight, -bound, bound)
        if self.theta.bias is not None:
            nn.init.uniform_(self.theta.bias, -bound, bound)

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
        return hgnn_propagate(self.theta(x), as_incidence(hypergraph, x))

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"


def hgnn_propagate(
    z: Tensor,  # [N, C] or [B, N, C]
    hypergraph: Incidence | Tensor,
) -> Tensor:
    """Smooth features over a hypergraph: ``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 Z``.

    Args:
        z: [N, C] or [B, N, C].
        hypergraph: an operator over N vertices, or a ``hyperedge_index`` [2, nnz].

    Returns:
        The shape and dtype of z; computed in at least float32.

    Raises:
        ValueError, TypeError: the features and the hypergraph do not fit.
    """
    hypergraph = as_incidence(hypergraph, check_features(z))
    with without_autocast(z.device):
        return hypergraph.hgnn_propagate(z.to(propagation_dtype(z))).to(z.dtype)


def as_incidence(hypergraph: object, x: Tensor) -> Incidence:
    """Return an operator over the vertices of ``x``, made from an index tensor if need be."""
    if isinstance(hypergraph, Tensor):
        hypergraph = Hypergraph(hypergraph, x.shape[-2])
    if not isinstance(hypergraph, Incidence):
        raise TypeError(
            "`hypergraph` must be an incidence operator or a `hyperedge_index` tensor [2, nnz], "
            f"got {type(hypergraph).__name__}"
        )
    check_fit(x, hypergraph)
    return hypergraph
