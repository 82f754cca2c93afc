"""AllSetTransformer: attention from vertices to hyperedges and back."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import (
    check_choice,
    check_features,
    check_fraction,
    check_layer_dtype,
    check_non_negative_number,
    check_positive_int,
)
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.nn._attention import attend_to_edges, attend_to_nodes
from hypergraph.nn._mlp import MLP
from hypergraph.nn.hgnn_conv import as_incidence


class PMA(nn.Module):
    """Half a layer of AllSetTransformer: multi-head attention of a learned seed to each set.

    With sets of members (``to="edges"``) or of hyperedges (``to="nodes"``), per head::

        alpha_s = softmax over s of LeakyReLU(<theta, K x_s>),  z = theta + sum of alpha_s V x_s
        Y = LN_0(z),  out = LN_1(Y + ReLU(rFF(Y)))

    Chien et al., You are AllSet (ICLR 2022, https://arxiv.org/abs/2106.13264), Eqs. 7 and 8. As in
    the official code the score goes through a LeakyReLU in place of the paper's ``1/sqrt(d)``,
    rFF ends in a ReLU, heads are concatenated without an output map, and the seed theta is added
    to every set. An empty set is therefore not 0 but ``LN_0(theta)`` and what follows from it: a
    learned constant, as in the official code (which loses empty sets at the end of the numbering).

    The softmax takes h_ve, towards vertices w_e h_ve, as a multiplicity. ``<theta, K x>`` is
    computed as one linear map to the heads, so that the keys are never stored.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result, a multiple of ``heads``.
        heads: independent attentions, each with out_channels / heads channels.
        num_layers: linear maps of rFF.
        negative_slope: of the LeakyReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        num_layers: int = 2,
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.heads = check_positive_int("heads", heads)
        if out_channels % heads:
            raise ValueError(
                f"`heads` must divide the {out_channels} channels of the result, got {heads}"
            )
        check_non_negative_number("negative_slope", negative_slope)
        self.negative_slope = negative_slope
        self.key = nn.Linear(in_channels, out_channels)
        self.value = nn.Linear(in_channels, out_channels)
        self.theta = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.rff = MLP(out_channels, out_channels, out_channels, num_layers)
        self.norm0 = nn.LayerNorm(out_channels)
        self.norm1 = nn.LayerNorm(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot for K, V and theta, torch's defaults for the rest, as the authors."""
        for module in (self.key, self.value, self.rff, self.norm0, self.norm1):
            module.reset_parameters()
        nn.init.xavier_uniform_(self.key.weight)
        nn.init.xavier_uniform_(self.value.weight)
        heads, channels = self.theta.shape
        # The authors' seed is [1, heads, channels], whose fans are the numbers below.
        bound = (6 / (heads * channels + channels)) ** 0.5
        nn.init.uniform_(self.theta, -bound, bound)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]; M for N where to="nodes"
        hypergraph: Incidence,
        to: Literal["edges", "nodes"] = "edges",
    ) -> Tensor:
        """Attend to the members of every hyperedge, or to the hyperedges of every vertex.

        Args:
            x: features of the members, or of the hyperedges.
            hypergraph: an operator with members.
            to: ``"edges"`` or ``"nodes"``.

        Returns:
            [M, out_channels] or [B, M, out_channels]; N for M where ``to="nodes"``.
        """
        check_choice("to", to, ("edges", "nodes"))
        hypergraph = hypergraph.with_members()
        value = self.value(x)
        scores = self._scores(x)
        dtype = propagation_dtype(value)
        with without_autocast(value.device):
            scores = functional.leaky_relu(scores.to(dtype), self.negative_slope)
            if to == "edges":
                alpha = hypergraph.incidence_softmax(hypergraph.gather_nodes(scores), "nodes")
                z = attend_to_edges(hypergraph, value.to(dtype), alpha)
            else:
                alpha = hypergraph.incidence_softmax(hypergraph.gather_edges(scores), "edges")
                z = attend_to_nodes(hypergraph, value.to(dtype), alpha)
        y = self.norm0((z.to(dtype) + self.theta.flatten()).to(self.norm0.weight.dtype))
        return self.norm1(y + functional.relu(self.rff(y))).to(value.dtype)

    def _scores(self, x: Tensor) -> Tensor:
        """[..., heads] inner products of the seed with the keys."""
        weight = self.key.weight.unflatten(0, self.theta.shape)  # [heads, channels, in]
        bias = self.key.bias.view(self.theta.shape)
        to_heads = (weight * self.theta.unsqueeze(-1)).sum(1)
        return functional.linear(x, to_heads, (bias * self.theta).sum(1))

    def extra_repr(self) -> str:
        """Show the sizes."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, heads={self.heads}"
        )


class AllSetTransformerConv(nn.Module):
    """Attention to the members of every hyperedge, then to the hyperedges of every vertex.

    ``X' = PMA_EV(dropout(ReLU(PMA_VE(X))))`` with, per set and head::

        z = theta + sum over s of softmax_s(LeakyReLU(<theta, K x_s>)) V x_s
        PMA = LN_1(Y + ReLU(rFF(Y))),  Y = LN_0(z)

    Chien et al., You are AllSet: A Multiset Function Framework for Hypergraph Neural Networks (ICLR
    2022, https://arxiv.org/abs/2106.13264), Eqs. 7 and 8 (``PMA`` lists where the official code
    differs from them; this is the official code). The ReLU and dropout after the layer are left to
    the caller, as for every layer here. Published defaults: 1 head, 2 linear maps in rFF, dropout
    0.5, and self-loops added to the hypergraph.

    The softmax takes an incidence value as a multiplicity, and w_e h_ve in its place where
    hyperedges go into vertices. An isolated vertex comes out as a learned constant, the same for
    all of them: what PMA makes of an empty set. An empty hyperedge has no vertex to go to.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result, a multiple of ``heads``.
        hidden_channels: channels of the hyperedges, a multiple of ``heads``; default out_channels.
        heads: attention heads, concatenated.
        num_layers: linear maps of each rFF.
        dropout: of the hyperedge features.

    Example:
        >>> import torch
        >>> from hypergraph import AllSetTransformerConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> AllSetTransformerConv(8, 16, heads=4)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        heads: int = 1,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive_int("out_channels", out_channels)
        hidden = out_channels if hidden_channels is None else hidden_channels
        check_positive_int("hidden_channels", hidden)
        self.dropout = check_fraction("dropout", dropout)
        self.v2e = PMA(in_channels, hidden, heads, num_layers)
        self.e2v = PMA(hidden, out_channels, heads, num_layers)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.v2e.reset_parameters()
        self.e2v.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: an operator with members over N vertices, or a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit, or the operator lists
                no members.
        """
        x = check_features(x, self.v2e.in_channels)
        check_layer_dtype(x, self.v2e.value.weight)
        members = as_incidence(hypergraph, x).with_members()
        edges = functional.relu(self.v2e(x, members, "edges"))
        edges = functional.dropout(edges, self.dropout, self.training)
        return self.e2v(edges, members, "nodes")

    def extra_repr(self) -> str:
        """Show the dropout."""
        return f"dropout={self.dropout}"
