"""EfficientNet-Lite0: the packaged weights give known answers; gradients reach the image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_inversion.errors import CheckpointError
from gan_inversion.perceptual import (
    DEFAULT_TAPS,
    EfficientNetLite0,
    feature_distance,
    load_efficientnet_lite0,
)


@pytest.mark.assets
@pytest.mark.parametrize(("picture", "classes"), [("cat", {281, 282, 285}), ("coffee", {967})])
def test_known_imagenet_predictions(picture: str, classes: set[int]) -> None:
    data = pytest.importorskip("skimage.data")
    array = torch.from_numpy(getattr(data, picture)()).permute(2, 0, 1)[None].float()
    height, width = array.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = array[:, :, top : top + side, left : left + side] / 127.5 - 1
    logits = load_efficientnet_lite0()(F.interpolate(crop, size=(224, 224), mode="area"))
    assert int(logits.argmax()) in classes


def _packaged_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """A random state dict with the names and shapes of the published file."""
    g = torch.Generator().manual_seed(seed)
    net = EfficientNetLite0()
    state: dict[str, torch.Tensor] = {}

    def unfolded(conv: nn.Conv2d, name: str, norm: str) -> None:
        state[f"{name}.weight"] = torch.randn(conv.weight.shape, generator=g) * 0.2
        channels = conv.weight.shape[0]
        state[f"{norm}.weight"] = torch.rand(channels, generator=g) + 0.5
        state[f"{norm}.bias"] = torch.randn(channels, generator=g)
        state[f"{norm}.running_mean"] = torch.randn(channels, generator=g)
        state[f"{norm}.running_var"] = torch.rand(channels, generator=g) + 0.5

    unfolded(net.stem, "_conv_stem", "_bn0")
    for i, block in enumerate(net.blocks):
        if block.expand is not None:
            unfolded(block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        unfolded(block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        unfolded(block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    unfolded(net.head, "_conv_head", "_bn1")
    state["_fc.weight"] = torch.randn(1000, 1280, generator=g)
    state["_fc.bias"] = torch.randn(1000, generator=g)
    return state


def test_folding_equals_convolution_then_batch_norm() -> None:
    state = _packaged_state()
    net = EfficientNetLite0.from_packaged_state_dict(state)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    pixels = ((x + 1) * 127.5 - 127) / 128
    # "SAME" padding of a 3x3 stride 2 convolution on an even size is (0, 1).
    y = F.conv2d(F.pad(pixels, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2)
    y = F.batch_norm(
        y,
        state["_bn0.running_mean"],
        state["_bn0.running_var"],
        state["_bn0.weight"],
        state["_bn0.bias"],
        eps=1e-3,
    ).clamp(0, 6)
    ours = F.relu6(net.stem(net._normalise(x)))
    torch.testing.assert_close(ours, y, rtol=1e-4, atol=1e-5)


def test_feature_shapes_and_gradient() -> None:
    net = EfficientNetLite0.from_packaged_state_dict(_packaged_state())
    x = torch.zeros(2, 3, 65, 64).requires_grad_(True)
    features = net.features(x)
    assert [f.shape[1] for f in features] == [16, 24, 40, 80, 112]
    assert [tuple(f.shape[2:]) for f in features[:2]] == [(33, 32), (17, 16)]
    sum(f.square().mean() for f in features).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and bool(x.grad.abs().sum() > 0)
    assert not any(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        assert net.pooled(x).shape == (2, 1280)
        one = net.features(x, taps=(4,))[0]
    torch.testing.assert_close(one, features[2])


def test_distance_is_zero_at_the_target_and_follows_the_weight() -> None:
    f = [torch.ones(1, 2, 4, 4), torch.full((1, 3, 2, 2), 2.0)]
    assert feature_distance(f, f).item() == 0
    half = [torch.zeros_like(t) for t in f]
    assert feature_distance(half, f).item() == pytest.approx(2.0)
    left_wrong = [t.clone() for t in f]
    for t in left_wrong:
        t[..., : t.shape[-1] // 2] = 0
    right = torch.zeros(1, 1, 8, 8)
    right[..., 4:] = 1
    assert feature_distance(left_wrong, f).item() == pytest.approx(1.0)
    assert feature_distance(left_wrong, f, right).item() == 0


def test_bad_inputs_are_named() -> None:
    net = EfficientNetLite0()
    with pytest.raises(ValueError, match="`x` must be RGB images"):
        net.features(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="`x` must be RGB images"):
        net.pooled(torch.zeros(1, 3, 16, 64))
    for taps in ((), (3, 1), (0, 16), (1, 1)):
        with pytest.raises(ValueError, match="`taps` must be increasing"):
            net.features(torch.zeros(1, 3, 64, 64), taps=taps)
    with pytest.raises(ValueError, match="same length"):
        feature_distance([torch.zeros(1)], [])


def test_bad_files_are_named(tmp_path) -> None:
    state = _packaged_state()
    del state["_blocks.3._bn2.running_var"]
    with pytest.raises(CheckpointError, match="_blocks.3._bn2.running_var"):
        EfficientNetLite0.from_packaged_state_dict(state)
    state = _packaged_state()
    state["_fc.weight"] = torch.zeros(10, 1280)
    with pytest.raises(CheckpointError, match="_fc.weight"):
        EfficientNetLite0.from_packaged_state_dict(state)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="broken.pth"):
        load_efficientnet_lite0(broken)
    torch.save([1, 2], broken)
    with pytest.raises(CheckpointError, match="list"):
        load_efficientnet_lite0(broken)


def test_default_taps_are_what_the_losses_use() -> None:
    assert DEFAULT_TAPS == (0, 2, 4, 7, 10)
