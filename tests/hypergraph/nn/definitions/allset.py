from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hypergraph import AllDeepSetsConv, AllSetTransformerConv
from hypergraph.nn.all_deep_sets import DeepSet
from hypergraph.nn.all_set_transformer import PMA
from tests.hypergraph.generated import inverse
from tests.hypergraph.nn.cases import LayerCase


def softmax_sum(multiplicity: Tensor, scores: Tensor, values: Tensor) -> Tensor:
    """sum over s of m_ts exp(score_s) values_s / sum over s of m_ts exp(score_s).

    multiplicity [G, T, S]; scores [G, S] or, for every pair, [G, T, S]; values [G, S, C].
    """
    scores = scores.unsqueeze(-2).expand_as(multiplicity) if scores.dim() == 2 else scores
    highest = scores.masked_fill(multiplicity <= 0, -torch.inf).amax(-1, keepdim=True)
    powers = (scores - highest.clamp_min(-1e300)).masked_fill(multiplicity <= 0, -torch.inf).exp()
    powers = multiplicity * powers
    return powers @ values * inverse(powers.sum(-1, keepdim=True))


def pma(layer: PMA, x: Tensor, multiplicity: Tensor) -> Tensor:
    """Eqs. 7 and 8 head by head, with the official code's LeakyReLU scores."""
    channels = layer.out_channels // layer.heads
    keys, values, out = layer.key(x), layer.value(x), []
    for head in range(layer.heads):
        part = slice(head * channels, (head + 1) * channels)
        scores = functional.leaky_relu(keys[..., part] @ layer.theta[head], 0.2)
        out.append(layer.theta[head] + softmax_sum(multiplicity, scores, values[..., part]))
    y = layer.norm0(torch.cat(out, -1))
    return layer.norm1(y + layer.rff(y).relu())


def _transformer(layer: AllSetTransformerConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    edges = pma(layer.v2e, x, h.mT).relu()
    return pma(layer.e2v, edges, h * w.unsqueeze(-2))


def _deep_set(layer: DeepSet, x: Tensor, multiplicity: Tensor, factor: Tensor) -> Tensor:
    """multiplicity and factor [G, T, S]."""
    out = (multiplicity * factor) @ layer.encoder(x).relu()
    if layer.reduce == "mean":
        out = out * inverse(multiplicity.sum(-1, keepdim=True))
    return layer.decoder(out).relu()


def _deep_sets(layer: AllDeepSetsConv, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    into = h * w.unsqueeze(-2)
    factor = torch.ones_like(h)
    if layer.v2e.degree_norm:
        factor = inverse(into.sum(-1, keepdim=True), 0.5) * inverse(h.sum(-2, keepdim=True), 0.5)
    edges = _deep_set(layer.v2e, x, h.mT, factor.mT)
    return _deep_set(layer.e2v, edges, into, factor)


CASES = [
    LayerCase("AllSetTransformerConv", lambda: AllSetTransformerConv(4, 6), _transformer),
    LayerCase(
        "AllSetTransformerConv 2 heads",
        lambda: AllSetTransformerConv(4, 6, hidden_channels=8, heads=2, num_layers=1),
        _transformer,
    ),
    LayerCase("AllDeepSetsConv", lambda: AllDeepSetsConv(4, 6), _deep_sets, every_operator=True),
    LayerCase(
        "AllDeepSetsConv sum, degree_norm",
        lambda: AllDeepSetsConv(4, 6, 5, 1, 3, reduce="sum", norm="bn", degree_norm=True),
        _deep_sets,
        thread_tolerance=1e-4,
        every_operator=True,
    ),
]
