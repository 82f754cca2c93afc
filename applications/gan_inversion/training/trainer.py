"""One small trainer: deterministic, resumable to the bit, with a budget of time or of steps.

The state on disk (weights, optimiser, step, seconds) is replaced atomically, so a run that is
killed at any moment continues from its last checkpoint and ends with the same weights as a run
that was not. For that to hold, everything random in a step comes from the step's own generator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hypergraph._files import atomic_writer

from ..errors import CheckpointError

StepFunction = Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class TrainerConfig:
    """How long and how to train.

    Attributes:
        steps: number of optimiser steps; the learning rate falls along a cosine over them.
        learning_rate: of Adam.
        betas: of Adam.
        weight_decay: decoupled.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
        checkpoint_every: steps between checkpoints.
        seconds: stop after this much training time; the checkpoint resumes where it stopped.
        seed: of the steps' generators.
    """

    steps: int
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 50
    clip: float = 1.0
    checkpoint_every: int = 100
    seconds: float | None = None
    seed: int = 0


def learning_rate_at(step: int, config: TrainerConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(min(1.0, t) * torch.pi)).item())
    return config.learning_rate * (0.01 + 0.99 * cosine)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the random generator of one step; it depends on nothing that ran before."""
    return torch.Generator().manual_seed(seed * 2_000_003 + step)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint next to its place and move it there."""
    with atomic_writer(path) as file:
        torch.save(state, file)


def train(
    module: nn.Module,
    step_function: StepFunction,
    config: TrainerConfig,
    folder: Path,
    *,
    description: str = "training",
    progress: bool = True,
) -> int:
    """Train ``module`` until ``config.steps`` or ``config.seconds``; resume if possible.

    Args:
        module: trained in place; parameters with ``requires_grad`` only.
        step_function: ``(step, generator) -> (loss, figures for the log)``.
        config: see :class:`TrainerConfig`.
        folder: gets ``checkpoint.pt`` and ``log.jsonl``.
        description: label of the progress bar.
        progress: show the bar.

    Returns:
        The number of steps done in all.

    Raises:
        CheckpointError: the folder's checkpoint belongs to another module or configuration.
        FloatingPointError: the loss is not finite; the checkpoint stays as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoint.pt"
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay
    )
    step, spent = 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        try:
            module.load_state_dict(state["module"])
            optimiser.load_state_dict(state["optimiser"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: checkpoint of another network; use another folder ({error})"
            ) from error
        if state["steps"] != config.steps:
            raise CheckpointError(
                f"{path}: was started with steps={state['steps']}, got steps={config.steps}; the "
                "learning rates would not match: use the same steps or another folder"
            )
        step, spent = state["step"], state["spent"]

    def checkpoint() -> None:
        save_atomically(
            {
                "module": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "steps": config.steps,
                "spent": spent,
            },
            path,
        )

    module.train()
    with (
        (folder / "log.jsonl").open("a") as log,
        tqdm(
            total=config.steps,
            initial=step,
            desc=description,
            disable=not progress,
            mininterval=5,
        ) as bar,
    ):
        while step < config.steps and (config.seconds is None or spent < config.seconds):
            start = time.perf_counter()
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(step, config)
            loss, figures = step_function(step, step_generator(config.seed, step))
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {step}: {figures}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, config.clip)
            optimiser.step()
            step += 1
            spent += time.perf_counter() - start
            record = {"step": step, "seconds": round(spent, 1), "loss": loss.item()}
            log.write(json.dumps(record | {"grad": norm.item()} | figures) + "\n")
            bar.update()
            if step % 10 == 0:
                log.flush()
                bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
            if step % config.checkpoint_every == 0:
                checkpoint()
        checkpoint()
    module.eval()
    return step
