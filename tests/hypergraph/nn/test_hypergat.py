"""HyperGAT in the paper's and in the released form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from hypergraph import HyperGATConv, Hypergraph
from tests.hypergraph.nn.golden import GRAPHS, Golden

F64 = torch.float64
EDGES = [[0, 1, 2], [1, 3], [2], []]


def paper(layer: HyperGATConv, x: Tensor, edges: list[list[int]]) -> Tensor:
    """The paper's four equations, set by set."""
    z = layer.of_vertices(x)
    filled = [edge for edge in edges if edge]
    sent = []
    for edge in filled:
        scores = functional.leaky_relu(z[edge], layer.negative_slope) @ layer.a1
        sent.append(layer.of_hyperedges((scores.softmax(0) @ z[edge]).relu()))
    out = []
    for vertex in range(len(x)):
        mine = [y for edge, y in zip(filled, sent, strict=True) if vertex in edge]
        if not mine:
            out.append(torch.zeros_like(z[0]))
            continue
        rows = torch.stack([torch.cat([y, z[vertex]]) for y in mine])
        scores = functional.leaky_relu(rows, layer.negative_slope) @ layer.a2
        out.append(scores.softmax(0) @ torch.stack(mine))
    return torch.stack(out)


def released(layer: HyperGATConv, x: Tensor, edges: list[list[int]]) -> Tensor:
    """As the released code has it: a mask of -9e15 and two softmaxes of a dense matrix."""
    assert layer.to_scores is not None and layer.context is not None
    keys, values = layer.to_scores(x), layer.of_vertices(x)
    there = torch.zeros(len(edges), len(x), dtype=torch.bool)
    for number, edge in enumerate(edges):
        there[number, edge] = True
    query = layer.context.expand(*there.shape, -1)
    pairs = torch.cat([query, keys.expand(*there.shape, -1)], -1)
    scores = functional.leaky_relu(pairs @ layer.a1, 0.2)
    sent = scores.masked_fill(~there, -9e15).softmax(1) @ values
    states = layer.of_hyperedges(sent).unsqueeze(1).expand(*there.shape, -1)
    pairs = torch.cat([keys.expand(*there.shape, -1), states], -1)
    scores = functional.leaky_relu(pairs @ layer.a2, 0.2)
    return scores.masked_fill(~there, -9e15).T.softmax(1) @ sent


def test_papers_equations() -> None:
    layer, x = HyperGATConv(3, 4).double().eval(), torch.randn(5, 3, dtype=F64)
    assert_close(layer(x, Hypergraph.from_edges(EDGES, 5)), paper(layer, x, EDGES))


@pytest.mark.parametrize("transform", [True, False])
def test_released_code(transform: bool) -> None:
    """On a hypergraph without isolated vertices, where the code gives something else (below)."""
    layer = HyperGATConv(4, 4, form="code", transform=transform).double().eval()
    x = torch.randn(4, 4, dtype=F64)
    assert_close(layer(x, Hypergraph.from_edges(EDGES[:3], 4)), released(layer, x, EDGES[:3]))


@pytest.mark.parametrize("form", ["paper", "code"])
def test_isolated_vertices_are_zero(form: str) -> None:
    """The released code gives them the mean over all hyperedges."""
    layer = HyperGATConv(3, 4, form=form).double().eval()  # type: ignore[arg-type]
    x = torch.randn(5, 3, dtype=F64)
    out = layer(x, Hypergraph.from_edges(EDGES, 5))
    assert torch.equal(out[4], torch.zeros(4, dtype=F64))
    if form == "code":
        assert released(layer, x, EDGES)[4].abs().sum() > 0


def test_the_vertex_half_of_the_papers_second_score_cancels() -> None:
    layer, x = HyperGATConv(3, 4).double().eval(), torch.randn(5, 3, dtype=F64)
    h = Hypergraph.from_edges(EDGES, 5)
    before = layer(x, h)
    before.square().sum().backward()
    assert layer.a2.grad is not None
    assert torch.equal(layer.a2.grad[4:], torch.zeros(4, dtype=F64))
    assert layer.a2.grad[:4].abs().sum() > 0
    with torch.no_grad():
        layer.a2[4:] = 7.0
    assert_close(layer(x, h), before)
    assert_close(paper(layer, x, EDGES), before)  # the definition has that half


@pytest.mark.parametrize("graph", GRAPHS)
def test_topomodelx_weights_run_where_its_own_layer_fails(shared_dir: Path, graph: str) -> None:
    """TopoModelX raises IndexError on every golden hypergraph; this is the correct value."""
    golden = Golden.load(shared_dir, graph)
    assert golden.info["notes_failures"]["tmx.HyperGAT"].startswith("IndexError")
    stored = golden.parameters("tmx.HyperGAT")
    layer = HyperGATConv(5, 4, negative_slope=0.01).eval()
    layer.load_state_dict(
        {
            "of_vertices.weight": stored["weight1"].T,
            "of_hyperedges.weight": stored["weight2"].T,
            "a1": stored["att_weight1"][:, 0],
            "a2": stored["att_weight2"][:, 0],
        }
    )
    expected = paper(layer, golden.x, golden.info["e_list_stored"])
    assert_close(layer(golden.x, golden.plain), expected)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_dropout_in_training_only(form: str) -> None:
    x, h = torch.randn(5, 3), Hypergraph.from_edges(EDGES, 5)
    layer = HyperGATConv(3, 4, form=form, dropout=1.0)  # type: ignore[arg-type]
    assert torch.equal(layer(x, h), torch.zeros(5, 4))
    assert layer.eval()(x, h).abs().sum() > 0
    layer = HyperGATConv(3, 4, form=form, dropout=0.5)  # type: ignore[arg-type]
    assert not torch.equal(layer(x, h), layer(x, h))
    assert torch.equal(layer.eval()(x, h), layer(x, h))


def test_scores_are_dropped_before_the_softmax() -> None:
    """A dropped score is 0, a kept one doubled: of two members, four attentions are possible."""
    layer = HyperGATConv(1, 1, form="code", transform=False, dropout=0.5)
    with torch.no_grad():
        layer.to_scores.weight.fill_(1.0)  # type: ignore[union-attr]
        layer.a1.copy_(torch.tensor([0.0, 1.0]))
    x, h = torch.tensor([[1.0], [3.0]]), Hypergraph.from_edges([[0, 1]])
    found = set()
    for _ in range(200):
        found |= {round(value, 4) for value in layer(x, h).flatten().tolist()}
    expected = {0.0}  # f_e itself dropped
    for first in (0.0, 2.0):
        for second in (0.0, 6.0):
            share = torch.tensor([first, second]).softmax(0)
            expected.add(round(float(2 * (share @ x)), 4))
    assert found == expected


def test_parameters_are_drawn_as_the_authors_draw_them() -> None:
    for form in ("paper", "code"):
        layer = HyperGATConv(64, 16, form=form)  # type: ignore[arg-type]
        for name, parameter in layer.named_parameters():
            assert 0.6 < parameter.abs().max() * 4 <= 1, name


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: HyperGATConv(4, 6, form="official"), "form"),
        (lambda: HyperGATConv(4, 4, transform=False), "transform"),
        (lambda: HyperGATConv(4, 6, form="code", transform=False), "transform"),
        (lambda: HyperGATConv(4, 6, negative_slope=-0.1), "negative_slope"),
        (lambda: HyperGATConv(4, 6, dropout=-0.1), "dropout"),
        (lambda: HyperGATConv(4.0, 6), "in_channels"),
    ],
)
def test_bad_settings_are_named(make, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        make()
