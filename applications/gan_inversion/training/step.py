"""One step of a run: its shards, and the way from their losses to an optimiser's step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .workers import Workers


@dataclass(frozen=True)
class RunConfig:
    """How long to train, and what makes it reproducible.

    Attributes:
        steps: number of steps.
        checkpoint_every: steps between checkpoints.
        seconds: stop after this much training time; the checkpoint resumes where it stopped.
        seed: of the steps' generators.
        shards: parts of a step's batch with a forward pass each; a multiple of the processes.
    """

    steps: int
    checkpoint_every: int = 100
    seconds: float | None = None
    seed: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "shards"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a whole number from 1 up, got {value!r}")
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"`seconds` must be a time from 0 up, got {self.seconds!r}")
        if abs(self.seed) >= 2**40:  # with the step it has to fit 64 bits
            raise ValueError(f"`seed` must be below 2**40, got {self.seed!r}")


def step_generator(seed: int, step: int, shard: int = 0) -> torch.Generator:
    """Return the random generator of one step's shard; it depends on nothing that ran before."""
    if shard == 0:
        return torch.Generator().manual_seed(seed * 2_000_003 + step)
    return torch.Generator().manual_seed(_seed(seed, step, shard))


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Shard:
    """One part of a step's batch.

    Attributes:
        number: 0 up to ``shards`` - 1.
        generator: everything random of this shard in this step comes from here, in order.
    """

    number: int
    generator: torch.Generator


@dataclass
class Step:
    """One step, as the step function sees it.

    Attributes:
        index: how many steps were done before.
        shards: those that this process computes.
        config: of the run.
        workers: the processes.
    """

    index: int
    shards: Sequence[Shard]
    config: RunConfig
    workers: Workers
    modules: Sequence[nn.Module] = field(repr=False)
    passes: int = field(default=0, repr=False)

    def minimise(
        self,
        optimiser: torch.optim.Optimizer,
        loss_function: Callable[[Shard], tuple[Tensor, dict[str, float]]],
        *,
        clip: float | None = None,
    ) -> dict[str, float]:
        """Make one step of one optimiser on the mean loss of all shards.

        Only the optimiser's own parameters get a gradient, whatever else the loss depends on.

        Args:
            optimiser: the one to step.
            loss_function: ``shard -> (scalar loss, figures for the log)``; called for each shard
                of this process.
            clip: largest norm of the gradient; None clips nothing.

        Returns:
            ``loss`` (mean over all shards), ``grad`` (norm before clipping), and the mean of the
            figures over this process's shards.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; nothing was changed.
        """
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.workers.device)
        figures: list[dict[str, float]] = []
        for shard in self._each_shard():
            loss, shard_figures = loss_function(shard)
            if loss.requires_grad:
                (loss / self.config.shards).backward(inputs=parameters)
            total = total + loss.detach().float().to(total.device) / self.config.shards
            figures.append(shard_figures)
        total = self.workers.sum_gradients(parameters, total)
        value = total.item()
        if not torch.isfinite(total):
            raise FloatingPointError(f"loss is {value} at step {self.index}: {figures}")
        gradients = [p for p in parameters if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(gradients, torch.inf if clip is None else clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient's norm is {norm.item()} at step {self.index} (loss {value:.4g})"
            )
        optimiser.step()
        return {"loss": value, "grad": norm.item()} | mean_figures(figures)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over the processes of a mean over each one's own shards."""
        return self.workers.sum([value])[0] / self.workers.size

    def _each_shard(self) -> Iterator[Shard]:
        """Yield the shards, each with the global generator seeded and with its own buffers."""
        self.passes += 1
        if self.config.shards == 1:
            torch.manual_seed(_seed(self.shards[0].generator.initial_seed(), self.passes))
            yield self.shards[0]
            return
        buffers = [b for module in self.modules for b in module.buffers()]
        before = [b.detach().clone() for b in buffers]
        changes = [torch.zeros_like(b, dtype=torch.float64) for b in buffers]
        for shard in self.shards:
            _copy(buffers, before)
            # A number of its own for each shard and each pass of the step.
            torch.manual_seed(_seed(shard.generator.initial_seed(), self.passes))
            yield shard
            for change, new, old in zip(changes, buffers, before, strict=True):
                change += (new.detach().double() - old.double()) / self.config.shards
        changes = self.workers.sum(changes)
        after = [old.double() + change for old, change in zip(before, changes, strict=True)]
        # Counters come to the same whole number in every shard.
        _copy(
            buffers,
            [a if b.is_floating_point() else a.round() for a, b in zip(after, before, strict=True)],
        )


@torch.no_grad()
def _copy(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


def mean_figures(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those that have it."""
    names = dict.fromkeys(name for one in figures for name in one)
    values = {name: [one[name] for one in figures if name in one] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}
