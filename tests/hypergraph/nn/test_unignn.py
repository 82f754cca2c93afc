"""The layers of UniGNN: values by hand, other libraries' outputs, and what weights mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import (
    Hypergraph,
    UniGATConv,
    UniGCNConv,
    UniGCNIIConv,
    UniGINConv,
    UniSAGEConv,
    unigcn_propagate,
)
from hypergraph.nn.unignn import normalize_rows
from tests.hypergraph.nn.cases import LayerCase
from tests.hypergraph.nn.definitions import hcha, hgnn, hgnn_family, unignn
from tests.hypergraph.nn.golden import GRAPHS, Golden, close, dense, differs

F64 = torch.float64
MINE = [case for module in (unignn, hcha, hgnn, hgnn_family) for case in module.CASES]


@pytest.fixture(params=GRAPHS)
def golden(request: pytest.FixtureRequest, shared_dir: Path) -> Golden:
    return Golden.load(shared_dir, request.param)


def ones(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    return layer


# ---- by hand


def test_unigcn_by_hand() -> None:
    """Hyperedges {0, 1}, {1, 2}; d = 1, 2, 1, mean degrees 1.5, 1.5; vertex 3 isolated."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4)
    out = ones(UniGCNConv(1, 1))(torch.tensor([[2.0], [4.0], [0.0], [9.0]]), h).flatten()
    root = 1.5**-0.5
    assert_close(out, torch.tensor([3 * root, (3 + 2) * root / 2**0.5, 2 * root, 0.0]))
    sums = unigcn_propagate(torch.tensor([[2.0], [4.0], [0.0], [9.0]]), h, "sum").flatten()
    root = 3**-0.5
    assert_close(sums, torch.tensor([6 * root, (6 + 4) * root / 2**0.5, 4 * root, 0.0]))


def test_unigcn_by_hand_with_weights() -> None:
    """d = 4, 5, 1; mean degrees 4.5 and 3. Each hyperedge brings its weight once."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 3, torch.tensor([4.0, 1.0]))
    out = ones(UniGCNConv(1, 1))(torch.tensor([[2.0], [4.0], [0.0]]), h).flatten()
    first, second = 4 * 3 * 4.5**-0.5, 2 * 3**-0.5
    assert_close(out, torch.tensor([first / 2, (first + second) / 5**0.5, second]))


def test_unisage_and_unigin_by_hand() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4, torch.tensor([4.0, 1.0]))
    x = torch.tensor([[2.0], [4.0], [0.0], [9.0]])
    sage = ones(UniSAGEConv(1, 1))(x, h).flatten()
    assert_close(sage, torch.tensor([2.0 + 12, 4 + 12 + 2, 2, 9]))
    mean = ones(UniSAGEConv(1, 1, e2v_reduce="mean"))(x, h).flatten()
    assert_close(mean, torch.tensor([2.0 + 3, 4 + (12 + 2) / 5, 2, 9]))
    largest = ones(UniSAGEConv(1, 1, v2e_reduce="max", e2v_reduce="max"))(x, h).flatten()
    assert_close(largest, torch.tensor([2.0 + 4, 4 + 4, 4, 9]))
    gin = UniGINConv(1, 1, eps=0.5)
    nn.init.ones_(gin.theta.weight)
    assert_close(gin(x, h).flatten(), torch.tensor([3.0 + 12, 6 + 12 + 2, 2, 13.5]))


def test_unigat_by_hand() -> None:
    """Vertex 1 sees means 3 and -2: scores 3 and LeakyReLU(-2) = -0.4."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4)
    x = torch.tensor([[2.0], [4.0], [-8.0], [9.0]])
    out = ones(UniGATConv(1, 1, heads=1))(x, h).flatten()
    first, second = math.exp(3), math.exp(-0.4)
    middle = (3 * first - 2 * second) / (first + second)
    assert_close(out, torch.tensor([3.0, middle, -2.0, 0.0]))
    skip = ones(UniGATConv(1, 1, heads=1, skip_sum=True))(x, h).flatten()
    assert_close(skip, out + x.flatten())
    scored = ones(UniGATConv(1, 1, heads=1, vertex_score=True))(x, h).flatten()
    first, second = math.exp(3 + 4), math.exp(-2 + 4)
    assert_close(scored[1], torch.tensor((3 * first - 2 * second) / (first + second)))


def test_unigcnii_by_hand() -> None:
    h = Hypergraph.from_edges([[0, 1]], 3)
    layer = UniGCNIIConv(1, alpha=0.25, beta=0.5)
    layer.theta.weight.data.fill_(3.0)
    out = layer(torch.tensor([[2.0], [4.0], [9.0]]), torch.tensor([[8.0], [0.0], [4.0]]), h)
    mixed = torch.tensor([0.75 * 3 + 0.25 * 8, 0.75 * 3, 0.25 * 4])
    assert_close(out.flatten(), 0.5 * mixed + 0.5 * 3 * mixed)


