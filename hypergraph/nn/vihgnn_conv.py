"""The hypergraph convolution of Vision HGNN."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergraph._checks import check_features, check_layer_dtype, check_positive_int
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import as_incidence


class ViHGNNConv(nn.Module):
    """Convolution in the manner of GIN: mean members, mean hyperedges, a small network after each.

    ``y_e = MLP_1( sum_v h_ve x_v / sum_v h_ve )``

    ``x_v' = MLP_2( (1 + eps) x_v + sum_e w_e h_ve y_e / sum_e w_e h_ve )``

    with ``MLP(z) = GELU(BatchNorm(z Theta + b))``.

    Han et al., Vision HGNN: An Image is More than a Graph of Nodes (ICCV 2023), Section 3.3, after
    the released code's ``HypergraphConv2d``: Theta in 4 groups of channels (``BasicConv``), normal
    initial values with gain sqrt(2) (Kaiming), b = 0, eps learned from 0. The activation and the
    normalisation belong to the published layer and are inside.

    Differences: the released code pads its lists of members and of hyperedges with -1 and then
    counts every -1 as the last vertex or hyperedge, which draws all means towards it; here means
    are over the members alone. Its hyperedges come from fuzzy c-means (``FuzzyCMeans``), whose
    memberships may be used as soft incidence; any other operator serves as well.

    An isolated vertex gets ``MLP_2((1 + eps) x_v)``; an empty hyperedge reaches no vertex. While
    training, batch normalisation takes its statistics over all vertices and over all hyperedges,
    empty ones included, of the batch; fewer than two rows use the running statistics.

    Propagation runs in at least float32, the result has the dtype of ``MLP_2``.

    Args:
        in_channels: channels of x; divisible by ``groups``.
        out_channels: channels of the result; divisible by ``groups``.
        bias: add b.
        groups: blocks of Theta along the channels, as in a grouped 1 x 1 convolution; 1 for a full
            matrix.
        norm: batch normalisation.
        activation: follows both networks; None for GELU, ``nn.Identity()`` for none.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, ViHGNNConv
        >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=5)
        >>> ViHGNNConv(8, 16)(torch.randn(2, 5, 8), h).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        groups: int = 4,
        norm: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        groups = check_positive_int("groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(
                    f"`{name}` must be divisible by `groups`, {groups}, got {channels}; "
                    "pass groups=1 for a full matrix"
                )
        activation = nn.GELU() if activation is None else activation
        if not isinstance(activation, nn.Module):
            raise TypeError(
                f"`activation` must be a module or None, got {type(activation).__name__}; "
                "pass an instance, for example nn.ReLU()"
            )
        self.edge_mlp = _RowNetwork(in_channels, in_channels, bias, groups, norm, activation)
        self.node_mlp = _RowNetwork(in_channels, out_channels, bias, groups, norm, activation)
        self.eps = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Draw Theta as the authors (Kaiming, normal); b, eps and the norms start afresh."""
        self.edge_mlp.reset_parameters()
        self.node_mlp.reset_parameters()
        nn.init.zeros_(self.eps)

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
        check_layer_dtype(x, self.eps)
        operator = as_incidence(hypergraph, x)
        with without_autocast(x.device):
            members = operator.v2e(x.to(propagation_dtype(x)), "mean").to(x.dtype)
        y = self.edge_mlp(members)
        with without_autocast(x.device):
            hyperedges = operator.e2v(y.to(propagation_dtype(y)), "mean").to(x.dtype)
            own = (1 + self.eps.to(x.dtype)) * x + hyperedges
        out: Tensor = self.node_mlp(own)
        return out

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}"


class _RowNetwork(nn.Module):
    """``activation(BatchNorm(z Theta + b))`` of every row, Theta block-diagonal in ``groups``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool,
        groups: int,
        norm: bool,
        activation: nn.Module,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.norm = nn.BatchNorm1d(out_channels) if norm else None
        self.activation = activation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's normal distribution, b = 0."""
        nn.init.kaiming_normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.norm is not None:
            self.norm.reset_parameters()

    def forward(self, z: Tensor) -> Tensor:  # [..., C]
        """Apply to every row."""
        rows = z.flatten(0, -2)
        if self.groups == 1:
            rows = F.linear(rows, self.weight, self.bias)
        else:
            blocks = rows.unflatten(-1, (self.groups, self.weight.shape[1]))
            weight = self.weight.unflatten(0, (self.groups, self.weight.shape[0] // self.groups))
            rows = torch.einsum("rgi,goi->rgo", blocks, weight).flatten(1)
            if self.bias is not None:
                rows = rows + self.bias.to(rows.dtype)
        if self.norm is not None:
            rows = self._normalise(rows)
        out: Tensor = self.activation(rows)
        return out.view(*z.shape[:-1], out.shape[-1])

    def _normalise(self, rows: Tensor) -> Tensor:
        assert self.norm is not None
        if self.training and rows.shape[0] < 2:  # a variance of one row is no variance
            norm = self.norm
            return F.batch_norm(
                rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        out: Tensor = self.norm(rows)
        return out
