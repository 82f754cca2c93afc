from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import KNN, CrossCorrelation, Dense, Fusion, HGNNConv, Incidence, LowRank, Streamed
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


def test_features_whose_sum_is_beyond_float16() -> None:
    build = CrossCorrelation(8, nonneg="factors")
    x = torch.rand(4096, 8) * 4 + 18
    wanted = build(x)
    got = build.half()(x.half())
    assert isinstance(got, LowRank) and isinstance(wanted, LowRank)
    assert_close(got.p, wanted.p, atol=0.03, rtol=0)  # entries are up to 0.99


def test_autocast_keeps_the_incidence_in_float32() -> None:
    cc = CrossCorrelation(16, num_edges=5, rank=8)
    x = torch.randn(2, 30, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = cc(x)
    assert h.dtype == torch.float32
    assert_close(h.to_dense(), cc(x).to_dense(), rtol=0.1, atol=0.1)  # bfloat16 Psi and Lambda


# ---- the published forms


def convolved(**settings) -> CrossCorrelation:
    return CrossCorrelation(4, **{"omega": "conv", "grid": 3, **settings})


def published(cc: CrossCorrelation, image: Tensor) -> Tensor:
    """Psi Lambda Psi^T Omega of one image [H, W, C], every pixel and every factor by itself."""
    height, width, channels = image.shape
    x = image.reshape(-1, channels)
    psi = x @ cc.psi.weight.T + cc.psi.bias
    metric = torch.diag(x.mean(0) @ cc.metric.weight.T + cc.metric.bias)
    kernel, reach = cc.omega.weight, cc.omega.weight.shape[-1] // 2
    omega = cc.omega.bias.expand(height, width, -1).clone()
    for row in range(height):
        for column in range(width):
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    r, c = row + down, column + right
                    if 0 <= r < height and 0 <= c < width:
                        tap = kernel[:, :, down + reach, right + reach]
                        omega[row, column] += tap @ image[r, c]
    return psi @ metric @ psi.T @ omega.reshape(height * width, -1)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("form", ["wadhwa", "dhfusion"])
def test_published_forms(form: str, streamed: bool) -> None:
    make_form = getattr(CrossCorrelation, form)
    cc = make_form(4, grid=(3, 5), num_edges=6, rank=3, streamed=streamed).to(F64)
    for parameter in cc.parameters():  # biases start at 0 in one form: they must take part
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 5, 4, dtype=F64)
    expected = torch.stack([published(cc, image) for image in images]).detach()
    expected = expected.abs() if form == "wadhwa" else expected.softmax(-1)
    x = images.flatten(1, 2)
    assert_close(cc(x).to_dense(), expected)
    assert_close(cc(x[0]).to_dense(), expected[0])
    batch = torch.tensor([1, 0]).repeat_interleave(15)
    flat = cc(x.flip(0).flatten(0, 1), batch).to_dense()
    assert_close(flat, torch.block_diag(*expected)[torch.arange(30).roll(15)])


def test_published_forms_have_the_published_sizes() -> None:
    cc = CrossCorrelation.wadhwa(8, grid=2)
    assert (cc.num_edges, cc.rank, cc.nonneg, cc.log_scale) == (256, 64, "abs", None)
    assert cc.omega.weight.shape == (256, 8, 7, 7) and not cc.omega.bias.any()
    spread = CrossCorrelation.wadhwa(64, grid=4, rank=64).psi.weight.std()
    assert_close(spread, torch.tensor((2 / 128) ** 0.5), rtol=0.05, atol=0)  # Glorot's
    cc = CrossCorrelation.dhfusion(12, grid=4)
    assert (cc.num_edges, cc.rank, cc.nonneg, cc.axis) == (16, 12, "softmax", "edges")
    assert "grid=(4, 4)" in repr(cc) and "normalized=False" in repr(cc)


def test_dhfusion_saturates_unless_tempered() -> None:
    """At its own sizes the released form is close to one-hot: most hyperedges are empty."""
    x = torch.randn(256, 512)
    official = CrossCorrelation.dhfusion(512)(x).to_dense()
    tempered = CrossCorrelation.dhfusion(512, temperature=512**0.5)(x).to_dense()
    assert (official.sum(0) < 1e-6).float().mean() > 0.3
    assert (tempered.sum(0) < 1e-6).float().mean() < 0.05


def test_dhfusion_fuses_with_neighbours_by_its_weights() -> None:
    x = torch.randn(2, 16, 6, dtype=F64)
    knn, cc = KNN(5, threshold=1.0, weighting="rbf"), CrossCorrelation.dhfusion(6, grid=4).to(F64)
    h = Fusion([knn, cc], "sum", (0.9, 0.1), normalized=False)(x).to_dense()
    assert_close(h, 0.9 * knn(x).to_dense() + 0.1 * cc(x).to_dense())


