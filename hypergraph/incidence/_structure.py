"""What a sparse hypergraph stores, and how a changed copy of it is made."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, get_args

import torch
from torch import Tensor

from hypergraph._checks import (
    check_choice,
    check_float,
    check_index_range,
    check_integer,
    check_non_negative,
    is_eager,
)
from hypergraph.incidence._csr import LazyCsr
from hypergraph.incidence.base import MemberIncidence, TensorMap
from hypergraph_kernels import Implementation

NODE_FIELDS = ("node_weight", "node_features", "node_batch")
EDGE_FIELDS = ("hyperedge_weight", "hyperedge_features", "hyperedge_group", "edge_batch")
PAIR_FIELDS = ("incidence_weight", "direction")


class Structure(MemberIncidence):
    """The stored fields of ``Hypergraph``: checked once, copied together, compared, pickled."""

    hyperedge_index: Tensor
    incidence_weight: Tensor | None
    node_weight: Tensor | None
    node_features: Tensor | None
    hyperedge_features: Tensor | None
    hyperedge_group: Tensor | None
    group_names: tuple[str, ...]
    direction: Tensor | None
    node_batch: Tensor | None
    edge_batch: Tensor | None
    num_samples: int | None

    def __init__(
        self,
        hyperedge_index: Tensor,
        num_nodes: int | None = None,
        num_edges: int | None = None,
        hyperedge_weight: Tensor | None = None,
        incidence_weight: Tensor | None = None,
        *,
        node_weight: Tensor | None = None,
        node_features: Tensor | None = None,
        hyperedge_features: Tensor | None = None,
        hyperedge_group: Tensor | None = None,
        group_names: Sequence[str] | None = None,
        direction: Tensor | None = None,
        node_batch: Tensor | None = None,
        edge_batch: Tensor | None = None,
        num_samples: int | None = None,
    ) -> None:
        index = check_integer("hyperedge_index", hyperedge_index)
        if index.dim() != 2 or index.shape[0] != 2:
            raise ValueError(
                f"`hyperedge_index` must have shape [2, nnz], got {list(index.shape)}; "
                "pass the incidence as vertex and hyperedge rows"
            )
        num_nodes = _size("num_nodes", num_nodes, index[0])
        num_edges = _size("num_edges", num_edges, index[1])
        check_index_range("hyperedge_index[0]", index[0], num_nodes, "num_nodes")
        check_index_range("hyperedge_index[1]", index[1], num_edges, "num_edges")
        nnz = index.shape[1]
        self.hyperedge_index = index
        self.incidence_weight = _weights("incidence_weight", incidence_weight, nnz, "pair")
        self.node_weight = _weights("node_weight", node_weight, num_nodes, "vertex")
        self.node_features = _features("node_features", node_features, num_nodes, "vertex")
        self.hyperedge_features = _features(
            "hyperedge_features", hyperedge_features, num_edges, "hyperedge"
        )
        self.hyperedge_group = _numbers("hyperedge_group", hyperedge_group, num_edges, "hyperedge")
        self.group_names = _group_names(group_names, self.hyperedge_group)
        self.direction = _direction(direction, nnz)
        self.node_batch = _numbers("node_batch", node_batch, num_nodes, "vertex")
        self.edge_batch = _numbers("edge_batch", edge_batch, num_edges, "hyperedge")
        self.num_samples = _num_samples(num_samples, self.node_batch, self.edge_batch, index)
        self._csr = LazyCsr(index, num_nodes, num_edges)
        super().__init__(num_nodes, num_edges, None, hyperedge_weight)
        for name in (*NODE_FIELDS, *EDGE_FIELDS, *PAIR_FIELDS):
            value = getattr(self, name)
            if value is not None and value.device != index.device:
                raise ValueError(
                    f"`{name}` must be on the device of `hyperedge_index`, {index.device}, "
                    f"got {value.device}; move it with .to({str(index.device)!r})"
                )

    @property
    def device(self) -> torch.device:
        """Where the pairs live."""
        return self.hyperedge_index.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the incidence weights; None without."""
        return None if self.incidence_weight is None else self.incidence_weight.dtype

    @property
    def nnz(self) -> int:
        """Number of stored pairs; repeated pairs and pairs of value 0 count."""
        return self.hyperedge_index.shape[1]

    def replace(self, **fields: Any) -> Self:
        """The same hypergraph with other values of the named fields.

        Args:
            fields: arguments of the constructor, by name; None takes a field away.

        Returns:
            A new hypergraph, checked as by the constructor.

        Raises:
            TypeError: there is no such field.
            ValueError: a value does not fit.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1]]).replace(node_features=torch.randn(2, 8))
            Hypergraph(num_nodes=2, num_edges=1, nnz=2, node_features=8, device='cpu')
        """
        state = self._fields()
        for name in fields:
            if name not in state:
                raise TypeError(f"`{name}` is no field of a {type(self).__name__}: {list(state)}")
        if fields.get("hyperedge_group", ...) is None:
            state["group_names"] = None
        if fields.get("node_batch", ...) is None or fields.get("edge_batch", ...) is None:
            state |= {"node_batch": None, "edge_batch": None, "num_samples": None}
        return type(self)(**(state | fields))._like(self)

    def equal(self, other: object) -> bool:
        """Tell whether both hold the same pairs and fields.

        The order of the pairs does not matter, nor do dtype and device; absent weights equal ones,
        absent directions equal 0. Groups are compared by name. A pair given twice is not the same
        as a pair of value 2: compare ``coalesce()`` of both where that is meant. Values must be
        equal exactly (NaN in features equals NaN).

        Args:
            other: anything; only a ``Hypergraph`` can be equal.

        Example:
            >>> from hypergraph import Hypergraph
            >>> one = Hypergraph.from_edges([[0, 1], [2]])
            >>> one.equal(Hypergraph.from_edges([[1, 0], [2]]))
            True
        """
        if not isinstance(other, Structure) or self.shape != other.shape or self.nnz != other.nnz:
            return False
        if self.device != other.device:
            other = other.to(self.device)
        if self.num_samples != other.num_samples:
            return False
        features = ("node_features", "hyperedge_features", "node_batch", "edge_batch")
        if not all(_same(getattr(self, name), getattr(other, name)) for name in features):
            return False
        if not _same(self.weight(torch.float64), other.weight(torch.float64)):
            return False
        if not _same(_filled(self.node_weight, self), _filled(other.node_weight, other)):
            return False
        return self._same_groups(other) and self._same_pairs(other)

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, as a DataLoader with ``pin_memory=True`` asks for."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def _same_groups(self, other: "Structure") -> bool:
        if (self.hyperedge_group is None) != (other.hyperedge_group is None):
            return False
        if self.hyperedge_group is None or other.hyperedge_group is None:
            return True
        names = {name: number for number, name in enumerate(self.group_names)}
        numbers = [names.get(name, -1) for name in other.group_names]
        translated = torch.tensor(numbers, device=self.device, dtype=torch.long)
        return torch.equal(self.hyperedge_group, translated[other.hyperedge_group])

    def _same_pairs(self, other: "Structure") -> bool:
        def listed(h: Structure) -> tuple[Tensor, ...]:
            value = h._pair_values().detach().to(torch.float64)
            order = h._pair_order(value.argsort(stable=True))
            return h.hyperedge_index[:, order], h._pair_direction()[order], value[order]

        mine, theirs = self.hyperedge_index, other.hyperedge_index
        if torch.equal(mine, theirs) and _same(self._pair_direction(), other._pair_direction()):
            if _same(self._pair_values(), other._pair_values()):
                return True
        return all(map(torch.equal, listed(self), listed(other)))

    def _pair_order(self, order: Tensor | None = None) -> Tensor:
        """[nnz]: the pairs by hyperedge, vertex and direction; ties as in ``order``."""
        node, edge = self.hyperedge_index
        keys = [edge, node]
        if self.direction is not None:
            keys.append(self.direction.long())
        if self.num_nodes * self.num_edges < 2**60:  # one sort instead of two or three
            key = edge * self.num_nodes + node
            keys = [key if self.direction is None else key * 3 + keys[2]]
        for key in reversed(keys):
            step = (key if order is None else key[order]).argsort(stable=True)
            order = step if order is None else order[step]
        assert order is not None
        return order

    def _pair_values(self) -> Tensor:
        """[nnz] incidence values, ones where none were given."""
        if self.incidence_weight is not None:
            return self.incidence_weight
        return torch.ones(self.nnz, device=self.device)

    def _pair_direction(self) -> Tensor:
        """[nnz] directions, 0 where none were given."""
        if self.direction is not None:
            return self.direction
        return torch.zeros(self.nnz, dtype=torch.int8, device=self.device)

    def _counted(self) -> Tensor | None:
        """[nnz] bool: the pairs of positive value; None for all. Others are as good as absent."""
        return None if self.incidence_weight is None else self.incidence_weight.detach() > 0

    # ---- copies

    def _fields(self) -> dict[str, Any]:
        """All that is stored, as arguments of the constructor."""
        names = ("hyperedge_index", "num_nodes", "num_edges", "num_samples")
        fields = {
            name: getattr(self, name) for name in (*names, *NODE_FIELDS, *EDGE_FIELDS, *PAIR_FIELDS)
        }
        return fields | {"group_names": self.group_names or None}

    def _rebuilt(
        self,
        index: Tensor,
        num_nodes: int,
        num_edges: int,
        *,
        node: TensorMap | None = None,
        edge: TensorMap | None = None,
        pair: TensorMap | None = None,
        **others: Any,
    ) -> Self:
        """Another incidence; the functions turn the fields of vertices, hyperedges and pairs."""
        fields: dict[str, Any] = {
            "group_names": self.group_names or None,
            "num_samples": self.num_samples,
        }
        kinds: list[tuple[tuple[str, ...], Callable[[Tensor], Tensor] | None]]
        kinds = [(NODE_FIELDS, node), (EDGE_FIELDS, edge), (PAIR_FIELDS, pair)]
        for names, function in kinds:
            for name in names:
                value = getattr(self, name)
                keep = value is None or function is None or name in others
                fields[name] = value if keep else function(value)  # type: ignore[misc]
        return type(self)(index, num_nodes, num_edges, **(fields | others))._like(self)

    def _map(self, function: TensorMap) -> Self:
        index = function(self.hyperedge_index)
        twin = self._rebuilt(
            index, self.num_nodes, self.num_edges, node=function, edge=function, pair=function
        )
        if twin.hyperedge_index is self.hyperedge_index:
            twin._csr = self._csr  # the pairs need not be sorted once more
        return twin

    def __getstate__(self) -> dict[str, Any]:
        chosen = {} if self.implementation == "auto" else {"implementation": self.implementation}
        return self._fields() | chosen

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Through the constructor: what comes from a file is checked like anything else.
        fields = dict(state)
        chosen = fields.pop("implementation", "auto")
        check_choice("implementation", chosen, get_args(Implementation))
        self.__init__(**fields)  # type: ignore[misc]
        if chosen != "auto":
            self.implementation = chosen

    def _details(self) -> str:
        parts = [f"nnz={self.nnz}"]
        if self.incidence_weight is not None:
            parts.append("weighted members")
        if self.direction is not None:
            parts.append("directed")
        if self.num_samples is not None:
            parts.append(f"num_samples={self.num_samples}")
        if self.hyperedge_group is not None:
            parts.append(f"groups={list(self.group_names)}")
        for name in ("node_features", "hyperedge_features"):
            features = getattr(self, name)
            if features is not None:
                parts.append(f"{name}={features.shape[1]}")
        if self.node_weight is not None:
            parts.append("weighted vertices")
        return "".join(", " + part for part in parts)


