"""Fields, transforms, batches, copies of `Hypergraph`, each against dense matrices."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import (
    KNN,
    Dense,
    DynamicHGConv,
    FixedHypergraph,
    Fusion,
    HGNNConv,
    Hypergraph,
    clique_expansion,
    laplacian_matrix,
    line_graph,
    star_expansion,
)
from hypergraph.incidence._structure import EDGE_FIELDS, NODE_FIELDS
from tests.hypergraph.oracle import F64, dense_incidence

NODES, EDGES = st.integers(0, 6), st.integers(0, 5)


@st.composite
def rich(
    draw: st.DrawFn,
    nodes: st.SearchStrategy[int] = NODES,
    edges: st.SearchStrategy[int] = EDGES,
    complete: bool = False,
) -> Hypergraph:
    """Hypergraphs of 0 to 6 vertices with any of the fields, repeated pairs and zeros.

    Features always have the same widths, so that two of them can be joined if ``complete``.
    """
    n, m = draw(nodes), draw(edges)
    pair = st.tuples(st.integers(0, max(n - 1, 0)), st.integers(0, max(m - 1, 0)))
    pairs = draw(st.lists(pair, max_size=14 if n and m else 0))
    index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
    value = st.sampled_from([0.0, 0.25, 1.0, 1.0, 3.0])

    def some(size: int, numbers: st.SearchStrategy) -> Tensor | None:
        if not complete and not draw(st.booleans()):
            return None
        return torch.tensor(draw(st.lists(numbers, min_size=size, max_size=size)))

    def doubles(size: int) -> Tensor | None:
        drawn = some(size, value)
        return None if drawn is None else drawn.to(F64)

    group = some(m, st.integers(0, 2))
    direction = some(len(pairs), st.sampled_from([-1, 0, 1]))
    node_features, edge_features = doubles(2 * n), doubles(3 * m)
    return Hypergraph(
        index,
        n,
        m,
        doubles(m),
        doubles(len(pairs)),
        node_weight=doubles(n),
        node_features=None if node_features is None else node_features.view(n, 2),
        hyperedge_features=None if edge_features is None else edge_features.view(m, 3),
        hyperedge_group=None if group is None else group.long(),
        group_names=None if group is None else ["a", "b", "c"],
        direction=None if direction is None else direction.long(),
    )


def layers(h: Hypergraph) -> dict[int, Tensor]:
    """One dense matrix per direction, summed pair by pair; 0 alone without direction."""
    shape = (h.num_nodes, h.num_edges)
    out = {}
    for sign in (-1, 0, 1) if h.direction is not None else (0,):
        pick = torch.full((h.nnz,), True) if h.direction is None else h.direction == sign
        values = None if h.incidence_weight is None else h.incidence_weight[pick]
        out[sign] = dense_incidence(h.hyperedge_index[:, pick], shape, values)
    return out


def matrix(h: Hypergraph) -> Tensor:
    return sum(layers(h).values(), torch.zeros(h.num_nodes, h.num_edges, dtype=F64))


def assert_selected(
    got: Hypergraph, h: Hypergraph, nodes: Tensor | list[int], edges: Tensor | list[int]
) -> None:
    """``got`` is ``h`` with these vertices and hyperedges, in this order, and all their fields."""
    nodes = torch.as_tensor(nodes, dtype=torch.long)
    edges = torch.as_tensor(edges, dtype=torch.long)
    assert got.shape == (len(nodes), len(edges))
    for sign, expected in layers(h).items():
        assert_close(layers(got)[sign], expected[nodes][:, edges])
    for names, order in ((NODE_FIELDS, nodes), (EDGE_FIELDS, edges)):
        for name in names:
            before, after = getattr(h, name), getattr(got, name)
            assert (before is None) == (after is None), name
            if before is not None:
                assert torch.equal(after, before[order]), name
    assert got.group_names == h.group_names
    assert (got.incidence_weight is None) == (h.incidence_weight is None)


# ---- parts


@given(rich(), st.data())
def test_subgraph_picks_rows_and_the_hyperedges_asked_for(h: Hypergraph, data) -> None:
    order = data.draw(st.permutations(range(h.num_nodes)))
    nodes = order[: data.draw(st.integers(0, h.num_nodes))]
    dense = matrix(h)
    members = [set(dense[:, e].nonzero().flatten().tolist()) for e in range(h.num_edges)]
    expected = {
        "shrink": [e for e in range(h.num_edges) if members[e] & set(nodes)],
        "inside": [e for e in range(h.num_edges) if members[e] and members[e] <= set(nodes)],
        "all": list(range(h.num_edges)),
    }
    for rule, edges in expected.items():
        sub, kept = h.subgraph(nodes, rule)  # type: ignore[arg-type]
        assert kept.tolist() == edges
        assert_selected(sub, h, nodes, edges)
    mask = torch.zeros(h.num_nodes, dtype=torch.bool)
    mask[torch.tensor(nodes, dtype=torch.long)] = True
    assert h.subgraph(mask)[0].equal(h.subgraph(sorted(nodes))[0])
    rest = [v for v in range(h.num_nodes) if v not in nodes]
    assert_selected(h.drop_nodes(nodes), h, rest, range(h.num_edges))
    assert h.drop_nodes(mask).equal(h.drop_nodes(nodes))


@given(rich(), st.data())
def test_edge_subgraph_picks_columns(h: Hypergraph, data) -> None:
    order = data.draw(st.permutations(range(h.num_edges)))
    edges = order[: data.draw(st.integers(0, h.num_edges))]
    assert_selected(h.edge_subgraph(edges), h, range(h.num_nodes), edges)
    rest = [e for e in range(h.num_edges) if e not in edges]
    assert_selected(h.drop_edges(edges), h, range(h.num_nodes), rest)
    mask = torch.tensor([e in edges for e in range(h.num_edges)], dtype=torch.bool)
    assert h.drop_edges(mask).equal(h.drop_edges(edges))
    assert h.edge_subgraph(mask.tolist()).equal(h.edge_subgraph(sorted(edges)))


@given(rich())
def test_isolated_vertices_and_empty_hyperedges_go(h: Hypergraph) -> None:
    dense = matrix(h)
    nodes, edges = dense.sum(1).nonzero().flatten(), dense.sum(0).nonzero().flatten()
    got, kept = h.remove_isolated_nodes()
    assert torch.equal(kept, nodes)
    assert_selected(got, h, nodes, range(h.num_edges))
    got, kept = h.remove_empty_edges()
    assert torch.equal(kept, edges)
    assert_selected(got, h, range(h.num_nodes), edges)


@given(rich(), st.floats(0, 1))
def test_random_drops_take_whole_columns_or_pairs(h: Hypergraph, p: float) -> None:
    def drawn(size: int) -> list[int]:
        return [i for i, u in enumerate(torch.rand(size, generator=seeded())) if u >= p]

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    got = h.drop_edges_randomly(p, seeded())
    assert_selected(got, h, range(h.num_nodes), drawn(h.num_edges))
    got, kept = h.drop_incidence_randomly(p, seeded()), drawn(h.nnz)
    assert got.shape == h.shape
    assert torch.equal(got.hyperedge_index, h.hyperedge_index[:, kept])
    for name in ("incidence_weight", "direction"):
        if getattr(h, name) is not None:
            assert torch.equal(getattr(got, name), getattr(h, name)[kept])


def test_random_drops_hit_the_rate_and_the_ends() -> None:
    h = Hypergraph(torch.arange(4000).repeat(2, 1))
    for drop in (h.drop_edges_randomly, h.drop_incidence_randomly):
        left = drop(0.3, torch.Generator().manual_seed(0)).nnz
        assert abs(left - 2800) < 5 * math.sqrt(4000 * 0.3 * 0.7)
        assert drop(0).equal(h) and drop(1).nnz == 0
    assert h.drop_edges_randomly(1.0).shape == (4000, 0)
    assert h.drop_incidence_randomly(1.0).shape == (4000, 4000)
    torch.manual_seed(7)
    first = h.drop_edges_randomly(0.5)
    assert not first.equal(h.drop_edges_randomly(0.5))
    torch.manual_seed(7)
    assert first.equal(h.drop_edges_randomly(0.5))


# ---- transforms


@given(rich())
def test_coalesce_keeps_the_matrix_and_merges_pairs(h: Hypergraph) -> None:
    got = h.coalesce()
    for sign, expected in layers(h).items():
        assert_close(layers(got)[sign], expected)
    keys = list(zip(*got.hyperedge_index.flip(0).tolist(), strict=True))
    signs = got._pair_direction().tolist()
    assert all(a < b for a, b in pairwise(zip(keys, signs, strict=True)))
    if h.incidence_weight is None and got.nnz == h.nnz:
        assert got.incidence_weight is None
    assert got.coalesce().equal(got)
    assert_selected(
        got.replace(incidence_weight=h.coalesce().incidence_weight),
        got,
        range(h.num_nodes),
        range(h.num_edges),
    )
    for name in (*NODE_FIELDS, *EDGE_FIELDS):
        assert getattr(got, name) is getattr(h, name)


@given(rich(edges=st.integers(0, 6)), st.sampled_from(["mean", "sum", "max", "min"]))
def test_equal_columns_are_merged(h: Hypergraph, reduce) -> None:
    kinds: dict[object, list[int]] = {}
    matrices = layers(h)
    for e in range(h.num_edges):
        columns = tuple(tuple(dense[:, e].tolist()) for dense in matrices.values())
        group = None if h.hyperedge_group is None else int(h.hyperedge_group[e])
        kinds.setdefault((columns, group), []).append(e)
    classes = [0] * h.num_edges
    for number, edges in enumerate(kinds.values()):
        for e in edges:
            classes[e] = number
    assert h.edge_classes().tolist() == classes

    got = h.merge_duplicate_edges(reduce)
    leaders = [edges[0] for edges in kinds.values()]
    combine = {
        "mean": lambda rows: rows.mean(0),
        "sum": lambda rows: rows.sum(0),
        "max": lambda rows: rows.amax(0),
        "min": lambda rows: rows.amin(0),
    }[reduce]
    for name in ("hyperedge_weight", "hyperedge_features"):
        before, after = getattr(h, name), getattr(got, name)
        if before is not None:
            expected = [combine(before[edges]) for edges in kinds.values()]
            assert_close(after, torch.stack(expected) if expected else before[:0])
        elif name == "hyperedge_weight":
            counts = [float(len(edges)) if reduce == "sum" else 1.0 for edges in kinds.values()]
            assert got.weight().tolist() == counts
    same = {"hyperedge_weight": None, "hyperedge_features": None}
    assert_selected(got.replace(**same), h.replace(**same), range(h.num_nodes), leaders)


def test_merging_agrees_with_dhg(shared_dir) -> None:
    """[[0, 1], [1, 0], [1, 2, 3], [3, 2, 1]]-like duplicates of DHG's own run."""
    import json

    info = json.loads((shared_dir / "golden/d_hypergraph/knn/info.json").read_text())
    weight = torch.tensor([1.0, 1.0, 3.0, 0.5])
    h = Hypergraph.from_edges([[0, 1], [1, 2, 3], [1, 0], [3, 1, 2]], 4, weight)
    for reduce in ("mean", "sum", "max"):
        edges, weights = info[f"duplicate_edges_{reduce}"]
        got = h.merge_duplicate_edges(reduce)  # type: ignore[arg-type]
        assert got.equal(Hypergraph.from_edges(edges, 4, torch.tensor(weights)))
    # k nearest neighbours with k = n are n equal hyperedges, of which DHG keeps one.
    for case in ("knn0", "knn1", "knn2"):
        k, n = info[case]["k"], info[case]["n"]
        from safetensors.torch import load_file

        tensors = load_file(shared_dir / "golden/d_hypergraph/knn/tensors.safetensors")
        raw = tensors[f"{case}.e_list_raw"]
        assert raw.shape == (n, k)
        merged = Hypergraph.from_edges(raw.tolist(), n).merge_duplicate_edges()
        assert merged.num_edges == info[case]["num_e"]
        assert merged.equal(Hypergraph.from_edges(info[case]["e_list_stored"], n))
        assert_close(merged.to_dense(), tensors[f"{case}.H"])


