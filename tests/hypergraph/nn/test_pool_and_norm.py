from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import (
    AttentionPool,
    GraphNorm,
    Hypergraph,
    HypergraphInstanceNorm,
    HypergraphLayerNorm,
    HypergraphPool,
    MeanSubtractionNorm,
    PairNorm,
    TopKPool,
)
from tests.hypergraph.generated import F64, FULL_SIZE, LEAST_HITS, inverse, mismatches

C = 4


@dataclass(frozen=True)
class Case:
    """``define(layer, x, m)`` for x [G, N, C] and multiplicities m [G, N], 0 for padding."""

    name: str
    make: Callable[[], nn.Module]
    define: Callable[[nn.Module, Tensor, Tensor], Tensor]
    pools: bool = False


def _mean(x: Tensor, m: Tensor) -> Tensor:
    return (m[..., None] * x).sum(1, keepdim=True) * inverse(m.sum(1))[:, None, None]


def _masked(x: Tensor, m: Tensor, worst: float) -> Tensor:
    present = (m > 0)[..., None]
    worst_row = torch.where(present, x, worst)
    best = worst_row.amax(1) if worst < 0 else worst_row.amin(1)
    return torch.where(present.any(1), best, 0)


def _attention(scores: Tensor, m: Tensor) -> Tensor:
    scores = scores.masked_fill((m <= 0)[..., None], -torch.inf)
    highest = scores.amax(1, keepdim=True).nan_to_num(neginf=0)
    powers = m[..., None] * (scores - highest).exp()
    return powers * inverse(powers.sum(1, keepdim=True))


def _reductions(layer: nn.Module, x: Tensor, m: Tensor) -> Tensor:
    total = (m[..., None] * x).sum(1)
    softmax = (_attention(x, m) * x).sum(1)
    low = _masked(x, m, torch.inf)
    return torch.cat([total, _mean(x, m)[:, 0], _masked(x, m, -torch.inf), low, softmax], -1)


def _attended(layer: AttentionPool, x: Tensor, m: Tensor) -> Tensor:
    attention = _attention(layer.gate(x), m)
    return torch.einsum("gnk,gnc->gkc", attention, x).flatten(1)


def _present(m: Tensor) -> Tensor:
    return ((m > 0) & (m.sum(1, keepdim=True) > torch.finfo(m.dtype).tiny))[..., None]


def _affine(layer: nn.Module, out: Tensor) -> Tensor:
    return out if layer.scale is None else out * layer.scale + layer.shift


def _subtracted(layer: nn.Module, x: Tensor, m: Tensor) -> Tensor:
    return (x - _mean(x, m)) * _present(m)


def _pair(layer: PairNorm, x: Tensor, m: Tensor) -> Tensor:
    centred = x - _mean(x, m)
    length = (centred**2).sum(-1, keepdim=True)
    if not layer.individually:
        length = _mean(length, m)
    return layer.factor * centred / (length + layer.eps).sqrt() * _present(m)


def _graph(layer: GraphNorm, x: Tensor, m: Tensor) -> Tensor:
    rest = x - layer.mean_share * _mean(x, m)
    out = rest / (_mean(rest**2, m) + layer.eps).sqrt()
    return _affine(layer, out) * _present(m)


def _instance(layer: HypergraphInstanceNorm, x: Tensor, m: Tensor) -> Tensor:
    rest = x - _mean(x, m)
    out = rest / (_mean(rest**2, m) + layer.eps).sqrt()
    return _affine(layer, out) * _present(m)


def _layer(layer: HypergraphLayerNorm, x: Tensor, m: Tensor) -> Tensor:
    rest = x - _mean(x.mean(-1, keepdim=True), m)
    out = rest / (_mean((rest**2).mean(-1, keepdim=True), m) + layer.eps).sqrt()
    return _affine(layer, out) * _present(m)


