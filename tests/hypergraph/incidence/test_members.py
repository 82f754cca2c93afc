"""Small cases by hand for the member protocol, and what operators look like."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hypergraph import (
    Concat,
    Dense,
    HGNNConv,
    Hypergraph,
    LowRank,
    NeighborTable,
    WeightedSum,
)

X = torch.tensor([[1.0, -1.0], [2.0, 5.0], [4.0, 0.5]])


def test_reductions_by_hand() -> None:
    h = Hypergraph.from_edges([[0, 1], [2], []], num_nodes=3)
    assert h.v2e(X, "sum").tolist() == [[3, 4], [4, 0.5], [0, 0]]
    assert h.v2e(X, "mean").tolist() == [[1.5, 2], [4, 0.5], [0, 0]]
    assert h.v2e(X, "max").tolist() == [[2, 5], [4, 0.5], [0, 0]]
    assert h.v2e(X, "min").tolist() == [[1, -1], [4, 0.5], [0, 0]]
    share = 1 / (1 + math.exp(1 - 2))  # of vertex 1 in the first channel
    assert_close(h.v2e(X, "softmax")[0, 0].item(), 1 * (1 - share) + 2 * share)


def test_softmax_of_one_score_per_pair() -> None:
    table = NeighborTable(torch.tensor([[0, 1, 2], [2, 2, 1]]), 3)
    scores = torch.tensor([0.0, math.log(2), math.log(5), 1.0, 1.0, 1.0])
    expected = torch.tensor([1 / 8, 2 / 8, 5 / 8, 1 / 3, 1 / 3, 1 / 3])
    assert_close(table.incidence_softmax(scores), expected)
    assert_close(table.incidence_softmax(scores[:, None]), expected[:, None])
    over_edges = table.incidence_softmax(torch.zeros(6), "edges")
    assert_close(over_edges, torch.tensor([1.0, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 2]))


def test_softmax_does_not_overflow_and_ignores_absent_pairs() -> None:
    index = torch.tensor([[0, 1, 2], [0, 0, 0]])
    h = Hypergraph(index, incidence_weight=torch.tensor([1.0, 3.0, 0.0]))
    scores = torch.tensor([1000.0, 1000.0, 1e30], requires_grad=True)
    alpha = h.incidence_softmax(scores)
    assert alpha.tolist() == [0.25, 0.75, 0]
    alpha[0].backward()
    assert scores.grad is not None
    assert_close(scores.grad, torch.tensor([0.1875, -0.1875, 0.0]))
    hidden = torch.tensor([-torch.inf, 0.0, 0.0])
    assert h.incidence_softmax(hidden).tolist() == [0, 1, 0]
    assert h.incidence_softmax(torch.full((3,), -torch.inf)).tolist() == [0, 0, 0]


def test_absent_pairs_are_no_extremes_and_ties_share_the_gradient() -> None:
    index = torch.tensor([[0, 1, 2, 2], [0, 0, 0, 1]])
    values = torch.tensor([1.0, 1.0, 0.0, 0.0])
    h = Hypergraph(index, 3, 3, incidence_weight=values)
    x = torch.tensor([[3.0], [3.0], [9.0]], requires_grad=True)
    out = h.v2e(x, "max")
    assert out.flatten().tolist() == [3, 0, 0]
    out.sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [0.5, 0.5, 0]


def test_weights_of_hyperedges_act_on_the_way_to_vertices() -> None:
    h = Hypergraph.from_edges([[0], [0, 1], [1]], hyperedge_weight=torch.tensor([1.0, 3.0, 0.0]))
    y = torch.tensor([[1.0], [2.0], [9.0]])
    assert h.e2v(y).flatten().tolist() == [3, 11]
    assert h.e2v(y, "mean").flatten().tolist() == [1.75, 2]
    assert h.e2v(y, "max").flatten().tolist() == [2, 2]
    assert h.e2v(y, "min").flatten().tolist() == [1, 2]
    messages = h.gather_edges(y)
    assert h.reduce_to_nodes(messages).flatten().tolist() == [7, 6]
    assert h.reduce_to_nodes(messages, weighted=False).flatten().tolist() == [3, 11]
    assert h.v2v(torch.ones(2, 1), "sum").flatten().tolist() == [7, 6]
    assert h.v2v(torch.ones(2, 1), "mean", "sum").flatten().tolist() == [4, 3]


def test_members_of_composed_operators() -> None:
    table = NeighborTable(torch.tensor([[0, 1], [2, 2]]), 3)
    dense = Dense(torch.tensor([[0.5], [0.0], [0.25]]))
    joined = Concat([table, dense], torch.tensor([1.0, 2.0, 3.0])).with_members()
    assert joined.members().node.tolist() == [0, 1, 2, 2, 0, 2]
    assert joined.members().hyperedge.tolist() == [0, 0, 1, 1, 2, 2]
    assert joined.weight().tolist() == [1, 2, 3]
    assert joined.to(torch.float64).members().value.dtype == torch.float64  # type: ignore[union-attr]
    assert repr(joined) == (
        "PairList(num_nodes=3, num_edges=3, nnz=6, weighted hyperedges, device='cpu')"
    )
    summed = WeightedSum([table, table], [0.5, torch.tensor(2.0)]).with_members()
    assert_close(summed.to_dense(), 2.5 * table.to_dense())
    assert table.with_members() is table
    with pytest.raises(TypeError, match="`hypergraph` must be an operator whose members"):
        Concat([table, LowRank(torch.ones(3, 1), torch.ones(2, 1))]).with_members()


def test_operators_say_what_they_are() -> None:
    index = torch.tensor([[[0, 1], [1, 2]], [[3, 1], [1, 2]]])
    weight = torch.ones(2)
    assert repr(NeighborTable(index, 4, hyperedge_weight=weight)) == (
        "NeighborTable(batch_size=2, num_nodes=4, num_edges=2, width=2, weighted hyperedges, "
        "device='cpu')"
    )
    assert repr(Dense(torch.ones(2, 3))) == "Dense(num_nodes=2, num_edges=3, device='cpu')"


def test_moving_an_operator() -> None:
    h = Dense(torch.ones(2, 3))
    assert h.to("meta").device.type == "meta"
    assert h.to(device="meta").device.type == "meta"
    assert h.to(torch.device("meta"), dtype=torch.float64).dtype == torch.float64
    assert h.to(dtype=torch.bfloat16).dtype == torch.bfloat16
    assert h.to().dtype == torch.float32


def test_gathered_features_of_batches() -> None:
    table = NeighborTable(torch.tensor([[[0, 1]], [[1, 1]]]), 2)
    x = torch.arange(4.0).view(2, 2, 1)
    assert table.gather_nodes(x).flatten().tolist() == [0, 1, 3, 3]
    assert table.gather_edges(torch.tensor([[[5.0]], [[6.0]]])).flatten().tolist() == [5, 5, 6, 6]
    single = NeighborTable(torch.tensor([[0, 1]]), 2)
    assert single.gather_nodes(x).tolist() == [[[0], [1]], [[2], [3]]]
    assert single.reduce_to_edges(single.gather_nodes(x)).tolist() == [[[1]], [[5]]]


def test_tables_say_what_they_are() -> None:
    index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    table = NeighborTable(index, 4, torch.ones(2, 3), mask)
    assert repr(table) == (
        "NeighborTable(num_nodes=4, num_edges=2, width=3, weighted members, masked, device='cpu')"
    )
    assert "masked" not in repr(NeighborTable(index)) and "weighted" not in repr(
        NeighborTable(index)
    )


@pytest.mark.parametrize("weights", [None, torch.tensor([[0.5, 1.0, 2.0], [3.0, 1.0, 4.0]])])
def test_masked_slots_are_absent_while_a_graph_is_traced(weights: torch.Tensor | None) -> None:
    torch._dynamo.reset()
    mask = torch.tensor([[True, False, True], [False, False, False]])
    table = NeighborTable(torch.tensor([[0, 1, 2], [1, 2, 0]]), 4, weights, mask)
    x = torch.tensor([[1.0], [50.0], [3.0], [90.0]])

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        edges = [table.v2e(x, r) for r in ("sum", "mean", "max", "min", "softmax")]  # type: ignore[arg-type]
        return [*edges, *(table.e2v(y, "max") for y in edges)]

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert_close(compiled(x), run(x))


def test_scores_of_samples_that_share_a_hypergraph() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]])
    scores = torch.randn(3, 4, 2)
    together = h.incidence_softmax(scores)
    assert_close(together, torch.stack([h.incidence_softmax(s) for s in scores]))
    table = NeighborTable(torch.tensor([[[0, 1]], [[1, 1]]]), 2)
    apart = table.incidence_softmax(torch.tensor([0.0, 0.0, 5.0, 5.0]))
    assert apart.tolist() == [0.5, 0.5, 0.5, 0.5]


def test_features_set_the_precision_of_weights_and_degrees() -> None:
    h = Hypergraph(torch.tensor([[0, 1], [0, 0]]), hyperedge_weight=torch.ones(1).double())
    x = torch.ones(2, 1)
    assert h.v2v(x, "sum").dtype == torch.float32
    assert h.v2v(x.double(), "sum").dtype == torch.float64
    assert h.node_degree().dtype == torch.float32
    assert h.node_degree(torch.float64).dtype == torch.float64
    assert h.weight(torch.float64).dtype == torch.float64


def test_refusals_say_what_was_expected() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2]])
    low = LowRank(torch.ones(3, 1), torch.ones(2, 1))
    expected = (
        "`hypergraph` must be an operator whose members can be listed, because this layer or "
        "reduction needs every (vertex, hyperedge) pair, got LowRank; use a Hypergraph or "
        "NeighborTable, a reduction 'sum' or 'mean', or a layer such as HGNNConv"
    )
    with pytest.raises(TypeError) as error:
        low.v2e(torch.ones(3, 1), "max")
    assert str(error.value) == expected
    cases = [
        (
            lambda: h.gather_edges(torch.ones(3, 1)),
            "`y` must have shape [num_edges=2, C] (or [B, ...] to share the hypergraph), "
            "got [3, 1]",
        ),
        (
            lambda: h.gather_nodes(torch.ones(2, 1)),
            "`x` must have shape [num_nodes=3, C] (or [B, ...] to share the hypergraph), "
            "got [2, 1]",
        ),
        (
            lambda: h.incidence_softmax(torch.ones(3, 2)),
            "`scores` must have shape [nnz=4, C] (or [B, ...] to share the hypergraph), one row "
            "per pair, got [3, 2]",
        ),
        (
            lambda: NeighborTable(torch.tensor([[[0, 1]]]), 2).reduce_to_nodes(torch.ones(3, 2)),
            "`messages` must have shape [nnz=2, C], one row per pair, got [3, 2]",
        ),
        (
            lambda: NeighborTable(torch.tensor([[[0, 1]]]), 2).e2v(torch.ones(3, 2)),
            "`y` must have shape [1, num_edges=1, C], got [3, 2]",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError) as refusal:
            call()
        assert str(refusal.value) == message


def test_means_of_messages_are_those_of_features() -> None:
    index = torch.tensor([[0, 1, 1, 2, 2], [0, 0, 0, 0, 1]])
    values = torch.tensor([1.0, 2.0, 0.5, 0.0, 4.0], dtype=torch.float64)
    h = Hypergraph(index, 4, 3, torch.tensor([2.0, 0.5, 1.0]).double(), values)
    for weighted in (h, Hypergraph(index, 4, 3)):
        x, y = torch.randn(2, 4, 3).double(), torch.randn(2, 3, 3).double()
        to_edges = weighted.reduce_to_edges(weighted.gather_nodes(x), "mean")
        assert_close(to_edges, weighted.v2e(x, "mean"))
        to_nodes = weighted.reduce_to_nodes(weighted.gather_edges(y), "mean")
        assert_close(to_nodes, weighted.e2v(y, "mean"))
    by_hand = (1.0 * x[:, 0] + 2.5 * x[:, 1]) / 3.5
    assert_close(h.v2e(x, "mean")[:, 0], by_hand)
    plain = Hypergraph(index, 4, 3)
    unweighted = h.reduce_to_edges(h.gather_nodes(x), "mean", weighted=False)
    assert_close(unweighted, plain.v2e(x, "mean"))


def test_softmax_of_scores_far_apart() -> None:
    h = Hypergraph.from_edges([[0, 1, 2]])
    assert h.incidence_softmax(torch.tensor([-1000.0, 1000.0, 999.0])).tolist() == pytest.approx(
        [0, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]
    )


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "softmax"])
def test_values_and_features_of_different_precision(reduce: str) -> None:
    index = torch.tensor([[[0, 1, 2], [2, 2, 0]], [[1, 1, 0], [0, 1, 2]]])
    values = torch.rand(2, 2, 3, dtype=torch.float64)
    mask = torch.rand(2, 2, 3) > 0.2
    weight = torch.rand(2, 2, dtype=torch.float64)
    table = NeighborTable(index, 3, values, mask, weight)
    narrow = table.to(torch.float32)
    x, y = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    assert table.v2e(x, reduce).dtype == torch.float64  # type: ignore[arg-type]
    for got, expected in [
        (table.v2e(x, reduce), table.v2e(x.double(), reduce)),  # type: ignore[arg-type]
        (narrow.v2e(x.double(), reduce), table.v2e(x.double(), reduce)),  # type: ignore[arg-type]
        (narrow.e2v(y.double(), reduce), table.e2v(y.double(), reduce)),  # type: ignore[arg-type]
    ]:
        assert got.dtype == torch.float64
        assert_close(got, expected, rtol=1e-6, atol=1e-6)
    bare = NeighborTable(index, 3, None, mask)
    assert bare.v2e(x, reduce).dtype == torch.float32  # type: ignore[arg-type]
    assert bare.v2e(x.double(), reduce).dtype == torch.float64  # type: ignore[arg-type]


def test_sizes_of_tables() -> None:
    assert NeighborTable(torch.tensor([[0, 3]])).num_nodes == 4
    empty = torch.empty(0, 2, dtype=torch.long)
    assert NeighborTable(empty).num_nodes == 0
    assert NeighborTable(empty, 0).num_nodes == 0
    for wrong in (True, False, 2.0, -1, "3"):
        with pytest.raises((TypeError, ValueError), match="`num_nodes` must be"):
            NeighborTable(torch.tensor([[0, 1]]), wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`weights` must be a torch.Tensor, got list"):
        NeighborTable(torch.tensor([[0, 1]]), 2, [[1.0, 1.0]])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`mask` must be bool, got torch.float32"):
        NeighborTable(torch.tensor([[0, 1]]), 2, None, torch.ones(1, 2))
    with pytest.raises(TypeError, match="`mask` must be bool, got list"):
        NeighborTable(torch.tensor([[0, 1]]), 2, None, [[True, True]])  # type: ignore[arg-type]


def test_dense_matrices_of_tables_and_their_dtype() -> None:
    index = torch.tensor([[[0], [0]], [[0], [0]]])
    one_vertex = NeighborTable(index, 1)
    assert one_vertex.to_dense().tolist() == [[[1, 1]], [[1, 1]]]
    assert one_vertex.to_dense().dtype == torch.get_default_dtype()
    assert NeighborTable(index, 1, torch.ones(2, 2, 1).double()).to_dense().dtype == torch.float64


def test_features_must_fit_a_batch_of_hypergraphs() -> None:
    table = NeighborTable(torch.tensor([[[0, 1]], [[1, 1]], [[0, 0]]]), 3)
    layer = HGNNConv(2, 2)
    assert layer(torch.ones(3, 3, 2), table).shape == (3, 3, 2)
    for wrong in (torch.ones(3, 2), torch.ones(2, 3, 2)):
        with pytest.raises(ValueError) as refusal:
            layer(wrong, table)
        assert str(refusal.value) == (
            "`x` must have shape [3, 3, C] to go with a batch of 3 hypergraphs, "
            f"got {list(wrong.shape)}"
        )
    with pytest.raises(ValueError) as refusal:
        layer(torch.ones(3, 3, 2), table.to("meta"))
    assert str(refusal.value) == (
        "`hypergraph` must be on the device of `x`, cpu, got meta; move it with .to(x.device)"
    )