@given(rich(), st.sampled_from(["missing", "isolated", "all"]))
def test_self_loops(h: Hypergraph, which) -> None:
    dense = matrix(h)
    alone = {
        int(dense[:, e].nonzero()[0]) for e in range(h.num_edges) if len(dense[:, e].nonzero()) == 1
    }
    nodes = [
        v
        for v in range(h.num_nodes)
        if which == "all"
        or (which == "missing" and v not in alone)
        or (which == "isolated" and not dense[v].any())
    ]
    got = h.add_self_loops(which)
    new = torch.eye(h.num_nodes, dtype=F64)[:, nodes]
    assert_close(matrix(got), torch.cat([dense, new], 1))
    assert_selected(
        got.drop_edges(list(range(h.num_edges, got.num_edges))).replace(
            group_names=h.group_names or None
        ),
        h,
        range(h.num_nodes),
        range(h.num_edges),
    )
    loops = got.edge_subgraph(list(range(h.num_edges, got.num_edges)))
    assert loops.weight().tolist() == [1.0] * len(nodes)
    assert loops.node_degree().tolist() == [float(v in nodes) for v in range(h.num_nodes)]
    if h.direction is not None:
        assert loops.direction is not None and not loops.direction.any()
    if h.hyperedge_group is not None:
        assert got.group_names == ("a", "b", "c", "self_loops")
        assert got.group("self_loops").num_edges == len(nodes)
    if h.hyperedge_features is not None:
        row = torch.tensor([1.0, 2.0, 3.0])
        filled = h.add_self_loops(which, row).hyperedge_features
        assert filled is not None and filled[h.num_edges :].tolist() == [[1, 2, 3]] * len(nodes)
        assert loops.hyperedge_features is not None and not loops.hyperedge_features.any()
    if which == "missing":
        assert got.add_self_loops().num_edges == got.num_edges


