"""One small trainer: deterministic, resumable to the bit, in one process or in several.

:func:`run` trains any number of networks with any number of optimisers (a GAN has two of each, an
averaged copy and the state of its augmentation); :func:`train` is the short form for one network
with one loss.

*Resuming.* The state on disk (weights, optimisers, step, seconds) is replaced atomically, so a run
that is killed at any moment continues from its last checkpoint and ends with the same weights as
a run that was not. For that to hold, everything random in a step comes from the step's own
generators; PyTorch's global one (dropout) is seeded for every pass.

*Several processes.* A step's batch consists of ``shards``, a number that belongs to the
configuration; every shard has its own generator and its own forward and backward pass, and the
gradients are averaged. The processes share the shards, one process does them all, so the result is
the same up to rounding. That includes what a network computes over its batch: batch statistics
and groups of minibatch standard deviations are a shard's own in either case, and a buffer that a
pass changes (running means) becomes the mean of what the shards made of it.
"""

from __future__ import annotations

import contextlib
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .._arguments import positive_number, whole_number
from ..errors import CheckpointError
from .run_folder import RunFolder, load_checkpoint
from .step import RunConfig, Shard, Step, mean_figures, step_generator
from .workers import Workers, start_workers

__all__ = [
    "Report",
    "RunConfig",
    "Shard",
    "Step",
    "TrainerConfig",
    "learning_rate_at",
    "run",
    "step_generator",
    "train",
    "training_config",
    "training_options",
]

StepFunction = Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]
# These change when a run stops and what it costs, not what it computes.
MAY_CHANGE = ("seconds", "checkpoint_every")


class Stateful(Protocol):
    """A part of a run: a network, an optimiser, anything whose state is a plain dict."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values in dicts and lists."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over what :meth:`state_dict` returned."""