def _used(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


CASES = [
    Case(
        "HypergraphPool",
        lambda: HypergraphPool(("sum", "mean", "max", "min", "softmax")),
        _reductions,
        pools=True,
    ),
    Case("AttentionPool", lambda: AttentionPool(C, heads=2), _attended, pools=True),
    Case("MeanSubtractionNorm", MeanSubtractionNorm, _subtracted),
    Case("PairNorm", lambda: PairNorm(2.0), _pair),
    Case("PairNorm individually", lambda: PairNorm(0.5, individually=True, eps=0.01), _pair),
    Case("GraphNorm", lambda: _used(GraphNorm(C)), _graph),
    Case("HypergraphInstanceNorm", lambda: HypergraphInstanceNorm(C), _instance),
    Case(
        "HypergraphInstanceNorm with scale",
        lambda: _used(HypergraphInstanceNorm(C, affine=True)),
        _instance,
    ),
    Case("HypergraphLayerNorm", lambda: _used(HypergraphLayerNorm(C)), _layer),
]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def made(case: Case, dtype: torch.dtype = F64) -> nn.Module:
    torch.manual_seed(7)
    return case.make().to(dtype)


def multiplicities(batch: Tensor, count: int) -> Tensor:
    """Random, with zeros, subnormal numbers, and samples of nothing else."""
    weight = torch.rand(batch.shape[0], dtype=F64) + 0.1
    kind = torch.rand(batch.shape[0])
    weight[kind < 0.1] = 0
    weight[(kind > 0.1) & (kind < 0.15)] = 1e-310
    weight[(kind > 0.5) & (kind < 0.7)] = 1
    sample = torch.rand(count)
    weight[(sample < 0.05)[batch]] = 0
    weight[((sample > 0.05) & (sample < 0.1))[batch]] = 1e-310
    return weight


@each
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_equals_its_dense_definition(case: Case, weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        layer, count = made(case), suite.num_graphs
        x = torch.randn(suite.graph.shape[0], C, dtype=F64)
        equal = torch.rand(count) < 0.1
        x = torch.where(equal[suite.graph, None], torch.full_like(x, 1e6 / 7), x)
        weight = multiplicities(suite.graph, count) if weighted else None
        m = suite.pad(torch.ones_like(x[:, :1]) if weight is None else weight[:, None])[..., 0]
        alone = torch.bincount(suite.graph, minlength=count)
        hits = {
            "no rows": alone == 0,
            "one row": alone == 1,
            "equal rows": equal & (alone > 1),
        }
        if weighted:
            hits["a row of weight 0"] = torch.bincount(suite.graph[weight == 0], minlength=count)
            hits["no weight at all"] = (m.sum(1) == 0) & (alone > 0)
            hits["total weight subnormal"] = (m.sum(1) > 0) & (m.sum(1) < 1e-300)
        for name, hit in hits.items():
            assert count < FULL_SIZE or int((hit > 0).sum()) >= LEAST_HITS, name
        with torch.no_grad():
            got = layer(x, suite.graph, weight, count)
            expected = case.define(layer, suite.pad(x), m)
        if case.pools:
            wrong = mismatches(suite, got, expected, torch.arange(count))
        else:
            wrong = mismatches(suite, got, suite.unpad(expected), suite.graph)
        if not case.pools:  # the definition's own rounding of 1e6 / 7, over sqrt(eps)
            wrong = wrong[~equal[wrong]]
            assert got[equal[suite.graph]].isfinite().all()
        assert wrong.numel() == 0, wrong[:5]


@each
def test_a_batch_is_a_loop(case: Case) -> None:
    layer, x = made(case), torch.randn(3, 5, C, dtype=F64)
    weight = torch.rand(3, 5, dtype=F64)
    dense, alone = (
        layer(x, weight=weight),
        [layer(s, None, w) for s, w in zip(x, weight, strict=True)],
    )
    together = torch.cat(alone) if case.pools else torch.stack(alone)
    assert_close(dense, together)
    order = torch.randperm(15)
    batch = torch.arange(3).repeat_interleave(5)[order]
    flat = layer(x.flatten(0, 1)[order], batch, weight.flatten()[order])
    assert_close(flat, dense if case.pools else dense.flatten(0, 1)[order])


@each
def test_a_multiplicity_is_a_number_of_copies(case: Case) -> None:
    layer, x = made(case), torch.randn(4, C, dtype=F64)
    times = torch.tensor([1, 3, 0, 2])
    copied = layer(x.repeat_interleave(times, 0))
    weighted = layer(x, weight=times.to(F64))
    if not case.pools:
        assert (weighted[2] == 0).all()
        weighted = weighted.repeat_interleave(times, 0)
    assert_close(weighted, copied)


@each
def test_gradients_are_right(case: Case) -> None:
    layer = made(case)
    batch = torch.tensor([0, 1, 0, 2, 1, 0, 2])

    def run(x: Tensor, weight: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, names, (x, batch, weight, 4))

    leaves = [torch.randn(7, C, dtype=F64), torch.rand(7, dtype=F64) + 0.5, *layer.parameters()]
    assert torch.autograd.gradcheck(run, [t.detach().clone().requires_grad_() for t in leaves])


@each
def test_gradients_are_finite_where_samples_are_degenerate(case: Case) -> None:
    layer = made(case)
    # One row; equal rows; weight 0; a subnormal weight; rows of 0; nothing in sample 5.
    batch = torch.tensor([0, 1, 1, 2, 2, 3, 4, 4])
    x = torch.randn(8, C, dtype=F64)
    x[1:3], x[6:] = 5.0, 0.0
    x.requires_grad_()
    weight = torch.tensor([1, 1, 1, 0, 1, 1e-310, 1, 1], dtype=F64, requires_grad=True)
    layer(x, batch, weight, 6).sin().sum().backward()
    for name, tensor in [("x", x), ("weight", weight), *layer.named_parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all(), name


@each
def test_equal_rows_of_large_values_leave_no_rounding(case: Case) -> None:
    if case.pools:
        layer = HypergraphPool("mean")
        assert_close(layer(torch.full((1000, C), 1e6 + 0.1)), torch.full((1, C), 1e6 + 0.1))
        return
    layer = made(case, torch.float32)
    with torch.no_grad():
        if getattr(layer, "mean_share", None) is not None:
            layer.mean_share.fill_(1)
        if getattr(layer, "shift", None) is not None:
            layer.shift.zero_()
    assert layer(torch.full((1000, C), 1e6 + 0.1)).abs().max() < 1e-3


@each
def test_pickle_deepcopy_and_state_dict(case: Case) -> None:
    layer, x = made(case), torch.randn(2, 5, C, dtype=F64)
    out = layer(x)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert torch.equal(twin(x), out) and repr(twin) == repr(layer)
    fresh = case.make().to(F64)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), out)


@each
def test_compiles_and_exports(case: Case) -> None:
    torch._dynamo.reset()
    layer = made(case, torch.float32)
    x, weight = torch.randn(7, C, requires_grad=True), torch.rand(7)
    batch = torch.tensor([0, 0, 1, 1, 1, 2, 2])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, batch, weight, 4)

    model = Model()
    expected = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), expected)
    program = torch.export.export(model, (x.detach(),))
    other = torch.randn(7, C)
    assert_close(program.module()(other), model(other))


