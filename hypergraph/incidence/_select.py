"""Parts of a sparse hypergraph."""

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_index_range, check_integer
from hypergraph.incidence._structure import EDGE_FIELDS, NODE_FIELDS, PAIR_FIELDS, Structure

Selection = Tensor | Sequence[int] | Sequence[bool]
KeptEdges = Literal["shrink", "inside", "all"]


class Selectable(Structure):
    """Sub-hypergraphs; every method returns a new hypergraph with all fields, renumbered."""

    # ---- by vertex and hyperedge

    def subgraph(
        self,
        nodes: Selection,
        hyperedges: KeptEdges = "shrink",
    ) -> tuple[Self, Tensor]:
        """The sub-hypergraph induced by some vertices.

        Vertex i of the result is ``nodes[i]``. Pairs of value 0 do not make a member.

        Args:
            nodes: different vertices in any order, or a bool mask [num_nodes].
            hyperedges: what becomes of a hyperedge that loses members. ``"shrink"`` keeps those
                with a member left, without the lost ones; ``"inside"`` keeps those that lose none
                and are not empty; ``"all"`` keeps every hyperedge, empty ones included.

        Returns:
            The sub-hypergraph, and the kept hyperedges [M'] in ascending order.

        Raises:
            ValueError, TypeError: a vertex does not exist or is named twice, or the mask has
                another size.

        Example:
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3], [3]])
            >>> sub, kept = h.subgraph([2, 1])
            >>> sub.to_dense().T, kept
            (tensor([[1., 1.],
                    [1., 0.]]), tensor([0, 1]))
            >>> h.subgraph([2, 3], hyperedges="inside")[1]
            tensor([1, 2])
        """
        check_choice("hyperedges", hyperedges, get_args(KeptEdges))
        chosen = as_indices("nodes", nodes, self.num_nodes, "num_nodes", self.device)
        if hyperedges == "all":
            edges = torch.arange(self.num_edges, device=self.device)
            return self._picked(chosen, None), edges
        inside = torch.zeros(self.num_nodes, dtype=torch.bool, device=self.device)
        inside[chosen] = True
        total, left = self._sizes(), self._sizes(inside)
        keep = left > 0 if hyperedges == "shrink" else (left == total) & (total > 0)
        edges = keep.nonzero().squeeze(1)
        return self._picked(chosen, edges), edges

    def edge_subgraph(self, edges: Selection) -> Self:
        """The hypergraph of some hyperedges over all vertices.

        Args:
            edges: different hyperedges, whose order becomes theirs, or a bool mask [num_edges].

        Returns:
            H with these columns; ``remove_isolated_nodes`` takes away what is then isolated.

        Raises:
            ValueError, TypeError: a hyperedge does not exist or is named twice, or the mask has
                another size.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [1], [0]]).edge_subgraph([2, 0]).to_dense()
            tensor([[1., 1.],
                    [0., 1.]])
        """
        return self._picked(
            None, as_indices("edges", edges, self.num_edges, "num_edges", self.device)
        )

    def drop_nodes(self, nodes: Selection) -> Self:
        """Take vertices away: H without these rows. All hyperedges stay, even empty ones.

        Args:
            nodes: different vertices, or a bool mask [num_nodes].

        Raises:
            ValueError, TypeError: see ``subgraph``.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [1, 2]]).drop_nodes([0]).to_dense()
            tensor([[1., 1.],
                    [0., 1.]])
        """
        gone = as_indices("nodes", nodes, self.num_nodes, "num_nodes", self.device)
        return self._picked(_others(gone, self.num_nodes), None)

    def drop_edges(self, edges: Selection) -> Self:
        """Take hyperedges away: H without these columns. All vertices stay.

        Args:
            edges: different hyperedges, or a bool mask [num_edges].

        Raises:
            ValueError, TypeError: see ``edge_subgraph``.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [1, 2]]).drop_edges([0]).edge_degree()
            tensor([2.])
        """
        gone = as_indices("edges", edges, self.num_edges, "num_edges", self.device)
        return self._picked(None, _others(gone, self.num_edges))

    def remove_isolated_nodes(self) -> tuple[Self, Tensor]:
        """Take away the vertices that are in no hyperedge.

        Returns:
            The hypergraph, and the vertices that stay [N'] in ascending order: ``x[kept]``.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 2]], num_nodes=4).remove_isolated_nodes()[1]
            tensor([0, 2])
        """
        kept = self._covered(0, self.num_nodes).nonzero().squeeze(1)
        return self._picked(kept, None), kept

    def remove_empty_edges(self) -> tuple[Self, Tensor]:
        """Take away the hyperedges without a member.

        Returns:
            The hypergraph, and the hyperedges that stay [M'] in ascending order.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[], [0, 2], []]).remove_empty_edges()[1]
            tensor([1])
        """
        kept = self._covered(1, self.num_edges).nonzero().squeeze(1)
        return self._picked(None, kept), kept

    # ---- at random

    def drop_edges_randomly(self, p: float, generator: torch.Generator | None = None) -> Self:
        """Take every hyperedge away with probability p, as augmentation; all vertices stay.

        Args:
            p: 0 <= p <= 1.
            generator: default the global one of the hypergraph's device. A generator on the CPU
                draws the same for every device.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1], [1, 2], [2]])
            >>> h.drop_edges_randomly(1.0, torch.Generator().manual_seed(0)).shape
            (3, 0)
        """
        return self._picked(None, self._drawn(p, self.num_edges, generator))

    def drop_incidence_randomly(self, p: float, generator: torch.Generator | None = None) -> Self:
        """Take every pair away with probability p; all vertices and hyperedges stay.

        Args:
            p: 0 <= p <= 1.
            generator: see ``drop_edges_randomly``.
        """
        return self._with_pairs(self._drawn(p, self.nnz, generator))

    # ---- by group and direction

    def group(self, name: str) -> Self:
        """The hyperedges of one group, over all vertices, as a hypergraph without groups.

        Args:
            name: one of ``group_names``.

        Raises:
            ValueError: there is no such group.

        Example:
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_groups({"paper": [[0, 1]], "venue": [[0, 1, 2], [3]]})
            >>> h.group("venue").edge_degree()
            tensor([3., 1.])
        """
        if self.hyperedge_group is None or name not in self.group_names:
            raise ValueError(f"`name` must be one of {list(self.group_names)}, got {name!r}")
        edges = self.hyperedge_group == self.group_names.index(name)
        return self.replace(hyperedge_group=None)._picked(None, edges.nonzero().squeeze(1))

    @property
    def is_directed(self) -> bool:
        """Whether pairs are told apart as tail, head or both."""
        return self.direction is not None

    def tail(self) -> Self:
        """The incidence of tails: pairs of direction -1 and 0, without direction.

        ``h.tail().v2e(x)`` sums over the vertices that a hyperedge comes from. All pairs of a
        hypergraph without direction are in both its tail and its head.

        Example:
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_directed_edges([([0, 1], [2])])
            >>> h.tail().to_dense().T, h.head().to_dense().T
            (tensor([[1., 1., 0.]]), tensor([[0., 0., 1.]]))
        """
        return self._side(-1)

    def head(self) -> Self:
        """The incidence of heads: pairs of direction +1 and 0, without direction."""
        return self._side(1)

    # ---- by sample

    def unbatch(self) -> list[Self]:
        """The hypergraphs that ``Hypergraph.batch`` put side by side, in their order.

        Weights that only some of them had are ones in the others, and groups have the names of the
        batch. What was done to the batch in between (hyperedges dropped, self-loops added, ...) is
        done to its samples.

        Raises:
            ValueError: this is no batch.

        Example:
            >>> from hypergraph import Hypergraph
            >>> both = Hypergraph.batch([Hypergraph.from_edges([[0], []]),
            ...                          Hypergraph.from_edges([[1]])])
            >>> [h.shape for h in both.unbatch()]
            [(1, 2), (2, 1)]
        """
        count, node_batch, edge_batch = self.num_samples, self.node_batch, self.edge_batch
        if count is None or node_batch is None or edge_batch is None:
            raise ValueError(
                "`unbatch` needs a batch, got a hypergraph without `node_batch`; "
                "batches are made by Hypergraph.batch"
            )
        node, edge = self.hyperedge_index
        nodes, node_place, node_counts = _grouped(node_batch, count)
        edges, edge_place, edge_counts = _grouped(edge_batch, count)
        pairs, _, pair_counts = _grouped(node_batch[node], count)
        index = torch.stack([node_place[node], edge_place[edge]])[:, pairs]
        fields: dict[str, Any] = {}
        kinds = (
            (NODE_FIELDS, nodes, node_counts),
            (EDGE_FIELDS, edges, edge_counts),
            (PAIR_FIELDS, pairs, pair_counts),
        )
        for names, order, counts in kinds:
            for name in names:
                value = getattr(self, name)
                if value is not None and name not in ("node_batch", "edge_batch"):
                    fields[name] = value[order].split(counts)
        return [
            type(self)(
                piece,
                node_counts[sample],
                edge_counts[sample],
                group_names=self.group_names or None,
                **{name: pieces[sample] for name, pieces in fields.items()},
            )._like(self)
            for sample, piece in enumerate(index.split(pair_counts, 1))
        ]

    # ---- shared

    def _picked(self, nodes: Tensor | None, edges: Tensor | None) -> Self:
        """Rows and columns of H in the given order; None for all of them."""
        node, edge = self.hyperedge_index
        keep = torch.ones_like(node, dtype=torch.bool)
        if nodes is not None:
            node = _places(nodes, self.num_nodes)[node]
            keep = node >= 0
        if edges is not None:
            edge = _places(edges, self.num_edges)[edge]
            keep = keep & (edge >= 0)
        pairs = keep.nonzero().squeeze(1)
        return self._rebuilt(
            torch.stack([node, edge])[:, pairs],
            self.num_nodes if nodes is None else nodes.shape[0],
            self.num_edges if edges is None else edges.shape[0],
            node=None if nodes is None else lambda field: field[nodes],
            edge=None if edges is None else lambda field: field[edges],
            pair=lambda field: field[pairs],
        )

    def _with_pairs(self, pairs: Tensor) -> Self:
        return self._rebuilt(
            self.hyperedge_index[:, pairs],
            self.num_nodes,
            self.num_edges,
            pair=lambda field: field[pairs],
        )

    def _side(self, sign: int) -> Self:
        if self.direction is None:
            return self._mapped(lambda tensor: tensor)
        pairs = (self.direction != -sign).nonzero().squeeze(1)
        return self.replace(direction=None)._with_pairs(pairs)

    def _sizes(self, nodes: Tensor | None = None) -> Tensor:
        """[num_edges] int64: pairs of positive value, of all vertices or those of a mask."""
        node, edge = self.hyperedge_index
        counted = self._counted()
        member = torch.ones_like(node, dtype=torch.bool) if counted is None else counted
        if nodes is not None:
            member = member & nodes[node]
        return edge.new_zeros(self.num_edges).index_add(0, edge, member.long())

    def _covered(self, row: int, size: int) -> Tensor:
        """[size] bool: the vertices (row 0) or hyperedges (row 1) of pairs with positive value."""
        index, counted = self.hyperedge_index[row], self._counted()
        covered = torch.zeros(size, dtype=torch.bool, device=self.device)
        covered[index if counted is None else index[counted]] = True
        return covered

    def _drawn(self, p: float, size: int, generator: torch.Generator | None) -> Tensor:
        """The numbers below ``size`` that a random drop keeps."""
        if isinstance(p, bool) or not isinstance(p, (int, float)):
            raise TypeError(f"`p` must be a number, got {type(p).__name__}")
        if not 0 <= p <= 1:
            raise ValueError(f"`p` must be a probability between 0 and 1, got {p}")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"`generator` must be a torch.Generator, got {type(generator).__name__}; "
                "write torch.Generator().manual_seed(0)"
            )
        device = self.device if generator is None else generator.device
        drawn = torch.rand(size, generator=generator, device=device)  # in [0, 1)
        return (drawn >= p).nonzero().squeeze(1).to(self.device)


