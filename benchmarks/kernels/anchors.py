"""What the machine can do, measured in the same rounds as the contenders."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .case import Contender, Forward, Problem

GEMM, DRAM, CACHE = "GEMM", "copy in DRAM", "copy in cache"
_DRAM_BYTES = 256 << 20
_CACHE_BYTES = 4 << 20  # beyond an L2 cache, within an L3 cache


def copies() -> list[Contender]:
    """Copies in DRAM and in the cache, in bytes read plus written."""
    return [_copy(DRAM, _DRAM_BYTES), _copy(CACHE, _CACHE_BYTES)]


def gemm(shape: tuple[int, int, int]) -> Contender:
    """``[m, k] x [k, n]`` in float32."""
    m, n, k = shape

    def build(problem: Problem) -> Forward:
        device = problem.x.device
        a, b = torch.ones(m, k, device=device), torch.ones(n, k, device=device)
        out = torch.empty(m, n, device=device)
        return lambda: torch.mm(a, b.T, out=out)

    return Contender(GEMM, build, "anchor", plain=True, work=gemm_work(shape))


def gemm_work(shape: Sequence[int]) -> float:
    return 2.0 * shape[0] * shape[1] * shape[2]


def _copy(name: str, size: int) -> Contender:
    def build(problem: Problem) -> Forward:
        source = torch.ones(size // 4, device=problem.x.device)
        target = torch.zeros_like(source)
        return lambda: target.copy_(source)

    return Contender(name, build, "anchor", plain=True, work=2.0 * size)