@each
def test_half_precision_and_autocast(case: Case) -> None:
    layer, x = made(case, torch.float32), torch.randn(2, 300, C)
    expected = layer(x)
    low = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    scale = expected.abs().max().item()
    assert_close(low.float(), expected, rtol=0, atol=0.03 * scale)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
    assert mixed.dtype == torch.float32  # x's: nothing but scores is a linear map
    assert_close(mixed, expected, rtol=0, atol=0.03 * scale)


@each
def test_no_rows_no_samples(case: Case) -> None:
    layer, empty = made(case), torch.zeros(0, dtype=torch.long)
    width = layer(torch.randn(1, C, dtype=F64)).shape[-1]
    for x, batch, pooled in (
        (torch.zeros(0, C, dtype=F64), None, (1, width)),
        (torch.zeros(0, C, dtype=F64), empty, (0, width)),
        (torch.zeros(0, 3, C, dtype=F64), None, (0, width)),
        (torch.zeros(2, 0, C, dtype=F64), None, (2, width)),
    ):
        out = layer(x, batch)
        assert out.shape == (pooled if case.pools else x.shape)
        assert (out == 0).all()


@each
def test_eight_threads_share_one_module(case: Case) -> None:
    layer, x = made(case, torch.float32), torch.randn(3, 20, C)
    with torch.no_grad():
        expected = layer(x)
        with ThreadPoolExecutor(8) as threads:
            for out in threads.map(lambda _: layer(x), range(32)):
                assert torch.equal(out, expected)


