"""Incidence made of factors through a non-linear function, never stored."""

from typing import Literal, Self, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence._factors import check_factors, per_sample
from hypergraph.incidence.base import Incidence, TensorMap
from hypergraph_kernels import cross_correlation_logsumexp, cross_correlation_matmul

StreamedFunction = Literal["abs", "softmax"]
SoftmaxAxis = Literal["edges", "nodes"]


class Streamed(Incidence):
    """``H = f(P Q^T)`` computed tile by tile in every product, in O(N + M) memory.

    ``"abs"``: ``h_ve = |<p_v, q_e>|``, as in Wadhwa et al., Hyperrealistic Image Inpainting with
    Hypergraphs (https://arxiv.org/abs/2011.02904). ``"softmax"``: ``h_ve = exp(<p_v, q_e>) /
    sum over the axis``, as DHFusion's released code; the normaliser takes one more pass.

    A product costs O(N M (d + C)) and recomputes H; products are differentiable twice.

    Args:
        p: [N, d] or [B, N, d] vertex factors; float16 and bfloat16 are widened to float32.
        q: [M, d] or [B, M, d] hyperedge factors.
        function: ``"abs"`` or ``"softmax"``.
        axis: what a softmax sums to one over: ``"edges"`` (each vertex spreads one unit over the
            hyperedges) or ``"nodes"``.
        hyperedge_weight: [M] or [B, M]; default ones.

    Raises:
        ValueError, TypeError: shapes or dtypes do not fit.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import Streamed
        >>> h = Streamed(torch.tensor([[1.0], [-2.0]]), torch.tensor([[3.0]]))
        >>> h.node_degree()
        tensor([3., 6.])
    """

    def __init__(
        self,
        p: Tensor,
        q: Tensor,
        function: StreamedFunction = "abs",
        axis: SoftmaxAxis = "edges",
        hyperedge_weight: Tensor | None = None,
    ) -> None:
        check_choice("function", function, get_args(StreamedFunction))
        check_choice("axis", axis, get_args(SoftmaxAxis))
        check_factors(p, q)
        dtype = propagation_dtype(p, q)
        self.p, self.q = p.to(dtype), q.to(dtype)
        self.function: StreamedFunction = function
        self.axis: SoftmaxAxis = axis
        batch_size = p.shape[0] if p.dim() == 3 else None
        super().__init__(p.shape[-2], q.shape[-2], batch_size, hyperedge_weight)

    @property
    def device(self) -> torch.device:
        """Where the factors live."""
        return self.p.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the factors."""
        return self.p.dtype

    def to_dense(self) -> Tensor:
        """H, [N, M] or [B, N, M]: O(N M) memory, any number of derivatives."""
        with without_autocast(self.device):
            scores = self.p @ self.q.mT
        if self.function == "abs":
            return scores.abs()
        return scores.softmax(-1 if self.axis == "edges" else -2)

    def v2e_with_degree(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``H^T x`` and the hyperedge degrees in one pass over the tiles."""
        if self.batch_size is None and x.dim() == 3:
            return super().v2e_with_degree(x)
        out = self.v2e(torch.cat([x, torch.ones_like(x[..., :1])], -1))
        return out[..., :-1], out[..., -1]

    def _v2e(self, x: Tensor) -> Tensor:
        p, q = self._factors(x.dtype)
        return self._stream(q, p, x)

    def _e2v(self, y: Tensor) -> Tensor:
        p, q = self._factors(y.dtype)
        return self._stream(p, q, y)

    def _stream(self, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
        function = self.function
        return per_sample(
            lambda a, b, c: cross_correlation_matmul(
                a, b, c, "abs" if function == "abs" else "exp"
            ),
            left,
            right,
            x,
        )

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """P and Q; a softmax is exp with one more channel that subtracts the normaliser."""
        p, q = self.p, self.q
        if self.function == "softmax":
            # A pass over all tiles: kept for factors that a graph leads to, as it does in training.
            p, q = self._keep("normalised", self._with_normaliser, with_graph=True)
        return p.to(dtype), q.to(dtype)

    def _with_normaliser(self) -> tuple[Tensor, Tensor]:
        over_edges = self.axis == "edges"
        rows, columns = (self.p, self.q) if over_edges else (self.q, self.p)
        log_sum = per_sample(cross_correlation_logsumexp, rows, columns)
        rows = torch.cat([rows, -log_sum.unsqueeze(-1)], -1)
        columns = torch.cat([columns, torch.ones_like(columns[..., :1])], -1)
        return (rows, columns) if over_edges else (columns, rows)

    def _map(self, function: TensorMap) -> Self:
        weight = self.hyperedge_weight
        return type(self)(
            function(self.p),
            function(self.q),
            self.function,
            self.axis,
            None if weight is None else function(weight),
        )

    def _details(self) -> str:
        over = f" over {self.axis}" if self.function == "softmax" else ""
        return f", rank={self.p.shape[-1]}, function='{self.function}'{over}"
