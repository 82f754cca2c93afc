"""HNHN against DHG's and TopoModelX' outputs, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from hypergraph import HNHNConv, Hypergraph
from tests.hypergraph.nn.golden import GRAPHS, Golden, close, differs


def dhg_layer(golden: Golden, setting: str) -> HNHNConv:
    stored = golden.parameters(f"HNHNConv.{setting}")
    layer = HNHNConv(5, 4, alpha=0.0, beta=0.0, bias=setting != "nobias")
    names = {"theta_v2e": "theta_v", "theta_e2v": "theta_e"}
    state = {}
    for name, value in stored.items():
        module, part = name.split(".")
        state[f"{names[module]}.{part}"] = value
    layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize("graph", GRAPHS)
def test_means_are_the_golden_outputs_of_dhg(shared_dir: Path, graph: str) -> None:
    """alpha = beta = 0, without biases; with them where there are no weights (below)."""
    golden = Golden.load(shared_dir, graph)
    plain = graph in ("isolated", "singleton")
    for setting in ("last", "relu", "nobias") if plain else ("nobias",):
        layer, case = dhg_layer(golden, setting), f"HNHNConv.{setting}"
        x = golden.x.clone().requires_grad_()
        out = layer(x, golden.weighted)
        out = out.relu() if setting == "relu" else out
        close(out, golden.tensors[f"{case}.out"])
        out.backward(golden.tensors[f"{case}.cotangent"])
        assert x.grad is not None and layer.theta_v.weight.grad is not None
        close(x.grad, golden.tensors[f"{case}.grad_X"], 1e-4)
        stored = golden.tensors[f"{case}.grad/theta_v2e.weight"]
        close(layer.theta_v.weight.grad, stored, 1e-4)


@pytest.mark.parametrize("graph", ["weighted", "random"])
def test_dhg_does_not_weigh_the_second_bias(shared_dir: Path, graph: str) -> None:
    """DHG multiplies by w_e before Theta_e, so that in its mean over hyperedges
    ``sum of (w_e y_e + b) / sum of w_e`` every hyperedge brings the bias unweighted."""
    golden = Golden.load(shared_dir, graph)
    layer, h = dhg_layer(golden, "last"), golden.weighted
    stored = golden.tensors["HNHNConv.last.out"]
    got = layer(golden.x, h)
    assert differs(got, stored)
    share = golden.plain.node_degree() / h.node_degree()  # of hyperedges over that of weights
    assert layer.theta_e.bias is not None
    close(got + (share - 1).unsqueeze(-1) * layer.theta_e.bias, stored)
    # The correct value: one bias, as a weighted mean of equal numbers is that number.
    with torch.no_grad():
        layer.theta_e.weight.zero_()
    assert_close(layer(golden.x, h), layer.theta_e.bias.expand_as(got))


@pytest.mark.parametrize("graph", GRAPHS)
def test_topomodelx_gives_the_same_where_no_vertex_is_isolated(
    shared_dir: Path, graph: str
) -> None:
    """It has no ReLU at the hyperedges, and adds biases after the sums, which are means. A single
    isolated vertex makes all of its outputs NaN."""
    golden = Golden.load(shared_dir, graph)
    stored = golden.parameters("tmx.HNHN")
    layer = HNHNConv(5, 4, nonlinear=False)
    layer.load_state_dict(
        {
            "theta_v.weight": stored["conv_0_to_1.weight"].T,
            "theta_v.bias": stored["bias_0_to_1"][0],
            "theta_e.weight": stored["conv_1_to_0.weight"].T,
            "theta_e.bias": stored["bias_1_to_0"][0],
        }
    )
    x, h = golden.x, golden.plain
    expected = golden.tensors["tmx.HNHN.out0"], golden.tensors["tmx.HNHN.out1"]
    got = layer(x, h), layer.to_edges(x, h)
    if graph == "isolated":
        assert expected[0].isnan().all() and expected[1].isnan().all()
        # The correct value: what the other vertices give each other without the isolated one.
        rest = Hypergraph(h.hyperedge_index, 6, 3)
        assert_close(got[0][:6], layer(x[:6], rest))
        assert_close(got[1], layer.to_edges(x[:6], rest))
        assert torch.equal(got[0][6], torch.zeros(4))
    else:
        close(got[0].relu(), expected[0])
        close(got[1].relu(), expected[1])


def test_by_hand() -> None:
    """d = 1, 2, 1 and delta = 2, 2, with beta = -1 and alpha = 1."""
    layer = HNHNConv(1, 1, alpha=1.0, beta=-1.0)
    with torch.no_grad():
        layer.theta_v.weight.fill_(1.0)
        layer.theta_e.weight.fill_(1.0)
        layer.theta_v.bias.zero_()
        layer.theta_e.bias.fill_(0.5)
    h = Hypergraph.from_edges([[0, 1], [1, 2, 2]], 4, torch.tensor([1.0, 3.0]))
    x = torch.tensor([[1.0], [6.0], [-3.0], [9.0]])
    # d = 1, 4, 6, 0 (vertex 2 is twice in a hyperedge of weight 3); delta = 2, 3.
    first = (1 / 1 * 1 + 6 / 4) / (1 + 1 / 4)
    second = (6 / 4 - 2 * 3 / 6) / (1 / 4 + 2 / 6)
    middle = (1 * 2 * (first + 0.5) + 3 * 3 * (second + 0.5)) / (2 + 9)
    expected = torch.tensor([first + 0.5, middle, second + 0.5, 0.0])
    assert_close(layer(x, h).flatten(), expected)


def test_ones_stay_ones() -> None:
    """Both stages are weighted means, whatever the exponents."""
    layer = HNHNConv(1, 1, alpha=-0.7, beta=0.4)
    with torch.no_grad():
        for linear in (layer.theta_v, layer.theta_e):
            linear.weight.fill_(1.0)
            linear.bias.zero_()
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3], [3]], 4, torch.rand(3) + 0.1)
    assert_close(layer(torch.ones(4, 1), h), torch.ones(4, 1))


def test_reset_draws_anew() -> None:
    layer = HNHNConv(3, 4)
    before = layer.theta_v.weight.clone(), layer.theta_e.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.theta_v.weight, before[0])
    assert not torch.equal(layer.theta_e.weight, before[1])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: HNHNConv(4, 6, alpha=float("nan")), "alpha"),
        (lambda: HNHNConv(4, 6, beta="small"), "beta"),
        (lambda: HNHNConv(4, 6, hidden_channels=0), "hidden_channels"),
        (lambda: HNHNConv(4, 0), "out_channels"),
    ],
)
def test_bad_settings_are_named(make, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        make()


def test_tiny_degrees_do_not_overflow() -> None:
    plain = Hypergraph.from_edges([[0, 1], [1, 2], [2]])
    values = torch.tensor([1e-30, 1e-30, 1.0, 1.0, 1.0], requires_grad=True)
    h = plain.replace(incidence_weight=values)
    x = torch.randn(3, 4, requires_grad=True)
    out = HNHNConv(4, 2)(x, h)
    out.sum().backward()
    assert out.isfinite().all()
    for tensor in (x, values):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
