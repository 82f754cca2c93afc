"""Laws that every layer obeys, against its dense definition and against itself."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import Dense, Hypergraph, LowRank, NeighborTable, Streamed
from tests.hypergraph.generated import F64, generate, hits_every_class, mismatches
from tests.hypergraph.nn.cases import CASES, LayerCase

each_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def made(case: LayerCase, dtype: torch.dtype = F64) -> nn.Module:
    torch.manual_seed(7)
    return case.make().to(dtype).eval()


def features(case: LayerCase, *shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, case.in_channels, dtype=dtype)


def connected(weighted: bool = True, dtype: torch.dtype = F64) -> Hypergraph:
    """Every vertex and hyperedge has members; a repeated pair among them."""
    edges = [[0, 1, 2], [2, 3], [3, 4, 5, 0], [5], [1, 4, 4]]
    plain = Hypergraph.from_edges(edges, num_nodes=6)
    if not weighted:
        return plain
    weight = torch.rand(5, dtype=dtype) + 0.5
    values = torch.rand(plain.hyperedge_index.shape[1], dtype=dtype) + 0.5
    return Hypergraph(plain.hyperedge_index, 6, 5, weight, values)


# ---- values


@each_layer
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_equals_its_dense_definition(case: LayerCase, weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        assert hits_every_class(suite), suite.classes
        layer = made(case)
        x = features(case, suite.hypergraph.num_nodes)
        with torch.no_grad():
            got = case.call(layer, x, suite.hypergraph)
            expected = suite.unpad(case.define(layer, suite.pad(x), suite.matrix, suite.weight))
        wrong = mismatches(suite, got, expected, suite.graph)
        assert wrong.numel() == 0, (
            f"{wrong.numel()} graphs differ, for example {wrong[:5].tolist()}"
        )


@each_layer
def test_single_precision_agrees_with_double(case: LayerCase) -> None:
    layer, h = made(case), connected()
    x = features(case, 6)
    expected = case.call(layer, x, h)
    got = case.call(made(case, torch.float32), x.float(), h.to(torch.float32))
    assert got.dtype == torch.float32
    assert_close(got.to(F64), expected, rtol=1e-4, atol=1e-5)


# ---- gradients


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.no_gradcheck], ids=lambda case: case.name
)
def test_gradients_are_right(case: LayerCase) -> None:
    layer, h = made(case), connected()
    index, count = h.hyperedge_index, len(list(layer.parameters()))
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, weight: Tensor, values: Tensor, *parameters: Tensor) -> Tensor:
        graph = Hypergraph(index, 6, 5, weight, values)
        owner = _Caller(layer, case)
        state = {f"layer.{name}": p for name, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(owner, state, (x, graph))

    inputs = (features(case, 6), h.hyperedge_weight, h.incidence_weight, *layer.parameters())
    assert len(inputs) == 3 + count
    leaves = tuple(t.detach().clone().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(run, leaves, atol=1e-6)


class _Caller(nn.Module):
    def __init__(self, layer: nn.Module, case: LayerCase) -> None:
        super().__init__()
        self.layer = layer
        self.case = case

    def forward(self, x: Tensor, h: Hypergraph) -> Tensor:
        return self.case.call(self.layer, x, h)


@each_layer
def test_gradients_are_finite_on_degenerate_hypergraphs(case: LayerCase) -> None:
    h = generate(500, 3, weighted=True).hypergraph
    assert h.hyperedge_weight is not None and h.incidence_weight is not None
    # Not the huge ones: times a subnormal one they make degrees whose true gradient overflows.
    weight = h.hyperedge_weight.clamp_max(3.0).requires_grad_()
    values = h.incidence_weight.clamp_max(3.0).requires_grad_()
    graph = Hypergraph(h.hyperedge_index, h.num_nodes, h.num_edges, weight, values)
    layer = made(case)
    x = features(case, h.num_nodes).requires_grad_()
    case.call(layer, x, graph).sin().sum().backward()
    for name, tensor in [("x", x), ("w", weight), ("h", values), *layer.named_parameters()]:
        if tensor.grad is not None:
            assert tensor.grad.isfinite().all(), name
    assert x.grad is not None and x.grad.abs().sum() > 0


# ---- laws


@each_layer
def test_permutations_of_vertices_and_hyperedges(case: LayerCase) -> None:
    layer, h = made(case), connected()
    x = features(case, 6)
    out = case.call(layer, x, h)
    nodes, edges = torch.randperm(6), torch.randperm(5)
    pairs = torch.randperm(h.hyperedge_index.shape[1])
    index = torch.stack(
        [nodes.argsort()[h.hyperedge_index[0]], edges.argsort()[h.hyperedge_index[1]]]
    )
    assert h.hyperedge_weight is not None and h.incidence_weight is not None
    moved = Hypergraph(index[:, pairs], 6, 5, h.hyperedge_weight[edges], h.incidence_weight[pairs])
    assert_close(case.call(layer, x[nodes], moved), out[nodes])


@each_layer
def test_a_disjoint_union_is_a_loop(case: LayerCase) -> None:
    layer = made(case)
    graphs = [connected(), Hypergraph.from_edges([[0, 2], []], 4), connected(), _edgeless(3)]
    graphs = [g.with_hyperedge_weight(torch.rand(g.num_edges, dtype=F64)) for g in graphs]
    pieces = [features(case, g.num_nodes) for g in graphs]
    together = case.call(layer, torch.cat(pieces), Hypergraph.batch(graphs))
    apart = [case.call(layer, x, g) for x, g in zip(pieces, graphs, strict=True)]
    assert_close(together, torch.cat(apart))


def _edgeless(nodes: int) -> Hypergraph:
    return Hypergraph(torch.empty(2, 0, dtype=torch.long), nodes, 0)


@each_layer
def test_one_hypergraph_shared_by_samples_is_a_loop(case: LayerCase) -> None:
    layer, h = made(case), connected()
    x = features(case, 3, 6)
    apart = torch.stack([case.call(layer, sample, h) for sample in x])
    assert_close(case.call(layer, x, h), apart)


@each_layer
def test_one_hypergraph_per_sample_is_a_loop(case: LayerCase) -> None:
    layer, x = made(case), features(case, 3, 7)
    index = torch.randint(0, 6, (3, 5, 4))
    mask = torch.rand(3, 5, 4) > 0.2
    mask[:, 3] = False
    values, weight = torch.rand(3, 5, 4, dtype=F64) + 0.1, torch.rand(3, 5, dtype=F64) + 0.1
    apart = [
        case.call(layer, x[b], NeighborTable(index[b], 7, values[b], mask[b], weight[b]))
        for b in range(3)
    ]
    table = NeighborTable(index, 7, values, mask, weight)
    assert_close(case.call(layer, x, table), torch.stack(apart))


@each_layer
def test_torch_func_gives_the_same_gradients(case: LayerCase) -> None:
    layer, h = made(case).eval(), connected()
    x = features(case, 6)

    def energy(x: torch.Tensor) -> torch.Tensor:
        return case.call(layer, x, h).square().sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(leaf), leaf)
    assert_close(torch.func.grad(energy)(x), expected)
    direction = torch.randn_like(x)
    try:
        _, tangent = torch.func.jvp(energy, (x,), (direction,))
    except NotImplementedError:  # degrees that depend on the features say that they have no rule
        return
    assert_close(tangent, (expected * direction).sum())


@each_layer
def test_an_empty_batch_and_no_vertices(case: LayerCase) -> None:
    layer = made(case)
    out = case.call(layer, features(case, 0), _edgeless(0))
    assert out.shape[0] == 0
    table = NeighborTable(torch.zeros(0, 2, 3, dtype=torch.long), 4)
    assert case.call(layer, features(case, 0, 4), table).shape[:2] == (0, 4)


@each_layer
def test_every_operator_or_a_clear_refusal(case: LayerCase) -> None:
    layer, x = made(case), features(case, 6)
    weight = torch.rand(5, dtype=F64) + 0.1
    dense = Dense(torch.rand(6, 5, dtype=F64), weight)
    expected = case.define(layer, x[None], dense.matrix[None], weight[None])[0]
    assert_close(case.call(layer, x, dense), expected)
    p, q = torch.rand(6, 3, dtype=F64), torch.rand(5, 3, dtype=F64)
    for operator in (LowRank(p, q, weight), Streamed(p - 0.5, q, "abs", hyperedge_weight=weight)):
        if case.every_operator:
            matrix = operator.to_dense()
            expected = case.define(layer, x[None], matrix[None], weight[None])[0]
            assert_close(case.call(layer, x, operator), expected)
        else:
            with pytest.raises(TypeError, match=f"`hypergraph`.*{type(operator).__name__}"):
                case.call(layer, x, operator)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.linear], ids=lambda case: case.name
)
def test_linear_layers_are_linear(case: LayerCase) -> None:
    layer, h = made(case), connected()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    x, y = features(case, 6), features(case, 6)
    combined = case.call(layer, 2 * x - 3 * y, h)
    assert_close(combined, 2 * case.call(layer, x, h) - 3 * case.call(layer, y, h))


# ---- integrations


@each_layer
def test_pickle_deepcopy_and_state_dict(case: LayerCase) -> None:
    layer, h = made(case), connected()
    x = features(case, 6)
    out = case.call(layer, x, h)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert torch.equal(case.call(twin, x, h), out)
        assert repr(twin) == repr(layer)
    fresh = case.make().to(F64).eval()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(case.call(fresh, x, h), out)


@each_layer
def test_compiles_in_one_graph(case: LayerCase) -> None:
    torch._dynamo.reset()
    layer, h = made(case, torch.float32), connected(dtype=torch.float32)
    x = features(case, 6, dtype=torch.float32).requires_grad_()
    expected = case.call(layer, x, h)
    (grad,) = torch.autograd.grad(expected.sin().sum(), x)
    compiled = torch.compile(
        lambda x, h: case.call(layer, x, h), fullgraph=True, backend="aot_eager"
    )
    got = compiled(x, h)
    assert_close(got, expected)
    assert_close(torch.autograd.grad(got.sin().sum(), x)[0], grad)


@each_layer
def test_exports(case: LayerCase) -> None:
    layer, h = made(case, torch.float32), connected(dtype=torch.float32)
    x = features(case, 6, dtype=torch.float32)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return case.call(self.layer, x, h)

    program = torch.export.export(Model(), (x,))
    other = features(case, 6, dtype=torch.float32)
    assert_close(program.module()(other), case.call(layer, other, h))


@each_layer
def test_bfloat16_autocast(case: LayerCase) -> None:
    layer, h = made(case, torch.float32), connected(dtype=torch.float32)
    x = features(case, 6, dtype=torch.float32).requires_grad_()
    expected = case.call(layer, x, h).detach()
    with torch.autocast("cpu", torch.bfloat16):
        got = case.call(layer, x, h)
    got.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32 and x.grad.isfinite().all()
    scale = expected.abs().max().item()
    # Two or three roundings to 8 bits of mantissa, and cancellation inside sums.
    assert_close(got.float(), expected, rtol=0, atol=0.05 * max(scale, 1))


@each_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters(case: LayerCase, dtype: torch.dtype) -> None:
    layer, h = made(case, torch.float32), connected(dtype=torch.float32)
    x = features(case, 6, dtype=torch.float32)
    expected = case.call(layer, x, h)
    layer, x = layer.to(dtype), x.to(dtype).requires_grad_()
    got = case.call(layer, x, h.to(dtype))
    assert got.dtype == dtype
    got.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all()
    scale = expected.abs().max().item()
    assert_close(got.float(), expected, rtol=0, atol=0.05 * max(scale, 1))


@each_layer
def test_shapes_without_data(case: LayerCase) -> None:
    layer, h = made(case, torch.float32), connected(dtype=torch.float32)
    x = features(case, 6, dtype=torch.float32)
    expected = case.call(layer, x, h)
    got = case.call(layer.to("meta"), x.to("meta"), h.to("meta"))
    assert got.is_meta and got.shape == expected.shape and got.dtype == expected.dtype


# ---- threads


@each_layer
def test_eight_threads_share_one_module(case: LayerCase) -> None:
    layer, x = made(case, torch.float32), features(case, 6, dtype=torch.float32)
    h = connected(dtype=torch.float32)
    with torch.no_grad():
        expected = case.call(layer, x, connected(dtype=torch.float32))
    expected_h = expected if expected is not None else None
    assert expected_h is not None

    def run(_: int) -> Tensor:
        with torch.no_grad():
            return case.call(layer, x, h)

    with torch.no_grad():
        alone = case.call(layer, x, copy.deepcopy(h))
    with ThreadPoolExecutor(8) as pool:
        for out in pool.map(run, range(64)):
            assert torch.equal(out, alone)


# ---- misuse


@each_layer
def test_misuse_names_the_argument(case: LayerCase) -> None:
    layer, h = made(case), connected()
    x = features(case, 6)
    wrong: list[tuple[object, object]] = [
        (x[:, :-1], h),
        (x[:5], h),
        (x[0], h),
        (x[None, None], h),
        (x.float(), h),
        (x.long(), h),
        (x.numpy(), h),
        (x, h.to_dense()),
        (x, [[0, 1], [1, 2]]),
        (x, None),
    ]
    for features_, graph in wrong:
        with pytest.raises((ValueError, TypeError), match="`[a-z_0-9]+`"):
            case.call(layer, features_, graph)  # type: ignore[arg-type]
