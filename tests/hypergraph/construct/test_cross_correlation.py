from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import CrossCorrelation, Dense, HGNNConv, Incidence, LowRank, Streamed
from tests.hypergraph.oracle import F64

SETTINGS = [
    {"nonneg": "abs"},
    {"nonneg": "softmax"},
    {"nonneg": "softmax", "axis": "nodes"},
    {"nonneg": "factors"},
    {"nonneg": "abs", "centred": False},
    {"nonneg": "softmax", "streamed": False},
]


def make(channels: int = 6, **settings) -> CrossCorrelation:
    if settings.get("omega") != "tied":
        settings.setdefault("num_edges", 5)
    return CrossCorrelation(channels, rank=4, **settings).to(F64)


def literal(cc: CrossCorrelation, x: Tensor) -> Tensor:
    """Eq. 3 for one sample with every matrix formed, centred and divided by its RMS."""
    psi = x @ cc.psi.weight.T + cc.psi.bias
    if cc.centred:
        psi = psi - psi.mean(0)
    metric = torch.diag(x.mean(0) @ cc.metric.weight.T + cc.metric.bias)
    omega = torch.eye(x.shape[0], dtype=F64) if cc.omega is None else x @ cc.omega.weight.T
    matrix = psi @ metric @ psi.T @ omega
    return matrix / matrix.square().mean().sqrt()


def literal_factors(cc: CrossCorrelation, x: Tensor) -> Tensor:
    """P = Psi Lambda and Q = Omega^T Psi, each divided by its RMS, through a softmax over rank."""
    psi = x @ cc.psi.weight.T + cc.psi.bias
    psi = psi - psi.mean(0)
    p = psi * (x.mean(0) @ cc.metric.weight.T + cc.metric.bias)
    assert cc.omega is not None and cc.log_scale is not None
    q = (x @ cc.omega.weight.T).T @ psi
    p, q = ((f / f.square().mean().sqrt() * cc.log_scale.exp()).softmax(-1) for f in (p, q))
    return p @ q.T


@pytest.mark.parametrize("settings", [*SETTINGS, {"omega": "tied"}], ids=str)
@pytest.mark.parametrize("shape", [(11, 6), (3, 11, 6)], ids=str)
def test_equals_equation_3(settings: dict, shape: tuple[int, ...]) -> None:
    cc = make(**settings)
    x = torch.randn(shape, dtype=F64)
    h = cc(x).to_dense()
    samples = zip(x.view(-1, 11, 6), h.view(-1, *h.shape[-2:]), strict=True)
    for sample, got in samples:
        expected = literal(cc, sample)
        if cc.nonneg == "abs":
            expected = expected.abs()
        elif cc.nonneg == "softmax":
            expected = expected.softmax(-1 if cc.axis == "edges" else -2)
        else:
            expected = literal_factors(cc, sample)
        assert_close(got, expected, rtol=1e-6, atol=1e-8)


def test_representations() -> None:
    x = torch.randn(7, 6, dtype=F64)
    assert isinstance(make()(x), Streamed)
    assert isinstance(make(nonneg="softmax")(x), Streamed)
    assert isinstance(make(nonneg="factors")(x), LowRank)
    assert isinstance(make(streamed=False)(x), Dense)
    assert CrossCorrelation(6)(x.float()).shape == (7, 256)
    assert make(omega="tied")(x).shape == (7, 7)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_temperature_sharpens(settings: dict) -> None:
    if settings["nonneg"] == "abs":
        assert make(**settings).log_scale is None
        return
    x = torch.randn(30, 6, dtype=F64)
    cc = make(**settings)
    soft = cc(x).to_dense()
    assert cc.log_scale is not None
    cc.log_scale.data += 2
    sharp = cc(x).to_dense()
    assert sharp.std() > 1.2 * soft.std()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_the_scale_of_the_features_does_not_flatten_the_incidence(
    settings: dict, scale: float
) -> None:
    """Neither a global mean (all entries alike) nor one-hot rows, at any feature scale."""
    cc = make(64, num_edges=32, **settings)
    h = cc(torch.randn(100, 64, dtype=F64) * scale).to_dense()
    variation = h.std() / h.mean()
    assert 0.02 < variation < 3


