"""The wavelet convolution of HWNN, by polynomials."""

import torch
from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import as_incidence, hgnn_propagate


class HWNNConv(nn.Module):
    """Spectral convolution in a hypergraph's wavelet basis, whose transforms are polynomials.

    ``X' = p(P) Lambda q(P) X Theta``, ``p(P) = sum over k < K1 of p_k P^k``, q likewise with K2,

    ``P = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2`` (HGNN's smoothing, I minus the Laplacian).

    Sun et al., Heterogeneous Hypergraph Embedding for Graph Classification (WSDM 2021,
    https://doi.org/10.1145/3437963.3441835): ``Psi Lambda Psi^-1 X Theta`` with the wavelets
    ``Psi = U exp(-s lambda) U^T`` of the Laplacian, both transforms approximated by polynomials in
    P, which needs no eigenvectors. P is applied K1 + K2 - 2 times; no matrix is formed.

    As in the released code, K1 = K2 = 3 (its model's setting), p and q start from U(0, 0.99), Theta
    from Xavier's uniform distribution, Lambda from U(0.99, 1.01), and there is no bias. Lambda has
    one entry per vertex, which ties the layer to one hypergraph: here it exists only if
    ``num_nodes`` is given, and is 1 without. A heterogeneous hypergraph is a list of snapshots,
    one per type of hyperedge: the released model applies the same layers to each and adds up the
    results with learned weights.

    Differences: the released code divides by degrees of 0 (NaN); here what has degree 0 contributes
    exactly 0, so that an isolated vertex gets ``p_0 Lambda_v q_0 x_v Theta``. Its data file sets
    entries of the exact wavelets below 1e-5 to 0 (negative ones with them), which its models do not
    use.

    Theta runs in the dtype of the input, or bfloat16 under autocast; propagation in at least
    float32; the result has the dtype of ``X Theta``.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        k1: terms of p.
        k2: terms of q.
        num_nodes: vertices, for one learned factor per vertex (Lambda); None for none.
        bias: add a bias after the convolution.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, HWNNConv
        >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=5)
        >>> HWNNConv(8, 16, num_nodes=5)(torch.randn(5, 8), h).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k1: int = 3,
        k2: int = 3,
        num_nodes: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.k1 = check_positive_int("k1", k1)
        self.k2 = check_positive_int("k2", k2)
        self.num_nodes = None if num_nodes is None else check_positive_int("num_nodes", num_nodes)
        self.theta = nn.Linear(in_channels, out_channels, bias=False)
        self.p = nn.Parameter(torch.empty(k1))
        self.q = nn.Parameter(torch.empty(k2))
        self.node_filter = None if num_nodes is None else nn.Parameter(torch.empty(num_nodes))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters as the authors; the bias starts at 0."""
        nn.init.xavier_uniform_(self.theta.weight)
        nn.init.uniform_(self.p, 0, 0.99)
        nn.init.uniform_(self.q, 0, 0.99)
        if self.node_filter is not None:
            nn.init.uniform_(self.node_filter, 0.99, 1.01)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels]; N must be ``num_nodes`` if that was given.
            hypergraph: any incidence operator over N vertices (a batched one with [B, N, ...]), or
                a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        if self.num_nodes is not None and x.shape[-2] != self.num_nodes:
            raise ValueError(
                f"`x` must have num_nodes={self.num_nodes} rows, for which this layer was made, "
                f"got {x.shape[-2]}; leave `num_nodes` out for hypergraphs of any size"
            )
        operator = as_incidence(hypergraph, x)
        z = self.theta(x)
        with without_autocast(x.device):
            out = _polynomial(self.q, z.to(propagation_dtype(z)), operator)
            if self.node_filter is not None:
                out = out * self.node_filter.to(out.dtype).unsqueeze(-1)
            out = _polynomial(self.p, out, operator)
            if self.bias is not None:
                out = out + self.bias.to(out.dtype)
            return out.to(z.dtype)

    def extra_repr(self) -> str:
        """Show the settings."""
        tied = "" if self.num_nodes is None else f", num_nodes={self.num_nodes}"
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"k1={self.k1}, k2={self.k2}{tied}"
        )


def _polynomial(coefficients: Tensor, z: Tensor, operator: Incidence) -> Tensor:
    """``sum_k c_k P^k z`` by Horner's scheme."""
    *lower, last = coefficients.to(z.dtype).unbind(0)
    out = last * z
    for coefficient in reversed(lower):
        out = hgnn_propagate(out, operator) + coefficient * z
    return out
