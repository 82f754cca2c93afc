"""Other hypergraphs made from a sparse one."""

from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_float
from hypergraph.incidence._select import Selectable

SelfLoops = Literal["missing", "isolated", "all"]
EdgeReduce = Literal["mean", "sum", "max", "min"]


class Transformable(Selectable):
    """Self-loops, merged pairs, merged hyperedges, the dual; each carries all fields."""

    def add_self_loops(
        self,
        which: SelfLoops = "missing",
        features: Tensor | None = None,  # [F]
    ) -> Self:
        """Add hyperedges of one vertex, of weight 1, after the others and in order of vertices.

        Without them an isolated vertex gets nothing from a convolution: on Cora co-citation, where
        1,274 vertices are isolated, they are worth more than 20 points of accuracy. ``"missing"``
        is what the official codes of UniGNN and AllSet do.

        Args:
            which: ``"missing"``, vertices that are not alone in any hyperedge (whatever its
                weight); ``"isolated"``, vertices in no hyperedge; ``"all"``.
            features: [F], the row that every new hyperedge gets where there are
                ``hyperedge_features``; default zeros.

        Returns:
            The hypergraph. Where there are groups, the new hyperedges are the group
            ``"self_loops"``; where pairs have a direction, theirs is 0.

        Raises:
            ValueError, TypeError: ``which`` is unknown, or ``features`` does not fit.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [1]], num_nodes=3).add_self_loops().to_dense()
            tensor([[1., 0., 1., 0.],
                    [1., 1., 0., 0.],
                    [0., 0., 0., 1.]])
        """
        check_choice("which", which, get_args(SelfLoops))
        if which == "all":
            has = torch.zeros(self.num_nodes, dtype=torch.bool, device=self.device)
        elif which == "isolated":
            has = self._covered(0, self.num_nodes)
        else:
            has = self._alone()
        nodes = (~has).nonzero().squeeze(1)
        count = nodes.shape[0]
        edges = torch.arange(count, device=self.device) + self.num_edges
        index = torch.cat([self.hyperedge_index, torch.stack([nodes, edges])], 1)
        others: dict[str, Any] = {}
        if self.hyperedge_weight is not None:
            ones = self.hyperedge_weight.new_ones(count)
            others["hyperedge_weight"] = torch.cat([self.hyperedge_weight, ones])
        if self.incidence_weight is not None:
            ones = self.incidence_weight.new_ones(count)
            others["incidence_weight"] = torch.cat([self.incidence_weight, ones])
        if self.direction is not None:
            others["direction"] = torch.cat([self.direction, self.direction.new_zeros(count)])
        rows = self._loop_features(features, count)
        if rows is not None:
            assert self.hyperedge_features is not None
            others["hyperedge_features"] = torch.cat([self.hyperedge_features, rows])
        if self.hyperedge_group is not None:
            names = (*self.group_names, *({"self_loops"} - set(self.group_names)))
            group = self.hyperedge_group.new_full((count,), names.index("self_loops"))
            others["hyperedge_group"] = torch.cat([self.hyperedge_group, group])
            others["group_names"] = names
        if self.node_batch is not None and self.edge_batch is not None:
            others["edge_batch"] = torch.cat([self.edge_batch, self.node_batch[nodes]])
        return self._rebuilt(index, self.num_nodes, self.num_edges + count, **others)

    def coalesce(self) -> Self:
        """Merge repeated pairs into one whose value is the sum; sorted by hyperedge, then vertex.

        H stays the same. Pairs of the same vertex and hyperedge stay apart where their directions
        differ, so that tails and heads stay the same too. Without repeated pairs and without values
        there are none afterwards; pairs of value 0 stay.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph(torch.tensor([[1, 0, 1], [0, 0, 0]])).coalesce()
            >>> h.hyperedge_index.tolist(), h.incidence_weight
            ([[0, 1], [0, 0]], tensor([1., 2.]))
        """
        order = self._pair_order()
        index, direction = self.hyperedge_index[:, order], self._pair_direction()[order]
        new = torch.ones(self.nnz, dtype=torch.bool, device=self.device)
        new[1:] = (index[:, 1:] != index[:, :-1]).any(0) | (direction[1:] != direction[:-1])
        number = torch.empty_like(order)
        number[order] = new.cumsum(0) - 1
        first = order[new]
        values = self.incidence_weight
        if values is not None or first.shape[0] != self.nnz:
            if values is None:
                values = torch.ones(self.nnz, device=self.device)
            values = values.new_zeros(first.shape[0]).index_add(0, number, values)
        return self._rebuilt(
            self.hyperedge_index[:, first],
            self.num_nodes,
            self.num_edges,
            pair=lambda field: field[first],
            incidence_weight=values,
        )

    def edge_classes(self) -> Tensor:
        """Number hyperedges so that equal ones get the same number, by first appearance.

        Hyperedges are equal if their columns of H are, bit by bit, and so are their groups, samples
        and directions; weights and features may differ. All empty hyperedges are equal.

        Returns:
            [num_edges] int64: the hyperedge of ``merge_duplicate_edges`` that each becomes.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [2], [1, 0]]).edge_classes()
            tensor([0, 1, 0])
        """
        first = self._first_equal()
        leaders = torch.unique(first)
        return torch.searchsorted(leaders, first)

    def merge_duplicate_edges(self, reduce: EdgeReduce = "mean") -> Self:
        """Merge hyperedges with the same members, as DHG does for every hypergraph.

        What counts as the same is told by ``edge_classes``. A merged hyperedge takes the place, the
        pairs and the group of the first of its kind.

        Args:
            reduce: how weights and features of the merged are combined; ``"mean"`` is DHG's
                default.

        Returns:
            The hypergraph; without hyperedge weights there are some afterwards only for ``"sum"``.

        Raises:
            ValueError: ``reduce`` is unknown.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1], [1, 0]], 2, torch.tensor([1.0, 3.0]))
            >>> h.merge_duplicate_edges().weight()
            tensor([2.])
        """
        check_choice("reduce", reduce, get_args(EdgeReduce))
        first = self._first_equal()
        leaders, classes = torch.unique(first, return_inverse=True)
        count = leaders.shape[0]
        node, edge = self.hyperedge_index
        pairs = (first[edge] == edge).nonzero().squeeze(1)
        weight, features = self.hyperedge_weight, self.hyperedge_features
        if weight is None and reduce == "sum" and count != self.num_edges:
            weight = torch.ones(self.num_edges, device=self.device)
        if weight is not None:
            weight = _reduced(weight.unsqueeze(1), classes, count, reduce).squeeze(1)
        if features is not None:
            features = _reduced(features, classes, count, reduce)
        return self._rebuilt(
            torch.stack([node[pairs], classes[edge[pairs]]]),
            self.num_nodes,
            count,
            edge=lambda field: field[leaders],
            pair=lambda field: field[pairs],
            hyperedge_weight=weight,
            hyperedge_features=features,
        )

    def dual(self) -> Self:
        """The hypergraph of H^T: vertices become hyperedges and hyperedges become vertices.

        Weights, features and samples change places with them, and a pair keeps its direction (the
        tail matrix of the dual is the transposed tail matrix). Groups are lost: vertices have none.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1], [1, 2]]).dual().to_dense()
            tensor([[1., 1., 0.],
                    [0., 1., 1.]])
        """
        return type(self)(
            self.hyperedge_index.flip(0),
            self.num_edges,
            self.num_nodes,
            self.node_weight,
            self.incidence_weight,
            node_weight=self.hyperedge_weight,
            node_features=self.hyperedge_features,
            hyperedge_features=self.node_features,
            direction=self.direction,
            node_batch=self.edge_batch,
            edge_batch=self.node_batch,
            num_samples=self.num_samples,
        )._like(self)

    def _alone(self) -> Tensor:
        """[num_nodes] bool: the vertices that are the only member of some hyperedge."""
        node, edge = self.hyperedge_index
        counted = self._counted()
        if counted is not None:
            node, edge = node[counted], edge[counted]
        lowest = node.new_full((self.num_edges,), self.num_nodes)
        lowest = lowest.scatter_reduce(0, edge, node, "amin")
        highest = node.new_full((self.num_edges,), -1).scatter_reduce(0, edge, node, "amax")
        alone = torch.zeros(self.num_nodes, dtype=torch.bool, device=self.device)
        alone[lowest[lowest == highest]] = True
        return alone

    def _loop_features(self, features: Tensor | None, count: int) -> Tensor | None:
        known = self.hyperedge_features
        if known is None:
            if features is not None:
                raise ValueError(
                    "`features` goes with `hyperedge_features`, which this hypergraph has not"
                )
            return None
        if features is None:
            return known.new_zeros(count, known.shape[1])
        features = check_float("features", features)
        if features.shape != known.shape[1:]:
            raise ValueError(
                f"`features` must have shape {list(known.shape[1:])}, the width of "
                f"`hyperedge_features`, got {list(features.shape)}"
            )
        return features.to(known.dtype).expand(count, -1)

    def _first_equal(self) -> Tensor:
        """[num_edges]: the first hyperedge that is equal to each.

        Hyperedges of one size are compared as rows of a table, so the loop is over the different
        sizes that occur more than once.
        """
        plain = self.coalesce()
        counted = plain._counted()
        if counted is not None:
            plain = plain._with_pairs(counted.nonzero().squeeze(1))
        node, edge = plain.hyperedge_index  # sorted by hyperedge, then vertex
        columns = [node]
        if plain.direction is not None:
            columns.append(plain.direction.long())
        if plain.incidence_weight is not None:
            values = plain.incidence_weight.detach().to(torch.float64)
            columns.append(values.view(torch.int64))
        labels = [label for label in (self.hyperedge_group, self.edge_batch) if label is not None]
        sizes = torch.bincount(edge, minlength=self.num_edges)
        start = sizes.cumsum(0) - sizes
        first = torch.arange(self.num_edges, device=self.device)
        by_size = sizes.argsort(stable=True)
        lengths, counts = torch.unique(sizes, return_counts=True)
        for length, edges in zip(lengths.tolist(), by_size.split(counts.tolist()), strict=True):
            if edges.shape[0] == 1:
                continue
            slots = start[edges].unsqueeze(1) + torch.arange(length, device=self.device)
            rows = [label[edges].unsqueeze(1) for label in labels]
            rows += [column[slots] for column in columns]
            table = torch.cat([torch.zeros_like(edges).unsqueeze(1), *rows], 1)
            kinds, kind = torch.unique(table, dim=0, return_inverse=True)
            leader = edges.new_full((kinds.shape[0],), self.num_edges)
            first[edges] = leader.scatter_reduce(0, kind, edges, "amin")[kind]
        return first


def _reduced(rows: Tensor, classes: Tensor, count: int, reduce: EdgeReduce) -> Tensor:
    """[count, F]: rows [M, F] combined class by class; no class is empty."""
    if reduce in ("sum", "mean"):
        total = rows.new_zeros(count, rows.shape[1]).index_add(0, classes, rows)
        if reduce == "sum":
            return total
        return total / torch.bincount(classes, minlength=count).unsqueeze(1).to(rows.dtype)
    index = classes.unsqueeze(1).expand_as(rows)
    return rows.new_zeros(count, rows.shape[1]).scatter_reduce(
        0, index, rows, "amax" if reduce == "max" else "amin", include_self=False
    )
