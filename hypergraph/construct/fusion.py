"""Several kinds of hyperedges at once, on one scale."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hypergraph._checks import check_choice, check_features, check_non_negative_number
from hypergraph._numerics import inverse_power, propagation_dtype
from hypergraph.construct._repeat import repeated
from hypergraph.construct.base import Construction
from hypergraph.incidence import Concat, Incidence, Streamed, WeightedSum
from hypergraph.incidence._composite import Composite
from hypergraph.incidence.base import check_fit
from hypergraph.incidence.weighted_sum import mean_node_degree, scaled

FusionMode = Literal["concat", "sum"]


class Fusion(Construction):
    """Build several hypergraphs from the same features and fuse them.

    Learned incidence can have row sums hundreds of times those of a KNN table; so every part is
    first scaled to the mean vertex degree of the first one (per sample), then by its weight. Where
    the first has no degree (a sample without correlations, a graph without edges), the next part
    that has one sets the scale.

    ``"concat"`` puts the hyperedges side by side: permutation-equivariant whenever the parts are.
    ``"sum"`` adds the matrices, as DHFusion does (weights 0.9 and 0.1 in its code): all parts need
    the same number of hyperedges, and column e must belong to vertex e in all of them
    (``CrossCorrelation(omega="tied")``) if the result is to be permutation-equivariant.

    Args:
        constructions: modules ``x -> incidence``, the first of which sets the scale; those that do
            not look at the features count as the same hypergraph in every sample.
        mode: ``"concat"`` or ``"sum"``.
        weights: one non-negative number per part; default ones for concat, and for a sum of two
            parts (0.9, 0.1).
        normalized: scale the parts to the mean degree of the first.

    Returns (from a call):
        ``Concat`` or ``WeightedSum``; ``part_shares`` tells how much each part does in it.

    Raises:
        ValueError, TypeError: bad arguments, or parts that do not fit together.

    Example:
        >>> import torch
        >>> from hypergraph import KNN, CrossCorrelation, Fusion
        >>> Fusion([KNN(3), CrossCorrelation(8, num_edges=5)])(torch.randn(10, 8)).shape
        (10, 15)
    """

    def __init__(
        self,
        constructions: Sequence[Construction],
        mode: FusionMode = "concat",
        weights: Sequence[float] | None = None,
        normalized: bool = True,
    ) -> None:
        super().__init__()
        constructions = list(constructions)
        if not constructions or any(not isinstance(c, nn.Module) for c in constructions):
            kinds = ", ".join(type(c).__name__ for c in constructions) or "none"
            raise TypeError(f"`constructions` must hold modules x -> incidence, got {kinds}")
        self.constructions = nn.ModuleList(constructions)
        check_choice("mode", mode, get_args(FusionMode))
        self.mode: FusionMode = mode
        self.weights = _checked_weights(weights, mode, len(self.constructions))
        self.normalized = normalized

    def construct(self, x: Tensor) -> Incidence:
        """Build from checked features [N, C] or [B, N, C]."""
        parts = [construction(x) for construction in self.constructions]
        return fuse(parts, self.mode, self.weights, self.normalized)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"mode='{self.mode}', weights={self.weights}, normalized={self.normalized}"


def fuse(
    parts: Sequence[Incidence],
    mode: FusionMode = "concat",
    weights: Sequence[float] | None = None,
    normalized: bool = True,
) -> Incidence:
    """Fuse hypergraphs over the same vertices; the rules are those of ``Fusion``.

    ``H = [w_1 H_1, w_2 c_2 H_2, ...]`` or the sum of these, with ``c_i = mean degree of H_1 / mean
    degree of H_i``. Gradients flow through the scale. A part of mean degree 0 stays zero and sets
    no scale: in a sample where H_1 has mean degree 0, the first part that has more takes its place.
    A single hypergraph beside batched ones is repeated for every sample.

    Args:
        parts: operators with equal numbers of vertices and samples.
        mode: ``"concat"`` or ``"sum"``.
        weights: one number per part.
        normalized: scale to the mean degree of the first part.

    Returns:
        ``Concat`` or ``WeightedSum``.

    Example:
        >>> import torch
        >>> from hypergraph import fuse
        >>> from hypergraph.incidence import Dense
        >>> fuse([Dense(torch.eye(2)), Dense(torch.full((2, 1), 50.0))]).to_dense()
        tensor([[1., 0., 1.],
                [0., 1., 1.]])
    """
    check_choice("mode", mode, get_args(FusionMode))
    weights = _checked_weights(weights, mode, len(parts))
    parts = _equally_batched(parts)
    coefficients: list[float | Tensor] = list(weights)
    if normalized and len(parts) > 1:
        dtype = torch.float32
        for part in parts:
            dtype = torch.promote_types(dtype, part.dtype or dtype)
        for part in parts:
            if isinstance(part, Streamed):  # a pass over all tiles: once for scale and convolution
                part.keep_degrees(dtype)
        means = [mean_node_degree(part, dtype) for part in parts]
        target = means[0]
        for mean in means[1:]:
            target = torch.where(target > torch.finfo(dtype).tiny, target, mean)
        for number, mean in enumerate(means[1:], start=1):
            coefficients[number] = weights[number] * (target * inverse_power(mean, -1.0))
    if mode == "sum":
        return WeightedSum(parts, coefficients)
    scale = [isinstance(c, Tensor) or c != 1 for c in coefficients]
    pairs = zip(parts, coefficients, scale, strict=True)
    return Concat([scaled(part, c) if needed else part for part, c, needed in pairs])


def part_shares(
    hypergraph: Incidence,
    x: Tensor,  # [N, C] or [B, N, C]
) -> Tensor:
    """How much each part of a fused hypergraph adds to an HGNN convolution of ``x``.

    With ``y = W D_e^-1 H^T D_v^-1/2 x``, part i adds ``D_v^-1/2 H_i y`` to the output (for a
    concatenation, H_i y_i); its share is the norm of that term over the sum of the norms.

    Args:
        hypergraph: a ``Concat`` or ``WeightedSum``.
        x: vertex features, after Theta if that is of interest.

    Returns:
        [parts], non-negative, summing to 1 (zeros if nothing is added); without gradient.

    Raises:
        TypeError: the operator has no parts.
    """
    if not isinstance(hypergraph, Composite):
        raise TypeError(
            f"`hypergraph` must be a Concat or WeightedSum, got {type(hypergraph).__name__}, "
            "which has no parts"
        )
    x = check_fit(check_features(x), hypergraph)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.to(propagation_dtype(x))
        root = inverse_power(hypergraph.node_degree(x.dtype), -0.5).unsqueeze(-1)
        y, edge_degree = hypergraph.v2e_with_degree(x * root)
        y = y * (hypergraph.weight(y.dtype) * inverse_power(edge_degree, -1.0)).unsqueeze(-1)
        norms = torch.stack([(term * root).norm() for term in hypergraph.e2v_parts(y)])
        return norms * inverse_power(norms.sum(), -1.0)


def _equally_batched(parts: Sequence[Incidence]) -> list[Incidence]:
    """Repeat single hypergraphs for every sample where other parts are batched."""
    samples = [part.batch_size for part in parts if isinstance(part, Incidence)]
    batched = [size for size in samples if size is not None]
    if not batched or len(batched) == len(parts) or len(samples) < len(parts):
        return list(parts)
    return [part if part.batch_size is not None else repeated(part, batched[0]) for part in parts]


def _checked_weights(
    weights: Sequence[float] | None, mode: FusionMode, count: int
) -> tuple[float, ...]:
    if weights is None:
        if mode == "sum" and count == 2:
            return (0.9, 0.1)
        return (1.0,) * count
    if len(weights) != count:
        raise ValueError(f"`weights` must have one entry per part, {count}, got {len(weights)}")
    for weight in weights:
        check_non_negative_number("weights", weight)
    return tuple(float(weight) for weight in weights)
