from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity
from torch.testing import assert_close

from hypergraph import (
    KNN,
    Construction,
    CrossCorrelation,
    DynamicHGConv,
    EDHNNConv,
    Fusion,
    HGNNConv,
    HGNNPConv,
    Hypergraph,
    HypergraphAttentionConv,
    NeighborTable,
    UniGCNIIConv,
)
from hypergraph_kernels.cross_correlation import cpu as streamed
from hypergraph_kernels.knn import cpu
from tests.hypergraph.nn.cases import CASES, LayerCase
from tests.hypergraph.nn.layers_elsewhere import DYNAMIC
from tests.hypergraph.oracle import F64, hgnn


@pytest.mark.parametrize("shape", [(30, 6), (2, 30, 6)], ids=str)
def test_is_the_convolution_on_the_neighbours_of_its_input(shape: tuple[int, ...]) -> None:
    layer = DynamicHGConv(6, 4, k=5).to(F64)
    x = torch.randn(shape, dtype=F64)
    out, h = layer(x, return_hypergraph=True)
    assert isinstance(h, NeighborTable) and out.shape == (*shape[:-1], 4)
    assert h.index.tolist() == KNN(5, "cosine", 0.5)(x).index.tolist()
    assert_close(out, hgnn(layer.conv.theta(x), h.to_dense().to(F64)))
    assert_close(layer(x), out)


def test_defaults_are_those_documented() -> None:
    layer = DynamicHGConv(6, 4)
    knn = layer.construction
    assert isinstance(knn, KNN)
    assert (knn.k, knn.metric, knn.threshold, knn.weighting) == (25, "cosine", 0.5, None)
    assert (layer.in_channels, layer.out_channels) == (6, 4)


def test_the_hypergraph_is_rebuilt_at_every_call() -> None:
    layer = DynamicHGConv(6, 4, k=3, return_hypergraph=True)
    _, first = layer(torch.randn(20, 6))
    _, second = layer(torch.randn(20, 6))
    assert first.index.tolist() != second.index.tolist()
    assert layer(torch.randn(5, 6), return_hypergraph=False).shape == (5, 4)


def test_batch_vector_equals_separate_calls() -> None:
    layer = DynamicHGConv(6, 4, k=5).to(F64)
    batch = torch.tensor([1, 0, 0, 1, 2, 1, 1, 0, 1, 1])
    x = torch.randn(10, 6, dtype=F64)
    out = layer(x, batch)
    for sample in range(3):
        assert_close(out[batch == sample], layer(x[batch == sample]))


def test_a_construction_can_be_given() -> None:
    fusion = Fusion([KNN(4), CrossCorrelation(6, num_edges=3)])
    layer = DynamicHGConv(6, 4, construction=fusion)
    out, h = layer(torch.randn(2, 10, 6), return_hypergraph=True)
    assert h.shape == (2, 10, 13)
    out.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    with pytest.raises(TypeError, match="`construction` must be a module"):
        DynamicHGConv(6, 4, construction="knn")
    with pytest.raises(TypeError, match="`construction` must be .* pass an instance"):
        DynamicHGConv(6, 4, construction=KNN)


def test_no_tensor_is_as_large_as_vertices_squared(monkeypatch: pytest.MonkeyPatch) -> None:
    """In forward and backward of the dual hypergraph, whatever PyTorch allocates."""
    monkeypatch.setattr(cpu, "_TILE_ELEMENTS", 20_000)
    monkeypatch.setattr(streamed, "_TILE", 140)
    monkeypatch.setattr(streamed, "_KEPT", 4 * 80_000)  # a constant, too: small beside N x N here
    size = 1000
    fusion = Fusion([KNN(5, weighting="rbf"), CrossCorrelation(6, rank=4, omega="tied")])
    layer, x = DynamicHGConv(6, 4, construction=fusion), torch.randn(size, 6, requires_grad=True)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        layer(x).square().sum().backward()
    largest = max(event.cpu_memory_usage for event in run.events())
    assert 4 * 5 * size < largest <= 4 * size * size // 10


def test_permutation_equivariance() -> None:
    layer, order = DynamicHGConv(6, 4, k=5, weighting="rbf").to(F64), torch.randperm(30)
    x = torch.randn(30, 6, dtype=F64)
    assert_close(layer(x[order]), layer(x)[order])


