"""Exact k nearest neighbours, with one rule for ties."""

from typing import get_args

import torch
from torch import Tensor

from hypergraph_kernels._dispatch import Implementation, choose
from hypergraph_kernels.knn import compiled, cpu, reference
from hypergraph_kernels.knn._neighbors import Metric, Neighbors

_TRITON_MAX_K = 128  # one program holds the candidates of a row, about twice as many


def knn(
    x: Tensor,  # [n, channels] or [batch, n, channels]
    k: int,
    metric: Metric = "cosine",
    threshold: float | None = None,
    with_row_mean: bool = False,
    implementation: Implementation = "auto",
) -> Neighbors:
    """Find the k nearest rows of every row in its sample, itself first, then by (distance, index).

    ``"cosine"`` is ``1 - cos``, where a zero row has cosine 0 with all others; ``"euclidean"`` is
    the norm of the difference; ``"dot"`` is minus the inner product.

    Distances come from matrix products in tiles of bounded size, never n x n. Where two candidates
    differ by less than the rounding of such a product, their distances are computed again pair by
    pair, so that equal rows tie exactly and the lower index wins; so are distances as close to the
    threshold.

    Args:
        x: [n, channels] or [batch, n, channels], finite (not checked), of any magnitude; float16
            and bfloat16 are searched in float32.
        k: neighbours wanted, the row itself included; clamped to n.
        metric: the distance.
        threshold: neighbours farther than this are marked in ``kept``; never the row itself.
        with_row_mean: also compute ``row_mean`` (zeros otherwise).
        implementation: ``"auto"``, or a name to force. ``"triton"`` finds at most 128 neighbours.
            ``"reference"`` computes every pair by itself, of plain PyTorch operators only (it needs
            memory for n x n distances, and for n x n x channels products with ``"dot"``).

    Returns:
        Neighbours; no gradient flows through them.

    Raises:
        ValueError, TypeError: a shape, dtype or setting does not fit.

    Example:
        >>> import torch
        >>> from hypergraph_kernels import knn
        >>> found = knn(torch.tensor([[0.0], [1.0], [5.0]]), k=2, metric="euclidean")
        >>> found.nearest
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
        >>> found.distance
        tensor([[0., 1.],
                [0., 1.],
                [0., 4.]])
    """
    _check(x, k, metric, threshold)
    few = min(k, x.shape[-2]) <= _TRITON_MAX_K
    if x.device.type == "cpu":  # half precision takes whatever float32 takes, for the same result
        x = x.to(torch.promote_types(x.dtype, torch.float32))
    fits = compiled.fits(x.shape[-2], k, metric, with_row_mean)
    chosen = choose("knn", implementation, x, triton=few, compiled=fits)
    samples = x.detach() if x.dim() == 3 else x.detach().unsqueeze(0)
    if chosen == "reference":
        points = samples.to(torch.promote_types(x.dtype, torch.float32))
        found = reference.search(points, k, metric, threshold, with_row_mean)
    else:
        found = Neighbors(*_knn(samples, k, metric, threshold, with_row_mean, chosen))
    return found if x.dim() == 3 else Neighbors(*(field.squeeze(0) for field in found))


@torch.library.custom_op("hypergraph_kernels::knn", mutates_args=())
def _knn(
    x: Tensor,  # [batch, n, channels]
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        points = x.to(torch.promote_types(x.dtype, torch.float32))
        if implementation == "triton":
            from hypergraph_kernels.knn import triton_kernels

            return triton_kernels.search(points, k, metric, threshold, with_row_mean)
        if implementation == "compiled":
            return compiled.search(points, k, threshold)
        return cpu.search(points, k, metric, threshold, with_row_mean)


@_knn.register_fake
def _(
    x: Tensor,
    k: int,
    metric: str,
    threshold: float | None,
    with_row_mean: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples, n, _ = x.shape
    shape = (samples, n, min(k, n))
    distance = x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))
    nearest = x.new_empty(shape, dtype=torch.int64)
    kept = x.new_empty(shape, dtype=torch.bool)
    return nearest, distance, kept, distance.new_empty(samples, n)


def _check(x: Tensor, k: int, metric: Metric, threshold: float | None) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`x` must be a floating-point tensor, got {kind}")
    if x.dim() not in (2, 3):
        raise ValueError(
            f"`x` must have shape [n, channels] or [batch, n, channels], got {list(x.shape)}"
        )
    if isinstance(k, (bool, float)) or k != int(k):
        raise TypeError(f"`k` must be an int, got {k!r}")
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    if threshold is not None and threshold != threshold:
        raise ValueError("`threshold` must be a distance or None, got NaN")
    if metric not in get_args(Metric):
        expected = ", ".join(repr(choice) for choice in get_args(Metric))
        raise ValueError(f"`metric` must be one of {expected}, got {metric!r}")
