"""What holds for every construction: batches, permutations, gradients, copies, compilation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    KNN,
    AttributeGroups,
    Construction,
    CrossCorrelation,
    Dense,
    DynamicHGConv,
    EpsilonBall,
    Fusion,
    FuzzyCMeans,
    HGNNConv,
    ImageWindows,
    KHop,
    KMeans,
)
from tests.hypergraph.construct.points import F64

N, C = 12, 4  # vertices are the pixels of a 3 x 4 image
RING = torch.stack([torch.arange(N), (torch.arange(N) + 1) % N])
SOFT = {"weighting": "rbf", "bandwidth": 1.5}
MEMBERSHIP = {"threshold": 0.1, "weighting": "membership"}

Build = Callable[..., Construction]

# Built with one of {}, {"differentiable": True} and {"straight_through": True}.
SOFT_CASES: dict[str, Build] = {
    "knn cosine": lambda **kind: KNN(3, "cosine", 1.3, **SOFT, **kind),
    "knn euclidean": lambda **kind: KNN(3, "euclidean", **SOFT, **kind),
    "knn scales": lambda **kind: KNN([2, 4], "euclidean", 3.0, **SOFT, **kind),
    "ball cosine": lambda **kind: EpsilonBall(0.8, "cosine", **SOFT, **kind),
    "ball euclidean": lambda **kind: EpsilonBall(2.0, **SOFT, **kind),
    "kmeans": lambda **kind: KMeans(4, 2, 4, **SOFT, **kind),
    "kmeans farthest": lambda **kind: KMeans(3, start="farthest", **SOFT, **kind),
    "fuzzy": lambda **kind: FuzzyCMeans(3, max_iterations=4, **MEMBERSHIP, **kind),
    "fuzzy farthest": lambda **kind: FuzzyCMeans(3, 1.7, start="farthest", **MEMBERSHIP, **kind),
}
CASES: dict[str, Callable[[], Construction]] = {
    "knn": lambda: KNN(3),
    "knn rbf": lambda: KNN(3, "euclidean", 2.5, "rbf"),
    "knn scales": lambda: KNN([2, 4]),
    "ball": lambda: EpsilonBall(2.0),
    "kmeans": lambda: KMeans(4, 2, max_iterations=6),
    "kmeans rbf": lambda: KMeans(4, start="farthest", max_iterations=6, weighting="rbf"),
    "fuzzy": lambda: FuzzyCMeans(4, threshold=0.2, max_iterations=6),
    "fuzzy membership": lambda: FuzzyCMeans(4, start="farthest", max_iterations=6, **MEMBERSHIP),
    "cross-correlation": lambda: CrossCorrelation(C, 5, rank=3),
    "cross-correlation dense": lambda: CrossCorrelation(C, 5, rank=3, streamed=False),
    "wadhwa": lambda: CrossCorrelation.wadhwa(C, (3, 4), 5, 3),
    "dhfusion": lambda: CrossCorrelation.dhfusion(C, (3, 4)),
    "khop": lambda: KHop(RING, 2),
    "windows": lambda: ImageWindows((3, 4), 2),
    "attributes": lambda: AttributeGroups(torch.arange(N) % 3),
    "fusion": lambda: Fusion([KNN(3, weighting="rbf"), KHop(RING), CrossCorrelation(C, 3)]),
    **{
        f"{kind} {name}": (lambda build=build, kind=kind: build(**{kind: True}))
        for kind in ("differentiable", "straight_through")
        for name, build in SOFT_CASES.items()
    },
}
IMAGES = {"wadhwa", "dhfusion", "windows"}
STATIC = {"khop", "windows", "attributes"}
# Columns of the others belong to nothing that moves with the vertices, or draws go by index.
ALL_SIZES = sorted(set(CASES) - IMAGES - STATIC - {"fusion"})


def dense(build: Construction, x: Tensor, batch: Tensor | None = None) -> Tensor:
    """[..., N, M] in float64; a shared hypergraph repeated for every sample."""
    h = build(x, batch)
    matrix = h.to_dense().detach().to(F64)
    if x.dim() == 3 and h.batch_size is None:
        matrix = matrix.expand(x.shape[0], -1, -1)
    return matrix


def make(name: str) -> Construction:
    torch.manual_seed(3)
    return CASES[name]().to(F64)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_gives_what_its_samples_give(name: str) -> None:
    build, x = make(name), torch.randn(5, N, C, dtype=F64)
    x[1] = 0
    x[2] = x[2, :1]
    x[3, 6:] = x[3, :6]
    alone = [dense(build, sample) for sample in x]
    assert_close(dense(build, x), torch.stack(alone), rtol=1e-7, atol=1e-7)
    batch = torch.arange(5).repeat_interleave(N)[torch.randperm(5 * N)]
    flat = torch.zeros(5 * N, C, dtype=F64)
    for sample in range(5):
        flat[batch == sample] = x[sample]
    together = dense(build, flat, batch)
    h, out = build(flat, batch), torch.zeros(5 * N, 3, dtype=F64)
    conv = HGNNConv(C, 3).to(F64)
    for sample in range(5):
        out[batch == sample] = conv(x[sample], build(x[sample])).detach()
    assert_close(conv(flat, h).detach(), out, rtol=1e-6, atol=1e-7)
    assert together.shape[0] == 5 * N


@pytest.mark.parametrize("name", ALL_SIZES)
def test_samples_of_all_sizes(name: str) -> None:
    build, conv = make(name), HGNNConv(C, 3).to(F64)
    batch = torch.tensor([0] * 5 + [2] + [3] * 9)  # five, none, one, nine
    x = torch.randn(15, C, dtype=F64)
    h, out = build(x, batch), torch.zeros(15, 3, dtype=F64)
    for sample in (0, 2, 3):
        own = batch == sample
        out[own] = conv(x[own], build(x[own])).detach()
    assert_close(conv(x, h).detach(), out, rtol=1e-6, atol=1e-8)
    order = torch.randperm(15)
    shuffled = build(x[order], batch[order])
    assert shuffled.num_edges == h.num_edges
    empty = build(x[:0], batch[:0])
    assert empty.num_nodes == 0 and conv(x[:0], empty).shape == (0, 3)
    assert conv(x[:1], build(x[:1])).isfinite().all()
    assert build(x.new_zeros(2, 0, C)).shape[:2] == (2, 0)
    assert build(x.new_zeros(0, N, C)).shape[:2] == (0, N)


PER_VERTEX = [name for name in ALL_SIZES if "knn" in name or "ball" in name]
PER_CLUSTER = [name for name in ALL_SIZES if "farthest" in name or name in ("kmeans rbf",)]
PER_CLUSTER += ["fuzzy membership", "cross-correlation", "cross-correlation dense"]


@pytest.mark.parametrize("name", [*PER_VERTEX, *PER_CLUSTER])
def test_permutation_equivariance(name: str) -> None:
    build, x, order = make(name), torch.randn(N, C, dtype=F64), torch.randperm(N)
    before, after = dense(build, x), dense(build, x[order])
    if name in PER_VERTEX:  # hyperedges belong to vertices, in one block per scale
        blocks = before.shape[1] // N
        columns = torch.cat([order + N * block for block in range(blocks)])
        assert_close(after, before[order][:, columns])
    else:
        assert_close(after, before[order], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_trains_on_it(name: str) -> None:
    torch.manual_seed(3)
    layer = DynamicHGConv(C, 3, construction=CASES[name]())
    for x in (torch.randn(2, N, C), torch.zeros(2, N, C), torch.ones(2, N, C)):
        x.requires_grad_()
        out, h = layer(x, return_hypergraph=True)
        assert out.isfinite().all() and h.num_nodes == N
        layer.zero_grad()
        out.square().sum().backward()
        grads = [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", SOFT_CASES)
def test_gradients_through_the_construction(name: str) -> None:
    """Finite differences of a convolution on a hypergraph that follows the features."""
    build, conv = SOFT_CASES[name](differentiable=True), HGNNConv(3, 2).to(F64)
    torch.manual_seed(5)
    x = torch.randn(2, 7, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: conv(x, build(x)), (x,))
    fixed = build(x.detach())
    held = torch.autograd.grad(conv(x, fixed).square().sum(), x)[0]
    moved = torch.autograd.grad(conv(x, build(x)).square().sum(), x)[0]
    assert (held - moved).abs().max() > 1e-4  # the incidence adds its own part


def test_gradients_through_fused_constructions() -> None:
    soft = {"weighting": "rbf", "bandwidth": 2.0, "differentiable": True}
    build = Fusion([EpsilonBall(2.0, **soft), KMeans(2, **soft), KHop(RING[:, :6])]).to(F64)
    conv, x = HGNNConv(3, 2).to(F64), torch.randn(7, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: conv(x, build(x)), (x,))


@pytest.mark.parametrize("name", SOFT_CASES)
def test_straight_through(name: str) -> None:
    """Forward exactly 0 or 1; backward the gradient of the soft incidence, entry by entry."""
    soft, straight = SOFT_CASES[name](differentiable=True), SOFT_CASES[name](straight_through=True)
    plain = SOFT_CASES[name]()
    x = torch.randn(3, N, C, dtype=F64, requires_grad=True)
    hard, smooth = straight(x).to_dense(), soft(x).to_dense()
    assert torch.equal(hard, (plain(x).to_dense() > 0).to(F64))
    assert hard.unique().tolist() == [0, 1]
    cotangent = torch.randn_like(hard)
    ours = torch.autograd.grad((hard * cotangent).sum(), x)[0]
    assert_close(ours, torch.autograd.grad((smooth * cotangent).sum(), x)[0])
    assert ours.abs().max() > 0
    # Through a layer: the gradient at the hard incidence, carried on by the soft weights.
    conv = HGNNConv(C, 2).to(F64)
    held = x.detach().requires_grad_()
    leaf = straight(held).to_dense().detach().requires_grad_()
    loss = conv(held, Dense(leaf)).square().sum()
    at_features, at_incidence = torch.autograd.grad(loss, (held, leaf))
    smooth = soft(x).to_dense()
    expected = at_features + torch.autograd.grad((smooth * at_incidence).sum(), x)[0]
    got = torch.autograd.grad(conv(x, straight(x)).square().sum(), x)[0]
    assert_close(got, expected)


@pytest.mark.parametrize("name", CASES)
def test_copies(name: str) -> None:
    build, x = make(name), torch.randn(2, N, C, dtype=F64)
    expected = dense(build, x)
    for twin in (copy.deepcopy(build), pickle.loads(pickle.dumps(build))):
        assert torch.equal(dense(twin, x), expected)
        assert twin.state_dict().keys() == build.state_dict().keys()
    torch.manual_seed(4)
    other = CASES[name]().to(F64)
    other.load_state_dict(build.state_dict())
    assert torch.equal(dense(other, x), expected)
    assert type(build).__name__ in repr(build)


@pytest.mark.parametrize("name", CASES)
def test_eight_threads_on_one_module(name: str) -> None:
    build, conv = make(name), HGNNConv(C, 3).to(F64)
    xs = torch.randn(16, 2, N, C, dtype=F64)

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            return conv(x, build(x))

    expected = [run(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for got, one in zip(pool.map(run, xs), expected, strict=True):
            assert torch.equal(got, one)


@pytest.mark.parametrize("name", CASES)
def test_inference_mode_and_autocast(name: str) -> None:
    torch.manual_seed(3)
    build, x = CASES[name](), torch.randn(2, N, C)
    expected = dense(build, x)
    with torch.inference_mode():
        assert_close(dense(build, x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = build(x)
    assert h.dtype in (None, torch.float32)
    learned = any(True for _ in build.parameters())
    if not learned:  # Psi and Lambda run in bfloat16
        assert torch.equal(dense(build, x), h.to_dense().detach().to(F64).expand_as(expected))
        low = x.bfloat16()
        assert torch.equal(dense(build, low), dense(build, low.float()))


@pytest.mark.parametrize("name", sorted(set(CASES) - STATIC))
def test_values_that_are_no_numbers_are_refused(name: str) -> None:
    build = make(name)
    if any(True for _ in build.parameters()):
        pytest.skip("learned: a layer like any other, which passes NaN on")
    for value in (torch.nan, torch.inf):
        x = torch.randn(2, N, C, dtype=F64)
        x[1, 3, 2] = value
        with pytest.raises(ValueError, match="`x` must be finite"):
            build(x)
        with pytest.raises(ValueError, match="`x` must be finite"):
            build(x.flatten(0, 1), torch.arange(2).repeat_interleave(N))


COMPILED = ["knn scales", "ball", "kmeans", "fuzzy membership", "wadhwa", "khop"]
COMPILED_TOO = ["knn rbf", "dhfusion", "windows", "attributes", "fusion"]
COMPILED_TOO += ["straight_through knn euclidean", "straight_through kmeans"]
COMPILED_TOO += ["straight_through fuzzy", "differentiable ball cosine"]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "eager") for name in COMPILED),
        *(
            pytest.param(name, "aot_eager", marks=pytest.mark.slow)
            for name in COMPILED + COMPILED_TOO
        ),
    ],
)
def test_compiles_as_one_graph(name: str, backend: str) -> None:
    torch._dynamo.reset()  # every case compiles the same layer
    torch.manual_seed(3)
    layer = DynamicHGConv(C, 3, construction=CASES[name]()).to(F64)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    x = torch.randn(2, N, C, dtype=F64, requires_grad=True)
    got, expected = compiled(x), layer(x)
    assert_close(got, expected)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in (got, expected)]
    assert_close(*grads, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "name",
    [
        "kmeans",
        *(pytest.param(name, marks=pytest.mark.slow) for name in COMPILED if name != "kmeans"),
    ],
)
def test_exports(name: str) -> None:
    torch.manual_seed(3)
    layer = DynamicHGConv(C, 3, construction=CASES[name]()).eval()
    program = torch.export.export(layer, (torch.randn(2, N, C),)).module()
    x = torch.randn(2, N, C)  # other values, another hypergraph
    assert_close(program(x), layer(x))
