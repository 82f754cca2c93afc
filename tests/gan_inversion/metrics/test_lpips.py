"""LPIPS: the official package's stored values, the packaged heads, the files it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import gan_inversion.metrics.lpips  # noqa: F401  (the package's name for it is the function)
from gan_inversion.assets import OPTIONAL_ASSETS, assets_installed
from gan_inversion.errors import AssetError, CheckpointError
from gan_inversion.metrics import LPIPS, load_lpips, lpips
from tests.gan_inversion.metrics.rule import draw

TRUNKS = ("alex", "vgg", "squeeze")


def torchvision_layout(net: LPIPS) -> dict[str, Tensor]:
    """A state dict such as torchvision's files hold, classifier included."""
    state = {
        f"features.{name}": 0.05 * draw(name, tuple(value.shape))
        for name, value in net.features.state_dict().items()
    }
    state["classifier.1.weight"] = torch.zeros(10, 4)
    return state


def heads(net: LPIPS) -> dict[str, Tensor]:
    return {
        f"lin{i}.model.1.weight": draw(f"lin{i}", (1, len(head), 1, 1)).abs()
        for i, head in enumerate(net.heads)
    }


def filled(trunk: str) -> LPIPS:
    net = LPIPS(trunk)  # type: ignore[arg-type]
    net.load_trunk(torchvision_layout(net))
    net.load_heads(heads(net))
    return net


def images(seed: int = 0, side: int = 64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 2, 3, side, side, generator=g) * 2 - 1
    return a, b


@pytest.mark.parametrize("trunk", TRUNKS)
def test_golden_lpips(shared_dir: Path, trunk: str) -> None:
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "f_metrics"
    stored = load_file(folder / "lpips.safetensors")
    facts = json.loads((folder / "lpips.json").read_text())[trunk]
    spec = importlib.util.spec_from_file_location("rule", shared_dir / "golden" / "rule.py")
    assert spec is not None and spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    net = LPIPS(trunk)  # type: ignore[arg-type]
    weights = rule.fill(facts["layout"], facts["weights_recipe"])
    net.load_trunk({k: torch.from_numpy(v) for k, v in weights.items()})
    count = len(net.heads)
    net.load_heads(
        {f"lin{i}.model.1.weight": stored[f"{trunk}.lin{i}.weight"] for i in range(count)}
    )
    salt = facts["weights_recipe"]["salt"]

    def picture(name: str) -> Tensor:
        coarse = rule.draw(salt, name, (2, 3, 8, 8)).repeat(8, 2).repeat(8, 3)
        fine = rule.draw(salt, f"{name}.fine", (2, 3, 64, 64))
        return torch.from_numpy(np.tanh(coarse + 0.3 * fine).astype(np.float32))

    x, y = picture("x"), picture("y")
    bar = 1e-5 * stored[f"{trunk}.value"].max().item()
    for i, share in enumerate(net.layers(x, y)):
        torch.testing.assert_close(share, stored[f"{trunk}.layer{i}"], rtol=0, atol=bar)
    value = net(x, y)
    torch.testing.assert_close(value, stored[f"{trunk}.value"], rtol=0, atol=bar)
    # pSp's and e4e's copy gives the mean over the batch.
    mean = stored[f"{trunk}.e4e_criteria_value"].item()
    assert lpips(x, y, net).value == pytest.approx(mean, abs=bar)
    unit = lpips((x + 1) / 2, (y + 1) / 2, net, value_range=(0, 1)).value
    assert unit == pytest.approx(stored[f"{trunk}.normalize_flag"].mean().item(), abs=bar)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_packaged_heads_are_the_official_ones(shared_dir: Path, trunk: str) -> None:
    if not assets_installed(f"lpips_{trunk}") and not assets_installed(f"lpips_{trunk}_of_lpips"):
        pytest.skip("skipped: neither torchmetrics nor lpips is installed (extra: metrics)")
    import sys

    from safetensors.torch import load_file

    from gan_inversion.metrics._weights import read_state

    module = sys.modules["gan_inversion.metrics.lpips"]
    net = LPIPS(trunk)  # type: ignore[arg-type]
    before = set(sys.modules)
    net.load_heads(read_state(module._heads_file(trunk), "heads")[0])
    assert not {"torchmetrics", "lpips", "torchvision"} & (set(sys.modules) - before)
    stored = load_file(shared_dir / "golden" / "f_metrics" / "lpips.safetensors")
    for i, head in enumerate(net.heads):
        assert torch.equal(head, stored[f"{trunk}.lin{i}.weight"])


