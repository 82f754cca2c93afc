"""PyTorch Geometric: Data, HyperGraphData and HeteroData."""

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import check_hypergraph, optional_module, refuse_loss

if TYPE_CHECKING:
    from torch_geometric.data import Data, HeteroData, HyperGraphData

# Our field -> PyG's name.
_NAMES = {
    "node_features": "x",
    "hyperedge_features": "hyperedge_attr",
    "hyperedge_weight": "hyperedge_weight",
    "incidence_weight": "incidence_weight",
    "node_weight": "node_weight",
    "hyperedge_group": "hyperedge_group",
    "direction": "direction",
    "node_batch": "node_batch",
    "edge_batch": "edge_batch",
}


def to_pyg(hypergraph: Hypergraph) -> "Data":
    """A PyG ``Data`` with ``hyperedge_index``, as ``HypergraphConv`` and others take it.

    ``x`` holds the vertex features, ``hyperedge_attr`` those of hyperedges; ``hyperedge_weight``,
    ``incidence_weight``, ``node_weight``, ``hyperedge_group``, ``direction``, ``num_nodes`` and
    ``num_hyperedges`` have their own names. Fields that are None are absent. The tensors are
    shared, not copied.

    The object is of a subclass, ``IncidenceData``, that says how it is batched: PyG's own ``Data``
    would shift the hyperedge row of ``hyperedge_index`` by the number of vertices. So PyG's
    ``DataLoader`` and ``Batch`` work, with trailing empty hyperedges too, and ``from_pyg`` of a
    batch is ``Hypergraph.batch``.

    Args:
        hypergraph: with any fields.

    Raises:
        ImportError: torch-geometric is not installed.

    Example::

        loader = torch_geometric.loader.DataLoader([to_pyg(h) for h in hypergraphs], batch_size=8)
        for batch in loader:
            h = from_pyg(batch)
    """
    h = check_hypergraph(hypergraph)
    data = _data_class()(hyperedge_index=h.hyperedge_index, num_hyperedges=h.num_edges)
    data.num_nodes = h.num_nodes
    for ours, theirs in _NAMES.items():
        value = getattr(h, ours)
        if value is not None:
            data[theirs] = value
    if h.hyperedge_group is not None:
        data.group_names = list(h.group_names)
    if h.num_samples is not None:
        data.num_samples = h.num_samples
    return data


def to_hypergraph_data(hypergraph: Hypergraph, lossy: bool = False) -> "HyperGraphData":
    """A PyG ``HyperGraphData``, whose ``edge_index`` is our ``hyperedge_index``.

    ``edge_attr`` holds the hyperedge features, other fields are named as in ``to_pyg``. This class
    takes the largest hyperedge of a pair + 1 for the number of hyperedges, and, where that equals
    the number of vertices, the largest vertex of a pair + 1 for the number of vertices.
    ``to_pyg`` has neither problem.

    Args:
        hypergraph: with any fields.
        lossy: give one to PyG even if PyG counts vertices or hyperedges wrong.

    Raises:
        ImportError: torch-geometric is not installed.
        ValueError: PyG would count wrong, and ``lossy`` is False.
    """
    h = check_hypergraph(hypergraph)
    data_module = optional_module("torch_geometric.data.hypergraph_data", "torch-geometric")
    nodes, edges = (int(row.max()) + 1 if h.nnz else 0 for row in h.hyperedge_index)
    lost = []
    if edges < h.num_edges or not h.nnz:
        lost.append("trailing empty hyperedges")
    if edges == h.num_nodes and nodes < h.num_nodes:
        lost.append("trailing isolated vertices when there are as many hyperedges as vertices")
    refuse_loss("PyG's HyperGraphData", lost, lossy)
    data = data_module.HyperGraphData(edge_index=h.hyperedge_index)
    data.num_nodes = h.num_nodes
    for ours, theirs in _NAMES.items():
        value = getattr(h, ours)
        if value is not None:
            data["edge_attr" if ours == "hyperedge_features" else theirs] = value
    if h.hyperedge_group is not None:
        data.group_names = list(h.group_names)
    if h.num_samples is not None:
        data.num_samples = h.num_samples
    return data


