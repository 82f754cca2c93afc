"""Rows of several hypergraphs, and what belongs to which."""

import torch
from torch import Tensor

from hypergraph._checks import (
    check_batch,
    check_device,
    check_features,
    check_float,
    check_non_negative,
    check_positive_int,
    is_eager,
)
from hypergraph._numerics import propagation_dtype
from hypergraph.incidence._pairs import Reduce, reduce_pairs, softmax_pairs


class Samples:
    """Features of the vertices (or hyperedges) of ``count`` hypergraphs, as one list of rows.

    Args:
        x: [N, C], or [B, N, C] for B samples of N rows each.
        batch: [N] the sample of every row of x [N, C]; None for one sample.
        num_samples: how many samples ``batch`` counts; default the largest entry + 1.
        weight: [N] or [B, N] multiplicities; None for ones.
        channels: what C must be; None for any.
    """

    def __init__(
        self,
        x: object,
        batch: Tensor | None,
        num_samples: int | None,
        weight: Tensor | None,
        channels: int | None = None,
    ) -> None:
        x = check_features(x, channels)
        batch = check_batch(batch, x)
        self.shape = x.shape
        self.rows = x.reshape(-1, x.shape[-1]) if x.numel() else x.flatten(0, -2)
        if batch is not None:
            self.count = _count(batch, num_samples)
            self.index = batch
        elif num_samples is not None:
            raise ValueError(
                f"`num_samples` goes with a `batch` vector, got {num_samples} without one; "
                "leave it out"
            )
        elif x.dim() == 3:
            self.count = x.shape[0]
            self.index = torch.arange(x.shape[0], device=x.device).repeat_interleave(x.shape[1])
        else:
            self.count = 1
            self.index = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        self.weight = None if weight is None else _checked_weight(weight, x)
        if self.weight is not None:  # whatever an absent row holds, even NaN
            self.rows = torch.where((self.weight > 0).unsqueeze(-1), self.rows, 0)

    def in_precision(self) -> Tensor:
        """[rows, C] in at least float32."""
        return self.rows.to(propagation_dtype(self.rows))

    def reduce(self, rows: Tensor, reduce: Reduce, weighted: bool = True) -> Tensor:
        """[count, C] reductions of rows, each with its multiplicity; 0 for an empty sample."""
        weight = self.weight if weighted else None
        return reduce_pairs(rows, self.index, self.count, reduce, weight)

    def softmax(self, scores: Tensor) -> Tensor:
        """[rows, K] multiplicity x exp(score) over its sum in the sample."""
        return softmax_pairs(scores, self.index, self.count, self.weight)

    def spread(self, values: Tensor) -> Tensor:
        """[count, C] values of samples to their rows."""
        return values.index_select(0, self.index)

    def present(self) -> Tensor | None:
        """[rows] which rows have a multiplicity above 0; None for all.

        Not those of a sample whose multiplicities add up to no more than the smallest normal
        number: it has no mean.
        """
        if self.weight is None:
            return None
        total = self.weight.new_zeros(self.count).index_add(0, self.index, self.weight)
        return (self.weight > 0) & (total > torch.finfo(total.dtype).tiny)[self.index]


def _count(batch: Tensor, num_samples: int | None) -> int:
    if num_samples is not None:
        count = num_samples if num_samples == 0 else check_positive_int("num_samples", num_samples)
        if is_eager() and batch.numel() and not batch.is_meta and int(batch.max()) >= count:
            raise ValueError(
                f"`batch` must lie in [0, num_samples={count}), got {int(batch.max())}; "
                "pass a larger `num_samples`"
            )
        return count
    if not is_eager() or batch.is_meta:
        raise ValueError(
            "`num_samples` must be given while a model is compiled or exported, and on the meta "
            "device: the number of samples must not depend on values"
        )
    return int(batch.max()) + 1 if batch.numel() else 0


def _checked_weight(weight: object, x: Tensor) -> Tensor:
    weight = check_float("weight", weight)
    if weight.shape != x.shape[:-1]:
        raise ValueError(
            f"`weight` must have shape {list(x.shape[:-1])}, one multiplicity per row of `x`, "
            f"got {list(weight.shape)}"
        )
    check_device("weight", weight, x.device, "x")
    check_non_negative("weight", weight)
    return weight.flatten()
