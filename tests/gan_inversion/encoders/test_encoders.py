"""The encoders against the released formulation written out slowly, and what their arguments do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from gan_inversion.checkpoints.encoder_layouts import inversion_to_ours
from gan_inversion.encoders import (
    Encoder,
    Encoder4Editing,
    EqualizedLinear,
    GradualStyleEncoder,
    IRFeatures,
    IRTrunk,
    LastLayerWEncoder,
    progressive_stage,
)
from tests.gan_inversion.encoders import foreign

KINDS = [GradualStyleEncoder, Encoder4Editing, LastLayerWEncoder]
IMAGE = torch.zeros(1, 3, 129, 130, dtype=torch.float64)
"""For encoders whose features are drawn: any image of a size that can be read."""
NAMES = {GradualStyleEncoder: "psp", Encoder4Editing: "e4e", LastLayerWEncoder: None}


def pair(kind: type[Encoder], num_ws: int, squeeze: bool = True, w_dim: int = 8):
    """An encoder in float64 and the state dict under the released names that it was read from."""
    shapes = foreign.trunk_shapes(18, squeeze)
    if kind is LastLayerWEncoder:
        shapes |= foreign.linear_shapes(w_dim)
    else:
        shapes |= foreign.pyramid_shapes(num_ws, w_dim)
    state = foreign.drawn(shapes)
    tree = {f"encoder.{name}": value for name, value in state.items()}
    # The files are float32; the comparison is not to be about rounding.
    encoder = inversion_to_ours(tree, NAMES[kind], num_ws).build_encoder().double()
    return encoder, {name: value.double() for name, value in state.items()}


class Drawn(nn.Module):
    """Features of a small image in place of the trunk, which is most of the work."""

    def __init__(self, batch: int = 1) -> None:
        super().__init__()
        shapes = [(64, 129, 130), (64, 65, 65), (128, 33, 33), (256, 17, 17), (512, 9, 9)]
        self.features = IRFeatures(*(torch.randn(batch, *s, dtype=torch.float64) for s in shapes))

    def forward(self, image: Tensor) -> IRFeatures:
        return self.features


def drawn_pair(kind: type[Encoder], num_ws: int, batch: int = 1):
    """As :func:`pair` with drawn features, which are what the reference starts from."""
    encoder, state = pair(kind, num_ws)
    encoder.trunk = Drawn(batch)
    return encoder, state, list(encoder.trunk.features[1:])


def reference(kind: type[Encoder], ends: list[Tensor], state, num_ws: int) -> Tensor:
    if kind is LastLayerWEncoder:
        return foreign.w_codes(ends, state, num_ws)
    return foreign.codes(ends, state, num_ws, num_ws - 1 if kind is Encoder4Editing else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_ws", "squeeze"), [(9, True), (2, False)])
def test_equals_the_released_formulation(kind, num_ws, squeeze):
    """Output, and the gradient to the image and to weights at both ends."""
    encoder, state = pair(kind, num_ws, squeeze)
    # Not square: a formulation that swaps the axes would pass on a square image.
    x = torch.rand(1, 3, 129, 150, dtype=torch.float64) * 2 - 1
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    stem = state["input_layer.0.weight"].requires_grad_()
    last = "linear.weight" if kind is LastLayerWEncoder else f"styles.{num_ws - 1}.linear.weight"
    linear = state[last].requires_grad_()
    got, expected = encoder(ours), reference(kind, foreign.trunk(theirs, state, 18), state, num_ws)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)
    cotangent = torch.randn_like(got)
    got.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(encoder.trunk.stem.conv.weight.grad, stem.grad, rtol=1e-8, atol=1e-9)
    head = encoder.linear if kind is LastLayerWEncoder else encoder.heads[-1].linear
    torch.testing.assert_close(head.weight.grad, linear.grad, rtol=1e-8, atol=1e-10)
    # Every parameter takes part.
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    if kind is GradualStyleEncoder or kind is Encoder4Editing:
        # With few rows the finer maps are read by none.
        unused = [n for n in unused if not (num_ws <= 7 and n.startswith("lateral"))]
    assert unused == []


@pytest.mark.parametrize("num_ws", [1, 3, 4, 7, 8])
def test_any_number_of_rows(num_ws):
    """Around the borders between coarse, middle and fine rows."""
    for kind in KINDS:
        encoder, state, ends = drawn_pair(kind, num_ws)
        with torch.no_grad():
            expected = reference(kind, ends, state, num_ws)
            torch.testing.assert_close(encoder(IMAGE), expected, rtol=1e-10, atol=1e-11)


def test_stages_of_e4e():
    encoder, state, ends = drawn_pair(Encoder4Editing, 5, batch=2)
    assert encoder.stage == 4
    with torch.no_grad():
        for stage in range(5):
            encoder.stage = stage
            code = encoder(IMAGE)
            expected = foreign.codes(ends, state, 5, stage)
            torch.testing.assert_close(code, expected, rtol=1e-10, atol=1e-11)
            base, deltas = encoder.base_and_deltas(IMAGE)
            assert torch.equal(base[:, None] + deltas, code)
            assert not deltas[:, 0].any() and not deltas[:, stage + 1 :].any()
            assert all(bool(deltas[:, row].any()) for row in range(1, stage + 1))
    encoder.stage = "inference"
    assert encoder.stage == 4
    for wrong in (-1, 5, 1.0, True, "training", None):
        with pytest.raises(ValueError, match="`stage` must be 0 to 4 or 'inference'"):
            encoder.stage = wrong


def test_rows_beyond_the_stage_get_no_gradient():
    encoder, _, _ = drawn_pair(Encoder4Editing, 4)
    encoder.stage = 1
    encoder(IMAGE).sum().backward()
    trained = [head.linear.weight.grad is not None for head in encoder.heads]
    assert trained == [True, True, False, False]


def test_progressive_stage():
    assert progressive_stage(0, 18) == 0 and progressive_stage(19_999, 18) == 0
    assert [progressive_stage(20_000 + 2_000 * i, 18) for i in range(19)] == [
        *range(1, 18), 17, 17,
    ]  # fmt: skip
    assert progressive_stage(5, 4, start=0, every=5) == 2
    assert progressive_stage(10**9, 1) == 0
    for arguments, name in (
        ({"step": -1}, "step"), ({"start": -1}, "start"), ({"every": 0}, "every"),
        ({"num_ws": 0}, "num_ws"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            progressive_stage(**({"step": 1, "num_ws": 18} | arguments))


@pytest.mark.parametrize("kind", KINDS)
def test_latent_avg_is_added_to_every_row(kind):
    encoder, _, _ = drawn_pair(kind, 3, batch=2)
    with torch.no_grad():
        offsets = encoder(IMAGE)
        assert torch.equal(offsets, encoder.offsets(IMAGE))
        mean = torch.randn(3, 8, dtype=torch.float64)
        encoder.latent_avg.copy_(mean)
        assert torch.equal(encoder(IMAGE), offsets + mean)
        assert torch.equal(encoder.offsets(IMAGE), offsets)


def test_evaluation_mode_judges_every_image_alone_and_training_does_not():
    encoder = Encoder4Editing(2, w_dim=8, depth=18)
    x = torch.rand(2, 3, 129, 129)
    with torch.no_grad():
        encoder.train()
        together, alone = encoder(x), encoder(x[:1])
        assert (together[:1] - alone).abs().max() > 1e-3
        assert encoder.trunk.stem.norm.num_batches_tracked == 2
        encoder.eval()
        torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-4, atol=1e-5)
        assert encoder.trunk.stem.norm.num_batches_tracked == 2


def test_training_step_lowers_the_loss():
    torch.manual_seed(1)
    encoder = GradualStyleEncoder(4, w_dim=8, depth=18).train()
    x, target = torch.rand(2, 3, 129, 129), torch.randn(2, 4, 8)
    optimizer = torch.optim.Adam(encoder.parameters(), 2e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (encoder(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0], losses


@pytest.mark.parametrize("kind", KINDS)
def test_input_sizes_are_checked(kind):
    encoder = kind(3, w_dim=8, depth=18).eval()
    for shape in ((3, 256, 256), (1, 1, 256, 256), (1, 3, 256)):
        with pytest.raises(ValueError, match=r"`image` must have shape \[B, 3, 256, 256\]"):
            encoder(torch.zeros(shape))
    for size in ((257, 256), (256, 128), (1024, 1024)):
        with pytest.raises(ValueError, match=f"got {size[0]} x {size[1]}; resize it first"):
            encoder(torch.zeros(1, 3, *size))
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 192, 256)).shape == (1, 3, 8), "cars"
        assert encoder(torch.zeros(0, 3, 256, 256)).shape == (0, 3, 8)


def test_arguments_are_checked():
    for arguments, reason in (
        ({"num_ws": 0}, "`num_ws` must be a positive integer, got 0"),
        ({"w_dim": 1.5}, "`w_dim` must be a positive integer"),
        ({"in_channels": 0}, "`in_channels` must be"),
        ({"depth": 101}, r"`depth` must be one of \[18, 34, 50, 100, 152\], got 101"),
    ):
        for kind in KINDS:
            with pytest.raises(ValueError, match=reason):
                kind(**({"num_ws": 2, "depth": 18} | arguments))


def test_other_images_than_rgb():
    encoder = GradualStyleEncoder(2, w_dim=8, depth=18, in_channels=1).eval()
    assert encoder(torch.zeros(1, 1, 129, 129)).shape == (1, 2, 8)
    with pytest.raises(ValueError, match=r"\[B, 1, 256, 256\], got \[1, 3, 129, 129\]"):
        encoder(torch.zeros(1, 3, 129, 129))


@pytest.mark.parametrize("depth", [18, 34, 50, 100, 152])
def test_depths_of_the_trunk(depth):
    with torch.device("meta"):
        trunk = IRTrunk(depth)
        features = trunk(torch.zeros(2, 3, 100, 112))
    assert [tuple(f.shape) for f in features] == [
        (2, 64, 100, 112), (2, 64, 50, 56), (2, 128, 25, 28), (2, 256, 13, 14), (2, 512, 7, 7)
    ]  # fmt: skip


def test_equalized_linear_by_hand():
    layer = EqualizedLinear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2, 3, 4]]))
        layer.bias.fill_(10)
        # scaled by 1/sqrt(4): (1 + 2 + 3 + 4) / 2 + 10
        assert layer(torch.ones(1, 4)).item() == 15


@pytest.mark.parametrize("kind", KINDS)
def test_copied_pickled_and_rebuilt(kind):
    encoder = kind(3, w_dim=8, depth=18, squeeze_excite=False).eval()
    x = torch.rand(1, 3, 129, 129)
    rebuilt = kind(**encoder.config).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        expected = encoder(x)
        for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), rebuilt):
            assert torch.equal(other(x), expected)


@pytest.mark.parametrize("kind", [Encoder4Editing, LastLayerWEncoder])
def test_compiles_to_one_graph(kind):
    torch._dynamo.reset()
    encoder = kind(2, w_dim=8, depth=18).eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    x = torch.rand(1, 3, 129, 129, requires_grad=True)
    expected = encoder(x)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), x)
    got = compiled(x)
    (grad,) = torch.autograd.grad(got.square().sum(), x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert (grad - expected_grad).abs().max() <= 1e-4 * expected_grad.abs().max()
    if isinstance(encoder, Encoder4Editing):
        encoder.stage = 0
        torch.testing.assert_close(compiled(x), encoder(x), rtol=1e-4, atol=1e-5)


def test_exports():
    encoder = Encoder4Editing(4, w_dim=8, depth=18).eval()
    x = torch.rand(2, 3, 256, 256)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(encoder, (x,), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x[:1]), encoder(x[:1]), rtol=1e-4, atol=1e-5)


def test_bfloat16_and_channels_last():
    encoder = Encoder4Editing(4, w_dim=8, depth=18).eval()
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        expected = encoder(x)
        last = encoder.to(memory_format=torch.channels_last)(
            x.contiguous(memory_format=torch.channels_last)
        )
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
        low = encoder.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low.float() - expected).norm() < 0.05 * expected.norm()
