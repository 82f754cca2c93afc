"""The graph convolution of HyperGCN on a graph that is drawn from a hypergraph."""

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_features,
    check_float,
    check_integer,
    check_layer_dtype,
    check_positive_int,
    is_eager,
)
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence import Hypergraph, Incidence, MemberIncidence
from hypergraph.nn.hgnn_conv import as_incidence
from hypergraph_kernels import Segments, incidence_spmm, segments_from


class HyperGCNConv(nn.Module):
    """Graph convolution on a graph with a few edges per hyperedge, chosen by the features.

    ``X' = D^-1/2 (A + I) D^-1/2 X Theta + b``, ``D = diag((A + I) 1)``

    In every hyperedge e, ``i_e`` and ``j_e`` are the members with the largest and smallest
    projection of ``X Theta`` on a random direction r. A adds up over the hyperedges

    - without mediators: the edge {i_e, j_e} of weight ``w_e / |e|``;
    - with mediators: {i_e, j_e} and, for every other member k, {i_e, k} and {j_e, k}, each of
      weight ``w_e / (2 |e| - 3)``, so that a hyperedge's edges weigh w_e together.

    Yadati et al., HyperGCN: A New Method of Training Graph Convolutional Networks on Hypergraphs
    (NeurIPS 2019, https://arxiv.org/abs/1809.02589), Sections 4.1 and 4.2 (1-HyperGCN) and 4.3
    (HyperGCN, with mediators). As in the released code the bias is added after propagation, r is
    uniform in [0, 1), a new graph is drawn at every call while training, and the initial values are
    U(-1/sqrt(out_channels), +). FastHyperGCN draws one graph from the first layer's input: compute
    ``extreme_members`` once and pass it to every layer.

    Differences, and how we know:

    - The released code ignores w_e; the paper's Laplacian has it, and so does this layer.
    - A hyperedge with fewer than two distinct members makes no edge, since a vertex differs from
      itself by nothing. The released code gives {v} a loop of weight 2, and with mediators one of
      weight -2, whose degree -1 turns into NaN; DHG refuses such hyperedges.
    - DHG leaves the edge {i_e, j_e} out when there are mediators, fails when every hyperedge has
      two members, and keeps the first graph for ever.
    - In evaluation the stored ``direction`` is used, so that a model has one answer per input; the
      released code draws there too.

    ``|e| = sum of h_ve``; a mediator of incidence h_ke has edges of h_ke times the weight, which
    with soft or repeated members is ``w_e / (1 + 2 sum of the mediators' h)``. Among equal
    projections, i_e is the first and j_e the last vertex. Isolated vertices get ``X Theta + b``,
    through I; no degree is 0. Gradients do not flow through the choice of i_e and j_e.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        mediators: connect the other members as well (the released code's default is False).
        bias: add b.
        resample: draw a new direction at every call in training mode; False keeps ``direction``.

    Attributes:
        direction: [out_channels] buffer, drawn when the layer is made; see ``draw_direction``.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, HyperGCNConv
        >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=5)
        >>> HyperGCNConv(8, 16, mediators=True)(torch.randn(5, 8), h).shape
        torch.Size([5, 16])
    """

    direction: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mediators: bool = False,
        bias: bool = True,
        resample: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.mediators = mediators
        self.resample = resample
        self.theta = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("direction", torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Theta and b from U(-1/sqrt(out_channels), +), as the authors, and a direction."""
        bound = self.out_channels**-0.5
        nn.init.uniform_(self.theta.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        self.draw_direction()

    def draw_direction(self, generator: torch.Generator | None = None) -> None:
        """Store a new random direction, uniform in [0, 1).

        Args:
            generator: where the numbers come from; default PyTorch's.
        """
        with torch.no_grad():
            self.direction.uniform_(generator=generator)

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
        extremes: Tensor | None = None,  # [2, M] or [2, B, M]
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            hypergraph: an operator with members over N vertices (a batched one with [B, N, ...]),
                or a ``hyperedge_index`` [2, nnz].
            extremes: i_e and j_e of every hyperedge, from ``extreme_members``; None chooses them by
                ``X Theta``.

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: the features and the hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        check_layer_dtype(x, self.theta.weight)
        members = as_incidence(hypergraph, x).with_members()
        z = self.theta(x)
        if extremes is None:
            extremes = extreme_members(z, members, self._direction())
        else:
            extremes = _checked_extremes(extremes, x, members)
        out = _propagate(z, members, extremes, self.mediators)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"mediators={self.mediators}"
        )

    def _direction(self) -> Tensor:
        if self.training and self.resample:
            return torch.rand_like(self.direction)
        return self.direction


def extreme_members(
    x: Tensor,  # [N, C] or [B, N, C]
    hypergraph: Incidence | Tensor,
    direction: Tensor | None = None,  # [C]
    generator: torch.Generator | None = None,
) -> Tensor:
    """The two members of every hyperedge that lie farthest apart along one direction.

    ``i_e = argmax x_v . r``, ``j_e = argmin x_v . r`` over the members of e (Yadati et al.,
    https://arxiv.org/abs/1809.02589, Section 4.1, with the released code's random projection).

    Args:
        x: [N, C] or [B, N, C]; no gradient flows.
        hypergraph: an operator with members over N vertices, or a ``hyperedge_index`` [2, nnz].
        direction: [C] the direction r; None draws it from U[0, 1).
        generator: for the draw; default PyTorch's.

    Returns:
        [2, M], or [2, B, M] for x [B, N, C]: int64 vertices i_e and j_e, -1 for a hyperedge with
        fewer than two distinct members. Among equal projections i_e is the first and j_e the last.

    Raises:
        ValueError, TypeError: the features and the hypergraph do not fit.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, extreme_members
        >>> h = Hypergraph.from_edges([[0, 1, 2], [3]])
        >>> extreme_members(torch.tensor([[1.0], [5.0], [3.0], [0.0]]), h)
        tensor([[ 1, -1],
                [ 0, -1]])
    """
    x = check_features(x)
    members = as_incidence(hypergraph, x).with_members()
    with torch.no_grad(), without_autocast(x.device):
        points = x.to(propagation_dtype(x))
        if direction is None:
            direction = torch.rand(
                x.shape[-1], generator=generator, dtype=points.dtype, device=x.device
            )
        direction = check_float("direction", direction)
        if direction.shape != x.shape[-1:]:
            raise ValueError(
                f"`direction` must have shape [{x.shape[-1]}], one entry per channel, "
                f"got {list(direction.shape)}"
            )
        pairs = _Union(members, x)
        scores = (points @ direction.to(points.dtype)).flatten()[pairs.node]
        highest = pairs.largest(scores)
        lowest = -pairs.largest(-scores)
        nodes, edges = pairs.num_nodes, pairs.num_edges
        # Ties are broken by vertex number, from both ends: two members never give one vertex.
        top = torch.where(pairs.present & (scores == highest[pairs.edge]), pairs.node, nodes)
        low = torch.where(pairs.present & (scores == lowest[pairs.edge]), pairs.node, -1)
        i = pairs.edge.new_full((edges,), nodes).scatter_reduce(0, pairs.edge, top, "amin")
        j = pairs.edge.new_full((edges,), -1).scatter_reduce(0, pairs.edge, low, "amax")
        found = (i < nodes) & (j >= 0) & (i != j)
        shape = (pairs.samples, members.num_edges)
        local = torch.stack([i, j]).view(2, *shape) - members.num_nodes * pairs.sample_numbers
        local = torch.where(found.view(shape), local, -1)
        return local if x.dim() == 3 else local.squeeze(1)


class _Union:
    """The pairs of B hypergraphs side by side, also where features [B, ...] share one of them."""

    def __init__(self, members: MemberIncidence, x: Tensor) -> None:
        node, edge, value = members.members()
        self.samples = x.shape[0] if x.dim() == 3 else 1
        self.num_nodes = self.samples * members.num_nodes
        self.num_edges = self.samples * members.num_edges
        self.sample_numbers = torch.arange(self.samples, device=node.device).unsqueeze(-1)  # [B, 1]
        if members.batch_size is None and x.dim() == 3:
            node = (node + self.sample_numbers * members.num_nodes).flatten()
            edge = (edge + self.sample_numbers * members.num_edges).flatten()
            value = None if value is None else value.repeat(self.samples)
        self.node, self.edge, self.value = node, edge, value
        self.single = members if isinstance(members, Hypergraph) and x.dim() == 2 else None
        self.present = torch.ones_like(node, dtype=torch.bool) if value is None else value > 0

    def segments(self) -> tuple[Segments, Segments]:
        """The pairs grouped by hyperedge and by vertex; a hypergraph has kept them."""
        if self.single is not None:
            return self.single._by_edge, self.single._by_node
        by_edge = segments_from(self.edge, self.node, self.num_edges)
        return by_edge, segments_from(self.node, self.edge, self.num_nodes)

    def largest(self, scores: Tensor) -> Tensor:
        """[num_edges] largest score of a hyperedge's members, -infinity without members."""
        out = scores.new_full((self.num_edges,), -torch.inf)
        return out.scatter_reduce(
            0, self.edge, scores.masked_fill(~self.present, -torch.inf), "amax"
        )


def _propagate(z: Tensor, members: MemberIncidence, extremes: Tensor, mediators: bool) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2 Z`` without forming A."""
    with without_autocast(z.device):
        dtype = propagation_dtype(z)
        if members.dtype is not None:
            dtype = torch.promote_types(dtype, members.dtype)
        pairs = _Union(members, z)
        nodes = pairs.num_nodes
        weight = members.weight(dtype)
        if members.batch_size is None and z.dim() == 3:
            weight = weight.repeat(pairs.samples)
        weight = weight.flatten().to(dtype)
        h = torch.ones_like(pairs.node, dtype=dtype)
        if pairs.value is not None:
            h = pairs.value.to(dtype)
        edge_degree = h.new_zeros(pairs.num_edges).index_add(0, pairs.edge, h)
        inverse_degree = inverse_power(edge_degree, -1.0)

        extremes = extremes.view(2, pairs.samples, members.num_edges)
        found = (extremes >= 0).all(0).flatten() & (edge_degree > torch.finfo(dtype).tiny)
        # One more row, of zeros, stands for the ends of the edges that are not there.
        numbered = (extremes + members.num_nodes * pairs.sample_numbers).flatten(1)
        i, j = torch.where(found, numbered, nodes)

        if mediators:
            between = pairs.present & found[pairs.edge]
            between &= (pairs.node != i[pairs.edge]) & (pairs.node != j[pairs.edge])
            h = torch.where(between, h, 0)
            total = h.new_zeros(pairs.num_edges).index_add(0, pairs.edge, h)
            edge_weight = torch.where(found, weight, 0) / (1 + 2 * total)
            spoke = h * edge_weight[pairs.edge]
            ends = edge_weight * (1 + total)
        else:
            edge_weight = ends = torch.where(found, weight, 0) * inverse_degree
        degree = h.new_ones(nodes + 1).index_add(0, i, ends).index_add(0, j, ends)
        if mediators:
            degree = degree.index_add(0, pairs.node, 2 * spoke)
        root = degree.rsqrt().unsqueeze(-1)

        x = torch.cat([z.reshape(nodes, z.shape[-1]), z.new_zeros(1, z.shape[-1])]).to(dtype)
        x = x * root
        x_i, x_j = x[i], x[j]
        to_i, to_j = x_j, x_i
        if mediators:
            by_edge, by_node = pairs.segments()
            middle = incidence_spmm(x[:nodes], h, by_edge, by_node)
            to_i, to_j = x_j + middle, x_i + middle
        out = x.index_add(0, i, edge_weight.unsqueeze(-1) * to_i)
        out = out.index_add(0, j, edge_weight.unsqueeze(-1) * to_j)
        out = out[:nodes]
        if mediators:
            out = out + incidence_spmm(x_i + x_j, spoke, by_node, by_edge)
        return (out * root[:nodes]).view(z.shape).to(z.dtype)


def _checked_extremes(extremes: object, x: Tensor, members: MemberIncidence) -> Tensor:
    extremes = check_integer("extremes", extremes)
    shape = [2, *x.shape[:-2], members.num_edges]
    if list(extremes.shape) != shape:
        raise ValueError(
            f"`extremes` must have shape {shape}, as extreme_members gives it for this `x`, "
            f"got {list(extremes.shape)}"
        )
    if is_eager() and extremes.numel():
        low, high = (int(bound) for bound in torch.aminmax(extremes))
        if low < -1 or high >= members.num_nodes:
            raise ValueError(
                f"`extremes` must lie in [-1, num_nodes={members.num_nodes}), "
                f"got {low if low < -1 else high}; compute them with extreme_members"
            )
    return extremes
