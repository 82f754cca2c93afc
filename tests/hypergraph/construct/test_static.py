from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hypergraph import (
    KNN,
    AttributeGroups,
    Concat,
    CrossCorrelation,
    Dense,
    DynamicHGConv,
    EpsilonBall,
    Fusion,
    HGNNConv,
    Hypergraph,
    ImageWindows,
    KHop,
    LowRank,
    NeighborTable,
    StaticConstruction,
    fuse,
)
from tests.hypergraph.construct.points import F64

PATH = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
ATTRIBUTES = torch.tensor([[0, 1, 1, 0, -1, 2], [5, 5, 5, 5, 5, 5]]).T
BUILDS = {
    "khop": lambda: KHop(PATH, k=2, num_nodes=6),
    "windows": lambda: ImageWindows((2, 3), 2, padding="same"),
    "attributes": lambda: AttributeGroups(
        torch.tensor([[0, 1, 1, 0, -1, 2], [5, 5, 5, 5, 5, 5]]).T
    ),
}


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> StaticConstruction:
    return BUILDS[request.param]()


def test_all_samples_share_one_hypergraph(build: StaticConstruction) -> None:
    x = torch.randn(3, 6, 4)
    h = build(x)
    assert h.batch_size is None and h is build(x[0])
    conv = HGNNConv(4, 2)
    assert_close(conv(x, h), torch.stack([conv(sample, h) for sample in x]))


def test_a_batch_vector_repeats_it(build: StaticConstruction) -> None:
    batch = torch.tensor([1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1])
    x, conv = torch.randn(12, 4), HGNNConv(4, 2)
    out = conv(x, build(x, batch))
    for sample in range(2):
        own = x[batch == sample]
        assert_close(out[batch == sample], conv(own, build(own)))


def test_it_may_cover_the_whole_list() -> None:
    build = KHop(torch.tensor([[0, 2], [1, 3]]), num_nodes=5)
    x = torch.randn(5, 4)
    h = build(x, torch.tensor([0, 0, 1, 1, 2]))
    assert h is build.hypergraph
    with pytest.raises(ValueError, match="inside one sample, got hyperedge 2 with vertices of sev"):
        build(x, torch.tensor([0, 0, 0, 1, 2]))


def test_beside_hyperedges_found_in_the_features(build: StaticConstruction) -> None:
    x = torch.randn(3, 6, 4, dtype=F64)
    static = build(x).to_dense().to(F64)
    found = KNN(2)(x).to_dense().to(F64)
    both = Fusion([build, KNN(2)], normalized=False)(x)
    assert isinstance(both, Concat) and both.batch_size == 3
    assert_close(both.to_dense().to(F64), torch.cat([static.expand(3, -1, -1), found], -1))
    scaled = Fusion([KNN(2), build])(x)
    assert_close(scaled.node_degree(F64).mean(-1), torch.full((3,), 4.0, dtype=F64))
    conv = HGNNConv(4, 2).to(F64)
    assert_close(conv(x, both)[1], conv(x[1], Fusion([build, KNN(2)], normalized=False)(x[1])))
    pairs = both.with_members()
    assert_close(pairs.to_dense().to(F64), both.to_dense().to(F64))


@pytest.mark.parametrize("kind", ["table", "weighted table", "dense", "pairs", "weighted pairs"])
def test_single_parts_are_repeated(kind: str) -> None:
    torch.manual_seed(0)
    index, weight = torch.randint(0, 5, (3, 2)), torch.rand(3, dtype=F64)
    single = {
        "table": NeighborTable(index, 5, mask=index > 0, hyperedge_weight=weight),
        "weighted table": NeighborTable(index, 5, torch.rand(3, 2, dtype=F64)),
        "dense": Dense(torch.rand(5, 3, dtype=F64), weight),
        "pairs": Hypergraph.from_edges([[0, 1], [], [2, 2]], 5, weight),
        "weighted pairs": Hypergraph(torch.tensor([[0, 4], [2, 0]]), 5, 3, None, weight[:2]),
    }[kind]
    other = Dense(torch.rand(2, 5, 4, dtype=F64))
    h = fuse([single, other], normalized=False)
    alone = [fuse([single, Dense(m)], normalized=False) for m in other.matrix]
    assert_close(h.to_dense(), torch.stack([part.to_dense().to(F64) for part in alone]))
    x, conv = torch.randn(2, 5, 3, dtype=F64), HGNNConv(3, 2).to(F64)
    assert_close(conv(x, h), torch.stack([conv(a, b) for a, b in zip(x, alone, strict=True)]))


