"""Padded batches: every sample comes out as on its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from hypergraph import HGNNConv, Hypergraph, collate_padded
from tests.hypergraph.oracle import F64, dense_incidence, hypergraphs

FORMS = pytest.mark.parametrize("form", ["dense", "table"])


@FORMS
@given(graphs=st.lists(hypergraphs(), min_size=1, max_size=4))
def test_every_sample_is_in_its_corner(form, graphs: list[Hypergraph]) -> None:
    features = [torch.randn(h.num_nodes, 3, dtype=F64) for h in graphs]
    batch = collate_padded(graphs, features, form)
    n, m = max(h.num_nodes for h in graphs), max(h.num_edges for h in graphs)
    assert batch.hypergraph.shape == (len(graphs), n, m)
    matrix = batch.hypergraph.to_dense().to(F64)
    weight = batch.hypergraph.weight(F64)
    assert batch.x is not None
    for b, h in enumerate(graphs):
        own = torch.zeros(n, m, dtype=F64)
        shape = (h.num_nodes, h.num_edges)
        own[: shape[0], : shape[1]] = dense_incidence(h.hyperedge_index, shape, h.incidence_weight)
        assert_close(matrix[b], own)
        assert_close(weight[b, : h.num_edges], h.weight(F64))
        assert batch.node_mask[b].tolist() == [i < h.num_nodes for i in range(n)]
        assert batch.edge_mask[b].tolist() == [i < h.num_edges for i in range(m)]
        assert torch.equal(batch.x[b, : h.num_nodes], features[b])
        assert not batch.x[b, h.num_nodes :].any()
    conv = HGNNConv(3, 2).double()
    padded = conv(batch.x, batch.hypergraph)
    for b, h in enumerate(graphs):
        assert_close(padded[b, : h.num_nodes], conv(features[b], h))
        reduced = batch.hypergraph.v2e(batch.x, "max")[b, : h.num_edges]
        assert_close(reduced, h.v2e(features[b], "max"))


@FORMS
def test_features_of_the_hypergraphs_and_empty_ones(form) -> None:
    one = Hypergraph.from_edges([[0, 1], [], []], 2)
    one = one.replace(node_features=torch.ones(2, 4), hyperedge_features=torch.full((3, 1), 5.0))
    none = Hypergraph(torch.empty(2, 0, dtype=torch.long), 0, 0)
    none = none.replace(node_features=torch.ones(0, 4), hyperedge_features=torch.ones(0, 1))
    batch = collate_padded([none, one], form=form)
    assert batch.x is not None and batch.x.shape == (2, 2, 4) and not batch.x[0].any()
    assert batch.hyperedge_features is not None
    assert batch.hyperedge_features[..., 0].tolist() == [[0, 0, 0], [5, 5, 5]]
    assert batch.edge_mask.tolist() == [[False] * 3, [True] * 3]
    assert batch.hypergraph.edge_degree().tolist() == [[0, 0, 0], [2, 0, 0]]
    bare = collate_padded([none.replace(node_features=None, hyperedge_features=None)], form=form)
    assert bare.x is None and bare.hyperedge_features is None
    assert bare.hypergraph.shape == (1, 0, 0)
    loader = torch.utils.data.DataLoader([one, none], batch_size=2, collate_fn=collate_padded)
    assert [tuple(item.x.shape) for item in loader] == [(2, 2, 4)]


@FORMS
def test_gradients_reach_values_weights_and_features(form) -> None:
    index = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]])
    leaves = [torch.rand(size, dtype=F64, requires_grad=True) for size in ((4,), (2,), (2, 2))]

    def run(values: Tensor, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        graphs = [Hypergraph(index, 2, 2, weight, values), Hypergraph.from_edges([[0, 2]])]
        batch = collate_padded(graphs, [x, x.new_ones(3, 2)], form)
        assert batch.x is not None
        return batch.hypergraph.v2e(batch.x), batch.hypergraph.node_degree()

    assert torch.autograd.gradcheck(run, leaves)


def test_bad_input_is_named() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    with pytest.raises(ValueError, match="`hypergraphs` must hold at least one"):
        collate_padded([])
    with pytest.raises(ValueError, match="`form` must be one of 'dense', 'table'"):
        collate_padded([h], form="list")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`features` must have one entry per hypergraph, 1, got 2"):
        collate_padded([h], [torch.ones(2, 1)] * 2)
    with pytest.raises(ValueError, match=r"`features` must have shape \[2, C\]"):
        collate_padded([h], [torch.ones(3, 1)])
    with pytest.raises(TypeError, match="`features` must be floating point"):
        collate_padded([h], [torch.ones(2, 1).long()])
    with pytest.raises(ValueError, match="`node_features` must have one width"):
        collate_padded([h, h], [torch.ones(2, 1), torch.ones(2, 3)])
