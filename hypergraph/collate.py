"""Hypergraphs of different sizes as one batch of equal sizes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_float
from hypergraph.incidence import Dense, Hypergraph, NeighborTable
from hypergraph.incidence.sparse import checked_list

PaddedForm = Literal["dense", "table"]


class PaddedBatch(NamedTuple):
    """B hypergraphs, padded to N vertices and M hyperedges each.

    What is padded has no members: no layer mixes it with what is there, and means over vertices
    are taken with the masks.
    """

    hypergraph: Dense | NeighborTable
    """``batch_size`` B, N vertices, M hyperedges."""
    x: Tensor | None
    """[B, N, C] vertex features, 0 where padded; None without any."""
    node_mask: Tensor
    """[B, N] bool, True for vertices that are there."""
    edge_mask: Tensor
    """[B, M] bool, True for hyperedges that are there, empty ones included."""
    hyperedge_features: Tensor | None
    """[B, M, F], 0 where padded; None without any."""


def collate_padded(
    hypergraphs: Sequence[Hypergraph],
    features: Sequence[Tensor] | None = None,  # B of [N_b, C]
    form: PaddedForm = "dense",
) -> PaddedBatch:
    """Pad hypergraphs of different sizes to a batch [B, N, ...] of equal ones.

    It serves as ``collate_fn`` of a DataLoader whose items are hypergraphs with features. Where
    sizes differ much, ``Hypergraph.batch`` wastes less.

    Args:
        hypergraphs: at least one.
        features: [N_b, C] per hypergraph; default their ``node_features``.
        form: ``"dense"``, H as [B, N, M], for the layers that take any operator; or ``"table"``,
            [B, M, K] with K the largest number of pairs in a hyperedge, for those that need members
            too and where hyperedges are small.

    Returns:
        The operator, features and masks. Weights of hyperedges and pairs are in the operator;
        groups, directions and vertex weights are not kept.

    Raises:
        ValueError, TypeError: there is no hypergraph, or features do not fit.

    Example:
        >>> import torch
        >>> from hypergraph import HGNNConv, Hypergraph, collate_padded
        >>> one, two = Hypergraph.from_edges([[0, 1, 2]]), Hypergraph.from_edges([[0, 1], [1]])
        >>> h, x, node_mask, *_ = collate_padded([one, two], [torch.randn(3, 8), torch.randn(2, 8)])
        >>> h.shape, node_mask.sum(1)
        ((2, 3, 2), tensor([3, 2]))
        >>> HGNNConv(8, 4)(x, h).shape
        torch.Size([2, 3, 4])
    """
    check_choice("form", form, get_args(PaddedForm))
    hypergraphs = checked_list(hypergraphs)
    if features is not None:
        hypergraphs = _with_features(hypergraphs, features)
    flat = Hypergraph.batch(hypergraphs)
    assert flat.node_batch is not None and flat.edge_batch is not None
    nodes = _Slots(flat.node_batch, [h.num_nodes for h in hypergraphs])
    edges = _Slots(flat.edge_batch, [h.num_edges for h in hypergraphs])
    weight = None
    if flat.hyperedge_weight is not None:
        weight = edges.spread(flat.hyperedge_weight)
    operator: Dense | NeighborTable
    if form == "dense":
        operator = Dense(_dense(flat, nodes, edges), weight)
    else:
        operator = _table(flat, nodes, edges, weight)
    x, y = flat.node_features, flat.hyperedge_features
    return PaddedBatch(
        operator,
        None if x is None else nodes.spread(x),
        nodes.spread(torch.ones_like(flat.node_batch, dtype=torch.bool)),
        edges.spread(torch.ones_like(flat.edge_batch, dtype=torch.bool)),
        None if y is None else edges.spread(y),
    )


class _Slots:
    """Where the items of a flat list go in a padded batch."""

    def __init__(self, batch: Tensor, sizes: list[int]) -> None:
        self.samples = len(sizes)
        self.width = max(sizes)
        counts = torch.tensor(sizes, device=batch.device)
        first = counts.cumsum(0) - counts
        self.batch = batch
        self.place = torch.arange(batch.shape[0], device=batch.device) - first[batch]
        self.slot = batch * self.width + self.place

    def spread(self, items: Tensor) -> Tensor:
        """[total, ...] as [B, width, ...], zeros elsewhere."""
        padded = items.new_zeros(self.samples * self.width, *items.shape[1:])
        padded = padded.index_put((self.slot,), items)
        return padded.view(self.samples, self.width, *items.shape[1:])


def _dense(flat: Hypergraph, nodes: _Slots, edges: _Slots) -> Tensor:
    node, edge = flat.hyperedge_index
    values = flat._pair_values()
    matrix = values.new_zeros(nodes.samples * nodes.width * edges.width)
    matrix = matrix.index_add(0, nodes.slot[node] * edges.width + edges.place[edge], values)
    return matrix.view(nodes.samples, nodes.width, edges.width)


def _table(flat: Hypergraph, nodes: _Slots, edges: _Slots, weight: Tensor | None) -> NeighborTable:
    node, edge = flat.hyperedge_index
    order = edge.argsort(stable=True)
    sizes = torch.bincount(edge, minlength=flat.num_edges)
    width = int(sizes.max()) if sizes.numel() else 0
    first = sizes.cumsum(0) - sizes
    column = torch.arange(flat.nnz, device=flat.device) - first[edge[order]]
    slot = edges.slot[edge[order]] * width + column
    shape = (edges.samples, edges.width, width)
    cells = edges.samples * edges.width * width
    index = node.new_zeros(cells).index_put((slot,), nodes.place[node[order]])
    mask = torch.zeros(cells, dtype=torch.bool, device=flat.device)
    mask[slot] = True
    values = flat.incidence_weight
    if values is not None:
        values = values.new_zeros(cells).index_put((slot,), values[order]).view(shape)
    return NeighborTable(index.view(shape), nodes.width, values, mask.view(shape), weight)


def _with_features(hypergraphs: list[Hypergraph], features: Sequence[Tensor]) -> list[Hypergraph]:
    features = [check_float("features", rows) for rows in features]
    if len(features) != len(hypergraphs):
        raise ValueError(
            f"`features` must have one entry per hypergraph, {len(hypergraphs)}, "
            f"got {len(features)}"
        )
    for h, rows in zip(hypergraphs, features, strict=True):
        if rows.dim() != 2 or rows.shape[0] != h.num_nodes:
            raise ValueError(
                f"`features` must have shape [{h.num_nodes}, C] for a hypergraph of "
                f"{h.num_nodes} vertices, got {list(rows.shape)}"
            )
    pairs = zip(hypergraphs, features, strict=True)
    return [h.replace(node_features=rows) for h, rows in pairs]