@pytest.mark.parametrize("centred", [True, False])
def test_a_bias_of_omega(centred: bool) -> None:
    """It adds a column's constant to Omega; centred Psi does not see constants."""
    cc = CrossCorrelation(6, 5, rank=4, centred=centred, omega_bias=True, normalized=False).to(F64)
    x = torch.randn(11, 6, dtype=F64)
    psi = x @ cc.psi.weight.T + cc.psi.bias
    psi = psi - psi.mean(0) if centred else psi
    metric = torch.diag(x.mean(0) @ cc.metric.weight.T + cc.metric.bias)
    omega = x @ cc.omega.weight.T + cc.omega.bias
    assert_close(cc(x).to_dense(), (psi @ metric @ psi.T @ omega).abs().detach())
    before = cc(x).to_dense()
    cc.omega.bias.data += 3
    assert torch.allclose(cc(x).to_dense(), before) == centred


@pytest.mark.parametrize("form", ["wadhwa", "dhfusion"])
def test_published_forms_pass_gradients(form: str) -> None:
    cc = getattr(CrossCorrelation, form)(2, grid=2, num_edges=3, rank=2, streamed=False).to(F64)
    x = torch.randn(4, 2, dtype=F64, requires_grad=True)
    conv = HGNNConv(2, 2).to(F64)
    names = [name for name, _ in cc.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return conv(x, torch.func.functional_call(cc, named, (x,)))

    assert torch.autograd.gradcheck(run, (x, *cc.parameters()))


@pytest.mark.parametrize("batch", [(), (3,), (0,)], ids=["single", "batch", "empty batch"])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("normalized", [False, True])
def test_convolutional_omega_is_not_formed(
    batch: tuple[int, ...], kernel_size: int, normalized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Omega^T Psi`` from shifted correlations equals that of Omega itself, gradients included."""
    settings = {"centred": False, "normalized": normalized, "omega_bias": True}
    build = CrossCorrelation(
        3, 30, 2, omega="conv", grid=(4, 6), kernel_size=kernel_size, **settings
    )
    build = build.to(F64)
    x = torch.randn(*batch, 24, 3, dtype=F64, requires_grad=True)
    variables = (x, build.psi.weight, build.omega.weight, build.omega.bias)

    def answers(implementation: str) -> tuple[Tensor, ...]:
        build.implementation = implementation
        h = build(x)
        assert isinstance(h, Streamed) and h.implementation == implementation
        return h.q, *torch.autograd.grad(h.q.sin().sum(), variables, materialize_grads=True)

    expected = answers("reference")
    convolve = torch.nn.functional.conv2d

    def refused(*args, **kwargs):
        raise AssertionError("Omega was formed")

    if batch != (0,):
        monkeypatch.setattr(torch.nn.functional, "conv2d", refused)
    assert_close(answers("auto"), expected)
    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)


def test_convolutional_omega_can_be_differentiated_twice() -> None:
    build = CrossCorrelation(
        2, 8, 1, omega="conv", centred=False, normalized=False, grid=3, kernel_size=3
    ).to(F64)
    x = torch.randn(9, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: build(x).q, (x,))


def test_convolutional_omega_compiles() -> None:
    build = CrossCorrelation.wadhwa(3, grid=(4, 6), num_edges=30, rank=2)
    x = torch.randn(2, 24, 3, requires_grad=True)
    compiled = torch.compile(lambda x: build(x).q, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), build(x).q)
    assert_close(
        torch.autograd.grad(compiled(x).sin().sum(), x),
        torch.autograd.grad(build(x).q.sin().sum(), x),
    )


@pytest.mark.parametrize("nonneg", ["abs", "softmax", "factors"])
def test_an_implementation_can_be_forced(nonneg: str) -> None:
    build = CrossCorrelation(6, 5, nonneg=nonneg, implementation="reference")
    assert build(torch.randn(7, 6)).implementation == "reference"
    with pytest.raises(ValueError, match="`implementation` must be one of 'auto'"):
        CrossCorrelation(6, implementation="fast")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrossCorrelation(0), "`in_channels` must be at least 1"),
        (lambda: CrossCorrelation(4, rank=0), "`rank` must be at least 1"),
        (lambda: CrossCorrelation(4, num_edges=-1), "`num_edges` must be at least 1"),
        (lambda: CrossCorrelation(4, num_edges=0), "`num_edges` must be at least 1"),
        (lambda: CrossCorrelation(4, nonneg="relu"), "`nonneg` must be one of 'abs'"),
        (lambda: CrossCorrelation(4, omega="mlp"), "`omega` must be one of 'linear', 'tied'"),
        (lambda: CrossCorrelation(4, omega="conv"), "`grid` gives height and width"),
        (lambda: CrossCorrelation(4, grid=4), "`grid` gives height and width"),
        (lambda: convolved(grid=(2, 3, 4)), "`grid` must be one number or"),
        (lambda: convolved(grid=(2, 0)), r"`grid\[1\]` must be at least 1"),
        (
            lambda: CrossCorrelation(4, omega="conv", grid=2, kernel_size=4),
            "`kernel_size` must be odd",
        ),
        (lambda: CrossCorrelation(4, omega="tied", omega_bias=True), "`omega_bias` goes with"),
        (
            lambda: CrossCorrelation(4, nonneg="factors", normalized=False),
            "`normalized=False` goes",
        ),
        (
            lambda: CrossCorrelation.wadhwa(4, 3)(torch.ones(8, 4)),
            "one vertex per pixel .* 9, got 8",
        ),
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
