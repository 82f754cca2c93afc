"""The trainer resumes to the bit and refuses what it cannot resume."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import pickle
import random
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_inversion.errors import CheckpointError
from gan_inversion.training.run_folder import RunFolder, digest, load_checkpoint
from gan_inversion.training.trainer import (
    Report,
    RunConfig,
    TrainerConfig,
    learning_rate_at,
    run,
    step_generator,
    train,
)


def make(folder, steps=20, stop_after=None, **overrides):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    config = TrainerConfig(
        steps=steps, learning_rate=1e-2, warmup=3, checkpoint_every=4, **overrides
    )

    def step(index, rng):
        if index == stop_after:
            raise KeyboardInterrupt
        x = torch.randn(16, 3, generator=rng)
        loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"loss": loss.item()}

    return net, step, config


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    net, step, config = make(tmp_path)
    assert train(net, step, config, tmp_path / "whole", progress=False) == 20
    whole = net.state_dict()

    for stop in (6, 15):  # between checkpoints: the steps since the last one are done again
        other, step, config = make(tmp_path, stop_after=stop)
        with pytest.raises(KeyboardInterrupt):
            train(other, step, config, tmp_path / "killed", progress=False)
    other, step, config = make(tmp_path)
    with torch.no_grad():
        other[0].weight.add_(1)  # whatever the fresh weights are, the checkpoint's count
    train(other, step, config, tmp_path / "killed", progress=False)
    for name, value in other.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_loss_falls_and_is_logged(tmp_path):
    net, step, config = make(tmp_path, steps=60)
    train(net, step, config, tmp_path, progress=False)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").open()]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_time_budget_stops_and_continues(tmp_path):
    net, step, config = make(tmp_path, seconds=0.0)
    assert train(net, step, config, tmp_path, progress=False) == 0
    net, step, config = make(tmp_path)
    assert train(net, step, config, tmp_path, progress=False) == 20


def test_checkpoint_of_another_network_or_schedule_is_refused(tmp_path):
    net, step, config = make(tmp_path)
    train(net, step, config, tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="steps=20, got steps=30"):
        net, step, config = make(tmp_path, steps=30)
        train(net, step, config, tmp_path, progress=False)
    _, step, config = make(tmp_path)
    with pytest.raises(CheckpointError, match="another network"):
        train(nn.Linear(2, 2), step, config, tmp_path, progress=False)


def test_every_differing_field_is_named(tmp_path):
    def start(settings, **overrides):
        net, step, config = make(tmp_path, **overrides)
        train(net, step, config, tmp_path, progress=False, settings=settings)

    start({"batch": 16, "data": Path("faces")}, seed=3)
    start({"batch": 16, "data": Path("faces")}, seed=3, seconds=5.0)  # may change
    with pytest.raises(CheckpointError) as raised:
        start({"batch": 8, "size": 64}, seed=4, betas=(0.5, 0.9))
    message = str(raised.value)
    was, got = message.split(", got ")
    for part in ("seed=3", "betas=[0.9, 0.99]", "batch=16", "data='faces'", "size=(absent)"):
        assert part in was, message
    for part in ("seed=4", "betas=[0.5, 0.9]", "batch=8", "data=(absent)", "size=64"):
        assert part in got, message
    assert "weight_decay" not in message and "another folder" in message


def test_same_numbers_as_the_plain_loop(tmp_path):
    """The machinery for resuming and for several processes changes no bit of the training."""
    net, step, config = make(tmp_path)
    train(net, step, config, tmp_path, progress=False)
    plain, step, config = make(tmp_path)
    adam = torch.optim.AdamW(plain.parameters(), config.learning_rate, config.betas, weight_decay=0)
    for index in range(config.steps):
        adam.param_groups[0]["lr"] = learning_rate_at(index, config)
        rng = torch.Generator().manual_seed(config.seed * 2_000_003 + index)
        adam.zero_grad()
        step(index, rng)[0].backward()
        nn.utils.clip_grad_norm_(plain.parameters(), config.clip)
        adam.step()
    for (name, a), b in zip(net.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_damaged_checkpoints_are_refused_by_one_exception(tmp_path):
    """Cut, flipped, or something else altogether: CheckpointError, or the very same content."""
    net, step, config = make(tmp_path)
    train(net, step, config, tmp_path, progress=False)
    path = tmp_path / "checkpoint.pt"
    whole, state = path.read_bytes(), digest(load_checkpoint(path))
    rng = random.Random(0)
    contents = [b"", b"<html>not found</html>", whole[:-1], pickle.dumps(print, 2)]
    for _ in range(150):
        position = rng.randrange(len(whole))
        flipped = bytes([whole[position] ^ 1 << rng.randrange(8)])
        contents.append(whole[:position] + flipped + whole[position + 1 :])
        contents.append(whole[:position])
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            assert digest(load_checkpoint(path)) == state
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 200
    with pytest.raises(CheckpointError, match="another folder"):  # and the run does not start over
        path.write_bytes(whole[:500])
        train(net, step, config, tmp_path, progress=False)
    assert path.read_bytes() == whole[:500]


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    net, step, config = make(tmp_path)
    torch.save({"module": net.state_dict()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        train(net, step, config, tmp_path, progress=False)


def test_the_disk_is_full_while_the_log_is_written(tmp_path, monkeypatch):
    net, step, config = make(tmp_path)

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    def late(index, rng):
        if index == 9:
            monkeypatch.setattr(RunFolder, "_flush", full)
        return step(index, rng)

    with pytest.raises(CheckpointError, match="No space left on device.*make room"):
        train(net, late, config, tmp_path, progress=False)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 8


def test_the_log_is_cut_to_the_checkpoint(tmp_path):
    """Lines of steps that are done again, half a line, and a damaged one go."""
    net, step, config = make(tmp_path)
    train(net, step, config, tmp_path, progress=False)
    good = "".join(json.dumps({"step": n}) + "\n" for n in range(1, 8))
    for bad in ('{"step": 8}\n{"step": 9}\n', '{"st', "not json\n", '{"loss": 1}\n', '{"step": 7}'):
        (tmp_path / "log.jsonl").write_text(good + bad)
        with contextlib.closing(RunFolder(tmp_path)) as place:
            place.cut_log(7)
            place.write_log({"step": 8})
        assert (tmp_path / "log.jsonl").read_text() == good + '{"step": 8}\n'


def test_two_runs_in_one_folder_are_refused(tmp_path):
    net, step, config = make(tmp_path)
    with contextlib.closing(RunFolder(tmp_path)):
        with pytest.raises(CheckpointError, match="another process is training"):
            train(net, step, config, tmp_path, progress=False)
    train(net, step, config, tmp_path, progress=False)


def test_tensorboard_is_an_error_where_it_is_missing_and_fed_where_it_is(tmp_path, monkeypatch):
    net, step, config = make(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if not installed
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train(net, step, config, tmp_path / "missing", progress=False, tensorboard=True)

    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def close(self):
            written.append("closed")

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    train(net, step, config, tmp_path / "there", progress=False, tensorboard=True)
    assert written[0] == (str(tmp_path / "there"), 1) and written[-1] == "closed"
    assert ("loss", 20) in written


def test_shards_average_gradients_and_batch_statistics(tmp_path):
    """Two shards are the mean of two passes, whatever the number of processes."""
    net, step, config = make(tmp_path, steps=1, shards=2, clip=1e9)
    start = copy.deepcopy(net)
    gradients, means = [], []
    for shard in range(2):
        one = copy.deepcopy(start).train()
        _, step, _ = make(tmp_path)
        x = torch.randn(16, 3, generator=step_generator(0, 0, shard))
        (one(x) - x.sum(1, keepdim=True)).square().mean().backward()
        gradients.append([p.grad for p in one.parameters()])
        means.append(one[1].running_mean)
    net, step, config = make(tmp_path, steps=1, shards=2, clip=1e9)
    train(net, step, config, tmp_path, progress=False)
    torch.testing.assert_close(net[1].running_mean, (means[0] + means[1]) / 2)
    assert net[1].num_batches_tracked == 1
    logged = json.loads((tmp_path / "log.jsonl").read_text())["grad"]
    norm = torch.cat([((a + b) / 2).flatten() for a, b in zip(*gradients, strict=True)]).norm()
    assert logged == pytest.approx(norm.item(), rel=1e-5)


def test_dropout_is_reproducible_and_the_global_generator_is_left_alone(tmp_path):
    def last(folder):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        torch.manual_seed(random.randrange(10**6))  # whatever ran before
        before = torch.random.get_rng_state()

        def step(index, rng):
            return net(torch.ones(2, 4)).square().mean(), {}

        train(net, step, TrainerConfig(5), folder, progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)
        return net[0].weight

    assert torch.equal(last(tmp_path / "a"), last(tmp_path / "b"))


def test_only_the_optimisers_own_parameters_get_gradients(tmp_path):
    first, second, unused = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1)
    adam = torch.optim.Adam([*first.parameters(), *unused.parameters()], 0.1)
    start = second.weight.clone(), unused.weight.clone()

    def step(step):
        return step.minimise(adam, lambda shard: (second(first(torch.ones(1, 2))).sum(), {}))

    parts = {"first": first, "second": second, "adam": adam}
    run(parts, step, RunConfig(3), tmp_path, progress=False)
    assert second.weight.grad is None and torch.equal(second.weight, start[0])
    assert torch.equal(unused.weight, start[1])


def test_reports_are_logged_and_made_at_the_end(tmp_path):
    net = nn.Linear(2, 1)
    adam = torch.optim.Adam(net.parameters())

    def step(step):
        return step.minimise(adam, lambda shard: (net(torch.ones(1, 2)).square().sum(), {}))

    reports = [Report(4, lambda done: {"twice": 2.0 * done})]
    run({"net": net, "a": adam}, step, RunConfig(10), tmp_path, reports=reports, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert {line["step"]: line["twice"] for line in lines if "twice" in line} == {
        4: 8.0,
        8: 16.0,
        10: 20.0,
    }


@pytest.mark.parametrize("name", ["steps", "checkpoint_every", "shards"])
def test_numbers_that_are_no_counts_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number from 1 up, got 0"):
        RunConfig(**{"steps": 1, name: 0})


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    net, _, config = make(tmp_path)

    def bad(index, rng):
        return net[0].weight.sum() * float("nan"), {}

    with pytest.raises(FloatingPointError, match="step 0"):
        train(net, bad, config, tmp_path, progress=False)


def test_learning_rate_schedule():
    config = TrainerConfig(steps=100, learning_rate=1.0, warmup=10)
    assert learning_rate_at(0, config) == pytest.approx(0.1)
    assert learning_rate_at(10, config) == pytest.approx(1.0)
    assert learning_rate_at(55, config) == pytest.approx(0.505, abs=1e-3)
    assert learning_rate_at(100, config) == pytest.approx(0.01)
