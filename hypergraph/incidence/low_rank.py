"""Incidence as a product of two thin non-negative factors."""

from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import check_non_negative
from hypergraph._numerics import propagation_dtype, without_autocast
from hypergraph.incidence._factors import check_factors
from hypergraph.incidence.base import Incidence, TensorMap


class LowRank(Incidence):
    """``H = P Q^T`` with non-negative factors: a convolution costs O((N + M) d C).

    Args:
        p: [N, d] or [B, N, d] vertex factors, >= 0; float16 and bfloat16 are widened to float32.
        q: [M, d] or [B, M, d] hyperedge factors, >= 0.
        hyperedge_weight: [M] or [B, M]; default ones.

    Raises:
        ValueError, TypeError: shapes or dtypes do not fit, or a factor has a negative entry.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import LowRank
        >>> LowRank(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).to_dense()
        tensor([[11.]])
    """

    def __init__(self, p: Tensor, q: Tensor, hyperedge_weight: Tensor | None = None) -> None:
        check_factors(p, q)
        check_non_negative("p", p)
        check_non_negative("q", q)
        dtype = propagation_dtype(p, q)
        self.p, self.q = p.to(dtype), q.to(dtype)
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
        """H, [N, M] or [B, N, M]."""
        with without_autocast(self.device):
            return self.p @ self.q.mT

    def _add_v2e(self, total: Tensor | None, x: Tensor, coefficient: float | Tensor) -> Tensor:
        """``total + c H^T x``, the coefficient a number or broadcast against [d, C]."""
        return _thin_product(self.q, self.p, x, coefficient, total)

    def _add_e2v(self, total: Tensor | None, y: Tensor, coefficient: float | Tensor) -> Tensor:
        """``total + c H y``, likewise."""
        return _thin_product(self.p, self.q, y, coefficient, total)

    def _v2e(self, x: Tensor) -> Tensor:
        return _thin_product(self.q, self.p, x)

    def _e2v(self, y: Tensor) -> Tensor:
        return _thin_product(self.p, self.q, y)

    def _map(self, function: TensorMap) -> Self:
        weight = self.hyperedge_weight
        return type(self)(
            function(self.p), function(self.q), None if weight is None else function(weight)
        )

    def _details(self) -> str:
        return f", rank={self.p.shape[-1]}"


def _thin_product(
    left: Tensor,
    right: Tensor,
    x: Tensor,
    coefficient: float | Tensor = 1,
    total: Tensor | None = None,
) -> Tensor:
    """``total + c left (right^T x)``: nothing of the size of x is made but the result."""
    with without_autocast(x.device):
        left = left.to(x.dtype)
        thin = right.to(x.dtype).mT @ x
        if isinstance(coefficient, Tensor) or coefficient != 1:
            thin = thin * coefficient
        if total is None:
            return left @ thin
        if left.dim() == thin.dim() == 2:
            return torch.addmm(total, left, thin)
        if left.dim() == thin.dim():
            return torch.baddbmm(total, left, thin)
        return total + left @ thin
