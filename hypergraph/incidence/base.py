"""What every incidence operator can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import torch
from torch import Tensor

from hypergraph._checks import (
    check_choice,
    check_device,
    check_float,
    check_non_negative,
    is_eager,
)
from hypergraph._numerics import inverse_power
from hypergraph.incidence._csr import LazyCsr
from hypergraph.incidence._pairs import Reduce, check_reduce, reduce_pairs
from hypergraph_kernels import Implementation, Segments, incidence_softmax

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
    Subclasses store H exactly in the form that suits its origin. The sums ``v2e(x)`` and ``e2v(y)``
    are plain products: weights and degrees are applied by the layers (``node_degree`` contains W).
    Means, maxima and softmax take an incidence value as a multiplicity, and in ``e2v`` w_e h_ve in
    its place, so that W weighs hyperedges wherever they go into vertices.

    An operator is either one hypergraph or a batch of ``batch_size`` hypergraphs of equal size.
    A single hypergraph also accepts features with a batch dimension and is then shared.

    Degrees are kept between calls as long as that changes nothing: they are computed again after an
    in-place change of a weight or mask, and at every call while a stored tensor gets gradients.
    Indices must not be changed in place, nor weights behind autograd's back (``weight.data``, an
    array that shares their memory).

    Attributes:
        num_nodes: vertices (per sample).
        num_edges: hyperedges (per sample).
        batch_size: samples, or None for a single hypergraph.
        hyperedge_weight: [num_edges] or [batch_size, num_edges], or None for ones.
        implementation: of the kernels behind the products; see ``with_implementation``.
    """

    num_nodes: int
    num_edges: int
    batch_size: int | None
    implementation: Implementation = "auto"

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
        self._own_weight = self._checked_weight(hyperedge_weight)
        self._kept: dict[object, tuple[_State, Any, list[Tensor]]] = {}

    @property
    def hyperedge_weight(self) -> Tensor | None:
        """[num_edges] or [batch_size, num_edges], or None for ones."""
        return self._own_weight

    @hyperedge_weight.setter
    def hyperedge_weight(self, weight: Tensor | None) -> None:
        self._own_weight = weight

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

    def v2e(self, x: Tensor, reduce: Reduce = "sum") -> Tensor:
        """Reduce vertex features into hyperedges; the sum is ``H^T x``.

        Args:
            x: [num_nodes, C], or [B, num_nodes, C] (B = batch_size, or any for one hypergraph).
            reduce: ``"sum"``; ``"mean"``, ``sum h x / sum h``; and for operators with members
                ``"max"``, ``"min"`` over h > 0, or ``"softmax"``, the mean weighted by h exp(x)
                channel by channel.

        Returns:
            [num_edges, C] or [B, num_edges, C]; 0 for an empty hyperedge.

        Raises:
            ValueError: the shape does not fit, or ``reduce`` is unknown.
            TypeError: x is not floating point, or the operator lists no members and the reduction
                needs them.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1], [1, 2]])
            >>> h.v2e(torch.tensor([[1.0], [3.0], [7.0]]), "mean").flatten()
            tensor([2., 5.])
        """
        check_reduce("reduce", reduce)
        if reduce == "sum":
            return self._product("x", "num_nodes", self.num_nodes, x, self._v2e)
        if reduce == "mean":
            self._check_product("x", "num_nodes", self.num_nodes, x)
            total, degree = self.v2e_with_degree(x)
            return total * inverse_power(degree, -1.0).unsqueeze(-1).to(total.dtype)
        members = self.with_members()
        return members.reduce_to_edges(members.gather_nodes(x), reduce)

    def e2v(self, y: Tensor, reduce: Reduce = "sum") -> Tensor:
        """Reduce hyperedge features into vertices; the sum is ``H y``, without W.

        Args:
            y: [num_edges, C], or [B, num_edges, C] (B = batch_size, or any for one hypergraph).
            reduce: ``"sum"``; ``"mean"``, ``sum w h y / sum w h``; and for operators with members
                ``"max"``, ``"min"`` over w h > 0, or ``"softmax"``, the mean weighted by
                w h exp(y) channel by channel.

        Returns:
            [num_nodes, C] or [B, num_nodes, C]; 0 for an isolated vertex.

        Raises:
            ValueError: the shape does not fit, or ``reduce`` is unknown.
            TypeError: y is not floating point, or the operator lists no members and the reduction
                needs them.
        """
        check_reduce("reduce", reduce)
        if reduce == "sum":
            return self._product("y", "num_edges", self.num_edges, y, self._e2v)
        if reduce == "mean":
            self._check_product("y", "num_edges", self.num_edges, y)
            degree = self.node_degree(y.dtype)
            total = self.e2v(y * self.weight(y.dtype).unsqueeze(-1))
            return total * inverse_power(degree, -1.0).unsqueeze(-1).to(total.dtype)
        members = self.with_members()
        return members.reduce_to_nodes(members.gather_edges(y), reduce)

    def v2v(self, x: Tensor, reduce: Reduce = "mean", e2v_reduce: Reduce | None = None) -> Tensor:
        """Reduce vertex features into hyperedges and those, weighted by W, into vertices.

        ``"mean"`` is ``D_v^-1 H W D_e^-1 H^T x`` (HGNN+, Eq. 5 with Theta = 1), ``"sum"`` is
        ``H W H^T x``.

        Args:
            x: [num_nodes, C], or [B, num_nodes, C].
            reduce: how members make a hyperedge, see ``v2e``.
            e2v_reduce: how hyperedges make a vertex, see ``e2v``; None for the same.

        Returns:
            The shape of x.
        """
        e2v_reduce = reduce if e2v_reduce is None else e2v_reduce
        check_reduce("e2v_reduce", e2v_reduce)
        y = self.v2e(x, reduce)
        if e2v_reduce == "sum":
            return self.e2v(y * self.weight(y.dtype).unsqueeze(-1))
        return self.e2v(y, e2v_reduce)

    def with_members(self) -> "MemberIncidence":
        """This operator in a form whose members can be listed; itself where it is one.

        Raises:
            TypeError: the operator has no members (``LowRank``, ``Streamed``).
        """
        raise TypeError(
            "`hypergraph` must be an operator whose members can be listed, because this layer or "
            f"reduction needs every (vertex, hyperedge) pair, got {type(self).__name__}; use a "
            "Hypergraph or NeighborTable, a reduction 'sum' or 'mean', or a layer such as HGNNConv"
        )

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

    def hgnn_propagate(self, z: Tensor) -> Tensor:
        """``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 z`` in the dtype of z or the operator's, if wider.

        Operators that have a kernel for it use that where nothing but z needs a gradient; the
        layers call ``hypergraph.hgnn_propagate``, which takes care of the precision.

        Args:
            z: [num_nodes, C], or [B, num_nodes, C].

        Returns:
            The shape of z.

        Raises:
            ValueError, TypeError: the shape or dtype does not fit.
        """
        z = self._check_product("z", "num_nodes", self.num_nodes, z)
        root = inverse_power(self.node_degree(z.dtype), -0.5).unsqueeze(-1)
        edges, edge_degree = self.v2e_with_degree(z * root)
        weight = self.weight(edge_degree.dtype)
        edges = edges * (weight * inverse_power(edge_degree, -1.0)).unsqueeze(-1)
        return self.e2v(edges) * root

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

        return self._mapped(move)

    def with_hyperedge_weight(self, hyperedge_weight: Tensor | None) -> Self:
        """The same incidence with other hyperedge weights.

        Args:
            hyperedge_weight: [num_edges] or [batch_size, num_edges], non-negative; None for ones.
        """
        twin = self._mapped(lambda tensor: tensor)
        twin.hyperedge_weight = twin._checked_weight(hyperedge_weight)
        return twin

    def with_implementation(self, implementation: Implementation) -> Self:
        """The same operator, its products computed in a chosen way; parts of it likewise.

        Layers then use that implementation too. It is kept by copies, pickles, ``to`` and the
        transforms of a ``Hypergraph``, but not by what ``Hypergraph.batch``, ``merge`` or a fusion
        makes of several operators (whose parts keep theirs).

        Args:
            implementation: ``"auto"``, ``"reference"`` (the definition, in plain PyTorch),
                ``"cpu"`` (the fast path in PyTorch, on any device), ``"compiled"`` or ``"triton"``.
                One that cannot run is an error when a product is computed.

        Returns:
            A shallow copy: tensors are shared.

        Raises:
            ValueError: there is no such implementation.

        Example:
            >>> from hypergraph import Hypergraph
            >>> Hypergraph.from_edges([[0, 1]]).with_implementation("reference")
            Hypergraph(num_nodes=2, num_edges=1, nnz=2, implementation='reference', device='cpu')
        """
        check_choice("implementation", implementation, get_args(Implementation))
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin._kept = {}
        for name, value in vars(self).items():
            if isinstance(value, tuple) and any(isinstance(item, Incidence) for item in value):
                parts = tuple(part.with_implementation(implementation) for part in value)
                setattr(twin, name, parts)
        twin.implementation = implementation
        return twin

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of ``to_dense()``."""
        batch = () if self.batch_size is None else (self.batch_size,)
        return (*batch, self.num_nodes, self.num_edges)

    def __repr__(self) -> str:
        batch = "" if self.batch_size is None else f"batch_size={self.batch_size}, "
        weighted = ", weighted hyperedges" if self.hyperedge_weight is not None else ""
        chosen = ""
        if self.implementation != "auto":
            chosen = f", implementation={self.implementation!r}"
        return (
            f"{type(self).__name__}({batch}num_nodes={self.num_nodes}, "
            f"num_edges={self.num_edges}{self._details()}{weighted}{chosen}, "
            f"device='{self.device}')"
        )

    # ---- shared by the operators

    def _details(self) -> str:
        return ""

    def _mapped(self, function: TensorMap) -> Self:
        """``_map``, with the implementation of this operator."""
        return self._map(function)._like(self)

    def _like(self, other: "Incidence") -> Self:
        """Take over another operator's implementation."""
        if self.implementation != other.implementation:
            self.implementation = other.implementation
        return self

    def _node_degree(self, weight: Tensor) -> Tensor:
        return self._e2v(weight.unsqueeze(-1)).squeeze(-1)

    def _edge_degree(self, ones: Tensor) -> Tensor:
        return self._v2e(ones.unsqueeze(-1)).squeeze(-1)

    def _degree_dtype(self, dtype: torch.dtype | None) -> torch.dtype:
        # bfloat16 cannot count beyond 256.
        degree_dtype = torch.promote_types(self.dtype or torch.float32, torch.float32)
        return degree_dtype if dtype is None else torch.promote_types(degree_dtype, dtype)

    def _keep(self, key: object, compute: Callable[[], _Value], with_graph: bool = False) -> _Value:
        """The value computed before under ``key``, if it would come out the same now.

        ``with_graph`` keeps it with the graph to stored tensors that are no leaves, too.
        """
        state = self._state(with_graph)
        if state is None:
            return compute()
        kept = self._kept.get(key)
        if kept is None or kept[0] != state:
            # The tensors stay alive with the value: their ids in ``state`` name them alone.
            kept = self._kept[key] = (state, compute(), list(stored_values(self)))
        value: _Value = kept[1]
        return value

    def _state(self, with_graph: bool) -> _State | None:
        """What kept values depend on; None where nothing may be kept.

        The graph to a kept value would be freed by the first backward, and a checkpoint's second
        pass would find kept what its first one computed. A value computed without gradients or in
        inference mode does not serve outside of it. Changes of a tensor made in inference mode are
        not counted, nor those of a parameter's ``data``.
        """
        if not is_eager():
            return None
        tensors = list(stored_values(self))
        grad = torch.is_grad_enabled()
        if any(tensor.requires_grad and tensor.is_leaf for tensor in tensors):
            return None
        if not with_graph and any(t.is_inference() or (grad and t.requires_grad) for t in tensors):
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
        check_device("hyperedge_weight", weight, self.device, "hypergraph")
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

    def _check_product(self, name: str, size_name: str, size: int, x: object) -> Tensor:
        """Return x if it is [size, C] or [B, size, C] as this operator wants it."""
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
        check_device(name, x, self.device, "hypergraph")
        return x

    def _product(
        self, name: str, size_name: str, size: int, x: Tensor, product: TensorMap
    ) -> Tensor:
        x = self._check_product(name, size_name, size, x)
        if self.dtype is not None:
            x = x.to(torch.promote_types(x.dtype, self.dtype))
        if self.batch_size is None and x.dim() == 3:  # one hypergraph for all samples
            samples, _, channels = x.shape
            shared = product(x.transpose(0, 1).reshape(size, samples * channels))
            return shared.reshape(shared.shape[0], samples, channels).transpose(0, 1)
        return product(x)