@given(rich())
def test_dual_is_the_transpose(h: Hypergraph) -> None:
    got = h.dual()
    for sign, expected in layers(h).items():
        assert_close(layers(got)[sign], expected.T)
    assert got.node_weight is h.hyperedge_weight and got.hyperedge_weight is h.node_weight
    assert got.node_features is h.hyperedge_features
    assert got.dual().equal(h.replace(hyperedge_group=None))


@given(rich())
def test_tail_and_head_are_the_pairs_of_their_side(h: Hypergraph) -> None:
    matrices = layers(h)
    both = matrices[0]
    for sign, got in ((-1, h.tail()), (1, h.head())):
        assert got.direction is None and got.shape == h.shape
        assert_close(matrix(got), both + matrices.get(sign, 0))
        assert got.hyperedge_features is h.hyperedge_features
    assert h.is_directed == (h.direction is not None)


@given(st.lists(st.tuples(*[st.lists(st.integers(0, 3), max_size=4)] * 2), max_size=4))
def test_directed_hyperedges_have_their_tails_and_heads(edges) -> None:
    h = Hypergraph.from_directed_edges(edges, num_nodes=4)
    assert h.num_edges == len(edges)
    tails = Hypergraph.from_edges([tail for tail, _ in edges], 4)
    heads = Hypergraph.from_edges([head for _, head in edges], 4)
    assert torch.equal(h.tail().to_dense(), tails.to_dense())
    assert torch.equal(h.head().to_dense(), heads.to_dense())
    expected = torch.maximum(tails.to_dense(), heads.to_dense())
    assert torch.equal(h.to_dense(), expected)  # a vertex on both sides is one pair


@given(rich())
def test_groups_are_their_columns(h: Hypergraph) -> None:
    if h.hyperedge_group is None:
        with pytest.raises(ValueError, match=r"`name` must be one of \[\], got 'a'"):
            h.group("a")
        return
    for number, name in enumerate(h.group_names):
        got = h.group(name)
        assert got.hyperedge_group is None and got.group_names == ()
        edges = (h.hyperedge_group == number).nonzero().flatten()
        assert_selected(got, h.replace(hyperedge_group=None), torch.arange(h.num_nodes), edges)


# ---- unions


