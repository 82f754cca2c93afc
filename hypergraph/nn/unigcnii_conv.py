"""The deep layer of UniGNN."""

import math
from typing import Literal

from torch import Tensor, nn

from hypergraph._checks import (
    check_choice,
    check_features,
    check_fraction,
    check_layer_dtype,
    check_like,
    check_positive_int,
    check_positive_number,
)
from hypergraph._numerics import propagation_dtype
from hypergraph.incidence import Incidence
from hypergraph.nn.unignn import normalize_rows, unigcn_propagate


class UniGCNIIConv(nn.Module):
    """Convolution for deep models: a share of the first features, and a map near the identity.

    ``X^ = (1 - alpha) P X + alpha X_0``, then ``X' = (1 - beta) X^ + beta X^ Theta`` with
    ``beta = log(lambda / l + 1)`` in layer l, and P the propagation of UniGCN::

        (P X)_v = d_v^-1/2 sum over e of w_e h_ve dbar_e^-1/2 (mean over e of X)
        dbar_e = mean over e of d_v

    Huang and Yang, UniGNN (IJCAI 2021, https://arxiv.org/abs/2105.00956), the layer of UniGCNII.
    Defaults are those of the official model: alpha = 0.1, lambda = 0.5, l counted from 1, no bias.
    The model applies a ReLU after every layer and decays Theta twenty times as much (0.01) as its
    first and last linear map.

    The official code is unweighted: with weights, W enters P once, in ``d_v = sum of w_e h_ve`` and
    in the sum over hyperedges, as for DHG's UniGCN. An isolated vertex has P X = 0 and keeps
    alpha X_0 (the official code puts 1 for its infinite d_v^-1/2, to the same end); an empty
    hyperedge contributes nothing, where the official code has 0 / 0 if ever it comes to that.
    TopoModelX sums members in place of the mean and refuses isolated vertices; its degree dbar_e is
    a mean all the same, so that neither setting of ``v2e_reduce`` is its layer.

    Args:
        channels: channels of x, of x0 and of the result.
        layer: l, the place of this layer in the model, from 1.
        alpha: share of X_0, in [0, 1].
        lam: lambda, positive.
        beta: share of Theta in [0, 1], in place of ``log(lam / layer + 1)``.
        v2e_reduce: how members make a hyperedge and dbar_e, ``"mean"`` or ``"sum"``
            (``first_aggregate`` of the official code).
        use_norm: divide the rows of P X by their norm, through which no gradient flows.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, UniGCNIIConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x0 = torch.randn(4, 8)
        >>> x = x0
        >>> for layer in (UniGCNIIConv(8, layer=1), UniGCNIIConv(8, layer=2)):
        ...     x = layer(x, x0, h).relu()
        >>> x.shape
        torch.Size([4, 8])
    """

    def __init__(
        self,
        channels: int,
        layer: int = 1,
        alpha: float = 0.1,
        lam: float = 0.5,
        beta: float | None = None,
        v2e_reduce: Literal["mean", "sum"] = "mean",
        use_norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = check_positive_int("channels", channels)
        self.alpha = check_fraction("alpha", alpha)
        if beta is None:
            layer = check_positive_int("layer", layer)
            beta = math.log(check_positive_number("lam", lam) / layer + 1)
        else:
            beta = check_fraction("beta", beta)
        self.beta = beta
        check_choice("v2e_reduce", v2e_reduce, ("mean", "sum"))
        self.v2e_reduce = v2e_reduce
        self.use_norm = use_norm
        self.theta = nn.Linear(channels, channels, bias=False)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.channels

    def reset_parameters(self) -> None:
        """Draw Theta from U(-1/sqrt(channels), 1/sqrt(channels)), as the authors."""
        self.theta.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, channels] or [B, N, channels]
        x0: Tensor,  # the shape of x
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, channels] or [B, N, channels].
            x0: the shape of x, what entered the first layer.
            hypergraph: any incidence operator over N vertices (a batched one with [B, N, ...]), or
                a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.channels)
        check_layer_dtype(x, self.theta.weight)
        x0 = check_like("x0", x0, x)
        features = x.to(propagation_dtype(x))
        smooth = unigcn_propagate(features, hypergraph, self.v2e_reduce)
        if self.use_norm:
            smooth = normalize_rows(smooth)
        mixed = (1 - self.alpha) * smooth + self.alpha * x0.to(features.dtype)
        mapped = self.theta(mixed.to(x.dtype))
        return ((1 - self.beta) * mixed + self.beta * mapped.to(mixed.dtype)).to(mapped.dtype)

    def extra_repr(self) -> str:
        """Show the sizes and shares."""
        return f"channels={self.channels}, alpha={self.alpha:g}, beta={self.beta:g}"
