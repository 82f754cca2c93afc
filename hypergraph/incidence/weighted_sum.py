"""A linear combination of incidence matrices of equal size."""

from collections.abc import Sequence, Sized
from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import check_non_negative, check_non_negative_number
from hypergraph._numerics import inverse_power
from hypergraph.incidence._composite import Composite, check_parts, widest_dtype
from hypergraph.incidence.base import Incidence, Members, TensorMap
from hypergraph.incidence.low_rank import LowRank
from hypergraph.incidence.pair_list import PairList, joined_pairs
from hypergraph.incidence.streamed import Streamed


class WeightedSum(Composite):
    """``H = c_1 H_1 + c_2 H_2 + ...``, with one non-negative coefficient per part (and sample).

    Column e of the sum mixes column e of every part, so it is permutation-equivariant only if the
    parts' columns belong to the same vertices. ``Concat`` has no such condition. With a single
    part this scales an operator.

    Args:
        parts: operators of equal shape. Their own hyperedge weights must be unset.
        coefficients: a number, a scalar tensor, or a tensor [B] for every part; gradients flow.
        hyperedge_weight: [M] or [B, M], weights of the columns of the sum; default ones.

    Raises:
        ValueError, TypeError: the parts or coefficients do not fit.

    Example:
        >>> import torch
        >>> from hypergraph.incidence import Dense, WeightedSum
        >>> WeightedSum([Dense(torch.eye(2)), Dense(torch.ones(2, 2))], [0.5, 0.25]).to_dense()
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """

    def __init__(
        self,
        parts: Sequence[Incidence],
        coefficients: Sequence[float | Tensor],
        hyperedge_weight: Tensor | None = None,
    ) -> None:
        self.parts = check_parts(parts, same_edges=True)
        first = self.parts[0]
        if not isinstance(coefficients, Sized):
            raise TypeError(
                f"`coefficients` must be a list with one entry per part, "
                f"got {type(coefficients).__name__}"
            )
        if len(coefficients) != len(self.parts):
            raise ValueError(
                f"`coefficients` must have one entry per part, {len(self.parts)}, "
                f"got {len(coefficients)}"
            )
        if any(part.hyperedge_weight is not None for part in self.parts):
            raise ValueError(
                "`parts` of a weighted sum must have no hyperedge weights of their own; "
                "give the weights of the summed columns as `hyperedge_weight`"
            )
        for number, coefficient in enumerate(coefficients):
            self._check_coefficient(f"coefficients[{number}]", coefficient, first.batch_size)
        self.coefficients = tuple(coefficients)
        super().__init__(first.num_nodes, first.num_edges, first.batch_size, hyperedge_weight)

    @property
    def dtype(self) -> torch.dtype | None:
        """The widest dtype among parts and coefficient tensors; None if there is none."""
        dtypes = [part.dtype for part in self.parts]
        return widest_dtype(dtypes + [c.dtype for c in self.coefficients if isinstance(c, Tensor)])

    def to_dense(self) -> Tensor:
        """H, [N, M] or [B, N, M]."""
        dtype = self.dtype or torch.get_default_dtype()
        return self._combine([part.to_dense().to(dtype) for part in self.parts], 2)

    def with_members(self) -> PairList:
        """The pairs of all parts, their values times the part's coefficient."""
        dtype = self.dtype or torch.get_default_dtype()
        lists = []
        for part, coefficient in zip(self.parts, self.coefficients, strict=True):
            node, hyperedge, value = part.with_members().members()
            scale: float | Tensor = coefficient
            if isinstance(coefficient, Tensor) and coefficient.dim() == 1:
                scale = coefficient[hyperedge // max(self.num_edges, 1)]
            ones = torch.ones(node.shape[0], dtype=dtype, device=node.device)
            lists.append(Members(node, hyperedge, (ones if value is None else value) * scale))
        return PairList(
            joined_pairs(lists, dtype, self.device),
            self.num_nodes,
            self.num_edges,
            self.batch_size,
            self.hyperedge_weight,
        )._like(self)

    def v2e_with_degree(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``H^T x`` and the hyperedge degrees."""
        pairs = [part.v2e_with_degree(x) for part in self.parts]
        return self._combine([out for out, _ in pairs], 2), self._combine([d for _, d in pairs], 1)

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z``; a streamed part goes there and back at once."""
        z = self._check_product("z", "num_nodes", self.num_nodes, z)
        z = z if self.dtype is None else z.to(torch.promote_types(z.dtype, self.dtype))
        node_degree, edge_degree = both_degrees(self, z.dtype)
        root = inverse_power(node_degree, -0.5).unsqueeze(-1)
        return self.smoothed(z * root, edge_degree) * root

    def smoothed(self, u: Tensor, edge_degree: Tensor) -> Tensor:
        """``H W D_e^-1 H^T u`` for u of shape [*batch, num_nodes, C] in the operator's dtype."""
        pairs = list(zip(self.parts, self.coefficients, strict=True))
        at = next((i for i, part in enumerate(self.parts) if isinstance(part, Streamed)), None)
        streamed = None if at is None or self.batch_size is None and u.dim() == 3 else pairs.pop(at)
        scale = self.weight(u.dtype) * inverse_power(edge_degree, -1.0)
        edges = self._sum_of_products(pairs, u, to_edges=True) if pairs else None
        if streamed is None:
            assert edges is not None
            return self._sum_of_products(pairs, edges * scale.unsqueeze(-1), to_edges=False)
        part, coefficient = streamed
        assert isinstance(part, Streamed)
        out, edges = part.there_and_back(u, scale, edges, coefficient)
        if not pairs:
            return out
        return self._sum_of_products(pairs, edges * scale.unsqueeze(-1), to_edges=False, total=out)

    def e2v_parts(self, y: Tensor) -> list[Tensor]:
        """The terms whose sum is ``e2v(y)``, one per part."""
        pairs = zip(self.parts, self.coefficients, strict=True)
        return [self._scale(part.e2v(y), coefficient, 2) for part, coefficient in pairs]

    def _sum_of_products(
        self,
        pairs: Sequence[tuple[Incidence, float | Tensor]],
        x: Tensor,
        to_edges: bool,
        total: Tensor | None = None,
    ) -> Tensor:
        """``total`` and the parts' ``c H^T x``, or their ``c H x``; thin factors go last."""
        for part, coefficient in sorted(pairs, key=lambda pair: type(pair[0]) is LowRank):
            if type(part) is LowRank:  # a subclass may have products of its own
                add = part._add_v2e if to_edges else part._add_e2v
                total = add(total, x, self._shaped(coefficient, 2))
            else:
                term = self._scale(part.v2e(x) if to_edges else part.e2v(x), coefficient, 2)
                total = term if total is None else total + term
        assert total is not None
        return total

    def _v2e(self, x: Tensor) -> Tensor:
        return self._combine([part.v2e(x) for part in self.parts], 2)

    def _node_degree(self, weight: Tensor) -> Tensor:
        if self.hyperedge_weight is None:  # shares what the parts have computed already
            return self._combine([part.node_degree(weight.dtype) for part in self.parts], 1)
        return self._combine([part.e2v(weight.unsqueeze(-1)) for part in self.parts], 2).squeeze(-1)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        return self._combine([part.edge_degree(ones.dtype) for part in self.parts], 1)

    def _combine(self, terms: list[Tensor], trailing: int) -> Tensor:
        pairs = zip(terms, self.coefficients, strict=True)
        return self._total([self._scale(term, c, trailing) for term, c in pairs])

    @staticmethod
    def _total(terms: list[Tensor]) -> Tensor:
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    @classmethod
    def _scale(cls, term: Tensor, coefficient: float | Tensor, trailing: int) -> Tensor:
        if not isinstance(coefficient, Tensor) and coefficient == 1:
            return term
        return term * cls._shaped(coefficient, trailing)

    @staticmethod
    def _shaped(coefficient: float | Tensor, trailing: int) -> float | Tensor:
        """One of each sample, to be broadcast against so many trailing dimensions."""
        if isinstance(coefficient, Tensor) and coefficient.dim() == 1:
            return coefficient.view(-1, *(1,) * trailing)
        return coefficient

    @staticmethod
    def _check_coefficient(name: str, value: float | Tensor, batch_size: int | None) -> None:
        if isinstance(value, Tensor):
            shapes = [()] if batch_size is None else [(), (batch_size,)]
            if tuple(value.shape) not in shapes:
                expected = " or ".join(str(list(shape)) for shape in shapes)
                raise ValueError(f"`{name}` must have shape {expected}, got {list(value.shape)}")
            check_non_negative(name, value)
        else:
            check_non_negative_number(name, value)

    def _map(self, function: TensorMap) -> Self:
        weight = self.hyperedge_weight
        return type(self)(
            [part._mapped(function) for part in self.parts],
            [function(c) if isinstance(c, Tensor) else c for c in self.coefficients],
            None if weight is None else function(weight),
        )

    def _details(self) -> str:
        shown = [
            "tensor" if isinstance(c, Tensor) and c.dim() else _number(c) for c in self.coefficients
        ]
        return f", coefficients=[{', '.join(shown)}]{super()._details()}"


def _number(value: float | Tensor) -> str:
    return f"{value.item() if isinstance(value, Tensor) else value:.4g}"


def both_degrees(part: Incidence, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weighted vertex degrees and hyperedge degrees, in one pass where a part has to make H."""
    if part.hyperedge_weight is not None:
        return part.node_degree(dtype), part.edge_degree(dtype)
    if isinstance(part, WeightedSum):
        node, edge = zip(*(both_degrees(term, dtype) for term in part.parts), strict=True)
        return part._combine(list(node), 1), part._combine(list(edge), 1)
    if isinstance(part, Streamed):
        return part.both_degrees(dtype)
    return part.node_degree(dtype), part.edge_degree(dtype)


def scaled(part: Incidence, coefficient: float | Tensor) -> WeightedSum:
    """``c H`` with the hyperedge weights of H."""
    weight = part.hyperedge_weight
    bare = part if weight is None else part.with_hyperedge_weight(None)
    return WeightedSum([bare], [coefficient], weight)._like(part)


def mean_node_degree(part: Incidence, dtype: torch.dtype | None = None) -> Tensor:
    """Mean weighted vertex degree, a scalar or [B]; 0 without vertices."""
    return part.node_degree(dtype).sum(-1) / max(part.num_nodes, 1)