def test_what_cannot_be_repeated_says_so() -> None:
    single = LowRank(torch.rand(5, 2), torch.rand(3, 2))
    with pytest.raises(TypeError, match="members"):
        fuse([single, Dense(torch.rand(2, 5, 4))])
    with pytest.raises(TypeError, match="`parts` must hold incidence operators"):
        fuse([torch.rand(5, 3), Dense(torch.rand(2, 5, 4))], normalized=False)


def test_where_the_first_part_has_no_degree_the_next_sets_the_scale() -> None:
    """A sample of equal vertices has no correlations, but neighbours all the same."""
    x = torch.randn(2, 8, 4, dtype=F64)
    x[0] = 1.0
    cc, knn = CrossCorrelation(4, 3, rank=2).to(F64), KNN(3)
    for mode, parts in (("concat", [cc, knn]), ("concat", [cc, knn, EpsilonBall(1.5)])):
        h = Fusion(parts, mode)(x).to_dense()
        assert (h[0, :, :3] == 0).all()
        assert_close(h[0, :, 3:11], knn(x[0]).to_dense().to(F64))  # its own degree: 3
        first = cc(x).to_dense()[1].sum(1).mean()
        assert_close(h[1, :, 3:11].sum(1).mean(), first)
    out = HGNNConv(4, 2).to(F64)(x, Fusion([cc, knn])(x))
    assert (out[0] != 0).all()
    graph = KHop(torch.zeros(2, 0, dtype=torch.long), num_nodes=8)  # degree one: not zero
    none = AttributeGroups(torch.full((8,), -1))
    assert_close(fuse([none(x), graph(x)]).to_dense(), torch.eye(8))


def test_gradients_where_the_first_part_has_no_degree() -> None:
    x = torch.ones(6, 4, dtype=F64, requires_grad=True)
    cc, conv = CrossCorrelation(4, 3, rank=2).to(F64), HGNNConv(4, 2).to(F64)
    conv(x, Fusion([cc, KNN(3)])(x)).square().sum().backward()
    grads = [x.grad, *(p.grad for p in cc.parameters() if p.grad is not None)]
    assert all(g.isfinite().all() for g in grads)


def test_a_layer_on_windows() -> None:
    layer = DynamicHGConv(4, 5, construction=ImageWindows((4, 4), 3, 1, 1, "same"))
    assert layer(torch.randn(2, 16, 4)).shape == (2, 16, 5)
    assert list(layer.construction.state_dict()) == []


def test_windows_in_the_middle() -> None:
    build = ImageWindows((3, 4), 3, padding="same")
    table = build.hypergraph
    assert build.windows == (3, 4) and table.num_edges == table.num_nodes == 12
    assert (table.to_dense().diagonal() == 1).all()  # every window contains its vertex
    assert table.edge_degree().view(3, 4).tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]
    even = ImageWindows(4, 2, padding="same").hypergraph.to_dense()
    assert even[:, 0].nonzero().flatten().tolist() == [0, 1, 4, 5]
    assert even[:, 15].nonzero().flatten().tolist() == [15]
    far = ImageWindows((5, 5), 3, stride=4, dilation=2, padding="same").hypergraph
    assert far.edge_degree().tolist() == [4, 4, 4, 4]


def test_khop_counts_steps() -> None:
    ring = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])  # a ring of five with a chord
    triangle = KHop(ring, 2, only_last=True).hypergraph.to_dense().T
    # DHG's powers of the adjacency would put 1 into the ring of 0: it is two steps away, and one.
    assert triangle[0].nonzero().flatten().tolist() == [0, 3]
    assert KHop(ring, 1, num_nodes=7)(torch.ones(7, 1)).edge_degree().tolist()[5:] == [1, 1]
    loops = torch.tensor([[0, 0, 0], [0, 1, 1]])
    assert KHop(loops).hypergraph.to_dense().tolist() == [[1, 1], [1, 1]]
    assert KHop(torch.zeros(2, 0, dtype=torch.long)).hypergraph.shape == (0, 0)


def test_khop_needs_memory_for_what_it_finds_only() -> None:
    size = 200_000
    path = torch.stack([torch.arange(size - 1), torch.arange(1, size)])
    h = KHop(path, 3).hypergraph
    assert h.edge_degree()[[0, 1, 2, 3, 1000]].tolist() == [4, 5, 6, 7, 7]


