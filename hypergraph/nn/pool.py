"""Pooling of the vertices or hyperedges of every hypergraph."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hypergraph._checks import check_layer_dtype, check_positive_int
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence._pairs import Reduce, check_reduce
from hypergraph.nn._samples import Samples

_ROUNDING = 1e-9  # 0.55 x 100 is 55.00000000000001, of which 55 rows are wanted, not 56


class HypergraphPool(nn.Module):
    """One row per hypergraph: a reduction over its vertices, or over its hyperedges.

    ``"sum"``: ``sum_v m_v x_v``; ``"mean"``: ``sum_v m_v x_v / sum_v m_v``; ``"max"`` and ``"min"``
    over m_v > 0; ``"softmax"``: the mean weighted by m_v exp(x_v), channel by channel. m_v is a
    multiplicity: a row of weight 2 counts as two rows, a row of weight 0 as none. Ties of a maximum
    share its gradient.

    An empty hypergraph, or one whose multiplicities are all 0, gives 0. Sums run in at least
    float32; the result has the dtype of x.

    Args:
        reduce: one reduction, or several whose results are concatenated along the channels.

    Raises:
        ValueError: a reduction is unknown, or there is none.

    Example:
        >>> import torch
        >>> from hypergraph import HypergraphPool
        >>> x = torch.tensor([[1.0], [3.0], [8.0]])
        >>> HypergraphPool("mean")(x, batch=torch.tensor([0, 0, 1])).flatten()
        tensor([2., 8.])
    """

    def __init__(self, reduce: Reduce | Sequence[Reduce] = "mean") -> None:
        super().__init__()
        self.reduce: tuple[Reduce, ...] = (reduce,) if isinstance(reduce, str) else tuple(reduce)
        if not self.reduce:
            raise ValueError("`reduce` must name at least one reduction, got none")
        for name in self.reduce:
            check_reduce("reduce", name)

    def forward(
        self,
        x: Tensor,  # [N, C] or [B, N, C]
        batch: Tensor | None = None,  # [N]
        weight: Tensor | None = None,  # [N] or [B, N]
        num_samples: int | None = None,
    ) -> Tensor:
        """Reduce the rows of every sample.

        Args:
            x: [N, C] features of vertices (with ``Hypergraph.node_batch``) or of hyperedges (with
                ``edge_batch``), or [B, N, C].
            batch: [N] the sample of every row; None with [N, C] for a single sample.
            weight: multiplicities, for example ``Hypergraph.node_weight``; None for ones.
            num_samples: B; default the largest entry of ``batch`` + 1. Needed while compiling, and
                where the last samples may be empty.

        Returns:
            [B, C x number of reductions].

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        samples = Samples(x, batch, num_samples, weight)
        with without_autocast(x.device):
            rows = samples.in_precision()
            parts = [samples.reduce(rows, name) for name in self.reduce]
            return torch.cat(parts, -1).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the reductions."""
        return f"reduce={self.reduce[0]!r}" if len(self.reduce) == 1 else f"reduce={self.reduce}"


class AttentionPool(nn.Module):
    """One row per hypergraph: a learned weighted mean of its vertices or hyperedges.

    ``x' = sum_v alpha_v x_v``, ``alpha_v = m_v exp(s_v) / sum_u m_u exp(s_u)``, ``s = x Theta + b``

    The readout of Li et al., Gated Graph Sequence Neural Networks (ICLR 2016,
    https://arxiv.org/abs/1511.05493), Eq. 7, with a softmax in place of the sigmoid, as libraries
    have it ("global attention"). m_v is a multiplicity, see ``HypergraphPool``. An empty hypergraph
    gives 0. Scores run in the dtype of the input (bfloat16 under autocast), the softmax and the sum
    in at least float32; the result has the dtype of x.

    Args:
        in_channels: channels of x.
        heads: independent attentions, concatenated along the channels.
        gate: replaces ``Linear(in_channels, heads)``: a module from rows [N, in_channels] to
            scores [N, heads].

    Example:
        >>> import torch
        >>> from hypergraph import AttentionPool
        >>> AttentionPool(8, heads=2)(torch.randn(3, 10, 8)).shape
        torch.Size([3, 16])
    """

    def __init__(self, in_channels: int, heads: int = 1, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.heads = check_positive_int("heads", heads)
        if gate is not None and not isinstance(gate, nn.Module):
            raise TypeError(
                f"`gate` must be a module from rows to scores, got {type(gate).__name__}; "
                "pass an instance, for example nn.Linear(in_channels, 1)"
            )
        self.gate = nn.Linear(in_channels, heads) if gate is None else gate

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        batch: Tensor | None = None,  # [N]
        weight: Tensor | None = None,  # [N] or [B, N]
        num_samples: int | None = None,
    ) -> Tensor:
        """Attend over the rows of every sample.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            batch: [N] the sample of every row; None with [N, C] for a single sample.
            weight: multiplicities; None for ones.
            num_samples: B, see ``HypergraphPool.forward``.

        Returns:
            [B, heads x in_channels].

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        samples = Samples(x, batch, num_samples, weight, self.in_channels)
        for parameter in self.gate.parameters():
            check_layer_dtype(x, parameter)
            break
        scores = self.gate(samples.rows)
        if scores.shape != (samples.rows.shape[0], self.heads):
            raise ValueError(
                f"`gate` must give scores [rows, heads={self.heads}], got {list(scores.shape)} "
                f"for {samples.rows.shape[0]} rows"
            )
        with without_autocast(x.device):
            attention = samples.softmax(scores.to(propagation_dtype(scores, x)))
            rows = samples.in_precision()
            parts = [
                samples.reduce(rows * attention[:, head, None], "sum", weighted=False)
                for head in range(self.heads)
            ]
            return torch.cat(parts, -1).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, heads={self.heads}"


class TopK(NamedTuple):
    """What ``TopKPool`` keeps."""

    x: Tensor
    """[K, C] or [B, k, C]: the kept rows times tanh of their scores."""
    chosen: Tensor
    """[K] or [B, k] int64: their numbers in the input (in the sample, for [B, k]), best first."""
    score: Tensor
    """[K] or [B, k]: their scores."""
    kept: Tensor
    """[K] or [B, k] bool: False for an absent row that fills a sample up; its x is 0."""
    batch: Tensor | None
    """[K]: the sample of every kept row; None for [B, k]."""


class TopKPool(nn.Module):
    """Keep the rows of every hypergraph with the highest learned scores.

    ``s = X p / |p|``, ``X' = X[i] * tanh(s[i])``, where i are the k_b rows of sample b with the
    largest s.

    Gao and Ji, Graph U-Nets (ICML 2019, https://arxiv.org/abs/1905.05178), Eq. 2, with tanh in
    place of its sigmoid, as Cangea et al. (https://arxiv.org/abs/1811.01287). Equal scores
    keep the order of the rows. p = 0 scores 0 everywhere. A row whose ``weight`` is 0 is absent and
    is not counted; other weights make no difference, since a row is kept or not.

    The hypergraph of the kept vertices is ``hypergraph.subgraph(kept.chosen)``, of kept hyperedges
    ``hypergraph.edge_subgraph(kept.chosen)``.

    Args:
        in_channels: channels of x.
        ratio: share of a sample's rows that is kept, ``k_b = ceil(ratio n_b)``; in (0, 1].
        k: keep ``min(k, n_b)`` rows instead.

    Example:
        >>> import torch
        >>> from hypergraph import TopKPool
        >>> pool = TopKPool(8, ratio=0.5)
        >>> kept = pool(torch.randn(7, 8), batch=torch.tensor([0, 0, 0, 0, 1, 1, 1]))
        >>> kept.batch
        tensor([0, 0, 1, 1])
    """

    def __init__(self, in_channels: int, ratio: float = 0.5, k: int | None = None) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)):
            raise TypeError(f"`ratio` must be a number, got {type(ratio).__name__}")
        if not 0 < ratio <= 1:
            raise ValueError(
                f"`ratio` must lie in (0, 1], got {ratio}; pass k for a number of rows"
            )
        self.ratio = float(ratio)
        self.k = None if k is None else check_positive_int("k", k)
        self.p = nn.Parameter(torch.empty(in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw p from U(-1/sqrt(in_channels), +)."""
        bound = self.in_channels**-0.5
        nn.init.uniform_(self.p, -bound, bound)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        batch: Tensor | None = None,  # [N]
        weight: Tensor | None = None,  # [N] or [B, N]
        num_samples: int | None = None,
    ) -> TopK:
        """Choose rows of every sample.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            batch: [N] the sample of every row; None with [N, C] for a single sample.
            weight: a row of weight 0 is absent; None for ones.
            num_samples: B, see ``HypergraphPool.forward``.

        Returns:
            A ``TopK``. From [B, N, C] come k rows per sample, ``min(k, N)`` or ``ceil(ratio N)``;
            where a sample has fewer present rows to keep, absent ones with x = 0 fill it up. From
            [N, C] come the kept rows alone, sample by sample; how many depends on ``batch``, so
            that only [B, N, C] compiles as one graph.

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        samples = Samples(x, batch, num_samples, weight, self.in_channels)
        check_layer_dtype(x, self.p)
        with without_autocast(x.device):
            rows = samples.in_precision()
            p = self.p.to(rows.dtype)
            scores = (rows @ p) * inverse_power(p.square().sum(), -0.5)
            present = samples.present()
            ranked = scores.detach()
            if present is not None:
                ranked = ranked.masked_fill(~present, -torch.inf)
            if x.dim() == 3:
                return self._of_dense(samples, rows, scores, ranked, present, x)
            # Two stable sorts: by score, then by sample.
            order = torch.argsort(ranked, descending=True, stable=True)
            order = order[samples.index[order].argsort(stable=True)]
            ones = torch.ones_like(samples.index) if present is None else present.long()
            size = ones.new_zeros(samples.count).index_add(0, samples.index, ones)
            total = torch.bincount(samples.index, minlength=samples.count)
            first = total.cumsum(0) - total
            owner = samples.index[order]
            place = torch.arange(order.shape[0], device=x.device) - first[owner]
            index = order[place < self._wanted(size)[owner]]
            kept = torch.ones_like(index, dtype=torch.bool)
            out = (rows[index] * scores[index].tanh().unsqueeze(-1)).to(x.dtype)
            return TopK(out, index, scores[index].to(x.dtype), kept, samples.index[index])

    def extra_repr(self) -> str:
        """Show the settings."""
        kept = f"ratio={self.ratio}" if self.k is None else f"k={self.k}"
        return f"in_channels={self.in_channels}, {kept}"

    def _of_dense(
        self,
        samples: Samples,
        rows: Tensor,
        scores: Tensor,
        ranked: Tensor,
        present: Tensor | None,
        x: Tensor,
    ) -> TopK:
        shape = x.shape[:2]
        width = _share(shape[1], self.ratio) if self.k is None else min(self.k, shape[1])
        index = torch.argsort(ranked.view(shape), descending=True, stable=True)[:, :width]
        score = scores.view(shape).gather(1, index)
        kept = torch.ones_like(index, dtype=torch.bool)
        if present is not None:
            size = present.view(shape).sum(1)
            kept = torch.arange(width, device=x.device) < self._wanted(size).unsqueeze(-1)
        wide = index.unsqueeze(-1).expand(*index.shape, x.shape[-1])
        factor = torch.where(kept, score.tanh(), 0).unsqueeze(-1)
        out = rows.view(x.shape).gather(1, wide) * factor
        return TopK(out.to(x.dtype), index, score.to(x.dtype), kept, None)

    def _wanted(self, size: Tensor) -> Tensor:
        """How many rows a sample of this size keeps."""
        if self.k is not None:
            return size.clamp_max(self.k)
        share = (size.double() * self.ratio - _ROUNDING).ceil().long()
        return torch.maximum(share, size.clamp_max(1))


def _share(size: int, ratio: float) -> int:
    return max(math.ceil(size * ratio - _ROUNDING), min(size, 1))
