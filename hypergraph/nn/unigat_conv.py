"""The convolution of UniGNN modelled on GAT."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergraph._checks import (
    check_features,
    check_finite_number,
    check_fraction,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.incidence._pairs import Reduce, check_reduce
from hypergraph.nn._attention import attend_to_nodes
from hypergraph.nn.hgnn_conv import as_incidence
from hypergraph.nn.unignn import glorot, head_scores, normalize_rows


class UniGATConv(nn.Module):
    """Attention of every vertex over its hyperedges.

    ``x'_v = sum over e of alpha_ve y_e`` for each head, where ``y_e`` is the mean over the members
    of e of ``Theta x_u`` and ``alpha_ve = w_e h_ve exp(s_ve) / (their sum over the hyperedges of
    v)`` with ``s_ve = LeakyReLU(a_e . y_e)``, or ``LeakyReLU(a_v . Theta x_v + a_e . y_e)`` with
    ``vertex_score``.

    Huang and Yang, UniGNN (IJCAI 2021, https://arxiv.org/abs/2105.00956), the layer of UniGAT. The
    paper's score has both terms; the official code declares a_v and leaves it out of the forward
    pass, as did DHG up to 0.9.6, and so does the default here. DHG clamps scores to [0.001, 5],
    which stops the gradient of every negative score and lets weights only into y_e; neither is done
    here. Theta has no bias by default, as in the official code (DHG's has one).

    Needs an operator that lists its members. The official code is unweighted; with weights,
    w_e h_ve is the multiplicity of a hyperedge in the softmax, so that a hyperedge of weight 0 is
    absent and a pair given twice counts twice. An isolated vertex gives 0, plus its own term with
    ``skip_sum``; an empty hyperedge contributes nothing.

    Args:
        in_channels: channels of x.
        out_channels: channels of one head; heads are concatenated.
        heads: attention heads (8 in the official models, 1 in their last layer).
        dropout: of the attention, while training.
        negative_slope: of the LeakyReLU.
        vertex_score: let the vertex take part in the score.
        skip_sum: add Theta x to the result, after the norm.
        bias: add b to Theta x, before propagation.
        v2e_reduce: how members make a hyperedge, see ``Incidence.v2e``.
        use_norm: divide the rows by their norm, through which no gradient flows.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, UniGATConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> UniGATConv(8, 16, heads=2)(torch.randn(4, 8), h).shape
        torch.Size([4, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 8,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        vertex_score: bool = False,
        skip_sum: bool = False,
        bias: bool = False,
        v2e_reduce: Reduce = "mean",
        use_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.heads = check_positive_int("heads", heads)
        self.dropout = check_fraction("dropout", dropout)
        self.negative_slope = check_finite_number("negative_slope", negative_slope)
        self.skip_sum = skip_sum
        check_reduce("v2e_reduce", v2e_reduce)
        self.v2e_reduce: Reduce = v2e_reduce
        self.use_norm = use_norm
        self.theta = nn.Linear(in_channels, heads * out_channels, bias=bias)
        self.att_e = nn.Parameter(torch.empty(heads, out_channels))
        self.att_v = nn.Parameter(torch.empty(heads, out_channels)) if vertex_score else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Theta as ``nn.Linear`` does and a_e, a_v from Glorot's uniform, as the authors."""
        self.theta.reset_parameters()
        for attention in (self.att_e, self.att_v):
            if attention is not None:
                glorot(attention, self.heads + self.out_channels)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: an operator over N vertices that lists its members (a batched one with
                [B, N, ...]), or a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with heads x out_channels channels.

        Raises:
            ValueError: the features and the hypergraph do not fit.
            TypeError: a dtype does not fit, or the operator lists no members.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        z = self.theta(x)
        members = as_incidence(hypergraph, z).with_members()
        with without_autocast(z.device):
            features = z.to(propagation_dtype(z))
            edges = members.v2e(features, self.v2e_reduce)
            scores = members.gather_edges(head_scores(edges, self.att_e))
            if self.att_v is not None:
                scores = scores + members.gather_nodes(head_scores(features, self.att_v))
            alpha = members.incidence_softmax(F.leaky_relu(scores, self.negative_slope), "edges")
            alpha = F.dropout(alpha, self.dropout, self.training)
            out = attend_to_nodes(members, edges, alpha)
            if self.use_norm:
                out = normalize_rows(out)
            if self.skip_sum:
                out = out + features
            return out.to(z.dtype)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, heads={self.heads}"
        )