def from_pyg(data: "Data") -> Hypergraph:
    """Take a PyG ``Data`` with ``hyperedge_index``, a ``HyperGraphData``, or a ``Batch`` of them.

    Args:
        data: as ``to_pyg`` makes it, or anybody else: ``x``, ``hyperedge_attr`` (``edge_attr`` of a
            ``HyperGraphData``) and what ``to_pyg`` names are used, other attributes (labels, masks)
            stay where they are. Without ``num_nodes`` there are as many vertices as rows of ``x``,
            or what the pairs need; without ``num_hyperedges`` as many hyperedges as rows of
            ``hyperedge_attr`` or entries of ``hyperedge_weight``, or what the pairs need.

    Returns:
        A hypergraph that shares the tensors; of a ``Batch`` one with ``num_samples``.

    Raises:
        ImportError: torch-geometric is not installed.
        TypeError, ValueError: there is no ``hyperedge_index``, or a field does not fit; the samples
            of a batch have different groups.
    """
    pyg = optional_module("torch_geometric.data", "torch-geometric")
    if not isinstance(data, pyg.Data):
        raise TypeError(
            f"`data` must be a torch_geometric Data, got {type(data).__name__}; "
            "from_hetero takes HeteroData"
        )
    held: dict[str, Any] = data.to_dict()
    is_theirs = "hyperedge_index" not in held and _is_hypergraph_data(data)
    index = held.get("edge_index" if is_theirs else "hyperedge_index")
    if not isinstance(index, Tensor):
        raise ValueError(
            "`data` must have a `hyperedge_index` [2, nnz], row 0 vertices and row 1 hyperedges; "
            f"got {sorted(held)}"
        )
    fields: dict[str, Any] = {ours: held.get(theirs) for ours, theirs in _NAMES.items()}
    if is_theirs:
        fields["hyperedge_features"] = held.get("edge_attr")
    for name, value in fields.items():
        if name.endswith("features") and isinstance(value, Tensor) and value.dim() == 1:
            fields[name] = value.unsqueeze(-1)  # PyG also takes [N] for one channel
    num_nodes, num_edges = _count(held.get("num_nodes")), _count(held.get("num_hyperedges"))
    if num_nodes is None and fields["node_features"] is not None:
        num_nodes = fields["node_features"].shape[0]
    for name in ("hyperedge_features", "hyperedge_weight", "hyperedge_group"):
        if num_edges is None and fields[name] is not None:
            num_edges = fields[name].shape[0]
    names = held.get("group_names")
    is_batch = isinstance(data, pyg.Batch)
    if is_batch and names is not None:
        if any(other != names[0] for other in names):
            raise ValueError(
                "`data` must hold samples with the same `group_names`, whose numbers PyG "
                "concatenates; use Hypergraph.batch"
            )
        names = names[0]
    num_samples = _count(held.get("num_samples"))
    if is_batch and num_samples is None:
        num_samples = data.num_graphs
        fields["node_batch"] = held["batch"]
        sizes = held.get("num_hyperedges")
        if isinstance(sizes, Tensor):
            samples = torch.arange(num_samples).repeat_interleave(sizes.cpu())
            fields["edge_batch"] = samples.to(index.device)
        else:  # not from to_pyg: which empty hyperedge belongs to which sample is not known
            fields["node_batch"], num_samples = None, None
    return Hypergraph(
        index, num_nodes, num_edges, group_names=names, num_samples=num_samples, **fields
    )


