"""Graphs made from hypergraphs: star, clique, line graph and line expansion.

Every function takes an operator with members and returns ``edge_index [2, E]`` (row 0 sources, row
1 targets) and ``weight [E]``, the form PyG and DGL layers take; a matrix is
``torch.sparse_coo_tensor(edge_index, weight, (n, n))``. An undirected edge appears in both
directions. Repeated pairs are added up first; pairs of value 0 and hyperedges of weight 0 are as
good as absent. Weights are differentiable with respect to incidence values and hyperedge weights.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_finite_number, check_positive_int
from hypergraph._numerics import inverse_power
from hypergraph.incidence import Hypergraph, Incidence

StarWeight = Literal["incidence", "hyperedge", "mean"]
CliqueWeight = Literal["sum", "mean", "newman", "ones"]
LineWeight = Literal["overlap", "product", "jaccard", "ones"]


def star_expansion(
    hypergraph: Incidence, weight: StarWeight = "incidence"
) -> tuple[Tensor, Tensor]:
    """The bipartite graph of vertices 0 to N - 1 and hyperedges N to N + M - 1.

    Args:
        hypergraph: with members, one hypergraph.
        weight: of the edge between v and e: ``"incidence"`` h_ve, ``"hyperedge"`` w_e h_ve, or
            ``"mean"`` w_e h_ve / delta_e (Zien et al. 1999, as given in Agarwal et al.,
            Higher order learning with graphs, ICML 2006).

    Returns:
        edge_index [2, E] and weight [E]: first v -> e, then e -> v, each sorted by (e, v). In a
        directed hypergraph only tails have v -> e and only heads e -> v.

    Raises:
        ValueError, TypeError: the operator has no members or is batched, or ``weight`` is unknown.

    Example:
        >>> from hypergraph import Hypergraph, star_expansion
        >>> star_expansion(Hypergraph.from_edges([[0, 1]]))
        (tensor([[0, 1, 2, 2],
                [2, 2, 0, 1]]), tensor([1., 1., 1., 1.]))
    """
    check_choice("weight", weight, get_args(StarWeight))
    h = plain_members(hypergraph)
    node, edge = h.hyperedge_index
    values = pair_values(h)
    if weight != "incidence":
        coefficient = h.weight(values.dtype)
        if weight == "mean":
            coefficient = coefficient * inverse_power(h.edge_degree(values.dtype), -1.0)
        values = values * coefficient[edge]
    there = torch.stack([node, edge + h.num_nodes])
    direction = h._pair_direction()
    out, back = direction <= 0, direction >= 0
    edge_index = torch.cat([there[:, out], there.flip(0)[:, back]], 1)
    return edge_index, torch.cat([values[out], values[back]])


def clique_expansion(
    hypergraph: Incidence, weight: CliqueWeight = "sum", self_loops: bool = False
) -> tuple[Tensor, Tensor]:
    """The graph that joins every two members of a hyperedge.

    ``A_uv = sum over e of w_e c_e h_ue h_ve``; with ``"sum"`` that is ``H W H^T``, with ``"mean"``
    ``H W D_e^-1 H^T``. In a directed hypergraph u runs over tails and v over heads.

    Takes time and memory of the sum over hyperedges of their squared sizes.

    Args:
        hypergraph: with members, one hypergraph.
        weight: ``"sum"``, c_e = 1; ``"mean"``, c_e = 1 / delta_e (Zhou et al., Learning with
            hypergraphs, NIPS 2006); ``"newman"``, c_e = 1 / (delta_e - 1), so that a member of a
            plain hyperedge gives it w_e in all (Newman 2001), and 0 for delta_e <= 1; ``"ones"``,
            A_uv = 1 for every edge.
        self_loops: keep A_uu.

    Returns:
        edge_index [2, E] and weight [E], sorted by (u, v).

    Raises:
        ValueError, TypeError: the operator has no members or is batched, or ``weight`` is unknown.

    Example:
        >>> from hypergraph import Hypergraph, clique_expansion
        >>> clique_expansion(Hypergraph.from_edges([[0, 1], [0, 1, 2]]))
        (tensor([[0, 0, 1, 1, 2, 2],
                [1, 2, 0, 2, 0, 1]]), tensor([2., 1., 2., 1., 1., 1.]))
    """
    check_choice("weight", weight, get_args(CliqueWeight))
    h = plain_members(hypergraph)
    values = pair_values(h)
    dtype = values.dtype
    coefficient = h.weight(dtype)
    if weight in ("mean", "newman"):
        degree = h.edge_degree(dtype) - (1 if weight == "newman" else 0)
        coefficient = coefficient * inverse_power(degree, -1.0)
    left = values * coefficient[h.hyperedge_index[1]]
    edge_index, values = gram(h, left, values, directed=True)
    if not self_loops:
        apart = edge_index[0] != edge_index[1]
        edge_index, values = edge_index[:, apart], values[apart]
    return edge_index, torch.ones_like(values) if weight == "ones" else values


def line_graph(
    hypergraph: Incidence, s: int = 1, weight: LineWeight = "overlap"
) -> tuple[Tensor, Tensor]:
    """The graph of hyperedges, joined where they share at least s vertices.

    The s-line graph of Aksoy et al., Hypernetwork science via high-order hypergraph walks (EPJ Data
    Science 2020, https://arxiv.org/abs/1906.11295); direction does not matter.

    Takes time and memory of the sum over vertices of their squared numbers of hyperedges.

    Args:
        hypergraph: with members, one hypergraph.
        s: vertices that must be shared.
        weight: of the edge between e and f: ``"overlap"``, how many vertices they share;
            ``"product"``, ``(H^T H)_ef``; ``"jaccard"``, shared vertices over those in e or f; or
            ``"ones"``.

    Returns:
        edge_index [2, E] over the M hyperedges and weight [E], sorted by (e, f), without e = f.

    Raises:
        ValueError, TypeError: the operator has no members or is batched, ``s`` is no positive int,
            or ``weight`` is unknown.

    Example:
        >>> from hypergraph import Hypergraph, line_graph
        >>> line_graph(Hypergraph.from_edges([[0, 1, 2], [1, 2, 3], [3]]), s=2)
        (tensor([[0, 1],
                [1, 0]]), tensor([2., 2.]))
    """
    check_positive_int("s", s)
    check_choice("weight", weight, get_args(LineWeight))
    h = plain_members(hypergraph).replace(direction=None).coalesce()
    dual, values = h.dual(), pair_values(h)
    counts = torch.ones_like(values, dtype=torch.float64, requires_grad=False)  # exact
    edge_index, shared = gram(dual, counts, counts)
    keep = (edge_index[0] != edge_index[1]) & (shared >= s)
    edge_index, shared = edge_index[:, keep], shared[keep]
    if weight == "product":
        return edge_index, gram(dual, values, values)[1][keep]
    if weight == "jaccard":
        sizes = counts.new_zeros(h.num_edges).index_add(0, h.hyperedge_index[1], counts)
        shared = shared / (sizes[edge_index[0]] + sizes[edge_index[1]] - shared)
    elif weight == "ones":
        shared = torch.ones_like(shared)
    return edge_index, shared.to(values.dtype)


def line_expansion(
    hypergraph: Incidence, vertex_weight: float = 1.0, hyperedge_weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The graph of (vertex, hyperedge) pairs, joined where they share one of the two.

    Yang et al., Semi-supervised hypergraph node classification on hypergraph line expansion (CIKM
    2022, https://arxiv.org/abs/2005.04843). Weights of the hypergraph and directions do
    not matter.

    Args:
        hypergraph: with members, one hypergraph.
        vertex_weight: of an edge between two pairs of one vertex.
        hyperedge_weight: of an edge between two pairs of one hyperedge.

    Returns:
        edge_index [2, E] and weight [E] over the L different pairs, and these pairs [2, L] as
        vertices and hyperedges, sorted by (hyperedge, vertex).

    Raises:
        ValueError, TypeError: the operator has no members or is batched.

    Example:
        >>> from hypergraph import Hypergraph, line_expansion
        >>> line_expansion(Hypergraph.from_edges([[0, 1], [1]]), hyperedge_weight=0.5)
        (tensor([[0, 1, 1, 2],
                [1, 0, 2, 1]]), tensor([0.5000, 0.5000, 1.0000, 1.0000]), tensor([[0, 1, 1],
                [0, 0, 1]]))
    """
    vertex_weight = check_finite_number("vertex_weight", vertex_weight)
    hyperedge_weight = check_finite_number("hyperedge_weight", hyperedge_weight)
    pairs = plain_members(hypergraph).replace(direction=None).coalesce().hyperedge_index
    node, edge = pairs
    count = pairs.shape[1]
    joined, weights = [], []
    for groups, factor in ((node, vertex_weight), (edge, hyperedge_weight)):
        couples = torch.stack(_couples(groups))
        couples = couples[:, couples[0] != couples[1]]
        joined.append(couples)
        weights.append(torch.full((couples.shape[1],), float(factor), device=pairs.device))
    edge_index, weight = torch.cat(joined, 1), torch.cat(weights)
    order = (edge_index[0] * count + edge_index[1]).argsort(stable=True)
    return edge_index[:, order], weight[order], pairs


def gram(
    h: Hypergraph,
    left: Tensor,  # [nnz]
    right: Tensor,  # [nnz]
    directed: bool = False,
) -> tuple[Tensor, Tensor]:
    """The entries of ``A B^T``, where A and B have the pairs of H with other values.

    Args:
        h: without repeated pairs.
        left: the values of A.
        right: the values of B.
        directed: A has the pairs of the tail only, B those of the head only.

    Returns:
        The indices (u, v) [2, E] of all vertices that share a hyperedge, sorted, and the values.
    """
    node, edge = h.hyperedge_index
    direction = h._pair_direction() if directed else torch.zeros_like(node)
    tail, head = direction <= 0, direction >= 0
    sources = torch.sparse_coo_tensor(
        h.hyperedge_index[:, tail], left[tail], (h.num_nodes, h.num_edges), check_invariants=False
    )
    targets = torch.sparse_coo_tensor(
        torch.stack([edge[head], node[head]]),
        right[head],
        (h.num_edges, h.num_nodes),
        check_invariants=False,
    )
    product = torch.sparse.mm(sources, targets).coalesce()
    return product.indices(), product.values()


def plain_members(hypergraph: Incidence) -> Hypergraph:
    """The members as a sparse hypergraph without repeated pairs and without those of weight 0."""
    if not isinstance(hypergraph, Incidence):
        raise TypeError(
            f"`hypergraph` must be an incidence operator, got {type(hypergraph).__name__}; "
            "wrap an index tensor as Hypergraph(hyperedge_index)"
        )
    if hypergraph.batch_size is not None:
        raise ValueError(
            f"`hypergraph` must be one hypergraph, got a batch of {hypergraph.batch_size}; "
            "expand its samples one by one, or put sparse ones side by side with Hypergraph.batch"
        )
    members = hypergraph.with_members().members()
    counts = torch.ones_like(members.node, dtype=torch.bool)
    if members.value is not None:
        counts = members.value.detach() > 0
    if hypergraph.hyperedge_weight is not None:
        counts = counts & (hypergraph.hyperedge_weight.detach() > 0)[members.hyperedge]
    direction = hypergraph.direction if isinstance(hypergraph, Hypergraph) else None
    return Hypergraph(
        torch.stack([members.node, members.hyperedge])[:, counts],
        hypergraph.num_nodes,
        hypergraph.num_edges,
        hypergraph.hyperedge_weight,
        None if members.value is None else members.value[counts],
        direction=None if direction is None else direction[counts],
    ).coalesce()


def pair_values(h: Hypergraph) -> Tensor:
    """Incidence values in a dtype that holds the weights too, at least float32."""
    dtype = h._degree_dtype(None)
    if h.hyperedge_weight is not None:
        dtype = torch.promote_types(dtype, h.hyperedge_weight.dtype)
    return h._pair_values().to(dtype)


def _couples(groups: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered couples (i, j) of positions with groups[i] = groups[j], i = j included."""
    order = groups.argsort(stable=True)
    counts = torch.bincount(groups, minlength=1)
    start = (counts.cumsum(0) - counts)[groups[order]]  # of the group of each sorted position
    partners = counts[groups[order]]
    left = torch.arange(groups.shape[0], device=groups.device).repeat_interleave(partners)
    before = (partners.cumsum(0) - partners)[left]
    right = start[left] + torch.arange(left.shape[0], device=groups.device) - before
    return order[left], order[right]
