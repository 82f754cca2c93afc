from __future__ import annotations

import torch
from torch import Tensor, nn

from hypergraph import ViHGNNConv
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def used(layer: ViHGNNConv) -> ViHGNNConv:
    """With values that training would leave: statistics, eps and biases that are not trivial.

    Normalised by the stored statistics: those of a batch are PyTorch's to get right (test_vihgnn.py
    compares with it), and gradients through them cancel to rounding.
    """
    with torch.no_grad():
        layer.eps.fill_(0.3)
        for block in (layer.edge_mlp, layer.node_mlp):
            if block.bias is not None:
                block.bias.normal_()
            if block.norm is not None:
                block.norm.running_mean.normal_()
                block.norm.running_var.uniform_(0.5, 2)
                block.norm.eval()
    return layer


def _vihgnn(layer: ViHGNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    members = torch.diag_embed(inverse(h.sum(1))) @ h.mT @ x
    weighted = h * w[:, None]
    hyperedges = torch.diag_embed(inverse(weighted.sum(2))) @ weighted @ layer.edge_mlp(members)
    return layer.node_mlp((1 + layer.eps) * x + hyperedges)


CASES = [
    LayerCase("ViHGNNConv", lambda: used(ViHGNNConv(4, 8)), _vihgnn, every_operator=True),
    LayerCase(
        "ViHGNNConv with a full matrix",
        lambda: used(ViHGNNConv(4, 6, groups=1, norm=False, activation=nn.Tanh())),
        _vihgnn,
        every_operator=True,
    ),
]
