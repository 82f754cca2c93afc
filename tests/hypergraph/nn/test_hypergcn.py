from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import Dense, HyperGCNConv, Hypergraph, NeighborTable, extreme_members
from tests.hypergraph.generated import F64
from tests.hypergraph.nn.definitions.hypergcn import adjacency, smooth


def identity(mediators: bool) -> HyperGCNConv:
    """Theta = 1, no bias, r = 1, for one channel."""
    conv = HyperGCNConv(1, 1, mediators, bias=False).to(F64).eval()
    with torch.no_grad():
        conv.theta.weight.fill_(1)
        conv.direction.fill_(1)
    return conv


def matrix(conv: HyperGCNConv, x: list[float], h: Hypergraph) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 for the graph that these features choose, column by column."""
    features = torch.tensor(x, dtype=F64).unsqueeze(-1)
    extremes = extreme_members(features, h, torch.ones(1, dtype=F64))
    columns = torch.eye(len(x), dtype=F64).unsqueeze(-1)
    chosen = extremes.unsqueeze(1).expand(2, len(x), -1)
    return conv(columns, h, chosen).squeeze(-1).T


def normalised(edges: dict[tuple[int, int], float], size: int) -> Tensor:
    graph = torch.eye(size, dtype=F64)
    for (a, b), weight in edges.items():
        graph[a, b] += weight
        graph[b, a] += weight
    root = graph.sum(1) ** -0.5
    return root[:, None] * graph * root


@pytest.mark.parametrize(
    ("mediators", "edges"),
    [
        # {0, 1, 2, 3} has 2 on top and 0 at the bottom; {1, 2} is an edge itself.
        (False, {(2, 0): 1 / 4, (1, 2): 1 / 2}),
        (
            True,
            {(2, 0): 1 / 5, (2, 1): 1 / 5 + 1, (0, 1): 1 / 5, (2, 3): 1 / 5, (0, 3): 1 / 5},
        ),
    ],
)
def test_small_example_by_hand(mediators: bool, edges: dict[tuple[int, int], float]) -> None:
    h = Hypergraph.from_edges([[0, 1, 2, 3], [1, 2]], 5)
    got = matrix(identity(mediators), [-3, 1, 7, 2, 0], h)
    assert_close(got, normalised(edges, 5))


@pytest.mark.parametrize("mediators", [False, True])
@pytest.mark.parametrize(
    "edges", [[[0]], [[]], [[1, 1]], [[0], [], [1]]], ids=["one", "none", "one twice", "several"]
)
def test_hyperedges_without_two_members_make_no_edge(
    mediators: bool, edges: list[list[int]]
) -> None:
    """DHG refuses them; in the released code {v} gets the degree -1 with mediators: NaN."""
    conv = HyperGCNConv(2, 3, mediators).to(F64)
    x = torch.randn(3, 2, dtype=F64)
    assert_close(conv(x, Hypergraph.from_edges(edges, 3)), conv.theta(x) + conv.bias)


def test_two_members_with_mediators() -> None:
    """DHG raises IndexError where every hyperedge has two members."""
    h = Hypergraph.from_edges([[0, 1], [1, 2]], 3)
    got = matrix(identity(True), [1, 2, 3], h)
    assert_close(got, normalised({(0, 1): 1, (1, 2): 1}, 3))


def test_weights_of_hyperedges_and_members() -> None:
    weight, values = torch.tensor([3.0, 0.0], dtype=F64), torch.tensor([1, 0.5, 2, 1, 1, 0.0])
    index = torch.tensor([[0, 1, 2, 0, 1, 3], [0, 0, 0, 1, 1, 0]])
    h = Hypergraph(index, 4, 2, weight, values.to(F64))
    plain = matrix(identity(False), [5, 1, 2, 9], h)
    assert_close(plain, normalised({(0, 1): 3 / 3.5}, 4))
    between = matrix(identity(True), [5, 1, 2, 9], h)
    unit = 3 / (1 + 2 * 2)
    assert_close(between, normalised({(0, 1): unit, (0, 2): 2 * unit, (1, 2): 2 * unit}, 4))


@pytest.mark.parametrize("mediators", [False, True])
def test_equal_features_still_give_an_edge(mediators: bool) -> None:
    h = Hypergraph.from_edges([[2, 0, 1]], 3)
    x = torch.ones(3, 1, dtype=F64)
    assert extreme_members(x, h).tolist() == [[0], [2]]
    if not mediators:
        assert_close(matrix(identity(False), [1, 1, 1], h), normalised({(0, 2): 1 / 3}, 3))


def test_extremes_lie_in_their_hyperedges() -> None:
    x = torch.tensor([[1.0, 0], [5, 0], [3, 0], [0, 9]])
    h = Hypergraph.from_edges([[0, 1, 2], [3], [2, 3, 0], []], 4)
    along = extreme_members(x, h, torch.tensor([1.0, 0.0]))
    assert along.tolist() == [[1, -1, 2, -1], [0, -1, 3, -1]]
    shared = extreme_members(torch.stack([x, -x]), h, torch.tensor([1.0, 0.0]))
    assert shared[:, 0].tolist() == along.tolist()
    assert shared[:, 1].tolist() == along.flip(0).tolist()
    table = NeighborTable(torch.tensor([[[0, 1]], [[2, 3]]]), 4)
    batched = extreme_members(torch.stack([x, x]), table, torch.tensor([1.0, 0.0]))
    assert batched.tolist() == [[[1], [2]], [[0], [3]]]


def test_one_graph_for_all_layers_as_in_fasthypergcn() -> None:
    h = Hypergraph(torch.randint(0, 12, (2, 40)), 12, 12)
    x = torch.randn(12, 5)
    extremes = extreme_members(x, h, generator=torch.Generator().manual_seed(1))
    again = extreme_members(x, h, generator=torch.Generator().manual_seed(1))
    assert torch.equal(extremes, again)
    conv = HyperGCNConv(5, 3).train()
    direction = torch.rand(5, generator=torch.Generator().manual_seed(1))
    graph = adjacency((x @ direction)[None], h.to_dense()[None], torch.ones(1, 12), False)
    expected = smooth(graph, conv.theta(x)[None])[0] + conv.bias
    for _ in range(2):
        assert_close(conv(x, h, extremes), expected)


def test_a_new_graph_at_every_call_of_training_only() -> None:
    h, x = Hypergraph(torch.randint(0, 30, (2, 200)), 30, 30), torch.randn(30, 8)
    conv = HyperGCNConv(8, 6).train()
    stored = conv.direction.clone()
    torch.manual_seed(3)
    first, second = conv(x, h), conv(x, h)
    torch.manual_seed(3)
    assert torch.equal(conv(x, h), first) and not torch.equal(first, second)
    assert torch.equal(conv.direction, stored)
    assert torch.equal(conv.eval()(x, h), conv(x, h))
    fixed = HyperGCNConv(8, 6, resample=False).train()
    assert torch.equal(fixed(x, h), fixed(x, h))
    other = HyperGCNConv(8, 6).eval()
    other.load_state_dict(conv.state_dict())
    assert torch.equal(other(x, h), conv(x, h))


def test_directions_are_reproducible_and_in_range() -> None:
    conv = HyperGCNConv(3, 2000)
    assert conv.direction.min() >= 0 and conv.direction.max() < 1
    assert abs(conv.direction.mean().item() - 0.5) < 0.05
    drawn = []
    for _ in range(2):
        conv.draw_direction(torch.Generator().manual_seed(4))
        drawn.append(conv.direction.clone())
    assert torch.equal(*drawn)
    bound = 2000**-0.5
    for tensor in (conv.theta.weight, conv.bias):
        assert 0.9 * bound < tensor.abs().max() <= bound


def test_the_choice_of_ends_has_no_gradient_but_the_rest_has() -> None:
    x = torch.randn(6, 3, dtype=F64, requires_grad=True)
    h = Hypergraph.from_edges([[0, 1, 2, 3], [3, 4, 5]], 6)
    assert not extreme_members(x, h).requires_grad
    HyperGCNConv(3, 2, mediators=True).to(F64)(x, h).sum().backward()
    assert x.grad is not None and x.grad.abs().min() > 0


@pytest.mark.parametrize("graph", ["isolated", "weighted", "random"])
@pytest.mark.parametrize("setting", ["last", "relu", "nobias"])
@pytest.mark.parametrize("mediators", [False, True])
def test_golden_outputs_of_dhg(shared_dir: Path, graph: str, setting: str, mediators: bool) -> None:
    """DHG smooths the bias as well: it is given as the weights of a channel of ones."""
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "d_hypergraph" / graph
    info = json.loads((folder / "info.json").read_text())
    case = f"HyperGCNConv{'_mediator' if mediators else ''}.{setting}"
    if f"{case}.graph" not in info:
        pytest.skip("skipped: DHG raised an error for this graph")
    stored = load_file(folder / "tensors.safetensors")
    weights = load_file(folder / "weights.safetensors")
    x, theta = stored["X"], weights[f"{case}/theta.weight"]
    bias = weights.get(f"{case}/theta.bias", torch.zeros(theta.shape[0]))
    conv = HyperGCNConv(theta.shape[1] + 1, theta.shape[0], mediators, bias=False).eval()
    with torch.no_grad():
        conv.theta.weight.copy_(torch.cat([theta, bias[:, None]], 1))
        conv.direction.copy_(stored[f"{case}.projection"].flatten())
    x = torch.cat([x, torch.ones(x.shape[0], 1)], 1).requires_grad_()
    h = Hypergraph.from_edges(info["e_list_stored"], x.shape[0])  # DHG does not use W here
    out = conv(x, h)
    expected, scale = stored[f"{case}.out"], stored[f"{case}.out"].abs().max().item()

    z = x @ conv.theta.weight.T
    dense, ones = h.to_dense()[None].double(), torch.ones(1, h.num_edges, dtype=F64)
    scores = (z.detach() @ conv.direction)[None].double()
    right = adjacency(scores, dense, ones, mediators)
    if not mediators:
        got = out.relu() if setting == "relu" else out
        assert_close(got, expected, rtol=0, atol=1e-5 * scale)
        got.backward(stored[f"{case}.cotangent"])
        grad = stored[f"{case}.grad_X"]
        assert_close(x.grad[:, :-1], grad, rtol=0, atol=1e-4 * grad.abs().max().item())
        return
    # DHG leaves the edge between the two ends out where a hyperedge has other members, and drops a
    # hyperedge of two members altogether. Without those edges its numbers are ours; with them, as
    # in the paper and its released code, ours are the dense definition's.
    assert_close(out.double(), smooth(right, z.double()[None])[0], rtol=0, atol=1e-5 * scale)
    wrong = torch.zeros_like(right)
    for e, members in enumerate(info["e_list_stored"]):
        if len(members) > 2:
            wrong += adjacency(scores, dense[:, :, e : e + 1], ones[:, :1], True)
            i, j = extreme_members(z, h, conv.direction)[:, e]
            wrong[0, i, j] -= 1 / (2 * len(members) - 3)
            wrong[0, j, i] -= 1 / (2 * len(members) - 3)
    dhg = smooth(wrong, z.double()[None])[0].float()
    dhg = dhg.relu() if setting == "relu" else dhg
    assert_close(dhg, expected, rtol=0, atol=1e-5 * scale)
    assert (out - expected).abs().max() > 1e-2 * scale


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, x, h: c(x, h, torch.zeros(2, 3)), TypeError, "`extremes` must hold integers"),
        (
            lambda c, x, h: c(x, h, torch.zeros(2, 3, dtype=torch.long)),
            ValueError,
            r"`extremes` must have shape \[2, 2\], .*got \[2, 3\]",
        ),
        (
            lambda c, x, h: c(x, h, torch.full((2, 2), 4)),
            ValueError,
            r"`extremes` must lie in \[-1, num_nodes=4\), got 4",
        ),
        (
            lambda c, x, h: extreme_members(x, h, torch.ones(2)),
            ValueError,
            r"`direction` must have shape \[3\], .*got \[2\]",
        ),
        (
            lambda c, x, h: extreme_members(x, h, torch.ones(3, dtype=torch.long)),
            TypeError,
            "`direction` must be floating point",
        ),
        (lambda c, x, h: extreme_members(x, Dense(torch.ones(5, 2))), ValueError, "`hypergraph`"),
        (lambda c, x, h: HyperGCNConv(0, 2), ValueError, "`in_channels` must be at least 1"),
        (lambda c, x, h: HyperGCNConv(2, 1.5), TypeError, "`out_channels` must be an int"),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(HyperGCNConv(3, 2), torch.randn(4, 3), Hypergraph.from_edges([[0, 1], [2, 3]], 4))