@given(st.lists(rich(complete=True), min_size=1, max_size=4))
def test_batch_and_unbatch(parts: list[Hypergraph]) -> None:
    both = Hypergraph.batch(parts)
    assert_close(matrix(both), torch.block_diag(*map(matrix, parts)))
    assert both.num_samples == len(parts)
    for name, sizes in (
        ("node_batch", [h.num_nodes for h in parts]),
        ("edge_batch", [h.num_edges for h in parts]),
    ):
        expected = [sample for sample, size in enumerate(sizes) for _ in range(size)]
        assert getattr(both, name).tolist() == expected
    again = both.unbatch()
    assert len(again) == len(parts)
    for one, other in zip(again, parts, strict=True):
        assert one.equal(other) and one.num_samples is None
    # What is done to the batch is done to its samples.
    for function in (
        lambda h: h.add_self_loops(),
        lambda h: h.coalesce(),
        lambda h: h.merge_duplicate_edges(),
        lambda h: h.remove_isolated_nodes()[0],
        lambda h: h.tail(),
    ):
        for one, other in zip(function(both).unbatch(), map(function, parts), strict=True):
            assert one.equal(other)


@given(rich(), rich())
def test_batch_fills_in_what_one_of_two_has(one: Hypergraph, two: Hypergraph) -> None:
    features = ("node_features", "hyperedge_features")
    uneven = [n for n in features if (getattr(one, n) is None) != (getattr(two, n) is None)]
    if uneven:
        with pytest.raises(ValueError, match=f"`{uneven[0]}` must have one width"):
            # The joined fields of hyperedges come first.
            Hypergraph.batch(
                [
                    one.replace(**dict.fromkeys(set(features) - {uneven[0]})),
                    two.replace(**dict.fromkeys(set(features) - {uneven[0]})),
                ]
            )
        return
    both = Hypergraph.batch([one, two])
    assert_close(both.weight(F64), torch.cat([one.weight(F64), two.weight(F64)]))
    assert_close(matrix(both), torch.block_diag(matrix(one), matrix(two)))
    assert torch.equal(
        both._pair_direction(), torch.cat([one._pair_direction(), two._pair_direction()])
    )
    if both.hyperedge_group is not None:
        names = [both.group_names[g] for g in both.hyperedge_group.tolist()]
        expected = []
        for h in (one, two):
            group = h.hyperedge_group
            listed = ["0"] * h.num_edges if group is None else [h.group_names[g] for g in group]
            expected += listed
        assert names == expected


@given(st.data(), NODES)
def test_merge_puts_hyperedges_side_by_side(data, nodes: int) -> None:
    given_nodes = st.just(nodes)
    parts = data.draw(st.lists(rich(given_nodes, complete=True), min_size=1, max_size=3))
    weight, features = parts[0].node_weight, parts[0].node_features
    parts = [parts[0]] + [h.replace(node_weight=None, node_features=None) for h in parts[1:]]
    got = Hypergraph.merge(parts)
    assert_close(matrix(got), torch.cat([matrix(h) for h in parts], 1))
    assert got.node_weight is weight and got.node_features is features
    assert_close(got.hyperedge_features, torch.cat([h.hyperedge_features for h in parts]))
    assert_close(got.weight(F64), torch.cat([h.weight(F64) for h in parts]))
    named = Hypergraph.merge({f"part {i}": h for i, h in enumerate(parts)})
    plain = {"hyperedge_group": None, "node_weight": None, "node_features": None}
    for i, h in enumerate(parts):
        assert named.group(f"part {i}").replace(**plain).equal(h.replace(**plain))


def test_groups_by_name() -> None:
    h = Hypergraph.from_groups({"a": [[0, 1], [2]], "b": [], "c": [[4]]})
    assert h.shape == (5, 3) and h.group_names == ("a", "b", "c")
    assert h.group("b").shape == (5, 0)
    assert h.group("a").equal(Hypergraph.from_edges([[0, 1], [2]], 5))
    more = h.with_group("b", [[3, 4]], torch.tensor([2.0])).with_group("d", h.group("c"))
    assert more.group_names == ("a", "b", "c", "d")
    assert more.group("b").weight().tolist() == [2.0]
    assert more.group("d").equal(h.group("c"))
    plain = Hypergraph.from_edges([[0]], 2).with_group("x", [[1]])
    assert plain.group_names == ("0", "x") and plain.hyperedge_group.tolist() == [0, 1]
    default = Hypergraph.from_edges([[0], [1]]).replace(hyperedge_group=torch.tensor([2, 0]))
    assert default.group_names == ("0", "1", "2")
    assert Hypergraph.from_groups({}, num_nodes=3).shape == (3, 0)
    sized = Hypergraph.from_groups({"a": Hypergraph.from_edges([[0]]), "b": [[3]]})
    assert sized.shape == (4, 2)
    assert Hypergraph.from_groups({"a": [[0]], "b": []}, num_nodes=6).shape == (6, 1)


def test_merged_batches_stay_batches_only_of_the_same_vertices() -> None:
    one = Hypergraph.batch([Hypergraph.from_edges([[0, 1]]), Hypergraph.from_edges([[0]])])
    two = one.add_self_loops("all")
    both = Hypergraph.merge([one, two])
    assert both.num_samples == 2 and both.edge_batch.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert [h.shape for h in both.unbatch()] == [(2, 4), (1, 3)]
    other = Hypergraph.batch([Hypergraph.from_edges([[0]]), Hypergraph.from_edges([[0, 1]])])
    for stranger in (other, Hypergraph.from_edges([[0, 2]]), Hypergraph.batch([other])):
        assert Hypergraph.merge([one, stranger]).num_samples is None


# ---- fields, copies, comparison