def to_hetero(
    hypergraph: Hypergraph, node_type: str = "node", hyperedge_type: str = "hyperedge"
) -> "HeteroData":
    """The star expansion as PyG ``HeteroData``: vertices and hyperedges are two types of nodes.

    PyG's ``NeighborLoader``, ``HGTLoader``, ``to_hetero`` models, explainers and distributed
    training work on it; ``from_hetero`` turns each sampled batch into a hypergraph again. The
    relations are ``(node, "in", hyperedge)`` and its reverse ``(hyperedge, "contains", node)``,
    with the incidence weights as ``edge_weight`` and the directions as ``direction``. ``x`` of
    either type holds its features. The tensors are shared, not copied.

    Args:
        hypergraph: with any fields.
        node_type: name of the vertices.
        hyperedge_type: name of the hyperedges.

    Raises:
        ImportError: torch-geometric is not installed.

    Example::

        loader = NeighborLoader(to_hetero(h), num_neighbors=[10, 10], batch_size=64,
                                input_nodes="node")
        for batch in loader:
            h, x = from_hetero(batch), batch["node"].x
    """
    h = check_hypergraph(hypergraph)
    if node_type == hyperedge_type:
        raise ValueError(f"`hyperedge_type` must differ from `node_type`, got {node_type!r} twice")
    data = optional_module("torch_geometric.data", "torch-geometric").HeteroData()
    for kind, count, fields in (
        (node_type, h.num_nodes, {"x": h.node_features, "weight": h.node_weight}),
        (
            hyperedge_type,
            h.num_edges,
            {"x": h.hyperedge_features, "weight": h.hyperedge_weight, "group": h.hyperedge_group},
        ),
    ):
        fields["sample"] = h.node_batch if kind == node_type else h.edge_batch
        data[kind].num_nodes = count
        for name, value in fields.items():
            if value is not None:
                data[kind][name] = value
    for relation, index in (
        ((node_type, "in", hyperedge_type), h.hyperedge_index),
        ((hyperedge_type, "contains", node_type), h.hyperedge_index.flip(0)),
    ):
        data[relation].edge_index = index
        if h.incidence_weight is not None:
            data[relation].edge_weight = h.incidence_weight
        if h.direction is not None:
            data[relation].direction = h.direction
    if h.hyperedge_group is not None:
        data.group_names = list(h.group_names)
    if h.num_samples is not None:
        data.num_samples = h.num_samples
    return data


def from_hetero(
    data: "HeteroData", node_type: str = "node", hyperedge_type: str = "hyperedge"
) -> Hypergraph:
    """Take PyG ``HeteroData`` with relations between two types of nodes as a hypergraph.

    Args:
        data: as ``to_hetero`` makes it, a batch that ``NeighborLoader`` sampled from it, or
            anybody's bipartite data. Between the two types there must be one relation, or one in
            each direction that hold the same pairs. Other types and relations are not looked at.
        node_type: which type is the vertices.
        hyperedge_type: which type is the hyperedges.

    Returns:
        A hypergraph with the vertices and hyperedges of ``data``, in their order: row i of
        ``batch[node_type].x`` belongs to vertex i. A sampler draws the two relations on their own;
        the pairs of a sampled batch are those drawn in at least one of them (told apart by
        ``e_id``).

    Raises:
        ImportError: torch-geometric is not installed.
        TypeError, ValueError: a type is not there, or there are several relations.
    """
    pyg = optional_module("torch_geometric.data", "torch-geometric")
    if not isinstance(data, pyg.HeteroData):
        raise TypeError(
            f"`data` must be a HeteroData, got {type(data).__name__}; from_pyg takes Data"
        )
    for name, kind in (("node_type", node_type), ("hyperedge_type", hyperedge_type)):
        if kind not in data.node_types:
            raise ValueError(f"`{name}` must be one of {data.node_types}, got {kind!r}")
    relations = [e for e in data.edge_types if {e[0], e[2]} == {node_type, hyperedge_type}]
    forward = [e for e in relations if e[0] == node_type]
    backward = [e for e in relations if e[0] == hyperedge_type]
    if len(forward) > 1 or len(backward) > 1 or not relations:
        raise ValueError(
            f"`data` must have one relation between {node_type!r} and {hyperedge_type!r}, or one "
            f"each way, got {relations or data.edge_types}; drop the others first"
        )
    parts = [_Pairs(data[e], flipped=e[0] != node_type) for e in relations]
    index, weight, direction = _united(parts)
    nodes, edges = data[node_type], data[hyperedge_type]
    held = data.to_dict().get("_global_store", {})
    num_samples, names = held.get("num_samples"), held.get("group_names")
    return Hypergraph(
        index,
        nodes.num_nodes,
        edges.num_nodes,
        edges.get("weight"),
        weight,
        node_weight=nodes.get("weight"),
        node_features=nodes.get("x"),
        hyperedge_features=edges.get("x"),
        hyperedge_group=edges.get("group"),
        group_names=names,
        direction=direction,
        node_batch=nodes.get("sample"),
        edge_batch=edges.get("sample"),
        num_samples=num_samples,
    )


