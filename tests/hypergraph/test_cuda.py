"""The same results on a CUDA device as on the CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from hypergraph import KNN, CrossCorrelation, DynamicHGConv, Fusion, HGNNConv, Hypergraph

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("mode", ["concat", "sum"])
@pytest.mark.parametrize("nonneg", ["abs", "softmax", "factors"])
def test_a_fused_layer_and_its_gradients(mode: str, nonneg: str) -> None:
    fusion = Fusion(
        [
            KNN(5, threshold=1.0, weighting="rbf"),
            CrossCorrelation(8, rank=4, omega="tied", nonneg=nonneg),
        ],
        mode,
    )
    layer = DynamicHGConv(8, 6, construction=fusion).double()
    moved = copy.deepcopy(layer).cuda()
    x = torch.randn(2, 300, 8, dtype=torch.float64, requires_grad=True)
    there = x.detach().cuda().requires_grad_()
    out, out_there = layer(x), moved(there)
    assert_close(out_there.cpu(), out)
    out.sin().sum().backward()
    out_there.sin().sum().backward()
    assert_close(there.grad.cpu(), x.grad)
    for one, other in zip(layer.parameters(), moved.parameters(), strict=True):
        if one.grad is not None:
            assert_close(other.grad.cpu(), one.grad)


def test_a_sparse_hypergraph_moves() -> None:
    index, values = torch.randint(0, 30, (2, 100)), torch.rand(100)
    h = Hypergraph(index, 30, 30, torch.rand(30), values)
    conv, x = HGNNConv(4, 3), torch.randn(30, 4)
    expected = conv(x, h)
    assert_close(conv.cuda()(x.cuda(), h.to("cuda")).cpu(), expected, rtol=1e-4, atol=1e-5)
