from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from hypergraph import Hypergraph
from tests.hypergraph.oracle import F64, dense_incidence, hypergraphs


@given(hypergraphs())
def test_equals_the_matrix_summed_pair_by_pair(h: Hypergraph) -> None:
    shape = (h.num_nodes, h.num_edges)
    matrix = dense_incidence(h.hyperedge_index, shape, h.incidence_weight)
    assert_close(h.to_dense().to(F64), matrix)
    x, y = torch.randn(h.num_nodes, 3, dtype=F64), torch.randn(h.num_edges, 3, dtype=F64)
    assert_close(h.v2e(x), matrix.T @ x)
    assert_close(h.e2v(y), matrix @ y)
    assert_close(h.node_degree(F64), matrix @ h.weight(F64))
    assert_close(h.edge_degree(F64), matrix.sum(0))


def test_small_example_by_hand() -> None:
    h = Hypergraph.from_edges([[0, 1], [1], []], num_nodes=4)
    assert h.to_dense().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert h.node_degree().tolist() == [1, 2, 0, 0]
    assert h.edge_degree().tolist() == [2, 1, 0]
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    assert h.v2e(x).tolist() == [[3], [2], [0]]
    assert h.e2v(torch.tensor([[1.0], [2.0], [4.0]])).tolist() == [[1], [3], [0], [0]]


def test_a_repeated_pair_counts_twice() -> None:
    h = Hypergraph(torch.tensor([[0, 0, 1], [0, 0, 0]]))
    assert h.to_dense().tolist() == [[2], [1]]
    assert h.edge_degree().tolist() == [3]


def test_trailing_empty_hyperedges_and_isolated_vertices_stay() -> None:
    h = Hypergraph(torch.tensor([[0, 1], [0, 0]]), num_nodes=5, num_edges=4)
    assert h.v2e(torch.ones(5, 2)).shape == (4, 2)
    assert h.e2v(torch.ones(4, 2)).shape == (5, 2)
    assert h.edge_degree().tolist() == [2, 0, 0, 0]


def test_no_pairs_at_all() -> None:
    h = Hypergraph(torch.empty(2, 0, dtype=torch.long), num_nodes=3, num_edges=2)
    assert h.v2e(torch.ones(3, 2)).tolist() == [[0, 0], [0, 0]]
    assert h.node_degree().tolist() == [0, 0, 0]
    empty = Hypergraph.from_edges([])
    assert empty.shape == (0, 0)
    assert empty.v2e(torch.ones(0, 2)).shape == (0, 2)


def test_from_dense_and_back() -> None:
    matrix = torch.tensor([[0.0, 0.5], [1.0, 0.0], [0.0, 0.0]], dtype=F64)
    h = Hypergraph.from_dense(matrix, torch.tensor([2.0, 3.0], dtype=F64))
    assert_close(h.to_dense(), matrix)
    assert h.node_degree().tolist() == [1.5, 2.0, 0.0]
    binary = Hypergraph.from_dense(matrix > 0)
    assert binary.incidence_weight is None and binary.shape == (3, 2)


def test_batch_is_block_diagonal() -> None:
    one = Hypergraph.from_edges([[0, 1]], 3)
    two = Hypergraph.from_edges([[0], [1, 0]], 2, torch.tensor([2.0, 3.0]))
    both = Hypergraph.batch([one, two])
    assert_close(both.to_dense(), torch.block_diag(one.to_dense(), two.to_dense()))
    assert both.weight().tolist() == [1, 2, 3]


def test_members_come_in_the_given_order() -> None:
    index = torch.tensor([[2, 0, 2], [1, 0, 1]])
    node, edge, value = Hypergraph(index, incidence_weight=torch.tensor([1.0, 2.0, 3.0])).members()
    assert node.tolist() == [2, 0, 2] and edge.tolist() == [1, 0, 1]
    assert value is not None and value.tolist() == [1, 2, 3]


