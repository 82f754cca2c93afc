from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    KNN,
    Concat,
    CrossCorrelation,
    Dense,
    Fusion,
    HGNNConv,
    WeightedSum,
    fuse,
    part_shares,
)
from tests.hypergraph.oracle import F64, hgnn


def tied() -> CrossCorrelation:
    return CrossCorrelation(6, rank=4, omega="tied").to(F64)


def linear(edges: int = 5) -> CrossCorrelation:
    return CrossCorrelation(6, num_edges=edges, rank=4).to(F64)


def mean_degree(matrix: Tensor) -> Tensor:
    return matrix.sum(-1).mean(-1)[..., None, None]


@pytest.mark.parametrize("shape", [(12, 6), (3, 12, 6)], ids=str)
@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_parts_meet_at_the_mean_degree_of_the_first(shape: tuple[int, ...], mode: str) -> None:
    x = torch.randn(shape, dtype=F64)
    knn, cc = KNN(4, weighting="rbf"), tied()
    h = Fusion([knn, cc], mode)(x)
    short, long = knn(x).to_dense(), cc(x).to_dense()
    long = long * mean_degree(short) / mean_degree(long)
    if mode == "concat":
        assert isinstance(h, Concat)
        assert_close(h.to_dense(), torch.cat([short, long], -1))
    else:
        assert isinstance(h, WeightedSum)
        assert_close(h.to_dense(), 0.9 * short + 0.1 * long)


def test_weights_and_raw_scale() -> None:
    x = torch.randn(12, 6, dtype=F64)
    knn, cc = KNN(4), linear()
    raw = Fusion([knn, cc], weights=(1.0, 0.5), normalized=False)(x)
    parts = [knn(x).to_dense().to(F64), 0.5 * cc(x).to_dense()]
    assert_close(raw.to_dense(), torch.cat(parts, -1))
    three = Fusion([knn, cc, KNN(2)])(x)
    assert three.shape == (12, 29)


def test_raw_abs_incidence_would_drown_the_table() -> None:
    """Why parts are normalised: the share of the table without it, and with it."""
    x = torch.randn(300, 6, dtype=F64)
    raw = Fusion([KNN(4), linear(300)], "sum", (1.0, 1.0), normalized=False)(x)
    even = Fusion([KNN(4), linear(300)], "sum", (1.0, 1.0))(x)
    assert part_shares(raw, x)[0] < 0.15
    assert 0.3 < part_shares(even, x)[0] < 0.95


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_convolution_and_all_gradients_equal_the_dense_formula(mode: str) -> None:
    fusion, conv = Fusion([KNN(4, weighting="rbf"), tied()], mode), HGNNConv(6, 5).to(F64)
    x = torch.randn(2, 10, 6, dtype=F64, requires_grad=True)
    cotangent = torch.randn(2, 10, 5, dtype=F64)
    h = fusion(x)
    inputs = [x, *fusion.parameters(), *conv.parameters()]
    got, expected = conv(x, h), hgnn(conv.theta(x), h.to_dense())
    assert_close(got, expected)
    grads = torch.autograd.grad((got * cotangent).sum(), inputs, retain_graph=True)
    assert_close(grads, torch.autograd.grad((expected * cotangent).sum(), inputs))


def test_concatenation_is_permutation_equivariant() -> None:
    x, order = torch.randn(20, 6, dtype=F64), torch.randperm(20)
    fusion, conv = Fusion([KNN(4), linear()]), HGNNConv(6, 3).to(F64)
    assert_close(conv(x[order], fusion(x[order])), conv(x, fusion(x))[order])


def test_a_sum_is_equivariant_only_if_columns_belong_to_vertices() -> None:
    x, order = torch.randn(20, 6, dtype=F64), torch.randperm(20)
    conv = HGNNConv(6, 3).to(F64)

    def error(fusion: Fusion) -> float:
        moved, still = conv(x[order], fusion(x[order])), conv(x, fusion(x))[order]
        return float((moved - still).detach().abs().max())

    assert error(Fusion([KNN(4), tied()], "sum", (0.5, 0.5))) < 1e-12
    assert error(Fusion([KNN(4), linear(20)], "sum", (0.5, 0.5))) > 1e-4


