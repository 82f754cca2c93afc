from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    Hypergraph,
    HypergraphAttentionConv,
    LowRank,
    NeighborTable,
    hgnn_propagate,
)
from tests.hypergraph.nn.definitions.hcha import hcha
from tests.hypergraph.nn.golden import GRAPHS, Golden, close, differs

F64 = torch.float64

# Settings of the stored outputs; PyTorch Geometric's were made with the slope 0.1 for edges.
SETTINGS = {
    "plain": {},
    "nobias": {"bias": False},
    "weighted": {},
    "att1": {"attention": "node"},
    "att2": {"attention": "node", "heads": 2},
    "att2_edge": {"attention": "edge", "heads": 2, "negative_slope": 0.1},
    "att2_mean": {"attention": "node", "heads": 2, "concat": False},
}
WEIGHTED = {"nobias", "weighted", "att2", "att2_mean"}


def simple(**settings) -> HypergraphAttentionConv:
    layer = HypergraphAttentionConv(1, 1, bias=False, **settings)
    torch.nn.init.ones_(layer.theta.weight)
    if layer.att is not None:
        torch.nn.init.ones_(layer.att)
    return layer


X = torch.tensor([[1.0], [3.0], [-5.0], [9.0]])


def test_without_attention_by_hand() -> None:
    """Means 2 and -1, weights 3 and 1; the symmetric form is HGNN's."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4, torch.tensor([3.0, 1.0]))
    assert_close(simple()(X, h).flatten(), torch.tensor([2.0, (6 - 1) / 4, -1.0, 0.0]))
    assert_close(simple(symmetric=True)(X, h), hgnn_propagate(X, h))


def test_attention_over_nodes_by_hand() -> None:
    """Scores x_v + mean, halved sums inside a hyperedge of two."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4)
    a0, a1 = math.exp(1 + 2), math.exp(3 + 2)
    a0, a1 = a0 / (a0 + a1), a1 / (a0 + a1)
    b1, b2 = math.exp(3 - 1), math.exp(0.2 * (-5 - 1))
    b1, b2 = b1 / (b1 + b2), b2 / (b1 + b2)
    first, second = (a0 * 1 + a1 * 3) / 2, (b1 * 3 + b2 * -5) / 2
    expected = torch.tensor([a0 * first, (a1 * first + b1 * second) / 2, b2 * second, 0.0])
    assert_close(simple(attention="node")(X, h).flatten(), expected)


