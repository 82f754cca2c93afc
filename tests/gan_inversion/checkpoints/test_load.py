"""Files in the layouts of others, loaded, named and converted."""

from __future__ import annotations

import argparse
import dataclasses
import doctest
import importlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import gan_inversion
from gan_inversion.checkpoints import (
    convert,
    load_discriminator,
    load_encoder,
    load_face_id,
    load_generator,
    load_network,
    read_checkpoint,
    save_network,
)
from gan_inversion.checkpoints import stylegan2_layouts as layouts
from gan_inversion.checkpoints.doctor import doctor
from gan_inversion.checkpoints.files import NetworkFile
from gan_inversion.cli import main
from gan_inversion.encoders import ArcFace, GradualStyleEncoder
from gan_inversion.errors import CheckpointError
from gan_inversion.generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Generator,
)
from tests.gan_inversion.checkpoints import payloads, synthetic
from tests.gan_inversion.checkpoints.equal import same
from tests.gan_inversion.checkpoints.test_stylegan2_layouts import random_generator, tf_variables

G_CONFIG = StyleGAN2Config(32, (12, 12, 12, 6), z_dim=16, w_dim=16, num_mapping_layers=3)
D_CONFIG = StyleGAN2DiscriminatorConfig(32, (12, 12, 12, 6))


def _plain(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


@pytest.fixture
def generator() -> StyleGAN2Generator:
    torch.manual_seed(1)
    made = StyleGAN2Generator(G_CONFIG)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("noise_strength", "bias")):
                parameter.normal_()
    made.measure_w()
    return made.eval().requires_grad_(False)


@pytest.fixture
def discriminator() -> StyleGAN2Discriminator:
    torch.manual_seed(2)
    return StyleGAN2Discriminator(D_CONFIG).eval().requires_grad_(False)


def _rosinality(g: StyleGAN2Generator, d: StyleGAN2Discriminator | None = None) -> dict[str, Any]:
    tree = layouts.ours_to_rosinality(_plain(g.config), g.state_dict())
    if d is not None:
        tree |= layouts.ours_to_rosinality_discriminator(_plain(d.config), d.state_dict())
    return tree


def _image(g: StyleGAN2Generator) -> torch.Tensor:
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    return g.synthesis(g.mapping(z, truncation=0.7))


@pytest.mark.parametrize("zipped", [True, False])
def test_rosinality(tmp_path, generator, discriminator, zipped):
    path = tmp_path / "stylegan2.pt"
    tree = _rosinality(generator, discriminator)
    tree |= {"g": tree["g_ema"], "args": argparse.Namespace(size=32), "ada_aug_p": 0.5}
    synthetic.save(tree, path, zipped)
    loaded = load_generator(path)
    assert torch.equal(_image(loaded), _image(generator))
    assert loaded.resolution == 32 and loaded.num_ws == 8 and not loaded.training
    assert torch.equal(load_generator(path, key="g").w_avg, generator.w_avg)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(load_discriminator(path)(x), discriminator(x))
    report = doctor(path)
    assert report.layout == "rosinality" and not report.problems
    assert [n.part for n in report.networks] == ["generator", "discriminator"]
    assert report.networks[0].facts["resolution"] == 32
    assert report.networks[0].facts["styles"] == "8 x 16"
    assert "mean latent stored" in str(report)


def test_a_training_file_has_its_mean_latent_measured(tmp_path, generator):
    path = tmp_path / "050000.pt"
    tree = _rosinality(generator)
    del tree["latent_avg"]
    torch.save(tree | {"g_optim": {"state": {}, "param_groups": [{"lr": 0.1}]}}, path)
    assert (load_generator(path).w_avg - generator.w_avg).abs().max() < 1e-5
    text = str(doctor(path))
    assert "no mean latent" in text and "measured on load" in text and "g_optim" in text


