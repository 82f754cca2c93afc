"""The dense float64 definitions that operators and layers are held to."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from hypergraph import Hypergraph

F64 = torch.float64


def inverse(degree: Tensor, power: float) -> Tensor:
    counts = degree > torch.finfo(degree.dtype).tiny
    return torch.where(counts, degree, 1) ** -power * counts


def hgnn(z: Tensor, matrix: Tensor, weight: Tensor | None = None) -> Tensor:
    """D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 Z with explicit diagonal matrices."""
    if weight is None:
        weight = matrix.new_ones(matrix.shape[-1])
    node = torch.diag_embed(inverse((matrix * weight.unsqueeze(-2)).sum(-1), 0.5))
    edge = torch.diag_embed(weight * inverse(matrix.sum(-2), 1.0))
    return node @ matrix @ edge @ matrix.mT @ node @ z


def dense_incidence(index: Tensor, shape: tuple[int, int], values: Tensor | None) -> Tensor:
    """Add the pairs one by one."""
    matrix = torch.zeros(shape, dtype=F64)
    for pair in range(index.shape[1]):
        value = 1.0 if values is None else float(values[pair])
        matrix[index[0, pair], index[1, pair]] += value
    return matrix


@st.composite
def hypergraphs(draw: st.DrawFn) -> Hypergraph:
    """Small float64 hypergraphs with isolated vertices, empty and one-vertex hyperedges, repeated
    pairs, and zero weights of pairs and hyperedges."""
    nodes, edges = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, nodes - 1), st.integers(0, edges - 1))
    pairs = draw(st.lists(pair, max_size=20))
    value = st.sampled_from([0.0, 0.25, 1.0, 3.0])
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    weight = values = None
    if draw(st.booleans()):
        drawn = draw(st.lists(value, min_size=edges, max_size=edges))
        weight = torch.tensor(drawn, dtype=F64)
    if draw(st.booleans()):
        drawn = draw(st.lists(value, min_size=len(pairs), max_size=len(pairs)))
        values = torch.tensor(drawn, dtype=F64)
    return Hypergraph(index, nodes, edges, weight, values)


def neighbors(x: Tensor, k: int, metric: str, threshold: float | None) -> list[list[int]]:
    """Brute force in float64: the vertex itself, then by (distance, index)."""
    x = x.to(F64)
    if metric == "cosine":
        unit = x * inverse(x.square().sum(-1, keepdim=True), 0.5)
        distance = 1 - unit @ unit.T
    elif metric == "dot":
        distance = -(x @ x.T)
    else:
        distance = (x[:, None] - x[None]).square().sum(-1).sqrt()
    distance = (distance * 1e9).round() / 1e9  # float64 rounding is no difference
    distance.fill_diagonal_(-torch.inf)
    distance, order = torch.sort(distance, dim=-1, stable=True)
    keep = (distance <= (torch.inf if threshold is None else threshold))[:, :k]
    return [row[kept].tolist() for row, kept in zip(order[:, :k], keep, strict=True)]
