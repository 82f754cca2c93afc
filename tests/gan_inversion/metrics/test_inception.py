"""FID's Inception: the network of other implementations, on weights drawn here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_inversion.errors import CheckpointError
from gan_inversion.metrics import (
    FIDInception,
    efficientnet_features,
    extract_features,
    inception_features,
    load_inception,
)
from gan_inversion.metrics import features as features_module
from gan_inversion.metrics.features import FeatureNetwork, resize_clean
from tests.gan_inversion.metrics.rule import draw


def weights() -> dict[str, Tensor]:
    state = {}
    for name, value in FIDInception().state_dict().items():
        shape, key = tuple(value.shape), f"inception:{name}"
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("conv.weight"):
            state[name] = 1.4 * draw(key, shape) / float(np.sqrt(np.prod(shape[1:])))
        elif name.endswith("bn.weight"):
            state[name] = 1 + 0.1 * draw(key, shape)
        elif name.endswith("running_var"):
            state[name] = 0.5 + 0.5 * draw(key, shape).abs()
        else:
            state[name] = 0.2 * draw(key, shape)
    return state


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    head = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save({**weights(), **head}, path)
    return path


def picture() -> Tensor:
    """``[2, 3, 299, 299]`` uint8 in squares of 8 pixels."""
    small = np.random.RandomState(5).randint(0, 256, (2, 3, 38, 38)).astype(np.uint8)
    large = torch.from_numpy(small).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return large[:, :, :299, :299].contiguous()


def test_features_are_those_of_torch_fidelity(file: Path) -> None:
    """Figures of torch-fidelity 0.4.0's network (0.0 apart when compared side by side)."""
    net = load_inception(file)
    got = net((picture().float() - 128) / 128)
    first = torch.tensor(
        [
            [1.1310511827468872, 0.32184213399887085, 47.7468376159668, 0.23337918519973755],
            [1.0218446254730225, 0.23543503880500793, 47.62587356567383, 0.2635221779346466],
        ]
    )
    torch.testing.assert_close(got[:, :4], first, rtol=0, atol=57.5e-5)
    sums = [16790.544849133003, 16667.39889226295]
    squares = [356979.30369915254, 351734.89384806756]
    assert got.double().sum(1).tolist() == pytest.approx(sums, rel=1e-5)
    assert got.double().square().sum(1).tolist() == pytest.approx(squares, rel=1e-5)
    assert not any(p.requires_grad for p in net.parameters()) and not net.training


def test_names_and_protocols(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    other = inception_features(file)
    assert (other.frechet_name, other.kernel_name) == ("FD-Inception", "KD-Inception")
    assert "no FID" in other.protocol and digest[:16] in other.protocol and not other.is_official
    monkeypatch.setattr(features_module, "OFFICIAL_SHA256", digest[:8])
    official = inception_features(file)
    assert (official.frechet_name, official.kernel_name) == ("FID", "KID") and official.is_official
    assert "bilinear, not antialiased" in official.protocol
    clean = inception_features(file, resize="clean")
    assert (clean.frechet_name, clean.kernel_name) == ("clean-FID", "clean-KID")
    image = torch.rand(1, 3, 512, 400) * 2 - 1
    assert clean.prepare(image).shape == official.prepare(image).shape == (1, 3, 299, 299)
    assert (clean.prepare(image) - official.prepare(image)).abs().max() > 0.1
    with pytest.raises(ValueError, match="`resize` must be"):
        inception_features(file, resize="best")  # type: ignore[arg-type]


def test_clean_resize_is_pillows_on_floats() -> None:
    x = torch.rand(1, 3, 97, 131, generator=torch.Generator().manual_seed(0)) * 255
    got = resize_clean(x, 64)
    for channel in range(3):
        image = Image.fromarray(x[0, channel].numpy()).resize((64, 64), Image.Resampling.BICUBIC)
        torch.testing.assert_close(
            got[0, channel], torch.from_numpy(np.array(image)), rtol=0, atol=2e-3
        )


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inception_v3_google.pth"
    state = weights()
    torchvisions = {**state, "AuxLogits.fc.weight": torch.zeros(1000, 768)}
    torchvisions["fc.weight"], torchvisions["fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
    torch.save(torchvisions, path)
    with pytest.raises(CheckpointError, match=r"not FID's Inception .* 3 are unknown"):
        load_inception(path)
    del state["Mixed_7c.branch_pool.conv.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 tensors are missing \(Mixed_7c.branch_pool"):
        load_inception(path)
    torch.save({"fc.weight": torch.tensor(1.0)}, path)
    with pytest.raises(CheckpointError, match="not FID's Inception"):
        load_inception(path)
    torch.save([1], path)
    with pytest.raises(CheckpointError, match="holds a list, expected a state dict"):
        load_inception(path)
    with pytest.raises(CheckpointError, match="missing.pth"):
        load_inception(tmp_path / "missing.pth")
    with pytest.raises(ValueError, match="`x` must be RGB images"):
        FIDInception()(torch.zeros(1, 3, 64, 64))


def test_features_of_images_of_many_sizes() -> None:
    colour = FeatureNetwork("a", "b", "c", lambda x: resize_clean(x, 4), lambda x: x.mean((2, 3)))
    images = [torch.full((1, 3, 5 + i, 9), i / 10) for i in range(7)]
    done: list[int] = []
    got = extract_features(images, colour, batch_size=3, progress=done.append)
    torch.testing.assert_close(got[:, 0], torch.arange(7).double() / 10, rtol=0, atol=1e-6)
    assert done == [3, 3, 1]
    with pytest.raises(ValueError, match="`images` must not be empty"):
        extract_features([], colour)
    with pytest.raises(ValueError, match=r"\[1, 3, H, W\]"):
        extract_features([torch.zeros(3, 4, 4)], colour)


@pytest.mark.assets
def test_default_network_is_named() -> None:
    net = efficientnet_features()
    assert (net.frechet_name, net.kernel_name) == ("FD-EffLite0", "KD-EffLite0")
    assert not net.is_official
    image = torch.rand(1, 3, 300, 280) * 2 - 1
    assert extract_features([image], net).shape == (1, 1280)
