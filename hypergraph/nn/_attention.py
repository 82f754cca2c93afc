"""Sums weighted by attention."""

import torch
from torch import Tensor

from hypergraph.incidence import Hypergraph, MemberIncidence
from hypergraph_kernels import incidence_spmm


def attend_to_edges(
    hypergraph: MemberIncidence,
    x: Tensor,  # [N, heads * C] or [B, N, heads * C]
    attention: Tensor,  # [nnz, heads] or [B, nnz, heads]
) -> Tensor:
    """``y_e = sum over members v of alpha_ve x_v``, head by head.

    Args:
        hypergraph: an operator with members.
        x: [N, heads * C] or [B, N, heads * C], the channels of a head side by side.
        attention: [nnz, heads], or [B, nnz, heads] with one shared hypergraph; it contains the
            multiplicities, as ``incidence_softmax`` gives it.

    Returns:
        [M, heads * C] or [B, M, heads * C].
    """
    if isinstance(hypergraph, Hypergraph) and x.dim() == 2:
        return _fused(hypergraph, x, attention, to_edges=True)
    messages = _weighted(hypergraph.gather_nodes(x), attention)
    return hypergraph.reduce_to_edges(messages, weighted=False)


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
    if isinstance(hypergraph, Hypergraph) and y.dim() == 2:
        return _fused(hypergraph, y, attention, to_edges=False)
    messages = _weighted(hypergraph.gather_edges(y), attention)
    return hypergraph.reduce_to_nodes(messages, weighted=False)


def _fused(hypergraph: Hypergraph, x: Tensor, attention: Tensor, to_edges: bool) -> Tensor:
    """Never stores the [nnz, heads * C] messages.

    Forward and backward at 7,500 pairs on one CPU core: 5 instead of 16 ms with 1 head of 256
    channels, 23 instead of 26 ms with 8 heads of 64.
    """
    by_edge, by_node = hypergraph._by_edge, hypergraph._by_node
    into, back = (by_edge, by_node) if to_edges else (by_node, by_edge)
    dtype = torch.promote_types(x.dtype, attention.dtype)
    x, attention = x.to(dtype), attention.to(dtype)
    heads = attention.shape[-1]
    parts = x.unflatten(-1, (heads, x.shape[-1] // heads)).unbind(-2)
    # A head's attention in one piece: it is gathered in the order of the segments.
    shares = attention.mT.contiguous().unbind(0)
    out = [
        incidence_spmm(part, alpha, into, back) for part, alpha in zip(parts, shares, strict=True)
    ]
    return out[0] if heads == 1 else torch.cat(out, -1)


def _weighted(messages: Tensor, attention: Tensor) -> Tensor:
    heads = attention.shape[-1]
    split = messages.unflatten(-1, (heads, messages.shape[-1] // heads))
    return (split * attention.unsqueeze(-1)).flatten(-2)