def test_attribute_names() -> None:
    build = AttributeGroups({"year": torch.tensor([1, 2, 1]), "place": torch.tensor([7, 7, -3])}, 2)
    assert build.names == ("year", "place")
    assert (build.values.tolist(), build.attribute.tolist()) == ([1, 7], [0, 1])
    assert build.hypergraph.group("place").to_dense().tolist() == [[1], [1], [0]]
    assert build(torch.ones(3, 2)).group("year").edge_degree().tolist() == [2]


def test_reprs() -> None:
    assert repr(KHop(PATH, 2, 6, True, "in")).startswith(
        "KHop(\n  num_nodes=6, k=2, only_last=True, follow='in'"
    )
    assert "grid=(2, 3), size=(2, 2), stride=(1, 1)" in repr(ImageWindows((2, 3), 2))
    assert "attributes=['0'], num_edges=2" in repr(AttributeGroups(torch.tensor([0, 4])))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: KHop(PATH.float()), TypeError, "`edge_index` must hold integers"),
        (lambda: KHop(PATH.T), ValueError, r"`edge_index` must have shape \[2, edges\], got \[4"),
        (lambda: KHop(PATH, 0), ValueError, "`k` must be at least 1"),
        (lambda: KHop(PATH, num_nodes=4), ValueError, r"`edge_index` must lie in \[0, num_nodes=4"),
        (lambda: KHop(PATH, num_nodes=-1), ValueError, "`num_nodes` must be at least 1"),
        (lambda: KHop(PATH, num_nodes=2.0), TypeError, "`num_nodes` must be an int"),
        (lambda: KHop(-PATH), ValueError, "`edge_index` must lie in"),
        (lambda: KHop(PATH, follow="up"), ValueError, "`follow` must be one of 'both'"),
        (lambda: KHop(PATH)(torch.ones(4, 2)), ValueError, "`x` must have 5 vertices.*got 4"),
        (
            lambda: KHop(PATH)(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])),
            ValueError,
            r"`batch` must give every sample the 5 vertices.*\[2, 2\]",
        ),
        (
            lambda: KHop(PATH)(torch.ones(0, 2), torch.zeros(0, dtype=torch.long)),
            ValueError,
            "`batch` must give every sample the 5 vertices",
        ),
        (lambda: ImageWindows(3, 4), ValueError, "`size` must fit into the image of 3 x 3"),
        (lambda: ImageWindows(5, 3, dilation=3), ValueError, "windows of 7 x 7 with dilation"),
        (lambda: ImageWindows((3, 0)), ValueError, r"`grid\[1\]` must be at least 1"),
        (lambda: ImageWindows((3, 3, 3)), ValueError, "`grid` must be one number or two"),
        (lambda: ImageWindows(3, stride=0), ValueError, "`stride` must be at least 1"),
        (lambda: ImageWindows(3, dilation=1.5), TypeError, "`dilation` must be an int"),
        (lambda: ImageWindows(3, padding="full"), ValueError, "`padding` must be one of 'valid'"),
        (lambda: AttributeGroups(torch.ones(3)), TypeError, "`attributes` must hold integers"),
        (lambda: AttributeGroups([1, 2]), TypeError, "`attributes` must be a torch.Tensor"),
        (lambda: AttributeGroups({}), ValueError, "`attributes` must map at least one name"),
        (
            lambda: AttributeGroups({"a": torch.tensor([1]), "b": torch.tensor([1, 2])}),
            ValueError,
            r"equal size, got \[\[1\], \[2\]\]",
        ),
        (lambda: AttributeGroups({"a": [1]}), TypeError, r"`attributes\['a'\]` must be a torch.T"),
        (
            lambda: AttributeGroups(torch.ones(2, 2, 2, dtype=torch.long)),
            ValueError,
            r"`attributes` must have shape \[N\] or \[N, A\]",
        ),
        (lambda: AttributeGroups(torch.tensor([1]), 0), ValueError, "`min_members` must be at"),
        (lambda: StaticConstruction(torch.ones(2)), TypeError, "`hypergraph` must be an operator"),
        (
            lambda: StaticConstruction(NeighborTable(torch.zeros(2, 1, 1).long(), 1)),
            ValueError,
            "`hypergraph` must be a single one, got a batch of 2",
        ),
    ],
)
def test_bad_input_is_named(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
