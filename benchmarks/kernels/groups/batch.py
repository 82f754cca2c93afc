"""One call for eight samples beside eight calls for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import anchors
from ..case import Case, Contender, Forward, Group, Problem, Tier, Verdict
from .conv import Convolution, OnGraph
from .cross import CrossCorrelationLayer, Learned
from .knn import Search, gemm_shape
from .layer import DynamicLayer

SINGLES = "ours, {}: 8 single calls"


class Batch:
    name = "batch"
    title = "Batch of 8 in one call, beside 8 single calls"

    def __init__(self) -> None:
        groups: list[Group] = [
            Search(),
            Convolution(),
            DynamicLayer(),
            CrossCorrelationLayer("abs"),
            CrossCorrelationLayer("factors"),
        ]
        self.groups = {group.name: group for group in groups}

    def cases(self, tier: Tier, device: str) -> list[Case]:
        small = Case(self.name, 256, 64, 8, backward=True, variant="layer")
        if tier == "smoke":
            return [small]
        return [small] + [
            Case(self.name, 1024, 256, 8, backward=name != "knn", variant=name)
            for name in self.groups
        ]

    def problem(self, case: Case, device: str, seed: int) -> Any:
        return self.group(case).problem(self.inner(case), device, seed)

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        inner = self.inner(case)
        out = []
        for one in self.group(case).contenders(inner, device):
            if one.kind == "ours":
                name = SINGLES.format(one.implementation)
                singles = self._singles(case, one.build)
                out += [one, Contender(name, singles, implementation=one.implementation)]
        return [*out, anchors.gemm(gemm_shape(case)), *anchors.copies()]

    def check(self, problem: Any, contender: Contender, answer: Any) -> Verdict:
        return self.group(problem.case).check(problem, contender, answer)

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        return self.group(case).bound(self.inner(case), rates)

    def group(self, case: Case) -> Group:
        return self.groups[case.variant or case.group]

    def inner(self, case: Case) -> Case:
        return replace(case, group=case.variant, variant="")

    def _singles(self, case: Case, build: Callable[[Any], Forward]) -> Callable[[Any], Forward]:
        def build_all(problem: Any) -> Forward:
            # One unbind: the gradient of eight slices would be eight times a whole batch of zeros.
            samples = problem.x.unbind(0)
            calls = [build(_sample(problem, n, x)) for n, x in enumerate(samples)]
            return lambda: torch.stack([call() for call in calls])

        return build_all


def _sample(problem: Problem, number: int, x: Tensor) -> Any:
    """One sample; gradients to its features x reach the whole batch."""
    case = replace(problem.case, batch=1)
    if isinstance(problem, OnGraph):
        table = None
        if problem.table is not None:
            table = type(problem.table)(problem.table.index[number], case.nodes)
        return OnGraph(case, x, [], None, problem.weight, None, table)
    if isinstance(problem, Learned):
        return Learned(case, x, [], None, problem.build, problem.weight)
    return Problem(case, x)