def test_gradients_of_pairs_and_weights() -> None:
    index = torch.tensor([[0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 0]])
    values = torch.rand(6, dtype=F64, requires_grad=True)
    weight = torch.rand(3, dtype=F64, requires_grad=True)
    x = torch.randn(4, 2, dtype=F64, requires_grad=True)

    def run(*args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = Hypergraph(index, 4, 3, args[1], args[0])
        return h.v2e(args[2]), h.e2v(h.v2e(args[2]).sin()), h.node_degree(), h.edge_degree()

    assert torch.autograd.gradcheck(run, (values, weight, x))
    assert torch.autograd.gradgradcheck(run, (values, weight, x))


PAIRS = torch.tensor([[0, 1, 2], [0, 0, 1]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(3, 10, dtype=torch.long),), ValueError, r"`hyperedge_index` .*\[3, 10\]"),
        ((torch.ones(2, 3),), TypeError, "`hyperedge_index` must hold integers"),
        (([[0], [0]],), TypeError, "`hyperedge_index` must be a torch.Tensor"),
        ((PAIRS, 2), ValueError, r"`hyperedge_index\[0\]` must lie in \[0, num_nodes=2\), got 2"),
        ((PAIRS, 3, 1), ValueError, r"`hyperedge_index\[1\]` .*num_edges=1\), got 1"),
        ((-PAIRS, 3, 2), ValueError, "got -2"),
        ((PAIRS, -1), ValueError, "`num_nodes` must be non-negative"),
        ((PAIRS, 3.0), TypeError, "`num_nodes` must be an int"),
        ((PAIRS, 3, 2, torch.ones(3)), ValueError, r"`hyperedge_weight` must have shape \[2\]"),
        ((PAIRS, 3, 2, torch.tensor([1.0, -1.0])), ValueError, "`hyperedge_weight` must be non"),
        ((PAIRS, 3, 2, torch.tensor([1.0, torch.nan])), ValueError, "`hyperedge_weight` must be"),
        ((PAIRS, 3, 2, torch.tensor([1.0, torch.inf])), ValueError, "`hyperedge_weight` .* finite"),
        ((PAIRS, 3, 2, torch.tensor([1, 1])), TypeError, "`hyperedge_weight` must be floating"),
        ((PAIRS, 3, 2, None, torch.ones(2)), ValueError, r"`incidence_weight` .*\[3\]"),
        ((PAIRS, 3, 2, None, -torch.ones(3)), ValueError, "`incidence_weight` must be non-neg"),
    ],
)
def test_bad_input_is_named(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Hypergraph(*arguments)


def test_bad_lists_and_matrices_are_named() -> None:
    with pytest.raises(ValueError, match="num_nodes=2"):
        Hypergraph.from_edges([[0, 2]], num_nodes=2)
    with pytest.raises(TypeError, match="`edges` must hold integer vertex numbers, got 1.7"):
        Hypergraph.from_edges([[0, 1.7]])
    with pytest.raises(ValueError, match="`matrix` must be non-negative"):
        Hypergraph.from_dense(-torch.ones(2, 2))
    with pytest.raises(ValueError, match="`matrix` must be a tensor"):
        Hypergraph.from_dense(torch.ones(3))
    with pytest.raises(ValueError, match="`hypergraphs` must hold at least one"):
        Hypergraph.batch([])


def test_directed_hyperedges_take_weights_and_may_be_none() -> None:
    weight = torch.tensor([2.0, 0.5])
    h = Hypergraph.from_directed_edges([([0], [1]), ([1], [])], hyperedge_weight=weight)
    assert h.hyperedge_weight is weight and h.num_edges == 2
    none = Hypergraph.from_directed_edges([], num_nodes=3)
    assert (none.num_nodes, none.num_edges) == (3, 0)


def test_no_group_at_all() -> None:
    h = Hypergraph.from_groups({}, num_nodes=3)
    assert (h.num_nodes, h.num_edges) == (3, 0)