def full() -> Hypergraph:
    """Every field set."""
    return Hypergraph(
        torch.tensor([[0, 1, 1, 2, 0], [0, 0, 1, 1, 1]]),
        4,
        3,
        torch.tensor([1.0, 2.0, 0.0]),
        torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0]),
        node_weight=torch.tensor([1.0, 2.0, 3.0, 0.0]),
        node_features=torch.randn(4, 2),
        hyperedge_features=torch.randn(3, 5),
        hyperedge_group=torch.tensor([1, 0, 1]),
        group_names=("x", "y"),
        direction=torch.tensor([-1, 1, 0, 1, -1]),
        node_batch=torch.tensor([0, 0, 0, 1]),
        edge_batch=torch.tensor([0, 0, 1]),
        num_samples=2,
    )


def test_repr_shows_the_fields() -> None:
    assert repr(full()) == (
        "Hypergraph(num_nodes=4, num_edges=3, nnz=5, weighted members, directed, num_samples=2, "
        "groups=['x', 'y'], node_features=2, hyperedge_features=5, weighted vertices, "
        "weighted hyperedges, device='cpu')"
    )


def test_copies_hold_everything() -> None:
    h = full()
    h.v2e(torch.randn(4, 2))  # the sorted lists and their lock exist
    h.node_degree()
    file = io.BytesIO()
    torch.save({"h": h}, file)
    file.seek(0)
    twins = [
        pickle.loads(pickle.dumps(h)),
        copy.deepcopy(h),
        copy.copy(h),
        torch.load(file, weights_only=True)["h"],
        h.to("cpu"),
        h.replace(),
    ]
    x = torch.randn(4, 3)
    for twin in twins:
        assert twin is not h and type(twin) is Hypergraph and twin.equal(h)
        assert repr(twin) == repr(h) and twin.direction.dtype == torch.int8
        assert torch.equal(twin.v2e(x), h.v2e(x)) and torch.equal(
            twin.e2v(h.v2e(x)), h.e2v(h.v2e(x))
        )
    deep = copy.deepcopy(h)
    deep.node_features.zero_()
    assert h.node_features.any()


def test_a_state_from_a_file_is_checked() -> None:
    state = full().__getstate__()
    state["hyperedge_index"] = state["hyperedge_index"] + 100  # would read beyond the features
    with pytest.raises(ValueError, match=r"`hyperedge_index\[0\]` must lie in \[0, num_nodes=4\)"):
        Hypergraph.__new__(Hypergraph).__setstate__(state)


def test_to_changes_floats_and_leaves_numbers() -> None:
    h = full().to(torch.float64)
    for name, value in vars(h).items():
        if isinstance(value, Tensor):
            whole = torch.int8 if name == "direction" else torch.int64
            assert value.dtype == (F64 if value.is_floating_point() else whole), name
    with pytest.raises(TypeError, match="`dtype` must be floating point"):
        h.to(torch.int64)
    meta = full().to("meta")
    assert meta.device.type == "meta" and meta.node_features.device.type == "meta"


def test_equal_sees_every_field() -> None:
    h = full()
    order = torch.tensor([4, 2, 0, 3, 1])
    shuffled = h._rebuilt(h.hyperedge_index[:, order], 4, 3, pair=lambda field: field[order])
    assert h.equal(shuffled) and shuffled.equal(h) and h.equal(h.to(F64))
    renamed = h.replace(hyperedge_group=1 - h.hyperedge_group, group_names=("y", "x"))
    assert h.equal(renamed)
    changes = {
        "hyperedge_weight": torch.ones(3),
        "incidence_weight": torch.ones(5),
        "node_weight": None,
        "node_features": None,
        "hyperedge_features": h.hyperedge_features + 1,
        "hyperedge_group": None,
        "direction": None,
        "edge_batch": None,
    }
    for name, value in changes.items():
        assert not h.equal(h.replace(**{name: value})), name
        assert not h.replace(**{name: value}).equal(h), name
    assert not h.equal(h.replace(group_names=("y", "x")))
    assert not h.equal(h.replace(node_batch=torch.tensor([0, 0, 0, 0])))
    assert not h.equal(h.replace(num_samples=3))
    assert not h.equal(h.drop_nodes([3])) and not h.equal(h.hyperedge_index) and not h.equal(None)
    assert not h.equal(h.drop_incidence_randomly(1.0))
    assert not Hypergraph.from_edges([[0, 1]]).equal(Hypergraph.from_edges([[0, 0]], 2))
    ones = Hypergraph.from_edges([[0], [1]])
    filled = ones.replace(
        hyperedge_weight=torch.ones(2),
        incidence_weight=torch.ones(2),
        node_weight=torch.ones(2),
        direction=torch.zeros(2, dtype=torch.long),
    )
    assert ones.equal(filled)  # what is absent stands for these
    nan = ones.replace(node_features=torch.tensor([[torch.nan], [1.0]]))
    assert nan.equal(nan.replace())


@given(rich())
def test_replace_takes_fields_away_and_back(h: Hypergraph) -> None:
    bare = h.replace(
        hyperedge_weight=None, node_features=None, hyperedge_group=None, direction=None
    )
    assert bare.direction is None and bare.group_names == () and bare.nnz == h.nnz
    back = bare.replace(
        hyperedge_weight=h.hyperedge_weight,
        node_features=h.node_features,
        hyperedge_group=h.hyperedge_group,
        group_names=h.group_names or None,
        direction=h.direction,
    )
    assert back.equal(h)


