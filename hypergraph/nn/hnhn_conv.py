"""The convolution of HNHN, with a nonlinearity at the hyperedges."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import (
    check_features,
    check_finite_number,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import as_incidence


class HNHNConv(nn.Module):
    """Hyperedge neurons: a weighted mean into hyperedges, a ReLU, a weighted mean back.

    With degrees ``d_v = sum of w_e h_ve`` and ``delta_e = sum of h_ve``::

        X_e = ReLU(D_beta^-1 H^T D_v^beta (X Theta_v + b_v))
        X'  = D_alpha^-1 H W D_e^alpha (X_e Theta_e + b_e)

    where ``D_beta`` and ``D_alpha`` are the sums of the weights: ``sum over members of h d_v^beta``
    and ``sum over hyperedges of w h delta_e^alpha``.

    Dong, Sawin and Bengio, HNHN: Hypergraph Networks with Hyperedge Neurons (ICML 2020 workshop,
    https://arxiv.org/abs/2006.12278). ``alpha = beta = 0`` gives plain means; negative values
    favour small hyperedges and vertices of few hyperedges. Defaults are those of AllSet's and
    ED-HNN's commands, -1.5 and -0.5. The ReLU after the layer is left to the caller.

    The authors' code also adds the vertices' and hyperedges' own former features; AllSet's
    formulation, the one in use, is without, and so is this. ED-HNN's copy sums plain degrees in
    ``D_alpha`` and ``D_beta`` where their powers belong. DHG leaves alpha and beta out (that is
    ``alpha = beta = 0``) and weighs hyperedges by w_e before Theta_e, so that b_e is not weighted.
    TopoModelX has no ReLU between the stages (``nonlinear=False``) and gives NaN to isolated
    vertices.

    What has degree 0 contributes 0, whatever the exponent; an isolated vertex comes out as 0. A
    power of a degree is at most the largest number to the 0.75 (2.5e28 in float32). The
    layer is linear in H but for the degrees, so that any incidence operator serves.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        hidden_channels: channels of the hyperedges; default out_channels.
        alpha: exponent of the hyperedges' degrees.
        beta: exponent of the vertices' degrees.
        nonlinear: a ReLU at the hyperedges.
        bias: add b_v and b_e.

    Example:
        >>> import torch
        >>> from hypergraph import HNHNConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> HNHNConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        alpha: float = -1.5,
        beta: float = -0.5,
        nonlinear: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        check_positive_int("out_channels", out_channels)
        hidden = out_channels if hidden_channels is None else hidden_channels
        check_positive_int("hidden_channels", hidden)
        self.alpha = check_finite_number("alpha", alpha)
        self.beta = check_finite_number("beta", beta)
        self.nonlinear = nonlinear
        self.theta_v = nn.Linear(in_channels, hidden, bias)
        self.theta_e = nn.Linear(hidden, out_channels, bias)

    def reset_parameters(self) -> None:
        """Draw both maps anew, with torch's defaults, as AllSet."""
        self.theta_v.reset_parameters()
        self.theta_e.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: any operator over N vertices, or a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta_v.weight)
        hypergraph = as_incidence(hypergraph, x)
        edges = self.to_edges(x, hypergraph)
        return self._to_nodes(functional.relu(edges) if self.nonlinear else edges, hypergraph)

    def to_edges(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        """The hyperedges' features before the ReLU, [M, hidden_channels] or [B, M, ...]."""
        z = self.theta_v(x)
        with without_autocast(z.device):
            features = z.to(propagation_dtype(z))
            weight = _power(hypergraph.node_degree(features.dtype), self.beta).unsqueeze(-1)
            total = hypergraph.v2e(weight)
            return (hypergraph.v2e(features * weight) * inverse_power(total, -1.0)).to(z.dtype)

    def _to_nodes(self, edges: Tensor, hypergraph: Incidence) -> Tensor:
        y = self.theta_e(edges)
        with without_autocast(y.device):
            features = y.to(propagation_dtype(y))
            degree = hypergraph.edge_degree(features.dtype)
            weight = hypergraph.weight(degree.dtype) * _power(degree, self.alpha)
            weight = weight.unsqueeze(-1)
            total = hypergraph.e2v(weight)
            return (hypergraph.e2v(features * weight) * inverse_power(total, -1.0)).to(y.dtype)

    def extra_repr(self) -> str:
        """Show the exponents."""
        return f"alpha={self.alpha}, beta={self.beta}, nonlinear={self.nonlinear}"


def _power(degree: Tensor, exponent: float) -> Tensor:
    """A power of degrees that leaves room for features; without a bound, 1e-30 ** -1.5 is inf."""
    return inverse_power(degree, exponent).clamp_max(torch.finfo(degree.dtype).max ** 0.75)
