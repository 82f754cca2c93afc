"""The whole dynamic layer: search, hypergraph, convolution, at every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph import DynamicHGConv

from .. import anchors
from ..case import Case, Contender, Forward, K, Tier, Verdict, dense_fits, too_large
from ..inputs import check_values, exact_neighbors, features, per_sample
from ..ours import Forced, implementations, knn, new_weight
from .conv import (
    NAMES,
    OnGraph,
    conv_bound,
    dhg_layer,
    hyperedge_index,
    pyg_layer,
    reference,
)
from .knn import gemm_shape, search_flops, torch_cluster_table

DHG, CLUSTER = "DHG, from_feature_kNN + HGNNConv", "torch-cluster knn + PyG HypergraphConv"


_slow = too_large(4096 * 256, "many seconds per call")


class DynamicLayer:
    name = "layer"
    title = "The whole dynamic layer: `DynamicHGConv(C, C, k=25)`"

    def cases(self, tier: Tier, device: str) -> list[Case]:
        if tier == "smoke":
            return [
                Case(self.name, 256, 64, backward=True),
                Case(self.name, 1024, 64, backward=True),
            ]
        cases = []
        for nodes in (256, 1024, 4096):
            for channels in (64, 256, 512):
                cases.append(Case(self.name, nodes, channels, backward=True))
        cases.append(Case(self.name, 1024, 256))
        cases.append(Case(self.name, 1024, 256, field="smooth", backward=True))
        cases += [Case(self.name, n, 256, batch=8, backward=True) for n in (256, 1024)]
        cases.append(Case(self.name, 16384, 64, backward=True))
        return cases

    def problem(self, case: Case, device: str, seed: int) -> OnGraph:
        x = features(case, device, seed).requires_grad_()
        weight = new_weight(case.channels, case.channels, device, seed + 1)
        return OnGraph(case, x, [x, weight], features(case, device, seed + 2), weight)

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        ours = [
            Contender(f"ours, {name}", layer_of(name), "ours", implementation=name)
            for name, why in implementations(device)
            if why is None
        ]
        rivals = [
            Contender(DHG, _dhg, needs=("dhg",), leave_out=_slow),
            Contender(
                CLUSTER,
                _cluster,
                needs=("torch_cluster", "torch_geometric"),
                leave_out=_slow,
            ),
            Contender("faiss-cpu + torch.sparse CSR", _faiss, needs=("faiss",), devices=("cpu",)),
            Contender("dense PyTorch (GEMM + topk + dense H)", _dense, leave_out=dense_fits),
        ]
        return [*ours, *rivals, anchors.gemm(gemm_shape(case)), *anchors.copies()]

    def check(self, problem: OnGraph, contender: Contender, answer: Any) -> Verdict:
        if problem.index is None:
            problem.index = exact_table(problem.x)
        by_rows = contender.name == CLUSTER
        wanted = problem.exact(by_rows, lambda: reference(problem, by_rows))
        out, grads = answer
        return check_values([out, *grads], wanted, NAMES, searched=True)

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        return search_flops(case) / rates[anchors.GEMM] + conv_bound(case, rates)


def exact_table(x: Tensor) -> Tensor:
    """[B * N, K] neighbours in float64, numbered through the samples."""
    n = x.shape[-2]
    tables = [exact_neighbors(sample, K) for sample in per_sample(x)]
    return torch.cat([table + number * n for number, table in enumerate(tables)])


def layer_of(implementation: str) -> Callable[[OnGraph], Forward]:
    """Our layer, running one implementation."""

    def build(problem: OnGraph) -> Forward:
        channels = problem.case.channels
        construction = Forced(knn(K, implementation), implementation)
        layer = DynamicHGConv(channels, channels, bias=False, construction=construction)  # type: ignore[arg-type]
        layer.conv.theta.weight = problem.theta  # type: ignore[union-attr]
        return lambda: layer(problem.x)

    return build


def _dhg(problem: OnGraph) -> Forward:
    """One hypergraph for every sample: there is nothing like a batch."""
    import dhg

    layer = dhg_layer(problem.theta)

    def forward() -> Tensor:
        outs = []
        for x in per_sample(problem.x):
            # Its search is Euclidean; among unit vectors that has the order of the cosine.
            unit = F.normalize(x.detach(), dim=-1)
            graph = dhg.Hypergraph.from_feature_kNN(unit, K, device=x.device)
            outs.append(layer(x, graph))
        return torch.stack(outs)

    return forward


def _cluster(problem: OnGraph) -> Forward:
    layer = pyg_layer(problem.theta)

    def forward() -> Tensor:
        index = torch_cluster_table(problem.x)
        out: Tensor = layer(problem.flat, hyperedge_index(index), num_edges=len(index))
        return out

    return forward


def _faiss(problem: OnGraph) -> Forward:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())

    def forward() -> Tensor:
        outs = []
        for x in per_sample(problem.x):
            unit = F.normalize(x.detach(), dim=-1).numpy()
            search = faiss.IndexFlatIP(unit.shape[1])
            search.add(unit)
            outs.append(_csr_conv(x, problem.theta, search.search(unit, K)[1]))
        return torch.stack(outs)

    return forward


def _csr_conv(x: Tensor, weight: Tensor, found: np.ndarray) -> Tensor:
    index = torch.from_numpy(found)
    n = len(index)
    offsets = torch.arange(n + 1) * K
    # Row e holds the members of hyperedge e, in any order.
    transposed = torch.sparse_csr_tensor(
        offsets, index.flatten(), torch.ones(n * K), (n, n), check_invariants=False
    )
    order = index.flatten().argsort(stable=True)
    counts = torch.bincount(index.flatten(), minlength=n)
    incidence = torch.sparse_csr_tensor(
        F.pad(counts.cumsum(0), (1, 0)),
        order // K,
        torch.ones(n * K),
        (n, n),
        check_invariants=False,
    )
    scale = counts.unsqueeze(-1).float().rsqrt()
    z = F.linear(x, weight) * scale
    return incidence @ ((transposed @ z) / K) * scale


def _dense(problem: OnGraph) -> Forward:
    def forward() -> Tensor:
        unit = F.normalize(problem.x.detach(), dim=-1)
        index = (unit @ unit.mT).topk(K).indices
        transposed = torch.zeros(*index.shape[:-1], index.shape[-2], device=index.device)
        transposed.scatter_(-1, index, 1.0)
        scale = transposed.sum(-2).rsqrt().unsqueeze(-1)
        z = F.linear(problem.x, problem.theta) * scale
        return transposed.mT @ ((transposed @ z) / K) * scale

    return forward
