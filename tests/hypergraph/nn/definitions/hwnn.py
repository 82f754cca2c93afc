from __future__ import annotations

import torch
from torch import Tensor

from hypergraph import HWNNConv
from tests.hypergraph import oracle
from tests.hypergraph.nn.cases import LayerCase


def wavelet(layer: HWNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """The two polynomials as explicit matrices, term by term."""
    one = torch.eye(x.shape[1], dtype=x.dtype).expand(x.shape[0], -1, -1)
    smoothing = oracle.hgnn(one, h, w)

    def polynomial(coefficients: Tensor) -> Tensor:
        power, total = one, torch.zeros_like(one)
        for coefficient in coefficients:
            total = total + coefficient * power
            power = power @ smoothing
        return total

    factors = torch.ones(x.shape[1], dtype=x.dtype)
    if layer.node_filter is not None:
        factors = layer.node_filter
    z = x @ layer.theta.weight.T
    out = polynomial(layer.p) @ torch.diag(factors) @ polynomial(layer.q) @ z
    return out if layer.bias is None else out + layer.bias


CASES = [
    LayerCase("HWNNConv", lambda: HWNNConv(4, 6), wavelet, every_operator=True, linear=True),
    LayerCase(
        "HWNNConv of other orders",
        lambda: HWNNConv(4, 6, k1=1, k2=4, bias=True),
        wavelet,
        every_operator=True,
        linear=True,
    ),
]
