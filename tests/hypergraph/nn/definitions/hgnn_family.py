from __future__ import annotations

import torch
from torch import Tensor

from hypergraph import HGNNPConv, JHConv, LaplacianConv
from tests.hypergraph import oracle
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def _hgnnp(layer: HGNNPConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    node = torch.diag_embed(inverse((h * w[..., None, :]).sum(-1)))
    edge = torch.diag_embed(inverse(h.sum(-2)))
    return node @ (h @ (torch.diag_embed(w) @ (edge @ (h.mT @ layer.theta(x)))))


def _jump(layer: JHConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    return oracle.hgnn(layer.theta(x), h, w) + x


def _laplacian(layer: LaplacianConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    out = (x - oracle.hgnn(x, h, w)) @ layer.theta.weight.mT
    return out if layer.bias is None else out + layer.bias


CASES = [
    LayerCase("HGNNPConv", lambda: HGNNPConv(4, 6), _hgnnp, every_operator=True, linear=True),
    LayerCase("JHConv", lambda: JHConv(4), _jump, every_operator=True, linear=True),
    LayerCase(
        "LaplacianConv", lambda: LaplacianConv(4, 6), _laplacian, every_operator=True, linear=True
    ),
    LayerCase(
        "LaplacianConv without bias",
        lambda: LaplacianConv(4, 6, bias=False),
        _laplacian,
        every_operator=True,
        linear=True,
    ),
]