def test_a_common_offset_changes_only_lambda() -> None:
    """Without centring, an offset makes every column of H a constant."""
    x = torch.randn(50, 6, dtype=F64)
    for centred, low, high in ((True, 0.3, 10.0), (False, 0.0, 0.1)):
        h = make(centred=centred)(x + 1000).to_dense()
        spread = (h.std(0) / h.mean(0)).median()
        assert low <= spread <= high


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equal_vertices_give_finite_gradients(settings: dict) -> None:
    cc = make(**settings)
    for value in (0.0, 1.0):
        x = torch.full((8, 6), value, dtype=F64, requires_grad=True)
        HGNNConv(6, 3).to(F64)(x, cc(x)).square().sum().backward()
        grads = [x.grad, *(p.grad for p in cc.parameters() if p.grad is not None)]
        assert all(g is not None and g.isfinite().all() for g in grads)


@pytest.mark.parametrize("value", [0.1, 1.0, 1000.0])
def test_equal_vertices_have_no_correlations_in_float32_either(value: float) -> None:
    x = (torch.randn(1, 64) + value).expand(300, 64)
    assert (CrossCorrelation(64, 8)(x).to_dense() == 0).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["missing", "none", "batch"])
def test_no_vertices_give_finite_gradients(settings: dict, kind: str) -> None:
    cc, conv = make(**settings), HGNNConv(6, 3).to(F64)
    x = torch.randn(4, 6, dtype=F64)
    if kind == "missing":
        h = cc(x, torch.tensor([0, 0, 2, 2]))
    else:
        x = x[:0] if kind == "none" else x.new_zeros(2, 0, 6)
        h = cc(x)
    conv(x, h).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in cc.parameters() if p.grad is not None)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradients_reach_features_and_parameters(settings: dict) -> None:
    cc = make(3, **settings, num_edges=2)
    x = torch.randn(2, 5, 3, dtype=F64, requires_grad=True)
    y = torch.randn(2, 2, 4, dtype=F64)
    names = [name for name, _ in cc.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        h: Incidence = torch.func.functional_call(cc, named, (x,))
        return h.e2v(y)

    assert torch.autograd.gradcheck(run, (x, *cc.parameters()))


def test_rows_follow_the_vertices() -> None:
    x, order = torch.randn(12, 6, dtype=F64), torch.randperm(12)
    for settings in SETTINGS:
        cc = make(**settings)
        assert_close(cc(x[order]).to_dense(), cc(x).to_dense()[order])


def test_tied_columns_follow_them_too() -> None:
    x, order = torch.randn(12, 6, dtype=F64), torch.randperm(12)
    for nonneg in ("abs", "softmax", "factors"):
        cc = make(omega="tied", nonneg=nonneg)
        assert_close(cc(x[order]).to_dense(), cc(x).to_dense()[order][:, order])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_batch_vector_equals_separate_samples(settings: dict) -> None:
    cc = make(**settings)
    batch = torch.tensor([1, 0, 0, 1, 1, 0, 1])
    x = torch.randn(7, 6, dtype=F64)
    expected = torch.zeros(7, 10, dtype=F64)
    for sample in range(2):
        expected[batch == sample, sample * 5 : sample * 5 + 5] = cc(x[batch == sample]).to_dense()
    assert_close(cc(x, batch).to_dense(), expected)


def test_autocast_keeps_the_incidence_in_float32() -> None:
    cc = CrossCorrelation(16, num_edges=5, rank=8)
    x = torch.randn(2, 30, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = cc(x)
    assert h.dtype == torch.float32
    assert_close(h.to_dense(), cc(x).to_dense(), rtol=0.1, atol=0.1)  # bfloat16 Psi and Lambda


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrossCorrelation(0), "`in_channels` must be at least 1"),
        (lambda: CrossCorrelation(4, rank=0), "`rank` must be at least 1"),
        (lambda: CrossCorrelation(4, num_edges=-1), "`num_edges` must be at least 1"),
        (lambda: CrossCorrelation(4, num_edges=0), "`num_edges` must be at least 1"),
        (lambda: CrossCorrelation(4, nonneg="relu"), "`nonneg` must be one of 'abs'"),
        (lambda: CrossCorrelation(4, omega="conv"), "`omega` must be one of 'linear', 'tied'"),
        (lambda: CrossCorrelation(4, axis="rows"), "`axis` must be one of"),
        (lambda: CrossCorrelation(4, temperature=0), "`temperature` must be positive"),
        (lambda: CrossCorrelation(4, temperature=float("inf")), "`temperature` must be .* finite"),
        (lambda: CrossCorrelation(4, 8, omega="tied"), "`num_edges` goes with omega='linear'"),
        (lambda: CrossCorrelation(4)(torch.ones(3, 5)), r"`x` must have 4 channels .*\[3, 5\]"),
    ],
)
def test_bad_input_is_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