def _size(name: str, given: int | None, index: Tensor) -> int:
    if given is None:
        return int(index.max()) + 1 if index.numel() else 0
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"`{name}` must be an int, got {type(given).__name__}")
    if given < 0:
        raise ValueError(f"`{name}` must be non-negative, got {given}")
    return given


def _weights(name: str, weight: Tensor | None, size: int, what: str) -> Tensor | None:
    if weight is None:
        return None
    weight = check_float(name, weight)
    if weight.shape != (size,):
        raise ValueError(
            f"`{name}` must have shape [{size}], one value per {what}, got {list(weight.shape)}"
        )
    check_non_negative(name, weight)
    return weight


def _features(name: str, features: Tensor | None, size: int, what: str) -> Tensor | None:
    if features is None:
        return None
    features = check_float(name, features)
    if features.dim() != 2 or features.shape[0] != size:
        raise ValueError(
            f"`{name}` must have shape [{size}, F], one row per {what}, got {list(features.shape)}"
        )
    return features


def _numbers(name: str, numbers: Tensor | None, size: int, what: str) -> Tensor | None:
    if numbers is None:
        return None
    numbers = check_integer(name, numbers)
    if numbers.shape != (size,):
        raise ValueError(
            f"`{name}` must have shape [{size}], one number per {what}, got {list(numbers.shape)}"
        )
    return numbers


