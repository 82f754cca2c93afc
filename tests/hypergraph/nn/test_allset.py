"""AllSetTransformer, AllDeepSets and the MLP they share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from hypergraph import AllDeepSetsConv, AllSetTransformerConv, Hypergraph
from hypergraph.incidence.pair_list import PairList
from hypergraph.models.features import sparse_rows
from hypergraph.nn._attention import attend_to_edges, attend_to_nodes
from hypergraph.nn._mlp import MLP
from hypergraph.nn.all_set_transformer import PMA
from tests.hypergraph.nn.golden import GRAPHS, Golden, close


def small() -> Hypergraph:
    """A one-vertex hyperedge, an empty one, a repeated pair, and vertex 4 isolated."""
    edges = [[0, 1, 2], [1, 3, 3], [2], []]
    return Hypergraph.from_edges(edges, 5, torch.tensor([1.0, 0.5, 2.0, 1.0]))


# ---- golden outputs


@pytest.mark.parametrize("graph", GRAPHS)
def test_transformer_gives_the_golden_outputs_of_topomodelx(shared_dir: Path, graph: str) -> None:
    """TopoModelX has no biases and leaves W out."""
    golden = Golden.load(shared_dir, graph)
    stored = golden.parameters("tmx.AllSetTransformer")
    layer = AllSetTransformerConv(5, 4, heads=2, num_layers=1).eval()
    for half, name in ((layer.v2e, "vertex2edge"), (layer.e2v, "edge2vertex")):
        maps = {
            key: stored[f"{name}.multihead_att.{key}_weight"].transpose(1, 2).flatten(0, 1)
            for key in "KV"
        }
        state = {
            "key.weight": maps["K"],
            "value.weight": maps["V"],
            "theta": stored[f"{name}.multihead_att.Q_weight"].squeeze(1),
            "rff.lins.0.weight": stored[f"{name}.mlp.0.weight"],
        }
        for norm in (0, 1):
            for part in ("weight", "bias"):
                state[f"norm{norm}.{part}"] = stored[f"{name}.ln{norm}.{part}"]
        for bias in ("key.bias", "value.bias", "rff.lins.0.bias"):
            state[bias] = torch.zeros(4)
        half.load_state_dict(state)
    close(
        layer.v2e(golden.x, golden.plain, "edges").relu(),
        golden.tensors["tmx.AllSetTransformer.out1"],
    )
    expected = golden.tensors["tmx.AllSetTransformer.out0"]
    got = layer(golden.x, golden.plain).relu()
    close(got[: len(expected)], expected)
    # TopoModelX drops the rows of isolated vertices at the end.
    assert (golden.plain.node_degree()[len(expected) :] == 0).all()
    assert len(expected) == len(got) or graph == "isolated"


@pytest.mark.parametrize("graph", GRAPHS)
def test_deep_sets_give_the_golden_outputs_of_topomodelx(shared_dir: Path, graph: str) -> None:
    """Its linear map and ReLU after the mean are the first layer of a decoder of three. It gives
    NaN to an isolated vertex, which is ReLU(f_dec(0)) = 0 here, as there are no biases."""
    golden = Golden.load(shared_dir, graph)
    stored = golden.parameters("tmx.AllSet")
    layer = AllDeepSetsConv(5, 4, decoder_layers=3, norm=None, input_norm=False).eval()
    for half, name in ((layer.v2e, "vertex2edge"), (layer.e2v, "edge2vertex")):
        weights = {
            half.encoder.lins[0]: stored[f"{name}.encoder.0.weight"],
            half.encoder.lins[1]: stored[f"{name}.encoder.3.weight"],
            half.decoder.lins[0]: stored[f"{name}.conv.weight"].T,
            half.decoder.lins[1]: stored[f"{name}.decoder.0.weight"],
            half.decoder.lins[2]: stored[f"{name}.decoder.3.weight"],
        }
        for linear, weight in weights.items():
            assert isinstance(linear, nn.Linear)
            linear.weight.data.copy_(weight)
            nn.init.zeros_(linear.bias)
    close(layer.v2e(golden.x, golden.plain, "edges"), golden.tensors["tmx.AllSet.out1"])
    expected = golden.tensors["tmx.AllSet.out0"]
    isolated = golden.plain.node_degree() == 0
    assert bool(expected[isolated].isnan().all())
    close(layer(golden.x, golden.plain), torch.where(isolated.unsqueeze(-1), 0, expected))


# ---- AllSetTransformer


def test_pma_by_hand() -> None:
    """One channel per head makes the scores plain numbers; LayerNorm of two is +-1."""
    half = PMA(1, 2, heads=2, num_layers=1).double()
    with torch.no_grad():
        half.key.weight.copy_(torch.tensor([[1.0], [-2.0]]))
        half.value.weight.copy_(torch.tensor([[1.0], [10.0]]))
        half.theta.copy_(torch.tensor([[0.5], [1.0]]))
        for bias in (half.key.bias, half.value.bias, half.rff.lins[0].bias):
            nn.init.zeros_(bias)
        nn.init.zeros_(half.rff.lins[0].weight)
        for norm in (half.norm0, half.norm1):
            norm.weight.fill_(1.0)
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    h = Hypergraph.from_edges([[0, 1]])
    # Scores 0.5 x and LeakyReLU(-2 x); the first head leans to vertex 1, the second to vertex 0.
    first = torch.tensor([0.5, 1.5]).double().softmax(0)
    second = torch.tensor([-0.4, -1.2]).double().softmax(0)
    z = torch.stack([0.5 + first @ x[:, 0], 1 + 10 * (second @ x[:, 0])])
    y = functional.layer_norm(z, (2,))
    assert_close(half(x, h)[0], functional.layer_norm(y, (2,)))


def test_isolated_vertices_come_out_as_what_pma_makes_of_its_seed() -> None:
    layer = AllSetTransformerConv(3, 4, heads=2).eval()
    edges = [[0, 1], [1, 4]]  # 2, 3, 5 isolated
    out = layer(torch.randn(6, 3), Hypergraph.from_edges(edges, 6))
    half = layer.e2v
    y = half.norm0(half.theta.flatten())
    expected = half.norm1(y + half.rff(y).relu())
    assert_close(out[[2, 3, 5]], expected.expand(3, 4))
    assert expected.abs().sum() > 0


def test_a_hyperedge_of_weight_0_is_not_attended_to() -> None:
    layer, x = AllSetTransformerConv(3, 4).eval(), torch.randn(4, 3)
    edges = [[0, 1], [1, 2, 3]]
    silent = Hypergraph.from_edges(edges, 4, torch.tensor([1.0, 0.0]))
    assert_close(layer(x, silent), layer(x, Hypergraph.from_edges(edges[:1], 4)))


def test_hyperedge_features_are_dropped_in_training_only() -> None:
    layer, x, h = AllSetTransformerConv(3, 4, dropout=1.0), torch.randn(5, 3), small()
    assert_close(layer(x, h), layer.e2v(torch.zeros(4, 4), h, "nodes"))
    layer.eval()
    assert not torch.allclose(layer(x, h), layer.e2v(torch.zeros(4, 4), h, "nodes"))


def test_parameters_are_drawn_as_the_authors_draw_them() -> None:
    half = PMA(8, 64, heads=4)
    assert 0.9 < half.key.weight.abs().max() / (6 / 72) ** 0.5 <= 1
    # xavier_uniform_ of the authors' seed [1, 4, 16]: fans 64 and 16.
    reference = nn.init.xavier_uniform_(torch.empty(1, 4, 16))
    assert 0.8 < reference.abs().max() / (6 / 80) ** 0.5 <= 1
    assert 0.8 < half.theta.abs().max() / (6 / 80) ** 0.5 <= 1
    state = half.theta.clone()
    half.reset_parameters()
    assert not torch.equal(half.theta, state)


def test_features_may_be_sparse_rows() -> None:
    x = torch.randn(5, 6) * (torch.rand(5, 6) < 0.3)
    layer = AllSetTransformerConv(6, 4).eval()
    assert_close(layer(sparse_rows(x), small()), layer(x, small()))


@pytest.mark.parametrize("make", [AllSetTransformerConv, AllDeepSetsConv])
def test_reset_draws_anew(make) -> None:
    layer = make(3, 4)
    before = {n: p.clone() for n, p in layer.named_parameters() if p.dim() == 2}
    layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        assert name not in before or not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("to_edges", [True, False])
def test_the_fused_sum_is_the_sum_over_pairs(heads: int, to_edges: bool) -> None:
    h = small()
    listed = PairList(h.members(), 5, 4)
    attend = attend_to_edges if to_edges else attend_to_nodes
    x = torch.randn(5 if to_edges else 4, 6, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(h.members().node.shape[0], heads, dtype=torch.float64, requires_grad=True)
    fused, plain = attend(h, x, alpha), attend(listed, x, alpha)
    assert_close(fused, plain)
    cotangent = torch.randn_like(fused)
    for got, expected in zip(
        torch.autograd.grad(fused, (x, alpha), cotangent),
        torch.autograd.grad(plain, (x, alpha), cotangent),
        strict=True,
    ):
        assert_close(got, expected)


# ---- AllDeepSets


def test_deep_sets_by_hand() -> None:
    """Identity maps leave means, ReLUs and the factor 1/sqrt(d_v delta_e)."""
    layer = AllDeepSetsConv(1, 1, encoder_layers=1, decoder_layers=1, norm=None, degree_norm=True)
    for half in (layer.eval().v2e, layer.e2v):
        for mlp in (half.encoder, half.decoder):
            nn.init.ones_(mlp.lins[0].weight)
            nn.init.zeros_(mlp.lins[0].bias)
    h = Hypergraph.from_edges([[0, 1], [1, 2]])
    x = torch.tensor([[2.0], [8.0], [-6.0]])
    factor = torch.tensor([2.0, 4.0, 2.0]) ** -0.5  # of vertices; both hyperedges have 2 members
    first = (2 * factor[0] + 8 * factor[1]) / 2
    second = 8 * factor[1] / 2
    expected = torch.stack(
        [first * factor[0], (first + second) / 2 * factor[1], second * factor[2]]
    )
    assert_close(layer(x, h).flatten(), expected)


def test_deep_sets_drop_what_they_send_in_training() -> None:
    layer = AllDeepSetsConv(3, 4, dropout=1.0)
    x, h = torch.randn(5, 3), small()
    sent = layer.v2e(x, h, "edges")
    assert_close(sent, layer.v2e.decoder(torch.zeros(4, 4)).relu())
    assert not torch.allclose(layer.eval().v2e(x, h, "edges"), sent)


# ---- the MLP


def test_mlp_normalises_after_the_relu() -> None:
    mlp = MLP(3, 5, 2, 3, norm="ln", input_norm=True)
    x = torch.randn(4, 3)
    z = functional.layer_norm(x, (3,))
    for linear in mlp.lins[:-1]:
        z = functional.layer_norm(linear(z).relu(), (5,))
    assert_close(mlp(x), mlp.lins[-1](z))
    names = {name.rsplit(".", 1)[0] for name, _ in mlp.named_parameters()}
    assert names == {f"lins.{i}" for i in range(3)} | {f"normalizations.{i}" for i in range(3)}


def test_batch_norm_counts_the_rows_of_all_samples() -> None:
    mlp = MLP(3, 5, 2, 2, norm="bn", input_norm=True)
    x = torch.randn(2, 4, 3)
    assert_close(mlp(x), mlp(x.flatten(0, 1)).view(2, 4, 2))
    z = functional.batch_norm(x.flatten(0, 1), None, None, training=True)
    z = functional.batch_norm(mlp.lins[0](z).relu(), None, None, training=True)
    assert_close(mlp(x).flatten(0, 1), mlp.lins[1](z))


def test_mlp_drops_hidden_channels_only() -> None:
    mlp, x = MLP(3, 5, 2, 2, dropout=1.0, norm="ln", input_norm=True), torch.randn(4, 3)
    assert_close(mlp(x), mlp.lins[1].bias.expand(4, 2))
    single = MLP(3, 5, 2, 1, dropout=1.0)
    assert_close(single(x), single.lins[0](x))


# ---- misuse


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: AllSetTransformerConv(4, 6, heads=4), "heads"),
        (lambda: AllSetTransformerConv(4, 6, heads=0), "heads"),
        (lambda: AllSetTransformerConv(4, 6, hidden_channels=0), "hidden_channels"),
        (lambda: AllSetTransformerConv(4, 6, num_layers=0), "num_layers"),
        (lambda: AllSetTransformerConv(4, 6, dropout=1.5), "dropout"),
        (lambda: PMA(4, 6, negative_slope=-1.0), "negative_slope"),
        (lambda: PMA(4, 6)(torch.randn(5, 4), small(), to="hyperedges"), "to"),
        (lambda: AllDeepSetsConv(4, 6, reduce="max"), "reduce"),
        (lambda: AllDeepSetsConv(4, 6, norm="batch"), "norm"),
        (lambda: AllDeepSetsConv(4, 6, encoder_layers=0), "encoder_layers"),
    ],
)
def test_bad_settings_are_named(make, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        make()
