"""MobileStyleGAN: parsed right, W+ rows, hooks, heads, errors; OpenVINO as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gan_inversion.assets import asset_path
from gan_inversion.errors import AssetError, CheckpointError
from gan_inversion.generators import load_default_generator
from gan_inversion.generators.openvino_ir import read_ir
from gan_inversion.metrics.psnr import pooled_psnr


@pytest.fixture(scope="module")
def generator():
    return load_default_generator()


@pytest.fixture(scope="module")
def w(generator):
    rng = torch.Generator().manual_seed(5)
    return generator.sample_w(1, generator=rng, truncation=0.7)


@pytest.mark.assets
def test_interface(generator, w):
    assert generator.num_ws == 16 and generator.resolution == 1024
    assert not any(p.requires_grad for p in generator.parameters())
    assert w.shape == (1, 512)
    with torch.no_grad():
        image, features = generator.synthesis(w, return_features=True)
        assert image.shape == (1, 3, 1024, 1024)
        assert {s: f.shape[1] for s, f in features.items()} == {
            4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64,
        }  # fmt: skip
        # a face, not noise: smooth, in range, with contrast
        assert 0.2 < image.std() < 0.9 and image.abs().mean() < 1
        assert (image[..., 1:] - image[..., :-1]).abs().mean() < 0.1
        for side, floor in ((256, 17.0), (512, 20.0)):
            low = generator.synthesis(w, resolution=side)
            target = F.interpolate(image, size=(side, side), mode="area")
            assert low.shape == target.shape and pooled_psnr(low, target) > floor


@pytest.mark.assets
def test_w_rows_act_where_the_table_says(generator, w):
    base = generator.broadcast(w).clone()
    with torch.no_grad():
        _, reference = generator.synthesis(base, resolution=256, return_features=True)
        for row, first_side in ((0, 4), (2, 8), (4, 16), (6, 32), (8, 64)):
            moved = base.clone()
            moved[:, row] += 1.0
            _, features = generator.synthesis(moved, resolution=256, return_features=True)
            changed = {s for s in reference if not torch.equal(features[s], reference[s])}
            assert min(changed) == first_side, (row, changed)


@pytest.mark.assets
def test_hooks_and_noise(generator, w):
    with torch.no_grad():
        base = generator.synthesis(w, resolution=256)
        same = generator.synthesis(w, resolution=256, hooks={"conv3": lambda x: x})
        other = generator.synthesis(w, resolution=256, hooks={"conv3": lambda x: 0.5 * x})
        assert torch.equal(base, same) and not torch.equal(base, other)
        quiet = generator.synthesis(w, resolution=256, noise="none")
        zeros = [torch.zeros(1) for _ in range(15)]
        assert torch.allclose(quiet, generator.synthesis(w, resolution=256, noise=zeros), atol=1e-5)
        assert not torch.equal(quiet, base)
        generator.synthesis(w, resolution=256, noise="random")


@pytest.mark.assets
def test_gradient_to_w_plus(generator, w):
    code = generator.broadcast(w).clone().requires_grad_(True)
    generator.synthesis(code, resolution=256).square().mean().backward()
    norms = code.grad.norm(dim=2)[0]
    assert (norms[:10] > 0).all() and (norms[12:] == 0).all(), "rows above 256 px are not used"


@pytest.mark.assets
def test_truncation_and_errors(generator):
    z = torch.randn(2, 512)
    full, half = generator.mapping(z), generator.mapping(z, truncation=0.5)
    assert torch.allclose(half - generator.w_avg, 0.5 * (full - generator.w_avg), atol=1e-5)
    with pytest.raises(ValueError, match="`z` must have shape"):
        generator.mapping(torch.randn(512))
    with pytest.raises(ValueError, match="`w_plus` must have shape"):
        generator.synthesis(torch.randn(1, 18, 512))
    with pytest.raises(ValueError, match="`resolution` must be one of"):
        generator.synthesis(full, resolution=64)
    with pytest.raises(ValueError, match="`hooks` names no layer"):
        generator.synthesis(full, hooks={"conv99": lambda x: x})
    with pytest.raises(ValueError, match="`noise`"):
        generator.synthesis(full[:1], resolution=256, noise="loud")


@pytest.mark.assets
def test_sampling_leaves_the_global_random_state_alone(generator):
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    generator.sample_w(2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.assets
@pytest.mark.slow
def test_equals_openvino(generator, w):
    openvino = pytest.importorskip("openvino", reason="skipped: openvino is not installed")
    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # its default is bfloat16
    mapping = core.compile_model(str(asset_path("mapping.xml")), "CPU", exact)
    synthesis = core.compile_model(str(asset_path("synthesis.xml")), "CPU", exact)
    z = torch.randn(1, 512)
    expected_w = torch.from_numpy(np.array(next(iter(mapping({0: z.numpy()}).values()))))
    assert torch.allclose(generator.mapping(z), expected_w.reshape(1, 512), atol=1e-4)
    expected = torch.from_numpy(np.array(next(iter(synthesis({0: w.numpy()}).values()))))
    with torch.no_grad():
        image = generator.synthesis(w)
    assert (image - expected).abs().max() < 1e-3 and (image - expected).abs().mean() < 1e-5


def test_a_file_that_is_no_ir_is_named(tmp_path):
    xml, binary = tmp_path / "a.xml", tmp_path / "a.bin"
    binary.write_bytes(b"")
    for text in ("not xml", "<net></net>"):
        xml.write_text(text)
        with pytest.raises(CheckpointError, match="a.xml: not an OpenVINO IR"):
            read_ir(xml, binary)
    xml.write_text(
        '<net><layers><layer id="0" name="c" type="Const"><data element_type="f32" shape="4" '
        'offset="0" size="16"/></layer></layers><edges/></net>'
    )
    with pytest.raises(CheckpointError, match="does not fit a.bin of 0 bytes"):
        read_ir(xml, binary)
    binary.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    assert read_ir(xml, binary).constant("c").tolist() == [0, 1, 2, 3]


def test_assets_say_what_is_missing(monkeypatch):
    from gan_inversion import assets

    with pytest.raises(AssetError, match="must be one of"):
        asset_path("nothing")
    asset_path.cache_clear()
    monkeypatch.setattr(assets, "_package_folder", lambda package: None)
    with pytest.raises(AssetError, match="not installed; run `make demo`"):
        asset_path("landmarks68")
    asset_path.cache_clear()


def test_assets_of_another_version_are_refused(monkeypatch, tmp_path):
    from gan_inversion import assets

    asset_path.cache_clear()
    monkeypatch.setattr(assets, "_package_folder", lambda package: tmp_path)
    with pytest.raises(AssetError, match="is missing from"):
        asset_path("mapping.bin")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MappingNetwork.bin").write_bytes(b"other")
    with pytest.raises(AssetError, match="SHA-256"):
        asset_path("mapping.bin")
    asset_path.cache_clear()