@each
def test_misuse_names_the_argument(case: Case) -> None:
    layer, x = made(case), torch.randn(4, C, dtype=F64)
    batch = torch.tensor([0, 0, 1, 1])
    wrong = [
        ((x[0],), "x"),
        ((x.long(),), "x"),
        ((x.numpy(),), "x"),
        ((x[None, None],), "x"),
        ((x, batch[:3]), "batch"),
        ((x, batch.double()), "batch"),
        ((x, batch - 1), "batch"),
        ((x[None], batch), "batch"),
        ((x, batch, None, 1), "batch"),
        ((x, batch, None, 2.0), "num_samples"),
        ((x, batch, None, -1), "num_samples"),
        ((x, None, None, 2), "num_samples"),
        ((x, batch, x[:3, 0].abs()), "weight"),
        ((x, batch, batch), "weight"),
        ((x, batch, -x[:, 0].abs()), "weight"),
        ((x, batch, x[:, 0] * torch.nan), "weight"),
    ]
    if isinstance(layer, AttentionPool) or getattr(layer, "channels", None):
        wrong.append(((x[:, :-1],), "x"))
    if list(layer.parameters()):
        wrong.append(((x.float(),), "x"))
    for arguments, name in wrong:
        with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
            layer(*arguments)


def test_tracing_needs_the_number_of_samples() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(HypergraphPool(), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="`num_samples` must be given"):
        compiled(torch.randn(3, 2), torch.tensor([0, 0, 1]))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: HypergraphPool("median"), ValueError, "`reduce` must be one of"),
        (lambda: HypergraphPool(()), ValueError, "`reduce` must name at least one"),
        (lambda: AttentionPool(0), ValueError, "`in_channels` must be at least 1"),
        (lambda: AttentionPool(4, heads=0), ValueError, "`heads` must be at least 1"),
        (lambda: AttentionPool(4, gate=nn.Linear), TypeError, "`gate` must be a module"),
        (
            lambda: AttentionPool(4, 2, gate=nn.Linear(4, 1))(torch.randn(3, 4)),
            ValueError,
            "`gate` must give scores",
        ),
        (lambda: PairNorm(0), ValueError, "`scale` must be positive"),
        (lambda: PairNorm(eps=-1.0), ValueError, "`eps` must be positive"),
        (lambda: GraphNorm(2.0), TypeError, "`channels` must be an int"),
        (lambda: HypergraphLayerNorm(0), ValueError, "`channels` must be at least 1"),
        (lambda: HypergraphInstanceNorm(3, eps="a"), TypeError, "`eps` must be a number"),
        (lambda: TopKPool(4, ratio=0), ValueError, "`ratio` must lie in"),
        (lambda: TopKPool(4, ratio=1.5), ValueError, "`ratio` must lie in"),
        (lambda: TopKPool(4, ratio="half"), TypeError, "`ratio` must be a number"),
        (lambda: TopKPool(4, k=0), ValueError, "`k` must be at least 1"),
        (lambda: TopKPool(4)(torch.randn(3, 5)), ValueError, "`x` must have 4 channels"),
        (lambda: TopKPool(4)(torch.randn(3, 4).double()), TypeError, "`x` must have the dtype"),
    ],
)
def test_bad_settings_are_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()


