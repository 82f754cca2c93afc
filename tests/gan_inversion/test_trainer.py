"""The trainer resumes to the bit and refuses what it cannot resume."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gan_inversion.errors import CheckpointError
from gan_inversion.training.trainer import TrainerConfig, learning_rate_at, train


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
