"""DH-Net, EF-Net, the fusion mask and their files; small sizes, no packages needed."""

from __future__ import annotations

import pytest
import torch

from gan_inversion.errors import CheckpointError
from gan_inversion.generators.mobile_stylegan import haar_analysis, haar_synthesis
from gan_inversion.images import smoothstep
from gan_inversion.methods.dhfusion import (
    DHNet,
    DHNetConfig,
    EFNet,
    EFNetConfig,
    load_dh_net,
    load_ef_net,
    save_network,
)
from gan_inversion.methods.dhfusion.ef_net import dilate, normalise, resize_mask
from gan_inversion.methods.dhfusion.mask import fusion_mask
from gan_inversion.methods.dhfusion.weights import DH_NET_FILE, EF_NET_FILE
from gan_inversion.training.edit_pairs import UNNAMED, edit_region
from gan_inversion.training.train_dh_net import losses
from gan_inversion.training.train_ef_net import ghost_mask

SMALL = DHNetConfig(num_attributes=3, channels=16, side=8, k=5, num_hyperedges=8, heads=2)
EF_SMALL = EFNetConfig((8, 8, 8, 8), (8, 8, 8), (8, 8, 8, 8), num_ws=4, w_dim=6)


def taps(batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, s, s, generator=g) for c, s in ((24, 16), (40, 8), (112, 4))]


@pytest.fixture(scope="module")
def small_net() -> DHNet:
    torch.manual_seed(0)
    return DHNet(SMALL).eval()


@pytest.mark.parametrize("fusion,edges", [("concat", 8), ("sum", 64)])
def test_dh_net_learns_where_two_images_differ(fusion, edges):
    torch.manual_seed(0)
    net = DHNet(DHNetConfig(3, 16, 8, 2, 5, 1.0, edges, fusion, "abs", 2))
    before = taps(4)
    after = [t.clone() for t in before]
    after[1][:, :, :4, :4] += 1.0  # the edit is in the top left quarter
    region = torch.zeros(4, 1, 8, 8)
    region[:, :, :4, :4] = 1
    direction = torch.tensor([0, 1, 2, UNNAMED])
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        loss, parts = losses(net(before, after), region, direction)
        if step == 0:
            first = parts["region"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert parts["region"] < 0.2 * first
    mask = net.eval()(before, after).mask()
    assert mask[:, :, :4, :4].mean() > 0.8 and mask[:, :, 4:].mean() < 0.2
    missing = [n for n, p in net.named_parameters() if p.grad is None]
    assert not missing, f"no gradient reaches {missing}"


def test_mask_is_min_max_normalised(small_net):
    with torch.no_grad():
        mask = small_net(taps(seed=1), taps(seed=2)).mask()
    assert mask.shape == (2, 1, 8, 8)
    assert torch.allclose(mask.amin((2, 3)), torch.zeros(2, 1))
    assert torch.allclose(mask.amax((2, 3)), torch.ones(2, 1), atol=1e-5)


def test_samples_of_a_batch_do_not_see_each_other(small_net):
    a, b = taps(3, seed=3), taps(3, seed=4)
    with torch.no_grad():
        together = small_net(a, b).attention[-1]
        alone = torch.cat(
            [
                small_net([t[i : i + 1] for t in a], [t[i : i + 1] for t in b]).attention[-1]
                for i in range(3)
            ]
        )
    assert torch.allclose(together, alone, atol=1e-5)


def test_sum_needs_as_many_hyperedges_as_vertices():
    with pytest.raises(ValueError, match="num_hyperedges"):
        DHNet(DHNetConfig(fusion="sum", num_hyperedges=128))


def test_unnamed_edits_train_the_region_only(small_net):
    output = small_net(taps(), taps(seed=5))
    _, parts = losses(output, torch.zeros(2, 1, 8, 8), torch.full((2,), UNNAMED))
    assert parts["cls"] == 0 and parts["eam"] == 0 and parts["region"] > 0


def ef_inputs(side: int = 128, mask_value: float = 0.5):
    g = torch.Generator().manual_seed(0)
    photo, inverted, edited = (torch.rand(1, 3, side, side, generator=g) * 2 - 1 for _ in range(3))
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : side // 2] = mask_value
    features = {
        s: torch.randn(1, 8, side * s // 1024, side * s // 1024, generator=g)
        for s in (64, 128, 256, 512)
    }
    fine = torch.randn(1, 8, side // 16, side // 16, generator=g)
    return fine, features, photo, inverted, edited, mask


def test_untrained_residual_is_the_blend_and_latent_does_not_move():
    torch.manual_seed(0)
    net = EFNet(EF_SMALL)
    inputs = ef_inputs()
    out = net.decode(*inputs)
    _, _, photo, _, edited, mask = inputs
    assert torch.equal(out["residual"], photo + mask * (edited - photo))
    fused = net.fuse(torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256), mask)
    assert net.latent_change(fused).abs().max() == 0


def test_trained_residual_leaves_the_photograph_alone_away_from_the_mask():
    torch.manual_seed(0)
    net = EFNet(EF_SMALL)
    for head in (net.correction_head, net.restore_head):
        torch.nn.init.normal_(head.weight)
    fine, features, photo, inverted, edited, mask = ef_inputs(side=256)
    out = net.decode(fine, features, photo, inverted, edited, mask)
    far = dilate(mask) == 0
    assert far.float().mean() > 0.3
    assert torch.equal(out["residual"][far.expand_as(photo)], photo[far.expand_as(photo)])
    assert not torch.equal(out["residual"], out["blend"])


def test_equation_9_selects_by_the_mask():
    torch.manual_seed(0)
    net = EFNet(EF_SMALL)
    photo, edited = torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256)
    zero, one = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    for fused, image in (
        (net.fuse(photo, edited, zero), photo),
        (net.fuse(photo, edited, one), edited),
    ):
        for a, b in zip(fused, net.encoder(image), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_equation_11_folds_at_one_half():
    mask = torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0])
    assert torch.allclose(ghost_mask(mask), torch.tensor([0.0, 0.3, 0.5, 0.3, 0.0]))


