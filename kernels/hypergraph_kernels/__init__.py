"""Fast hypergraph operations on plain tensors, independent of any layer or class.

- ``segment_matmul``: weighted sums of rows over ragged segments (sparse incidence times features)
- ``sampled_dot``: inner products of row pairs named by the same segments
- ``streamed_matmul``: ``f(P Q^T) X`` without ever storing the N x M matrix
- ``streamed_logsumexp``: row-wise ``log sum exp(P Q^T)``, likewise
- ``nearest_neighbors``: exact k nearest neighbours in tiles
"""

from hypergraph_kernels.nearest_neighbors import Neighbors, nearest_neighbors
from hypergraph_kernels.segment_matmul import Segments, sampled_dot, segment_matmul, segments_from
from hypergraph_kernels.streamed_matmul import streamed_logsumexp, streamed_matmul

__all__ = [
    "Neighbors",
    "Segments",
    "nearest_neighbors",
    "sampled_dot",
    "segment_matmul",
    "segments_from",
    "streamed_logsumexp",
    "streamed_matmul",
]