@pytest.mark.parametrize("protocol", [2, 4])
def test_nvlabs_pickles(tmp_path, generator, discriminator, protocol):
    path = tmp_path / "ffhq.pkl"
    g = layouts.ours_to_nvlabs(_plain(generator.config), generator.state_dict())
    d = layouts.ours_to_nvlabs_discriminator(
        _plain(discriminator.config), discriminator.state_dict()
    )
    settings = {f"synthesis.b{r}.conv1.conv_clamp": 256 for r in (4, 8, 16, 32)}
    network = synthetic.persistent(g["state"], "Generator", g["init_kwargs"], settings)
    # The skip layers of a limited discriminator have no limit, in their code as in ours.
    limits = {"b4.conv.conv_clamp": 256, "b32.fromrgb.conv_clamp": 256}
    for side in (8, 16, 32):
        limits |= {f"b{side}.conv{i}.conv_clamp": 256 for i in (0, 1)}
        limits |= {f"b{side}.skip.conv_clamp": None, f"b{side}.skip.activation": "linear"}
    judge = synthetic.persistent(d["state"], "Discriminator", d["init_kwargs"], limits)
    content = {"G": network, "D": judge, "G_ema": network, "training_set_kwargs": {"a": 1}}
    path.write_bytes(synthetic.nvlabs_pickle(content, protocol))
    loaded = load_generator(path)
    assert loaded.config.conv_clamp == 256
    # NVlabs' code demodulates in another order.
    assert (_image(loaded) - _image(generator)).abs().max() < 1e-4 * _image(generator).abs().max()
    assert same(loaded.w_avg, generator.w_avg)
    x = torch.randn(4, 3, 32, 32)
    judged = load_discriminator(path)
    assert judged.config.conv_clamp == 256 and torch.equal(judged(x), discriminator(x))
    report = doctor(path)
    assert report.layout == "nvlabs" and not report.problems and len(report.networks) == 2
    # One network, as PTI saves it by torch.save.
    alone = tmp_path / "model_run_0.pt"
    for write in (synthetic.nvlabs_pickle, synthetic.nvlabs_torch):
        alone.write_bytes(write(network))
        assert same(dict(load_generator(alone).state_dict()), dict(loaded.state_dict()))
        assert "PTI" in doctor(alone).title
    with pytest.raises(CheckpointError, match="without a discriminator; it holds: generator"):
        load_discriminator(alone)


def test_mmgen(tmp_path, generator):
    path = tmp_path / "official.pth"
    tree = layouts.ours_to_mmgen(_plain(generator.config), generator.state_dict())
    torch.save(tree | {"meta": {"mmgen_version": "0.1", "time": "now"}}, path)
    loaded = load_generator(path)
    # The layout has no mean latent: it is measured again, and truncation depends on it.
    assert (loaded.w_avg - generator.w_avg).abs().max() < 1e-5
    w = torch.randn(2, 16)
    assert torch.equal(loaded.synthesis(w), generator.synthesis(w))
    assert doctor(path).layout == "mmgen"


def test_tensorflow_pickles_are_recognised(tmp_path):
    path = tmp_path / "stylegan2.pkl"
    variables = {
        "dlatent_avg": np.zeros(16, np.float32),
        "G_mapping/Dense0/weight": np.zeros((16, 16), np.float32),
        "G_synthesis/4x4/Const/const": np.zeros((1, 8, 4, 4), np.float32),
        "G_synthesis/noise0": np.zeros((1, 1, 4, 4), np.float32),
    }
    path.write_bytes(synthetic.tf_pickle(variables, {"4x4/Dense0/weight": np.zeros((1, 1), "f4")}))
    report = doctor(path)
    assert report.layout == "tensorflow" and "TensorFlow" in report.title
    # These few variables are no network, and that is said by name.
    with pytest.raises(CheckpointError, match=r"stylegan2\.pkl: .*TensorFlow code"):
        load_generator(path)


def test_tensorflow_pickles(tmp_path):
    config, state = random_generator()
    variables = tf_variables(config, state)
    path = tmp_path / "stylegan2-ffhq-config-f.pkl"
    path.write_bytes(synthetic.tf_pickle(variables, {}))
    loaded = load_generator(path)
    expected = layouts.tf_to_ours(variables)[1]
    assert all(same(loaded.state_dict()[name], value) for name, value in expected.items())
    assert doctor(path).networks[0].facts["mean latent"] == "stored"


def test_a_generator_goes_there_and_back(tmp_path, generator):
    first, own, back = (tmp_path / n for n in ("a.pt", "b.safetensors", "c.pt"))
    torch.save(_rosinality(generator), first)
    written = convert(first, own)
    assert written.card["converted_from"] == "a.pt" and len(written.card["sha256"]) == 64
    assert torch.equal(_image(load_generator(own)), _image(generator))
    convert(own, back)
    assert same(read_checkpoint(back), read_checkpoint(first))
    assert same(torch.load(back, weights_only=True), torch.load(first, weights_only=True))
    for layout in ("mmgen", "nvlabs"):
        path = tmp_path / f"{layout}.pt"
        convert(own, path, layout=layout)
        assert doctor(path).layout == layout, doctor(path)
        again = load_generator(path).state_dict()
        kept = load_generator(own).state_dict()
        lost = ("w_std", "w_avg") if layout == "mmgen" else ("w_std",)
        assert all(same(again[name], kept[name]) for name in kept if name not in lost)
    assert not list(tmp_path.glob(".*"))