@dataclass(frozen=True)
class TrainerConfig(RunConfig):
    """How :func:`train` optimises, beside what :class:`RunConfig` has.

    Attributes:
        learning_rate: of Adam; it falls along a cosine over the steps.
        betas: of Adam.
        weight_decay: decoupled.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 50
    clip: float = 1.0


def training_options(description: str, steps: int, learning_rate: float) -> ArgumentParser:
    """Make the command line that trainings of one network on a folder of pairs share."""
    parser = ArgumentParser(description=description)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="folder of edit_pairs")
    add("--run", type=Path, required=True, help="folder of the training")
    add("--out", type=Path, required=True, help="safetensors file to write")
    add("--steps", type=whole_number(1), default=steps)
    add("--minutes", type=positive_number, default=None, help="stop after this long")
    add("--learning-rate", type=positive_number, default=learning_rate)
    add("--seed", type=whole_number(0), default=0)
    add("--threads", type=whole_number(1), default=2)
    return parser


def training_config(args: Namespace, **settings: Any) -> TrainerConfig:
    """Return the settings of a training from its :func:`training_options` and what it fixes."""
    return TrainerConfig(
        steps=args.steps,
        learning_rate=args.learning_rate,
        seconds=None if args.minutes is None else 60 * args.minutes,
        seed=args.seed,
        **settings,
    )


def learning_rate_at(step: int, config: TrainerConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(min(1.0, t) * torch.pi)).item())
    return config.learning_rate * (0.01 + 0.99 * cosine)


@dataclass(frozen=True)
class Report:
    """Something done now and then by the first process while the others wait.

    Attributes:
        every: after every so many steps, and after the last.
        function: ``steps done -> figures for the log``; a picture or a measurement. It must not
            change what is trained.
    """

    every: int
    function: Callable[[int], dict[str, float]]

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"`every` must be a whole number from 1 up, got {self.every!r}")


def run(
    parts: Mapping[str, Stateful],
    step_function: Callable[[Step], dict[str, float]],
    config: RunConfig,
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    reports: Sequence[Report] = (),
    workers: Workers | None = None,
    description: str = "training",
    progress: bool = True,
    tensorboard: bool = False,
) -> int:
    """Train until ``config.steps`` or ``config.seconds``; resume if the folder has a checkpoint.

    Args:
        parts: by name, everything that a step changes: networks, optimisers, averaged copies.
        step_function: does one step, mostly by :meth:`Step.minimise`; returns figures to log.
        config: see :class:`RunConfig`; a run can only be resumed with the one it started with
            (``seconds`` and ``checkpoint_every`` may change).
        folder: gets ``checkpoint.pt``, ``log.jsonl`` (one object a step) and what reports write.
        settings: more plain values that a resumed run must share: sizes, weights, data.
        reports: see :class:`Report`.
        workers: from :func:`~gan_inversion.training.workers.start_workers`; None: the processes
            that ``torchrun`` started, on CPUs.
        description: label of the progress bar.
        progress: show the bar.
        tensorboard: also write event files into ``folder``.

    Returns:
        The number of steps done in all.

    Raises:
        CheckpointError: the folder's checkpoint is damaged, belongs to other networks or another
            configuration (the fields are named), or cannot be written; or another process
            trains in the folder.
        FloatingPointError: a loss or gradient is not finite; the checkpoint stays as it was.
        ImportError: ``tensorboard`` is not installed.
        ValueError: ``config.shards`` is no multiple of the number of processes.
        RuntimeError: another process died or hangs, or came to other weights.

    Example:
        >>> import tempfile
        >>> net = nn.Linear(2, 1)
        >>> adam = torch.optim.Adam(net.parameters())
        >>> def step(step: Step) -> dict[str, float]:
        ...     def loss(shard):
        ...         x = torch.randn(4, 2, generator=shard.generator)
        ...         return net(x).square().mean(), {}
        ...     return step.minimise(adam, loss)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run({"net": net, "adam": adam}, step, RunConfig(3), Path(folder), progress=False)
        3
    """
    with contextlib.ExitStack() as stack:
        workers = workers or stack.enter_context(start_workers())
        if config.shards % workers.size:
            raise ValueError(
                f"`shards` must be a multiple of the number of processes ({workers.size}), "
                f"got {config.shards}"
            )
        place = (
            stack.enter_context(contextlib.closing(RunFolder(folder))) if workers.first else None
        )
        workers.wait()  # until orphans are gone
        session = _Session(parts, config, folder, dict(settings or {}), workers, place)
        session.resume()
        writer = stack.enter_context(_event_writer(folder, session.step, tensorboard, workers))
        bar = stack.enter_context(
            tqdm(
                total=config.steps,
                initial=session.step,
                desc=description,
                disable=not (progress and workers.first),
                mininterval=5,
            )
        )
        # What the passes do to the global generator stays in here.
        stack.enter_context(torch.random.fork_rng(_devices(workers)))
        session.train_mode(True)
        while session.step < config.steps and not session.time_is_up():
            record = session.one_step(step_function, reports)
            bar.update()
            if writer is not None:
                for name, value in record.items():
                    writer.add_scalar(name, value, session.step)
            if session.step % 10 == 0:
                shown = {k: f"{v:.3g}" for k, v in record.items() if k not in ("step", "seconds")}
                bar.set_postfix(shown, refresh=False)
                if place is not None:
                    place.flush_log()
            if session.step % config.checkpoint_every == 0:
                session.save()
        session.save()
        session.train_mode(False)
        return session.step


class _Session:
    """What :func:`run` knows while it is running."""

    def __init__(
        self,
        parts: Mapping[str, Stateful],
        config: RunConfig,
        folder: Path,
        settings: dict[str, Any],
        workers: Workers,
        place: RunFolder | None,
    ) -> None:
        self.parts, self.config, self.folder, self.workers = parts, config, folder, workers
        self.place = place
        # As they come back from the file: tuples are lists there, for example.
        self.settings = {k: _plain(v) for k, v in (asdict(config) | settings).items()}
        self.modules = [part for part in parts.values() if isinstance(part, nn.Module)]
        self.training = [module.training for module in self.modules]
        self.step, self.spent, self.saved = 0, 0.0, -1

    def resume(self) -> None:
        """Take over the checkpoint, or write the first one."""
        everywhere = self.workers.gather(self.settings)
        if any(settings != everywhere[0] for settings in everywhere):
            raise ValueError("`config`, `settings`: the processes of this run differ in them")
        path = self.folder / "checkpoint.pt"
        found = self.workers.gather(path.exists())
        if any(found) and not all(found):
            raise CheckpointError(
                f"{path}: not every process sees it; machines of one run must share the folder"
            )
        if found[0]:
            state = load_checkpoint(path)
            self._compare(path, state["settings"])
            self._load(path, state["parts"])
            self.step, self.spent, self.saved = state["step"], state["spent"], state["step"]
        self.workers.copy_from_first(self.modules)
        if self.place is not None:
            self.place.cut_log(self.step)
        if not found[0]:
            self.save()

    def _compare(self, path: Path, stored: dict[str, Any]) -> None:
        names = [n for n in {**stored, **self.settings} if n not in MAY_CHANGE]
        none = object()
        was, got = [], []
        for name in names:
            old, new = stored.get(name, none), self.settings.get(name, none)
            if old != new:
                was.append(f"{name}={'(absent)' if old is none else repr(old)}")
                got.append(f"{name}={'(absent)' if new is none else repr(new)}")
        if was:
            raise CheckpointError(
                f"{path}: was started with {', '.join(was)}, got {', '.join(got)}; the result "
                "would be that of neither: use the same configuration or another folder"
            )

    def _load(self, path: Path, stored: dict[str, Any]) -> None:
        if stored.keys() != self.parts.keys():
            raise CheckpointError(
                f"{path}: holds {', '.join(stored)}, and this run has {', '.join(self.parts)}; "
                "use another folder"
            )
        for name, part in self.parts.items():
            try:
                part.load_state_dict(stored[name])
            except (KeyError, RuntimeError, ValueError, TypeError) as error:
                raise CheckpointError(
                    f"{path}: checkpoint of another network; use another folder ({name}: {error})"
                ) from error

    def train_mode(self, training: bool) -> None:
        """Put trained networks into training mode, or all into the mode for use."""
        for module, was in zip(self.modules, self.training, strict=True):
            trained = any(p.requires_grad for p in module.parameters())
            module.train((trained or was) if training else False)

    def time_is_up(self) -> bool:
        """Whether the budget of seconds is spent, by the first process's clock."""
        if self.config.seconds is None:
            return False
        return bool(self.workers.choose(self.spent >= self.config.seconds))

    def one_step(
        self, step_function: Callable[[Step], dict[str, float]], reports: Sequence[Report]
    ) -> dict[str, float]:
        """Do a step and its reports, and write its line of the log."""
        start = time.perf_counter()
        # Neighbouring shards go to one process, as they would be slices of one batch.
        own = self.config.shards // self.workers.size
        numbers = range(self.workers.rank * own, (self.workers.rank + 1) * own)
        shards = [Shard(n, step_generator(self.config.seed, self.step, n)) for n in numbers]
        figures = step_function(Step(self.step, shards, self.config, self.workers, self.modules))
        figures = mean_figures(self.workers.gather(figures))
        self.step += 1
        self.spent += time.perf_counter() - start
        for report in reports:
            if self.step % report.every == 0 or self.step == self.config.steps:
                if self.workers.first:
                    with torch.random.fork_rng(_devices(self.workers)):
                        figures |= report.function(self.step)
                self.workers.wait()
        record = {"step": self.step, "seconds": round(self.spent, 1)} | figures
        if self.place is not None:
            self.place.write_log(record)
        return record

    def save(self) -> None:
        """Write the checkpoint, after a look whether all processes still agree."""
        if self.saved == self.step:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        if self.workers.size > 1:
            sums = self.workers.gather({name: _checksum(part) for name, part in state.items()})
            differing = [n for n in state if any(s[n] != sums[0][n] for s in sums)]
            if differing:
                raise RuntimeError(
                    f"at step {self.step} the processes differ in {', '.join(differing)}: "
                    "something in a step depends on the process; take random numbers from the "
                    "shard's generator and averages from `Step.mean`"
                )
        if self.place is not None:
            self.place.save(
                {
                    "parts": state,
                    "settings": self.settings,
                    "step": self.step,
                    "spent": self.spent,
                }
            )
        self.saved = self.step
        self.workers.wait()


