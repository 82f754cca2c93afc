"""The vertex and hyperedge convolutions of DHGNN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_features,
    check_layer_dtype,
    check_non_negative_number,
    check_positive_int,
)
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence import Incidence, NeighborTable
from hypergraph.incidence.base import check_fit
from hypergraph_kernels import Segments, incidence_spmm, segments_from

Tables = NeighborTable | Sequence[NeighborTable]


class DHGNNConv(nn.Module):
    """Learned mixing of the k members of a hyperedge, attention over a vertex' hyperedges.

    Every vertex has t hyperedges of its own; hyperedge i of vertex n has the members u_1 ... u_k.

    - vertex convolution: ``T_jl = softmax_l (W_j x_{u_j} + b_j)_l``, a k x k matrix,
      ``y_i = sum_j c_j sum_l T_jl x_{u_l} + c_0``;
    - hyperedge convolution: ``alpha_i = softmax_i ( v . ReLU(U y_i + a) + v_0 )``,
      ``x_n' = Theta sum_i alpha_i y_i + b``, with dropout before Theta.

    Jiang et al., Dynamic Hypergraph Neural Networks (IJCAI 2019,
    https://doi.org/10.24963/ijcai.2019/366), Section 3.3, after the released code: W, c and v have
    PyTorch's initial values, U has in_channels / 4 rows, dropout is 0.5; one W, b and c per kind of
    hyperedge, one U and v for all. The activation (ReLU there) is left to the caller. T is not
    formed with features: ``sum_j c_j T_jl`` are the incidence values of one sparse product.

    The parameters belong to slots of the member list: hyperedges need exactly k members, in an
    order that means something, so only ``NeighborTable`` fits, one row per vertex. The released
    model uses the 64 nearest vertices by cosine distance (``KNN``), 64 members drawn from the
    vertex' k-means cluster and 128 from its neighbours in a graph (``sample_members`` draws both),
    without the latter two in the first epochs.

    Where a table has incidence values h (or a mask, h = 0), T and the sums take h as multiplicity:
    ``T_jl = h_l exp(..) / sum h exp(..)``, ``sum_j c_j h_j``; in alpha, w_e exp(..) takes the place
    of exp(..). A hyperedge without members has no part in alpha; a vertex with no other hyperedges
    gets b. Linear maps run in the dtype of the input, or bfloat16 under autocast; softmax and sums
    in at least float32; the result has the dtype of the last map. Gradients are finite everywhere.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        k: members per hyperedge; a list gives one number for each of the t tables.
        hidden_channels: rows of U; default in_channels // 4, at least 1.
        dropout: share of the channels dropped before Theta, while training.
        bias: add b.

    Example:
        >>> import torch
        >>> from hypergraph import KNN, DHGNNConv
        >>> x = torch.randn(30, 8)
        >>> near, far = KNN(4), KNN(6, metric="euclidean")
        >>> DHGNNConv(8, 16, k=[4, 6])(x, [near(x), far(x)]).shape
        torch.Size([30, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int | Sequence[int],
        hidden_channels: int | None = None,
        dropout: float = 0.5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        sizes = list(k) if isinstance(k, Sequence) else [k]
        self.k = tuple(check_positive_int("k", size) for size in sizes)
        if not self.k:
            raise ValueError("`k` must hold at least one number of members, got none")
        if hidden_channels is None:
            hidden_channels = max(in_channels // 4, 1)
        hidden = check_positive_int("hidden_channels", hidden_channels)
        check_non_negative_number("dropout", dropout)
        if dropout > 1:
            raise ValueError(f"`dropout` must lie in [0, 1], got {dropout}")
        self.vertex_convs = nn.ModuleList(_VertexConv(in_channels, size) for size in self.k)
        self.edge_scores = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        self.dropout = nn.Dropout(dropout)
        self.theta = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draw all parameters from PyTorch's U(-1/sqrt(inputs), +), as the authors."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Tables,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: t tables over N vertices with N hyperedges each, row n for vertex n, of the
                widths ``k`` (a batched one with [B, N, ...]); a single table where t = 1.

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the tables do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        tables = self._checked(hypergraph, x)
        edges, weights = [], []
        for conv, table in zip(self.vertex_convs, tables, strict=True):
            edges.append(conv(x, table))
            weights.append(_edge_weight(table, x))
        y = torch.stack([edge.to(x.dtype) for edge in edges], -2)  # [..., N, t, C]
        scores = self.edge_scores(y).squeeze(-1)
        with without_autocast(x.device):
            weight = torch.stack(torch.broadcast_tensors(*weights), -1)
            dtype = propagation_dtype(scores, weight, *edges)
            alpha = _softmax(scores.to(dtype), weight.to(dtype))
            mixed = (alpha.unsqueeze(-2) @ torch.stack(edges, -2).to(dtype)).squeeze(-2)
        out: Tensor = self.theta(self.dropout(mixed.to(x.dtype)))
        return out

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}, k={self.k}"

    def _checked(self, hypergraph: object, x: Tensor) -> list[NeighborTable]:
        if isinstance(hypergraph, Sequence) and not isinstance(hypergraph, (str, bytes)):
            tables = list(hypergraph)
        else:
            tables = [hypergraph]
        for table in tables:
            if not isinstance(table, NeighborTable):
                raise TypeError(
                    "`hypergraph` must be a NeighborTable or a list of them, because this layer "
                    "has parameters for every slot of a member list, "
                    f"got {type(table).__name__}; make one with KNN or sample_members"
                )
            check_fit(x, table)
        shapes = [table.index.shape[-2:] for table in tables]
        expected = [(x.shape[-2], size) for size in self.k]
        if [tuple(shape) for shape in shapes] != expected:
            raise ValueError(
                f"`hypergraph` must hold tables of shapes {expected}, one row per vertex and the "
                f"layer's k={self.k}, got {[tuple(shape) for shape in shapes]}"
            )
        return tables


class _VertexConv(nn.Module):
    """``sum_j c_j h_j sum_l T_jl x_{u_l} + c_0`` for every row of a table."""

    def __init__(self, channels: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.multiplier = nn.Linear(channels, k * k)  # row j * k + l is W_j's row l
        self.mix = nn.Linear(k, 1)

    def forward(self, x: Tensor, table: NeighborTable) -> Tensor:
        """[..., N, C] in at least float32."""
        k, nodes = self.k, x.shape[-2]
        rows = x.flatten(0, -2)
        # Slot j needs W_j of its member alone: all k rows of every vertex once, then a choice.
        products = self.multiplier(rows).view(rows.shape[0] * k, k)
        with without_autocast(x.device):
            index, by_edge, by_node = _segments(table, x)
            slots = index.view(-1, k) * k + torch.arange(k, device=x.device)
            dtype = torch.promote_types(propagation_dtype(products), table.dtype or torch.float32)
            scores = products.index_select(0, slots.flatten()).view(-1, k, k).to(dtype)
            coefficients = self.mix.weight.to(dtype).squeeze(0)
            h = _values(table, x, dtype)
            if h is not None:
                h = h.view(-1, k)
                coefficients = coefficients * h
                h = h.unsqueeze(-2)
            transform = _softmax(scores, h)
            values = (coefficients.expand(slots.shape).unsqueeze(-2) @ transform).squeeze(-2)
            y = incidence_spmm(rows.to(dtype), values.flatten(), by_edge, by_node)
            y = y + self.mix.bias.to(dtype)
            return y.view(*x.shape[:-2], nodes, x.shape[-1])


def _segments(table: NeighborTable, x: Tensor) -> tuple[Tensor, Segments, Segments]:
    """Members numbered through the samples, and both groupings of them."""
    if table.batch_size is not None or x.dim() == 2:
        return table._flat_index, table._by_edge, table._by_node
    samples, nodes, width = x.shape[0], x.shape[-2], table.index.shape[-1]
    first = torch.arange(samples, device=x.device)[:, None, None] * nodes
    index = (table.index + first).flatten()
    offsets = torch.arange(samples * nodes + 1, device=x.device) * width
    slots = torch.arange(index.shape[0], device=x.device)
    by_node = segments_from(index, slots // width, samples * nodes)
    return index, Segments(index, offsets, None), by_node


def _values(table: NeighborTable, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """[samples * N * k] incidence values, 0 where a mask leaves a slot out; None for ones."""
    values = table._values(dtype)
    if values is not None and table.batch_size is None and x.dim() == 3:
        values = values.repeat(x.shape[0])
    return values


def _edge_weight(table: NeighborTable, x: Tensor) -> Tensor:
    """[N] or [B, N] weight of every vertex' hyperedge; 0 for one without members."""
    degree = table.edge_degree(propagation_dtype(x))
    return table.weight(degree.dtype) * (degree > torch.finfo(degree.dtype).tiny)


def _softmax(scores: Tensor, weight: Tensor | None) -> Tensor:
    """``weight exp(score)`` over its sum in the last dimension; 0 where the weights sum to 0."""
    if weight is None:
        return scores.softmax(-1)
    scores = scores.masked_fill(weight <= 0, -torch.inf)
    highest = scores.detach().amax(-1, keepdim=True)
    powers = (scores - torch.where(highest.isfinite(), highest, 0)).exp() * weight
    return powers * inverse_power(powers.sum(-1, keepdim=True), -1.0)


def sample_members(
    hypergraph: Incidence,
    k: int,
    keep_self: bool = False,
    generator: torch.Generator | None = None,
) -> NeighborTable:
    """Draw k members for every vertex from its hyperedges, with replacement.

    A hyperedge e of v is drawn with probability ``w_e h_ve / sum_e w_e h_ve``, then a member u of e
    with probability ``h_ue / sum_u h_ue``. An isolated vertex draws itself.

    This makes the hyperedges of DHGNN's released code: from k-means clusters, each vertex in one,
    k members of the vertex' cluster; from a graph's neighbourhoods (``KHop``) k - 1 neighbours
    and, with ``keep_self``, the vertex last.

    Args:
        hypergraph: an operator with members, N vertices.
        k: members per vertex.
        keep_self: the last of the k is the vertex itself.
        generator: where the draws come from; default PyTorch's.

    Returns:
        A NeighborTable [N, k] or [B, N, k]: row n holds members drawn for vertex n.

    Raises:
        TypeError: the operator lists no members.

    Example:
        >>> from hypergraph import Hypergraph, sample_members
        >>> h = Hypergraph.from_edges([[0, 1], [2]], num_nodes=4)
        >>> sample_members(h, 3, keep_self=True).index[:, -1]
        tensor([0, 1, 2, 3])
    """
    k = check_positive_int("k", k)
    if not isinstance(hypergraph, Incidence):
        raise TypeError(
            f"`hypergraph` must be an incidence operator, got {type(hypergraph).__name__}"
        )
    members = hypergraph.with_members()
    node, edge, value = members.members()
    samples = 1 if members.batch_size is None else members.batch_size
    nodes, edges = samples * members.num_nodes, samples * members.num_edges
    with torch.no_grad():
        h = torch.ones_like(node, dtype=torch.float64) if value is None else value.double()
        weight = members.weight(torch.float64).flatten()[edge] * h
        vertices = torch.arange(nodes, device=node.device)
        draws = k - 1 if keep_self else k
        chosen_edge = _drawn(
            node, weight, edge, nodes, vertices.repeat_interleave(draws), generator
        )
        isolated = chosen_edge < 0
        chosen = _drawn(edge, h, node, edges, chosen_edge.clamp_min(0), generator)
        chosen = torch.where(isolated, vertices.repeat_interleave(draws), chosen)
        index = chosen.view(nodes, draws)
        if keep_self:
            index = torch.cat([index, vertices.unsqueeze(-1)], 1)
        if members.batch_size is not None:
            index = index.view(samples, members.num_nodes, k)
            first = torch.arange(samples, device=node.device) * members.num_nodes
            index = index - first[:, None, None]
    return NeighborTable(index, members.num_nodes)


def _drawn(
    group: Tensor,
    weight: Tensor,
    item: Tensor,
    size: int,
    wanted: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """One item of every wanted group, with probability proportional to weight; -1 from none."""
    if item.shape[0] == 0:
        return torch.full_like(wanted, -1)
    order = group.argsort(stable=True)
    group, weight, item = group[order], weight[order], item[order]
    total = weight.new_zeros(size).index_add(0, group, weight)
    counts = (weight > 0) & (total > torch.finfo(total.dtype).tiny)[group]
    group, weight, item = group[counts], weight[counts], item[counts]
    # Shares, so that one group's large weights do not swallow another's in the running sum.
    running = (weight / total[group]).cumsum(0)
    number = torch.bincount(group, minlength=size)
    last = number.cumsum(0) - 1
    first = last - number + 1
    start = torch.cat([running.new_zeros(1), running])[first]
    points = torch.rand(
        wanted.shape, generator=generator, dtype=running.dtype, device=running.device
    )
    found = torch.searchsorted(running, start[wanted] + points, right=True)
    found = torch.maximum(torch.minimum(found, last[wanted]), first[wanted])
    item = torch.cat([item, item.new_full((1,), -1)])  # what groups without items point at
    return torch.where(number[wanted] > 0, item[found], -1)
