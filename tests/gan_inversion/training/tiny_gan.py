"""A GAN of a few hundred weights, and a process that trains it again and again to be killed.

As a program: ``tiny_gan.py train FOLDER STEPS SHARDS [PAUSE]`` for ``torchrun``; ``tiny_gan.py
serve`` forks a training process for each line of its input. A fork takes milliseconds where a new
process takes the seconds of importing torch.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_inversion.training.trainer import Report, RunConfig, Shard, Step, run

BATCH = 8  # of a shard


class MinibatchStd(nn.Module):
    """StyleGAN's layer: how much the samples of a group of four differ is one more feature."""

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(4, -1, x.shape[1])
        std = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean(1)
        return torch.cat([x, std.repeat(4)[:, None]], 1)


class Augmentation:
    """State that is no network: how strongly the images are disturbed."""

    def __init__(self) -> None:
        self.p, self.signs = 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.p, "signs": self.signs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.p, self.signs = state["p"], state["signs"]


class TinyGAN:
    """Everything that such a training has: lazy penalties, an average, dropout, running means."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        # No bias before the normalisation: its gradient is nothing but rounding, and Adam would
        # make whole steps of that, different ones for every order of summation.
        self.g = nn.Sequential(
            nn.Linear(4, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 6)
        )
        self.d = nn.Sequential(
            nn.Linear(6, 16), nn.Softplus(), nn.Dropout(0.1), MinibatchStd(), nn.Linear(17, 1)
        )
        self.ema = copy.deepcopy(self.g).requires_grad_(False).eval()
        self.g_adam = torch.optim.Adam(self.g.parameters(), 2e-3, (0.5, 0.99))
        self.d_adam = torch.optim.Adam(self.d.parameters(), 2e-3, (0.5, 0.99))
        self.augmentation = Augmentation()

    @property
    def parts(self) -> dict[str, Any]:
        return {
            "g": self.g,
            "d": self.d,
            "ema": self.ema,
            "g_adam": self.g_adam,
            "d_adam": self.d_adam,
            "augmentation": self.augmentation,
        }

    def real(self, shard: Shard) -> Tensor:
        x = torch.randn(BATCH, 6, generator=shard.generator).cumsum(1)
        return x + self.augmentation.p * torch.randn(x.shape, generator=shard.generator)

    def fake(self, shard: Shard) -> Tensor:
        return self.g(torch.randn(BATCH, 4, generator=shard.generator))

    def step(self, step: Step) -> dict[str, float]:
        signs = torch.zeros(())

        def d_loss(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            nonlocal signs
            real = self.d(self.real(shard))
            signs = signs + real.detach().sign().mean() / len(step.shards)
            return F.softplus(-real).mean() + F.softplus(self.d(self.fake(shard))).mean(), {}

        def r1(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            x = self.real(shard).requires_grad_()
            (slope,) = torch.autograd.grad(self.d(x).sum(), x, create_graph=True)
            return slope.square().sum(1).mean(), {"r1": slope.square().mean().item()}

        figures = step.minimise(self.d_adam, d_loss)
        if step.index % 4 == 0:
            figures |= {"r1": step.minimise(self.d_adam, r1, clip=1.0)["r1"]}
        g = step.minimise(
            self.g_adam, lambda shard: (F.softplus(-self.d(self.fake(shard))).mean(), {})
        )
        self.augmentation.signs = 0.9 * self.augmentation.signs + 0.1 * step.mean(signs).item()
        self.augmentation.p = max(0.0, self.augmentation.p + 0.01 * self.augmentation.signs)
        with torch.no_grad():
            for average, value in zip(
                self.ema.state_dict().values(), self.g.state_dict().values(), strict=True
            ):
                average.copy_(average.lerp(value, 0.1) if value.is_floating_point() else value)
        return figures | {"g": g["loss"], "p": self.augmentation.p}


def train_tiny(
    folder: Path, steps: int, shards: int = 1, pause: float = 0.0, fail_at: int = -1
) -> TinyGAN:
    gan = TinyGAN()

    def step(step: Step) -> dict[str, float]:
        time.sleep(pause)
        if step.index == fail_at:  # from here on no file may be longer than a kilobyte
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        return gan.step(step)

    def sheet(done: int) -> dict[str, float]:
        return {"drawn": gan.ema(torch.ones(1, 4)).sum().item() + torch.rand(()).item() * 0}

    config = RunConfig(steps, checkpoint_every=2, seed=1, shards=shards)
    reports = [Report(10, sheet)]
    run(gan.parts, step, config, folder, reports=reports, progress=False)
    return gan


def die_at(moment: str, count: int = 4) -> None:
    """Kill this process while it writes its fourth checkpoint, at a named stage of that."""
    saves = 0
    real_save, real_replace = torch.save, os.replace

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Half:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            die()

    def save(state: Any, file: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == count and moment == "before":
            die()
        real_save(state, Half(file) if saves == count and moment == "half" else file)

    def replace(old: Path, new: Path) -> None:
        if saves == count and moment == "written":
            die()
        real_replace(old, new)
        if saves == count and moment == "moved":
            die()

    torch.save, os.replace = save, replace  # type: ignore[assignment]


def serve() -> None:
    """For each line ``{"folder", "steps", "kill_after", ...}``: train in a fork, answer."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train_tiny(Path(folder), 2)  # PyTorch imports much of itself only when it is used
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        kill_after = job.pop("kill_after", None)
        moment = job.pop("die_at", None)
        job["folder"] = Path(job["folder"])
        child = os.fork()
        if child == 0:
            try:
                if moment is not None:
                    die_at(moment)
                train_tiny(**job)
            except BaseException:
                (job["folder"] / "error.txt").write_text(traceback.format_exc()[-900:])
                os._exit(1)
            os._exit(0)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        torch.set_num_threads(1)
        pid = f"pid{os.environ.get('RANK', '')}"
        folder = Path(sys.argv[2])
        (folder / pid).write_text(str(os.getpid()))
        gan = train_tiny(folder / "run", *map(int, sys.argv[3:5]), *map(float, sys.argv[5:6]))