def test_samples_do_not_see_each_other() -> None:
    fusion, conv = Fusion([KNN(4), linear()]), HGNNConv(6, 3).to(F64)
    x = torch.randn(3, 9, 6, dtype=F64)
    alone = torch.stack([conv(sample, fusion(sample)) for sample in x])
    assert_close(conv(x, fusion(x)), alone)
    batch = torch.arange(3).repeat_interleave(9)
    flat = x.reshape(27, 6)
    assert_close(conv(flat, fusion(flat, batch)), alone.reshape(27, 3))


def test_shares_are_those_of_the_terms() -> None:
    x = torch.randn(10, 6, dtype=F64)
    h = Fusion([KNN(4), linear()])(x)
    matrix = h.to_dense()
    root = matrix.sum(1, keepdim=True) ** -0.5
    terms = []
    for part in (matrix[:, :10], matrix[:, 10:]):
        terms.append((root * (part / part.sum(0)) @ (part.T @ (root * x))).norm())
    assert_close(part_shares(h, x), torch.stack(terms) / sum(terms))
    zero = fuse([Dense(torch.zeros(4, 2)), Dense(torch.zeros(4, 2))])
    assert part_shares(zero, torch.ones(4, 2)).tolist() == [0, 0]


def test_a_part_without_degree_stays_zero() -> None:
    zero = torch.zeros(4, 2, dtype=F64, requires_grad=True)
    h = fuse([Dense(torch.ones(4, 2, dtype=F64)), Dense(zero)])
    out = HGNNConv(3, 2).to(F64)(torch.randn(4, 3, dtype=F64), h)
    assert out.isfinite().all() and h.to_dense()[:, 2:].abs().max() == 0
    out.sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_samples_without_vertices(mode: str) -> None:
    fusion, conv = Fusion([KNN(3), tied()], mode), HGNNConv(6, 5).to(F64)
    x = torch.randn(4, 6, dtype=F64)
    batch = torch.tensor([0, 0, 2, 2])
    out = conv(x, fusion(x, batch))
    assert_close(out, conv(x, fusion(x, batch.clamp_max(1))))
    assert conv(x[:0], fusion(x[:0])).shape == (0, 5)
    assert conv(x[:0], fusion(x[:0], batch[:0])).shape == (0, 5)
    assert conv(x.new_ones(2, 0, 6), fusion(x.new_ones(2, 0, 6))).shape == (2, 0, 5)


def test_asking_for_shares_leaves_the_gradients_alone() -> None:
    fusion, conv, x = Fusion([KNN(4), linear()]), HGNNConv(6, 3).to(F64), torch.randn(9, 6)
    x = x.to(F64)
    grads = []
    for asked in (False, True):
        h = fusion(x)
        if asked:
            part_shares(h, x)
        loss = conv(x, h).square().sum()
        grads.append(torch.autograd.grad(loss, list(fusion.parameters())))
    assert_close(*grads)


def test_repr_shows_learned_scales_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert "coefficients=[" in repr(Fusion([KNN(4), linear()])(torch.randn(9, 6, dtype=F64)))
    assert not recwarn.list


def test_bad_input_is_named() -> None:
    one = Dense(torch.ones(4, 2))
    for bad in ([], ["knn"]):
        with pytest.raises(TypeError, match="`constructions` must hold modules"):
            Fusion(bad)
    with pytest.raises(ValueError, match="`weights` must be non-negative and finite, got inf"):
        fuse([one, one], weights=(1, float("inf")))
    with pytest.raises(ValueError, match="`x` must have shape .3, 4, C"):
        part_shares(fuse([Dense(torch.ones(3, 4, 2))]), torch.ones(4, 2))
    with pytest.raises(ValueError, match="`mode` must be one of 'concat', 'sum'"):
        Fusion([KNN(2)], "mean")
    with pytest.raises(ValueError, match="`weights` must have one entry per part, 2, got 1"):
        Fusion([KNN(2), KNN(3)], weights=[1.0])
    with pytest.raises(ValueError, match="`weights` must be non-negative"):
        fuse([one, one], weights=(1, -1))
    with pytest.raises(ValueError, match="`parts` must hold at least one"):
        fuse([])
    with pytest.raises(ValueError, match="`parts` must agree in vertices, hyperedges"):
        fuse([one, Dense(torch.ones(4, 3))], "sum")
    with pytest.raises(TypeError, match="`hypergraph` must be a Concat or WeightedSum, got Dense"):
        part_shares(one, torch.ones(4, 2))
