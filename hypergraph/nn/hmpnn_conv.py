"""HMPNN: messages between vertices and hyperedges that both have features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import (
    check_choice,
    check_features,
    check_float,
    check_fraction,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph.incidence import Incidence, Members
from hypergraph.incidence.pair_list import PairList
from hypergraph.nn._mlp import RowBatchNorm
from hypergraph.nn._pair_mlp import MeanOrSum, aggregate
from hypergraph.nn.hgnn_conv import as_incidence


class HMPNNConv(nn.Module):
    """Vertices and hyperedges exchange messages and both are updated.

    With features x_v and y_e, a sum or a mean as AGG, the logistic function s and batch norms N::

        r_e  = AGG over members v of s(Theta_v x_v + b_v)
        q_v  = AGG over hyperedges e of v of s(Theta_e [y_e || r_e] + b_e)
        x'_v = s(dropout(N_v x_v) + q_v),   y'_e = s(dropout(N_e y_e) + r_e)

    Heydari and Livi, Message Passing Neural Networks for Hypergraphs (ICANN 2022,
    https://arxiv.org/abs/2203.16995), with the functions and defaults of TopoModelX, the only
    public implementation. In training, pairs are dropped at random for either direction
    (adjacency dropout), and the dropout of features multiplies those that stay by
    ``(C + number dropped) / C``, per row of C channels.

    TopoModelX differs in training: its adjacency dropout changes values that it never uses, so that
    nothing is dropped; its dropout counts rows where channels are meant, takes the probability to
    drop for the one to keep, and changes the batch norm's output in place. It fails where the last
    vertex is isolated.

    AGG takes h_ve as a multiplicity, towards vertices w_e h_ve. An isolated vertex has q_v = 0 and
    an empty hyperedge r_e = 0; both keep their own features. In evaluation any incidence operator
    serves; adjacency dropout needs one with members. A batch norm in training with fewer than two
    rows, as of a single hyperedge, uses its running statistics.

    Args:
        channels: channels of the vertices.
        edge_channels: channels of the hyperedges; default ``channels``.
        reduce: AGG, ``"sum"`` or ``"mean"``.
        adjacency_dropout: probability of a pair to be dropped; the others are multiplied by
            ``1 / (1 - p)``.
        update_dropout: probability of a feature to be dropped before the update.

    Example:
        >>> import torch
        >>> from hypergraph import HMPNNConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x, y = HMPNNConv(8)(torch.randn(4, 8), h, torch.randn(2, 8))
        >>> x.shape, y.shape
        (torch.Size([4, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        channels: int,
        edge_channels: int | None = None,
        reduce: MeanOrSum = "sum",
        adjacency_dropout: float = 0.7,
        update_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.channels = check_positive_int("channels", channels)
        edge_channels = channels if edge_channels is None else edge_channels
        self.edge_channels = check_positive_int("edge_channels", edge_channels)
        check_choice("reduce", reduce, ("mean", "sum"))
        self.reduce: MeanOrSum = reduce
        self.adjacency_dropout = check_fraction("adjacency_dropout", adjacency_dropout)
        self.update_dropout = check_fraction("update_dropout", update_dropout)
        self.theta_v = nn.Linear(channels, edge_channels)
        self.theta_e = nn.Linear(2 * edge_channels, channels)
        self.norm_v = RowBatchNorm(channels)
        self.norm_e = RowBatchNorm(edge_channels)

    def reset_parameters(self) -> None:
        """Draw both maps anew, with torch's defaults, and reset the norms."""
        for module in (self.theta_v, self.theta_e, self.norm_v, self.norm_e):
            module.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, channels] or [B, N, channels]
        hypergraph: Incidence | Tensor,
        y: Tensor | None = None,  # [M, edge_channels] or [B, M, edge_channels]
    ) -> tuple[Tensor, Tensor]:
        """Exchange messages.

        Args:
            x: [N, channels] or [B, N, channels].
            hypergraph: any operator over N vertices (with members in training, unless
                ``adjacency_dropout`` is 0), or a ``hyperedge_index`` [2, nnz].
            y: features of the hyperedges, [M, edge_channels] or [B, M, edge_channels]; default
                zeros.

        Returns:
            New features of the vertices and of the hyperedges, of the shapes of x and y.

        Raises:
            ValueError, TypeError: features and hypergraph do not fit.
        """
        x = check_features(x, self.channels)
        check_layer_dtype(x, self.theta_v.weight)
        hypergraph = as_incidence(hypergraph, x)
        y = self._edge_features(y, x, hypergraph.num_edges)
        inward, outward = self._with_dropped_pairs(hypergraph)

        messages = torch.sigmoid(self.theta_v(x))
        received = aggregate(messages, inward, self.reduce, "edges")
        messages = torch.sigmoid(self.theta_e(torch.cat([y.to(received.dtype), received], -1)))
        heard = aggregate(messages, outward, self.reduce, "nodes")
        return self._updated(self.norm_v(x), heard), self._updated(self.norm_e(y), received)

    def _edge_features(self, y: Tensor | None, x: Tensor, num_edges: int) -> Tensor:
        shape = (*x.shape[:-2], num_edges, self.edge_channels)
        if y is None:
            return x.new_zeros(shape)
        y = check_float("y", y)
        if y.shape != shape:
            raise ValueError(
                f"`y` must have shape {list(shape)}, the features of the hyperedges, "
                f"got {list(y.shape)}"
            )
        if y.dtype != x.dtype or y.device != x.device:
            raise TypeError(
                f"`y` must have the dtype and device of `x`, {x.dtype} on {x.device}, "
                f"got {y.dtype} on {y.device}"
            )
        return y

    def _with_dropped_pairs(self, hypergraph: Incidence) -> tuple[Incidence, Incidence]:
        """The hypergraph for either direction."""
        if not self.training or self.adjacency_dropout == 0:
            return hypergraph, hypergraph
        node, hyperedge, value = hypergraph.with_members().members()
        if value is None:
            value = torch.ones(node.shape[0], device=node.device)
        sizes = hypergraph.num_nodes, hypergraph.num_edges, hypergraph.batch_size
        inward, outward = (
            PairList(
                Members(node, hyperedge, functional.dropout(value, self.adjacency_dropout)),
                *sizes,
                hypergraph.hyperedge_weight,
            )._like(hypergraph)
            for _ in range(2)
        )
        return inward, outward

    def _updated(self, own: Tensor, message: Tensor) -> Tensor:
        if self.training and self.update_dropout > 0:
            keep = torch.rand_like(own) >= self.update_dropout
            dropped = (~keep).sum(-1, keepdim=True)
            own = own * keep * (1 + dropped / own.shape[-1])
        return torch.sigmoid(own.to(message.dtype) + message)

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"reduce={self.reduce!r}, adjacency_dropout={self.adjacency_dropout}, "
            f"update_dropout={self.update_dropout}"
        )