def test_a_gate_of_ones_own() -> None:
    gate = nn.Sequential(nn.Linear(C, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(3, 5, C)
    expected = (gate(x).softmax(1) * x).sum(1)
    assert_close(AttentionPool(C, gate=gate)(x), expected)


def test_vertices_and_hyperedges_of_a_batch() -> None:
    graphs = [
        Hypergraph.from_edges([[0, 1], [1, 2], [2]], 3),
        Hypergraph.from_edges([[0]], 2),
        Hypergraph.from_edges([], 1),
    ]
    h = Hypergraph.batch(graphs)
    x, y = torch.arange(6.0)[:, None], torch.arange(4.0)[:, None]
    nodes = HypergraphPool("mean")(x, h.node_batch, num_samples=h.num_samples)
    edges = HypergraphPool("sum")(y, h.edge_batch, num_samples=h.num_samples)
    assert nodes.flatten().tolist() == [1, 3.5, 5] and edges.flatten().tolist() == [3, 3, 0]


# ---- top-k


def best(pool: TopKPool, x: Tensor, weight: Tensor | None = None) -> list[int]:
    """One sample's rows by score, one at a time."""
    left = [i for i in range(x.shape[0]) if weight is None or weight[i] > 0]
    wanted = -(-len(left) * pool.ratio // 1) if pool.k is None else min(pool.k, len(left))
    scores = (x @ pool.p / pool.p.norm()).tolist()
    return sorted(left, key=lambda i: (-scores[i], i))[: int(wanted)]


@pytest.mark.parametrize("settings", [{"ratio": 0.5}, {"ratio": 1.0}, {"k": 2}], ids=str)
def test_top_rows_one_sample_at_a_time(settings: dict[str, float], oracle_suites) -> None:
    suite = next(iter(oracle_suites(False)))
    rows = suite.graph < 120
    batch = suite.graph[rows]
    pool = TopKPool(C, **settings).to(F64)
    x = torch.randn(batch.shape[0], C, dtype=F64).round(decimals=0)  # ties among them
    weight = (torch.rand(batch.shape[0]) > 0.2).to(F64)
    order = torch.randperm(batch.shape[0])
    kept = pool(x[order], batch[order], weight[order], 120)
    chosen = []
    for sample in range(120):
        own = (batch[order] == sample).nonzero().flatten()
        picked = best(pool, x[order][own], weight[order][own])
        chosen += own[picked].tolist()
    assert kept.chosen.tolist() == chosen
    assert kept.batch.tolist() == batch[order][chosen].tolist() and kept.kept.all()
    scores = x[order][chosen] @ pool.p / pool.p.norm()
    assert_close(kept.score, scores)
    assert_close(kept.x, x[order][chosen] * scores.tanh()[:, None])


@pytest.mark.parametrize("settings", [{"ratio": 0.4}, {"k": 3}, {"k": 9}], ids=str)
def test_top_rows_of_dense_samples(settings: dict[str, float]) -> None:
    pool, x = TopKPool(C, **settings).to(F64), torch.randn(6, 5, C, dtype=F64)
    weight = (torch.rand(6, 5) > 0.4).to(F64)
    weight[0], weight[1] = 0, 1
    kept = pool(x, weight=weight)
    assert kept.batch is None and kept.x.shape == (6, *kept.chosen.shape[1:], C)
    for sample in range(6):
        expected = best(pool, x[sample], weight[sample])
        found = kept.kept[sample]
        assert kept.chosen[sample][found].tolist() == expected
        assert (kept.x[sample][~found] == 0).all()
        flat = pool(x[sample], weight=weight[sample])
        assert_close(kept.x[sample][found], flat.x)
    everything = pool(x)
    assert everything.kept.all() and everything.chosen.shape == kept.chosen.shape
    empty = pool(torch.zeros(0, 5, C, dtype=F64))
    assert empty.x.shape == (0, *kept.x.shape[1:])
    assert pool(torch.zeros(0, C, dtype=F64)).x.shape == (0, C)


def test_a_share_is_rounded_up_but_not_by_rounding() -> None:
    for size in (1, 2, 3, 10, 20, 50, 99, 100, 101, 200):
        for percent in (7, 29, 55, 58, 100):
            exact = -(-size * percent // 100)
            pool = TopKPool(1, ratio=percent / 100)
            assert pool(torch.randn(1, size, 1)).x.shape[1] == exact, (size, percent)
            assert pool(torch.randn(size, 1)).x.shape[0] == exact
    assert TopKPool(1, ratio=1e-12)(torch.randn(3, 1)).x.shape[0] == 1


def test_top_rows_train_their_direction_and_choose_a_subgraph() -> None:
    pool, x = TopKPool(C, k=2).to(F64), torch.randn(5, C, dtype=F64, requires_grad=True)
    kept = pool(x)
    kept.x.sum().backward()
    assert pool.p.grad is not None and pool.p.grad.abs().sum() > 0
    assert sorted(x.grad.abs().sum(1).nonzero().flatten().tolist()) == sorted(kept.chosen.tolist())
    h = Hypergraph.from_edges([[0, 1, 2], [3, 4], [1, 4]], 5)
    smaller, _ = h.subgraph(kept.chosen)
    assert smaller.num_nodes == 2

    def run(x: Tensor, p: Tensor) -> Tensor:
        return torch.func.functional_call(pool, {"p": p}, (x,)).x

    assert torch.autograd.gradcheck(run, (x, pool.p))
    with torch.no_grad():
        pool.p.zero_()
    zero = pool(x)
    assert zero.chosen.tolist() == [0, 1] and (zero.x == 0).all()
    zero.x.sum().backward()
    assert pool.p.grad.isfinite().all()


def test_dense_top_rows_compile() -> None:
    torch._dynamo.reset()
    pool, x = TopKPool(C, ratio=0.5), torch.randn(2, 6, C)
    compiled = torch.compile(lambda x: pool(x), fullgraph=True, backend="aot_eager")
    assert_close(compiled(x).x, pool(x).x)
    again = copy.deepcopy(pickle.loads(pickle.dumps(pool)))
    assert torch.equal(again(x).x, pool(x).x) and repr(again) == repr(pool)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(pool(x).x, pool(x).x)


@each
def test_what_an_absent_row_holds_makes_no_difference(case: Case) -> None:
    layer = case.make().to(F64)
    x = torch.randn(2, 5, C, dtype=F64)
    weight = torch.tensor([[1.0, 2.0, 0.0, 1.0, 1.0], [0.5, 0.0, 0.0, 1.0, 3.0]], dtype=F64)
    expected = layer(x, weight=weight)
    hidden = torch.where(weight[..., None] > 0, x, torch.nan).requires_grad_()
    out = layer(hidden, weight=weight)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.parametrize("name", ["batch", "weight"])
def test_other_devices_are_named(name: str) -> None:
    elsewhere = torch.zeros(3, device="meta", dtype=torch.long if name == "batch" else None)
    with pytest.raises(ValueError, match=f"`{name}` must be on the device of `x`, cpu, got meta"):
        HypergraphPool()(torch.randn(3, C), **{name: elsewhere})


@each
def test_shapes_without_data(case: Case) -> None:
    layer, x, batch = case.make(), torch.randn(5, C), torch.tensor([0, 0, 1, 1, 1])
    expected = layer(x, batch, num_samples=3)
    got = layer.to("meta")(x.to("meta"), batch.to("meta"), num_samples=3)
    assert got.is_meta and got.shape == expected.shape
