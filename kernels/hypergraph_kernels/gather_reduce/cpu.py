"""Both sums through PyTorch's ``embedding_bag``, on any device."""

import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm import cpu as incidence_spmm


def gather_reduce(x: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of the rows that a table names; nothing of size edges x slots x channels is stored.

    A table as it is takes as long as the same list with offsets (1024 x 256 to 16384 x 128, 25
    slots), so it needs none.
    """
    if index.numel() == 0 or x.shape[1] == 0:
        return x.new_zeros(index.shape[0], x.shape[1])
    return F.embedding_bag(index, x.contiguous(), mode="sum", per_sample_weights=weights)


def gather_reduce_transposed(y: Tensor, transposed: Segments, weights: Tensor | None) -> Tensor:
    """Sums of the rows of ``y`` whose slots name a vertex."""
    values = None if weights is None else weights.flatten()
    return incidence_spmm.incidence_spmm(y, values, transposed)
