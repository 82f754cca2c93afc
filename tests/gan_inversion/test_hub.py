"""save_pretrained and from_pretrained of the application's networks; no network is used."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_inversion.encoders import ArcFace, Encoder4Editing, GradualStyleEncoder, LastLayerWEncoder
from gan_inversion.errors import CheckpointError
from gan_inversion.generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Generator,
)
from gan_inversion.methods.dhfusion import DHNet, DHNetConfig, EFNet, EFNetConfig

GENERATOR = StyleGAN2Config(8, (6, 4), z_dim=8, w_dim=8, num_mapping_layers=2, conv_clamp=256)
MAKE = {
    "generator": lambda: StyleGAN2Generator(GENERATOR),
    "discriminator": lambda: StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(8, (6, 4))),
    "psp": lambda: GradualStyleEncoder(4, w_dim=16, depth=18),
    "e4e": lambda: Encoder4Editing(4, w_dim=16, depth=18),
    "w": lambda: LastLayerWEncoder(4, w_dim=16, depth=18, squeeze_excite=False),
    "arcface": lambda: ArcFace(32, depth=18, embedding_dim=8),
    "dh_net": lambda: DHNet(
        DHNetConfig(num_attributes=3, channels=16, side=8, k=5, num_hyperedges=8, heads=2)
    ),
    "ef_net": lambda: EFNet(EFNetConfig((4,) * 4, (4,) * 3, (4,) * 4, num_ws=4, w_dim=6)),
}


@pytest.fixture(autouse=True)
def _needs_the_extra(request: pytest.FixtureRequest) -> None:
    if "without" not in request.node.name:
        pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")


def network(name: str) -> nn.Module:
    """A network whose every tensor differs from what a new one has."""
    torch.manual_seed(7)
    net = MAKE[name]()
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value), alpha=0.1)
    return net


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize("name", MAKE)
def test_round_trip(name: str, tmp_path: Path) -> None:
    net = network(name)
    net.save_pretrained(tmp_path / "saved")
    written = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"model.safetensors", "config.json"} <= written
    assert not [file for file in written if file.endswith((".bin", ".pt", ".pkl"))]
    again = type(net).from_pretrained(tmp_path / "saved")
    assert type(again) is type(net) and again.config == net.config
    assert same(again.state_dict(), net.state_dict())
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert same(other.state_dict(), net.state_dict())


def test_the_loaded_generator_renders_the_same(tmp_path: Path) -> None:
    net = network("generator")
    net.save_pretrained(tmp_path)
    w = torch.randn(2, 4, 8)
    assert torch.equal(StyleGAN2Generator.from_pretrained(tmp_path)(w), net(w))


def damage(folder: Path, kind: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if kind == "no weights":
        weights.unlink()
    elif kind == "no configuration":
        config.unlink()
    elif kind == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif kind == "no JSON":
        config.write_text('{"resolution": ')
    else:
        settings = json.loads(config.read_text())
        settings.update(
            {"odd": {"oddity": 1}, "huge": {"w_dim": 10**9}, "wide": {"w_dim": 9}}[kind]
        )
        config.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "kind", ["no weights", "no configuration", "cut weights", "no JSON", "odd", "huge", "wide"]
)
def test_what_does_not_fit_is_one_error(kind: str, tmp_path: Path) -> None:
    network("generator").save_pretrained(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(CheckpointError, match="StyleGAN2Generator") as error:
        StyleGAN2Generator.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    network("discriminator").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="unknown entries"):
        StyleGAN2Generator.from_pretrained(tmp_path)
    network("e4e").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError):
        LastLayerWEncoder.from_pretrained(tmp_path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gan-inversion convert"):
        StyleGAN2Generator._load_as_pickle(None, str(tmp_path / "pytorch_model.bin"), "cpu", True)


def test_without_the_extra_networks_work_and_saving_names_it(
    source_environment: dict[str, str],
) -> None:
    code = """
import sys
sys.modules["huggingface_hub"] = None
import torch
from gan_inversion.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
g = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=8, w_dim=8))
g(torch.ones(1, 4, 8))
for call in (g.save_pretrained, g.push_to_hub, StyleGAN2Generator.from_pretrained):
    try:
        call("folder")
    except ImportError as error:
        assert "hypergraph-nn[hub]" in str(error)
    else:
        raise SystemExit("no ImportError")
"""
    subprocess.run([sys.executable, "-c", code], env=source_environment, check=True)