def _group_names(names: Sequence[str] | None, group: Tensor | None) -> tuple[str, ...]:
    if group is None:
        if names:
            raise ValueError(
                f"`group_names` goes with `hyperedge_group`, got only {list(names)}; "
                "say which hyperedge belongs to which group"
            )
        return ()
    if names is None:
        count = int(group.max()) + 1 if group.numel() else 0
        check_index_range("hyperedge_group", group, count, "groups")
        return tuple(str(number) for number in range(count))
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"`group_names` must be a sequence of str, got {names!r}")
    names = tuple(names)
    if any(not isinstance(name, str) for name in names):
        raise TypeError(f"`group_names` must be a sequence of str, got {list(names)}")
    if len(set(names)) != len(names):
        raise ValueError(f"`group_names` must differ from each other, got {list(names)}")
    check_index_range("hyperedge_group", group, len(names), "len(group_names)")
    return names


def _direction(direction: Tensor | None, nnz: int) -> Tensor | None:
    if direction is None:
        return None
    # int64 first: a cast to int8 would let 255 pass as -1.
    wide = check_integer("direction", direction)
    if wide.shape != (nnz,):
        raise ValueError(
            f"`direction` must have shape [{nnz}], one entry per pair, got {list(wide.shape)}"
        )
    if is_eager() and wide.numel() and not wide.is_meta:
        low, high = (int(value) for value in torch.aminmax(wide))
        if low < -1 or high > 1:
            worst = low if low < -1 else high
            raise ValueError(
                f"`direction` must be -1 (tail), 0 (both) or +1 (head) for every pair, got {worst}"
            )
    return direction if direction.dtype == torch.int8 else wide.to(torch.int8)


