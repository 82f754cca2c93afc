"""What can be said about several processes without starting them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from gan_inversion.training.trainer import Report, RunConfig, Step, run
from gan_inversion.training.workers import Workers, start_workers


@dataclass(frozen=True)
class Pair(Workers):
    """The first of two processes; the other one says the same, unless ``answer`` changes it."""

    size: int = 2
    answer: Any = staticmethod(lambda value: value)

    def wait(self) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value, self.answer(value)]

    def sum(self, tensors: Any) -> list[torch.Tensor]:
        return [2 * t for t in tensors]

    def copy_from_first(self, modules: Any) -> None:
        pass


def start(folder, workers, shards=2):
    net = nn.Linear(2, 1)
    adam = torch.optim.Adam(net.parameters())

    def step(step: Step) -> dict[str, float]:
        assert [shard.number for shard in step.shards] == [0]
        return step.minimise(adam, lambda shard: (net(torch.ones(1, 2)).square().sum(), {}))

    config = RunConfig(3, checkpoint_every=2, shards=shards)
    return run({"net": net, "adam": adam}, step, config, folder, workers=workers, progress=False)


def test_one_process_without_torchrun():
    with start_workers("auto") as workers:
        assert workers.first and workers.size == 1 and workers.control is None
        assert workers.gather(3) == [3] and workers.choose("x") == "x"
        workers.wait()


def test_shards_must_be_shared_evenly(tmp_path):
    with pytest.raises(ValueError, match=r"`shards` must be a multiple .* processes \(2\), got 3"):
        start(tmp_path, Pair(), shards=3)


def test_processes_that_drift_apart_are_found_at_the_checkpoint(tmp_path):
    assert start(tmp_path / "same", Pair()) == 3

    def drift(value):
        if isinstance(value, dict) and set(value) == {"net", "adam"}:  # the sums of the bytes
            return value | {"net": value["net"] + 1}
        return value

    with pytest.raises(RuntimeError, match="at step 0 the processes differ in net: .*generator"):
        start(tmp_path / "drift", Pair(answer=drift))


def test_processes_with_other_settings_are_found(tmp_path):
    def other(value):
        return value | {"seed": 5} if isinstance(value, dict) and "seed" in value else value

    with pytest.raises(ValueError, match="the processes of this run differ"):
        start(tmp_path, Pair(answer=other))


def test_a_parameter_without_a_gradient_anywhere_keeps_none():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.ones(2)
    loss = Pair().sum_gradients([used, unused], torch.tensor(1.5))
    assert loss == 3 and torch.equal(used.grad, torch.full((2,), 2.0)) and unused.grad is None


def test_bad_arguments_are_named(monkeypatch):
    with pytest.raises(ValueError, match="`device` must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        with start_workers("tpu"):
            pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for device in ("auto", "cuda"):
        with pytest.raises(ValueError, match="process 1 of this machine needs a CUDA device"):
            with start_workers(device):
                pass
    with pytest.raises(ValueError, match="`every` must be a whole number from 1 up, got 0"):
        Report(0, lambda done: {})
