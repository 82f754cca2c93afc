"""The high-pass hypergraph convolution of Wadhwa et al."""

import math

import torch
from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import hgnn_propagate

_KEPT_BY_TRUNCATION = 0.87962566103423978  # deviation of a normal cut off at two deviations


class LaplacianConv(nn.Module):
    """What hyperedges do not explain: features minus their smoothed selves.

    ``X' = Delta X Theta + b`` with ``Delta = I - D_v^-1/2 H W D_e^-1 H^T D_v^-1/2``

    Wadhwa et al., Hyperrealistic Image Inpainting with Hypergraphs (WACV 2021,
    https://arxiv.org/abs/2011.02904). The bias is added after propagation, as in the official code;
    the activation (ELU there) is left to the caller. There H is ``|Psi Lambda Psi^T Omega|``, the
    incidence of ``CrossCorrelation``, and W = I; here any operator will do, and W enters the
    messages and the degrees as in ``HGNNConv``.

    The official code adds 1e-10 to D_v, not to D_e, so that an empty hyperedge gives NaN and an
    isolated vertex 1e5 times 0. Nothing is added here: what has degree 0 contributes exactly 0, and
    an isolated vertex keeps its own ``x Theta + b``. Outputs for degrees of order one differ by
    about 1e-10 of their value; where degrees are near 1e-10 the official layer ceases to be a
    Laplacian (Delta no longer annihilates D_v^1/2 1), this one does not.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        bias: add b.

    Example:
        >>> import torch
        >>> from hypergraph import CrossCorrelation, LaplacianConv
        >>> x = torch.randn(2, 64, 8)
        >>> LaplacianConv(8, 16)(x, CrossCorrelation(8, num_edges=5)(x)).shape
        torch.Size([2, 64, 16])
    """

    bias: nn.Parameter | None

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.theta = nn.Linear(in_channels, out_channels, bias=False)
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Theta and b from Glorot's truncated normal distribution, as the official code.

        The deviations are ``sqrt(2 / (in_channels + out_channels))`` and
        ``sqrt(1 / out_channels)``.
        """
        _glorot_normal(self.theta.weight, self.in_channels + self.out_channels)
        if self.bias is not None:
            _glorot_normal(self.bias, 2 * self.out_channels)

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
        features = z.to(propagation_dtype(z))
        out = features - hgnn_propagate(features, hypergraph)
        if self.bias is not None:
            out = out + self.bias
        return out.to(z.dtype)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"


def _glorot_normal(parameter: Tensor, fans: int) -> None:
    deviation = math.sqrt(2 / fans) / _KEPT_BY_TRUNCATION
    nn.init.trunc_normal_(parameter, std=deviation, a=-2 * deviation, b=2 * deviation)
