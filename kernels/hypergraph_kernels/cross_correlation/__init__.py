"""Products with ``f(P Q^T)``, which is never stored."""

from hypergraph_kernels.cross_correlation.op import (
    Elementwise,
    cross_correlation_degrees,
    cross_correlation_logsumexp,
    cross_correlation_matmul,
    cross_correlation_propagate,
    cross_correlation_scores,
)

__all__ = [
    "Elementwise",
    "cross_correlation_degrees",
    "cross_correlation_logsumexp",
    "cross_correlation_matmul",
    "cross_correlation_propagate",
    "cross_correlation_scores",
]