def test_haar_transforms_are_inverse_and_orthogonal():
    x = torch.randn(2, 12, 5, 7)
    image = haar_synthesis(x)
    assert image.shape == (2, 3, 10, 14)
    assert torch.allclose(haar_analysis(image), x, atol=1e-6)
    assert image.square().sum() == pytest.approx(x.square().sum().item(), rel=1e-5)
    # one by hand: low 2, vertical 1 -> rows (2+1)/2, (2-1)/2
    one = torch.zeros(1, 4, 1, 1)
    one[0, 0], one[0, 1] = 2, 1
    assert torch.equal(haar_synthesis(one)[0, 0], torch.tensor([[1.5, 1.5], [0.5, 0.5]]))


def test_normalise_is_free_of_scale():
    x = torch.randn(1, 8, 4, 4)
    assert torch.allclose(normalise(x), normalise(100 * x), atol=1e-4)


def test_fusion_mask_vanishes_with_the_edit():
    inverted = torch.zeros(1, 3, 512, 512)
    mask = torch.ones(1, 1, 32, 32)
    means = []
    for strength in (0.0, 0.01, 0.05, 0.3):
        edited = inverted.clone()
        edited[..., 128:256, 128:256] = strength
        m = fusion_mask(mask, inverted, edited)
        assert m.shape == (1, 1, 512, 512) and m.min() >= 0 and m.max() <= 1
        means.append(m.mean().item())
    assert means[0] == 0 and means == sorted(means) and means[-1] > 0.05
    assert m[..., 400:, 400:].max() == 0, "pixels that the edit leaves alone are kept"


def test_resize_mask_stays_in_range():
    mask = torch.rand(1, 1, 32, 32).round()
    for side in (8, 32, 256):
        m = resize_mask(mask, side)
        assert m.shape[-1] == side and m.min() >= 0 and m.max() <= 1


def test_edit_region_finds_the_change():
    before = torch.zeros(1, 3, 512, 512)
    after = before.clone()
    after[..., :128, :128] = 0.5
    region = edit_region(before, after)
    assert region[0, 0, :12, :12].min() > 0.95 and region[0, 0, 20:].max() == 0
    assert smoothstep(torch.tensor([0.0, 0.5, 1.0]), 0.0, 1.0).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("net,load", [(DHNet(SMALL), load_dh_net), (EFNet(EF_SMALL), load_ef_net)])
def test_files_round_trip_and_bad_ones_are_refused(tmp_path, net, load):
    path = tmp_path / "net.safetensors"
    save_network(net, path, {"recipe": "none"})
    loaded, card = load(path)
    assert card == {"recipe": "none"} and loaded.config == net.config
    assert not any(p.requires_grad for p in loaded.parameters())
    for (name, a), b in zip(net.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-3, rtol=1e-3), name
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"
    other = load_ef_net if load is load_dh_net else load_dh_net
    with pytest.raises(CheckpointError, match="expected the weights of"):
        other(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path)
    with pytest.raises(CheckpointError, match="absent"):
        load(tmp_path / "absent.safetensors")


def test_shipped_weights_load_and_fit_the_budget():
    dh_net, card = load_dh_net()
    assert card["directions"] and len(card["directions"]) == dh_net.config.num_attributes
    ef_net, _ = load_ef_net()
    count = {
        n: sum(p.numel() for p in net.parameters()) for n, net in (("dh", dh_net), ("ef", ef_net))
    }
    assert count["dh"] < 4e6 and count["ef"] < 6e6
    assert DH_NET_FILE.stat().st_size + EF_NET_FILE.stat().st_size < 20e6


def test_nothing_is_put_back_where_structure_moves():
    torch.manual_seed(0)
    net = EFNet(EF_SMALL)
    torch.nn.init.constant_(net.restore_head.bias, 1.0)
    fine, features, photo, inverted, _, _ = ef_inputs(side=128)
    edited = inverted.clone()
    edited[..., :64] += 0.6
    mask = torch.ones(1, 1, 128, 128)
    out = net.decode(fine, features, photo, inverted, edited, mask)
    assert out["restore"][..., 8:40].max() == 0 and out["restore"][..., 90:].min() > 0.5
    half = net.decode(fine, features, photo, inverted, edited, mask, 0.5)
    assert torch.allclose(half["restore"], 0.5 * out["restore"])