def as_indices(
    name: str, selection: object, size: int, size_name: str, device: torch.device
) -> Tensor:
    """Return different indices below ``size``, given as indices or as a bool mask."""
    if not isinstance(selection, Tensor):
        try:
            selection = torch.as_tensor(selection)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"`{name}` must be integers or a bool mask, got {selection!r}"
            ) from None
        if selection.numel() == 0:
            selection = selection.long()
    selection = selection.to(device)
    if selection.dim() != 1:
        raise ValueError(
            f"`{name}` must have one dimension, got shape {list(selection.shape)}; "
            "pass indices or a bool mask"
        )
    if selection.dtype == torch.bool:
        if selection.shape[0] != size:
            raise ValueError(
                f"`{name}` must have {size_name}={size} entries as a mask, got {selection.shape[0]}"
            )
        return selection.nonzero().squeeze(1)
    selection = check_integer(name, selection)
    check_index_range(name, selection, size, size_name)
    counts = torch.bincount(selection, minlength=1)
    if int(counts.max()) > 1:
        raise ValueError(f"`{name}` must not repeat itself, got {int(counts.argmax())} twice")
    return selection


def _others(chosen: Tensor, size: int) -> Tensor:
    rest = torch.ones(size, dtype=torch.bool, device=chosen.device)
    rest[chosen] = False
    return rest.nonzero().squeeze(1)


def _places(chosen: Tensor, size: int) -> Tensor:
    """[size]: where each index is in ``chosen``, -1 where it is not."""
    place = chosen.new_full((size,), -1)
    place[chosen] = torch.arange(chosen.shape[0], device=chosen.device)
    return place


def _grouped(batch: Tensor, count: int) -> tuple[Tensor, Tensor, list[int]]:
    """The items sample by sample, each item's number within its sample, and the sample sizes."""
    order = batch.argsort(stable=True)
    counts = torch.bincount(batch, minlength=count)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(batch.shape[0], device=batch.device) - first[batch[order]]
    return order, place, counts.tolist()