def _devices(workers: Workers) -> list[torch.device]:
    """Return the devices whose random generators a run uses, beside the CPU."""
    return [workers.device] if workers.device.type == "cuda" else []


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)  # a path, a device


def _checksum(tree: Any) -> int:
    """Sum of all bytes; cheap, and the same in whatever order it is added up."""
    if isinstance(tree, Tensor):
        return int(tree.detach().contiguous().reshape(-1).view(torch.uint8).sum(dtype=torch.int64))
    if isinstance(tree, Mapping):
        return sum(_checksum(value) for value in tree.values())
    if isinstance(tree, (list, tuple)):
        return sum(_checksum(value) for value in tree)
    return 0


@contextlib.contextmanager
def _event_writer(folder: Path, step: int, wanted: bool, workers: Workers) -> Iterator[Any]:
    """Yield TensorBoard's writer, or None."""
    if not wanted or not workers.first:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "`tensorboard`: the package tensorboard is not installed; pip install tensorboard, or "
            "read log.jsonl, which has the same figures"
        ) from error
    writer = SummaryWriter(str(folder), purge_step=step + 1)
    try:
        yield writer
    finally:
        writer.close()


def train(
    module: nn.Module,
    step_function: StepFunction,
    config: TrainerConfig,
    folder: Path,
    *,
    description: str = "training",
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
    tensorboard: bool = False,
    workers: Workers | None = None,
) -> int:
    """Train one network with AdamW: the short form of :func:`run`.

    Args:
        module: trained in place; parameters with ``requires_grad`` only.
        step_function: ``(step, generator) -> (loss, figures for the log)``, for one shard.
        config: see :class:`TrainerConfig`.
        folder: gets ``checkpoint.pt`` and ``log.jsonl``.
        description: label of the progress bar.
        progress: show the bar.
        settings: more plain values that a resumed run must share.
        tensorboard: also write event files into ``folder``.
        workers: see :func:`run`.

    Returns:
        The number of steps done in all.

    Raises:
        CheckpointError: see :func:`run`.
        FloatingPointError: the loss is not finite; the checkpoint stays as it was.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay
    )

    def one_step(step: Step) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step.index, config)
        return step.minimise(
            optimiser, lambda shard: step_function(step.index, shard.generator), clip=config.clip
        )

    return run(
        {"module": module, "optimiser": optimiser},
        one_step,
        config,
        folder,
        settings=settings,
        workers=workers,
        description=description,
        progress=progress,
        tensorboard=tensorboard,
    )
