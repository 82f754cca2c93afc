"""Transforms, expansions and Laplacians on ten thousand hypergraphs at once, against dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    Hypergraph,
    clique_expansion,
    collate_padded,
    laplacian_matrix,
    laplacian_product,
    line_graph,
)
from tests.hypergraph.generated import F64, Suite, hits_every_class, inverse, mismatches

both = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def as_batch(suite: Suite) -> Hypergraph:
    """The union, knowing its samples."""
    return suite.hypergraph.replace(
        node_batch=suite.graph, edge_batch=suite.edge_graph, num_samples=suite.num_graphs
    )


def agree(suite: Suite, got: Tensor, expected: Tensor, graph: Tensor) -> None:
    wrong = mismatches(suite, got, expected, graph)
    assert wrong.numel() == 0, f"{wrong.numel()} graphs differ, for example {wrong[:5].tolist()}"


def padded(suite: Suite, h: Hypergraph) -> Tensor:
    """H of every sample [G, N, M'] in the order of its hyperedges."""
    assert h.node_batch is not None and h.edge_batch is not None
    counts = torch.bincount(h.edge_batch, minlength=suite.num_graphs)
    order = h.edge_batch.argsort(stable=True)
    place = torch.empty_like(order)
    first = counts.cumsum(0) - counts
    place[order] = torch.arange(h.num_edges) - first[h.edge_batch[order]]
    node, edge = h.hyperedge_index
    out = torch.zeros(*suite.matrix.shape[:2], int(counts.max()), dtype=F64)
    where = (suite.graph[node], suite.slot[node], place[edge])
    return out.index_put_(where, h._pair_values().to(F64), accumulate=True)


@both
def test_laplacians(weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        assert hits_every_class(suite), suite.classes
        h, matrix, weight = suite.hypergraph, suite.matrix, suite.weight
        x = torch.randn(h.num_nodes, 2, dtype=F64)
        node_degree = (matrix * weight[:, None]).sum(2, keepdim=True)
        w, per_edge = weight[:, :, None], inverse(matrix.sum(1))[:, :, None]
        root, dense = inverse(node_degree, 0.5), suite.pad(x)
        smooth = root * (matrix @ ((w * per_edge) * (matrix.mT @ (root * dense))))
        walk = inverse(node_degree) * (matrix @ (w * (per_edge * (matrix.mT @ dense))))
        for kind, expected in (
            ("hgnn", smooth),
            ("transition", walk),
            ("symmetric", dense - smooth),
            ("random_walk", dense - walk),
        ):
            got = laplacian_product(x, h, kind)  # type: ignore[arg-type]
            agree(suite, got, suite.unpad(expected), suite.graph)
            product = laplacian_matrix(h, kind, dtype=F64) @ x  # type: ignore[arg-type]
            agree(suite, product, suite.unpad(expected), suite.graph)


@both
def test_expansions(weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        h, matrix, weight = suite.hypergraph, suite.matrix, suite.weight
        here = matrix * (weight > 0)[:, None]
        x, y = torch.randn(h.num_nodes, 1, dtype=F64), torch.randn(h.num_edges, 1, dtype=F64)
        joined = here @ (weight[:, :, None] * here.mT)
        shared = ((here > 0).to(F64).mT @ (here > 0).to(F64)) * (1 - torch.eye(matrix.shape[2]))
        cases = (
            (clique_expansion(h, self_loops=True), joined, x, suite.pad, suite.unpad, suite.graph),
            (
                line_graph(h),
                shared,
                y,
                suite.pad_edges,
                suite.unpad_edges,
                suite.edge_graph,
            ),
        )
        for (index, values), dense, z, pad, unpad, graph in cases:
            got = torch.zeros_like(z).index_add_(0, index[0], values.to(F64)[:, None] * z[index[1]])
            agree(suite, got, unpad(dense @ pad(z)), graph)
            entries = torch.bincount(graph[index[0]], minlength=suite.num_graphs)
            structure = (dense if z is y else (here > 0).to(F64) @ (here > 0).to(F64).mT) > 0
            assert torch.equal(entries, structure.sum((1, 2)))


@both
def test_transforms_of_a_batch(weighted: bool, oracle_suites) -> None:
    for suite in oracle_suites(weighted):
        h, matrix = as_batch(suite), suite.matrix
        merged = padded(suite, h.coalesce())
        assert_close(merged, matrix[..., : merged.shape[2]])

        # Equal columns of one sample, and these only, are one class, led by their first.
        same = (matrix[:, :, :, None] == matrix[:, :, None, :]).all(1)  # [G, M, M]
        leader = same.int().argmax(2)[suite.edge_graph, suite.edge_slot]
        first_edge = torch.searchsorted(suite.edge_graph, suite.edge_graph)  # of each sample
        _, expected = torch.unique(first_edge + leader, return_inverse=True)
        assert torch.equal(h.edge_classes(), expected)

        # Self-loops come after the hyperedges of a sample, one for every vertex never alone.
        members = matrix > 0
        alone = (members & (members.sum(1, keepdim=True) == 1)).any(2)
        looped = h.add_self_loops()
        assert looped.edge_batch is not None
        missing = ~alone[suite.graph, suite.slot]
        assert looped.num_edges == h.num_edges + int(missing.sum())
        new = looped.edge_subgraph(torch.arange(h.num_edges, looped.num_edges))
        assert torch.equal(new.hyperedge_index[0], missing.nonzero().flatten())
        assert torch.equal(new.edge_batch, suite.graph[missing])

        kept = members.any(2)[suite.graph, suite.slot]
        got, nodes = h.remove_isolated_nodes()
        assert torch.equal(nodes, kept.nonzero().flatten())
        x = torch.randn(h.num_nodes, 1, dtype=F64)
        agree(suite, got.v2e(x[nodes]), h.v2e(x), suite.edge_graph)
        assert h.dual().dual().equal(h)


@both
def test_unbatch_and_pad(weighted: bool, oracle_suites) -> None:
    suite = next(iter(oracle_suites(weighted)))
    samples = as_batch(suite).unbatch()[:2000]
    batch = collate_padded(samples)
    nodes, edges = batch.hypergraph.shape[1:]
    assert torch.equal(batch.hypergraph.to_dense().to(F64), suite.matrix[:2000, :nodes, :edges])
    again = Hypergraph.batch(samples)
    count = again.num_nodes
    assert again.node_batch is not None
    assert torch.equal(again.node_batch, suite.graph[:count])
    x = torch.randn(suite.hypergraph.num_nodes, 1, dtype=F64)
    assert torch.equal(again.v2e(x[:count]), suite.hypergraph.v2e(x)[: again.num_edges])
