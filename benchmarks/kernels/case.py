"""What is measured: cases, the problems made of them, and who takes part."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

K = 25  # members of a hyperedge, everywhere
BAR_SIZES = {(1024, 256), (4096, 64), (4096, 256), (16384, 128)}
"""Vertices and channels that most bars are about: measured for longer."""

Field = Literal["random", "smooth"]
Kind = Literal["ours", "rival", "anchor"]
Tier = Literal["smoke", "full"]


@dataclass(frozen=True)
class Case:
    """One row of a table."""

    group: str
    nodes: int
    channels: int
    batch: int = 1
    field: Field = "random"
    backward: bool = False
    variant: str = ""
    rounds: int = 11
    least: int = 3  # rounds that the slowest contender takes part in, too

    @property
    def key(self) -> str:
        parts = [f"{self.nodes}x{self.channels}", f"batch {self.batch}", self.field, self.mode]
        return " ".join(
            [self.group, self.variant, *parts] if self.variant else [self.group, *parts]
        )

    @property
    def mode(self) -> str:
        return "f+b" if self.backward else "f"

    @property
    def size(self) -> str:
        size = f"{self.nodes}x{self.channels}"
        return size if self.batch == 1 else f"{self.batch} x {size}"

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, **asdict(self)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Case:
        return cls(**{name: value for name, value in entry.items() if name != "key"})


@dataclass
class Problem:
    """The tensors of a case; groups add what they need."""

    case: Case
    x: Tensor  # [N, C], or [B, N, C] for a batch; a leaf
    leaves: list[Tensor] = field(default_factory=list)
    """What gradients are taken of, x first."""
    grad: Tensor | None = None
    """The gradient that comes back into the output."""
    known: dict[Any, Any] = field(default_factory=dict, kw_only=True)
    """Exact answers, computed once."""

    def exact(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


Forward = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """Somebody who solves a problem, or an anchor that says what the machine can do."""

    name: str
    build: Callable[[Any], Forward]
    """Make everything that may be made once (a cached Laplacian, say); return what is timed."""
    kind: Kind = "rival"
    implementation: str = ""
    """The column that one of ours stands for; of a rival, the only one it is compared with."""
    needs: tuple[str, ...] = ()
    """Modules it cannot run without."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    leave_out: Callable[[Case], str | None] = lambda case: None
    """Why it is not asked to solve a case, if it is not."""
    plain: bool = False
    """Timed as it is, without gradients: anchors."""
    compiles: bool = False
    """Its first call takes many seconds."""
    work: float = 0.0
    """Of an anchor: the flops or bytes of one call."""

    def absent(self) -> str | None:
        """Name the first module that is not installed."""
        for name in self.needs:
            if importlib.util.find_spec(name) is None:
                return name
        return None


class Verdict(NamedTuple):
    """How an answer compares with the reference in float64."""

    right: bool
    error: float
    note: str


class Group(Protocol):
    """A kind of problem, in many sizes."""

    name: str
    title: str

    def cases(self, tier: Tier, device: str) -> list[Case]: ...

    def problem(self, case: Case, device: str, seed: int) -> Any: ...

    def contenders(self, case: Case, device: str) -> Sequence[Contender]: ...

    def check(self, problem: Any, contender: Contender, answer: Any) -> Verdict: ...

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        """Seconds that the machine's anchors allow at best."""
        ...


def too_large(most: int, why: str) -> Callable[[Case], str | None]:
    """Leave a contender out where vertices times channels are more than it can do in time."""
    return lambda case: why if case.nodes * case.channels > most else None


def dense_fits(case: Case) -> str | None:
    """Several N x N matrices have to fit, with gradients."""
    return "N x N matrices of gigabytes" if case.nodes > 4096 else None


def answer(forward: Forward, problem: Problem) -> tuple[Any, list[Tensor]]:
    """The output and, where gradients are asked for, those of the leaves."""
    if not problem.case.backward:
        with torch.no_grad():
            return forward(), []
    out = forward()
    grads = torch.autograd.grad(out, problem.leaves, _like(problem.grad, out))
    return out.detach(), list(grads)


def timed(forward: Forward, problem: Problem, plain: bool) -> Forward:
    """What the clock runs: the forward pass, or that and the gradients of all leaves."""

    def alone() -> Any:
        with torch.no_grad():
            return forward()

    def with_gradients() -> Any:
        out = forward()
        return torch.autograd.grad(out, problem.leaves, _like(problem.grad, out))

    return alone if plain or not problem.case.backward else with_gradients


def _like(grad: Tensor | None, out: Tensor) -> Tensor:
    assert grad is not None
    return grad.view(out.shape)
