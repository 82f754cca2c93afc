"""A StyleGAN2 training: its losses, its average, its resuming, its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_inversion import cli
from gan_inversion.checkpoints.files import load_network
from gan_inversion.errors import CheckpointError
from gan_inversion.generators.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_inversion.metrics import FeatureNetwork
from gan_inversion.training import train_stylegan2
from gan_inversion.training.image_source import DrawnFaces
from gan_inversion.training.run_folder import digest, load_checkpoint
from gan_inversion.training.stylegan2_training import (
    StyleGAN2Trainer,
    StyleGAN2Training,
    lazy_adam,
    path_lengths,
    r1_penalty,
)
from gan_inversion.training.trainer import RunConfig, run

from .test_kill import environment

TINY = StyleGAN2Training(
    resolution=8, batch=8, width=8, base=256, latent=8, mapping_layers=2, r1_every=4, path_every=3
)
ADA = StyleGAN2Training(
    **{k: getattr(TINY, k) for k in ("resolution", "width", "base", "latent", "mapping_layers")},
    batch=8,
    r1_every=4,
    path_every=3,
    ada_target=0.0,
    ada_images=100,
    mirror=True,
)
OPTIONS = "--resolution 8 --batch 8 --width 8 --base 256 --latent 8 --mapping-layers 2".split()


def train(folder: Path, steps: int, config=ADA, stop_at=None, shards=1, seed=0):
    trainer = StyleGAN2Trainer(config, DrawnFaces(100, 8), seed=seed)

    def step(step):
        if step.index == stop_at:
            raise KeyboardInterrupt
        return trainer.step(step)

    run_config = RunConfig(steps, checkpoint_every=4, shards=shards)
    settings = trainer.settings
    run(trainer.parts, step, run_config, folder, settings=settings, progress=False)
    return trainer


def lines(folder: Path):
    return [json.loads(line) for line in (folder / "log.jsonl").open()]


def test_r1_is_the_squared_slope():
    torch.manual_seed(0)
    _, d = TINY.networks()
    d = d.double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(d(x), x)
    jacobian = torch.autograd.functional.jacobian(lambda t: d(t).sum(), x.detach())
    torch.testing.assert_close(penalty, jacobian.square().sum() / 4)
    # Its own gradient, by differences.
    weight = d.from_rgb.weight
    (slope,) = torch.autograd.grad(penalty, weight)
    direction = torch.randn_like(weight)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-5 * direction
        ends.append(r1_penalty(d(x), x).item())
        with torch.no_grad():
            weight -= sign * 1e-5 * direction
    difference = (ends[0] - ends[1]) / 2e-5
    assert difference == pytest.approx((slope * direction).sum().item(), rel=1e-4)


def test_path_lengths_are_those_of_the_jacobian():
    torch.manual_seed(0)
    g, _ = TINY.networks()
    g = g.double()
    w = torch.randn(2, g.num_ws, 8, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    lengths = path_lengths(g.synthesis(w, noise="none"), w, y)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: g.synthesis(row[None], noise="none")[0], w[i].detach()
        )
        projected = torch.einsum("chw,chwnk->nk", y[i] / 8, jacobian)
        expected = projected.square().sum(1).mean().sqrt()
        torch.testing.assert_close(lengths[i], expected)
    (slope,) = torch.autograd.grad(lengths.sum(), g.const)
    assert slope.abs().sum() > 0


def test_lazy_adam_has_the_constants_of_appendix_b():
    adam = lazy_adam([torch.zeros(1, requires_grad=True)], 0.002, 16)
    (group,) = adam.param_groups
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert lazy_adam([torch.zeros(1, requires_grad=True)], 0.002, None).defaults["lr"] == 0.002


def test_one_step_moves_what_it_should(tmp_path):
    """Step 0 has all four passes; both penalties are logged, and the average has moved a little."""
    trainer = StyleGAN2Trainer(ADA, DrawnFaces(100, 8))
    start = {n: p.clone() for n, p in trainer.generator.named_parameters()}
    config = RunConfig(1)
    run(trainer.parts, trainer.step, config, tmp_path, progress=False)
    (line,) = lines(tmp_path)
    assert {"d_loss", "g_loss", "r1", "path", "sign", "p", "real", "fake"} <= line.keys()
    assert trainer.path.mean == pytest.approx(0.01 * line["path"]) and line["path"] > 0
    # Half-life: a twentieth of the 8 images seen so far.
    keep = 0.5 ** (8 / (8 * 0.05))
    for name, average in trainer.average.named_parameters():
        value = trainer.generator.get_parameter(name)
        assert not torch.equal(value, start[name]), name
        torch.testing.assert_close(average, start[name] * keep + value * (1 - keep))
    assert not any(p.requires_grad for p in trainer.average.parameters())


def test_an_interrupted_training_ends_the_same(tmp_path):
    """With everything on: augmentation, mirroring, both penalties, mixing, random noise."""
    train(tmp_path / "whole", 14)
    for stop in (6, 11):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", 14, stop_at=stop)
    train(tmp_path / "killed", 14, seed=0)
    states = [load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("whole", "killed")]
    assert digest(states[0]["parts"]) == digest(states[1]["parts"])
    assert states[0]["parts"]["augmentation"]["p"] > 0  # it took part


def test_another_configuration_or_other_images_are_refused(tmp_path):
    train(tmp_path, 4)
    with pytest.raises(CheckpointError, match="ada_target=0.0, .*got .*ada_target=None"):
        train(tmp_path, 4, TINY)
    trainer = StyleGAN2Trainer(ADA, DrawnFaces(101, 8))
    with pytest.raises(CheckpointError, match="drawn faces, 100.*drawn faces, 101"):
        run(
            trainer.parts,
            trainer.step,
            RunConfig(4, checkpoint_every=4),
            tmp_path,
            settings=trainer.settings,
            progress=False,
        )


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="`source` must have images of 8 px, got 16"):
        StyleGAN2Trainer(TINY, DrawnFaces(10, 16))
    with pytest.raises(ValueError, match="`batch` must be a multiple of the 3 shards, got 8"):
        train(tmp_path, 1, shards=3)
    with pytest.raises(ValueError, match="`batch` must be at least 1, got 0"):
        StyleGAN2Training(batch=0)
    with pytest.raises(ValueError, match="`r1_every` must be at least 1 step, got 0"):
        StyleGAN2Training(r1_every=0)


def test_the_command(tmp_path, capsys):
    options = [*OPTIONS, "--out", str(tmp_path), "--steps", "4", "--device", "cpu"]
    options += ["--sheet-every", "2", "--fd-every", "0", "--no-progress", "--ada"]
    assert cli.main(["train", "stylegan2", *options]) == 0
    names = {p.name for p in tmp_path.iterdir()}
    networks = {"generator.safetensors", "discriminator.safetensors"}
    sheets = {"reals.png", "fakes-000002.png", "fakes-000004.png"}
    assert names == networks | sheets | {"checkpoint.pt", "log.jsonl"}
    assert str(tmp_path / "generator.safetensors") in capsys.readouterr().out
    with Image.open(tmp_path / "fakes-000004.png") as picture:
        assert picture.size == (10 * 10 + 2, 6 * 10 + 2)

    found = load_network(tmp_path / "generator.safetensors")
    assert found.network == "StyleGAN2Generator" and found.card["steps_done"] == 4
    g = StyleGAN2Generator.from_state(found.config, found.state)
    stored = load_checkpoint(tmp_path / "checkpoint.pt")["parts"]
    assert torch.equal(g.const, stored["average"]["const"])
    assert g.w_avg.abs().sum() > 0  # measured
    found = load_network(tmp_path / "discriminator.safetensors")
    d = StyleGAN2Discriminator.from_state(found.config, found.state)
    assert torch.isfinite(d(g(g.mapping(torch.randn(4, 8))))).all()

    before = (tmp_path / "generator.safetensors").read_bytes()
    assert cli.main(["train", "stylegan2", *options]) == 0  # nothing is left to do
    assert (tmp_path / "generator.safetensors").read_bytes() == before
    assert cli.main(["train", "stylegan2", *options, "--gamma", "3"]) == 1
    assert "gamma=None, got gamma=3.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--threads 0", "--threads: expected a whole number from 1 up, got '0'"),
        ("--shards 0", "--shards: expected"),
        ("--sheet-every 0", "--sheet-every: expected"),
        ("--fd-every -1", "--fd-every: expected"),
        ("--fd-images 1", "--fd-images: expected a whole number from 2 up, got '1'"),
        ("--seed 99999999999999999999", "`seed` must be below"),
        ("--minutes nan", "--minutes: expected a number above 0, got 'nan'"),
        ("--minutes -1", "--minutes: expected a number above 0"),
        ("--mixing 5", "`mixing` must be from 0 to 1, got 5.0"),
        ("--learning-rate -1", "`learning_rate` must be a number above 0, got -1.0"),
        ("--gamma nan", "`gamma` must be a number from 0 up, got nan"),
        ("--path-weight -1", "`path_weight` must be"),
        ("--average-rampup -1", "`average_rampup` must be"),
        ("--learning-rate 1e30", "loss is nan"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, capsys, option, message):
    quiet = "--fd-every 0 --steps 2 --no-progress --device cpu".split()
    arguments = ["train", "stylegan2", "--out", str(tmp_path / "run"), *OPTIONS, *quiet]
    try:
        status = cli.main([*arguments, *option.split()])
    except SystemExit as leaving:  # as argparse does
        status = leaving.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert status in (1, 2) and message in lines[-1]
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_torchrun_takes_none_of_the_options():
    """torchrun completes abbreviations of its own options even behind the module's name."""
    from torch.distributed.run import get_args_parser

    theirs = [o for action in get_args_parser()._actions for o in action.option_strings]
    ours = [o for action in train_stylegan2._parser()._actions for o in action.option_strings]
    clashes = {o for o in ours if any(t.startswith(o) for t in theirs)}
    assert len(ours) > 20 and clashes == {"-h", "--help"}


