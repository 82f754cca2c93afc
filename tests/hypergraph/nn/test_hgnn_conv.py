from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    Concat,
    Dense,
    HGNNConv,
    Hypergraph,
    LowRank,
    NeighborTable,
    Streamed,
    hgnn_propagate,
)
from tests.hypergraph.oracle import F64, hgnn, hypergraphs


@given(hypergraphs())
def test_equals_the_dense_formula(h: Hypergraph) -> None:
    conv = HGNNConv(3, 2).to(F64)
    x = torch.randn(h.num_nodes, 3, dtype=F64, requires_grad=True)
    cotangent = torch.randn(h.num_nodes, 2, dtype=F64)
    got = conv(x, h)
    expected = hgnn(conv.theta(x), h.to_dense().to(F64), h.weight(F64))
    assert_close(got, expected)
    inputs = [x, *conv.parameters()]
    grads = torch.autograd.grad((got * cotangent).sum(), inputs)
    assert_close(grads, torch.autograd.grad((expected * cotangent).sum(), inputs))


@given(hypergraphs())
def test_every_gradient_is_finite_and_zero_degrees_give_zero(h: Hypergraph) -> None:
    weight = h.weight(F64).requires_grad_()
    values = torch.ones(h.hyperedge_index.shape[1], dtype=F64)
    if h.incidence_weight is not None:
        values = h.incidence_weight.clone()
    values.requires_grad_()
    again = Hypergraph(h.hyperedge_index, h.num_nodes, h.num_edges, weight, values)
    conv = HGNNConv(3, 2).to(F64)
    x = torch.randn(h.num_nodes, 3, dtype=F64, requires_grad=True)
    out = conv(x, again)
    assert (out[h.node_degree(F64) == 0] == 0).all()
    out.sin().sum().backward()
    for tensor in (x, weight, values, *conv.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


@settings(max_examples=10)
@given(hypergraphs())
def test_gradcheck_away_from_zero_degrees(h: Hypergraph) -> None:
    index = h.hyperedge_index
    if index.shape[1] == 0:
        return
    values = torch.rand(index.shape[1], dtype=F64) + 0.2
    weight = torch.rand(h.num_edges, dtype=F64) + 0.2
    z = torch.randn(h.num_nodes, 2, dtype=F64)

    def run(z: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        return hgnn_propagate(z, Hypergraph(index, h.num_nodes, h.num_edges, weight, values))

    inputs = tuple(t.requires_grad_() for t in (z, weight, values))
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("function", ["abs", "softmax"])
def test_gradcheck_of_learned_incidence(function: str) -> None:
    p, q = torch.randn(6, 3, dtype=F64), torch.randn(4, 3, dtype=F64)
    z, weight = torch.randn(6, 2, dtype=F64), torch.rand(4, dtype=F64) + 0.2

    def run(z: Tensor, p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
        low_rank = LowRank(p.exp(), q.exp(), weight)
        return hgnn_propagate(z, Concat([low_rank, Streamed(p, q, function)]))

    inputs = tuple(t.requires_grad_() for t in (z, p, q, weight))
    assert torch.autograd.gradcheck(run, inputs)


def test_small_example_by_hand() -> None:
    """One hyperedge {0, 1} of weight 4 on three vertices: both get the mean, the third nothing."""
    conv = HGNNConv(1, 1, bias=False)
    conv.theta.weight.data.fill_(2.0)
    h = Hypergraph.from_edges([[0, 1]], 3, torch.tensor([4.0]))
    assert conv(torch.tensor([[1.0], [3.0], [100.0]]), h).flatten().tolist() == [4.0, 4.0, 0.0]


def test_the_weights_of_hyperedges_enter_the_messages() -> None:
    """Not only the vertex degrees, as in PyTorch Geometric's HypergraphConv."""
    edges, weight = [[0, 1], [1, 2]], torch.tensor([1.0, 3.0])
    x = torch.tensor([[1.0], [0.0], [0.0]])
    weighted = hgnn_propagate(x, Hypergraph.from_edges(edges, 3, weight))
    assert_close(weighted[:2, 0], torch.tensor([0.5, 0.25]))


def test_the_bias_is_added_before_propagation() -> None:
    conv = HGNNConv(2, 3).to(F64)
    x, h = torch.randn(4, 2, dtype=F64), Dense(torch.rand(4, 3, dtype=F64))
    bias = conv.theta.bias
    expected = hgnn(x @ conv.theta.weight.T + bias, h.matrix)
    assert_close(conv(x, h), expected)
    isolated = Dense(torch.zeros(4, 3, dtype=F64))
    assert (conv(x, isolated) == 0).all()


@pytest.mark.parametrize("power", [-320, -310, -300, -200, -40, -20])
def test_tiny_degrees_keep_outputs_and_gradients_finite(power: int) -> None:
    matrix = torch.full((4, 3), 10.0**power, dtype=F64, requires_grad=True)
    out = hgnn_propagate(torch.randn(4, 2, dtype=F64), Dense(matrix))
    out.square().sum().backward()
    assert out.isfinite().all() and matrix.grad is not None and matrix.grad.isfinite().all()
    if power == -320:
        assert (out == 0).all()
    if power >= -200:
        ones = torch.ones(4, 3, dtype=F64)
        torch.manual_seed(1)
        z = torch.randn(4, 2, dtype=F64)
        assert_close(hgnn_propagate(z, Dense(matrix)), hgnn_propagate(z, Dense(ones)))


def test_an_index_tensor_is_a_hypergraph() -> None:
    index = torch.tensor([[0, 1, 2, 2], [0, 0, 0, 1]])
    conv, x = HGNNConv(3, 2), torch.randn(5, 3)
    assert_close(conv(x, index), conv(x, Hypergraph(index, num_nodes=5)))
    assert_close(conv(x.expand(2, 5, 3), index)[1], conv(x, index))


def test_permutation_equivariance() -> None:
    index, order = torch.randint(0, 12, (2, 40)), torch.randperm(12)
    conv, x = HGNNConv(3, 2).to(F64), torch.randn(12, 3, dtype=F64)
    place = torch.empty_like(order)
    place[order] = torch.arange(12)
    moved = torch.stack([place[index[0]], index[1]])
    assert_close(conv(x[order], moved), conv(x, index)[order])


def test_symmetric_operator() -> None:
    """A fixed hypergraph's convolution is its own backward."""
    h = Hypergraph(torch.randint(0, 10, (2, 30)), 10, 10, torch.rand(10, dtype=F64))
    z = torch.randn(10, 3, dtype=F64, requires_grad=True)
    g = torch.randn(10, 3, dtype=F64)
    (grad,) = torch.autograd.grad((hgnn_propagate(z, h) * g).sum(), z)
    assert_close(grad, hgnn_propagate(g, h))


def test_initial_values_are_those_of_the_authors() -> None:
    conv = HGNNConv(50, 16)
    bound = 16**-0.5
    for tensor in (conv.theta.weight, conv.theta.bias):
        assert tensor.abs().max() <= bound and tensor.abs().max() > 0.7 * bound
    assert HGNNConv(3, 2, bias=False).theta.bias is None


def test_dtypes() -> None:
    index = torch.randint(0, 20, (2, 60))
    x = torch.randn(20, 8)
    conv = HGNNConv(8, 4)
    exact = conv(x, index)
    assert exact.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = conv(x, index)
        mixed.sum().backward()
    assert mixed.dtype == torch.bfloat16
    assert_close(mixed.float(), exact, rtol=2e-2, atol=2e-2)
    assert conv.theta.weight.grad is not None and conv.theta.weight.grad.dtype == torch.float32
    low = HGNNConv(8, 4).bfloat16()(x.bfloat16(), index)
    assert low.dtype == torch.bfloat16 and low.isfinite().all()
    wide = HGNNConv(8, 4).double()(x.double(), Hypergraph(index, 20).to(torch.float32))
    assert wide.dtype == F64


# ---- one hypergraph, many calls


def pairs(weight: Tensor) -> Hypergraph:
    return Hypergraph(torch.tensor([[0, 1, 1, 2, 3], [0, 0, 1, 1, 1]]), 4, 2, weight)


def test_a_learned_weight_can_be_trained() -> None:
    weight = torch.ones(2, requires_grad=True)
    conv, h, x = HGNNConv(3, 2), pairs(weight), torch.randn(4, 3)
    optimiser = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        out = conv(x, h)
        assert_close(out, conv(x, pairs(weight.detach().clone())))
        out.square().sum().backward()
        optimiser.step()
    copy.deepcopy(h)


def test_changed_weights_change_the_degrees() -> None:
    weight = torch.ones(2)
    h = pairs(weight)
    h.node_degree()
    weight.mul_(5)
    assert h.node_degree().tolist() == [5, 10, 5, 5]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_evaluation_before_training_leaves_the_gradients_alone(context) -> None:
    p, x = torch.randn(4, 3, dtype=F64), torch.randn(4, 2, dtype=F64)
    weight = torch.rand(4, dtype=F64) + 0.1
    index = torch.tensor([[0, 1, 1, 2, 3], [0, 0, 1, 1, 3]])
    tensors = [t.requires_grad_() for t in (p, weight)]
    grads = []
    for evaluated in (False, True):
        table = NeighborTable(index.T, 4, hyperedge_weight=torch.ones(5, dtype=F64))
        streamed = Streamed(p * 1, p * 1, "softmax", hyperedge_weight=weight * 1)
        h = Concat([Hypergraph(index, 4, 4, weight), streamed, table])
        if evaluated:
            with context():
                hgnn_propagate(x, h)
        z = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(hgnn_propagate(z, h).sin().sum(), [z, *tensors]))
    assert_close(*grads)


def test_degrees_count_beyond_what_half_precision_can() -> None:
    ones = torch.ones(1000, dtype=torch.bfloat16)
    h = Hypergraph(torch.zeros(2, 1000, dtype=torch.long), 1, 1, None, ones)
    assert h.node_degree().tolist() == h.edge_degree().tolist() == [1000]


def test_no_samples_and_no_vertices() -> None:
    conv, h = HGNNConv(3, 2), pairs(torch.ones(2))
    assert conv(torch.randn(0, 4, 3), h).shape == (0, 4, 2)
    assert h.v2e(torch.randn(2, 4, 0)).shape == (2, 2, 0)


def test_propagation_takes_what_the_layer_takes() -> None:
    x, index = torch.randn(4, 3), torch.tensor([[0, 1], [0, 0]])
    assert_close(hgnn_propagate(x, index), hgnn_propagate(x, Hypergraph(index, 4)))
    for bad in (x, x[None]):
        with pytest.raises(ValueError, match="`x` must have shape .3, 4, C"):
            hgnn_propagate(bad, Dense(torch.ones(3, 4, 2)))


@pytest.mark.parametrize("graph", ["isolated", "singleton", "weighted", "random"])
@pytest.mark.parametrize("setting", ["last", "nobias"])
def test_golden_outputs_of_dhg(shared_dir: Path, graph: str, setting: str) -> None:
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "d_hypergraph" / graph
    stored = load_file(folder / "tensors.safetensors")
    weights = load_file(folder / "weights.safetensors")
    info = json.loads((folder / "info.json").read_text())
    case = f"HGNNConv.{setting}"
    conv = HGNNConv(info["Cin"], info["Cout"], bias=setting == "last")
    prefix = case + "/"
    conv.load_state_dict(
        {name[len(prefix) :]: t for name, t in weights.items() if name.startswith(prefix)}
    )
    h = Hypergraph.from_edges(info["e_list_stored"], stored["X"].shape[0], stored["W_e"])
    assert_close(h.to_dense(), stored["H"])
    x = stored["X"].requires_grad_()
    out = conv(x, h)
    assert_close(out, stored[case + ".out"], rtol=1e-5, atol=1e-6)
    out.backward(stored[case + ".cotangent"])
    assert_close(x.grad, stored[case + ".grad_X"], rtol=1e-4, atol=1e-5)
    for name, parameter in conv.named_parameters():
        assert_close(parameter.grad, stored[f"{case}.grad/{name}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, x: c(x[:, :2], Dense(torch.ones(4, 2))), ValueError, "`x` must have 3 channels"),
        (lambda c, x: c(x[0], Dense(torch.ones(4, 2))), ValueError, "`x` must have shape"),
        (lambda c, x: c(x.long(), Dense(torch.ones(4, 2))), TypeError, "`x` must be floating"),
        (lambda c, x: c(x, Dense(torch.ones(5, 2))), ValueError, "`hypergraph` must have as many"),
        (lambda c, x: c(x.double(), Dense(torch.ones(4, 2))), TypeError, "`x` must have the dtype"),
        (
            lambda c, x: c(x, Dense(torch.ones(4, 2, device="meta"))),
            ValueError,
            "`hypergraph` must be on the device of `x`, cpu, got meta",
        ),
        (lambda c, x: c(x, [[0, 1]]), TypeError, "`hypergraph` must be an incidence operator"),
        (lambda c, x: c(x, torch.tensor([[0, 4], [0, 0]])), ValueError, "num_nodes=4.*got 4"),
        (lambda c, x: c(x, Dense(torch.ones(2, 4, 2))), ValueError, "`x` must have shape .2, 4, C"),
        (lambda c, x: HGNNConv(0, 2), ValueError, "`in_channels` must be at least 1"),
        (lambda c, x: HGNNConv(2, 1.5), TypeError, "`out_channels` must be an int"),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(HGNNConv(3, 2), torch.randn(4, 3))


def test_parameters_start_where_the_authors_start_them() -> None:
    layer = HGNNConv(50, 16)
    bound = 16**-0.5
    for parameter in (layer.theta.weight, layer.theta.bias):
        assert -bound <= parameter.min() < -bound / 2
        assert bound / 2 < parameter.max() <= bound
