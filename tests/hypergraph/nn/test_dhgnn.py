"""What tables add to the laws of all layers: masks, weights of every kind, samples, misuse."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import (
    KNN,
    Dense,
    DHGNNConv,
    DynamicHGConv,
    Hypergraph,
    LowRank,
    NeighborTable,
    sample_members,
)
from tests.hypergraph.generated import F64, FULL_SIZE, LEAST_HITS
from tests.hypergraph.nn.definitions.dhgnn import define

K = (3, 2)


def made(k: tuple[int, ...] = K, dtype: torch.dtype = F64) -> DHGNNConv:
    torch.manual_seed(7)
    return DHGNNConv(4, 6, k=k).to(dtype).eval()


def random_tables(
    samples: int, nodes: int, weighted: bool = True
) -> tuple[list[NeighborTable], list[tuple[Tensor, Tensor, Tensor]]]:
    tables, parts = [], []
    for k in K:
        index = torch.randint(0, nodes, (samples, nodes, k))
        if not weighted:
            tables.append(NeighborTable(index, nodes))
            ones = torch.ones(samples, nodes, k, dtype=F64)
            parts.append((index, ones, ones[..., 0]))
            continue
        values = torch.rand(samples, nodes, k, dtype=F64) + 0.1
        kind = torch.rand(samples, nodes, k)
        values[kind < 0.1] = 0
        values[(kind > 0.1) & (kind < 0.15)] = 1e-310
        values[(kind > 0.15) & (kind < 0.2)] = 1e60
        mask = torch.rand(samples, nodes, k) > 0.15
        mask &= (torch.rand(samples, nodes) > 0.2).unsqueeze(-1)
        weight = torch.rand(samples, nodes, dtype=F64)
        weight[torch.rand(samples, nodes) < 0.1] = 0
        tables.append(NeighborTable(index, nodes, values, mask, weight))
        parts.append((index, values * mask, weight))
    return tables, parts


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_equals_its_dense_definition(weighted: bool, oracle_count: int) -> None:
    layer, left = made(), oracle_count // 2
    while left > 0:
        samples = min(left, FULL_SIZE)
        left -= samples
        tables, parts = random_tables(samples, 5, weighted)
        joined = torch.stack([h.sum(-1) > 0 for _, h, _ in parts], -1)
        hits = {"repeated member": (parts[1][0][..., 0] == parts[1][0][..., 1]).any(1)}
        if weighted:
            hits["member of weight 0"] = (parts[0][1] == 0).flatten(1).any(1)
            hits["hyperedge without members"] = (~joined).flatten(1).any(1)
            hits["vertex without hyperedges"] = (~joined.any(-1)).any(1)
            hits["hyperedge of weight 0"] = (parts[0][2] == 0).any(1)
        for name, hit in hits.items():
            assert samples < FULL_SIZE or int(hit.sum()) >= LEAST_HITS, name
        x = torch.randn(samples, 5, 4, dtype=F64)
        with torch.no_grad():
            got, expected = layer(x, tables), define(layer, x, parts)
        scale = expected.abs().amax((1, 2)).clamp_min(1)
        wrong = ~((got - expected).abs().amax((1, 2)) <= 1e-9 * scale)
        assert not wrong.any(), wrong.nonzero().flatten()[:5]


class Released(nn.Module):
    """The released vertex convolution: grouped convolutions over gathered members."""

    def __init__(self, layer: DHGNNConv) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, tables: list[NeighborTable]) -> Tensor:
        edges = []
        for conv, table in zip(self.layer.vertex_convs, tables, strict=True):
            k = conv.k
            region = x[table.index]  # [N, k, d]
            kernel = conv.multiplier.weight.view(k * k, 1, -1)
            multiplier = F.conv1d(region, kernel, conv.multiplier.bias, groups=k).view(-1, k, k)
            transformed = multiplier.softmax(-1) @ region
            edges.append(F.conv1d(transformed, conv.mix.weight[:, :, None], conv.mix.bias)[:, 0])
        y = torch.stack(edges, 1)
        return self.layer.theta((self.layer.edge_scores(y).softmax(1) * y).sum(1))


def test_equals_the_released_form() -> None:
    layer, x = made(), torch.randn(12, 4, dtype=F64)
    tables = [NeighborTable(torch.randint(0, 12, (12, k)), 12) for k in K]
    assert_close(layer(x, tables), Released(layer)(x, tables))


def test_small_example_by_hand() -> None:
    """Zero W: T is the mean over the slots; c = (1, 2) makes y = 3 mean + c_0."""
    layer = DHGNNConv(1, 1, k=2).to(F64).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.vertex_convs[0].mix.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.vertex_convs[0].mix.bias.fill_(10)
        layer.theta.weight.fill_(1)
        layer.theta.bias.fill_(0.5)
    x = torch.tensor([[2.0], [4.0], [6.0]], dtype=F64)
    index = torch.tensor([[0, 1], [1, 1], [2, 0]])
    assert layer(x, NeighborTable(index, 3)).flatten().tolist() == [19.5, 22.5, 22.5]
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    # One member left: c_1 x = 4; none left: only the bias of Theta.
    out = layer(x, NeighborTable(index, 3, mask=mask)).flatten()
    assert out.tolist() == [19.5, 14.5, 0.5]


def test_absent_slots_do_not_matter() -> None:
    layer, x = made((3,)), torch.randn(6, 4, dtype=F64)
    index, values = torch.randint(0, 6, (6, 3)), torch.rand(6, 3, dtype=F64) + 0.1
    mask = torch.rand(6, 3) > 0.4
    out = layer(x, NeighborTable(index, 6, values, mask))
    assert_close(layer(x, NeighborTable(index, 6, values * mask)), out)
    elsewhere = torch.where(mask, index, 5 - index)
    assert_close(layer(x, NeighborTable(elsewhere, 6, values, mask)), out)


def test_gradients_are_right() -> None:
    layer = made()
    indices = [torch.randint(0, 5, (5, k)) for k in K]

    def run(x: Tensor, a: Tensor, b: Tensor, w: Tensor, *parameters: Tensor) -> Tensor:
        tables = [
            NeighborTable(index, 5, values, None, w)
            for index, values in zip(indices, (a, b), strict=True)
        ]
        names = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, names, (x, tables))

    values = [torch.rand(5, k, dtype=F64) + 0.5 for k in K]
    leaves = [torch.randn(5, 4, dtype=F64), *values, torch.rand(5, dtype=F64) + 0.5]
    leaves = [t.detach().clone().requires_grad_() for t in (*leaves, *layer.parameters())]
    assert torch.autograd.gradcheck(run, leaves)


def test_gradients_are_finite_on_degenerate_tables() -> None:
    layer = made()
    tables, _ = random_tables(200, 5)
    leaves = []
    for number, table in enumerate(tables):
        values = table.weights.clamp_max(3).requires_grad_()
        weight = table.hyperedge_weight.clone().requires_grad_()
        tables[number] = NeighborTable(table.index, 5, values, table.mask, weight)
        leaves += [values, weight]
    x = torch.randn(200, 5, 4, dtype=F64, requires_grad=True)
    layer(x, tables).sin().sum().backward()
    for tensor in (x, *leaves, *layer.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


# ---- laws


def test_permuted_vertices_give_permuted_results() -> None:
    layer, x = made(), torch.randn(7, 4, dtype=F64)
    order = torch.randperm(7)
    place = order.argsort()
    tables = [KNN(k, weighting="rbf")(x) for k in K]
    moved = [NeighborTable(place[t.index[order]], 7, t.weights[order]) for t in tables]
    assert_close(layer(x[order], moved), layer(x, tables)[order])


def test_samples_are_a_loop() -> None:
    layer, x = made(), torch.randn(3, 6, 4, dtype=F64)
    tables, _ = random_tables(3, 6)
    single = [
        [
            NeighborTable(t.index[b], 6, t.weights[b], t.mask[b], t.hyperedge_weight[b])
            for t in tables
        ]
        for b in range(3)
    ]
    apart = torch.stack([layer(sample, own) for sample, own in zip(x, single, strict=True)])
    assert_close(layer(x, tables), apart)
    shared = torch.stack([layer(sample, single[0]) for sample in x])
    assert_close(layer(x, single[0]), shared)
    mixed = torch.stack([layer(x[b], [single[b][0], single[0][1]]) for b in range(3)])
    assert_close(layer(x, [tables[0], single[0][1]]), mixed)
    union = [
        NeighborTable(
            (t.index + 6 * torch.arange(3)[:, None, None]).flatten(0, 1),
            18,
            t.weights.flatten(0, 1),
            t.mask.flatten(0, 1),
            t.hyperedge_weight.flatten(),
        )
        for t in tables
    ]
    assert_close(layer(x.flatten(0, 1), union), apart.flatten(0, 1))


def test_no_vertices_and_no_samples() -> None:
    layer = made((3,))
    none = NeighborTable(torch.zeros(0, 3, dtype=torch.long), 0)
    assert layer(torch.zeros(0, 4, dtype=F64), none).shape == (0, 6)
    assert layer(torch.zeros(2, 0, 4, dtype=F64), none).shape == (2, 0, 6)
    empty = NeighborTable(torch.zeros(0, 5, 3, dtype=torch.long), 5)
    assert layer(torch.zeros(0, 5, 4, dtype=F64), empty).shape == (0, 5, 6)


# ---- integrations


def test_pickle_deepcopy_and_state_dict() -> None:
    layer, x = made(), torch.randn(6, 4, dtype=F64)
    tables = [NeighborTable(torch.randint(0, 6, (6, k)), 6) for k in K]
    out = layer(x, tables)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert torch.equal(twin(x, tables), out) and repr(twin) == repr(layer)
    fresh = DHGNNConv(4, 6, k=K).to(F64).eval()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x, tables), out)


def test_compiles_and_exports() -> None:
    torch._dynamo.reset()
    layer, x = made(dtype=torch.float32), torch.randn(2, 6, 4, requires_grad=True)
    tables = [
        NeighborTable(
            torch.randint(0, 6, (2, 6, 3)), 6, torch.rand(2, 6, 3), torch.rand(2, 6, 3) > 0.3
        ),
        NeighborTable(torch.randint(0, 6, (6, 2)), 6),
    ]
    expected = layer(x, tables)
    (grad,) = torch.autograd.grad(expected.sin().sum(), x)
    compiled = torch.compile(lambda x: layer(x, tables), fullgraph=True, backend="aot_eager")
    got = compiled(x)
    assert_close(got, expected)
    assert_close(torch.autograd.grad(got.sin().sum(), x)[0], grad)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, tables)

    program = torch.export.export(Model(), (x.detach(),))
    other = torch.randn(2, 6, 4)
    assert_close(program.module()(other), layer(other, tables))


def test_precision() -> None:
    layer, x = made(dtype=torch.float32), torch.randn(6, 4, requires_grad=True)
    tables = [NeighborTable(torch.randint(0, 6, (6, k)), 6, torch.rand(6, k)) for k in K]
    expected = layer(x, tables)
    wide = copy.deepcopy(layer).double()(x.double(), tables)
    assert_close(wide.float(), expected)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, tables)
    assert mixed.dtype == torch.bfloat16
    mixed.float().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    scale = max(expected.abs().max().item(), 1)
    assert_close(mixed.float(), expected, rtol=0, atol=0.05 * scale)
    low = copy.deepcopy(layer).bfloat16()(x.bfloat16(), tables)
    assert low.dtype == torch.bfloat16


def test_eight_threads_share_one_module() -> None:
    layer, x = made(dtype=torch.float32), torch.randn(9, 4)
    tables = [KNN(k)(x) for k in K]
    with torch.no_grad():
        expected = layer(x, [KNN(k)(x) for k in K])
        with ThreadPoolExecutor(8) as threads:
            for out in threads.map(lambda _: layer(x, tables), range(32)):
                assert torch.equal(out, expected)


def test_on_hyperedges_found_anew() -> None:
    conv = DHGNNConv(4, 6, k=3)
    layer = DynamicHGConv(4, 6, construction=KNN(3, threshold=0.6), conv=conv).eval()
    x = torch.randn(2, 9, 4)
    out, h = layer(x, return_hypergraph=True)
    assert_close(out, conv(x, h))


def test_dropout_only_while_training() -> None:
    layer, x = DHGNNConv(4, 6, k=3), torch.randn(9, 4)
    table = KNN(3)(x)
    assert not torch.equal(layer(x, table), layer(x, table))
    layer.eval()
    assert torch.equal(layer(x, table), layer(x, table))
    kept = DHGNNConv(4, 6, k=3, dropout=0)
    assert torch.equal(kept(x, table), kept(x, table))


def test_initial_values_are_those_of_the_authors() -> None:
    layer = DHGNNConv(64, 5, k=[10, 20])
    assert layer.edge_scores[0].out_features == 16 and layer.dropout.p == 0.5
    assert DHGNNConv(2, 2, k=1).edge_scores[0].out_features == 1
    released = nn.Conv1d(20, 400, 64, groups=20)
    for ours, theirs in (
        (layer.vertex_convs[1].multiplier.weight, released.weight),
        (layer.vertex_convs[1].mix.weight, nn.Conv1d(20, 1, 1).weight),
    ):
        bound = ours[0].numel() ** -0.5
        assert ours.numel() == theirs.numel()
        assert 0.7 * bound < ours.abs().max() <= bound and theirs.abs().max() <= bound
    before = layer.theta.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.theta.weight, before)


X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, t: c(X[:, :3], t), ValueError, "`x` must have 4 channels"),
        (lambda c, t: c(X[0], t), ValueError, "`x` must have shape"),
        (lambda c, t: c(X.double(), t), TypeError, "`x` must have the dtype"),
        (lambda c, t: c(X.long(), t), TypeError, "`x` must be floating"),
        (lambda c, t: c(X[:3], t), ValueError, "`hypergraph` must have as many vertices"),
        (lambda c, t: c(X, None), TypeError, "`hypergraph` must be a NeighborTable"),
        (lambda c, t: c(X, "knn"), TypeError, "`hypergraph` must be .*got str"),
        (lambda c, t: c(X, t.index), TypeError, "`hypergraph` must be .*got Tensor"),
        (lambda c, t: c(X, Hypergraph(t.index.T, 4)), TypeError, "`hypergraph`.*got Hypergraph"),
        (lambda c, t: c(X, Dense(torch.ones(4, 4))), TypeError, "`hypergraph` .*got Dense"),
        (
            lambda c, t: c(X, LowRank(torch.ones(4, 1), torch.ones(4, 1))),
            TypeError,
            "`hypergraph` must be a NeighborTable .*got LowRank",
        ),
        (lambda c, t: c(X, [t, t]), ValueError, "`hypergraph` must hold tables of shapes"),
        (lambda c, t: c(X, []), ValueError, "`hypergraph` must hold tables of shapes"),
        (
            lambda c, t: c(X, NeighborTable(t.index[:, :1], 4)),
            ValueError,
            r"`hypergraph` must hold tables of shapes \[\(4, 2\)\].*got \[\(4, 1\)\]",
        ),
        (lambda c, t: c(X, NeighborTable(t.index[:3], 4)), ValueError, "`hypergraph`.*one row per"),
        (
            lambda c, t: c(X, NeighborTable(t.index.expand(3, 4, 2), 4)),
            ValueError,
            "`x` must have shape .3, 4, C",
        ),
        (lambda c, t: DHGNNConv(0, 2, 3), ValueError, "`in_channels` must be at least 1"),
        (lambda c, t: DHGNNConv(2, 2, 0), ValueError, "`k` must be at least 1"),
        (lambda c, t: DHGNNConv(2, 2, []), ValueError, "`k` must hold at least one"),
        (lambda c, t: DHGNNConv(2, 2, 2.0), TypeError, "`k` must be an int"),
        (lambda c, t: DHGNNConv(2, 2, 2, 0), ValueError, "`hidden_channels` must be at least 1"),
        (lambda c, t: DHGNNConv(2, 2, 2, dropout=2), ValueError, "`dropout` must lie in"),
        (lambda c, t: DHGNNConv(2, 2, 2, dropout=-1), ValueError, "`dropout` must be non-negative"),
        (lambda c, t: sample_members(X, 2), TypeError, "`hypergraph` must be an incidence"),
        (lambda c, t: sample_members(t, 0), ValueError, "`k` must be at least 1"),
        (
            lambda c, t: sample_members(LowRank(torch.ones(4, 1), torch.ones(4, 1)), 2),
            TypeError,
            "`hypergraph`.*LowRank",
        ),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(DHGNNConv(4, 2, k=2), NeighborTable(torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]]), 4))


# ---- drawing members


def test_members_are_drawn_in_proportion() -> None:
    """Vertex 0: {0, 1} of weight 3 and {0, 2, 2} of weight 1, so 0 : 1 : 2 as 11 : 9 : 4."""
    weight = torch.tensor([3.0, 1.0, 5.0])
    h = Hypergraph.from_edges([[0, 1], [0, 2, 2], [3]], 5, weight)
    generator = torch.Generator().manual_seed(5)
    table = sample_members(h, 20_000, generator=generator)
    assert table.index.shape == (5, 20_000)
    share = torch.bincount(table.index[0], minlength=5) / 20_000
    # 3/4 of the draws go to {0, 1}, halves each; 1/4 to {0, 2, 2}, thirds.
    expected = torch.tensor([3 / 8 + 1 / 12, 3 / 8, 1 / 6, 0, 0])
    assert_close(share, expected, rtol=0, atol=0.015)
    assert (table.index[3] == 3).all() and (table.index[4] == 4).all()
    again = sample_members(h, 20_000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(again.index, table.index)


def test_only_present_members_are_drawn() -> None:
    index = torch.tensor([[0, 1, 2, 0, 3], [0, 0, 0, 1, 2]])
    values = torch.tensor([1e60, 0.0, 1e-30, 1.0, 1e-310], dtype=F64)
    h = Hypergraph(index, 5, 3, torch.tensor([1.0, 0.0, 1.0], dtype=F64), values)
    drawn = sample_members(h, 200).index
    assert (drawn[0] == 0).all()  # hyperedge 1 weighs 0, and 1e-30 of 1e60 is never drawn
    assert (drawn[1] == 1).all() and (drawn[3] == 3).all() and (drawn[4] == 4).all()
    assert (drawn[2] == 0).all()
    even = Hypergraph.from_edges([[0, 1, 2], [3, 4]], 5)
    members = even.to_dense() @ even.to_dense().T > 0
    table = sample_members(even, 50)
    assert members[torch.arange(5)[:, None], table.index].all()
    assert all(
        len(row.unique()) == count for row, count in zip(table.index, [3, 3, 3, 2, 2], strict=True)
    )


def test_tables_of_samples_keep_to_their_sample() -> None:
    index = torch.tensor([[[0, 1], [2, 2]], [[1, 2], [0, 3]]])
    table = NeighborTable(index, 4)
    drawn = sample_members(table, 40, keep_self=True).index
    assert drawn.shape == (2, 4, 40)
    assert (drawn[:, :, -1] == torch.arange(4)).all()
    wanted = [[{0, 1}, {0, 1}, {2}, {3}], [{0, 3}, {1, 2}, {1, 2}, {0, 3}]]
    for sample in range(2):
        for node in range(4):
            assert set(drawn[sample, node].tolist()) == wanted[sample][node]


def test_no_hyperedges_and_no_vertices_to_draw_from() -> None:
    assert sample_members(Hypergraph.from_edges([], 2), 3).index.tolist() == [[0] * 3, [1] * 3]
    assert sample_members(Hypergraph.from_edges([[]], 0), 3).index.shape == (0, 3)
    assert sample_members(Hypergraph.from_edges([[0]], 1), 1, keep_self=True).index.tolist() == [
        [0]
    ]