def test_beta_of_a_layer() -> None:
    assert UniGCNIIConv(4).beta == math.log(1.5)
    assert UniGCNIIConv(4, layer=5, lam=2.0).beta == math.log(1.4)
    assert UniGCNIIConv(4, layer=5, beta=0.3).beta == 0.3
    assert UniGCNIIConv(4).in_channels == UniGCNIIConv(4).out_channels == 4


# ---- facts


def test_unigcn_on_a_regular_graph_is_half_itself_and_half_its_neighbours() -> None:
    edges = [[v, (v + 1) % 6] for v in range(6)]
    x = torch.randn(6, 3, dtype=F64)
    around = (x.roll(1, 0) + x.roll(-1, 0)) / 2
    assert_close(unigcn_propagate(x, Hypergraph.from_edges(edges)), (x + around) / 2)


@pytest.mark.parametrize("case", MINE, ids=lambda case: case.name)
def test_a_hyperedge_of_weight_three_is_three_hyperedges(case: LayerCase) -> None:
    torch.manual_seed(3)
    layer = case.make().to(F64).eval()
    edges = [[0, 1, 2], [2, 3], [3, 4, 0], [5], [1, 4, 4]]
    times = [1, 3, 2, 1, 0]
    weighted = Hypergraph.from_edges(edges, 7, torch.tensor(times, dtype=F64))
    copies = [edge for edge, count in zip(edges, times, strict=True) for _ in range(count)]
    x = torch.randn(7, 4, dtype=F64)
    assert_close(
        case.call(layer, x, weighted), case.call(layer, x, Hypergraph.from_edges(copies, 7))
    )


def test_attention_scores_of_any_size_are_stable() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2], [2]], 3)
    layer = UniGATConv(2, 2, heads=1)
    x = torch.tensor([[1e4, 0.0], [-1e4, 3e4], [2e4, 1.0]], requires_grad=True)
    out = layer(x, h)
    out.sum().backward()
    assert out.isfinite().all() and x.grad is not None and x.grad.isfinite().all()


def test_use_norm_is_the_official_one() -> None:
    """Rows of length 1, a zero row stays 0, huge rows do not overflow, and no gradient flows
    through the norm."""
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, -4e30], [1e-30, 0.0]], requires_grad=True)
    out = normalize_rows(x)
    assert_close(out, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, -0.8], [1.0, 0.0]]))
    (grad,) = torch.autograd.grad(out[0].sum(), x)
    assert_close(grad, torch.tensor([[0.2, 0.2], [0, 0], [0, 0], [0, 0]]))
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4)
    x = torch.randn(4, 3)
    for layer in (
        UniGCNConv(3, 2, use_norm=True),
        UniSAGEConv(3, 2, use_norm=True),
        UniGINConv(3, 2, use_norm=True),
        UniGATConv(3, 2, heads=1, use_norm=True),
    ):
        assert_close(layer(x, h)[:3].norm(dim=-1), torch.ones(3))


def test_dropout_is_of_the_attention_and_only_while_training() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 3)
    x = torch.randn(3, 4)
    layer = UniGATConv(4, 2, heads=2, dropout=1.0)
    assert (layer(x, h) == 0).all()
    assert (layer.eval()(x, h) != 0).all()


def test_initial_values_are_those_of_the_authors() -> None:
    layer = UniGATConv(50, 20, heads=4, vertex_score=True)
    assert layer.att_v is not None
    for parameter, bound in [
        (layer.theta.weight, 50**-0.5),
        (layer.att_e, (6 / 24) ** 0.5),
        (layer.att_v, (6 / 24) ** 0.5),
    ]:
        assert 0.9 * bound < parameter.abs().max() <= bound
    gin = UniGINConv(50, 20, eps=0.5)
    gin.eps.data.fill_(3.0)
    gin.reset_parameters()
    assert gin.eps.item() == 0.5 and gin.theta.bias is None
    for layer in (UniGCNConv(50, 20), UniSAGEConv(50, 20), UniGCNIIConv(50)):
        layer.theta.weight.data.fill_(7.0)
        layer.reset_parameters()
        assert 0.9 * 50**-0.5 < layer.theta.weight.abs().max() <= 50**-0.5


def test_eps_may_be_fixed() -> None:
    fixed = UniGINConv(3, 2, eps=0.5, train_eps=False)
    assert [name for name, _ in fixed.named_parameters()] == ["theta.weight"]
    assert fixed.state_dict()["eps"].item() == 0.5
    assert "eps" in dict(UniGINConv(3, 2).named_parameters())


# ---- other libraries


