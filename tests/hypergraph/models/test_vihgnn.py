import json
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from hypergraph import FuzzyCMeans
from hypergraph.models import HGNNConfig, ViHGNN, ViHGNNConfig, count_parameters


def small(**options):
    sizes = {"image_size": 64, "hidden_channels": 16, "num_blocks": 3, "clusters": 3}
    return ViHGNN(ViHGNNConfig(3, 4, **{"head_channels": 32, **sizes, **options}))


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 64)


def test_blocks_are_their_formula(images):
    model = small().double().eval()
    x = model.stem(images.double()) + model.position
    assert x.shape == (3, 16, 4, 4)
    for block, clusters in zip(model.blocks, (3, 4, 6), strict=True):
        before = block.fc1(x)
        rows = before.permute(0, 2, 3, 1).reshape(3, 16, 16)
        h = FuzzyCMeans(clusters)(rows).to_dense()
        assert h.shape == (3, 16, clusters)
        out = block.conv(rows, FuzzyCMeans(clusters)(rows)).reshape(3, 4, 4, 32)
        x = x + block.fc2(out.permute(0, 3, 1, 2))
        x = x + block.fc4(functional.gelu(block.fc3(x)))
    expected = model.head(x.mean((2, 3), keepdim=True))[:, :, 0, 0]
    torch.testing.assert_close(model(images.double()), expected)


def test_size_of_the_published_model():
    """Counted from the shapes of the released code's ViHGNN-Ti."""
    c, blocks = 192, 12
    model = ViHGNN(ViHGNNConfig(3, 1000))
    stem = sum(9 * i * o + o + 2 * o for i, o in [(3, 24), (24, 48), (48, 96), (96, c), (c, c)])
    fc = lambda i, o: i * o + o + 2 * o  # noqa: E731
    grouped = lambda i, o: i * o // 4 + o + 2 * o  # noqa: E731
    conv = grouped(c, c) + grouped(c, 2 * c) + 1
    block = fc(c, c) + conv + fc(2 * c, c) + fc(c, 4 * c) + fc(4 * c, c)
    head = fc(c, 1024) + 1024 * 1000 + 1000
    assert count_parameters(model) == stem + c * 14 * 14 + blocks * block + head
    clusters = [block.construction.num_clusters for block in model.blocks]
    assert clusters[0] == 25 and clusters[-1] == 50 and clusters == sorted(clusters)


def test_samples_do_not_mix_and_gradients_reach_everything(images):
    model = small().eval()
    together = model(images)
    apart = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    model.train()
    model(images).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_path_dropout_keeps_the_mean():
    model = small(path_dropout=0.5)
    assert [round(block.path_dropout, 2) for block in model.blocks] == [0.0, 0.25, 0.5]
    branch = torch.ones(4000, 2, 1, 1)
    skipped = model.blocks[2]._skip(branch)
    assert set(skipped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(skipped[:, 0], skipped[:, 1])
    assert skipped.mean().item() == pytest.approx(1, abs=0.06)
    assert model.blocks[0]._skip(branch) is branch
    model.eval()
    assert model.blocks[2]._skip(branch) is branch


def test_it_overfits_a_batch():
    torch.manual_seed(0)
    images, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    model = small(image_size=32, num_blocks=2, clusters=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(25):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), y).backward()
        optimizer.step()
    assert (model(images).argmax(1) == y).all()


def test_saving(images, tmp_path):
    pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")
    model = small().eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == asdict(model.config)
    again = ViHGNN.from_pretrained(tmp_path)
    assert torch.equal(again(images), model(images))


def test_misuse(images):
    for name, value in (("image_size", 50), ("hidden_channels", 12), ("clusters", 0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            small(**{name: value})
    with pytest.raises(ValueError, match="`path_dropout` must lie in"):
        small(path_dropout=1.0)
    with pytest.raises(ValueError, match=r"`image` must have shape \[B, 3, 64, 64\], got \[3, 64"):
        small()(images[0])
    with pytest.raises(ValueError, match=r"`image` must have shape"):
        small()(images[:, :, :32])
    with pytest.raises(TypeError, match="`image` must be floating point"):
        small()(images.long())
    with pytest.raises(TypeError, match="`config` must be a ViHGNNConfig"):
        ViHGNN(HGNNConfig(3, 4))
