"""AllDeepSets: sums of MLPs from vertices to hyperedges and back."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import (
    check_choice,
    check_features,
    check_fraction,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph._numerics import inverse_power, propagation_dtype
from hypergraph.incidence import Incidence
from hypergraph.nn._mlp import MLP, Norm
from hypergraph.nn._pair_mlp import MeanOrSum, aggregate
from hypergraph.nn.hgnn_conv import as_incidence


class DeepSet(nn.Module):
    """Half a layer of AllDeepSets: ``ReLU(f_dec(AGG over the set of dropout(ReLU(f_enc(x)))))``."""

    def __init__(self, encoder: MLP, decoder: MLP, reduce: MeanOrSum, degree_norm: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.reduce = reduce
        self.degree_norm = degree_norm

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Incidence, to: Literal["edges", "nodes"]) -> Tensor:
        """Map the members of every hyperedge to its features, or hyperedges to vertices."""
        sent = functional.relu(self.encoder(x))
        sent = functional.dropout(sent, self.encoder.dropout, self.training)
        if self.degree_norm:
            dtype = propagation_dtype(sent)
            roots = [
                inverse_power(degree, -0.5).unsqueeze(-1).to(dtype)
                for degree in (hypergraph.node_degree(dtype), hypergraph.edge_degree(dtype))
            ]
            source, target = roots if to == "edges" else reversed(roots)
            got = aggregate(sent * source, hypergraph, self.reduce, to) * target
        else:
            got = aggregate(sent, hypergraph, self.reduce, to)
        return functional.relu(self.decoder(got.to(sent.dtype)))


class AllDeepSetsConv(nn.Module):
    """MLP, mean over members, MLP; then the same from hyperedges to vertices.

    ``X_e = f(H^T, X)``, ``X' = f(H, dropout(X_e))`` with, for every set, ::

        f = ReLU(f_dec(AGG over s of n_s dropout(ReLU(f_enc(x_s)))))

    Chien et al., You are AllSet: A Multiset Function Framework for Hypergraph Neural Networks (ICLR
    2022, https://arxiv.org/abs/2106.13264), AllDeepSets. The ReLU at the end belongs to f in the
    official code and is kept; its dropout after the layer is left to the caller. The pairs' factor
    n is 1, or ``1/sqrt(d_v delta_e)`` with ``degree_norm`` (``normtype="deg_half_sym"``). The paper
    sums; the mean is the default of the official command (of ED-HNN's for AllDeepSets, a sum), as
    are two-layer MLPs with LayerNorm, also at their input, and dropout 0.5.

    AGG takes h_ve as a multiplicity, towards vertices w_e h_ve: a mean divides by their sum. The
    layer acts on rows in between, so that any incidence operator serves. An isolated vertex comes
    out as ``ReLU(f_dec(0))``, a learned constant, as in the official code (which loses vertices at
    the end of the numbering, and where TopoModelX gives NaN); an empty hyperedge has no vertex to
    go to. TopoModelX puts one more linear map with a ReLU after the mean: f_dec of 3 layers.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        hidden_channels: channels of the hyperedges and inside the MLPs; default out_channels.
        encoder_layers: linear maps of f_enc.
        decoder_layers: linear maps of f_dec.
        reduce: AGG, ``"mean"`` or ``"sum"``.
        dropout: inside the MLPs, before AGG, and of the hyperedges.
        norm: inside the MLPs, ``"ln"``, ``"bn"`` or None.
        input_norm: the MLPs begin with a norm.
        degree_norm: divide by the roots of both degrees.

    Example:
        >>> import torch
        >>> from hypergraph import AllDeepSetsConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> AllDeepSetsConv(8, 16)(torch.randn(4, 8), h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        reduce: MeanOrSum = "mean",
        dropout: float = 0.5,
        norm: Norm = "ln",
        input_norm: bool = True,
        degree_norm: bool = False,
    ) -> None:
        super().__init__()
        check_positive_int("out_channels", out_channels)
        hidden = out_channels if hidden_channels is None else hidden_channels
        check_positive_int("hidden_channels", hidden)
        check_positive_int("encoder_layers", encoder_layers)
        check_positive_int("decoder_layers", decoder_layers)
        check_choice("reduce", reduce, ("mean", "sum"))
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.dropout = check_fraction("dropout", dropout)

        def half(source: int, target: int) -> DeepSet:
            return DeepSet(
                MLP(source, hidden, hidden, encoder_layers, dropout, norm, input_norm),
                MLP(hidden, hidden, target, decoder_layers, dropout, norm, input_norm),
                reduce,
                degree_norm,
            )

        self.v2e = half(in_channels, hidden)
        self.e2v = half(hidden, out_channels)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, with torch's defaults, as the authors."""
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
            hypergraph: any operator over N vertices, or a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels, all of them >= 0.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.v2e.encoder.lins[0].weight)  # type: ignore[arg-type]
        hypergraph = as_incidence(hypergraph, x)
        edges = self.v2e(x, hypergraph, "edges")
        edges = functional.dropout(edges, self.dropout, self.training)
        return self.e2v(edges, hypergraph, "nodes")

    def extra_repr(self) -> str:
        """Show the aggregation."""
        half = self.v2e
        return f"reduce={half.reduce!r}, dropout={self.dropout}, degree_norm={half.degree_norm}"
