"""The search for nearest neighbours: ``KNN(25)(x)``, cosine, exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import anchors
from ..case import Case, Contender, Forward, K, Problem, Tier, Verdict, too_large
from ..inputs import check_neighbors, features, per_sample
from ..ours import implementations, knn

_TILE = 1024


class Search:
    name = "knn"
    title = "Nearest neighbours: `KNN(25)`, cosine, exact"

    def cases(self, tier: Tier, device: str) -> list[Case]:
        if tier == "smoke":
            return [
                Case(self.name, 256, 64, field="smooth"),
                Case(self.name, 1024, 64),
            ]
        cases = [Case(self.name, n, c) for n in (256, 1024, 4096) for c in (64, 256, 512)]
        smooth = [(256, 64), (1024, 256), (4096, 256)]
        cases += [Case(self.name, n, c, field="smooth") for n, c in smooth]
        cases += [Case(self.name, n, 256, batch=8) for n in (256, 1024)]
        cases += [Case(self.name, 16384, c, field="smooth") for c in (64, 256)]
        # A round of these takes half a minute; the call that is checked is one more.
        cases.append(Case(self.name, 16384, 512, field="smooth", rounds=1, least=1))
        cases.append(Case(self.name, 65536, 64, field="smooth", rounds=1, least=1))
        if device.startswith("cuda"):
            cases += [Case(self.name, 65536, c, field="smooth") for c in (256, 512)]
        return cases

    def problem(self, case: Case, device: str, seed: int) -> Problem:
        return Problem(case, features(case, device, seed))

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        ours = [
            Contender(f"ours, {name}", _ours(name), "ours", implementation=name)
            for name, why in implementations(device)
            if why is None
        ]
        return [*ours, *_rivals(), anchors.gemm(gemm_shape(case)), *anchors.copies()]

    def check(self, problem: Problem, contender: Contender, answer: Any) -> Verdict:
        index, _ = answer
        samples = zip(per_sample(problem.x), per_sample(index), strict=True)
        verdicts = [check_neighbors(x, near, K) for x, near in samples]
        return max(verdicts, key=lambda verdict: (not verdict.right, verdict.error))

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        return search_flops(case) / rates[anchors.GEMM]


def gemm_shape(case: Case) -> tuple[int, int, int]:
    """X X^T, or as many rows of it as make the same rate."""
    return min(case.nodes, 4 * _TILE), case.nodes, case.channels


def search_flops(case: Case) -> float:
    return 2.0 * case.batch * case.nodes**2 * case.channels


def _ours(implementation: str):  # type: ignore[no-untyped-def]
    def build(problem: Problem) -> Forward:
        construction = knn(K, implementation)
        return lambda: construction(problem.x).index

    return build


def _rivals() -> list[Contender]:
    return [
        Contender("GEMM + topk", _full_topk, leave_out=_full_fits),
        Contender("GEMM + topk, tiled", _tiled_topk, leave_out=_one_tile),
        Contender("faiss-cpu IndexFlatIP", _faiss, needs=("faiss",), devices=("cpu",)),
        Contender(
            "scikit-learn brute",
            _scikit_learn,
            needs=("sklearn",),
            devices=("cpu",),
            leave_out=too_large(16384 * 64, "many seconds per call"),
        ),
        Contender(
            "torch-cluster knn",
            _torch_cluster,
            needs=("torch_cluster",),
            leave_out=too_large(4096 * 64, "many seconds per call"),
        ),
    ]


def _full_fits(case: Case) -> str | None:
    return "an N x N matrix of 16 GiB" if case.nodes > 16384 else None


def _one_tile(case: Case) -> str | None:
    return "the whole matrix is one tile" if case.nodes <= _TILE else None


def _full_topk(problem: Problem) -> Forward:
    def forward() -> Tensor:
        unit = F.normalize(problem.x, dim=-1)
        return (unit @ unit.mT).topk(K).indices

    return forward


def _tiled_topk(problem: Problem) -> Forward:
    def forward() -> Tensor:
        unit = F.normalize(problem.x, dim=-1)
        turned = unit.mT
        tiles = unit.split(_TILE, dim=-2)
        return torch.cat([(tile @ turned).topk(K).indices for tile in tiles], -2)

    return forward


def _faiss(problem: Problem) -> Forward:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())

    def forward() -> Tensor:
        rows = []
        for sample in per_sample(problem.x):
            unit = F.normalize(sample, dim=-1).numpy()
            index = faiss.IndexFlatIP(unit.shape[1])
            index.add(unit)
            rows.append(index.search(unit, K)[1])
        return torch.from_numpy(np.stack(rows)).view(*problem.x.shape[:-1], K)

    return forward


def _scikit_learn(problem: Problem) -> Forward:
    from sklearn.neighbors import NearestNeighbors

    def forward() -> Tensor:
        rows = []
        for sample in per_sample(problem.x):
            search = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine", n_jobs=1)
            points = sample.numpy()
            rows.append(search.fit(points).kneighbors(points, return_distance=False))
        return torch.from_numpy(np.stack(rows)).view(*problem.x.shape[:-1], K)

    return forward


def torch_cluster_table(x: Tensor) -> Tensor:
    """[B * N, K] members, numbered through the samples.

    On a CPU it has no cosine distance; among unit vectors the Euclidean one has the same order.
    """
    from torch_cluster import knn as search

    unit = F.normalize(x.detach(), dim=-1).reshape(-1, x.shape[-1])
    samples = x.shape[0] if x.dim() == 3 else 1
    batch = torch.arange(samples, device=x.device).repeat_interleave(x.shape[-2])
    table: Tensor = search(unit, unit, K, batch, batch)[1]
    return table.view(-1, K)


def _torch_cluster(problem: Problem) -> Forward:
    x = problem.x

    def forward() -> Tensor:
        table = torch_cluster_table(x).view(*x.shape[:-1], K)
        return table if x.dim() == 2 else table % x.shape[-2]

    return forward
