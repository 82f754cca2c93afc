"""Mini-batches: exact where they are whole, uniform where they are drawn, negative where asked."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from hypergraph import Hypergraph
from hypergraph._draws import as_generator
from hypergraph.datasets.synthetic import planted_partition
from hypergraph.generators import uniform_hypergraph
from hypergraph.sampling import HyperedgeSampler, NeighborSampler, negative_hyperedges
from tests.hypergraph.oracle import hypergraphs


def edge_sets(h: Hypergraph) -> list[frozenset[int]]:
    rows: list[set[int]] = [set() for _ in range(h.num_edges)]
    for node, edge in h.hyperedge_index.T.tolist():
        rows[edge].add(node)
    return [frozenset(row) for row in rows]


def reach(h: Hypergraph, seeds: list[int], hops: int) -> list[set[int]]:
    """The vertices that hop 0, 1, 2, ... add, by walking over Python sets."""
    sets, seen = edge_sets(h), set(seeds)
    added = [set(seeds)]
    for _ in range(hops):
        near = {v for edge in sets if edge & added[-1] for v in edge}
        added.append(near - seen)
        seen |= near
    return added


@pytest.fixture(scope="module")
def medium() -> Hypergraph:
    """300 vertices, some isolated, hyperedges of 0 to 5 members, weights, repeated pairs."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(0, 6, (260,), generator=generator)
    h = planted_partition(300, 3, 260, sizes, 0.5, isolated=0.1, seed=0).hypergraph
    repeated = torch.cat([h.hyperedge_index, h.hyperedge_index[:, :20]], 1)
    nnz = repeated.shape[1]
    return Hypergraph(
        repeated,
        300,
        260,
        torch.rand(260, generator=generator, dtype=torch.float64) + 0.1,
        torch.rand(nnz, generator=generator, dtype=torch.float64) + 0.1,
    )


# ---- neighbours: the exact receptive field


@given(hypergraphs(), st.data())
def test_all_neighbors_are_the_receptive_field(h: Hypergraph, data: st.DataObject) -> None:
    seeds = data.draw(st.lists(st.integers(0, h.num_nodes - 1), unique=True))
    hops = data.draw(st.integers(1, 3))
    batch = NeighborSampler(h, [None] * hops)(torch.tensor(seeds, dtype=torch.long))
    assert batch.seeds.tolist() == seeds
    start = 0
    for added, count in zip(reach(h, seeds, hops), batch.nodes_per_hop, strict=True):
        assert batch.nodes[start : start + count].sort().values.tolist() == sorted(added)
        start += count
    # H of the batch is H of the whole; whatever pairs are missing belong to other vertices.
    expected = h.to_dense()[batch.nodes][:, batch.edges]
    torch.testing.assert_close(batch.hypergraph.to_dense(), expected)
    torch.testing.assert_close(batch.hypergraph.weight(), h.weight()[batch.edges])
    torch.testing.assert_close(batch.hypergraph.node_degree(), h.node_degree()[batch.nodes])
    # Hyperedges that touch an inner vertex have all their members.
    outer = batch.nodes_per_hop[-1]
    inner = torch.arange(len(batch.nodes)) < len(batch.nodes) - outer
    whole = batch.hypergraph.hyperedge_index[1][inner[batch.hypergraph.hyperedge_index[0]]].unique()
    original = h.edge_degree()[batch.edges]
    torch.testing.assert_close(batch.hypergraph.edge_degree()[whole], original[whole])


def test_without_boundary_means_are_exact_and_vertex_degrees_are_not(medium: Hypergraph) -> None:
    x = torch.randn(300, 3, dtype=torch.float64)
    seeds = torch.arange(12)
    batch = NeighborSampler(medium, [None, None], boundary=False)(seeds)
    whole = medium.v2v(medium.v2v(x, "mean"), "mean")[seeds]
    part = batch.hypergraph
    torch.testing.assert_close(
        part.v2v(part.v2v(x[batch.nodes], "mean"), "mean")[:12],
        whole,
    )
    outer = batch.nodes[-batch.nodes_per_hop[-1] :]
    degree = part.node_degree()[-batch.nodes_per_hop[-1] :]
    assert (degree <= medium.node_degree()[outer] + 1e-12).all()
    assert (degree < medium.node_degree()[outer] - 0.05).any()
    full = NeighborSampler(medium, [None, None])(seeds)
    assert torch.equal(full.nodes, batch.nodes)


