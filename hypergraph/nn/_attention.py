"""Sums weighted by attention."""

import torch
from torch import Tensor

from hypergraph.incidence import MemberIncidence
from hypergraph_kernels import incidence_spmm


def attend_to_edges(
    hypergraph: MemberIncidence,
    x: Tensor,  # [N, heads * C] or [B, N, heads * C]
    attention: Tensor,  # [nnz, heads] or [B, nnz, heads]
) -> Tensor:
    """``y_e = sum over members v of alpha_ve x_v``, head by head.

    Never stores the [nnz, heads * C] messages.

    Args:
        hypergraph: an operator with members.
        x: [N, heads * C] or [B, N, heads * C], the channels of a head side by side.
        attention: [nnz, heads], or [B, nnz, heads] with one shared hypergraph; it contains the
            multiplicities, as ``incidence_softmax`` gives it.

    Returns:
        [M, heads * C] or [B, M, heads * C].
    """
    return _attend(hypergraph, x, attention, 1)


def attend_to_nodes(
    hypergraph: MemberIncidence,
    y: Tensor,  # [M, heads * C] or [B, M, heads * C]
    attention: Tensor,  # [nnz, heads] or [B, nnz, heads]
) -> Tensor:
    """``x_v = sum over hyperedges e of v of alpha_ve y_e``, head by head; see above.

    Args:
        hypergraph: an operator with members.
        y: [M, heads * C] or [B, M, heads * C].
        attention: [nnz, heads] or [B, nnz, heads]; it contains w_e and the multiplicities.

    Returns:
        [N, heads * C] or [B, N, heads * C].
    """
    return _attend(hypergraph, y, attention, 0)


def _attend(hypergraph: MemberIncidence, x: Tensor, attention: Tensor, row: int) -> Tensor:
    into, back = hypergraph._grouped(row), hypergraph._grouped(1 - row)
    dtype = torch.promote_types(x.dtype, attention.dtype)
    x, attention = x.to(dtype), attention.to(dtype)
    samples = hypergraph.batch_size
    if samples is not None:  # the pairs are counted through the samples
        x = x.flatten(0, 1)
    out = incidence_spmm(x, attention, into, back, implementation=hypergraph.implementation)
    if samples is None:
        return out
    return out.unflatten(0, (samples, hypergraph.num_edges if row else hypergraph.num_nodes))
