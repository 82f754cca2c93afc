"""Incidence as a list of (vertex, hyperedge) pairs."""

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from hypergraph._checks import check_float, check_non_negative
from hypergraph.incidence._propagate import propagate, scales, takes_kernel
from hypergraph.incidence._structure import Structure
from hypergraph.incidence._transform import Transformable
from hypergraph.incidence.base import Members
from hypergraph_kernels import Segments, incidence_spmm


class Hypergraph(Transformable):
    """A sparse hypergraph, kept as pairs; sorted by hyperedge and by vertex when first needed.

    ``h_ve = sum over pairs (v, e) of incidence_weight``: a repeated pair counts twice. Vertices
    without a hyperedge, hyperedges without a vertex and weights of zero are all allowed; a pair of
    value 0 is as good as absent.

    Layers use the pairs, ``incidence_weight`` and ``hyperedge_weight``. The other fields are data
    that go along: every transform selects, joins and moves them with what they belong to.

    A hypergraph may be shared by threads, pickled (also into a file that
    ``torch.load(weights_only=True)`` reads) and copied; the sorted lists are made again in a copy.
    Held by a module as a plain attribute it is in no ``state_dict`` and stays where it is when the
    module moves; hold a ``FixedHypergraph`` for it to follow.

    Args:
        hyperedge_index: [2, nnz] int64, row 0 vertices and row 1 hyperedges.
        num_nodes: default the largest vertex + 1. Give it where trailing vertices are isolated.
        num_edges: default the largest hyperedge + 1. Give it where trailing hyperedges are empty.
        hyperedge_weight: [num_edges], the diagonal of W, >= 0; default ones.
        incidence_weight: [nnz], values of the pairs, >= 0; default ones.
        node_weight: [num_nodes], >= 0; the hyperedge weights of the dual.
        node_features: [num_nodes, F], floating.
        hyperedge_features: [num_edges, F], floating.
        hyperedge_group: [num_edges] int64, the kind of every hyperedge, an index of group_names.
        group_names: names of the groups; default ``"0"``, ``"1"``, ...
        direction: [nnz], kept as int8: -1 for a vertex in the hyperedge's tail, +1 in its head, 0
            in both.
        node_batch: [num_nodes] int64, the sample of every vertex; set by ``batch``, as are
        edge_batch: [num_edges] int64, the sample of every hyperedge, and
        num_samples: how many hypergraphs a batch holds, None if it is none.

    Raises:
        ValueError, TypeError: an index is out of range, a shape, dtype or device does not fit, or a
            weight is negative.

    Example:
        >>> from hypergraph import Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=5)
        >>> h
        Hypergraph(num_nodes=5, num_edges=2, nnz=5, device='cpu')
        >>> h.node_degree()
        tensor([1., 1., 2., 1., 0.])
        >>> h.replace(hyperedge_group=torch.tensor([0, 1]), group_names=["paper", "venue"])
        Hypergraph(num_nodes=5, num_edges=2, nnz=5, groups=['paper', 'venue'], device='cpu')
    """

    # ---- made from other data

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[Iterable[int]],
        num_nodes: int | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> Self:
        """Build from a list of hyperedges, each a list of vertices.

        Args:
            edges: the vertices of every hyperedge; an empty one is allowed.
            num_nodes: default the largest vertex + 1.
            hyperedge_weight: [num_edges]; default ones.

        Example:
            >>> Hypergraph.from_edges([[0, 1], []], num_nodes=2).edge_degree()
            tensor([2., 0.])
        """
        lists = [_listed(edge) for edge in _listed(edges)]
        nodes = [_vertex(node) for edge in lists for node in edge]
        numbers = [number for number, edge in enumerate(lists) for _ in edge]
        index = torch.tensor([nodes, numbers], dtype=torch.long).view(2, -1)
        return cls(index, num_nodes, len(lists), hyperedge_weight)

    @classmethod
    def from_directed_edges(
        cls,
        edges: Iterable[tuple[Iterable[int], Iterable[int]]],
        num_nodes: int | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> Self:
        """Build from directed hyperedges, each a pair (tail, head) of lists of vertices.

        Args:
            edges: where every hyperedge comes from and where it goes; both may be empty. A vertex
                in both is one pair of direction 0.
            num_nodes: default the largest vertex + 1.
            hyperedge_weight: [num_edges]; default ones.

        Raises:
            ValueError, TypeError: a hyperedge is no pair, or a vertex no integer.

        Example:
            >>> h = Hypergraph.from_directed_edges([([0, 1], [2]), ([2], [2, 0])])
            >>> h
            Hypergraph(num_nodes=3, num_edges=2, nnz=5, directed, device='cpu')
            >>> h.direction.tolist()
            [-1, -1, 1, 0, 1]
        """
        pairs: list[tuple[int, int, int]] = []
        count = 0
        for number, edge in enumerate(_listed(edges)):
            sides = tuple(_listed(edge))
            if len(sides) != 2 or any(not isinstance(side, Iterable) for side in sides):
                raise ValueError(
                    f"`edges` must hold pairs (tail, head) of lists, got {edge!r}; "
                    "use from_edges for hyperedges without direction"
                )
            tail, head = (Counter(_vertex(node) for node in side) for side in sides)
            both = tail & head
            for side, sign in ((both + (tail - both), -1), (head - both, 1)):
                for node, times in side.items():
                    twice = both[node] if sign == -1 else 0
                    pairs += [(node, number, 0)] * twice
                    pairs += [(node, number, sign)] * (times - twice)
            count = number + 1
        table = torch.tensor(pairs, dtype=torch.long).view(-1, 3).T
        return cls(table[:2], num_nodes, count, hyperedge_weight, direction=table[2])

    @classmethod
    def from_groups(
        cls,
        groups: Mapping[str, "Iterable[Iterable[int]] | Hypergraph"],
        num_nodes: int | None = None,
    ) -> Self:
        """Build from named groups of hyperedges over the same vertices.

        Args:
            groups: name -> list of hyperedges, or a hypergraph; a group may be empty.
            num_nodes: default what the largest group needs.

        Returns:
            The hyperedges of all groups one after the other; ``group(name)`` has those of one.

        Raises:
            ValueError, TypeError: a group does not fit.

        Example:
            >>> h = Hypergraph.from_groups({"paper": [[0, 1]], "venue": [[0, 1, 2], [3]]})
            >>> h
            Hypergraph(num_nodes=4, num_edges=3, nnz=6, groups=['paper', 'venue'], device='cpu')
        """
        if not isinstance(groups, Mapping):
            raise TypeError(
                f"`groups` must map names to hyperedges, got {type(groups).__name__}; "
                "use from_edges for hyperedges without names"
            )
        if not groups:
            empty = torch.empty(2, 0, dtype=torch.long)
            return cls(empty, num_nodes, 0, hyperedge_group=empty[0])
        parts = {
            name: edges if isinstance(edges, Structure) else cls.from_edges(edges, num_nodes)
            for name, edges in groups.items()
        }
        if num_nodes is None:
            size = max(part.num_nodes for part in parts.values())
            parts = {
                # Features for fewer vertices than there are would not fit, and say so.
                name: part if part.num_nodes == size else part.replace(num_nodes=size)
                for name, part in parts.items()
            }
        return cls.merge(parts)

    @classmethod
    def from_dense(cls, matrix: Tensor, hyperedge_weight: Tensor | None = None) -> Self:
        """Build from an incidence matrix; its non-zero entries become weighted pairs.

        Args:
            matrix: [num_nodes, num_edges], non-negative; bool and integer matrices, and floating
                ones with no entry but 0 and 1, give a hypergraph without incidence weights.
            hyperedge_weight: [num_edges]; default ones.
        """
        if not isinstance(matrix, Tensor) or matrix.dim() != 2:
            shape = list(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
            raise ValueError(f"`matrix` must be a tensor [num_nodes, num_edges], got {shape}")
        if matrix.is_complex():
            raise TypeError(f"`matrix` must be real, got {matrix.dtype}; pass its absolute value")
        if matrix.dtype != torch.bool:
            check_non_negative("matrix", matrix)
        nodes, edges = matrix.nonzero(as_tuple=True)
        values: Tensor | None = matrix[nodes, edges]
        assert values is not None
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        if bool((values == 1).all()) and not values.requires_grad:
            values = None
        num_nodes, num_edges = matrix.shape
        index = torch.stack([nodes, edges])
        return cls(index, num_nodes, num_edges, hyperedge_weight, values)

    # ---- made from other hypergraphs

    @classmethod
    def batch(cls, hypergraphs: Sequence["Hypergraph"]) -> Self:
        """Put hypergraphs side by side as one block-diagonal hypergraph, their disjoint union.

        ``node_batch`` and ``edge_batch`` of the result tell the sample of every vertex and every
        hyperedge, ``num_samples`` their number; ``unbatch`` takes them apart again. It serves as
        ``collate_fn`` of a DataLoader.

        Args:
            hypergraphs: at least one; vertices and hyperedges are numbered on. One without vertices
                or hyperedges is a sample too, as is one that is a batch itself.

        Returns:
            One hypergraph. Weights given for some are ones for the others, directions 0; groups of
            the same name are one group, and hyperedges without a group go to ``"0"`` if others
            have one.

        Raises:
            ValueError, TypeError: there is none, or features are given for some only or differ in
                width.

        Example:
            >>> h = Hypergraph.batch([Hypergraph.from_edges([[0, 1]]),
            ...                       Hypergraph.from_edges([[0], []], num_nodes=1)])
            >>> h.node_batch, h.edge_batch
            (tensor([0, 0, 1]), tensor([0, 1, 1]))
        """
        hypergraphs = checked_list(hypergraphs)
        nodes = torch.tensor([h.num_nodes for h in hypergraphs])
        edges = torch.tensor([h.num_edges for h in hypergraphs])
        device = hypergraphs[0].device
        first = torch.stack([nodes.cumsum(0) - nodes, edges.cumsum(0) - edges]).to(device)
        samples = torch.arange(len(hypergraphs))
        return cls(
            torch.cat([h.hyperedge_index + first[:, [i]] for i, h in enumerate(hypergraphs)], 1),
            int(nodes.sum()),
            int(edges.sum()),
            **_joined_edges(hypergraphs),
            node_weight=_joined("node_weight", hypergraphs, [h.num_nodes for h in hypergraphs]),
            node_features=_joined_features("node_features", hypergraphs),
            node_batch=samples.repeat_interleave(nodes).to(device),
            edge_batch=samples.repeat_interleave(edges).to(device),
            num_samples=len(hypergraphs),
        )

    @classmethod
    def merge(cls, hypergraphs: "Sequence[Hypergraph] | Mapping[str, Hypergraph]") -> Self:
        """Concatenate the hyperedges of hypergraphs over the same vertices: H = [H_1, H_2, ...].

        Args:
            hypergraphs: at least one, with equal numbers of vertices. As a mapping name ->
                hypergraph, every name becomes a group (groups they have already are replaced).

        Returns:
            One hypergraph; weights, directions and groups as in ``batch``. Weights and features of
            vertices are those of the hypergraphs that have them, which must agree. Samples are kept
            if all are batches of the same vertices, and forgotten otherwise.

        Raises:
            ValueError, TypeError: they do not fit together.

        Example:
            >>> one, two = Hypergraph.from_edges([[0, 1]]), Hypergraph.from_edges([[1], [0]])
            >>> Hypergraph.merge([one, two]).to_dense()
            tensor([[1., 0., 1.],
                    [1., 1., 0.]])
        """
        if isinstance(hypergraphs, Mapping):
            names = list(hypergraphs)
            parts = checked_list(list(hypergraphs.values()))
            parts = [
                h.replace(hyperedge_group=_zeros(h.num_edges, h), group_names=[name])
                for name, h in zip(names, parts, strict=True)
            ]
        else:
            parts = checked_list(hypergraphs)
        sizes = [h.num_nodes for h in parts]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"`hypergraphs` must have equal numbers of vertices, got {sizes}; "
                "use Hypergraph.batch to put them side by side"
            )
        edges = torch.tensor([h.num_edges for h in parts])
        first = (edges.cumsum(0) - edges).tolist()
        index = [
            torch.stack([h.hyperedge_index[0], h.hyperedge_index[1] + shift])
            for h, shift in zip(parts, first, strict=True)
        ]
        return cls(
            torch.cat(index, 1),
            sizes[0],
            int(edges.sum()),
            **_joined_edges(parts),
            **_common_samples(parts),
            node_weight=_agreed("node_weight", parts),
            node_features=_agreed("node_features", parts),
        )

    def with_group(
        self,
        name: str,
        edges: "Iterable[Iterable[int]] | Hypergraph",
        hyperedge_weight: Tensor | None = None,
    ) -> Self:
        """Add hyperedges as a group; those without a group so far become the group ``"0"``.

        Args:
            name: of the group; one that exists gets the hyperedges too.
            edges: a list of hyperedges, or a hypergraph over the same vertices.
            hyperedge_weight: [added hyperedges] with a list; default ones.

        Raises:
            ValueError, TypeError: see ``merge``.

        Example:
            >>> h = Hypergraph.from_edges([[0, 1]], num_nodes=3).with_group("all", [[0, 1, 2]])
            >>> h.group_names, h.group("all").edge_degree()
            (('0', 'all'), tensor([3.]))
        """
        if isinstance(edges, Structure):
            if hyperedge_weight is not None:
                raise ValueError(
                    "`hyperedge_weight` goes with a list of `edges`, which are a hypergraph; "
                    "use its with_hyperedge_weight"
                )
            added = edges
        else:
            if hyperedge_weight is not None:
                hyperedge_weight = check_float("hyperedge_weight", hyperedge_weight).to("cpu")
            added = type(self).from_edges(edges, self.num_nodes, hyperedge_weight)
            added = added.to(self.device)
        added = added.replace(hyperedge_group=_zeros(added.num_edges, added), group_names=[name])
        own = self
        if own.hyperedge_group is None:
            own = own.replace(hyperedge_group=_zeros(own.num_edges, own), group_names=["0"])
        return type(self).merge([own, added])

    # ---- the operator

    def members(self) -> Members:
        """List the pairs in the order they were given."""
        return Members(self.hyperedge_index[0], self.hyperedge_index[1], self.incidence_weight)

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z``: one kernel where W and H are constants."""
        if not takes_kernel(self):
            return super().hgnn_propagate(z)
        return self._product("z", "num_nodes", self.num_nodes, z, self._propagate)

    def _propagate(self, z: Tensor) -> Tensor:
        edge_scale, node_scale = self._keep(("scales", z.dtype), lambda: scales(self, z.dtype))
        values = self._values(z.dtype)
        return propagate(self, z, self._by_edge, self._by_node, edge_scale, node_scale, values)

    def _v2e(self, x: Tensor) -> Tensor:
        return self._spmm(x, self._by_edge, self._by_node)

    def _e2v(self, y: Tensor) -> Tensor:
        return self._spmm(y, self._by_node, self._by_edge)

    def _spmm(self, x: Tensor, segments: Segments, transposed: Segments) -> Tensor:
        values = self._values(x.dtype)
        return incidence_spmm(x, values, segments, transposed, implementation=self.implementation)

    def _node_degree(self, weight: Tensor) -> Tensor:
        node, edge = self.hyperedge_index
        pairs = weight[edge]
        values = self._values(weight.dtype)
        if values is not None:
            pairs = pairs * values
        return weight.new_zeros(self.num_nodes).index_add(0, node, pairs)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        values = self._values(ones.dtype)
        if values is None:
            values = ones.new_ones(self.hyperedge_index.shape[1])
        return ones.new_zeros(self.num_edges).index_add(0, self.hyperedge_index[1], values)

    def _values(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.incidence_weight is None else self.incidence_weight.to(dtype)

    def _grouped(self, row: int) -> Segments:
        return self._by_edge if row else self._by_node

    @property
    def _by_edge(self) -> Segments:
        return self._csr.by_edge()

    @property
    def _by_node(self) -> Segments:
        return self._csr.by_node()


# Its state goes through the checks of the constructor, so a file cannot make one with bad indices.
torch.serialization.add_safe_globals([Hypergraph])


def _listed(items: object) -> list[Any]:
    try:
        iterator = iter(items)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(
            f"`edges` must be a list of hyperedges, each made of lists, got {items!r} for a list"
        ) from None
    return list(iterator)


def _vertex(node: object) -> int:
    try:
        if isinstance(node, bool):
            raise TypeError
        return operator.index(node)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"`edges` must hold integer vertex numbers, got {node!r}; number the vertices from 0"
        ) from None


def _zeros(size: int, h: Structure) -> Tensor:
    return torch.zeros(size, dtype=torch.long, device=h.device)


def checked_list(hypergraphs: Sequence[Hypergraph]) -> list[Hypergraph]:
    """Return the hypergraphs as a list; raise unless there is at least one, all on one device."""
    if isinstance(hypergraphs, Structure) or not isinstance(hypergraphs, Iterable):
        raise TypeError(
            f"`hypergraphs` must be a list of hypergraphs, got {type(hypergraphs).__name__}"
        )
    hypergraphs = list(hypergraphs)
    if not hypergraphs:
        raise ValueError("`hypergraphs` must hold at least one hypergraph, got none")
    for h in hypergraphs:
        if not isinstance(h, Hypergraph):
            raise TypeError(f"`hypergraphs` must hold Hypergraph objects, got {type(h).__name__}")
    devices = sorted({str(h.device) for h in hypergraphs})
    if len(devices) > 1:
        raise ValueError(
            f"`hypergraphs` must be on one device, got {', '.join(devices)}; move them with .to()"
        )
    return hypergraphs


def _joined_edges(hypergraphs: Sequence[Hypergraph]) -> dict[str, Any]:
    """The fields of hyperedges and pairs, one hypergraph after the other."""
    edges, pairs = [h.num_edges for h in hypergraphs], [h.nnz for h in hypergraphs]
    direction = None
    if any(h.direction is not None for h in hypergraphs):
        direction = torch.cat([h._pair_direction() for h in hypergraphs])
    return {
        "hyperedge_weight": _joined("hyperedge_weight", hypergraphs, edges),
        "incidence_weight": _joined("incidence_weight", hypergraphs, pairs),
        "hyperedge_features": _joined_features("hyperedge_features", hypergraphs),
        "direction": direction,
        **_joined_groups(hypergraphs),
    }


def _joined(name: str, hypergraphs: Sequence[Hypergraph], sizes: list[int]) -> Tensor | None:
    given = [getattr(h, name) for h in hypergraphs]
    dtypes = [weight.dtype for weight in given if weight is not None]
    if not dtypes:
        return None
    pieces = [
        torch.ones(size, dtype=dtypes[0], device=hypergraphs[0].device)
        if weight is None
        else weight
        for weight, size in zip(given, sizes, strict=True)
    ]
    return torch.cat(pieces)


def _joined_features(name: str, hypergraphs: Sequence[Hypergraph]) -> Tensor | None:
    given = [getattr(h, name) for h in hypergraphs]
    if all(features is None for features in given):
        return None
    widths = [None if features is None else features.shape[1] for features in given]
    if len(set(widths)) > 1:
        raise ValueError(
            f"`{name}` must have one width in all hypergraphs, got widths {widths}; "
            f"set or take them away with replace({name}=...)"
        )
    return torch.cat(given)


def _joined_groups(hypergraphs: Sequence[Hypergraph]) -> dict[str, Any]:
    if all(h.hyperedge_group is None for h in hypergraphs):
        return {}
    number: dict[str, int] = {}
    pieces = []
    for h in hypergraphs:
        own = h.group_names if h.hyperedge_group is not None else ("0",)
        numbers = [number.setdefault(name, len(number)) for name in own]
        group = _zeros(h.num_edges, h) if h.hyperedge_group is None else h.hyperedge_group
        pieces.append(torch.tensor(numbers, dtype=torch.long, device=h.device)[group])
    return {"hyperedge_group": torch.cat(pieces), "group_names": tuple(number)}


def _common_samples(hypergraphs: Sequence[Hypergraph]) -> dict[str, Any]:
    first = hypergraphs[0]
    for h in hypergraphs:
        if h.node_batch is None or first.node_batch is None or h.num_samples != first.num_samples:
            return {}
        if not torch.equal(h.node_batch, first.node_batch):
            return {}
    batches = [h.edge_batch for h in hypergraphs if h.edge_batch is not None]
    return {
        "node_batch": first.node_batch,
        "edge_batch": torch.cat(batches),
        "num_samples": first.num_samples,
    }


def _agreed(name: str, hypergraphs: Sequence[Hypergraph]) -> Tensor | None:
    given: list[Tensor] = [getattr(h, name) for h in hypergraphs if getattr(h, name) is not None]
    for field in given[1:]:
        if field is not given[0] and not torch.equal(field, given[0]):
            raise ValueError(
                f"`{name}` must be the same in all hypergraphs that have it, and differs; "
                f"take it away from the others with replace({name}=None)"
            )
    return given[0] if given else None
