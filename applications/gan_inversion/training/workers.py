"""The processes of one training run: one, or as many as ``torchrun`` starts.

    torchrun --standalone --nproc-per-node 2 -m gan_inversion.training.train_stylegan2 ...

Every process holds all networks and does its share of every step; gradients are summed over the
processes before an optimiser's step. That is what ``DistributedDataParallel`` does, too, but its
hooks expect one backward pass per forward pass of one wrapped module. A GAN's step has several
networks, passes that skip some of their parameters, and gradients of gradients, so the sums are
made here, after the backward pass, in one message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# A peer that was killed is noticed at once, since its connections close. This is for one that
# hangs: no step may wait longer for it.
TIMEOUT = 45.0
# While one process writes a checkpoint or measures something the others wait this long.
CONTROL_TIMEOUT = 7200.0


@dataclass(frozen=True)
class Workers:
    """The processes of a run as one of them sees them.

    Attributes:
        rank: number of this process; the one with 0 writes files and shows progress.
        size: how many there are.
        device: where this one computes.
        control: group of plain messages between CPUs; None if there is one process only.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    control: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all are here; for hours if one of them has something long to do."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's plain ``value``, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def choose(self, value: Any) -> Any:
        """Return the first process's plain ``value`` on all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return each tensor summed over the processes; one message per dtype.

        Shapes and dtypes must be the same on all of them. The results are on ``device``.
        """
        if self.size == 1 or not tensors:
            return list(tensors)
        results: list[Tensor] = list(tensors)
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            chosen = [i for i, t in enumerate(tensors) if t.dtype == dtype]
            flat = torch.cat([tensors[i].detach().reshape(-1).to(self.device) for i in chosen])
            dist.all_reduce(flat)
            parts = flat.split([tensors[i].numel() for i in chosen])
            for i, part in zip(chosen, parts, strict=True):
                results[i] = part.view(tensors[i].shape)
        return results

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum gradients over the processes in place; return the summed scalar ``loss``.

        A parameter that no process has a gradient for keeps None, so that Adam leaves it and its
        moments alone, as it would in one process.
        """
        if self.size == 1:
            return loss
        present = torch.tensor([p.grad is not None for p in parameters], dtype=loss.dtype)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        *gradients, present, loss = self.sum([*gradients, present, loss])
        for parameter, gradient, count in zip(parameters, gradients, present.tolist(), strict=True):
            parameter.grad = gradient if count else None
        return loss

    def copy_from_first(self, modules: Sequence[nn.Module]) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size == 1:
            return
        with torch.no_grad():
            for module in modules:
                for tensor in module.state_dict().values():
                    value = tensor.to(self.device, copy=True).contiguous()
                    dist.broadcast(value, src=0)
                    tensor.copy_(value)


@contextmanager
def start_workers(device: str = "cpu", timeout: float = TIMEOUT) -> Iterator[Workers]:
    """Join the processes that ``torchrun`` started; without it, be the only one.

    Args:
        device: ``"cpu"`` (messages by gloo), ``"cuda"`` (by nccl; one device per process), or
            ``"auto"``: CUDA where there is some.
        timeout: seconds after which a process that does not answer ends the run.

    Yields:
        The :class:`Workers`.

    Raises:
        ValueError: another ``device``, or fewer CUDA devices than processes on this machine.
        torch.distributed.DistBackendError, RuntimeError: later, when a peer is gone or hangs.

    Example:
        >>> with start_workers() as workers:
        ...     workers.size, workers.device.type, workers.gather("here")
        (1, 'cpu', ['here'])
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be 'auto', 'cpu' or 'cuda', got {device!r}")
    # What torchrun tells its processes; see its documentation.
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    devices = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and devices <= local or device == "auto" and 0 < devices <= local:
        raise ValueError(
            f"`device`: process {local} of this machine needs a CUDA device of its own, and there "
            f"are {devices}; start as many processes as devices or use device='cpu'"
        )
    place = torch.device("cuda", local) if devices else torch.device("cpu")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size == 1:
        yield Workers(device=place)
        return
    if dist.is_initialized():
        raise ValueError(
            "`start_workers` makes the process group itself, and there is one; leave out "
            "torch.distributed.init_process_group"
        )
    dist.init_process_group(
        "nccl" if place.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout)
    )
    try:
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=CONTROL_TIMEOUT))
        yield Workers(rank, size, place, control)
    finally:
        dist.destroy_process_group()