def test_attention_over_edges_by_hand() -> None:
    """Only vertex 1 has a choice; with weights 3 and 1 its first hyperedge is there three times."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4, torch.tensor([3.0, 1.0]))
    a1, b1 = math.exp(3 + 2), math.exp(3 - 1)
    a1, b1 = a1 / (3 * a1 + b1), b1 / (3 * a1 + b1)
    first, second = (1 / 3 + a1 * 3) / 2, (b1 * 3 - 5) / 2
    expected = torch.tensor([3 * first / 3 / 3, (3 * a1 * first + b1 * second) / 4, second, 0.0])
    assert_close(simple(attention="edge")(X, h).flatten(), expected)


@pytest.mark.parametrize("attention", ["node", "edge"])
def test_a_hyperedge_of_weight_zero_takes_no_share(attention: str) -> None:
    layer = HypergraphAttentionConv(3, 2, attention=attention, heads=2).to(F64)
    x, attr = torch.randn(5, 3, dtype=F64), torch.randn(3, 3, dtype=F64) * 100
    weight = torch.tensor([2.0, 0.5, 0.0], dtype=F64)
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3], [0, 2, 3]], 5, weight)
    without = Hypergraph.from_edges([[0, 1, 2], [2, 3]], 5, weight[:2])
    assert_close(layer(x, h, attr), layer(x, without, attr[:2]))


@pytest.mark.parametrize("attention", ["node", "edge"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_given_features_of_hyperedges(attention: str, symmetric: bool) -> None:
    layer = HypergraphAttentionConv(3, 2, attention, heads=2, symmetric=symmetric).to(F64)
    weight, values = torch.rand(4, dtype=F64), torch.rand(9, dtype=F64)
    index = torch.tensor([[0, 1, 2, 2, 3, 3, 0, 5, 5], [0, 0, 0, 1, 1, 3, 3, 3, 3]])
    h = Hypergraph(index, 6, 4, weight, values)
    x, attr = torch.randn(2, 6, 3, dtype=F64), torch.randn(2, 4, 3, dtype=F64)

    def expected(x: Tensor, attr: Tensor) -> Tensor:
        return hcha(layer, x[None], h.to_dense()[None], weight[None], attr[None])[0]

    alone = torch.stack([expected(x[b], attr[b]) for b in range(2)])
    assert_close(layer(x[0], h, attr[0]), alone[0])
    assert_close(layer(x, h, attr), alone)
    shared = torch.stack([expected(x[b], attr[0]) for b in range(2)])
    assert_close(layer(x, h, attr[0]), shared)
    assert_close(layer(x, h), layer(x, h, h.v2e(x, "mean")))


def test_given_features_of_batched_hyperedges() -> None:
    layer = HypergraphAttentionConv(3, 2, "edge", heads=2).to(F64)
    index = torch.randint(0, 6, (2, 4, 3))
    table = NeighborTable(index, 6)
    x, attr = torch.randn(2, 6, 3, dtype=F64), torch.randn(2, 4, 3, dtype=F64)
    apart = [layer(x[b], NeighborTable(index[b], 6), attr[b]) for b in range(2)]
    assert_close(layer(x, table, attr), torch.stack(apart))
    with pytest.raises(ValueError, match="`hyperedge_attr` must have shape .2, 4, 3., "):
        layer(x, table, attr[0])


def test_gradients_with_given_features() -> None:
    layer = HypergraphAttentionConv(3, 2, "edge").to(F64)
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], 5)
    inputs = [torch.randn(n, 3, dtype=F64, requires_grad=True) for n in (5, 2)]
    assert torch.autograd.gradcheck(lambda x, attr: layer(x, h, attr), inputs)


def test_dropout_is_of_the_attention_and_only_while_training() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4)
    layer = simple(attention="node", dropout=1.0)
    assert (layer(X, h) == 0).all()
    assert (layer.eval()(X, h)[:3] != 0).all()


def test_initial_values_are_those_of_pyg() -> None:
    layer = HypergraphAttentionConv(40, 30, "node", heads=3)
    assert layer.att is not None and layer.bias is not None
    for parameter, bound in [
        (layer.theta.weight, (6 / (40 + 90)) ** 0.5),
        (layer.att, (6 / (3 + 60)) ** 0.5),
    ]:
        assert 0.9 * bound < parameter.abs().max() <= bound
    assert layer.bias.shape == (90,) and (layer.bias == 0).all()
    mean = HypergraphAttentionConv(4, 3, "node", heads=3, concat=False)
    assert mean.bias is not None and mean.bias.shape == (3,)


# ---- PyTorch Geometric


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_golden_outputs_of_pyg(shared_dir: Path, graph: str, setting: str) -> None:
    """PyTorch Geometric leaves W out of the messages. Where weights are not ones, its output is
    D^-1 A B^-1 A^T X Theta + b, against its documentation; the correct value has W between."""
    golden = Golden.load(shared_dir, graph)
    stored = golden.parameters(f"pyg.{setting}")
    layer = HypergraphAttentionConv(5, 4, **SETTINGS[setting])
    renamed = {"theta.weight": stored["lin.weight"]}
    if "bias" in stored:
        renamed["bias"] = stored["bias"]
    if "att" in stored:
        renamed["att"] = stored["att"][0]
    layer.load_state_dict(renamed)
    attr = golden.tensors["pyg.hyperedge_attr"] if layer.attention is not None else None
    index, weight = golden.tensors["pyg.hyperedge_index"], golden.tensors["pyg.hyperedge_weight"]
    h = Hypergraph(index, golden.x.shape[0], weight.shape[0])
    x = golden.x.clone().requires_grad_()
    out = golden.tensors[f"pyg.{setting}.out"]
    if setting not in WEIGHTED:
        got = layer(x, h, attr)
        close(got, out)
        got.backward(golden.tensors[f"pyg.{setting}.cotangent"])
        assert x.grad is not None
        close(x.grad, golden.tensors[f"pyg.{setting}.grad_X"], 1e-4)
        for name, parameter in layer.named_parameters():
            theirs = {"theta.weight": "lin.weight"}.get(name, name)
            assert parameter.grad is not None
            stored_grad = golden.tensors[f"pyg.{setting}.grad/{theirs}"]
            close(parameter.grad, stored_grad.reshape(parameter.shape), 1e-4)
        return
    # W only in D: unit weights in the messages, then the degrees exchanged.
    degree = h.node_degree() / h.with_hyperedge_weight(weight).node_degree()
    degree = degree.nan_to_num(0.0)[:, None]
    bias = 0.0 if layer.bias is None else layer.bias
    close((layer(x, h, attr) - bias) * degree + bias, out)
    correct = layer(x, h.with_hyperedge_weight(weight), attr)
    matrix, w = h.to_dense()[None], weight[None]
    close(correct, hcha(layer, x[None], matrix, w, None if attr is None else attr[None])[0])
    assert differs(correct, out)


# ---- misuse


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, x, h: HypergraphAttentionConv(3, 2, "vertex"), ValueError, "`attention` must"),
        (lambda c, x, h: HypergraphAttentionConv(3, 2, heads=2), ValueError, "`heads` must be 1"),
        (lambda c, x, h: HypergraphAttentionConv(3, 2, dropout=-1), ValueError, "`dropout` must"),
        (lambda c, x, h: HypergraphAttentionConv(0, 2), ValueError, "`in_channels` must"),
        (
            lambda c, x, h: HypergraphAttentionConv(3, 2)(x, h, x[:2]),
            ValueError,
            "`hyperedge_attr` enters only",
        ),
        (lambda c, x, h: c(x, h, x), ValueError, "`hyperedge_attr` must have shape .2, 3., a row"),
        (lambda c, x, h: c(x, h, x[None, :2]), ValueError, "`hyperedge_attr` must have shape"),
        (lambda c, x, h: c(x, h, x[:2, :2]), ValueError, "`hyperedge_attr` must have shape"),
        (lambda c, x, h: c(x, h, x[:2].double()), TypeError, "`hyperedge_attr` must be torch.fl"),
        (lambda c, x, h: c(x, h, x[:2].long()), TypeError, "`hyperedge_attr` must be floating"),
        (lambda c, x, h: c(x, h, [1, 2]), TypeError, "`hyperedge_attr` must be a torch.Tensor"),
        (
            lambda c, x, h: c(x, LowRank(torch.rand(4, 2), torch.rand(3, 2))),
            TypeError,
            "`hypergraph` must be an operator whose members",
        ),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(
            HypergraphAttentionConv(3, 2, "node"),
            torch.randn(4, 3),
            Hypergraph.from_edges([[0, 1], [2]], 4),
        )