def test_the_frechet_curve(tmp_path):
    """Logged under the network's name; the reals' features are computed once."""
    trainer = StyleGAN2Trainer(TINY, DrawnFaces(100, 8))
    seen = []

    def embed(x):
        seen.append(len(x))
        return x.mean((2, 3))

    network = FeatureNetwork("FD-mean", "KD-mean", "mean colour", lambda x: x, embed)
    distance = train_stylegan2.feature_frechet(network)
    report = train_stylegan2.frechet_report(trainer, distance, 40, "FD-mean")
    first = report(1)
    assert first["FD-mean"] > 0 and sum(seen) == 80
    assert report(2) == first and sum(seen) == 120
    real = trainer.source.images(range(40))
    assert distance(real, real) == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Colours of 8 px faces come nearer in 300 steps."""
    config = StyleGAN2Training(
        resolution=8, batch=16, width=16, base=256, latent=16, mapping_layers=2
    )
    trainer = StyleGAN2Trainer(config, DrawnFaces(2000, 8))

    def colours(x):
        return torch.nn.functional.avg_pool2d(x, 4).flatten(1)

    network = FeatureNetwork("FD", "KD", "4 mean colours", lambda x: x, colours)
    report = train_stylegan2.frechet_report(
        trainer, train_stylegan2.feature_frechet(network), 500, "FD"
    )
    start = report(0)["FD"]
    run(trainer.parts, trainer.step, RunConfig(300), tmp_path, progress=False)
    end = report(300)["FD"]
    print(f"distance {start:.3f} -> {end:.3f}")
    assert end < 0.25 * start


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """The real networks and losses, minibatch groups included, through torchrun."""
    options = [*OPTIONS, "--steps", "50", "--shards", "2", "--device", "cpu", "--no-progress"]
    options += ["--fd-every", "0", "--path-every", "3", "--r1-every", "4", "--threads", "1"]
    module = "gan_inversion.training.train_stylegan2"
    for processes in (1, 2):
        launcher = [sys.executable, "-m"]
        if processes == 2:
            launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
        command = [*launcher, module, "--out", str(tmp_path / str(processes)), *options]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(tmp_path / n / "checkpoint.pt")["parts"] for n in ("1", "2"))
    largest = max(
        (one[name][key].double() - two[name][key].double()).abs().max().item()
        for name in ("generator", "discriminator", "average")
        for key in one[name]
    )
    print(f"largest difference after 50 steps: {largest:.1e}")
    assert largest < 1e-6
