"""The definitions: what every faster version must agree with, in O(N M) memory."""

import torch
from torch import Tensor


def apply(function: str, scores: Tensor) -> Tensor:
    """``f`` on every entry."""
    return scores.abs() if function == "abs" else scores.exp()


def matmul(p: Tensor, q: Tensor, x: Tensor, function: str) -> Tensor:
    """``f(P Q^T) X``."""
    with torch.autocast(p.device.type, enabled=False):
        return apply(function, p @ q.mT) @ x


def logsumexp(p: Tensor, q: Tensor) -> Tensor:
    """Row-wise ``log sum exp(P Q^T)``."""
    with torch.autocast(p.device.type, enabled=False):
        return (p @ q.mT).logsumexp(-1)


def degrees(p: Tensor, q: Tensor, function: str) -> tuple[Tensor, Tensor]:
    """Row sums and column sums of ``f(P Q^T)``."""
    with torch.autocast(p.device.type, enabled=False):
        matrix = apply(function, p @ q.mT)
    return matrix.sum(-1), matrix.sum(-2)


def propagate(
    p: Tensor, q: Tensor, u: Tensor, scale: Tensor, extra: Tensor | None, function: str
) -> tuple[Tensor, Tensor]:
    """``E = extra + f(P Q^T)^T U`` and ``f(P Q^T) (scale E)``."""
    with torch.autocast(p.device.type, enabled=False):
        matrix = apply(function, p @ q.mT)
        edges = matrix.mT @ u
        if extra is not None:
            edges = edges + extra
        return matrix @ (scale.unsqueeze(-1) * edges), edges
