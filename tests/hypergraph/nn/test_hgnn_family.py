"""HGNN+, JHConv and the Laplacian layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from hypergraph import (
    CrossCorrelation,
    Dense,
    HGNNConv,
    HGNNPConv,
    Hypergraph,
    JHConv,
    LaplacianConv,
    hgnn_propagate,
)
from tests.hypergraph.nn.golden import GRAPHS, Golden, close

F64 = torch.float64


def test_hgnnp_by_hand() -> None:
    """Means 2 and 4 of weights 3 and 1."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 4, torch.tensor([3.0, 1.0]))
    layer = HGNNPConv(1, 1)
    layer.theta.weight.data.fill_(2.0)
    layer.theta.bias.data.fill_(-1.0)
    out = layer(torch.tensor([[1.0], [2.0], [3.0], [9.0]]), h).flatten()
    assert_close(out, torch.tensor([2.0, (3 * 2 + 4) / 4, 4.0, 0.0]))


def test_the_weights_of_hgnnp_are_relative() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 3, torch.tensor([3.0, 1.0]))
    layer, x = HGNNPConv(2, 2), torch.randn(3, 2)
    assert_close(layer(x, h), layer(x, h.with_hyperedge_weight(torch.tensor([6.0, 2.0]))))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("setting", ["last", "nobias"])
def test_golden_outputs_of_dhg(shared_dir: Path, graph: str, setting: str) -> None:
    golden, case = Golden.load(shared_dir, graph), f"HGNNPConv.{setting}"
    layer = HGNNPConv(5, 4, bias=setting == "last")
    layer.load_state_dict(golden.parameters(case))
    golden.check_gradients(case, layer, golden.weighted)


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_stored_laplacian_and_smoothing(shared_dir: Path, graph: str) -> None:
    """DHG refuses JHConv unless the channels agree, so no output is stored; its parts are."""
    golden = Golden.load(shared_dir, graph)
    x, h, smooth = golden.x, golden.weighted, golden.tensors["smoothing_with_HGNN"]
    jump = JHConv(5, bias=False)
    torch.nn.init.eye_(jump.theta.weight)
    close(jump(x, h), smooth + x)
    laplacian = LaplacianConv(5, 5, bias=False)
    torch.nn.init.eye_(laplacian.theta.weight)
    close(laplacian(x, h), golden.tensors["L_sym"] @ x)


def test_jump_and_laplacian_are_what_hgnn_leaves() -> None:
    h = Hypergraph.from_edges([[0, 1, 2], [1, 3]], 5, torch.tensor([2.0, 0.5]))
    x, hgnn = torch.randn(5, 4), HGNNConv(4, 4)
    jump, high = JHConv(4), LaplacianConv(4, 4)
    jump.load_state_dict(hgnn.state_dict())
    assert_close(jump(x, h), hgnn(x, h) + x)
    high.theta.weight.data.copy_(hgnn.theta.weight)
    low = hgnn_propagate(x @ hgnn.theta.weight.mT, h)
    assert high.bias is not None
    assert_close(high(x, h) + low - high.bias, x @ hgnn.theta.weight.mT)
    # An isolated vertex is all high-pass.
    assert_close(high(x, h)[4] - high.bias, x[4] @ hgnn.theta.weight.mT)


def test_the_laplacian_annihilates_what_it_should() -> None:
    """Delta D_v^1/2 1 = 0, for degrees far below the 1e-10 that the official code adds too."""
    layer = LaplacianConv(1, 1, bias=False).to(F64)
    torch.nn.init.ones_(layer.theta.weight)
    for scale in (1.0, 1e-9, 1e-13):
        h = Dense(torch.rand(6, 4, dtype=F64) * scale + scale)
        root = h.node_degree().sqrt()[:, None]
        assert_close(layer(root, h), torch.zeros(6, 1, dtype=F64), rtol=0, atol=1e-15)


def test_the_official_laplacian_layer() -> None:
    """Its order of operations, 1e-10 included, on a cross-correlation incidence."""
    torch.manual_seed(2)
    x = torch.randn(2, 30, 6, dtype=F64)
    h = CrossCorrelation(6, num_edges=5, rank=4).to(F64)(x)
    layer = LaplacianConv(6, 7).to(F64)
    matrix = h.to_dense()
    scaled = (matrix.sum(2) + 1e-10).pow(-0.5)[..., None] * matrix
    smooth = scaled @ torch.diag_embed(matrix.sum(1).pow(-1)) @ (scaled.mT @ x)
    expected = (x - smooth) @ layer.theta.weight.mT + layer.bias
    assert_close(layer(x, h), expected, rtol=0, atol=1e-8)


def test_initial_values_are_those_of_the_authors() -> None:
    layer = LaplacianConv(300, 200)
    assert layer.bias is not None
    for parameter, deviation in [
        (layer.theta.weight, (2 / 500) ** 0.5),
        (layer.bias, 200**-0.5),
    ]:
        spread = parameter.detach().std().item()
        assert abs(spread / deviation - 1) < (0.02 if parameter.dim() == 2 else 0.2)
        assert parameter.abs().max() <= 2 * deviation / 0.8796
    for plain in (HGNNPConv(50, 20), JHConv(50)):
        plain.theta.weight.data.fill_(7.0)
        plain.reset_parameters()
        assert 0.9 * 50**-0.5 < plain.theta.weight.abs().max() <= 50**-0.5


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: JHConv(3, 4), ValueError, "`out_channels` must be in_channels, 3"),
        (lambda: JHConv(0), ValueError, "`in_channels` must be at least 1"),
        (lambda: HGNNPConv(3, 0), ValueError, "`out_channels` must be at least 1"),
        (lambda: LaplacianConv(3, 2.0), TypeError, "`out_channels` must be an int"),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()
