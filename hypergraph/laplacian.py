"""Laplacians of hypergraphs, as sparse matrices and as products that never form one."""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_features, check_float
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.expansion import gram, pair_values, plain_members
from hypergraph.incidence import Incidence
from hypergraph.nn.hgnn_conv import as_incidence, hgnn_propagate

LaplacianKind = Literal["hgnn", "transition", "symmetric", "random_walk"]
Layout = Literal["coo", "csr"]


def laplacian_matrix(
    hypergraph: Incidence,
    kind: LaplacianKind = "symmetric",
    layout: Layout = "coo",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A Laplacian as a sparse matrix [N, N].

    | kind | matrix |
    |---|---|
    | ``"hgnn"`` | ``S = D_v^-1/2 H W D_e^-1 H^T D_v^-1/2``, what ``HGNNConv`` smooths with |
    | ``"transition"`` | ``P = D_v^-1 H W D_e^-1 H^T``, the random walk of HGNN+ |
    | ``"symmetric"`` | ``I - S`` (Zhou et al., Learning with hypergraphs, NIPS 2006) |
    | ``"random_walk"`` | ``I - P`` |

    A degree at or below the smallest normal number counts as 0, and what has degree 0 contributes
    exactly 0 to S and P: the row of an isolated vertex is 0 there, and that of the identity in
    I - S and I - P (as in DHG).

    Takes time and memory of the sum over hyperedges of their squared sizes;
    ``laplacian_product`` takes neither.

    Args:
        hypergraph: with members, one hypergraph; direction does not matter.
        kind: see the table.
        layout: ``"coo"`` (coalesced) or ``"csr"``.
        dtype: at least this precision; default that of the weights. Never less than float32.

    Returns:
        [N, N], differentiable with respect to incidence values and hyperedge weights.

    Raises:
        ValueError, TypeError: the operator has no members or is batched, or ``kind``, ``layout`` or
            ``dtype`` is unknown.

    Example:
        >>> from hypergraph import Hypergraph, laplacian_matrix
        >>> h = Hypergraph.from_edges([[0, 1]], num_nodes=3)
        >>> laplacian_matrix(h, "random_walk").to_dense()
        tensor([[ 0.5000, -0.5000,  0.0000],
                [-0.5000,  0.5000,  0.0000],
                [ 0.0000,  0.0000,  1.0000]])
    """
    check_choice("kind", kind, get_args(LaplacianKind))
    check_choice("layout", layout, get_args(Layout))
    if dtype is not None and (not isinstance(dtype, torch.dtype) or not dtype.is_floating_point):
        raise TypeError(f"`dtype` must be a floating dtype, got {dtype}")
    h = plain_members(hypergraph)
    wanted = propagation_dtype(h.incidence_weight, h.hyperedge_weight)
    if dtype is not None:
        wanted = torch.promote_types(wanted, dtype)
    node, edge = h.hyperedge_index
    values, weight = pair_values(h).to(wanted), h.weight(wanted)
    per_edge = inverse_power(h.edge_degree(wanted), -1.0)
    degree = h.node_degree(wanted)
    # Factors in the order of the products, so that they leave the range of numbers together.
    if kind in ("hgnn", "symmetric"):
        scaled = values * inverse_power(degree, -0.5)[node]
        index, entries = gram(h, scaled * (weight * per_edge)[edge], scaled)
    else:
        walk = values * weight[edge] * inverse_power(degree, -1.0)[node]
        index, entries = gram(h, walk, values * per_edge[edge])
    shape = (h.num_nodes, h.num_nodes)
    matrix = torch.sparse_coo_tensor(
        index, entries, shape, is_coalesced=True, check_invariants=False
    )
    if kind in ("symmetric", "random_walk"):
        diagonal = torch.arange(h.num_nodes, device=h.device).expand(2, -1)
        ones = entries.new_ones(h.num_nodes)
        identity = torch.sparse_coo_tensor(
            diagonal, ones, shape, is_coalesced=True, check_invariants=False
        )
        matrix = (identity - matrix).coalesce()
    return matrix if layout == "coo" else matrix.to_sparse_csr()


def laplacian_product(
    x: Tensor,  # [N, C] or [B, N, C]
    hypergraph: Incidence | Tensor,
    kind: LaplacianKind = "symmetric",
) -> Tensor:
    """A Laplacian times features, for any operator and without forming the matrix.

    Args:
        x: [N, C], or [B, N, C] with one hypergraph per sample or one for all.
        hypergraph: any incidence operator over N vertices, or a ``hyperedge_index`` [2, nnz].
        kind: see ``laplacian_matrix``.

    Returns:
        The shape and dtype of x; computed in at least float32.

    Raises:
        ValueError, TypeError: x and the hypergraph do not fit, or ``kind`` is unknown.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, laplacian_product
        >>> h = Hypergraph.from_edges([[0, 1]], num_nodes=3)
        >>> laplacian_product(torch.tensor([[2.0], [4.0], [5.0]]), h, "random_walk").flatten()
        tensor([-1.,  1.,  5.])
    """
    check_choice("kind", kind, get_args(LaplacianKind))
    x = check_features(check_float("x", x))
    h = as_incidence(hypergraph, x)
    with without_autocast(x.device):
        wide = x.to(propagation_dtype(x))
        if kind in ("hgnn", "symmetric"):
            smoothed = hgnn_propagate(wide, h)
        else:
            smoothed = h.v2v(wide, "mean")
        if kind in ("symmetric", "random_walk"):
            smoothed = wide - smoothed
        return smoothed.to(x.dtype)