def test_with_hyperedge_weight_keeps_fields_and_the_sorted_pairs() -> None:
    h = full()
    h.v2e(torch.randn(4, 1))
    twin = h.with_hyperedge_weight(torch.rand(3))
    assert twin.node_features is h.node_features and twin.group_names == h.group_names
    assert twin._by_edge[0] is h._by_edge[0]  # sorting them again would cost more than a layer
    assert h.to(torch.bfloat16)._by_node is h._by_node
    assert_close(h.to(F64).node_degree(), h.node_degree().double())


def test_degrees_follow_weights_that_are_replaced() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    for number in range(200):  # a freed weight's address is soon that of a new one
        h.hyperedge_weight = torch.tensor([float(number)])
        if number % 3 == 0:
            h.node_degree()
        h.hyperedge_weight = None
        h.hyperedge_weight = torch.tensor([number + 0.5])
        assert h.node_degree().tolist() == [number + 0.5] * 2


def test_coalesce_of_more_cells_than_int64_counts() -> None:
    size = 2**31
    pairs = torch.tensor([[5, size - 1, 5, 0], [size - 1, 0, size - 1, size - 1]])
    got = Hypergraph(pairs, size, size, direction=torch.tensor([1, 0, 1, -1])).coalesce()
    assert got.hyperedge_index.tolist() == [[size - 1, 0, 5], [0, size - 1, size - 1]]
    assert got.incidence_weight is not None and got.incidence_weight.tolist() == [1, 1, 2]
    assert got.direction is not None and got.direction.tolist() == [0, -1, 1]


BARE = torch.tensor([[0, 1, 2], [0, 0, 1]])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"node_weight": torch.ones(2)}, ValueError, r"`node_weight` .*\[3\], one value per ver"),
        ({"node_weight": -torch.ones(3)}, ValueError, "`node_weight` must be non-negative"),
        ({"node_weight": [1.0] * 3}, TypeError, "`node_weight` must be a torch.Tensor"),
        ({"node_features": torch.ones(3)}, ValueError, r"`node_features` .*\[3, F\]"),
        ({"node_features": torch.ones(4, 1)}, ValueError, r"`node_features` .*got \[4, 1\]"),
        ({"node_features": torch.ones(3, 1).long()}, TypeError, "`node_features` must be float"),
        ({"hyperedge_features": torch.ones(3, 1)}, ValueError, r"`hyperedge_features` .*\[2, F\]"),
        ({"hyperedge_group": torch.ones(2)}, TypeError, "`hyperedge_group` must hold integers"),
        ({"hyperedge_group": torch.tensor([0])}, ValueError, r"`hyperedge_group` .*\[2\]"),
        ({"hyperedge_group": torch.tensor([0, -1])}, ValueError, "`hyperedge_group` .*got -1"),
        ({"group_names": ["a"]}, ValueError, "`group_names` goes with `hyperedge_group`"),
        (
            {"hyperedge_group": torch.tensor([0, 1]), "group_names": ["a"]},
            ValueError,
            r"`hyperedge_group` must lie in \[0, len\(group_names\)=1\), got 1",
        ),
        (
            {"hyperedge_group": torch.tensor([0, 1]), "group_names": ["a", "a"]},
            ValueError,
            "`group_names` must differ",
        ),
        (
            {"hyperedge_group": torch.tensor([0, 1]), "group_names": "ab"},
            TypeError,
            "`group_names` must be a sequence of str, got 'ab'",
        ),
        ({"direction": torch.zeros(2).long()}, ValueError, r"`direction` must have shape \[3\]"),
        ({"direction": torch.tensor([0, 2, 0])}, ValueError, "`direction` must be -1 .*got 2"),
        ({"direction": torch.tensor([0, -2, 0])}, ValueError, "`direction` must be -1 .*got -2"),
        ({"direction": torch.tensor([0, 255, 0])}, ValueError, "`direction` .*got 255"),
        ({"direction": torch.zeros(3)}, TypeError, "`direction` must hold integers"),
        ({"num_samples": 1}, ValueError, "`node_batch`, `edge_batch` and `num_samples`"),
        (
            {
                "node_batch": torch.tensor([0, 0, 1]),
                "edge_batch": torch.tensor([0, 2]),
                "num_samples": 2,
            },
            ValueError,
            r"`edge_batch` must lie in \[0, num_samples=2\), got 2",
        ),
        (
            {
                "node_batch": torch.tensor([0, 1, 1]),
                "edge_batch": torch.tensor([0, 1]),
                "num_samples": 2,
            },
            ValueError,
            "got vertex 1 and hyperedge 0 of different samples",
        ),
        (
            {"node_features": torch.ones(3, 1, device="meta")},
            ValueError,
            "`node_features` must be on the device of `hyperedge_index`, cpu, got meta",
        ),
        ({"colour": 1}, TypeError, "colour"),
    ],
)
def test_bad_fields_are_named(fields: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Hypergraph(BARE, **fields)
    with pytest.raises(error, match=message):
        Hypergraph(BARE).replace(**fields)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda h: h.subgraph([4]), ValueError, r"`nodes` must lie in \[0, num_nodes=4\), got 4"),
        (lambda h: h.subgraph([-1]), ValueError, "`nodes` .*got -1"),
        (lambda h: h.subgraph([1, 2, 1]), ValueError, "`nodes` must not repeat itself, got 1"),
        (lambda h: h.subgraph(["a"]), TypeError, "`nodes` must be integers or a bool mask"),
        (lambda h: h.subgraph([0.5]), TypeError, "`nodes` must hold integers"),
        (lambda h: h.subgraph([[0]]), ValueError, r"`nodes` must have one dim.*\[1, 1\]"),
        (lambda h: h.subgraph([True]), ValueError, "`nodes` must have num_nodes=4 entries"),
        (lambda h: h.subgraph([0], "some"), ValueError, "`hyperedges` must be one of 'shrink'"),
        (lambda h: h.edge_subgraph([3]), ValueError, r"`edges` must lie in \[0, num_edges=3\)"),
        (lambda h: h.drop_edges([True, False]), ValueError, "`edges` must have num_edges=3"),
        (lambda h: h.drop_edges_randomly(1.5), ValueError, "`p` must .*got 1.5"),
        (lambda h: h.drop_edges_randomly(math.nan), ValueError, "`p` must .*got nan"),
        (lambda h: h.drop_incidence_randomly("1"), TypeError, "`p` must be a number, got str"),
        (lambda h: h.group("z"), ValueError, r"`name` must be one of \['x', 'y'\], got 'z'"),
        (lambda h: h.add_self_loops("none"), ValueError, "`which` must be one of 'missing'"),
        (lambda h: h.add_self_loops(features=torch.ones(4)), ValueError, r"`features` .*\[5\]"),
        (
            lambda h: h.replace(hyperedge_features=None).add_self_loops(features=torch.ones(4)),
            ValueError,
            "`features` goes with `hyperedge_features`",
        ),
        (lambda h: h.merge_duplicate_edges("median"), ValueError, "`reduce` must be one of 'mean'"),
        (lambda h: h.replace(node_batch=None).unbatch(), ValueError, "Hypergraph.batch"),
        (lambda h: Hypergraph.batch([h, 1]), TypeError, "`hypergraphs` must hold Hypergraph"),
        (lambda h: Hypergraph.batch([h, h.to("meta")]), ValueError, "one device, got cpu, meta"),
        (lambda h: Hypergraph.merge([]), ValueError, "`hypergraphs` must hold at least one"),
        (
            lambda h: Hypergraph.merge([h, h.drop_nodes([3])]),
            ValueError,
            r"equal numbers of vertices, got \[4, 3\]",
        ),
        (
            lambda h: Hypergraph.merge([h, h.replace(node_features=torch.zeros(4, 2))]),
            ValueError,
            "`node_features` must be the same",
        ),
        (lambda h: h.with_group("new", [[0]]), ValueError, "`hyperedge_features` must have one"),
        (lambda h: h.with_group("n", h, torch.ones(3)), ValueError, "`hyperedge_weight` goes with"),
        (lambda h: Hypergraph.from_groups([[0]]), TypeError, "`groups` must map names"),
        (lambda h: Hypergraph.from_groups({"a": [[9]]}, 3), ValueError, "num_nodes=3"),
        (lambda h: Hypergraph.from_directed_edges([[0, 1]]), ValueError, r"pairs \(tail, head\)"),
        (
            lambda h: Hypergraph.from_directed_edges([([0], [1], [2])]),
            ValueError,
            r"pairs \(tail, head\)",
        ),
        (lambda h: Hypergraph.from_directed_edges([([0], ["x"])]), TypeError, "integer vertex"),
        (lambda h: FixedHypergraph(h.hyperedge_index), TypeError, "`hypergraph` must be an inc"),
        (lambda h: FixedHypergraph(h)(torch.ones(3, 2)), ValueError, "as many vertices"),
        (
            lambda h: FixedHypergraph(h)(torch.ones(4, 2), torch.zeros(4).long()),
            ValueError,
            "`batch` must be None",
        ),
    ],
)
def test_bad_calls_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(full())