class _Pairs:
    """One relation as (vertex, hyperedge) pairs."""

    def __init__(self, store: Any, flipped: bool) -> None:
        index: Tensor = store.edge_index
        self.index = index.flip(0) if flipped else index
        self.weight: Tensor | None = store.get("edge_weight")
        self.direction: Tensor | None = store.get("direction")
        self.ids: Tensor | None = store.get("e_id")


def _united(parts: list[_Pairs]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    first = parts[0]
    if len(parts) == 1:
        return first.index, first.weight, first.direction
    second = parts[1]
    if first.ids is not None and second.ids is not None:
        new = ~torch.isin(second.ids, first.ids)
        return (
            torch.cat([first.index, second.index[:, new]], 1),
            _joined(first.weight, second.weight, new),
            _joined(first.direction, second.direction, new),
        )
    orders = [_order(part.index) for part in parts]
    same = all(
        _equal(a if a is None else a[..., orders[0]], b if b is None else b[..., orders[1]])
        for a, b in (
            (first.index, second.index),
            (first.weight, second.weight),
            (first.direction, second.direction),
        )
    )
    if not same:
        raise ValueError(
            "`data` must hold the same pairs and weights in both relations, or `e_id` in both, as "
            "sampled batches do; drop one of the relations if it means something else"
        )
    return first.index, first.weight, first.direction


def _order(index: Tensor) -> Tensor:
    by_node = index[0].argsort(stable=True)
    return by_node[index[1][by_node].argsort(stable=True)]


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _joined(a: Tensor | None, b: Tensor | None, new: Tensor) -> Tensor | None:
    if a is None and b is None:
        return None
    if a is None or b is None:
        raise ValueError(
            "`data` must hold `edge_weight` and `direction` in both relations or in neither"
        )
    return torch.cat([a, b[new]])


def _count(value: object) -> int | None:
    """A count; that of a batch is the sum of its samples'."""
    if isinstance(value, Tensor):
        return int(value.sum())
    return None if value is None else int(value)  # type: ignore[call-overload]


def _is_hypergraph_data(data: Any) -> bool:
    module = optional_module("torch_geometric.data.hypergraph_data", "torch-geometric")
    return isinstance(data, module.HyperGraphData)


@cache
def _data_class() -> Any:
    pyg = optional_module("torch_geometric.data", "torch-geometric")

    class IncidenceData(pyg.Data):  # type: ignore[misc, name-defined]
        """``Data`` with ``hyperedge_index`` that PyG batches right; see ``to_pyg``."""

        def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            if key == "hyperedge_index":
                return torch.tensor([[self.num_nodes], [self.num_hyperedges]])
            if key in ("node_batch", "edge_batch"):
                return self.num_samples
            return super().__inc__(key, value, *args, **kwargs)

    # Where pickle looks for it; __getattr__ below makes it in a process that has not met it.
    IncidenceData.__module__, IncidenceData.__qualname__ = __name__, "IncidenceData"
    return IncidenceData


def __getattr__(name: str) -> Any:
    if name == "IncidenceData":
        return _data_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
