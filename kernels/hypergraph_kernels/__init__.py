"""Fast hypergraph operations on plain tensors, independent of any layer or class.

- ``incidence_spmm``: weighted sums of rows over ragged segments (sparse incidence times features)
- ``sampled_dot``: inner products of row pairs named by the same segments
- ``incidence_softmax``: attention over the pairs of every segment
- ``cross_correlation_matmul``: ``f(P Q^T) X`` without ever storing the N x M matrix
- ``cross_correlation_degrees``: row and column sums of ``f(P Q^T)``, likewise
- ``cross_correlation_propagate``: to the hyperedges and back through ``f(P Q^T)``, likewise
- ``cross_correlation_scores``: a bounded part of P Q^T, for both of these to share
- ``cross_correlation_logsumexp``: row-wise ``log sum exp(P Q^T)``, likewise
- ``gather_reduce`` and ``gather_reduce_transposed``: the same products for a table of members
- ``hgnn_propagate``: ``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 Z`` as one op whose backward is itself
- ``knn``: exact k nearest neighbours in tiles
"""

from hypergraph_kernels._dispatch import Implementation
from hypergraph_kernels._segments import Segments, segments_from
from hypergraph_kernels.cross_correlation import (
    cross_correlation_degrees,
    cross_correlation_logsumexp,
    cross_correlation_matmul,
    cross_correlation_propagate,
    cross_correlation_scores,
)
from hypergraph_kernels.gather_reduce import (
    gather_reduce,
    gather_reduce_transposed,
    table_segments,
    transpose_table,
)
from hypergraph_kernels.hgnn_propagate import hgnn_propagate
from hypergraph_kernels.incidence_softmax import incidence_softmax
from hypergraph_kernels.incidence_spmm import incidence_spmm, sampled_dot
from hypergraph_kernels.knn import Neighbors, knn

__all__ = [
    "Implementation",
    "Neighbors",
    "Segments",
    "cross_correlation_degrees",
    "cross_correlation_logsumexp",
    "cross_correlation_matmul",
    "cross_correlation_propagate",
    "cross_correlation_scores",
    "gather_reduce",
    "gather_reduce_transposed",
    "hgnn_propagate",
    "incidence_softmax",
    "incidence_spmm",
    "knn",
    "sampled_dot",
    "segments_from",
    "table_segments",
    "transpose_table",
]