def test_heads_without_a_package_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_inversion import assets

    assets.asset_path.cache_clear()
    monkeypatch.setattr(assets, "_package_folder", lambda package: None)
    with pytest.raises(AssetError, match=r"hypergraph-nn\[metrics\].*--no-deps lpips==0.1.4"):
        load_lpips("anything.pth")
    assets.asset_path.cache_clear()
    assert {a.sha256 for n, a in OPTIONAL_ASSETS.items() if "alex" in n} == {
        OPTIONAL_ASSETS["lpips_alex"].sha256
    }


def with_heads(monkeypatch: pytest.MonkeyPatch, folder: Path, trunk: str) -> Path:
    """Stand-in heads and a trunk file; returns the latter."""
    import sys

    net = LPIPS(trunk)  # type: ignore[arg-type]
    torch.save(heads(net), folder / "heads.pth")
    module = sys.modules["gan_inversion.metrics.lpips"]
    monkeypatch.setattr(module, "_heads_file", lambda trunk: folder / "heads.pth")
    torch.save(torchvision_layout(net), folder / "trunk.pth")
    return folder / "trunk.pth"


def test_only_torchvisions_file_is_called_lpips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    file = with_heads(monkeypatch, tmp_path, "alex")
    a, b = images()
    net = load_lpips(file)
    assert torch.equal(net(a, b), filled("alex")(a, b))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert "not comparable with published LPIPS" in net.protocol and digest[:16] in net.protocol
    module = sys.modules["gan_inversion.metrics.lpips"]
    monkeypatch.setitem(module._OFFICIAL, "alex", (digest[:8],))
    assert load_lpips(file).protocol == "LPIPS v0.1, alex"
    assert lpips(a, b, load_lpips(file)).protocol == "LPIPS v0.1, alex"


def test_wrong_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_heads(monkeypatch, tmp_path, "squeeze")
    net = LPIPS("alex")
    with pytest.raises(CheckpointError, match=r"`lin1.model.1.weight` must have 192 values"):
        net.load_heads(torch.load(tmp_path / "heads.pth"))
    with pytest.raises(CheckpointError, match="not torchvision's squeeze trunk: 50 tensors"):
        LPIPS("squeeze").load_trunk({})
    bad = torchvision_layout(net)
    bad["features.0.weight"] = bad["features.0.weight"][:1]
    with pytest.raises(CheckpointError, match="`0.weight` must have shape"):
        net.load_trunk(bad)
    bad = torchvision_layout(net)
    bad["features.0.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match="`0.bias` must be finite"):
        net.load_trunk(bad)
    page = tmp_path / "alexnet.pth"
    page.write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(CheckpointError, match="alexnet.pth"):
        load_lpips(page, "squeeze")
    with pytest.raises(ValueError, match="`trunk` must be one of"):
        LPIPS("resnet")  # type: ignore[arg-type]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_laws(trunk: str) -> None:
    net = filled(trunk)
    a, b = images()
    assert net(a, a).tolist() == [0, 0]
    assert (net(a, b) > 0).all()
    torch.testing.assert_close(net(a, b), net(b, a))
    torch.testing.assert_close(net(a, b)[1:], net(a[1:], b[1:]))
    assert not any(p.requires_grad for p in net.parameters())


def test_squeezenet_pools_keep_the_last_row() -> None:
    """torchvision's pools round sizes up; sides of 64 px would not show it."""
    pooled = LPIPS("squeeze").features[:3](torch.zeros(1, 3, 66, 64))
    assert pooled.shape[-2:] == (16, 15)


def test_gradient_reaches_the_image_and_is_finite_where_features_vanish() -> None:
    net = filled("squeeze")
    a, b = images()
    a.requires_grad_()
    net(a, b).sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    with torch.no_grad():
        for parameter in net.features.parameters():
            parameter.zero_()
    a.grad = None
    net(a, b).sum().backward()
    assert a.grad is not None and torch.isfinite(a.grad).all()


def test_bad_images_are_named() -> None:
    net = filled("alex")
    a, b = images()
    with pytest.raises(ValueError, match=r"`b` must be RGB images \[B, 3, H, W\] with H, W >= 64"):
        net(a, b[:, :, :32])
    with pytest.raises(ValueError, match="must have the same shape"):
        net(a, b[:1])
    with pytest.raises(ValueError, match="`a` must lie in"):
        lpips(3 * a, b, net)