def test_a_discriminator_is_converted(tmp_path, generator, discriminator):
    first, own, back = (tmp_path / n for n in ("a.pt", "b.safetensors", "c.pt"))
    tree = _rosinality(generator, discriminator)
    torch.save(tree, first)
    convert(first, own, part="discriminator")
    convert(own, back)
    assert same(read_checkpoint(back), {"d": tree["d"]})
    with pytest.raises(CheckpointError, match="mmgen's layout has no place for discriminator"):
        convert(own, back, layout="mmgen")
    with pytest.raises(CheckpointError, match="without a generator; it holds: discriminator"):
        load_generator(own)


def test_convert_checks_its_arguments(tmp_path, generator):
    path = tmp_path / "a.pt"
    torch.save(_rosinality(generator), path)
    for target, options, message in (
        ("a.onnx", {}, r"`target` must end in \.safetensors, \.pt or \.pth, got 'a\.onnx'"),
        ("b.pt", {"layout": "tf"}, "`layout` must be one of rosinality, nvlabs, mmgen, got 'tf'"),
        ("b.pt", {"part": "g"}, "`part` must be one of generator"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(path, tmp_path / target, **options)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="`target` is the source, .*; name another file"):
        convert(path, path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="encoder cannot be said of a part 'generator'"):
        convert(path, tmp_path / "b.pt", options={"encoder": "psp"})
    with pytest.raises(ValueError, match="`key` must be 'g', 'g_ema' or None, got 'd'"):
        load_generator(path, key="d")
    with pytest.raises(CheckpointError, match="its SHA-256 is"):
        load_generator(path, sha256="0" * 64)


def test_other_activations_are_refused(tmp_path, generator, discriminator):
    path = tmp_path / "a.pkl"
    g = layouts.ours_to_nvlabs(_plain(generator.config), generator.state_dict())
    d = layouts.ours_to_nvlabs_discriminator(
        _plain(discriminator.config), discriminator.state_dict()
    )
    swish = {"synthesis.b8.conv1.activation": "swish"}
    path.write_bytes(
        synthetic.nvlabs_pickle(
            {
                "G_ema": synthetic.persistent(g["state"], "Generator", g["init_kwargs"], swish),
                "D": synthetic.persistent(
                    d["state"], "D", d["init_kwargs"] | {"block_kwargs": {"activation": "relu"}}
                ),
            }
        )
    )
    with pytest.raises(CheckpointError, match="activation 'swish', not lrelu"):
        load_generator(path)
    with pytest.raises(CheckpointError, match="activation 'relu', not lrelu"):
        load_discriminator(path)


def test_dataparallel(tmp_path, generator, discriminator):
    """`module.` before every name of a part, or of a bare state dict."""
    tree = _rosinality(generator, discriminator)
    wrapped = {
        key: {f"module.{n}": v for n, v in part.items()} if isinstance(part, dict) else part
        for key, part in tree.items()
    }
    path = tmp_path / "a.pt"
    x = torch.randn(4, 3, 32, 32)
    for content in (wrapped, wrapped["g_ema"], wrapped["d"]):
        torch.save(content, path)
        if content is not wrapped["d"]:
            assert torch.allclose(_image(load_generator(path)), _image(generator), atol=1e-4)
        if content is not wrapped["g_ema"]:
            assert torch.equal(load_discriminator(path)(x), discriminator(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions_become_single(tmp_path, generator, discriminator, dtype):
    tree = _rosinality(generator, discriminator)
    for part in ("g_ema", "d"):
        tree[part] = {name: value.to(dtype) for name, value in tree[part].items()}
    path = tmp_path / "a.pt"
    for mean in (tree["latent_avg"], tree["latent_avg"].double(), tree["latent_avg"].half(), None):
        torch.save(tree | {"latent_avg": mean}, path)
        assert (_image(load_generator(path)) - _image(generator)).abs().max() < 0.05
    assert all(value.dtype == torch.float32 for value in load_generator(path).state_dict().values())
    x = torch.randn(4, 3, 32, 32)
    assert torch.allclose(load_discriminator(path)(x), discriminator(x), atol=0.01)


def test_numbers_of_another_kind_are_refused(tmp_path, generator):
    path = tmp_path / "a.pt"
    for dtype in (torch.int64, torch.complex64):
        tree = _rosinality(generator)
        tree["g_ema"]["conv1.conv.weight"] = tree["g_ema"]["conv1.conv.weight"].to(dtype)
        torch.save(tree, path)
        with pytest.raises(CheckpointError, match=f"conv1.conv.weight holds {dtype}"):
            load_generator(path)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (torch.zeros(5), r"is \[5\], expected \[16\]"),
        (torch.zeros(8, 5), r"is \[8, 5\]"),
        (torch.zeros(16, dtype=torch.int64), "not real numbers"),
        ([0.0] * 16, "is a list"),
        (torch.full((16,), float("nan")), "not finite"),
    ],
    ids=["width", "rows", "whole", "list", "nan"],
)
def test_a_mean_latent_that_does_not_fit_is_no_missing_one(tmp_path, generator, average, message):
    path = tmp_path / "a.pt"
    torch.save(_rosinality(generator) | {"latent_avg": average}, path)
    with pytest.raises(CheckpointError, match=f"`latent_avg` .*{message}"):
        load_generator(path)


def test_an_option_that_means_another_network_is_refused(tmp_path, psp_file, generator):
    own = tmp_path / "own.safetensors"
    save_network(
        own, NetworkFile("StyleGAN2Generator", _plain(generator.config), generator.state_dict())
    )
    assert load_generator(own, key="g_ema").resolution == 32
    with pytest.raises(CheckpointError, match="one generator; leave out `key`"):
        load_generator(own, key="g")
    encoder = tmp_path / "psp.safetensors"
    convert(psp_file[0], encoder)
    assert load_encoder(encoder, encoder="psp", num_ws=8).num_ws == 8
    with pytest.raises(CheckpointError, match="no e4e; leave out `encoder`"):
        load_encoder(encoder, encoder="e4e")
    for path in (encoder, psp_file[0]):
        with pytest.raises(CheckpointError, match="8 rows; leave out `num_ws`"):
            load_encoder(path, num_ws=9)


def test_a_terminal_is_not_given_orders(tmp_path, psp_file, generator):
    path = tmp_path / "a.pt"
    tree = _rosinality(generator)
    tree["g_ema"]["\x1b[2J\ud800"] = torch.ones(1)
    torch.save(tree, path)
    with pytest.raises(CheckpointError, match=r"unknown \\x1b\[2J\\ud800"):
        load_generator(path)
    tree = read_checkpoint(psp_file[0])
    tree["state_dict"]["\x1b[2J.x"] = torch.ones(1)
    torch.save(tree, path)
    text = str(doctor(path))
    assert "\\x1b[2J" in text and text.replace("\n", "").isprintable()


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "nan"])
def test_what_is_missing_is_named(tmp_path, generator, damage):
    tree = _rosinality(generator)
    state = tree["g_ema"]
    if damage == "missing":
        del state["convs.1.activate.bias"]
    elif damage == "unknown":
        state["convs.99.conv.weight"] = torch.ones(1)
    elif damage == "shape":
        state["convs.1.activate.bias"] = torch.ones(3)
    else:
        state["convs.1.activate.bias"][0] = float("nan")
    path = tmp_path / "a.pt"
    torch.save(tree, path)
    if damage != "nan":
        with pytest.raises(
            CheckpointError, match=r"a\.pt: StyleGAN2 of rosinality's code: .*convs"
        ):
            load_generator(path)
    report = doctor(path)
    assert report.problems and not report.usable
    assert ("NaN" if damage == "nan" else "convs") in report.problems[0]


