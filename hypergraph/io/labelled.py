"""A hypergraph with the names and attributes that files and other libraries give its parts."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import check_hypergraph

Attributes = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A ``Hypergraph`` whose vertices and hyperedges have names, and attributes beyond tensors.

    Tensors know vertices 0 ... N - 1; files know "Valjean" and "Cosette". A ``Labelled`` holds both
    and is what conversions from forms with names return.

    Attributes:
        hypergraph: structure, weights, features, groups and directions.
        node_ids: N different hashable names; default ``range(N)``.
        edge_ids: M different hashable names; default ``range(M)``.
        node_attrs: N dictionaries of whatever has no place in ``hypergraph``; or none at all.
        edge_attrs: M dictionaries, or none at all.
        incidence_attrs: nnz dictionaries, in the order of ``hypergraph.hyperedge_index``, or none.
        metadata: of the whole hypergraph.
        network_type: ``"undirected"``, ``"directed"``, ``"asc"`` (abstract simplicial complex) or
            None for not said.

    Raises:
        ValueError, TypeError: lengths do not fit, or a name occurs twice.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import Labelled
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]])
        >>> named = Labelled(h, node_ids=("Valjean", "Cosette", "Marius"))
        >>> named.node_number["Marius"]
        2
    """

    hypergraph: Hypergraph
    node_ids: Sequence[Hashable] = ()
    edge_ids: Sequence[Hashable] = ()
    node_attrs: Sequence[Attributes] = ()
    edge_attrs: Sequence[Attributes] = ()
    incidence_attrs: Sequence[Attributes] = ()
    metadata: Attributes = field(default_factory=dict)
    network_type: str | None = None

    def __post_init__(self) -> None:
        h = check_hypergraph(self.hypergraph)
        for name, size in (("node", h.num_nodes), ("edge", h.num_edges)):
            ids: Sequence[Hashable] = getattr(self, f"{name}_ids")
            # Numbers stay a range: a file may claim more vertices than fit into memory.
            if not isinstance(ids, range):
                ids = tuple(ids) or range(size)
            object.__setattr__(self, f"{name}_ids", ids)
            if len(ids) != size:
                raise ValueError(f"`{name}_ids` must hold {size} names, got {len(ids)}")
            if not isinstance(ids, range) and len(set(ids)) != size:
                twice = next(name for name, count in Counter(ids).items() if count > 1)
                raise ValueError(f"`{name}_ids` must hold different names, got {twice!r} twice")
        sizes = {"node": h.num_nodes, "edge": h.num_edges, "incidence": h.nnz}
        for name, size in sizes.items():
            attrs = tuple(getattr(self, f"{name}_attrs"))
            if attrs and len(attrs) != size:
                raise ValueError(
                    f"`{name}_attrs` must hold {size} dictionaries or none, got {len(attrs)}"
                )
            if not all(isinstance(entry, Mapping) for entry in attrs):
                raise TypeError(f"`{name}_attrs` must hold dictionaries")
            object.__setattr__(self, f"{name}_attrs", attrs if any(attrs) else ())

    @cached_property
    def node_number(self) -> dict[Hashable, int]:
        """The number of the vertex with this name."""
        return {name: number for number, name in enumerate(self.node_ids)}

    @cached_property
    def edge_number(self) -> dict[Hashable, int]:
        """The number of the hyperedge with this name."""
        return {name: number for number, name in enumerate(self.edge_ids)}

    def __repr__(self) -> str:
        parts = [repr(self.hypergraph)]
        parts += [f"network_type={self.network_type!r}"] if self.network_type else []
        extra = ("node_attrs", "edge_attrs", "incidence_attrs", "metadata")
        parts += [f"with {name}" for name in extra if getattr(self, name)]
        return f"Labelled({', '.join(parts)})"


def as_labelled(hypergraph: Hypergraph | Labelled) -> Labelled:
    """Give a bare hypergraph its numbers as names."""
    return hypergraph if isinstance(hypergraph, Labelled) else Labelled(hypergraph)
