"""Fast hypergraph operations on plain tensors, independent of any layer or class.

- ``segment_matmul``: weighted sums of rows over ragged segments (sparse incidence times features)
- ``sampled_dot``: inner products of row pairs named by the same segments
- ``streamed_matmul``: ``f(P Q^T) X`` without ever storing the N x M matrix
- ``streamed_logsumexp``: row-wise ``log sum exp(P Q^T)``, likewise
- ``knn``: exact k nearest neighbours in tiles
"""

from hypergraph_kernels._dispatch import Implementation
from hypergraph_kernels.knn import Neighbors, knn
from hypergraph_kernels.segment_matmul import Segments, sampled_dot, segment_matmul, segments_from
from hypergraph_kernels.streamed_matmul import streamed_logsumexp, streamed_matmul

__all__ = [
    "Implementation",
    "Neighbors",
    "Segments",
    "knn",
    "sampled_dot",
    "segment_matmul",
    "segments_from",
    "streamed_logsumexp",
    "streamed_matmul",
]
