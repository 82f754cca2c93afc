"""Laws that hold for every operator, against its own dense matrix."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from hypergraph import (
    BlockDiagonal,
    Concat,
    Dense,
    HGNNConv,
    Hypergraph,
    Incidence,
    LowRank,
    NeighborTable,
    Streamed,
    WeightedSum,
    line_expansion,
)
from hypergraph.nn.hgnn_conv import hgnn_propagate
from hypergraph_kernels import cross_correlation_matmul
from hypergraph_kernels.cross_correlation import cpu

F64 = torch.float64
NODES, EDGES, SAMPLES = 9, 6, 3


def _batch(samples: int | None) -> tuple[int, ...]:
    return () if samples is None else (samples,)


def _table(samples: int | None, dtype: torch.dtype) -> NeighborTable:
    shape = (*_batch(samples), EDGES, 4)
    mask = torch.rand(shape) > 0.3
    mask[..., 2, :] = False  # an empty hyperedge
    index = torch.randint(0, NODES - 1, shape)  # vertex NODES - 1 is isolated
    weight = torch.rand(*_batch(samples), EDGES, dtype=dtype)
    return NeighborTable(index, NODES, torch.rand(shape, dtype=dtype), mask, weight)


def _plain_table(samples: int | None, dtype: torch.dtype) -> NeighborTable:
    return NeighborTable(torch.randint(0, NODES, (*_batch(samples), EDGES, 3)), NODES)


def _factors(samples: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    p = torch.randn(*_batch(samples), NODES, 3, dtype=dtype)
    return p, torch.randn(*_batch(samples), EDGES, 3, dtype=dtype)


def _sparse(samples: int | None, dtype: torch.dtype) -> Incidence:
    index = torch.stack([torch.randint(0, NODES - 1, (30,)), torch.randint(0, EDGES - 1, (30,))])
    weight = torch.rand(EDGES, dtype=dtype)
    return Hypergraph(index, NODES, EDGES, weight, torch.rand(30, dtype=dtype))


def _blocks(samples: int | None, dtype: torch.dtype) -> Incidence:
    batch = torch.tensor([1, 0, 0, 1, 2, 2, 2, 1, 0])
    p, q = torch.rand(3, 5, dtype=dtype), torch.rand(4, 5, dtype=dtype)
    weight = torch.rand(4, dtype=dtype)
    parts = [Dense(torch.rand(3, 2, dtype=dtype)), LowRank(p, q, weight), Streamed(p, q[:1])]
    return BlockDiagonal(parts, batch)


Maker = Callable[[int | None, torch.dtype], Incidence]
MAKERS: dict[str, Maker] = {
    "table": _table,
    "plain table": _plain_table,
    "dense": lambda b, t: Dense(torch.rand(*_batch(b), NODES, EDGES, dtype=t)),
    "low rank": lambda b, t: LowRank(*(f.abs() for f in _factors(b, t))),
    "abs": lambda b, t: Streamed(*_factors(b, t), hyperedge_weight=torch.rand(EDGES, dtype=t)),
    "softmax over edges": lambda b, t: Streamed(*_factors(b, t), "softmax"),
    "softmax over nodes": lambda b, t: Streamed(*_factors(b, t), "softmax", "nodes"),
    "concat": lambda b, t: Concat([_table(b, t), LowRank(*(f.abs() for f in _factors(b, t)))]),
    "sum": lambda b, t: WeightedSum(
        [_plain_table(b, t), Streamed(*_factors(b, t))],
        [0.9, torch.rand(_batch(b), dtype=t)],
        torch.rand(EDGES, dtype=t),
    ),
}
SINGLE: dict[str, Maker] = {"sparse": _sparse, "blocks": _blocks}
CASES = [pytest.param(make, b, id=f"{n}-{b}") for n, make in MAKERS.items() for b in (None, 3)]
CASES += [pytest.param(make, None, id=name) for name, make in SINGLE.items()]
SINGLE_CASES = [pytest.param(make, id=name) for name, make in {**MAKERS, **SINGLE}.items()]


@pytest.mark.parametrize(("make", "samples"), CASES)
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["float64", "float32"])
def test_products_and_degrees_equal_the_dense_matrix(
    make: Maker, samples: int | None, dtype: torch.dtype, tolerance: dict
) -> None:
    h = make(samples, dtype)
    matrix, weight = h.to_dense().to(F64), h.weight().to(F64)
    assert tuple(matrix.shape) == h.shape == (*_batch(samples), h.num_nodes, h.num_edges)
    x = torch.randn(*_batch(samples), h.num_nodes, 5, dtype=dtype)
    y = torch.randn(*_batch(samples), h.num_edges, 5, dtype=dtype)
    close = tolerance[dtype]
    assert h.v2e(x).dtype == h.node_degree(dtype).dtype == dtype
    assert_close(h.v2e(x).to(F64), matrix.mT @ x.to(F64), **close)
    assert_close(h.e2v(y).to(F64), matrix @ y.to(F64), **close)
    degree = (matrix * weight.unsqueeze(-2)).sum(-1)
    assert_close(h.node_degree(dtype).to(F64), degree, **close)
    assert_close(h.edge_degree(dtype).to(F64), matrix.sum(-2), **close)
    fused, fused_degree = h.v2e_with_degree(x)
    assert_close(fused, h.v2e(x), **close)
    assert_close(fused_degree.to(F64), matrix.sum(-2), **close)


@pytest.mark.parametrize("make", SINGLE_CASES)
def test_one_hypergraph_is_shared_by_a_batch_of_features(make: Maker) -> None:
    h = make(None, F64)
    x = torch.randn(2, h.num_nodes, 4, dtype=F64)
    y = torch.randn(2, h.num_edges, 4, dtype=F64)
    assert_close(h.v2e(x), torch.stack([h.v2e(sample) for sample in x]))
    assert_close(h.e2v(y), torch.stack([h.e2v(sample) for sample in y]))
    assert_close(h.v2e_with_degree(x)[0], h.v2e(x))


@pytest.mark.parametrize(("make", "samples"), CASES)
def test_gradients_of_the_features_are_the_transposed_product(
    make: Maker, samples: int | None
) -> None:
    h = make(samples, F64)
    x = torch.randn(*_batch(samples), h.num_nodes, 4, dtype=F64, requires_grad=True)
    y = torch.randn(*_batch(samples), h.num_edges, 4, dtype=F64, requires_grad=True)
    (grad_x,) = torch.autograd.grad((h.v2e(x) * y.detach()).sum(), x)
    (grad_y,) = torch.autograd.grad((h.e2v(y) * x.detach()).sum(), y)
    assert_close(grad_x, h.e2v(y.detach()))
    assert_close(grad_y, h.v2e(x.detach()))


@pytest.mark.parametrize(("make", "samples"), CASES)
def test_to_dtype_keeps_the_hypergraph(make: Maker, samples: int | None) -> None:
    h = make(samples, F64)
    moved = h.to(torch.float32).to("cpu").to(device="cpu", dtype=torch.float32)
    assert moved.dtype in (None, torch.float32)
    assert type(moved) is type(h)
    assert_close(moved.to_dense().to(F64), h.to_dense().to(F64), rtol=1e-5, atol=1e-6)
    assert_close(moved.weight().to(F64), h.weight().to(F64), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="`dtype` must be floating point"):
        h.to(torch.int64)


@pytest.mark.parametrize(("make", "samples"), CASES)
def test_weights_can_be_replaced(make: Maker, samples: int | None) -> None:
    h = make(samples, F64)
    weight = torch.rand(h.num_edges, dtype=F64, requires_grad=True)
    twin = h.with_hyperedge_weight(weight)
    expected = (h.to_dense() * weight).sum(-1)
    assert_close(twin.node_degree(F64).to(F64), expected.to(F64))
    twin.node_degree(F64).sum().backward()
    assert weight.grad is not None
    sums = h.to_dense().sum(tuple(range(len(h.shape) - 1)))
    assert_close(weight.grad, sums.to(F64))
    assert_close(h.with_hyperedge_weight(None).weight(F64), torch.ones_like(h.weight(F64)))


@pytest.mark.parametrize(("make", "samples"), CASES)
def test_repr_names_the_sizes(make: Maker, samples: int | None) -> None:
    h = make(samples, F64)
    text = repr(h)
    assert f"num_nodes={h.num_nodes}" in text and f"num_edges={h.num_edges}" in text
    assert text.startswith(type(h).__name__ + "(") and "device='cpu'" in text


@pytest.mark.parametrize(("make", "samples"), CASES)
def test_wrong_feature_shapes_are_named(make: Maker, samples: int | None) -> None:
    h = make(samples, F64)
    with pytest.raises(ValueError, match="`x` must have shape .*num_nodes=9"):
        h.v2e(torch.randn(*_batch(samples), h.num_nodes + 1, 2))
    with pytest.raises(ValueError, match="`y` must have shape .*num_edges="):
        h.e2v(torch.randn(h.num_edges + 1, 2))
    with pytest.raises(TypeError, match="`x` must be floating point"):
        h.v2e(torch.ones(*_batch(samples), h.num_nodes, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="`hyperedge_weight` must have shape"):
        h.with_hyperedge_weight(torch.ones(h.num_edges + 1))
    with pytest.raises(ValueError, match="`hyperedge_weight` must be non-negative"):
        h.with_hyperedge_weight(-torch.ones(h.num_edges))


@pytest.mark.parametrize("function", ["abs", "softmax"])
@pytest.mark.parametrize("axis", ["edges", "nodes"])
def test_streamed_factors_get_the_gradients_of_the_dense_matrix(function: str, axis: str) -> None:
    p = torch.randn(2, 40, 5, dtype=F64, requires_grad=True)
    q = torch.randn(2, 30, 5, dtype=F64, requires_grad=True)
    x, y = torch.randn(2, 40, 3, dtype=F64), torch.randn(2, 30, 3, dtype=F64)

    def loss(h: Incidence) -> Tensor:
        terms = [h.v2e(x), h.e2v(y), h.node_degree().square(), h.edge_degree().square()]
        return sum(((term + 0.3).sin().sum() for term in terms), torch.zeros((), dtype=F64))

    streamed = Streamed(p, q, function, axis)
    got = torch.autograd.grad(loss(streamed), (p, q))
    expected = torch.autograd.grad(loss(Dense(streamed.to_dense())), (p, q))
    assert_close(got, expected)


@pytest.mark.parametrize("function", ["abs", "softmax"])
def test_streamed_uses_several_tiles(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_TILE", 8)
    test_streamed_factors_get_the_gradients_of_the_dense_matrix(function, "edges")


def test_streamed_memory_does_not_grow_with_the_product_of_sizes() -> None:
    """No tensor that autograd keeps is larger than the factors or the features."""
    largest = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    p = torch.randn(1, 2000, 4, requires_grad=True)
    q = torch.randn(1, 1500, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        Streamed(p, q, "softmax").e2v(torch.randn(1, 1500, 8)).sum().backward()
    assert largest <= 2000 * 16


def test_weights_of_members_get_gradients() -> None:
    index, mask = torch.randint(0, 5, (2, 4, 3)), torch.rand(2, 4, 3) > 0.3
    weights = torch.rand(2, 4, 3, dtype=F64, requires_grad=True)
    x = torch.randn(2, 5, 2, dtype=F64, requires_grad=True)

    def run(weights: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        h = NeighborTable(index, 5, weights, mask)
        return h.v2e(x), h.e2v(h.v2e(x)), h.node_degree(), h.edge_degree()

    assert torch.autograd.gradcheck(run, (weights, x))
    assert torch.autograd.gradgradcheck(run, (weights, x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Dense(torch.ones(3)), "`matrix` must have shape"),
        (lambda: Dense(-torch.ones(3, 2)), "`matrix` must be non-negative"),
        (lambda: LowRank(-torch.ones(3, 2), torch.ones(4, 2)), "`p` must be non-negative"),
        (lambda: LowRank(torch.ones(3, 2), torch.ones(4, 3)), r"`q` must have shape \[M, 2\]"),
        (lambda: Streamed(torch.ones(2, 3, 2), torch.ones(4, 2)), r"`q` must have .*\[2, M, 2\]"),
        (lambda: Streamed(torch.ones(3, 2), torch.ones(4, 2), "relu"), "`function` must be one of"),
        (lambda: Streamed(torch.ones(3, 2), torch.ones(4, 2), "abs", "x"), "`axis` must be one of"),
        (lambda: NeighborTable(torch.zeros(3, dtype=torch.long)), "`index` must have shape"),
        (lambda: NeighborTable(torch.tensor([[0, 5]]), 5), "`index` must lie in .*num_nodes=5.*5"),
        (lambda: NeighborTable(torch.tensor([[-1, 0]]), 5), "`index` must lie in .*got -1"),
        (lambda: NeighborTable(torch.tensor([[0]]), 2, torch.ones(2)), "`weights` must have the"),
        (lambda: NeighborTable(torch.tensor([[0]]), 2, -torch.ones(1, 1)), "`weights` must be non"),
        (
            lambda: NeighborTable(torch.tensor([[0]]), 2, mask=torch.ones(2).bool()),
            "`mask` must have the shape",
        ),
        (lambda: Concat([]), "`parts` must hold at least one"),
        (
            lambda: Concat([Dense(torch.ones(3, 2)), Dense(torch.ones(4, 2))]),
            "`parts` must agree in vertices",
        ),
        (
            lambda: WeightedSum([Dense(torch.ones(3, 2)), Dense(torch.ones(3, 4))], [1, 1]),
            "`parts` must agree in vertices, hyperedges.*Concat",
        ),
        (lambda: WeightedSum([Dense(torch.ones(3, 2))], [1, 2]), "`coefficients` must have one"),
        (lambda: WeightedSum([Dense(torch.ones(3, 2))], [-1]), r"`coefficients\[0\]` must be non"),
        (
            lambda: WeightedSum([Dense(torch.ones(3, 2))], [torch.ones(3)]),
            r"`coefficients\[0\]` must have shape \[\]",
        ),
        (
            lambda: WeightedSum([Dense(torch.ones(3, 2), torch.ones(2))], [1]),
            "`parts` of a weighted sum must have no hyperedge weights",
        ),
        (
            lambda: BlockDiagonal([Dense(torch.ones(3, 2))], torch.tensor([0, 0, -1])),
            "`batch` must have shape .* no negative entry",
        ),
        (
            lambda: _blocks(None, F64).v2e_with_degree(torch.ones(10, 2)),
            "`x` must have shape .num_nodes=9",
        ),
        (
            lambda: cross_correlation_matmul(*[torch.ones(1, 2, 2)] * 3, "relu"),
            "`function` must be one of 'abs', 'exp', got 'relu'",
        ),
        (
            lambda: BlockDiagonal([Dense(torch.ones(3, 2))], torch.tensor([0, 0])),
            "`blocks` must be single hypergraphs",
        ),
    ],
)
def test_bad_input_is_named(build: Callable[[], Incidence], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Dense([[1.0]]), "`matrix` must be a torch.Tensor, got list"),
        (lambda: Dense(torch.ones(2, 2, dtype=torch.long)), "`matrix` must be floating point"),
        (lambda: NeighborTable(torch.ones(2, 2)), "`index` must hold integers"),
        (lambda: NeighborTable(torch.tensor([[0]]), mask=torch.ones(1, 1)), "`mask` must be bool"),
        (
            lambda: NeighborTable(torch.tensor([[0]]), mask=[[True]]),
            "`mask` must be bool, got list",
        ),
        (lambda: NeighborTable(torch.tensor([[0]]), 1.0), "`num_nodes` must be an int"),
        (
            lambda: BlockDiagonal([torch.ones(2, 2)], torch.tensor([0, 0])),
            "`blocks` must hold incidence operators, got Tensor",
        ),
        (lambda: Concat([torch.ones(2, 2)]), "`parts` must hold incidence operators"),
        (lambda: Concat(Dense(torch.ones(2, 2))), "`parts` must be a list of incidence operators"),
        (lambda: Concat(None), "`parts` must be a list of incidence operators, got NoneType"),
        (
            lambda: WeightedSum([Dense(torch.ones(2, 2))], 0.5),
            "`coefficients` must be a list with one entry per part, got float",
        ),
        (lambda: Hypergraph.from_edges([0, 1]), "`edges` must be a list of hyperedges.*got 0"),
        (lambda: Hypergraph.from_edges(torch.tensor([0, 1])), "`edges` must be a list"),
        (lambda: Hypergraph.from_edges([[True]]), "`edges` must hold integer.*got True"),
        (lambda: Hypergraph.from_directed_edges([1]), "`edges` must be a list.*got 1"),
        (lambda: Hypergraph.from_groups({"a": 3}), "`edges` must be a list.*got 3"),
        (lambda: Hypergraph.from_dense(torch.ones(1, 1) * 1j), "`matrix` must be real"),
        (lambda: Hypergraph.batch(Hypergraph.from_edges([[0]])), "`hypergraphs` must be a list"),
        (lambda: Hypergraph.merge(None), "`hypergraphs` must be a list of hypergraphs"),
        (
            lambda: Hypergraph.from_edges([[0]]).with_group("a", [[0]], [1.0]),
            "`hyperedge_weight` must be a torch.Tensor, got list",
        ),
        (
            lambda: Hypergraph.from_groups({"a": [[0]]}).replace(group_names=5),
            "`group_names` must be a sequence of str, got 5",
        ),
        (
            lambda: Hypergraph.from_edges([[0]]).drop_edges_randomly(0.5, 3),
            "`generator` must be a torch.Generator, got int",
        ),
        (
            lambda: line_expansion(Hypergraph.from_edges([[0, 1]]), "a"),
            "`vertex_weight` must be a number, got str",
        ),
    ],
)
def test_bad_types_are_named(build: Callable[[], Incidence], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()


ELSEWHERE = torch.ones(2, 2, device="meta")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Dense(torch.ones(2, 2), ELSEWHERE[0]), "`hyperedge_weight`.*`hypergraph`"),
        (lambda: Concat([Dense(torch.ones(2, 2)), Dense(ELSEWHERE)]), "`parts.1.`.*`parts.0.`"),
        (lambda: LowRank(torch.ones(2, 2), ELSEWHERE), "`q` .*`p`"),
        (lambda: Streamed(ELSEWHERE, torch.ones(2, 2)), "`q` .*`p`"),
        (lambda: BlockDiagonal([Dense(ELSEWHERE)], torch.tensor([0, 0])), "`blocks.0.`.*`batch`"),
        (
            lambda: NeighborTable(torch.zeros(2, 2).long(), 2, ELSEWHERE),
            "`weights` .*`index`",
        ),
        (
            lambda: NeighborTable(torch.zeros(2, 2).long(), 2, mask=ELSEWHERE > 0),
            "`mask` .*`index`",
        ),
        (lambda: Dense(torch.ones(2, 2)).v2e(ELSEWHERE), "`x` .*`hypergraph`"),
        (lambda: Dense(torch.ones(2, 2)).e2v(ELSEWHERE, "max"), "`y` .*`hypergraph`"),
        (
            lambda: Hypergraph.from_edges([[0, 1]]).incidence_softmax(ELSEWHERE[0]),
            "`scores` .*`hypergraph`",
        ),
    ],
)
def test_other_devices_are_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}, (cpu|meta), got (cpu|meta)"):
        build()


def _learned(kind: str, weight: Tensor) -> Incidence:
    """A composed operator over 6 vertices whose first hyperedges have learned weights."""
    part = Hypergraph.from_edges([[0, 1, 2], [2, 3]], num_nodes=6)
    if kind == "merge":
        return Hypergraph.merge([part.with_hyperedge_weight(weight), part])
    if kind == "given":
        return Concat([part, part], weight.repeat(2))
    if kind == "concat":
        return Concat([part.with_hyperedge_weight(weight), part])
    batch = torch.tensor([0] * 6)
    return Concat([BlockDiagonal([part.with_hyperedge_weight(weight)], batch), part])


@pytest.mark.parametrize("kind", ["merge", "given", "concat", "blocks"])
def test_composed_weights_serve_several_backwards_and_a_checkpoint(kind: str) -> None:
    weight = torch.rand(2, requires_grad=True)
    h, conv, x = _learned(kind, weight), HGNNConv(3, 2), torch.randn(6, 3)
    grads = []
    for _ in range(2):
        grads += torch.autograd.grad(conv(x, h).square().sum(), weight)
    out = checkpoint(conv, x, _learned(kind, weight), use_reentrant=False)
    grads += torch.autograd.grad(out.square().sum(), weight)
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[0], grads[2])


@pytest.mark.parametrize("kind", ["concat", "blocks"])
def test_composed_weights_follow_those_of_the_parts(kind: str) -> None:
    weight = torch.ones(2, requires_grad=True)
    h, x = _learned(kind, weight), torch.randn(6, 3)
    h.node_degree()
    with torch.no_grad():
        weight.mul_(3)  # as an optimiser does
    assert h.weight().tolist() == [3, 3, 1, 1]
    assert torch.equal(hgnn_propagate(x, h), hgnn_propagate(x, _learned(kind, weight)))
    copied = copy.deepcopy(h)
    copied.hyperedge_weight = torch.arange(4.0)
    assert copied.weight().tolist() == [0, 1, 2, 3]
    assert copied.node_degree().tolist() == [2, 2, 6, 4, 0, 0]
    assert h.weight().tolist() == [3, 3, 1, 1]


def test_weights_keep_their_precision_in_members() -> None:
    weight = torch.tensor([1e300, 1e-300, 0.1], dtype=F64)
    h = Hypergraph.from_edges([[0], [0, 1], [1, 2]], hyperedge_weight=weight)
    y = torch.randn(3, 2, dtype=F64)
    messages = h.gather_edges(y)
    assert_close(h.reduce_to_nodes(messages, "mean"), h.e2v(y, "mean"), rtol=1e-15, atol=0)
    assert_close(h.e2v(y, "softmax")[0], y[0], rtol=1e-15, atol=0)
    assert torch.equal(Concat([h, h]).weight(F64), torch.cat([weight, weight]))
    assert torch.equal(BlockDiagonal([h], torch.zeros(3).long()).weight(F64), weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_members_are_counted_in_full(dtype: torch.dtype) -> None:
    h = Hypergraph(torch.stack([torch.arange(5000), torch.zeros(5000).long()]))
    x = torch.ones(5000, 1, dtype=dtype)
    for reduce in ("mean", "softmax", "max"):
        out = h.reduce_to_edges(x, reduce)
        assert out.dtype == dtype and out.item() == 1, reduce
    alpha = h.incidence_softmax(x)
    assert alpha.dtype == dtype
    assert_close(alpha.float().sum().item(), 1.0, rtol=0.01, atol=0)


@pytest.mark.parametrize("inference", [False, True])
def test_degrees_follow_changes_that_are_not_counted(inference: bool) -> None:
    plain = Hypergraph.from_edges([[0, 1], [1]])
    if inference:
        with torch.inference_mode():
            weight = torch.ones(2)
            h = plain.with_hyperedge_weight(weight)
            assert h.node_degree().tolist() == [1, 2]
            weight.mul_(3)
            assert h.node_degree().tolist() == [3, 6]
        return
    parameter = torch.nn.Parameter(torch.ones(2))
    h = plain.with_hyperedge_weight(parameter)
    with torch.no_grad():
        assert h.node_degree().tolist() == [1, 2]
        parameter.data.mul_(3)  # as averages of weights are often written
        assert h.node_degree().tolist() == [3, 6]
