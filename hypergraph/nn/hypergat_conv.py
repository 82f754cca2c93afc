"""HyperGAT: attention to vertices within hyperedges, and to hyperedges within vertices."""

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
from hypergraph.incidence import Incidence, MemberIncidence
from hypergraph.nn._attention import attend_to_edges, attend_to_nodes
from hypergraph.nn.hgnn_conv import as_incidence


class HyperGATConv(nn.Module):
    """Dual attention: of hyperedges to their members, and of vertices to their hyperedges.

    ``form="paper"``, without biases::

        alpha_ev = softmax over members v of a_1^T LeakyReLU(W_1 x_v)
        f_e      = ReLU(sum over v of alpha_ev W_1 x_v)
        beta_ve  = softmax over hyperedges e of v of a_2^T LeakyReLU([W_2 f_e || W_1 x_v])
        x'_v     = sum over e of beta_ve W_2 f_e

    ``form="code"``, with a learned context c and maps U, W (identity with ``transform=False``), T::

        alpha_ev = softmax over members v of LeakyReLU(a_1^T [c || U x_v])
        f_e      = sum over v of alpha_ev W x_v
        beta_ve  = softmax over hyperedges e of v of LeakyReLU(a_2^T [U x_v || T f_e])
        x'_v     = sum over e of beta_ve f_e

    Ding et al., Be More with Less: Hypergraph Attention Networks for Inductive Text Classification
    (EMNLP 2020, https://aclanthology.org/2020.emnlp-main.399), its node-level and edge-level
    attention, and the released code, which differs as shown. The activation after the layer (ReLU,
    or in the code ELU except at the end) is left to the caller. Dropout is where the code has it:
    of the scores, before the softmax, and of f_e.

    In the paper's form the term ``W_1 x_v`` of beta is the same for all hyperedges of v and cancels
    in the softmax: it is not computed, and that half of a_2, kept for its shape, gets gradient 0.
    TopoModelX has the paper's parameters, but takes its softmax over a dimension of size 1, which
    makes every attention 1, and reads hyperedges by the numbers of vertices, so that it raises
    IndexError on most hypergraphs; its slope is 0.01.

    The softmaxes take h_ve as a multiplicity, towards vertices w_e h_ve. An isolated vertex comes
    out as 0, where the code gives the mean over all hyperedges (its mask is a large finite number).

    Args:
        in_channels: channels of x.
        out_channels: channels of the hyperedges and of the result.
        form: ``"paper"`` or ``"code"``.
        transform: form ``"code"`` only: map x by W; False needs in_channels = out_channels.
        negative_slope: of the LeakyReLU.
        dropout: of the scores and of f_e.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, HyperGATConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> HyperGATConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        form: Literal["paper", "code"] = "paper",
        transform: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        check_choice("form", form, ("paper", "code"))
        check_non_negative_number("negative_slope", negative_slope)
        if not transform and (form == "paper" or in_channels != out_channels):
            raise ValueError(
                '`transform` may be False with form="code" and in_channels = out_channels, got '
                f"form={form!r} with {in_channels} and {out_channels}"
            )
        self.form = form
        self.negative_slope = negative_slope
        self.dropout = check_fraction("dropout", dropout)

        def linear(channels: int) -> nn.Linear:
            return nn.Linear(channels, out_channels, bias=False)

        self.of_vertices = linear(in_channels) if transform else nn.Identity()  # W_1, W
        self.of_hyperedges = linear(out_channels)  # W_2, T
        self.to_scores = linear(in_channels) if form == "code" else None  # U
        self.context = nn.Parameter(torch.empty(out_channels)) if form == "code" else None
        self.a1 = nn.Parameter(torch.empty(out_channels * (1 if form == "paper" else 2)))
        self.a2 = nn.Parameter(torch.empty(2 * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw everything from U(-1/sqrt(out_channels), 1/sqrt(out_channels)), as the authors."""
        bound = self.out_channels**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

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
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.of_hyperedges.weight)
        members = as_incidence(hypergraph, x).with_members()
        return self._paper(x, members) if self.to_scores is None else self._code(x, members)

    def _paper(self, x: Tensor, members: MemberIncidence) -> Tensor:
        z = self.of_vertices(x)
        scores = members.gather_nodes(self._leaky(z) @ self.a1.to(z.dtype).unsqueeze(-1))
        y = self.of_hyperedges(functional.relu(self._edges(z, scores, members)))
        of_edges = self.a2[: self.out_channels].to(y.dtype).unsqueeze(-1)
        return self._nodes(y, members.gather_edges(self._leaky(y) @ of_edges), members)

    def _code(self, x: Tensor, members: MemberIncidence) -> Tensor:
        assert self.to_scores is not None and self.context is not None
        of_context, of_members = self.a1.chunk(2)
        of_vertices, of_edges = self.a2.chunk(2)
        # a^T (U x) = (a^T U) x: only two products per vertex and one per hyperedge.
        to_two = torch.stack([of_members, of_vertices]) @ self.to_scores.weight
        first, second = functional.linear(x, to_two).split(1, -1)
        first = first + (self.context * of_context).sum().to(first.dtype)
        scores = self._leaky(members.gather_nodes(first))
        edges = self._edges(self.of_vertices(x), scores, members)
        third = functional.linear(edges, of_edges.unsqueeze(0) @ self.of_hyperedges.weight)
        scores = members.gather_nodes(second) + members.gather_edges(third)
        return self._nodes(edges, self._leaky(scores), members)

    def _edges(self, z: Tensor, scores: Tensor, members: MemberIncidence) -> Tensor:
        dtype = propagation_dtype(z)
        with without_autocast(z.device):
            alpha = members.incidence_softmax(self._dropped(scores.to(dtype)), "nodes")
            return self._dropped(attend_to_edges(members, z.to(dtype), alpha)).to(z.dtype)

    def _nodes(self, y: Tensor, scores: Tensor, members: MemberIncidence) -> Tensor:
        dtype = propagation_dtype(y)
        with without_autocast(y.device):
            beta = members.incidence_softmax(self._dropped(scores.to(dtype)), "edges")
            return attend_to_nodes(members, y.to(dtype), beta).to(y.dtype)

    def _leaky(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.negative_slope)

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def extra_repr(self) -> str:
        """Show the form."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"form={self.form!r}, dropout={self.dropout}"
        )
