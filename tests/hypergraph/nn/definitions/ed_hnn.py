from __future__ import annotations

import torch
from torch import Tensor, nn

from hypergraph import EDHNNConv, EDHNNJumpLinkConv, EDHNNMeanDegConv, Incidence
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def _first_features(x: Tensor, channels: int) -> Tensor:
    """Features x0 made from x, of another width and other values."""
    x = torch.as_tensor(x)  # misuse tests pass arrays
    return torch.cat([x.cos(), x.sin()], -1)[..., :channels]


def aggregated(rows: Tensor, multiplicity: Tensor, reduce: str) -> Tensor:
    """Sum or mean over the last dimension of multiplicity [G, T, S]; rows [G, S, C]."""
    total = multiplicity @ rows
    return total if reduce == "sum" else total * inverse(multiplicity.sum(-1, keepdim=True))


def pairs_aggregated(
    function: nn.Module, x: Tensor, y: Tensor, multiplicity: Tensor, reduce: str
) -> Tensor:
    """The same over function([x_v || y_e]) of every pair; multiplicity [G, N, M]."""
    shape = multiplicity.shape
    rows = torch.cat(
        [
            x.unsqueeze(2).expand(*shape, x.shape[-1]),
            y.unsqueeze(1).expand(*shape, y.shape[-1]),
        ],
        -1,
    )
    total = (multiplicity.unsqueeze(-1) * function(rows)).sum(2)
    return total if reduce == "sum" else total * inverse(multiplicity.sum(-1, keepdim=True))


def _ed_hnn(layer: EDHNNConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    edges = aggregated(layer.w1(x), h.mT, layer.reduce)
    pairs = layer.w2 if not isinstance(layer.w2, nn.Identity) else _Second(x.shape[-1])
    z = pairs_aggregated(pairs, x, edges, h * w.unsqueeze(-2), layer.reduce)
    x0 = _first_features(x, layer.out_channels)
    return layer.w3((1 - layer.alpha) * z + layer.alpha * x0)


class _Second(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, rows: Tensor) -> Tensor:
        return rows[..., self.channels :]


def _jump_link(layer: EDHNNJumpLinkConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    edges = aggregated(x, h.mT, layer.reduce)
    smooth = aggregated(edges, h * w.unsqueeze(-2), layer.reduce)
    mixed = (1 - layer.alpha) * smooth + layer.alpha * _first_features(x, x.shape[-1])
    return (1 - layer.beta) * mixed + layer.beta * layer.w(mixed)


def _log(degree: Tensor) -> Tensor:
    counts = degree > torch.finfo(degree.dtype).tiny
    return torch.where(counts, degree, 1).log().unsqueeze(-1)


def _mean_deg(layer: EDHNNMeanDegConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    into = h * w.unsqueeze(-2)
    edges = torch.cat([aggregated(layer.w1(x), h.mT, "mean"), _log(h.sum(-2))], -1)
    z = pairs_aggregated(layer.w2, x, edges, into, "mean")
    x0 = _first_features(x, layer.first_channels)
    return layer.w3(torch.cat([z, x, x0, _log(into.sum(-1))], -1))


def _call(channels: int):
    def call(layer: nn.Module, x: Tensor, h: Incidence) -> Tensor:
        return layer(x, _first_features(x, channels), h)

    return call


CASES = [
    LayerCase("EDHNNConv", lambda: EDHNNConv(4, 5), _ed_hnn, call=_call(5)),
    LayerCase(
        "EDHNNConv 3 layers, bn, sum",
        lambda: EDHNNConv(4, 5, 1, 3, 1, alpha=0.2, reduce="sum", norm="bn"),
        _ed_hnn,
        thread_tolerance=1e-4,
        call=_call(5),
    ),
    LayerCase(
        "EDHNNConv of linear maps",
        lambda: EDHNNConv(4, 5, 1, 1, 1, reduce="sum", norm=None),
        _ed_hnn,
        call=_call(5),
        every_operator=True,
    ),
    LayerCase(
        "EDHNNConv of identities",
        lambda: EDHNNConv(4, 4, 0, 0, 1, alpha=0.0),
        _ed_hnn,
        call=_call(4),
        every_operator=True,
    ),
    LayerCase(
        "EDHNNJumpLinkConv",
        lambda: EDHNNJumpLinkConv(4, 4, beta=0.3),
        _jump_link,
        call=_call(4),
        every_operator=True,
    ),
    LayerCase(
        "EDHNNMeanDegConv",
        lambda: EDHNNMeanDegConv(4, 6, first_channels=3),
        _mean_deg,
        call=_call(3),
    ),
]