# ---- gradients, threads, modules


def test_gradients_pass_through_every_transform() -> None:
    index = torch.tensor([[0, 1, 1, 2, 0, 1, 0], [0, 0, 1, 1, 2, 2, 0]])
    values = torch.rand(7, dtype=F64).add(0.5)
    values[4:6] = values[:2]  # hyperedge 2 is hyperedge 0 but for the repeated pair
    values[4] += values[6]
    leaves = (
        values.requires_grad_(),
        torch.rand(3, dtype=F64, requires_grad=True),
        torch.randn(4, 2, dtype=F64, requires_grad=True),
        torch.randn(3, 2, dtype=F64, requires_grad=True),
    )

    def parts(values: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
        h = Hypergraph(index, 4, 3, weight, values, node_features=x, hyperedge_features=y)
        made = [
            h.coalesce(),
            h.subgraph([2, 0, 1])[0],
            h.add_self_loops(),
            h.dual(),
            h.drop_edges([1]),
            Hypergraph.batch([h, h.dual()]).unbatch()[1],
            Hypergraph.merge([h, h]),
        ]
        out = []
        for g in made:
            pulled = g.v2e(g.node_features) * g.weight(F64).unsqueeze(1)
            out += [pulled + g.hyperedge_features, g.node_degree()]
        return out

    assert torch.autograd.gradcheck(parts, leaves)

    def merged(weight: Tensor, y: Tensor) -> list[Tensor]:
        h = Hypergraph(index[:, :6], 4, 3, weight, hyperedge_features=y)
        out = []
        for reduce in ("mean", "sum", "max", "min"):
            g = h.merge_duplicate_edges(reduce)  # type: ignore[arg-type]
            assert g.num_edges == 2
            out += [g.weight(F64), g.hyperedge_features]
        return out

    assert torch.autograd.gradcheck(merged, (leaves[1], leaves[3]))


def test_eight_threads_make_the_sorted_lists_once(monkeypatch) -> None:
    import hypergraph.incidence._csr as csr

    calls: Counter[int] = Counter()
    sorting = csr.segments_from

    def counted(*args):
        calls[threading.get_ident()] += 1
        return sorting(*args)

    monkeypatch.setattr(csr, "segments_from", counted)
    nnz = 60_000
    index = torch.stack([torch.randint(3000, (nnz,)), torch.randint(2000, (nnz,))])
    x = torch.randn(3000, 8)
    expected = Hypergraph(index, 3000, 2000).v2e(x)
    for _ in range(5):
        calls.clear()
        fresh = Hypergraph(index, 3000, 2000)
        start = threading.Barrier(8)

        def run(_: int, fresh: Hypergraph = fresh, start: threading.Barrier = start) -> Tensor:
            start.wait()
            return fresh.e2v(fresh.v2e(x))

        with ThreadPoolExecutor(8) as pool:
            outs = list(pool.map(run, range(8)))
        assert calls.total() == 2  # one sorting per direction, whoever came first
        again = Hypergraph(index, 3000, 2000)
        assert all(torch.equal(out, again.e2v(expected)) for out in outs)


def test_a_hypergraph_in_a_module_leaves_state_dict_alone() -> None:
    class Model(nn.Module):
        def __init__(self, fixed: bool) -> None:
            super().__init__()
            self.conv = HGNNConv(2, 3)
            self.h = FixedHypergraph(full()) if fixed else full()

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.h() if isinstance(self.h, FixedHypergraph) else self.h)

    x = torch.randn(4, 2)
    for fixed in (False, True):
        model = Model(fixed)
        assert set(model.state_dict()) == {"conv.theta.weight", "conv.theta.bias"}
        other = Model(fixed)
        other.load_state_dict(model.state_dict())
        expected = model(x)
        for twin in (other, copy.deepcopy(model)):
            assert torch.equal(twin(x), expected)
        for name, parameter in model.named_parameters():
            assert parameter.shape == dict(other.named_parameters())[name].shape
        double = model.double()
        assert_close(double(x.double()), expected.double(), rtol=1e-5, atol=1e-6)
    assert model.h.hypergraph.dtype == F64  # the plain attribute of the first stays as it was
    single = copy.deepcopy(model).type(torch.float32).h.hypergraph
    assert single.dtype == torch.float32 and single.hyperedge_index.dtype == torch.int64
    assert single.direction.dtype == torch.int8
    assert model.to("meta").h.hypergraph.device.type == "meta"
    assert "FixedHypergraph(Hypergraph(num_nodes=4" in repr(model.h).replace("\n  ", "")