def _num_samples(
    count: int | None, node_batch: Tensor | None, edge_batch: Tensor | None, index: Tensor
) -> int | None:
    given = [value is not None for value in (count, node_batch, edge_batch)]
    if not any(given):
        return None
    if not all(given):
        raise ValueError(
            "`node_batch`, `edge_batch` and `num_samples` describe a batch together; "
            "give all of them or none (Hypergraph.batch sets them)"
        )
    assert count is not None and node_batch is not None and edge_batch is not None
    count = _size("num_samples", count, node_batch)
    check_index_range("node_batch", node_batch, count, "num_samples")
    check_index_range("edge_batch", edge_batch, count, "num_samples")
    if is_eager() and not index.is_meta:
        apart = (node_batch[index[0]] != edge_batch[index[1]]).nonzero().flatten()
        if apart.numel():
            node, edge = index[:, apart[0]].tolist()
            raise ValueError(
                f"`node_batch` and `edge_batch` must agree in every pair, got vertex {node} and "
                f"hyperedge {edge} of different samples"
            )
    return count


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is None and b is None
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = a.detach().to(dtype), b.detach().to(dtype)
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _filled(weight: Tensor | None, h: Structure) -> Tensor:
    return torch.ones(h.num_nodes, device=h.device) if weight is None else weight