# --- encoders and face recognition: small in width is not to be had, so they are made once ------
@pytest.fixture(scope="module")
def psp_file(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    from gan_inversion.checkpoints import encoder_layouts

    torch.manual_seed(4)
    encoder = GradualStyleEncoder(8, w_dim=16)
    encoder.latent_avg.normal_()
    theirs = encoder_layouts.to_theirs(GradualStyleEncoder, encoder.config, encoder.state_dict())
    assert "latent_avg" not in theirs
    path = tmp_path_factory.mktemp("psp") / "psp.pt"
    tree = {
        "state_dict": {f"encoder.{name}": value for name, value in theirs.items()},
        "latent_avg": encoder.latent_avg,
        "opts": {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True},
    }
    torch.save(tree, path)
    return path, encoder.state_dict()


def test_encoders(psp_file, tmp_path):
    path, state = psp_file
    loaded = load_encoder(path)
    assert isinstance(loaded, GradualStyleEncoder) and loaded.num_ws == 8 and not loaded.training
    assert all(same(value, state[name]) for name, value in loaded.state_dict().items())
    report = doctor(path)
    assert report.layout == "psp" and [n.part for n in report.networks] == ["encoder"]
    own = tmp_path / "psp.safetensors"
    convert(path, own)
    assert all(same(v, state[k]) for k, v in load_encoder(own).state_dict().items())
    with pytest.raises(CheckpointError, match="without a generator; it holds: encoder"):
        load_generator(path)


def test_a_whole_checkpoint_of_dataparallel(tmp_path, psp_file, generator):
    theirs = read_checkpoint(psp_file[0])
    theirs["state_dict"] |= {
        f"decoder.{name}": value for name, value in _rosinality(generator)["g_ema"].items()
    }
    # The mean latent is a buffer in some files.
    theirs["state_dict"]["latent_avg"] = theirs.pop("latent_avg")[:1].repeat(8, 1)
    names = {f"module.{name}": value for name, value in theirs["state_dict"].items()}
    path = tmp_path / "a.pt"
    torch.save(theirs | {"state_dict": names}, path)
    loaded = load_generator(path)
    assert torch.equal(loaded.w_avg, theirs["state_dict"]["latent_avg"][0])
    report = doctor(path)
    assert [n.part for n in report.networks] == ["encoder", "generator"] and not report.notes


def test_face_recognition(tmp_path):
    from gan_inversion.checkpoints import encoder_layouts

    torch.manual_seed(5)
    network = ArcFace().eval()
    path = tmp_path / "model_ir_se50.pth"
    torch.save(encoder_layouts.ours_to_face_id(network.config, network.state_dict()), path)
    loaded = load_face_id(path)
    x = torch.randn(1, 3, 112, 112)
    assert torch.equal(loaded(x), network(x))
    assert doctor(path).layout == "ir_se50"


# --- doctor --------------------------------------------------------------------------------------
def test_doctor_names_other_things(tmp_path):
    path = tmp_path / "a.pt"
    for tree, layout, words in (
        (torch.randn(1, 18, 512), "latent", "pivot"),
        (torch.randn(512), "latent", "direction"),
        ({"features.0.weight": torch.ones(1)}, "imagenet", "ImageNet"),
        ({"Conv2d_1a_3x3.conv.weight": torch.ones(1)}, "inception", "Inception"),
        ({"synthesis.input.transform": torch.ones(3, 3)}, "stylegan3", "StyleGAN3"),
        ({"anything": torch.ones(1)}, None, "unknown"),
        ([1, 2], None, "unknown"),
        ({}, None, "unknown"),
        (None, None, "unknown"),
    ):
        torch.save(tree, path)
        report = doctor(path)
        assert report.layout == layout and words in report.title, report


def test_doctor_never_raises(tmp_path):
    path = tmp_path / "a"
    contents = [payloads.torch_zip(body) for body in list(payloads.PAYLOADS.values())[:20]]
    contents += [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(100)]
    for content in contents:
        path.write_bytes(content)
        report = doctor(path)
        assert report.problems and not report.usable and "problem" in str(report)
    for other in (tmp_path, tmp_path / "absent", "", "\0", 7, None):
        report = doctor(other)  # type: ignore[arg-type]
        assert report.problems and not report.usable, other


HOSTILE_CONFIGS: list[Any] = [
    {},
    {"resolution": 2**40, "channels": [8]},
    {"resolution": 32, "channels": [12, 10, 8, 6], "num_mapping_layers": 10**9},
    {"resolution": 32, "channels": [12] * 1000},
    {"resolution": 32, "channels": [2**31] * 4},
    {"resolution": 32, "channels": [12, 10, 8, 6], "unknown": 1},
    {"resolution": "32", "channels": "abc"},
    {"resolution": 32, "channels": [[1]]},
    {"resolution": -8, "channels": []},
    {"resolution": 32.5, "channels": None},
]


@pytest.mark.parametrize("config", HOSTILE_CONFIGS, ids=str)
@pytest.mark.parametrize("network", ["StyleGAN2Generator", "StyleGAN2Discriminator", "ArcFace"])
def test_a_hostile_configuration_is_refused(tmp_path, generator, config, network):
    """Our own format's digest is no signature: anybody can write one."""
    path = tmp_path / "a.safetensors"
    save_network(path, NetworkFile(network, config, generator.state_dict()))
    load = {"StyleGAN2Generator": load_generator, "ArcFace": load_face_id}
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: "):
        load.get(network, load_discriminator)(path)
    assert time.perf_counter() - start < 5 and doctor(path).problems


def test_a_network_of_unknown_class_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(path, NetworkFile("os.system", {}, {"a": torch.ones(1)}))
    assert load_network(path).network == "os.system"  # a word, and nothing is made of it
    with pytest.raises(CheckpointError, match="holds the network 'os.system', expected one of"):
        load_generator(path)


# --- public names and the command ----------------------------------------------------------------
def test_public_names():
    for name in ("load_generator", "load_discriminator", "load_encoder", "load_face_id"):
        assert name in gan_inversion.__all__
        assert getattr(gan_inversion, name) is globals()[name]


def test_the_command(tmp_path, generator, capsys):
    first, own = tmp_path / "a.pt", tmp_path / "b.safetensors"
    torch.save(_rosinality(generator), first)
    assert main(["convert", str(first), str(own)]) == 0
    assert "StyleGAN2Generator" in capsys.readouterr().out
    assert main(["doctor", str(first), str(own)]) == 0
    assert capsys.readouterr().out.count("resolution 32") == 2
    (tmp_path / "page.pt").write_text("<html>")
    assert main(["doctor", str(tmp_path / "page.pt")]) == 1
    assert "web page" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "page.pt"), str(own)]) == 1
    assert "web page" in capsys.readouterr().err
    assert main(["convert", str(first), str(tmp_path / "absent" / "b.pt")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["convert", str(first), str(tmp_path / "b.onnx")]) == 1
    assert load_network(own).network == "StyleGAN2Generator"  # the old file stays


def test_help_is_instant(source_environment):
    script = (
        "import sys, gan_inversion.cli as cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", script], env=source_environment, check=True, capture_output=True
        )
        best = min(best, time.perf_counter() - start)
    assert best < 1.0


