"""Every operator and primitive against dense matrices, on thousands of generated hypergraphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hypergraph import (
    BlockDiagonal,
    Concat,
    Dense,
    Hypergraph,
    Incidence,
    LowRank,
    NeighborTable,
    Streamed,
    WeightedSum,
)
from tests.hypergraph.generated import F64, Suite, hits_every_class, inverse, mismatches

TINY = torch.finfo(F64).tiny


def _table(suite: Suite, matrix: Tensor) -> NeighborTable:
    """All vertices in every slot order; the mask leaves out where the matrix is 0."""
    graphs, nodes, edges = matrix.shape
    index = torch.arange(nodes).expand(graphs, edges, nodes)
    return NeighborTable(index, nodes, matrix.mT.contiguous(), matrix.mT > 0, suite.weight)


def _concat(suite: Suite, matrix: Tensor) -> Concat:
    first = _table(suite, matrix).with_hyperedge_weight(None)
    parts = [_columns(first, 3), Dense(matrix[..., 3:])]
    return Concat(parts, suite.weight)


def _columns(table: NeighborTable, count: int) -> NeighborTable:
    assert table.weights is not None and table.mask is not None
    index, weights, mask = (t[:, :count] for t in (table.index, table.weights, table.mask))
    return NeighborTable(index, table.num_nodes, weights, mask)


def _sum(suite: Suite, matrix: Tensor) -> WeightedSum:
    parts = [_table(suite, matrix).with_hyperedge_weight(None), Dense(matrix)]
    shares = torch.full((matrix.shape[0],), 0.75, dtype=F64)
    return WeightedSum(parts, [0.25, shares], suite.weight)


def _identity(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[2], dtype=F64).expand(matrix.shape[0], -1, -1)


# Operators over the padded matrices, one hypergraph per sample.
BATCHED: dict[str, Callable[[Suite, Tensor], Incidence]] = {
    "dense": lambda s, m: Dense(m, s.weight),
    "table": _table,
    "low rank": lambda s, m: LowRank(m, _identity(m), s.weight),
    "streamed": lambda s, m: Streamed(-m, _identity(m), "abs", hyperedge_weight=s.weight),
    "concat": _concat,
    "weighted sum": _sum,
}
WITH_MEMBERS = ["dense", "table", "concat", "weighted sum"]


def dense_reduce(x: Tensor, weights: Tensor, reduce: str) -> Tensor:
    """x [G, N, C] reduced along N by weights [G, N, M] -> [G, M, C], pair by pair."""
    pairs = x[:, :, None, :].expand(-1, -1, weights.shape[2], -1)  # [G, N, M, C]
    weights = weights[..., None]
    if reduce == "sum":
        return (weights * pairs).sum(1)
    if reduce == "mean":
        return (weights * pairs).sum(1) * inverse(weights.sum(1))
    if reduce == "softmax":
        return (dense_softmax(pairs, weights) * pairs).sum(1)
    present = weights > 0
    if reduce == "max":
        best = torch.where(present, pairs, -torch.inf).amax(1)
    else:
        best = torch.where(present, pairs, torch.inf).amin(1)
    return torch.where(present.any(1), best, 0)


def dense_softmax(scores: Tensor, weights: Tensor, axis: int = 1) -> Tensor:
    """weights exp(scores) over its sum along an axis of [G, N, M, K]."""
    powers = weights * scores.exp()
    return powers * inverse(powers.sum(axis, keepdim=True))


def _pad_all(suite: Suite) -> tuple[Tensor, Tensor]:
    torch.manual_seed(suite.hypergraph.num_nodes)
    x = torch.randn(suite.hypergraph.num_nodes, 3, dtype=F64)
    y = torch.randn(suite.hypergraph.num_edges, 3, dtype=F64)
    return x, y


def _same(suite: Suite, got: Tensor, expected: Tensor, graph: Tensor) -> None:
    wrong = mismatches(suite, got, expected, graph)
    assert wrong.numel() == 0, wrong[:5]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_sparse_hypergraphs(weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        assert hits_every_class(suite), suite.classes
        h, matrix, weight = suite.hypergraph, suite.matrix, suite.weight
        x, y = _pad_all(suite)
        both = matrix * weight[:, None, :]
        node_degree, edge_degree = both.sum(2), matrix.sum(1)
        _same(
            suite,
            h.node_degree(F64)[:, None],
            suite.unpad(node_degree[..., None]),
            suite.graph,
        )
        degree = suite.unpad_edges(edge_degree[..., None])
        _same(suite, h.edge_degree(F64)[:, None], degree, suite.edge_graph)
        for reduce in ("sum", "mean", "max", "min", "softmax"):
            edges = dense_reduce(suite.pad(x), matrix, reduce)
            _same(suite, h.v2e(x, reduce), suite.unpad_edges(edges), suite.edge_graph)
            second = matrix if reduce == "sum" else both
            nodes = dense_reduce(suite.pad_edges(y), second.mT, reduce)
            _same(suite, h.e2v(y, reduce), suite.unpad(nodes), suite.graph)
            across = dense_reduce(edges, both.mT, reduce)
            _same(suite, h.v2v(x, reduce), suite.unpad(across), suite.graph)
        across = dense_reduce(dense_reduce(suite.pad(x), matrix, "max"), both.mT, "sum")
        _same(suite, h.v2v(x, "max", "sum"), suite.unpad(across), suite.graph)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_attention(weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        h, matrix = suite.hypergraph, suite.matrix[..., None]
        x, y = _pad_all(suite)
        scores = (h.gather_nodes(x) * h.gather_edges(y)).cos() * 3
        dense = (suite.pad(x)[:, :, None, :] * suite.pad_edges(y)[:, None, :, :]).cos() * 3
        alpha = dense_softmax(dense, matrix, 1)
        got = h.reduce_to_edges(h.incidence_softmax(scores) * h.gather_nodes(x), weighted=False)
        expected = (alpha * suite.pad(x)[:, :, None, :]).sum(1)
        _same(suite, got, suite.unpad_edges(expected), suite.edge_graph)
        alpha = dense_softmax(dense, matrix * suite.weight[:, None, :, None], 2)
        messages = h.incidence_softmax(scores, "edges") * h.gather_edges(y)
        got = h.reduce_to_nodes(messages, weighted=False)
        expected = (alpha * suite.pad_edges(y)[:, None, :, :]).sum(2)
        _same(suite, got, suite.unpad(expected), suite.graph)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_batched_operators(name: str, weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        # Repeated pairs make values of 2, which is what a matrix can hold of them.
        matrix, weight = suite.matrix, suite.weight
        h = BATCHED[name](suite, matrix)
        x, y = (
            pad(t) for pad, t in zip((suite.pad, suite.pad_edges), _pad_all(suite), strict=True)
        )
        both = matrix * weight[:, None, :]
        graph = torch.arange(suite.num_graphs)

        def same(
            got: Tensor, expected: Tensor, graph: Tensor = graph, suite: Suite = suite
        ) -> None:
            rows = graph.repeat_interleave(got.shape[1])
            _same(suite, got.flatten(0, 1), expected.flatten(0, 1), rows)

        same(h.node_degree(F64)[..., None], both.sum(2)[..., None])
        same(h.edge_degree(F64)[..., None], matrix.sum(1)[..., None])
        same(h.to_dense(), matrix)
        reduces = ["sum", "mean"]
        if name in WITH_MEMBERS:
            same(h.with_members().to_dense(), matrix)
            reduces += ["max", "min", "softmax"]
        for reduce in reduces:
            edges = dense_reduce(x, matrix, reduce)
            same(h.v2e(x, reduce), edges)
            second = matrix if reduce == "sum" else both
            same(h.e2v(y, reduce), dense_reduce(y, second.mT, reduce))
            same(h.v2v(x, reduce), dense_reduce(edges, both.mT, reduce))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_block_diagonals(weighted: bool, oracle_suites) -> None:
    """All hypergraphs as blocks over one shuffled list of vertices."""
    size = 10  # hypergraphs per block: a block costs a Python call
    for suite in oracle_suites(weighted):
        count = suite.num_graphs // size
        assert count * size == suite.num_graphs
        nodes = torch.bincount(suite.graph, minlength=suite.num_graphs).tolist()
        blocks: list[Incidence] = []
        for number in range(count):
            part = range(number * size, (number + 1) * size)
            matrix = torch.block_diag(*(suite.matrix[g, : nodes[g]] for g in part))
            weight = suite.weight[part.start : part.stop].flatten()
            sparse = Hypergraph.from_dense(matrix, weight)
            blocks.append(Dense(matrix, weight) if number % 2 else sparse)
        batch = suite.graph // size
        order = torch.randperm(batch.shape[0])
        h = BlockDiagonal(blocks, batch[order])
        # The blocks list their vertices in the order in which they appear in the batch vector.
        place = batch[order].argsort(stable=True)
        x = _pad_all(suite)[0]
        mixed = torch.empty_like(x)
        mixed[place] = x
        both = suite.matrix * suite.weight[:, None, :]
        rows = torch.arange(suite.num_graphs).repeat_interleave(both.shape[2])
        for reduce in ("sum", "mean", "max", "softmax"):
            edges = dense_reduce(suite.pad(x), suite.matrix, reduce)
            _same(suite, h.v2e(mixed, reduce), edges.flatten(0, 1), rows)
            got = h.v2v(mixed, reduce)[place]
            _same(suite, got, suite.unpad(dense_reduce(edges, both.mT, reduce)), suite.graph)