@pytest.mark.parametrize("setting", ["last", "nobias"])
def test_golden_outputs_of_dhg(golden: Golden, setting: str) -> None:
    bias = setting == "last"
    for name, layer in [
        ("UniGCNConv", UniGCNConv(5, 4, bias=bias)),
        ("UniSAGEConv", UniSAGEConv(5, 4, bias=bias)),
        ("UniGINConv", UniGINConv(5, 4, train_eps=False, bias=bias)),
        ("UniGINConv_eps", UniGINConv(5, 4, bias=bias)),
    ]:
        case = f"{name}.{setting}"
        stored = golden.parameters(case)
        fixed = {} if "eps" in stored or "GIN" not in name else {"eps": torch.zeros(1)}
        layer.load_state_dict({**stored, **fixed})
        golden.check_gradients(case, layer, golden.weighted)


@pytest.mark.parametrize("setting", ["last", "nobias"])
def test_dhg_0_9_6_multiplied_the_wrong_term_by_eps(golden: Golden, setting: str) -> None:
    case = f"old_UniGINConv_eps.{setting}"
    layer = UniGINConv(5, 4, bias=setting == "last")
    layer.load_state_dict(golden.parameters(case))
    x, h = golden.x, golden.weighted
    matrix, z = dense(h), layer.theta(x)
    mean = (matrix.T @ z) / matrix.sum(0)[:, None]
    around = matrix @ (mean * h.weight()[:, None])
    close((1 + layer.eps) * around + z, golden.tensors[f"{case}.out"])
    close(layer(x, h), (1 + layer.eps) * z + around)
    assert differs(layer(x, h), golden.tensors[f"{case}.out"])


@pytest.mark.parametrize("setting", ["last", "nobias"])
@pytest.mark.parametrize("version", ["UniGATConv", "old_UniGATConv"])
def test_dhg_clamps_the_scores_of_unigat(golden: Golden, setting: str, version: str) -> None:
    """Its outputs are the formula with scores clamped to [0.001, 5] and W in y_e alone; ours are
    the formula without either, and agree wherever no score of a vertex was clamped."""
    case, scored = f"{version}.{setting}", version == "UniGATConv"
    stored = golden.parameters(case)
    renamed = {"att_e": stored["atten_e.weight"]}
    if scored:
        renamed["att_v"] = stored["atten_dst.weight"]
    renamed |= {name: t for name, t in stored.items() if name.startswith("theta")}
    layer = UniGATConv(5, 4, heads=1, vertex_score=scored, bias=setting == "last")
    layer.load_state_dict(renamed)

    matrix, z = dense(golden.weighted), layer.theta(golden.x)
    mean = (matrix.T @ z) / matrix.sum(0)[:, None]

    def attend(y: Tensor, clamped: bool) -> tuple[Tensor, Tensor]:
        scores = (y @ layer.att_e[0]).expand(matrix.shape)
        if layer.att_v is not None:
            scores = scores + (z @ layer.att_v[0])[:, None]
        scores = torch.where(scores > 0, scores, 0.2 * scores)
        inside = (scores >= 0.001) & (scores <= 5) | (matrix == 0)
        scores = scores.clamp(0.001, 5) if clamped else scores
        power = scores.exp() * matrix
        return power @ y / power.sum(1, keepdim=True).clamp_min(1e-30), inside.all(1)

    out = golden.tensors[f"{case}.out"]
    weight = golden.weighted.weight()
    close(attend(mean * weight[:, None], clamped=True)[0], out)
    free, inside = attend(mean, clamped=False)
    got = layer(golden.x, golden.plain)
    close(got, free)
    if golden.info["e_weight_given"] is None:
        assert_close(got[inside], out[inside], rtol=0, atol=1e-5 * out.abs().max().item())


def test_golden_outputs_of_topomodelx(golden: Golden) -> None:
    x, h = golden.x, golden.plain
    stored = golden.parameters("tmx.UniGIN")
    layer: nn.Module = UniGINConv(5, 5, train_eps=False, v2e_reduce="sum")
    layer.load_state_dict({"theta.weight": stored["linear.weight"], "eps": stored["eps"]})
    # There the bias is added last.
    close(layer(x, h) + stored["linear.bias"], golden.tensors["tmx.UniGIN.out0"])

    stored = golden.parameters("tmx.UniSAGE")
    layer = UniSAGEConv(5, 4, bias=True, v2e_reduce="sum", e2v_reduce="mean")
    layer.load_state_dict({f"theta.{k.split('.')[1]}": v for k, v in stored.items()})
    out, theirs = layer(x, h), golden.tensors["tmx.UniSAGE.out0"]
    finite = theirs.isfinite().all(-1)
    assert torch.equal(~finite, h.node_degree() == 0)
    close(out[finite], theirs[finite])
    # NaN where a vertex is isolated; the correct value is its own term.
    assert_close(out[~finite], layer.theta(x)[~finite])


