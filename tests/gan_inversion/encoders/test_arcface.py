"""The face network against the released formulation; the identity loss with any network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_inversion.checkpoints.encoder_layouts import face_id_to_ours
from gan_inversion.encoders import ArcFace, GradualStyleEncoder, IDLoss
from tests.gan_inversion.encoders import foreign


def pair(depth: int = 18, squeeze: bool = True, side: int = 2, affine: bool = True):
    shapes = foreign.trunk_shapes(depth, squeeze) | foreign.face_shapes(side, 32, affine)
    state = foreign.drawn(shapes)
    config, ours = face_id_to_ours(state)
    net = ArcFace(**config)
    net.load_state_dict(ours)
    return net.double().eval(), {name: value.double() for name, value in state.items()}


@pytest.mark.parametrize(
    ("depth", "squeeze", "side", "affine"),
    [(18, True, 2, True), (18, False, 3, False), (50, True, 1, True), (100, False, 1, False)],
)
def test_equals_the_released_formulation(depth, squeeze, side, affine):
    net, state = pair(depth, squeeze, side, affine)
    x = torch.rand(2, 3, 16 * side, 16 * side, dtype=torch.float64) * 2 - 1
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, expected = net(ours), foreign.embedding(theirs, state, depth)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2, dtype=torch.float64))
    cotangent = torch.randn_like(got)
    got.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-9)


def test_checks():
    for arguments, reason in (
        ({"input_size": 100}, "`input_size` must be a multiple of 16, got 100"),
        ({"input_size": 0}, "`input_size` must be a multiple"),
        ({"embedding_dim": 0}, "`embedding_dim` must be 1 or more"),
        ({"depth": 1}, "`depth` must be one of"),
    ):
        with pytest.raises(ValueError, match=reason):
            ArcFace(**({"input_size": 32, "depth": 18} | arguments))
    net = ArcFace(input_size=32, depth=18).eval()
    for shape in ((1, 3, 112, 112), (3, 32, 32), (1, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"`face` must have shape \[B, 3, 32, 32\], got"):
            net(torch.zeros(shape))


def test_its_trunk_starts_an_encoder():
    """pSp and e4e begin with the weights of the face network's trunk."""
    face, encoder = ArcFace(32, depth=18), GradualStyleEncoder(2, w_dim=8, depth=18)
    encoder.trunk.load_state_dict(face.trunk.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = face.trunk.eval()(x).stride16
        assert torch.equal(encoder.trunk.eval()(x).stride16, expected)


class Means(nn.Module):
    """A face network simple enough to compute with: one number per channel and quarter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, face: Tensor) -> Tensor:
        assert face.shape[1:] == (3, self.size, self.size)
        return F.adaptive_avg_pool2d(face, 2).flatten(1) * self.gain


def test_identity_loss_by_hand():
    loss = IDLoss(Means(2), size=2, crop=(0, 4, 0, 4))
    y = torch.zeros(2, 3, 256, 256)
    y_hat = y.clone()
    y[0, 0, 0, 0], y_hat[0, 0, 0, 0] = 3.0, 5.0  # same direction: cosine 1
    y[1, 0, 0, 0], y_hat[1, 0, 0, 3] = 3.0, 5.0  # another quarter: cosine 0
    assert loss.similarity(y_hat, y).tolist() == [1, 0]
    assert loss(y_hat, y) == 0.5
    y_hat[0, :, 4:] = y_hat[0, :, :, 4:] = 9.0  # outside of the crop
    assert loss(y_hat, y) == 0.5


def test_default_crop_is_that_of_the_released_loss():
    face_id = Means(112)
    loss = IDLoss(face_id)
    x = torch.rand(2, 3, 256, 256)
    pooled = F.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)
    assert torch.allclose(loss.embed(x), F.normalize(face_id(pooled)))
    # A larger image is averaged down first.
    large = x.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(loss.embed(large), loss.embed(x), atol=1e-6)


def test_gradients_reach_the_first_image_only():
    face_id = Means(112)
    loss = IDLoss(face_id)
    y_hat, y = (torch.rand(2, 3, 256, 256, requires_grad=True) for _ in range(2))
    loss(y_hat, y).backward()
    assert y.grad is None and face_id.gain.grad is None and not face_id.gain.requires_grad
    inside = y_hat.grad[:, :, 35:223, 32:220]
    assert inside.any() and y_hat.grad.count_nonzero() == inside.count_nonzero()


def test_gradient_is_that_of_the_formula():
    torch.manual_seed(0)
    loss = IDLoss(Means(8), size=8, crop=(0, 32, 0, 32)).double()
    y = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    patch = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def value(patch: Tensor) -> Tensor:
        return loss(F.pad(patch, (3, 251, 5, 249)) + 0.1 * y.flip(1), y)

    assert torch.autograd.gradcheck(value, (patch,))


def test_the_judge_stays_in_evaluation_mode():
    loss = IDLoss(ArcFace(32, depth=18), size=32)
    assert not loss.train().training and not any(m.training for m in loss.modules())
    wrapper = nn.ModuleList([loss]).train()
    assert not any(m.training for m in wrapper[0].modules())


def test_checks_of_the_loss():
    face_id = Means(112)
    for arguments, reason in (
        ({"crop": (0, 257, 0, 10)}, "`crop` must be"),
        ({"crop": (10, 10, 0, 10)}, "`crop` must be"),
        ({"crop": (0, 10, -1, 10)}, "`crop` must be"),
        ({"size": 0}, "`size` must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=reason):
            IDLoss(face_id, **arguments)
    loss = IDLoss(face_id)
    good = torch.zeros(2, 3, 256, 256)
    for shape in ((3, 256, 256), (2, 1, 256, 256), (2, 3, 256, 300)):
        with pytest.raises(ValueError, match=r"`image` must have shape \[B, 3, H, H\]"):
            loss.embed(torch.zeros(shape))
    with pytest.raises(ValueError, match="must be 256 x 256 or larger, got 128 x 128"):
        loss(torch.zeros(2, 3, 128, 128), good)
    with pytest.raises(ValueError, match="same number of images, got 1 and 2"):
        loss(good[:1], good)
    with pytest.raises(ValueError, match=r"`face_id` must return \[B, D\] for B = 2 faces, got \["):
        IDLoss(nn.Identity())(good, good)


def test_an_empty_face_has_similarity_zero_and_finite_gradients():
    loss = IDLoss(Means(112))
    y_hat = torch.zeros(1, 3, 256, 256, requires_grad=True)
    value = loss(y_hat, torch.rand(1, 3, 256, 256))
    value.backward()
    assert value == 1 and bool(y_hat.grad.isfinite().all())


def test_compiles():
    torch._dynamo.reset()
    loss = IDLoss(ArcFace(32, depth=18), size=32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    y_hat, y = torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(compiled(y_hat, y), loss(y_hat, y), rtol=1e-4, atol=1e-5)