# ---- neighbours: drawn


def test_no_more_than_asked_for_and_all_where_there_are_fewer(medium: Hypergraph) -> None:
    seeds = torch.arange(0, 300, 7)
    sampler = NeighborSampler(medium, [2, 3], num_members=[2, 1], boundary=False)
    batch = sampler(seeds, as_generator("g", 0))
    h, (node, edge) = batch.hypergraph, batch.hypergraph.hyperedge_index
    # Every pair of the batch is one of the original, with its value, and none comes twice.
    original = Counter(
        zip(*medium.hyperedge_index.tolist(), medium.incidence_weight.tolist(), strict=True)
    )
    drawn = Counter(
        zip(
            batch.nodes[node].tolist(),
            batch.edges[edge].tolist(),
            h.incidence_weight.tolist(),
            strict=True,
        )
    )
    assert not drawn - original
    # One hop: seeds without more than 2 pairs keep all of them.
    one = NeighborSampler(medium, [2], num_members=None, boundary=False)(seeds)
    counts = torch.bincount(medium.hyperedge_index[0], minlength=300)
    edges_of = Counter(one.nodes[one.hypergraph.hyperedge_index[0]].tolist())
    for seed in seeds.tolist():
        assert edges_of[seed] >= min(2, int(counts[seed]))
    # Members only: hyperedges have those drawn and those they were reached through.
    few = NeighborSampler(medium, [None], num_members=1, boundary=False)(torch.tensor([5]))
    reached = int((medium.hyperedge_index[0] == 5).sum())
    assert len(few.edges) <= reached
    assert few.hypergraph.hyperedge_index.shape[1] <= reached + len(few.edges)


