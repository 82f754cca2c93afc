"""ED-HNN: the split of W2 against plain pairs, by hand, and its variants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from hypergraph import (
    EDHNNConv,
    EDHNNJumpLinkConv,
    EDHNNMeanDegConv,
    Hypergraph,
    LowRank,
    NeighborTable,
)
from hypergraph.nn._mlp import MLP
from hypergraph.nn._pair_mlp import aggregate_pairs

F64 = torch.float64


def small(weighted: bool = True) -> Hypergraph:
    """A one-vertex hyperedge, an empty one, a repeated pair, and vertex 4 isolated."""
    edges = [[0, 1, 2], [1, 3, 3], [2], []]
    weight = torch.tensor([1.0, 0.5, 2.0, 1.0], dtype=F64)
    return Hypergraph.from_edges(edges, 5, weight if weighted else None)


def plain_pairs(mlp: MLP, x: Tensor, y: Tensor, h: Hypergraph, reduce: str) -> Tensor:
    """Every pair's row formed, one output row at a time."""
    node, hyperedge = h.hyperedge_index
    rows = mlp(torch.cat([x[node], y[hyperedge]], -1))
    weight = h.weight(F64)[hyperedge]
    out = [x.new_zeros(rows.shape[-1])] * h.num_nodes
    for pair in range(len(node)):
        out[int(node[pair])] = out[int(node[pair])] + weight[pair] * rows[pair]
    if reduce == "mean":
        degree = h.node_degree(F64)
        out = [row / d if d > 0 else row for row, d in zip(out, degree, strict=True)]
    return torch.stack(out)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("input_norm", [True, False])
@pytest.mark.parametrize("norm", ["ln", "bn", None])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_split_is_exact_in_training(
    layers: int, norm: str | None, input_norm: bool, reduce: str
) -> None:
    """Values, and gradients of features and parameters; BatchNorm with its own statistics."""
    mlp = MLP(4 + 3, 6, 5, layers, norm=norm, input_norm=input_norm).double()  # type: ignore[arg-type]
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter)
    h = small()
    # An offset makes a LayerNorm of a split row lose digits unless it is centred.
    x = (torch.randn(5, 4, dtype=F64) + 50).requires_grad_()
    y = (torch.randn(4, 3, dtype=F64) - 20).requires_grad_()
    expected = plain_pairs(mlp, x, y, h, reduce)
    got = aggregate_pairs(mlp, x, y, h, reduce)  # type: ignore[arg-type]
    assert_close(got, expected, rtol=1e-9, atol=1e-9)
    cotangent, leaves = torch.randn_like(got), (x, y, *mlp.parameters())
    for a, b in zip(
        torch.autograd.grad(got, leaves, cotangent),
        torch.autograd.grad(expected, leaves, cotangent),
        strict=True,
    ):
        assert_close(a, b, rtol=1e-8, atol=1e-8)


class _Shapes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.widest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor) and tensor.dim() == 2 and tensor.shape[0] == 600:
                self.widest = max(self.widest, tensor.shape[1])
        return out


def test_rows_of_pairs_are_never_wider_than_the_hidden_channels() -> None:
    index = torch.stack([torch.randint(0, 50, (600,)), torch.randint(0, 40, (600,))])
    h, x = Hypergraph(index, 50, 40), torch.randn(50, 16, requires_grad=True)
    conv = EDHNNConv(16, 16)
    with _Shapes() as shapes:
        conv(x, x, h).sum().backward()
    assert shapes.widest == 16


def test_dropout_acts_on_the_hidden_channels_of_pairs() -> None:
    """All of them dropped leave W2's last bias, to vertices that have a hyperedge."""
    conv = EDHNNConv(4, 4, 0, 2, 0, alpha=0.0, dropout=1.0).double()
    x = torch.randn(5, 4, dtype=F64)
    out = conv(x, x, small())
    bias = conv.w2.lins[-1].bias
    assert_close(out[:4], bias.expand(4, 4))
    assert torch.equal(out[4], torch.zeros(4, dtype=F64))
    summed = EDHNNConv(4, 4, 0, 2, 0, alpha=0.0, dropout=1.0, reduce="sum").double()
    degree = torch.tensor([1.0, 1.5, 3.0, 1.0, 0.0], dtype=F64).unsqueeze(-1)
    assert_close(summed(x, x, small()), degree * summed.w2.lins[-1].bias)


def test_identities_are_plain_means() -> None:
    x, x0, h = torch.randn(5, 4, dtype=F64), torch.randn(5, 4, dtype=F64), small()
    conv = EDHNNConv(4, 4, 0, 0, 0, alpha=0.25).double()
    assert_close(conv(x, x0, h), 0.75 * h.v2v(x, "mean") + 0.25 * x0)
    conv = EDHNNConv(4, 4, 0, 0, 0, alpha=0.0, reduce="sum").double()
    assert_close(conv(x, x0, h), h.v2v(x, "sum"))


def test_jump_link_is_the_map_of_the_smoothed_features() -> None:
    x, x0, h = torch.randn(5, 4, dtype=F64), torch.randn(5, 4, dtype=F64), small()
    conv = EDHNNJumpLinkConv(4, 6, alpha=0.25).double()
    mixed = 0.75 * h.v2v(x, "mean") + 0.25 * x0
    assert_close(conv(x, x0, h), conv.w(mixed))
    near = EDHNNJumpLinkConv(4, 4, alpha=0.25, beta=0.1).double()
    assert_close(near(x, x0, h), 0.9 * mixed + 0.1 * near.w(mixed))


