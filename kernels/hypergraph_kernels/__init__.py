"""Fast hypergraph operations on plain tensors, independent of any layer or class.

- ``incidence_spmm``: weighted sums of rows over ragged segments (sparse incidence times features)
- ``sampled_dot``: inner products of row pairs named by the same segments
- ``streamed_matmul``: ``f(P Q^T) X`` without ever storing the N x M matrix
- ``streamed_logsumexp``: row-wise ``log sum exp(P Q^T)``, likewise
- ``knn``: exact k nearest neighbours in tiles
"""

from hypergraph_kernels._dispatch import Implementation
from hypergraph_kernels._segments import Segments, segments_from
from hypergraph_kernels.incidence_spmm import incidence_spmm, sampled_dot
from hypergraph_kernels.knn import Neighbors, knn
from hypergraph_kernels.streamed_matmul import streamed_logsumexp, streamed_matmul

__all__ = [
    "Implementation",
    "Neighbors",
    "Segments",
    "incidence_spmm",
    "knn",
    "sampled_dot",
    "segments_from",
    "streamed_logsumexp",
    "streamed_matmul",
]
