"""PyTorch Geometric: Data, HyperGraphData, HeteroData, batches, sampled batches."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hypergraph import HGNNConv, Hypergraph
from hypergraph.io import from_hetero, from_pyg, pyg, to_hetero, to_hypergraph_data, to_pyg
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

pytest.importorskip("torch_geometric", reason="skipped: torch_geometric not installed")

FIELDS = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
)


@given(hypergraphs(FIELDS))
def test_a_hypergraph_comes_back(h: Hypergraph) -> None:
    assert_same(from_pyg(to_pyg(h)), h)
    assert_same(from_hetero(to_hetero(h)), h)
    assert_same(from_pyg(to_hypergraph_data(h, lossy=True)), _seen_by_pyg(h))


def _seen_by_pyg(h: Hypergraph) -> Hypergraph:
    """HyperGraphData has no number of hyperedges: only what a field or a pair tells."""
    told = (h.hyperedge_features, h.hyperedge_weight, h.hyperedge_group)
    if any(field is not None for field in told):
        return h
    edges = int(h.hyperedge_index[1].max()) + 1 if h.nnz else 0
    return h.replace(num_edges=edges)


@given(st.lists(hypergraphs(("hyperedge_group",)), min_size=1, max_size=4), st.booleans())
def test_their_batch_is_ours(hypergraphs: list[Hypergraph], grouped: bool) -> None:
    """Trailing empty hyperedges and isolated vertices included, which their classes lose."""
    from torch_geometric.data import Batch

    hs = [_grouped(h) if grouped else h.replace(hyperedge_group=None) for h in hypergraphs]
    batch = Batch.from_data_list([to_pyg(h) for h in hs])
    expected = Hypergraph.batch(hs)
    assert_same(from_pyg(batch), expected)
    for got, h in zip(from_pyg(batch).unbatch(), hs, strict=True):
        assert got.equal(h)
    # A batch of batches, and what a loader makes.
    twice = Batch.from_data_list([to_pyg(expected), to_pyg(expected)])
    assert_same(from_pyg(twice), Hypergraph.batch([*hs, *hs]))


def _grouped(h: Hypergraph) -> Hypergraph:
    if h.hyperedge_group is not None:
        return h
    zeros = torch.zeros(h.num_edges, dtype=torch.long)
    return h.replace(hyperedge_group=zeros, group_names=("paper", "venue", "ÿ x"))


def test_a_loader_with_every_field_and_labels() -> None:
    from torch_geometric.loader import DataLoader

    hs = [everything(), everything().drop_edges(torch.tensor([0])), everything()]
    data = [to_pyg(h) for h in hs]
    for number, item in enumerate(data):
        item.y = torch.tensor([number])
    (batch,) = DataLoader(data, batch_size=3)
    assert batch.y.tolist() == [0, 1, 2]
    assert from_pyg(batch).equal(Hypergraph.batch(hs))
    data[1].group_names = ["other", "names", "here"]
    (batch,) = DataLoader(data, batch_size=3)
    with pytest.raises(ValueError, match="same `group_names`"):
        from_pyg(batch)


def test_a_data_object_is_shared_copied_and_pickled() -> None:
    h = everything()
    data = to_pyg(h)
    assert data.x is h.node_features and data.hyperedge_index is h.hyperedge_index
    assert_same(from_pyg(copy.deepcopy(data)), h)
    content = pickle.dumps(data)
    assert_same(from_pyg(pickle.loads(content)), h)
    # As in a process that has not made the class yet.
    pyg._data_class.cache_clear()
    assert_same(from_pyg(pickle.loads(content)), h)


def test_their_convolution_runs_on_it() -> None:
    """Their formula is D^-1 H B^-1 H^T X; the weights act in D only (their issue 6918)."""
    from torch_geometric.nn import HypergraphConv

    h = Hypergraph.from_edges([[0, 1, 2], [2, 3], []], num_nodes=5)
    h = h.replace(node_features=torch.randn(5, 4))
    data = to_pyg(h)
    conv = HypergraphConv(4, 4, bias=False)
    with torch.no_grad():
        out = conv(data.x, data.hyperedge_index, num_edges=data.num_hyperedges)
        mixed = h.v2v(conv.lin(h.node_features), "mean")
    torch.testing.assert_close(out, mixed)


def test_what_their_class_counts_wrong_is_refused() -> None:
    """Reproduced in 2.8.1: counts come from the largest numbers in the pairs."""
    trailing = Hypergraph.from_edges([[0, 1], []], num_nodes=3)
    with pytest.raises(ValueError, match="trailing empty hyperedges"):
        to_hypergraph_data(trailing)
    assert int(to_hypergraph_data(trailing, lossy=True).num_edges) == 1
    square = Hypergraph.from_edges([[0], [1], [0, 1]], num_nodes=3)
    with pytest.raises(ValueError, match="trailing isolated vertices"):
        to_hypergraph_data(square)
    wrong = to_hypergraph_data(square, lossy=True)
    assert int(wrong.num_nodes) == 2 and square.num_nodes == 3
    assert from_pyg(wrong).num_nodes == 3  # the number is stored all the same
    good = to_hypergraph_data(Hypergraph.from_edges([[0, 1, 2], [1, 2]]))
    assert good.validate() and int(good.num_edges) == 2
    grouped = everything().edge_subgraph(torch.tensor([3, 0, 1]))  # the last one has members
    batched = Hypergraph.batch([everything(), grouped])
    assert_same(from_pyg(to_hypergraph_data(batched)), batched)
    assert good.subgraph(torch.tensor([0, 1, 2])).edge_index.shape == (2, 5)


def test_data_of_others() -> None:
    from torch_geometric.data import Batch, Data
    from torch_geometric.data.hypergraph_data import HyperGraphData

    index = torch.tensor([[0, 1, 2], [0, 0, 2]])
    h = from_pyg(Data(x=torch.ones(5), hyperedge_index=index, y=torch.zeros(5)))
    assert h.shape == (5, 3) and h.node_features is not None
    assert h.node_features.shape == (5, 1)
    assert from_pyg(Data(hyperedge_index=index, hyperedge_weight=torch.ones(4))).shape == (3, 4)
    theirs = HyperGraphData(torch.ones(4, 2), index, edge_attr=torch.ones(3, 7))
    h = from_pyg(theirs)
    assert h.shape == (4, 3) and h.hyperedge_features is not None
    # Their batch does not say which hyperedges are whose.
    h = from_pyg(Batch.from_data_list([theirs, theirs]))
    assert h.num_samples is None
    assert h.hyperedge_index[1].tolist() == [0, 0, 2, 3, 3, 5]

    with pytest.raises(ValueError, match="`hyperedge_index`"):
        from_pyg(Data(edge_index=index))
    with pytest.raises(TypeError, match="from_hetero"):
        from_pyg(to_hetero(everything()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="from_pyg"):
        from_hetero(to_pyg(everything()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_nodes"):
        from_pyg(Data(hyperedge_index=index, num_nodes=2))
    for make in (to_pyg, to_hetero, to_hypergraph_data):
        with pytest.raises(TypeError, match="`hypergraph`"):
            make([[0, 1]])  # type: ignore[operator]


def test_hetero_data_of_others() -> None:
    from torch_geometric.data import HeteroData

    data = HeteroData()
    data["author"].x = torch.randn(3, 2)
    data["paper"].num_nodes = 2
    data["paper", "by", "author"].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    data["author", "knows", "author"].edge_index = torch.zeros(2, 1, dtype=torch.long)
    h = from_hetero(data, "author", "paper")
    assert h.to_dense().tolist() == [[1, 0], [1, 1], [0, 0]]
    assert h.node_features is data["author"].x
    # The reverse relation, in any order, says the same.
    data["author", "of", "paper"].edge_index = torch.tensor([[1, 0, 1], [0, 0, 1]])
    assert from_hetero(data, "author", "paper").equal(h)
    data["author", "of", "paper"].edge_index = torch.tensor([[1, 0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="same pairs"):
        from_hetero(data, "author", "paper")
    data["author", "read", "paper"].edge_index = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="one relation"):
        from_hetero(data, "author", "paper")
    with pytest.raises(ValueError, match="`hyperedge_type` must be one of"):
        from_hetero(data, "author", "venue")
    with pytest.raises(ValueError, match="`hyperedge_type` must differ"):
        to_hetero(everything(), "node", "node")
    data = to_hetero(everything(), "author", "paper")
    assert data.validate() and data.node_types == ["author", "paper"]
    assert_same(from_hetero(data, "author", "paper"), everything())


def _drawn_apart(h: Hypergraph, keep: torch.Tensor, keep_back: torch.Tensor) -> Any:
    """What a sampler gives: either relation with some of its pairs, and their numbers."""
    data = to_hetero(h)
    for store, kept in zip(data.edge_stores, (keep, keep_back), strict=True):
        store.e_id = kept
        for name in ("edge_index", "edge_weight", "direction"):
            if name in store:
                store[name] = store[name][..., kept]
    return data


def test_pairs_drawn_in_one_direction_only_are_pairs() -> None:
    h = everything()
    got = from_hetero(_drawn_apart(h, torch.tensor([5, 0, 2]), torch.tensor([2, 4])))
    kept = torch.tensor([5, 0, 2, 4])
    assert h.incidence_weight is not None and h.direction is not None
    expected = h.replace(
        hyperedge_index=h.hyperedge_index[:, kept],
        incidence_weight=h.incidence_weight[kept],
        direction=h.direction[kept],
    )
    assert_same(got, expected)
    plain = Hypergraph.from_edges([[0, 1, 2], [2, 3]])
    got = from_hetero(_drawn_apart(plain, torch.tensor([0]), torch.tensor([0, 4])))
    assert got.hyperedge_index.tolist() == [[0, 3], [0, 1]]
    half = _drawn_apart(h, torch.tensor([5, 0, 2]), torch.tensor([2, 4]))
    del half["hyperedge", "contains", "node"].edge_weight
    with pytest.raises(ValueError, match="in both relations or in neither"):
        from_hetero(half)


def test_neighbor_loader_samples_and_full_batches_are_exact() -> None:
    from torch_geometric.loader import NeighborLoader
    from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE

    if not (WITH_PYG_LIB or WITH_TORCH_SPARSE):
        pytest.skip("skipped: pyg-lib or torch-sparse not installed")
    index = torch.stack([torch.randint(0, 40, (150,)), torch.randint(0, 25, (150,))])
    h = Hypergraph(index, 40, 25, torch.rand(25), torch.rand(150), node_features=torch.randn(40, 8))
    conv = HGNNConv(8, 3)
    assert h.node_features is not None
    with torch.no_grad():
        expected = conv(h.node_features, h)
    seeds = torch.arange(0, 40, 3)
    # All members of all hyperedges, twice: the degrees at the rim are whole as well.
    loader = NeighborLoader(
        to_hetero(h), num_neighbors=[-1] * 4, batch_size=5, input_nodes=("node", seeds)
    )
    seen = 0
    for batch in loader:
        part = from_hetero(batch)
        chosen = batch["node"].batch_size
        with torch.no_grad():
            out = conv(batch["node"].x, part)[:chosen]
        torch.testing.assert_close(out, expected[batch["node"].n_id[:chosen]])
        seen += chosen
    assert seen == len(seeds)
    # With few neighbours the pairs are some of the whole's, weights included.
    loader = NeighborLoader(
        to_hetero(h), num_neighbors=[2, 2], batch_size=4, input_nodes=("node", seeds)
    )
    dense = h.to_dense()
    for batch in loader:
        part = from_hetero(batch)
        assert part.incidence_weight is not None and h.incidence_weight is not None
        nodes, edges = batch["node"].n_id, batch["hyperedge"].n_id
        assert bool((part.to_dense() <= dense[nodes][:, edges] + 1e-6).all())
        assert 0 < part.nnz
        assert torch.equal(part.weight(), h.weight()[edges])


def test_their_partition_holds_every_pair_and_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts drawn at random where METIS, which is not everywhere, would choose better."""
    from torch_geometric.distributed import LocalFeatureStore, LocalGraphStore, Partitioner
    from torch_geometric.loader.cluster import ClusterData

    monkeypatch.setattr(
        ClusterData, "_metis", lambda self, _, size: torch.randint(0, self.num_parts, (size,))
    )
    index = torch.stack([torch.randint(0, 20, (60,)), torch.randint(0, 9, (60,))])
    x, y = torch.randn(20, 4), torch.randn(9, 4)
    h = Hypergraph(index, 20, 9, node_features=x, hyperedge_features=y)
    root = str(tmp_path / "parts")
    Partitioner(to_hetero(h), num_parts=2, root=root).generate_partition()
    pairs: dict[str, list[tuple[int, int]]] = {"in": [], "contains": []}
    for rank in range(2):
        graph = LocalGraphStore.from_partition(root, rank)
        for attr in graph.get_all_edge_attrs():
            row, column = graph.get_edge_index(attr)
            found = zip(row.tolist(), column.tolist(), strict=True)
            forward = attr.edge_type[1] == "in"
            pairs[attr.edge_type[1]] += [(a, b) if forward else (b, a) for a, b in found]
        features = LocalFeatureStore.from_partition(root, rank)
        for name, expected, first in (("node", x, 0), ("hyperedge", y, 20)):
            numbers = features.get_global_id(name) - first
            assert torch.equal(features.get_tensor(name, "x"), expected[numbers])
    given_pairs = sorted(map(tuple, h.hyperedge_index.t().tolist()))
    assert sorted(pairs["in"]) == sorted(pairs["contains"]) == given_pairs