@pytest.mark.parametrize("kind", ["knn", "fused"])
def test_bfloat16_autocast(kind: str) -> None:
    construction = None
    if kind == "fused":
        construction = Fusion([KNN(5), CrossCorrelation(16, num_edges=7, rank=8)])
    layer = DynamicHGConv(16, 8, k=5, threshold=None, construction=construction)
    x = torch.randn(2, 40, 16, requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(x)
        mixed.float().square().sum().backward()
    assert mixed.dtype == torch.bfloat16
    assert_close(mixed.float(), exact, rtol=5e-2, atol=5e-2)  # Theta, Psi and Lambda in bfloat16
    assert x.grad is not None and x.grad.isfinite().all()


def test_learns() -> None:
    """A layer and a readout fit labels that depend on a vertex' neighbourhood."""
    x = torch.randn(60, 8)
    target = HGNNConv(8, 1)(x, KNN(4)(x)).detach()
    layer = DynamicHGConv(8, 1, k=4, threshold=None)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        loss = (layer(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-4


def test_copies_and_state_dicts() -> None:
    layer = DynamicHGConv(6, 4, k=3)
    twin = copy.deepcopy(layer)
    other = DynamicHGConv(6, 4, k=3)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(10, 6)
    assert_close(twin(x), layer(x), rtol=0, atol=0)
    assert_close(other(x), layer(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knn", "rbf", "differentiable", "fused"])
def test_compiles_as_one_graph(kind: str) -> None:
    construction = KNN(5, threshold=0.8, weighting="rbf") if kind == "rbf" else None
    if kind == "differentiable":
        construction = KNN(5, threshold=0.8, weighting="rbf", differentiable=True)
    if kind == "fused":
        construction = Fusion([KNN(5), CrossCorrelation(6, num_edges=7, rank=4)])
    layer = DynamicHGConv(6, 4, k=5, construction=construction)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 30, 6, requires_grad=True)
    got, expected = compiled(x), layer(x)
    assert_close(got, expected)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in (got, expected)]
    assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiles_with_learned_incidence() -> None:
    index = torch.randint(0, 10, (2, 30))
    values, weight = torch.rand(30, requires_grad=True), torch.rand(10, requires_grad=True)
    conv, x = HGNNConv(3, 2), torch.randn(10, 3)

    def run(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return conv(x, Hypergraph(index, 10, 10, weight, values))

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    outs = [function(values, weight) for function in (compiled, run)]
    assert_close(*outs)
    grads = [torch.autograd.grad(out.square().sum(), (values, weight)) for out in outs]
    assert_close(*grads, rtol=1e-4, atol=1e-5)


# ---- any construction with any convolution


def constructions() -> dict[str, Construction]:
    """Made anew, because two of them have parameters; the attention needs members, so Dense."""
    return {
        "knn": KNN(4, threshold=0.9),
        "cross-correlation": CrossCorrelation(4, num_edges=5, rank=3, streamed=False),
        "fusion": Fusion(
            [
                KNN(3, weighting="rbf", differentiable=True),
                CrossCorrelation(4, num_edges=5, rank=3, nonneg="softmax", streamed=False),
            ],
            weights=(0.7, 2.0),
        ),
    }


def convolutions() -> dict[str, nn.Module | type[nn.Module]]:
    attention = HypergraphAttentionConv(4, 3, attention="node", heads=2)
    return {"HGNN": HGNNConv, "HGNN+": HGNNPConv, "attention": attention}


def definition(conv: nn.Module) -> LayerCase:
    def fits(other: nn.Module) -> bool:
        mode = getattr(conv, "attention", None)
        return type(other) is type(conv) and getattr(other, "attention", None) == mode

    return next(case for case in CASES if fits(case.make()))


each_pair = pytest.mark.parametrize("kind", ["knn", "cross-correlation", "fusion"])
each_conv = pytest.mark.parametrize("conv", ["HGNN", "HGNN+", "attention"])


def combined(kind: str, conv: str, dtype: torch.dtype = F64) -> DynamicHGConv:
    torch.manual_seed(1)
    layer = DynamicHGConv(4, 3, construction=constructions()[kind], conv=convolutions()[conv])
    return layer.to(dtype).eval()


@each_pair
@each_conv
def test_is_the_convolution_on_the_hypergraph_it_returns(kind: str, conv: str) -> None:
    layer, x = combined(kind, conv), torch.randn(3, 9, 4, dtype=F64)
    out, h = layer(x, return_hypergraph=True)
    matrix, weight = h.to_dense().to(F64), h.weight(F64)
    assert h.shape[:2] == (3, 9)
    assert_close(out, definition(layer.conv).define(layer.conv, x, matrix, weight))
    assert_close(layer.conv(x, h), out)


@each_pair
@each_conv
def test_a_batch_is_a_loop(kind: str, conv: str) -> None:
    layer, x = combined(kind, conv), torch.randn(3, 9, 4, dtype=F64)
    apart = torch.stack([layer(sample) for sample in x])
    assert_close(layer(x), apart)
    order = torch.randperm(27)
    batch = torch.arange(3).repeat_interleave(9)[order]
    assert_close(layer(x.flatten(0, 1)[order], batch), apart.flatten(0, 1)[order])


@each_pair
@each_conv
def test_permuted_vertices_give_permuted_results(kind: str, conv: str) -> None:
    layer, x, order = combined(kind, conv), torch.randn(9, 4, dtype=F64), torch.randperm(9)
    assert_close(layer(x[order]), layer(x)[order])


@each_pair
@each_conv
def test_every_parameter_and_the_input_get_gradients(kind: str, conv: str) -> None:
    layer, x = combined(kind, conv), torch.randn(2, 9, 4, dtype=F64, requires_grad=True)
    layer(x).sin().sum().backward()
    for name, tensor in [("x", x), *layer.named_parameters()]:
        assert tensor.grad is not None and tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().sum() > 0, name


# Not attention over cross-correlations: the members of a dense matrix are its entries other than 0,
# and how many there are depends on the values.
@pytest.mark.parametrize(
    ("kind", "conv"), [("knn", "attention"), ("cross-correlation", "HGNN+"), ("fusion", "HGNN")]
)
def test_combinations_compile_as_one_graph(kind: str, conv: str) -> None:
    torch._dynamo.reset()
    layer = combined(kind, conv, torch.float32)
    x = torch.randn(2, 9, 4, requires_grad=True)
    expected = layer(x)
    (grad,) = torch.autograd.grad(expected.sin().sum(), x)
    got = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    assert_close(got, expected)
    assert_close(torch.autograd.grad(got.sin().sum(), x)[0], grad, rtol=1e-3, atol=1e-5)


def test_convolutions_that_start_from_the_first_features() -> None:
    x, x0 = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    for conv in (UniGCNIIConv(4), EDHNNConv(4, 4)):
        layer = DynamicHGConv(4, 4, k=3, conv=conv).eval()
        assert layer.conv is conv
        out, h = layer(x, x0=x0, return_hypergraph=True)
        assert_close(out, conv(x, x0, h))


def test_an_instance_keeps_its_settings_and_a_class_gets_the_bias() -> None:
    conv = HypergraphAttentionConv(4, 3, "edge", heads=2, concat=False)
    layer = DynamicHGConv(4, 3, k=3, conv=conv)
    assert layer(torch.randn(9, 4)).shape == (9, 3)
    assert DynamicHGConv(4, 3, bias=False, conv=HGNNPConv).conv.theta.bias is None
    names = set(DynamicHGConv(4, 3).state_dict())
    assert names == {"conv.theta.weight", "conv.theta.bias"}


class _Sum(nn.Module):
    """A convolution of a user's own."""

    def forward(self, x: Tensor, hypergraph: NeighborTable) -> Tensor:
        return hypergraph.v2v(x, "sum")


def test_a_convolution_of_ones_own() -> None:
    x = torch.randn(9, 4)
    out = DynamicHGConv(4, 4, k=3, threshold=None, conv=_Sum())(x)
    dense = KNN(3)(x).to_dense()
    assert_close(out, dense @ dense.T @ x)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: DynamicHGConv(4, 6, conv="hgnn"), TypeError, "`conv` must be a convolution"),
        (lambda: DynamicHGConv(4, 6, conv=int), TypeError, "`conv` must be .*got int"),
        (lambda: DynamicHGConv(4, 6, conv=len), TypeError, "`conv` must be a convolution"),
        (lambda: DynamicHGConv(4, 6, conv=UniGCNIIConv), TypeError, "`conv` must be a class with"),
        (lambda: DynamicHGConv(4, 6, conv=HGNNConv(5, 6)), ValueError, "`in_channels` must be"),
        (lambda: DynamicHGConv(4, 6, conv=HGNNConv(4, 5)), ValueError, "`out_channels` must be"),
        (lambda: DynamicHGConv(4, 6, conv=UniGCNIIConv(6)), ValueError, "`in_channels` .*conv"),
        (lambda: DynamicHGConv(4, 6, bias=False, conv=EDHNNConv), ValueError, "`bias` must be"),
        (lambda: DynamicHGConv(0, 6), ValueError, "`in_channels` must be at least 1"),
        (
            lambda: DynamicHGConv(
                4,
                6,
                construction=CrossCorrelation(4, 3),
                conv=HypergraphAttentionConv(4, 6, "node"),
            )(torch.randn(5, 4)),
            TypeError,
            "`hypergraph`.*Streamed",
        ),
    ],
)
def test_a_bad_convolution_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()


def test_first_features_that_do_not_fit_the_convolution_are_named() -> None:
    x = torch.randn(6, 4)
    with pytest.raises(ValueError, match="`x0` must be given with UniGCNIIConv.*x, x0, hypergraph"):
        DynamicHGConv(4, 4, k=2, conv=UniGCNIIConv(4))(x)
    with pytest.raises(ValueError, match="`x0` must be left out with HypergraphAttentionConv"):
        DynamicHGConv(4, 4, k=2, conv=HypergraphAttentionConv)(x, x0=x)


@pytest.mark.parametrize("case", DYNAMIC, ids=lambda case: case.name)
def test_exports_and_pickles(case: LayerCase) -> None:
    layer, x = case.make().eval(), torch.randn(2, 20, case.in_channels)
    expected = layer(x)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    program = torch.export.export(layer, (torch.randn(2, 20, case.in_channels),))
    assert_close(program.module()(x), expected)


@pytest.mark.parametrize("case", DYNAMIC, ids=lambda case: case.name)
def test_eight_threads_share_one_module(case: LayerCase) -> None:
    layer, x = case.make().eval(), torch.randn(2, 40, case.in_channels)
    with torch.no_grad():
        expected = layer(x)

    def run(_: int) -> Tensor:
        with torch.no_grad():
            return layer(x)

    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(out, expected) for out in pool.map(run, range(32)))
