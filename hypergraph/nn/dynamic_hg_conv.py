"""Convolution on a hypergraph built from its own input."""

import inspect
from typing import Literal, overload

from torch import Tensor, nn

from hypergraph._checks import check_positive_int
from hypergraph.construct import KNN, Construction
from hypergraph.construct.knn import Weighting
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import HGNNConv
from hypergraph_kernels.knn import Metric


class DynamicHGConv(nn.Module):
    """Hypergraph convolution on hyperedges found in the features, anew at every call.

    ``H = construction(X)``, ``X' = conv(X, H)``; by default
    ``X' = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 (X Theta + b)``

    The construction is k nearest neighbours by default (Jiang et al., Dynamic Hypergraph Neural
    Networks, IJCAI 2019, build theirs so); any construction, or ``Fusion`` of several, may take
    its place. So may any convolution of ``hypergraph.nn`` take that of ``HGNNConv``; one that needs
    members (attention, for example) goes with a construction that lists them. Zero degrees,
    isolated vertices and precision are as that convolution has them. An activation is left to the
    caller.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        k: members per hyperedge, the vertex itself included.
        threshold: distance beyond which neighbours are left out; None keeps all k.
        metric: ``"cosine"`` (1 - cos), ``"euclidean"`` or ``"dot"``.
        weighting: None or ``"rbf"``, see ``KNN``.
        bias: add b; given to the class ``conv`` if it has such an argument.
        construction: replaces the KNN of ``k``, ``threshold``, ``metric`` and ``weighting``.
        return_hypergraph: also return the incidence; may be overridden in a call.
        conv: the convolution: a class, made with ``in_channels`` and ``out_channels``, or an
            instance, a module ``(x, hypergraph) -> x'`` or ``(x, x0, hypergraph) -> x'``.

    Raises:
        TypeError, ValueError: bad arguments, or an instance of ``conv`` with other channels.

    Example:
        >>> import torch
        >>> from hypergraph import DynamicHGConv
        >>> layer = DynamicHGConv(64, 128, k=5)
        >>> layer(torch.randn(2, 256, 64)).shape
        torch.Size([2, 256, 128])
        >>> from hypergraph import HGNNPConv, EpsilonBall
        >>> ball = EpsilonBall(2.0, metric="euclidean")
        >>> DynamicHGConv(8, 4, construction=ball, conv=HGNNPConv)(torch.randn(30, 8)).shape
        torch.Size([30, 4])
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
        conv: nn.Module | type[nn.Module] = HGNNConv,
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
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.conv = _convolution(conv, in_channels, out_channels, bias)
        self.return_hypergraph = return_hypergraph
        names = inspect.signature(self.conv.forward).parameters
        self._needs_first = "x0" in names
        self._takes_no_first = "hypergraph" in names and "x0" not in names

    @overload
    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        return_hypergraph: None = None,
        x0: Tensor | None = None,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        *,
        return_hypergraph: Literal[False],
        x0: Tensor | None = None,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        *,
        return_hypergraph: Literal[True],
        x0: Tensor | None = None,
    ) -> tuple[Tensor, Incidence]: ...

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        batch: Tensor | None = None,  # [N]
        return_hypergraph: bool | None = None,
        x0: Tensor | None = None,  # [N, ...] or [B, N, ...]
    ) -> Tensor | tuple[Tensor, Incidence]:
        """Build the hypergraph of x and convolve.

        Args:
            x: [N, in_channels], or [B, N, in_channels] with one hypergraph per sample.
            batch: [N] int64 with x of shape [N, in_channels]: the sample of every vertex.
            return_hypergraph: also return the incidence; None for the layer's setting.
            x0: the first features, for convolutions that want them (UniGCNII, ED-HNN).

        Returns:
            What the convolution gives, in general the shape of x with out_channels channels; with
            it the incidence if asked for.

        Raises:
            ValueError, TypeError: a shape or dtype does not fit, or x is not finite; or ``x0`` is
                missing, or given to a convolution that takes none.
        """
        if self._needs_first if x0 is None else self._takes_no_first:
            verb = "be given with" if x0 is None else "be left out with"
            raise ValueError(
                f"`x0` must {verb} {type(self.conv).__name__}, which is called as "
                f"conv({', '.join(inspect.signature(self.conv.forward).parameters)})"
            )
        hypergraph = self.construction(x, batch)
        out = self.conv(x, hypergraph) if x0 is None else self.conv(x, x0, hypergraph)
        wanted = self.return_hypergraph if return_hypergraph is None else return_hypergraph
        return (out, hypergraph) if wanted else out


def _convolution(conv: object, in_channels: int, out_channels: int, bias: bool) -> nn.Module:
    """Make an instance of a class, or check one that was given."""
    if isinstance(conv, type) and issubclass(conv, nn.Module):
        names = inspect.signature(conv).parameters
        if not {"in_channels", "out_channels"} <= names.keys():
            raise TypeError(
                f"`conv` must be a class with in_channels and out_channels, got {conv.__name__}; "
                "pass an instance of it"
            )
        if "bias" in names:
            return conv(in_channels=in_channels, out_channels=out_channels, bias=bias)
        if not bias:
            raise ValueError(
                f"`bias` must be True with {conv.__name__}, which has no such argument, got False; "
                "pass an instance of it as `conv`"
            )
        return conv(in_channels=in_channels, out_channels=out_channels)
    if not isinstance(conv, nn.Module):
        kind = conv.__name__ if isinstance(conv, type) else type(conv).__name__
        raise TypeError(
            f"`conv` must be a convolution (x, hypergraph) -> x', a class or an instance, "
            f"got {kind}; for example conv=HGNNPConv"
        )
    for name, given in (("in_channels", in_channels), ("out_channels", out_channels)):
        own = getattr(conv, name, getattr(conv, "channels", given))
        if own != given:
            raise ValueError(
                f"`{name}` must be that of `conv`, {own}, got {given}; give both the same channels"
            )
    return conv
