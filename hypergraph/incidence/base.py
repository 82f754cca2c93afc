"""What every incidence operator can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from hypergraph._checks import check_float, check_non_negative, is_eager

TensorMap = Callable[[Tensor], Tensor]
_State = tuple[object, ...]
_Value = TypeVar("_Value")


class Members(NamedTuple):
    """The pairs of an incidence, one entry per pair; batched operators count on through samples."""

    node: Tensor
    """[nnz] int64, vertex of every pair; sample b adds b * num_nodes."""
    hyperedge: Tensor
    """[nnz] int64, hyperedge of every pair; sample b adds b * num_edges."""
    value: Tensor | None
    """[nnz] incidence values; None stands for ones."""


class Incidence(ABC):
    """An incidence matrix H as a linear operator, with hyperedge weights W.

    A convolution needs ``v2e(x) = H^T x``, ``e2v(y) = H y`` and the degrees, never H itself.
    Subclasses store H exactly in the form that suits its origin. ``v2e`` and ``e2v`` are plain
    products: weights and degrees are applied by the layers (``node_degree`` contains W).

    An operator is either one hypergraph or a batch of ``batch_size`` hypergraphs of equal size.
    A single hypergraph also accepts features with a batch dimension and is then shared.

    Degrees are kept between calls as long as that changes nothing: they are computed again after an
    in-place change of a weight, and at every call while a stored tensor is a parameter that gets
    gradients. Indices must not be changed in place.

    Attributes:
        num_nodes: vertices (per sample).
        num_edges: hyperedges (per sample).
        batch_size: samples, or None for a single hypergraph.
        hyperedge_weight: [num_edges] or [batch_size, num_edges], or None for ones.
    """

    num_nodes: int
    num_edges: int
    batch_size: int | None
    hyperedge_weight: Tensor | None

    def __init__(
        self,
        num_nodes: int,
        num_edges: int,
        batch_size: int | None = None,
        hyperedge_weight: Tensor | None = None,
    ) -> None:
        self.num_nodes = num_nodes
        self.num_edges = num_edges
        self.batch_size = batch_size
        self.hyperedge_weight = self._checked_weight(hyperedge_weight)
        self._kept: dict[object, tuple[_State, Any]] = {}

    # ---- to be written by every operator

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the operator lives."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype | None:
        """Dtype of the incidence values; None if all of them are one."""

    @abstractmethod
    def _v2e(self, x: Tensor) -> Tensor:
        """``H^T x`` for x of shape [*batch, num_nodes, C] in at least the operator's dtype."""

    @abstractmethod
    def _e2v(self, y: Tensor) -> Tensor:
        """``H y`` for y of shape [*batch, num_edges, C] in at least the operator's dtype."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """H as a tensor [num_nodes, num_edges] or [batch_size, num_nodes, num_edges], without W."""

    @abstractmethod
    def _map(self, function: TensorMap) -> Self:
        """A copy with ``function`` applied to every stored tensor."""

    # ---- the linear protocol

    def v2e(self, x: Tensor) -> Tensor:
        """Sum vertex features into hyperedges: ``H^T x``.

        Args:
            x: [num_nodes, C], or [B, num_nodes, C] (B = batch_size, or any for one hypergraph).

        Returns:
            [num_edges, C] or [B, num_edges, C].

        Raises:
            ValueError: the shape does not fit.
        """
        return self._product("x", "num_nodes", self.num_nodes, x, self._v2e)

    def e2v(self, y: Tensor) -> Tensor:
        """Sum hyperedge features into vertices: ``H y``.

        Args:
            y: [num_edges, C], or [B, num_edges, C] (B = batch_size, or any for one hypergraph).

        Returns:
            [num_nodes, C] or [B, num_nodes, C].

        Raises:
            ValueError: the shape does not fit.
        """
        return self._product("y", "num_edges", self.num_edges, y, self._e2v)

    def node_degree(self, dtype: torch.dtype | None = None) -> Tensor:
        """Weighted vertex degrees ``d_v = sum over e of w_e h_ve``.

        Args:
            dtype: at least this precision; default the operator's. Never less than float32.

        Returns:
            [num_nodes] or [batch_size, num_nodes].
        """
        dtype = self._degree_dtype(dtype)
        key = ("node_degree", dtype)
        return self._keep(key, lambda: self._node_degree(self.weight(dtype)))

    def edge_degree(self, dtype: torch.dtype | None = None) -> Tensor:
        """Hyperedge degrees ``delta_e = sum over v of h_ve``, without W.

        Args:
            dtype: at least this precision; default the operator's. Never less than float32.

        Returns:
            [num_edges] or [batch_size, num_edges].
        """
        dtype = self._degree_dtype(dtype)
        key = ("edge_degree", dtype)
        return self._keep(key, lambda: self._edge_degree(self._ones(self.num_nodes, dtype)))

    def v2e_with_degree(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``v2e(x)`` and the hyperedge degrees, in one pass where an operator can."""
        return self.v2e(x), self.edge_degree(x.dtype)

    def weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """The hyperedge weights, ones where none were given: [num_edges] or [batch_size, ...]."""
        dtype = self._degree_dtype(dtype)
        if self.hyperedge_weight is None:
            return self._ones(self.num_edges, dtype)
        weight = self.hyperedge_weight.to(dtype)
        if self.batch_size is not None and weight.dim() == 1:
            weight = weight.expand(self.batch_size, -1)
        return weight

    def to(
        self,
        target: torch.device | torch.dtype | str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move to a device, or change the dtype of the stored values; indices stay int64.

        Args:
            target: a device or a dtype, as in ``Tensor.to``.
            device: where to move.
            dtype: floating dtype of values, factors and weights.

        Returns:
            A new operator; lazily computed parts are computed again when needed.
        """
        if isinstance(target, torch.dtype):
            dtype = target
        elif target is not None:
            device = target
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"`dtype` must be floating point, got {dtype}")

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        return self._map(move)

    def with_hyperedge_weight(self, hyperedge_weight: Tensor | None) -> Self:
        """The same incidence with other hyperedge weights.

        Args:
            hyperedge_weight: [num_edges] or [batch_size, num_edges], non-negative; None for ones.
        """
        twin = self._map(lambda tensor: tensor)
        twin.hyperedge_weight = twin._checked_weight(hyperedge_weight)
        return twin

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of ``to_dense()``."""
        batch = () if self.batch_size is None else (self.batch_size,)
        return (*batch, self.num_nodes, self.num_edges)

    def __repr__(self) -> str:
        batch = "" if self.batch_size is None else f"batch_size={self.batch_size}, "
        weighted = ", weighted hyperedges" if self.hyperedge_weight is not None else ""
        return (
            f"{type(self).__name__}({batch}num_nodes={self.num_nodes}, "
            f"num_edges={self.num_edges}{self._details()}{weighted}, device='{self.device}')"
        )

    # ---- shared by the operators

    def _details(self) -> str:
        return ""

    def _node_degree(self, weight: Tensor) -> Tensor:
        return self._e2v(weight.unsqueeze(-1)).squeeze(-1)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        return self._v2e(ones.unsqueeze(-1)).squeeze(-1)

    def _degree_dtype(self, dtype: torch.dtype | None) -> torch.dtype:
        # bfloat16 cannot count beyond 256.
        degree_dtype = torch.promote_types(self.dtype or torch.float32, torch.float32)
        return degree_dtype if dtype is None else torch.promote_types(degree_dtype, dtype)

    def _keep(self, key: object, compute: Callable[[], _Value]) -> _Value:
        """The value computed before under ``key``, if it would come out the same now."""
        state = self._state()
        if state is None:
            return compute()
        kept = self._kept.get(key)
        if kept is None or kept[0] != state:
            kept = self._kept[key] = (state, compute())
        value: _Value = kept[1]
        return value

    def _state(self) -> _State | None:
        """What kept values depend on; None where nothing may be kept.

        The graph from a leaf to a kept value would be freed by the first backward. A value computed
        without gradients or in inference mode does not serve outside of it.
        """
        if not is_eager():
            return None
        tensors = list(_stored_values(self))
        grad = torch.is_grad_enabled()
        if grad and any(tensor.requires_grad and tensor.is_leaf for tensor in tensors):
            return None
        versions = [(id(t), -1 if t.is_inference() else t._version) for t in tensors]
        return (grad, torch.is_inference_mode_enabled(), *versions)

    def _ones(self, size: int, dtype: torch.dtype) -> Tensor:
        batch = () if self.batch_size is None else (self.batch_size,)
        return torch.ones(*batch, size, dtype=dtype, device=self.device)

    def _checked_weight(self, weight: Tensor | None) -> Tensor | None:
        if weight is None:
            return None
        weight = check_float("hyperedge_weight", weight)
        shapes: list[tuple[int, ...]] = [(self.num_edges,)]
        if self.batch_size is not None:
            shapes.append((self.batch_size, self.num_edges))
        if tuple(weight.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(
                f"`hyperedge_weight` must have shape {expected}, one weight per hyperedge, "
                f"got {list(weight.shape)}"
            )
        check_non_negative("hyperedge_weight", weight)
        return weight

    def _product(
        self, name: str, size_name: str, size: int, x: Tensor, product: TensorMap
    ) -> Tensor:
        x = check_float(name, x)
        batch = self.batch_size
        fits = x.dim() in (2, 3) and x.shape[-2] == size
        if batch is not None:
            fits = fits and x.dim() == 3 and x.shape[0] == batch
        if not fits:
            leading = "" if batch is None else f"{batch}, "
            hint = " (or [B, ...] to share the hypergraph)" if batch is None else ""
            raise ValueError(
                f"`{name}` must have shape [{leading}{size_name}={size}, C]{hint}, "
                f"got {list(x.shape)}"
            )
        if self.dtype is not None:
            x = x.to(torch.promote_types(x.dtype, self.dtype))
        if batch is None and x.dim() == 3:  # one hypergraph for all samples
            samples, _, channels = x.shape
            shared = product(x.transpose(0, 1).reshape(size, samples * channels))
            return shared.reshape(shared.shape[0], samples, channels).transpose(0, 1)
        return product(x)


def _stored_values(operator: Incidence) -> Iterator[Tensor]:
    """Every floating tensor that an operator and its parts store."""
    for attribute in vars(operator).values():
        for item in attribute if isinstance(attribute, tuple) else (attribute,):
            if isinstance(item, Incidence):
                yield from _stored_values(item)
            elif isinstance(item, Tensor) and item.is_floating_point():
                yield item


class MemberIncidence(Incidence):
    """An incidence whose (vertex, hyperedge, value) pairs can be listed."""

    @abstractmethod
    def members(self) -> Members:
        """List the pairs as three tensors.

        Returns:
            node [nnz], hyperedge [nnz] and value [nnz] (None for ones); repeated pairs stay
            repeated. In a batch, vertices and hyperedges are numbered through the samples.
        """

    def to_dense(self) -> Tensor:
        """H with repeated pairs added up; differentiable with respect to the values."""
        node, hyperedge, value = self.members()
        samples = 1 if self.batch_size is None else self.batch_size
        if value is None:
            dtype = self.dtype or torch.get_default_dtype()
            value = torch.ones(node.shape[0], dtype=dtype, device=node.device)
        sample = node // max(self.num_nodes, 1)
        column = hyperedge - sample * self.num_edges
        dense = value.new_zeros(samples * self.num_nodes * self.num_edges)
        dense = dense.index_add(0, node * self.num_edges + column, value)
        return dense.view(self.shape)


def check_fit(x: Tensor, hypergraph: Incidence) -> Tensor:
    """Return features [N, C] or [B, N, C] if an operator applies to them, raise otherwise."""
    num_nodes, samples = x.shape[-2], hypergraph.batch_size
    if hypergraph.num_nodes != num_nodes:
        raise ValueError(
            f"`hypergraph` must have as many vertices as `x` has rows, {num_nodes}, "
            f"got {hypergraph.num_nodes}; pass num_nodes={num_nodes} when building it"
        )
    if samples is not None and (x.dim() != 3 or x.shape[0] != samples):
        raise ValueError(
            f"`x` must have shape [{samples}, {num_nodes}, C] to go with a batch of {samples} "
            f"hypergraphs, got {list(x.shape)}"
        )
    if hypergraph.device != x.device:
        raise ValueError(
            f"`hypergraph` must be on the device of `x`, {x.device}, got {hypergraph.device}; "
            "move it with .to(x.device)"
        )
    return x
