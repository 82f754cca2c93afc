"""Incidence made of factors through a non-linear function, never stored."""

from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence._factors import batched, check_factors
from hypergraph.incidence.base import Incidence, TensorMap
from hypergraph_kernels import Implementation
from hypergraph_kernels.cross_correlation import (
    Elementwise,
    cross_correlation_degrees,
    cross_correlation_logsumexp,
    cross_correlation_matmul,
    cross_correlation_propagate,
    cross_correlation_scores,
)

StreamedFunction = Literal["abs", "softmax"]
SoftmaxAxis = Literal["edges", "nodes"]

_BOTH, _SCORES = "both degrees", "scores"  # keys of what an operator keeps


class Streamed(Incidence):
    """``H = f(P Q^T)`` computed tile by tile in every product, in O(N + M) memory.

    ``"abs"``: ``h_ve = |<p_v, q_e>|``, as in Wadhwa et al., Hyperrealistic Image Inpainting with
    Hypergraphs (https://arxiv.org/abs/2011.02904). ``"softmax"``: ``h_ve = exp(<p_v, q_e>) /
    sum over the axis``, as DHFusion's released code; the normaliser takes one more pass.

    A product costs O(N M (d + C)) and recomputes H; products are differentiable twice. The passes
    of a convolution share up to 32 MiB of ``P Q^T``, a constant on top of that memory.

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
        """``H^T x`` and the hyperedge degrees, in one pass over the tiles if need be."""
        if (self.batch_size is None and x.dim() == 3) or self._kept_degrees(x.dtype) is not None:
            return super().v2e_with_degree(x)
        out = self.v2e(torch.cat([x, torch.ones_like(x[..., :1])], -1))
        return out[..., :-1], out[..., -1]

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z``: three passes over the tiles, four back."""
        z = self._check_product("z", "num_nodes", self.num_nodes, z)
        if z.dim() == 3 and self.batch_size is None:
            return super().hgnn_propagate(z)
        z = z.to(torch.promote_types(z.dtype, self.dtype))
        scores = self._scores(z.dtype)
        node_degree, edge_degree = self.both_degrees(z.dtype, scores)
        if self.hyperedge_weight is not None:
            node_degree = self.node_degree(z.dtype)
        root = inverse_power(node_degree, -0.5).unsqueeze(-1)
        scale = self.weight(z.dtype) * inverse_power(edge_degree, -1.0)
        return self.there_and_back(z * root, scale, scores=scores)[0] * root

    def both_degrees(
        self, dtype: torch.dtype, scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Row and column sums of H, without W, in one pass over the tiles."""
        kept = self._kept_degrees(dtype)
        if kept is not None:
            return kept
        p, q = self._factors(dtype)
        by_row, by_column = batched(
            cross_correlation_degrees,
            p,
            q,
            function=self._kernel,
            scores=scores,
            implementation=self.implementation,
        )
        return by_row, by_column

    def keep_degrees(self, dtype: torch.dtype) -> None:
        """Compute the degrees now, with their graph, and the scores, for all who ask later.

        They are not kept when somebody asks, as that may be inside a checkpoint, whose second pass
        would find kept what its first one computed.
        """
        scores = self._keep((_SCORES, dtype), lambda: self._scores(dtype), with_graph=True)
        self._keep((_BOTH, dtype), lambda: self.both_degrees(dtype, scores), with_graph=True)

    def __getstate__(self) -> dict[str, Any]:
        # Scores can be larger than all else, and are not recognised by what is loaded.
        return vars(self) | {"_kept": {}}

    def with_implementation(self, implementation: Implementation) -> Self:
        """See ``Incidence.with_implementation``; degrees that were kept stay."""
        twin = super().with_implementation(implementation)
        for key, value in self._kept.items():
            if isinstance(key, tuple) and key[0] in (_BOTH, _SCORES):
                twin._kept[key] = value
        return twin

    def _kept_degrees(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        degrees: tuple[Tensor, Tensor] | None = self._still_kept((_BOTH, dtype))
        return degrees

    def _still_kept(self, key: object) -> Any:
        kept = self._kept.get(key)
        return None if kept is None or kept[0] != self._state(with_graph=True) else kept[1]

    def _scores(self, dtype: torch.dtype) -> Tensor | None:
        """What may be kept of P Q^T, which a convolution and its backward make five times."""
        if self.function == "softmax" and self._state(with_graph=True) is None:
            return None  # the normaliser is not kept either: asking for it costs a pass of its own
        p, q = self._factors(dtype)
        p, q = (p, q) if p.dim() == 3 else (p.unsqueeze(0), q.unsqueeze(0))
        return cross_correlation_scores(p, q, implementation=self.implementation)

    def there_and_back(
        self,
        u: Tensor,
        scale: Tensor,
        extra: Tensor | None = None,
        coefficient: float | Tensor = 1,
        scores: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``c H (scale E)`` and ``E = extra + c H^T u``, for a coefficient c of each sample.

        Args:
            u: [num_nodes, C] or [B, num_nodes, C].
            scale: [num_edges] or [B, num_edges].
            extra: the shape of E.
            coefficient: a number, or a tensor [] or [B].
            scores: kept ones; None for those that the operator has kept, if any.
        """
        p, q = self._factors(u.dtype)
        if scores is None:
            scores = self._still_kept((_SCORES, u.dtype))
        if isinstance(coefficient, Tensor):
            coefficient = coefficient.to(u.dtype)
            coefficient = coefficient.view(-1, 1, 1) if coefficient.dim() else coefficient
        unscaled = isinstance(coefficient, (int, float)) and coefficient == 1
        inside = self.function == "abs" and scores is None  # c |x| = |c x|
        if not unscaled:
            p, u = (p * coefficient, u) if inside else (p, u * coefficient)

        def product(p: Tensor, q: Tensor, u: Tensor, scale: Tensor, extra: Tensor | None) -> Any:
            return cross_correlation_propagate(
                p, q, u, scale, self._kernel, extra, scores, implementation=self.implementation
            )

        out, edges = batched(product, p, q, u, scale, extra)
        return (out if unscaled or inside else out * coefficient), edges

    def _v2e(self, x: Tensor) -> Tensor:
        p, q = self._factors(x.dtype)
        return self._stream(q, p, x)

    def _e2v(self, y: Tensor) -> Tensor:
        p, q = self._factors(y.dtype)
        return self._stream(p, q, y)

    def _node_degree(self, weight: Tensor) -> Tensor:
        kept = self._kept_degrees(weight.dtype)
        if kept is None or self.hyperedge_weight is not None:
            return super()._node_degree(weight)
        return kept[0]

    def _edge_degree(self, ones: Tensor) -> Tensor:
        kept = self._kept_degrees(ones.dtype)
        return super()._edge_degree(ones) if kept is None else kept[1]

    def _stream(self, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
        (out,) = batched(
            cross_correlation_matmul,
            left,
            right,
            x,
            function=self._kernel,
            implementation=self.implementation,
        )
        return out

    @property
    def _kernel(self) -> Elementwise:
        return "abs" if self.function == "abs" else "exp"

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
        (log_sum,) = batched(
            cross_correlation_logsumexp, rows, columns, implementation=self.implementation
        )
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