def test_hyperedges_and_members_are_drawn_uniformly() -> None:
    """Vertex 0 is in 7 hyperedges with 5 other members each: 4000 copies, drawn from at once."""
    one = Hypergraph.from_edges([[0, *range(1 + 5 * e, 6 + 5 * e)] for e in range(7)])
    copies = 4000
    sampler = NeighborSampler(Hypergraph.batch([one] * copies), [3], num_members=2)
    batch = sampler(torch.arange(copies) * 36, as_generator("g", 1))
    assert (torch.bincount(batch.edges // 7) == 3).all()
    chosen = torch.bincount(batch.edges % 7) / copies
    share = 3 / 7
    assert ((chosen - share).abs() < 5 * math.sqrt(share * (1 - share) / copies)).all()
    members = torch.bincount(batch.nodes % 36)[1:] / copies
    share = 3 / 7 * 2 / 6  # 2 of 6 members, in 3 of 7 hyperedges
    assert ((members - share).abs() < 5 * math.sqrt(share * (1 - share) / copies)).all()


def test_fields_go_along() -> None:
    h = Hypergraph.from_edges([[0, 1], [1, 2], [3, 4]], num_nodes=5).replace(
        node_features=torch.arange(10.0).view(5, 2),
        hyperedge_features=torch.tensor([[7.0], [8.0], [9.0]]),
        hyperedge_group=torch.tensor([0, 1, 0]),
        group_names=("a", "b"),
        node_weight=torch.arange(5.0),
        direction=torch.tensor([-1, 1, -1, 1, 0, 0], dtype=torch.int8),
    )
    batch = NeighborSampler(h, [None])([2])
    sub = batch.hypergraph
    assert batch.nodes.tolist() == [2, 1] and batch.edges.tolist() == [1, 0]
    assert sub.node_features.tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert sub.hyperedge_features.tolist() == [[8.0], [7.0]]
    assert sub.hyperedge_group.tolist() == [1, 0] and sub.group_names == ("a", "b")
    assert sub.node_weight.tolist() == [2.0, 1.0]
    assert sub.direction.tolist() == [1, -1, 1]


def test_loader_is_the_same_with_workers_and_shuffles_by_seed(medium: Hypergraph) -> None:
    sampler = NeighborSampler(medium, [2, 2], num_members=3)

    def epochs(workers: int, seed: int) -> list[Tensor]:
        loader = sampler.loader(batch_size=64, shuffle=True, seed=seed, num_workers=workers)
        assert len(loader) == 5
        return [
            torch.cat([batch.nodes, batch.edges, batch.hypergraph.hyperedge_index.flatten()])
            for _ in range(2)
            for batch in loader
        ]

    alone, workers, other = epochs(0, 3), epochs(2, 3), epochs(0, 4)
    assert len(alone) == 10
    for a, b in zip(alone, workers, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(alone[0], other[0])
    assert not torch.equal(alone[0], alone[5]), "epochs differ"


def test_loader_covers_the_seeds_once() -> None:
    h = uniform_hypergraph(50, 3, num_edges=40, seed=0)
    mask = torch.arange(50) % 3 == 0
    sampler = NeighborSampler(h, [1])
    loader = sampler.loader(mask, batch_size=5, shuffle=True)
    seeds = torch.cat([batch.seeds for batch in loader])
    assert torch.equal(seeds.sort().values, mask.nonzero().squeeze(1))
    assert [b.num_seeds for b in sampler.loader(mask, 5, drop_last=True)] == [5, 5, 5]
    as_collate = DataLoader(range(50), batch_size=20, collate_fn=sampler)
    assert torch.cat([batch.seeds for batch in as_collate]).tolist() == list(range(50))
    torch.manual_seed(1)
    first = sampler([1, 2]).edges
    torch.manual_seed(1)
    assert torch.equal(first, sampler([1, 2]).edges), "without a generator the global one draws"


def test_hypergraphs_without_pairs() -> None:
    empty = Hypergraph(torch.empty(2, 0, dtype=torch.long), 4, 2)
    batch = NeighborSampler(empty, [None, 3])([3, 1])
    assert batch.nodes.tolist() == [3, 1] and batch.hypergraph.shape == (2, 0)
    assert NeighborSampler(empty, [1])([]).hypergraph.shape == (0, 0)


# ---- negatives

SMALL = Hypergraph.from_edges([[0, 1, 2], [0, 3], [1, 3], [3, 4, 5], [5, 6, 7], [8, 9]], 11)


@pytest.mark.parametrize("kind", ["sized", "motif", "clique"])
def test_negatives_are_no_hyperedges_and_have_sizes_of_hyperedges(kind: str) -> None:
    drawn = edge_sets(negative_hyperedges(SMALL, 2000, kind, seed=1))  # type: ignore[arg-type]
    real = edge_sets(SMALL)
    assert not set(drawn) & set(real)
    sizes = Counter(map(len, drawn))
    assert set(sizes) == {2, 3}
    if kind == "sized":  # 3 of 6 hyperedges have 3 members
        assert abs(sizes[3] / 2000 - 0.5) < 5 * 0.5 / math.sqrt(2000)


def test_sized_negatives_are_uniform_over_the_sets_that_are_no_hyperedges() -> None:
    draws = 9000
    sizes = torch.full((draws,), 2)
    drawn = Counter(edge_sets(negative_hyperedges(SMALL, draws, sizes=sizes)))
    possible = {frozenset(pair) for pair in combinations(range(11), 2)} - set(edge_sets(SMALL))
    assert set(drawn) == possible
    expected = draws / len(possible)
    chi = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi < len(possible) + 5 * math.sqrt(2 * len(possible))


def test_motif_negatives_are_all_the_connected_sets() -> None:
    real = edge_sets(SMALL)
    together = {frozenset(p) for edge in real for p in combinations(sorted(edge), 2)}

    def connected(vertices: frozenset[int]) -> bool:
        found = {min(vertices)}
        for _ in vertices:
            found |= {v for v in vertices for u in found if frozenset((u, v)) in together}
        return found == vertices

    drawn = set(edge_sets(negative_hyperedges(SMALL, 6000, "motif", sizes=torch.full((6000,), 4))))
    possible = {s for s in map(frozenset, combinations(range(11), 4)) if connected(s)}
    assert drawn == possible - set(real)


def test_clique_negatives_are_all_the_exchanges_that_keep_a_clique() -> None:
    real = edge_sets(SMALL)
    together = {frozenset(p) for edge in real for p in combinations(sorted(edge), 2)}
    possible = set()
    for edge in real:
        for removed in edge:
            rest = edge - {removed}
            for new in set(range(11)) - edge:
                if all(frozenset((new, v)) in together for v in rest):
                    possible.add(rest | {new})
    drawn = set(edge_sets(negative_hyperedges(SMALL, 4000, "clique")))
    assert drawn == possible - set(real)


def test_clique_negatives_at_size() -> None:
    h = planted_partition(300, 3, 900, (2, 5), 0.9, seed=2).hypergraph
    real = edge_sets(h)
    together = {frozenset(p) for edge in real for p in combinations(sorted(edge), 2)}
    for negative in edge_sets(negative_hyperedges(h, 300, "clique", seed=3)):
        assert negative not in real
        hosts = [
            edge for edge in real if len(edge & negative) == len(edge) - 1 == len(negative) - 1
        ]
        new = [next(iter(negative - edge)) for edge in hosts]
        assert any(all(frozenset((v, u)) in together for u in negative - {v}) for v in new), (
            negative
        )


def test_impossible_negatives_are_refused() -> None:
    triangle = Hypergraph.from_edges([[0, 1], [1, 2], [0, 2]])
    with pytest.raises(ValueError, match="`count`=5"):
        negative_hyperedges(triangle, 5)
    apart = Hypergraph.from_edges([[0, 1], [2, 3]])
    for kind in ("motif", "clique"):
        with pytest.raises(ValueError, match=kind):
            negative_hyperedges(apart, 2, kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`hypergraph`"):
        negative_hyperedges(Hypergraph.from_edges([[0], []]), 1)
    assert negative_hyperedges(triangle, 0).num_edges == 0
    # A pair of value 0 is as good as absent: {0, 1} is no hyperedge then.
    dense = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    index = dense.bool().nonzero().T
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0])
    h = Hypergraph(index, 3, 2, incidence_weight=weights)
    drawn = set(edge_sets(negative_hyperedges(h, 50, sizes=torch.full((50,), 2))))
    assert drawn == {frozenset((0, 1)), frozenset((1, 2)), frozenset((0, 2))} - {
        edge for edge in map(frozenset, _present(h)) if len(edge) == 2
    }


def _present(h: Hypergraph) -> list[set[int]]:
    rows: list[set[int]] = [set() for _ in range(h.num_edges)]
    for (node, edge), w in zip(h.hyperedge_index.T.tolist(), h.incidence_weight, strict=True):
        if w > 0:
            rows[edge].add(node)
    return rows


def test_hyperedge_batches() -> None:
    h = planted_partition(80, 2, 100, (2, 5), 0.8, seed=0).hypergraph
    sampler = HyperedgeSampler(h, "sized", ratio=1.5)
    edges = torch.tensor([7, 0, 99])
    batch = sampler(edges, as_generator("g", 0))
    assert batch.labels.tolist() == [1, 1, 1, 0, 0, 0, 0]
    real = edge_sets(h)
    candidates = [
        frozenset(batch.nodes[list(edge)].tolist()) for edge in edge_sets(batch.candidates)
    ]
    assert candidates[:3] == [real[7], real[0], real[99]]
    assert not set(candidates[3:]) & set(real)
    assert [len(c) for c in candidates[3:]] == [len(real[e]) for e in (7, 0, 99, 7)]
    assert batch.nodes.tolist() == sorted(set().union(*candidates))
    assert HyperedgeSampler(h, ratio=0.0)([3]).labels.tolist() == [1]
    loader = sampler.loader(batch_size=30, shuffle=True, seed=1)
    seen = torch.cat([b.edges for b in loader])
    assert torch.equal(seen.sort().values, torch.arange(100))
    again = torch.cat([b.nodes for b in sampler.loader(batch_size=30, seed=1, num_workers=1)])
    assert torch.equal(again, torch.cat([b.nodes for b in sampler.loader(batch_size=30, seed=1)]))


def test_known_hyperedges_are_no_negatives() -> None:
    """With all pairs but one known, that one is the only negative."""
    pairs = list(combinations(range(5), 2))
    known = Hypergraph.from_edges(pairs[:-1], 5)
    few = Hypergraph.from_edges(pairs[:3], 5)
    assert set(edge_sets(negative_hyperedges(few, 20, known=known))) == {frozenset(pairs[-1])}
    batch = HyperedgeSampler(few, "sized", known=known)([0, 1])
    assert batch.labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: NeighborSampler(torch.eye(2), [1]), TypeError, "`hypergraph`"),
        (lambda: NeighborSampler(SMALL, []), ValueError, "`num_hyperedges`"),
        (lambda: NeighborSampler(SMALL, [0]), ValueError, "`num_hyperedges`"),
        (lambda: NeighborSampler(SMALL, [-1]), ValueError, "`num_hyperedges`"),
        (lambda: NeighborSampler(SMALL, [1], [1, 2]), ValueError, "`num_members`"),
        (lambda: NeighborSampler(SMALL, [1], 0), ValueError, "`num_members`"),
        (lambda: NeighborSampler(SMALL, [1])([11]), ValueError, "`seeds`"),
        (lambda: NeighborSampler(SMALL, [1])([1, 1]), ValueError, "`seeds`"),
        (lambda: NeighborSampler(SMALL, [1])(torch.ones(2)), TypeError, "`seeds`"),
        (lambda: NeighborSampler(SMALL, [1])([1.7]), TypeError, "`seeds`"),
        (lambda: NeighborSampler(SMALL, 2), TypeError, "`num_hyperedges` must be a list"),
        (lambda: NeighborSampler(SMALL, None), TypeError, "pass .None. for one hop"),
        (lambda: NeighborSampler(SMALL, [1])(torch.tensor([[1]])), ValueError, "`seeds`"),
        (lambda: NeighborSampler(SMALL, [1]).loader(batch_size=0), ValueError, "`batch_size`"),
        (
            lambda: NeighborSampler(SMALL, [1]).loader(torch.ones(3, dtype=torch.bool)),
            ValueError,
            "`nodes`",
        ),
        (lambda: HyperedgeSampler(SMALL, "hard"), ValueError, "`negatives`"),
        (lambda: HyperedgeSampler(SMALL, ratio=-1), ValueError, "`ratio`"),
        (lambda: HyperedgeSampler(SMALL)([6]), ValueError, "`edges`"),
        (
            lambda: HyperedgeSampler(SMALL, known=Hypergraph.from_edges([[0]])),
            ValueError,
            "`known`",
        ),
        (lambda: negative_hyperedges(SMALL, -1), ValueError, "`count`"),
        (lambda: negative_hyperedges(SMALL, 1.0), TypeError, "`count`"),
        (lambda: negative_hyperedges(SMALL, 1, "any"), ValueError, "`kind`"),
        (lambda: negative_hyperedges(SMALL, 1, sizes=torch.tensor([12])), ValueError, "`sizes`"),
        (lambda: negative_hyperedges(SMALL, 2, sizes=torch.tensor([2])), ValueError, "`sizes`"),
        (
            lambda: negative_hyperedges(SMALL, 1, "clique", sizes=torch.tensor([2])),
            ValueError,
            "`sizes`",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        call()  # type: ignore[operator]


def test_batches_move_and_samplers_show_themselves() -> None:
    neighbors, hyperedges = NeighborSampler(SMALL, [2, None]), HyperedgeSampler(SMALL, "motif", 2.0)
    near, asked = neighbors([0, 1]).to("meta"), hyperedges([0]).to("meta")
    assert {near.nodes.device.type, near.edges.device.type, near.hypergraph.device.type} == {"meta"}
    tensors = (asked.nodes, asked.edges, asked.labels)
    assert {t.device.type for t in tensors} == {asked.candidates.device.type} == {"meta"}
    assert "num_hyperedges=[2, None]" in repr(neighbors)
    assert "negatives='motif', ratio=2.0" in repr(hyperedges)
    with pytest.raises(ValueError, match="on the CPU"):
        NeighborSampler(SMALL.to("meta"), [1])


def test_nothing_known_and_nothing_to_grow_from() -> None:
    empty = Hypergraph(torch.empty(2, 0, dtype=torch.long), 4, 0)
    drawn = negative_hyperedges(empty, 40, sizes=torch.full((40,), 2))
    assert set(edge_sets(drawn)) == {frozenset(pair) for pair in combinations(range(4), 2)}
    with pytest.raises(ValueError, match="motif"):
        negative_hyperedges(empty, 1, "motif", sizes=torch.tensor([2]))


def test_code_in_the_documentation_runs(project_root: Path) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (project_root / "docs/sampling.md").read_text(), re.S
    )
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/sampling.md", "exec"), names)