def stored_values(operator: Incidence) -> Iterator[Tensor]:
    """Every tensor of values that an operator and its parts store: weights, and masks."""
    for attribute in vars(operator).values():
        for item in attribute if isinstance(attribute, tuple) else (attribute,):
            if isinstance(item, Incidence):
                yield from stored_values(item)
            elif isinstance(item, Tensor) and (
                item.is_floating_point() or item.dtype == torch.bool
            ):
                yield item


class MemberIncidence(Incidence):
    """An incidence whose (vertex, hyperedge, value) pairs can be listed.

    ``gather_nodes`` and ``gather_edges`` bring features to the pairs, ``reduce_to_edges`` and
    ``reduce_to_nodes`` bring messages of the pairs back, ``incidence_softmax`` makes attention of
    scores. Together they are what attention and set layers are written with. Where B hypergraphs
    are batched, pairs are counted through the samples and have no batch dimension of their own;
    where features [B, ...] share one hypergraph, messages are [B, nnz, C].
    """

    @abstractmethod
    def members(self) -> Members:
        """List the pairs as three tensors.

        Returns:
            node [nnz], hyperedge [nnz] and value [nnz] (None for ones); repeated pairs stay
            repeated. In a batch, vertices and hyperedges are numbered through the samples.
        """

    def with_members(self) -> "MemberIncidence":
        """The operator itself."""
        return self

    def gather_nodes(self, x: Tensor) -> Tensor:
        """The features of every pair's vertex.

        Args:
            x: [num_nodes, C] or [B, num_nodes, C].

        Returns:
            [nnz, C]; [B, nnz, C] where x [B, ...] shares one hypergraph.

        Raises:
            ValueError, TypeError: the shape or dtype does not fit.
        """
        return self._gather(self._check_product("x", "num_nodes", self.num_nodes, x), 0)

    def gather_edges(self, y: Tensor) -> Tensor:
        """The features of every pair's hyperedge.

        Args:
            y: [num_edges, C] or [B, num_edges, C].

        Returns:
            [nnz, C]; [B, nnz, C] where y [B, ...] shares one hypergraph.

        Raises:
            ValueError, TypeError: the shape or dtype does not fit.
        """
        return self._gather(self._check_product("y", "num_edges", self.num_edges, y), 1)

    def reduce_to_edges(
        self, messages: Tensor, reduce: Reduce = "sum", weighted: bool = True
    ) -> Tensor:
        """Reduce the messages of a hyperedge's members, each with the multiplicity h_ve.

        Args:
            messages: [nnz, C], or [B, nnz, C] with one shared hypergraph.
            reduce: see ``v2e``.
            weighted: False leaves h out, for messages that contain it (as attention does).

        Returns:
            [num_edges, C] or [B, num_edges, C]; 0 for an empty hyperedge.

        Raises:
            ValueError, TypeError: the shape or dtype does not fit.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1], [1, 2]])
            >>> x = torch.tensor([[1.0], [3.0], [7.0]])
            >>> h.reduce_to_edges(h.gather_nodes(x), "max").flatten()
            tensor([3., 7.])
        """
        pairs = self.members()
        messages = self._check_messages("messages", messages, pairs)
        weight = pairs.value if weighted else None
        return self._reduce(messages, pairs.hyperedge, self.num_edges, reduce, weight)

    def reduce_to_nodes(
        self, messages: Tensor, reduce: Reduce = "sum", weighted: bool = True
    ) -> Tensor:
        """Reduce the messages of a vertex' hyperedges, each with the multiplicity w_e h_ve.

        Args:
            messages: [nnz, C], or [B, nnz, C] with one shared hypergraph.
            reduce: see ``e2v``; the sum here contains W.
            weighted: False leaves w and h out, for messages that contain them.

        Returns:
            [num_nodes, C] or [B, num_nodes, C]; 0 for an isolated vertex.

        Raises:
            ValueError, TypeError: the shape or dtype does not fit.
        """
        pairs = self.members()
        messages = self._check_messages("messages", messages, pairs)
        weight = self._pair_weight(pairs, messages.dtype) if weighted else None
        return self._reduce(messages, pairs.node, self.num_nodes, reduce, weight)

    def incidence_softmax(
        self, scores: Tensor, over: Literal["nodes", "edges"] = "nodes"
    ) -> Tensor:
        """Attention over the members of every hyperedge, or over the hyperedges of every vertex.

        ``alpha_ve = h_ve exp(s_ve) / sum over members u of h_ue exp(s_ue)`` for ``"nodes"``; for
        ``"edges"`` the sum is over the hyperedges of v, with w_e h_ve in place of h_ve.

        Args:
            scores: [nnz] or [nnz, K]; [B, nnz, K] with one shared hypergraph.
            over: what the attention sums to one over.

        Returns:
            The shape of scores. It contains the multiplicities: reduce it with ``weighted=False``.

        Raises:
            ValueError, TypeError: the shape, dtype or ``over`` does not fit.

        Example:
            >>> import torch
            >>> from hypergraph import Hypergraph
            >>> h = Hypergraph.from_edges([[0, 1], [1]])
            >>> h.incidence_softmax(torch.zeros(3))
            tensor([0.5000, 0.5000, 1.0000])
        """
        check_choice("over", over, ("nodes", "edges"))
        pairs = self.members()
        scores = check_float("scores", scores)
        if scores.dim() == 1:
            flat = self._check_messages("scores", scores.unsqueeze(-1), pairs)
            return self._softmax(flat, over, pairs).squeeze(-1)
        return self._softmax(self._check_messages("scores", scores, pairs), over, pairs)

    def _softmax(self, scores: Tensor, over: str, pairs: Members) -> Tensor:
        row = 1 if over == "nodes" else 0
        weight = pairs.value if row else self._pair_weight(pairs, scores.dtype)
        return incidence_softmax(
            scores,
            self._grouped(row),
            weight,
            rows=pairs.hyperedge if row else pairs.node,
            implementation=self.implementation,
        )

    def _grouped(self, row: int) -> Segments:
        """The pairs of ``members`` by vertex (0) or by hyperedge (1), through all samples."""
        csr = vars(self).get("_csr_of_members")
        if csr is None:
            samples = 1 if self.batch_size is None else self.batch_size
            pairs = self.members()
            csr = LazyCsr(pairs[:2], samples * self.num_nodes, samples * self.num_edges)
            if is_eager():
                csr = vars(self).setdefault("_csr_of_members", csr)
        return csr.by_edge() if row else csr.by_node()

    def _gather(self, features: Tensor, row: int) -> Tensor:
        if self.batch_size is not None:
            features = features.flatten(0, 1)
        return features.index_select(-2, self.members()[row])  # type: ignore[arg-type]

    def _reduce(
        self, messages: Tensor, index: Tensor, size: int, reduce: Reduce, weight: Tensor | None
    ) -> Tensor:
        check_reduce("reduce", reduce)
        if self.batch_size is None:
            return reduce_pairs(messages, index, size, reduce, weight)
        out = reduce_pairs(messages, index, self.batch_size * size, reduce, weight)
        return out.unflatten(0, (self.batch_size, size))

    def _pair_weight(self, pairs: Members, dtype: torch.dtype) -> Tensor | None:
        """[nnz] products w_e h_ve in at least this precision; None for ones."""
        if self.hyperedge_weight is None:
            return pairs.value
        weight = self.weight(dtype).flatten()[pairs.hyperedge]
        return weight if pairs.value is None else weight * pairs.value

    def _check_messages(self, name: str, messages: object, pairs: Members) -> Tensor:
        messages = check_float(name, messages)
        dims = (2, 3) if self.batch_size is None else (2,)
        if messages.dim() not in dims or messages.shape[-2] != pairs.node.shape[0]:
            hint = " (or [B, ...] to share the hypergraph)" if self.batch_size is None else ""
            raise ValueError(
                f"`{name}` must have shape [nnz={pairs.node.shape[0]}, C]{hint}, one row per pair, "
                f"got {list(messages.shape)}"
            )
        check_device(name, messages, pairs.node.device, "hypergraph")
        return messages

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
