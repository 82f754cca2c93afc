"""Hypergraph convolution and attention of Bai et al. (HCHA)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergraph._checks import (
    check_choice,
    check_features,
    check_finite_number,
    check_float,
    check_fraction,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn._attention import attend_to_edges, attend_to_nodes
from hypergraph.nn.hgnn_conv import as_incidence, hgnn_propagate
from hypergraph.nn.unignn import glorot, head_scores

Attention = Literal["node", "edge"]


class HypergraphAttentionConv(nn.Module):
    """Hypergraph convolution whose incidence may be replaced by attention.

    ``X' = D^-1 A W B^-1 A^T X Theta + b``, or with ``symmetric`` the form of HGNN,
    ``D^-1/2 A W B^-1 A^T D^-1/2 X Theta + b``, where D = D_v and B = D_e are the degrees of H and:

    - ``attention=None``: A = H.
    - ``"node"``: ``a_ve = h_ve exp(s_ve) / sum over members u of h_ue exp(s_ue)``.
    - ``"edge"``: ``a_ve = h_ve exp(s_ve) / sum over hyperedges f of v of w_f h_vf exp(s_vf)``.

    The score of a head is ``s_ve = LeakyReLU(a . [Theta x_v || Theta x_e])``.

    Bai, Zhang and Torr, Hypergraph Convolution and Hypergraph Attention (Pattern Recognition 2021,
    https://arxiv.org/abs/1901.08150): the row-normalised and the symmetric convolution, and the
    attention, whose printed normalisation runs over the hyperedges of a vertex (``"edge"``). The
    paper asks for hyperedge features x_e from the space of the vertices' features. They are
    ``hyperedge_attr`` if given, and else the mean of the members. DHG-Bench and pyg-hyper index the
    vertices' features with the hyperedges' numbers instead, which fails once there are more
    hyperedges than vertices.

    There is no official code; parameters, defaults and initial values are those of PyTorch
    Geometric's ``HypergraphConv`` (``attention=None`` or ``"node"`` by default there as here): no
    bias inside Theta, b added last, attention in both products, degrees those of H. It leaves W out
    of the messages, against its own formula; here W is in them once, and a hyperedge of weight 3 is
    three hyperedges, of weight 0 none, in every setting. With unit weights both are the same. As in
    PyTorch Geometric, D^-1 divides once more what ``"edge"`` has already made a mean.

    What has degree 0 contributes exactly 0: an isolated vertex comes out as b. A repeated pair
    counts twice.

    Args:
        in_channels: channels of x and of hyperedge_attr.
        out_channels: channels of the result; of one head with attention.
        attention: None, ``"node"`` or ``"edge"``. With attention the layer needs an operator that
            lists its members.
        heads: attention heads.
        concat: concatenate the heads; else their mean.
        negative_slope: of the LeakyReLU.
        dropout: of the attention, while training.
        bias: add b.
        symmetric: D^-1/2 on both sides in place of D^-1.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, HypergraphAttentionConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x = torch.randn(4, 8)
        >>> HypergraphAttentionConv(8, 16)(x, h).shape
        torch.Size([4, 16])
        >>> layer = HypergraphAttentionConv(8, 16, attention="node", heads=2)
        >>> layer(x, h, hyperedge_attr=torch.randn(2, 8)).shape
        torch.Size([4, 32])
    """

    att: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        attention: Attention | None = None,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        check_choice("attention", attention, (None, *get_args(Attention)))
        self.attention = attention
        self.heads = check_positive_int("heads", heads)
        if attention is None and heads != 1:
            raise ValueError(
                f"`heads` must be 1 without attention, got {heads}; "
                "pass attention='node' or 'edge', or a larger `out_channels`"
            )
        self.concat = concat
        self.negative_slope = check_finite_number("negative_slope", negative_slope)
        self.dropout = check_fraction("dropout", dropout)
        self.symmetric = symmetric
        self.theta = nn.Linear(in_channels, heads * out_channels, bias=False)
        if attention is None:
            self.register_parameter("att", None)
        else:
            self.att = nn.Parameter(torch.empty(heads, 2 * out_channels))
        if bias:
            self.bias = nn.Parameter(torch.empty(heads * out_channels if concat else out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Theta and a from Glorot's uniform distribution; b = 0."""
        glorot(self.theta.weight, self.in_channels + self.heads * self.out_channels)
        if self.att is not None:
            glorot(self.att, self.heads + 2 * self.out_channels)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
        hyperedge_attr: Tensor | None = None,  # [M, in_channels] or [B, M, in_channels]
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: any incidence operator over N vertices (a batched one with [B, N, ...]), or
                a ``hyperedge_index`` [2, nnz]; with attention one that lists its members.
            hyperedge_attr: features x_e of the hyperedges for the scores, [M, in_channels], or
                [B, M, in_channels] with x of three dimensions; None for the mean of the members.

        Returns:
            The shape of x with out_channels channels, times heads if they are concatenated.

        Raises:
            ValueError: the features and the hypergraph do not fit, or ``hyperedge_attr`` is given
                without attention.
            TypeError: a dtype does not fit, or there is attention and the operator lists no
                members.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        z = self.theta(x)
        hypergraph = as_incidence(hypergraph, z)
        features = z.to(propagation_dtype(z))
        if self.attention is None and hyperedge_attr is not None:
            raise ValueError(
                "`hyperedge_attr` enters only the scores of attention and would be ignored; "
                "pass attention='node' or 'edge', or leave it out"
            )
        if self.attention is not None:
            out = self._attend(
                features, hypergraph, self._edge_features(hyperedge_attr, x, hypergraph)
            )
        elif self.symmetric:
            out = hgnn_propagate(features, hypergraph)
        else:
            with without_autocast(z.device):
                out = hypergraph.v2v(features, "mean")
        if not self.concat:
            out = out.unflatten(-1, (self.heads, self.out_channels)).mean(-2)
        if self.bias is not None:
            out = out + self.bias
        return out.to(z.dtype)

    def _edge_features(self, attr: object, x: Tensor, hypergraph: Incidence) -> Tensor | None:
        """``Theta x_e`` of given hyperedge features."""
        if attr is None:
            return None
        attr = check_float("hyperedge_attr", attr)
        rows = (hypergraph.num_edges, self.in_channels)
        shapes: list[tuple[int, ...]] = [rows] if hypergraph.batch_size is None else []
        if x.dim() == 3:
            shapes.append((x.shape[0], *rows))
        if tuple(attr.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(
                f"`hyperedge_attr` must have shape {expected}, a row per hyperedge with the "
                f"channels of `x`, got {list(attr.shape)}"
            )
        if attr.dtype != x.dtype or attr.device != x.device:
            raise TypeError(
                f"`hyperedge_attr` must be {x.dtype} on {x.device} as `x`, "
                f"got {attr.dtype} on {attr.device}; convert it with .to(x)"
            )
        mapped: Tensor = self.theta(attr)
        return mapped

    def _attend(self, z: Tensor, hypergraph: Incidence, edge_features: Tensor | None) -> Tensor:
        members = hypergraph.with_members()
        assert self.att is not None
        own, other = self.att.split(self.out_channels, -1)
        with without_autocast(z.device):
            if edge_features is None:
                edge_features = members.v2e(z, "mean")
            scores = members.gather_nodes(head_scores(z, own)) + members.gather_edges(
                head_scores(edge_features.to(z.dtype), other)
            )
            scores = F.leaky_relu(scores, self.negative_slope)
            over: Literal["nodes", "edges"] = "nodes" if self.attention == "node" else "edges"
            alpha = members.incidence_softmax(scores, over)
            alpha = F.dropout(alpha, self.dropout, self.training)
            degree = inverse_power(members.node_degree(z.dtype), -0.5 if self.symmetric else -1.0)
            share = inverse_power(members.edge_degree(z.dtype), -1.0)
            weight = members.weight(share.dtype)
            # Attention over hyperedges contains w_e in both products: it must be there once.
            weight = weight if self.attention == "node" else inverse_power(weight, -1.0)
            degree = degree.unsqueeze(-1)
            if self.symmetric:
                z = z * degree
            edges = attend_to_edges(members, z, alpha)
            # One after the other: the product of both could underflow.
            edges = edges * share.unsqueeze(-1) * weight.unsqueeze(-1)
            return attend_to_nodes(members, edges, alpha) * degree

    def extra_repr(self) -> str:
        """Show the sizes and the kind of attention."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"attention={self.attention!r}, heads={self.heads}"
        )