def test_topomodelx_names_sums_unigcn(golden: Golden) -> None:
    """Its UniGCN has no degrees at all: H H^T X Theta_1 Theta_2."""
    x, h = golden.x, golden.plain
    stored = golden.parameters("tmx.UniGCN")
    theta = stored["conv_level1_0_to_1.weight"] @ stored["conv_level2_1_to_0.weight"]
    close(h.v2v(x @ theta, "sum"), golden.tensors["tmx.UniGCN.out0"])
    assert differs(unigcn_propagate(x @ theta, h), golden.tensors["tmx.UniGCN.out0"])


def test_topomodelx_sums_members_in_unigcnii(golden: Golden) -> None:
    """It divides the sum over members by the root of their mean degree, where the official code
    takes the mean; it refuses isolated vertices."""
    if "tmx.UniGCNII.out0" not in golden.tensors:
        assert (golden.plain.node_degree() == 0).any()
        return
    x, matrix = golden.x, dense(golden.plain)
    weight = golden.parameters("tmx.UniGCNII")["linear.weight"]
    layer = UniGCNIIConv(5, alpha=0.3, beta=0.6)
    layer.load_state_dict({"theta.weight": weight})
    degree, size = matrix.sum(1), matrix.sum(0)
    mean_degree = (matrix.T @ degree) / size

    def formula(y: Tensor) -> Tensor:
        smooth = degree[:, None] ** -0.5 * (matrix @ (mean_degree[:, None] ** -0.5 * y))
        mixed = 0.7 * smooth + 0.3 * x
        return 0.4 * mixed + 0.6 * mixed @ weight.T

    close(formula(matrix.T @ x), golden.tensors["tmx.UniGCNII.out0"])
    close(layer(x, x, golden.plain), formula((matrix.T @ x) / size[:, None]))


# ---- misuse


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, x, h: c(x, x[:, :2], h), ValueError, "`x0` must have the shape of `x`"),
        (lambda c, x, h: c(x, x.long(), h), TypeError, "`x0` must be floating"),
        (lambda c, x, h: c(x, x.double(), h), TypeError, "`x0` must have the dtype of `x`"),
        (lambda c, x, h: c(x, None, h), TypeError, "`x0` must be a torch.Tensor"),
        (lambda c, x, h: c(x, x.to("meta"), h), ValueError, "`x0` must be on the device of `x`"),
        (lambda c, x, h: UniGCNIIConv(0), ValueError, "`channels` must be at least 1"),
        (lambda c, x, h: UniGCNIIConv(3, layer=0), ValueError, "`layer` must be at least 1"),
        (lambda c, x, h: UniGCNIIConv(3, alpha=1.5), ValueError, "`alpha` must lie in .0, 1"),
        (lambda c, x, h: UniGCNIIConv(3, alpha="a"), TypeError, "`alpha` must be a number"),
        (lambda c, x, h: UniGCNIIConv(3, lam=0.0), ValueError, "`lam` must be positive"),
        (lambda c, x, h: UniGCNIIConv(3, beta=-0.1), ValueError, "`beta` must lie in .0, 1"),
        (lambda c, x, h: UniGCNIIConv(3, v2e_reduce="max"), ValueError, "`v2e_reduce` must be"),
        (lambda c, x, h: UniGCNConv(3, 2, v2e_reduce="max"), ValueError, "`v2e_reduce` must be"),
        (lambda c, x, h: unigcn_propagate(x, h, "max"), ValueError, "`v2e_reduce` must be"),
        (lambda c, x, h: UniGCNConv(3, 0), ValueError, "`out_channels` must be at least 1"),
        (lambda c, x, h: UniSAGEConv(3, 2, v2e_reduce="no"), ValueError, "`v2e_reduce` must be"),
        (lambda c, x, h: UniSAGEConv(3, 2, e2v_reduce="no"), ValueError, "`e2v_reduce` must be"),
        (lambda c, x, h: UniGINConv(3, 2, eps=math.nan), ValueError, "`eps` must be finite"),
        (lambda c, x, h: UniGINConv(3, 2, eps=None), TypeError, "`eps` must be a number"),
        (lambda c, x, h: UniGATConv(3, 2, heads=0), ValueError, "`heads` must be at least 1"),
        (lambda c, x, h: UniGATConv(3, 2, dropout=2), ValueError, "`dropout` must lie in"),
        (
            lambda c, x, h: UniGATConv(3, 2, negative_slope=math.inf),
            ValueError,
            "`negative_slope` must be finite",
        ),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(UniGCNIIConv(3), torch.randn(4, 3), Hypergraph.from_edges([[0, 1], [2]], 4))