@pytest.mark.parametrize("module", ["read", "files", "doctor"])
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(f"gan_inversion.checkpoints.{module}")
    outcome = doctest.testmod(found)
    assert outcome.attempted > 0 and outcome.failed == 0


def test_links_of_the_page_exist(project_root):
    folder = project_root / "docs"
    assert "(checkpoints.md)" in (folder / "index.md").read_text()
    page = (folder / "checkpoints.md").read_text()
    for name in re.findall(r"gan_inversion\.(\w+)\(", page):
        assert name in gan_inversion.__all__
    assert f"{len(payloads.PAYLOADS)} payloads" in page


# --- golden data ---------------------------------------------------------------------------------
def test_the_stored_official_checkpoint(shared_dir):
    folder = shared_dir / "golden" / "a_stylegan2_rosinality" / "g64_tiny"
    loaded = load_generator(folder / "checkpoint.pt")
    inputs = safetensors.torch.load_file(folder / "inputs.safetensors")
    outputs = safetensors.torch.load_file(folder / "outputs.safetensors")
    image = loaded.synthesis(loaded.mapping(inputs["z"]))
    expected = outputs["img_from_z"]
    assert (image - expected).abs().max() <= 1e-5 * expected.abs().max()
    theirs = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert same(read_checkpoint(folder / "checkpoint.pt"), theirs)


@pytest.mark.parametrize("name", ["sg3_g64", "sg3_g32_cond5", "ada_g32"])
def test_nvlabs_golden_in_a_pickle(tmp_path, shared_dir, name):
    folder = shared_dir / "golden" / "b_stylegan2_nvlabs" / name
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    path = tmp_path / "network.pkl"
    network = synthetic.persistent(weights, "Generator", {})
    path.write_bytes(synthetic.nvlabs_pickle({"G_ema": network}))
    assert same(
        dict(sorted(read_checkpoint(path)["G_ema"]["state"].items())), dict(sorted(weights.items()))
    )
    loaded = load_generator(path)
    inputs = safetensors.torch.load_file(folder / "inputs.safetensors")
    outputs = safetensors.torch.load_file(folder / "outputs.safetensors")
    label = {"c": inputs["c"]} if loaded.config.c_dim else {}
    w = loaded.mapping(inputs["z"], **label)
    expected = outputs["img_from_ws_const"]
    image = loaded.synthesis(w if "ws" not in inputs else inputs["ws"], noise="const")
    assert (image - expected).abs().max() <= 1e-5 * expected.abs().max()
