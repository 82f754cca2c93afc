from __future__ import annotations

import torch
from torch import Tensor, nn

from hypergraph import HMPNNConv, Incidence
from tests.hypergraph.nn.cases import LayerCase
from tests.hypergraph.nn.definitions.ed_hnn import aggregated


def hmpnn(layer: HMPNNConv, x: Tensor, y: Tensor, h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    received = aggregated(layer.theta_v(x).sigmoid(), h.mT, layer.reduce)
    messages = layer.theta_e(torch.cat([y, received], -1)).sigmoid()
    heard = aggregated(messages, h * w.unsqueeze(-2), layer.reduce)
    return (layer.norm_v(x) + heard).sigmoid(), (layer.norm_e(y) + received).sigmoid()


def _of_vertices(layer: HMPNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    return hmpnn(layer, x, aggregated(x, h.mT, "mean"), h, w)[0]


def _without_features(layer: HMPNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    nothing = x.new_zeros(h.shape[0], h.shape[2], layer.edge_channels)
    return hmpnn(layer, x, nothing, h, w)[0]


def _call(layer: nn.Module, x: Tensor, h: Incidence) -> Tensor:
    return layer(x, h, h.v2e(x, "mean") if isinstance(h, Incidence) else None)[0]


def trained(*arguments: object, **options: object) -> HMPNNConv:
    """A layer whose batch norms have seen data."""
    layer = HMPNNConv(*arguments, **options)  # type: ignore[arg-type]
    for norm in (layer.norm_v, layer.norm_e):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return layer


CASES = [
    LayerCase("HMPNNConv", lambda: trained(4), _of_vertices, call=_call, every_operator=True),
    LayerCase(
        "HMPNNConv mean, no hyperedge features",
        lambda: trained(4, 3, reduce="mean"),
        _without_features,
        call=lambda layer, x, h: layer(x, h)[0],
        every_operator=True,
    ),
]
