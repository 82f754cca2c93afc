"""Convolution on a hypergraph built from its own input."""

from typing import Literal, overload

from torch import Tensor, nn

from hypergraph.construct import KNN, Construction
from hypergraph.construct.knn import Weighting
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import HGNNConv
from hypergraph_kernels.nearest_neighbors import Metric


class DynamicHGConv(nn.Module):
    """Hypergraph convolution on hyperedges found in the features, anew at every call.

    ``H = construction(X)``, then ``X' = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 (X Theta + b)``

    The construction is k nearest neighbours by default (Jiang et al., Dynamic Hypergraph Neural
    Networks, IJCAI 2019, build theirs so); any construction, or ``Fusion`` of several, may take
    its place. An activation is left to the caller.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        k: members per hyperedge, the vertex itself included.
        threshold: distance beyond which neighbours are left out; None keeps all k.
        metric: ``"cosine"`` (1 - cos), ``"euclidean"`` or ``"dot"``.
        weighting: None or ``"rbf"``, see ``KNN``.
        bias: add b.
        construction: replaces the KNN of ``k``, ``threshold``, ``metric`` and ``weighting``.
        return_hypergraph: also return the incidence; may be overridden in a call.

    Example:
        >>> import torch
        >>> from hypergraph import DynamicHGConv
        >>> layer = DynamicHGConv(64, 128, k=5)
        >>> layer(torch.randn(2, 256, 64)).shape
        torch.Size([2, 256, 128])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int = 25,
        threshold: float | None = 0.5,
        metric: Metric = "cosine",
        weighting: Weighting | None = None,
        bias: bool = True,
        construction: Construction | None = None,
        return_hypergraph: bool = False,
    ) -> None:
        super().__init__()
        if construction is None:
            construction = KNN(k, metric, threshold, weighting)
        elif isinstance(construction, type) or not callable(construction):
            kind = construction if isinstance(construction, type) else type(construction)
            raise TypeError(
                f"`construction` must be a module x -> incidence, got {kind.__name__}; "
                "pass an instance, for example KNN(k=5)"
            )
        self.construction = construction
        self.conv = HGNNConv(in_channels, out_channels, bias)
        self.return_hypergraph = return_hypergraph

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.conv.in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.conv.out_channels

    @overload
    def forward(
        self, x: Tensor, batch: Tensor | None = None, return_hypergraph: None = None
    ) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, batch: Tensor | None = None, *, return_hypergraph: Literal[False]
    ) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, batch: Tensor | None = None, *, return_hypergraph: Literal[True]
    ) -> tuple[Tensor, Incidence]: ...

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        batch: Tensor | None = None,  # [N]
        return_hypergraph: bool | None = None,
    ) -> Tensor | tuple[Tensor, Incidence]:
        """Build the hypergraph of x and convolve.

        Args:
            x: [N, in_channels], or [B, N, in_channels] with one hypergraph per sample.
            batch: [N] int64 with x of shape [N, in_channels]: the sample of every vertex.
            return_hypergraph: also return the incidence; None for the layer's setting.

        Returns:
            The shape of x with out_channels channels; with it the incidence if asked for.

        Raises:
            ValueError, TypeError: a shape or dtype does not fit, or x is not finite.
        """
        hypergraph = self.construction(x, batch)
        out = self.conv(x, hypergraph)
        wanted = self.return_hypergraph if return_hypergraph is None else return_hypergraph
        return (out, hypergraph) if wanted else out