def test_a_fixed_hypergraph_stands_for_a_construction() -> None:
    x = torch.randn(4, 2)
    known = Hypergraph.from_edges([[0, 1, 2], [3]], 4)
    layer = DynamicHGConv(2, 3, construction=FixedHypergraph(known))
    assert torch.equal(layer(x), layer.conv(x, known))
    dual = Fusion([FixedHypergraph(known), KNN(2)])(x)
    assert dual.shape == (4, 6) and torch.equal(dual.to_dense()[:, :2], known.to_dense())
    dense = FixedHypergraph(Dense(known.to_dense()))
    assert dense.double()().dtype == F64
    batched = FixedHypergraph(known)(torch.randn(5, 4, 2))
    assert batched is not None and batched.shape == (4, 2)


def test_compiles_with_every_field() -> None:
    torch._dynamo.reset()
    conv, x, h, weight = HGNNConv(2, 3), torch.randn(4, 2), full(), torch.rand(3)
    sorted_before, fixed = full(), FixedHypergraph(h)
    sorted_before.v2e(x)

    def run(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return conv(x, fixed(x)), conv(x, h.with_hyperedge_weight(weight)), conv(x, sorted_before)

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert_close(compiled(x, weight), run(x, weight))
    assert_close(compiled(x, weight), run(x, weight))  # now with sorted pairs


@pytest.mark.gpu
def test_the_same_on_a_cuda_device() -> None:
    h = Hypergraph.merge([full(), full().replace(node_features=None)]).replace(
        hyperedge_features=None
    )
    there = h.to("cuda")
    calls = (
        lambda h: h.subgraph([2, 0], "shrink")[0],
        lambda h: h.drop_edges([1]),
        lambda h: h.drop_incidence_randomly(0.5, torch.Generator().manual_seed(0)),
        lambda h: h.add_self_loops(),
        lambda h: h.coalesce(),
        lambda h: h.merge_duplicate_edges(),
        lambda h: h.dual(),
        lambda h: h.group("x"),
        lambda h: h.tail(),
        lambda h: Hypergraph.batch([h, h]).unbatch()[1],
        lambda h: h.with_group("new", [[0, 3]]),
    )
    for call in calls:
        got = call(there)
        assert got.device.type == "cuda" and got.to("cpu").equal(call(h))
    pinned = h.pin_memory()
    assert pinned.hyperedge_index.is_pinned() and pinned.equal(h) and pinned.equal(there)
    for function in (clique_expansion, line_graph, star_expansion):
        for one, other in zip(function(there), function(h), strict=True):
            assert_close(one.cpu(), other)
    assert_close(laplacian_matrix(there).cpu().to_dense(), laplacian_matrix(h).to_dense())


def test_a_loader_collates() -> None:
    items = [Hypergraph.from_edges([[0, 1]], size) for size in (2, 3, 4, 5)]
    loader = torch.utils.data.DataLoader(items, batch_size=2, collate_fn=Hypergraph.batch)
    assert [h.num_nodes for h in loader] == [5, 9]
    assert [h.num_samples for h in loader] == [2, 2]