def test_isolated_vertices_keep_their_first_features() -> None:
    conv = EDHNNConv(3, 4).double().eval()
    x, x0 = torch.randn(5, 3, dtype=F64), torch.randn(5, 4, dtype=F64)
    assert_close(conv(x, x0, small())[4], conv.w3(0.5 * x0[4]))


def test_mean_deg_sees_degrees_and_stays_finite() -> None:
    """Only degrees as input: W3 reads log d_v and W2 log delta_e. The official code has -inf at
    the isolated vertex."""
    conv = EDHNNMeanDegConv(1, 1, mlp1_layers=1, mlp2_layers=1, mlp3_layers=1).double()
    with torch.no_grad():
        for mlp in (conv.w1, conv.w2, conv.w3):
            mlp.lins[0].weight.zero_()
            mlp.lins[0].bias.zero_()
        conv.w2.lins[0].weight[0, 2] = 1.0  # of [x, m, log delta]
        conv.w3.lins[0].weight[0, 0] = 1.0  # of [z, x, x0, log d]
        conv.w3.lins[0].weight[0, 3] = 10.0
    x = torch.randn(5, 1, dtype=F64)
    log = torch.tensor([3.0, 3.0, 1.0], dtype=F64).log()
    degree = torch.tensor([1.0, 1.5, 3.0, 1.0, 1.0], dtype=F64)
    z = torch.stack([log[0], log[0], (log[0] + 2 * log[2]) / 3, log[1], torch.zeros((), dtype=F64)])
    assert_close(conv(x, x, small()).flatten(), z + 10 * degree.log())


def test_gradients_of_tiny_degrees_are_finite() -> None:
    """The slope of the logarithm alone would overflow."""
    values = torch.full((2,), 1e-306, dtype=F64, requires_grad=True)
    h = Hypergraph(torch.tensor([[0, 1], [0, 0]]), 3, 1, incidence_weight=values)
    conv, x = EDHNNMeanDegConv(2, 2).double(), torch.randn(3, 2, dtype=F64)
    (conv(x, x, h) * 1e3).sum().backward()
    assert values.grad is not None and values.grad.isfinite().all()


def test_reset_draws_anew() -> None:
    for conv in (EDHNNConv(4, 4), EDHNNJumpLinkConv(4, 4), EDHNNMeanDegConv(4, 4)):
        before = [p.clone() for p in conv.parameters() if p.dim() == 2]
        conv.reset_parameters()
        after = [p for p in conv.parameters() if p.dim() == 2]
        assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_samples_with_their_own_hypergraphs_in_training() -> None:
    """BatchNorm inside W2 sees the pairs of all samples."""
    index = torch.randint(0, 6, (2, 3, 4))
    table = NeighborTable(index, 6)
    conv = EDHNNConv(4, 4, 1, 2, 1, norm="bn", dropout=0.0).double()
    x = torch.randn(2, 6, 4, dtype=F64)
    pairs = [NeighborTable(index[b], 6).members() for b in range(2)]
    union = Hypergraph(
        torch.cat(
            [torch.stack([p.node + 6 * b, p.hyperedge + 3 * b]) for b, p in enumerate(pairs)], 1
        ),
        12,
        6,
    )
    assert_close(conv(x, x, table).flatten(0, 1), conv(x.flatten(0, 1), x.flatten(0, 1), union))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EDHNNConv(4, 5, mlp1_layers=0), "mlp1_layers"),
        (lambda: EDHNNConv(4, 5, alpha=1.5), "alpha"),
        (lambda: EDHNNConv(4, 5, alpha="half"), "alpha"),
        (lambda: EDHNNConv(4, 5, reduce="max"), "reduce"),
        (lambda: EDHNNConv(4, 5, mlp2_layers=-1), "mlp2_layers"),
        (lambda: EDHNNConv(4, 5, dropout=2.0), "dropout"),
        (lambda: EDHNNJumpLinkConv(4, 5, beta=0.5), "beta"),
        (lambda: EDHNNJumpLinkConv(4, 5, mlp_layers=0), "mlp_layers"),
        (lambda: EDHNNMeanDegConv(4, 5, first_channels=0), "first_channels"),
        (lambda: EDHNNMeanDegConv(4, 5, mlp3_layers=0), "mlp3_layers"),
    ],
)
def test_bad_settings_are_named(make, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        make()


@pytest.mark.parametrize(
    "x0",
    [
        torch.randn(5, 4),
        torch.randn(4, 5),
        torch.randn(2, 5, 5),
        torch.ones(5, 5, dtype=torch.long),
        torch.randn(5, 5).numpy(),
        None,
    ],
)
def test_first_features_that_do_not_fit_are_named(x0: object) -> None:
    h = small(weighted=False)
    with pytest.raises((ValueError, TypeError), match="`x0`"):
        EDHNNConv(4, 5)(torch.randn(5, 4), x0, h)  # type: ignore[arg-type]


def test_pairs_need_members() -> None:
    low_rank = LowRank(torch.rand(5, 2), torch.rand(3, 2))
    x = torch.randn(5, 4)
    for conv in (EDHNNConv(4, 4), EDHNNMeanDegConv(4, 4), EDHNNConv(4, 4, 1, 1, 1)):
        with pytest.raises(TypeError, match="`hypergraph`.*LowRank"):
            conv(x, x, low_rank)
    for conv in (EDHNNConv(4, 4, 1, 1, 1, norm=None), EDHNNMeanDegConv(4, 4, mlp2_layers=1)):
        assert conv(x, x, low_rank).shape == (5, 4)
