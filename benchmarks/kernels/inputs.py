"""Features to measure with, and exact answers in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .case import Case, Verdict

_RIGHT_ROWS = 0.9
_ROW_ERROR = 1e-3
_WHOLE_ERROR = 1e-2


def features(case: Case, device: str, seed: int) -> Tensor:
    """[N, C] or [B, N, C]: independent normal numbers, or a smooth field with 35 % noise.

    The field is shaped like a network's feature map: a coarse grid, interpolated bilinearly to the
    square of pixels that the vertices are.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (case.batch, case.nodes, case.channels)
    noise = torch.randn(shape, generator=generator)
    if case.field == "random":
        x = noise
    else:
        side = int(case.nodes**0.5 + 0.999)
        coarse = torch.randn(case.batch, case.channels, 8, 8, generator=generator)
        fine = F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)
        x = fine.flatten(2).mT[:, : case.nodes] + 0.35 * noise
    return (x if case.batch > 1 else x[0]).contiguous().to(device)


def per_sample(x: Tensor) -> list[Tensor]:
    """The samples of [N, C] or [B, N, C]."""
    return [x] if x.dim() == 2 else list(x)


def exact_neighbors(x: Tensor, k: int) -> Tensor:
    """[N, k] nearest by cosine in float64, itself first, ties to the lower index."""
    unit = F.normalize(x.detach().double(), dim=-1)
    rows = []
    for start in range(0, len(unit), 512):
        tile = unit[start : start + 512] @ unit.T
        tile.diagonal(start).fill_(2)
        value, index = tile.topk(min(k, len(unit)))
        rows.append(index)
    return torch.cat(rows)


def check_neighbors(x: Tensor, index: Tensor, k: int) -> Verdict:
    """Compare neighbours with float64: their distances must be the k smallest, up to rounding.

    Rows are checked all up to 4,096 vertices, and 1,024 of them, evenly spread, beyond.
    """
    n = len(x)
    if index.shape != (n, min(k, n)):
        return Verdict(False, float("inf"), f"shape {list(index.shape)}")
    rows = torch.arange(n, device=x.device)
    if n > 4096:
        rows = torch.linspace(0, n - 1, 1024, device=x.device).long()
    unit = F.normalize(x.detach().double(), dim=-1)
    error, found = 0.0, index.to(x.device).long()[rows]
    if bool((found.sort(-1).values.diff(dim=-1) == 0).any()):
        return Verdict(False, float("inf"), "a neighbour twice in one row")
    for start in range(0, len(rows), 512):
        some = slice(start, start + 512)
        tile = unit[rows[some]] @ unit.T
        best = tile.topk(found.shape[1]).values
        got = tile.gather(1, found[some]).sort(-1, descending=True).values
        error = max(error, float((best - got).abs().max()))
    # Two roundings of a float32 inner product of unit vectors.
    limit = 4 * torch.finfo(torch.float32).eps * x.shape[-1] ** 0.5
    note = "" if error <= limit else "these are not the nearest"
    return Verdict(error <= limit, error, note)


def check_values(
    got: list[Tensor],
    wanted: list[Tensor],
    names: list[str],
    searched: bool,
) -> Verdict:
    """Compare outputs and gradients with float64.

    Where neighbours are searched, two candidates may be as near as float32 can tell, and the other
    choice changes some dozen rows a little: then nine rows in ten must agree, and all of it to a
    hundredth. Without a search all rows must agree.
    """
    worst = 0.0
    for name, a, b in zip(names[: len(got)], got, wanted, strict=True):  # forward: no gradients
        a, b = a.double().reshape(b.shape), b.double()
        if not bool(a.isfinite().all()):
            return Verdict(False, float("inf"), f"{name} is not finite")
        whole = float((a - b).norm() / b.norm().clamp_min(1e-300))
        worst = max(worst, whole)
        sizes = b.flatten(0, -2).norm(dim=-1)
        error = (a - b).flatten(0, -2).norm(dim=-1) / sizes.clamp_min(float(sizes.mean()))
        agreeing = float((error <= _ROW_ERROR).double().mean())
        wanted_share = _RIGHT_ROWS if searched else 1.0
        # Of a gradient of weights every row depends on all vertices.
        if searched and name not in ("output", "gradient of x"):
            wanted_share = 0.0
        if whole > (_WHOLE_ERROR if searched else _ROW_ERROR) or agreeing < wanted_share:
            return Verdict(
                False, whole, f"{name} differs: {whole:.1e}, {agreeing:.0%} of the rows agree"
            )
    return Verdict(True, worst, "")
