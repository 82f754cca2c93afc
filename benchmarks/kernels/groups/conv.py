"""HGNN's convolution on a KNN graph that is given: whatever depends on it alone may be cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import anchors
from ..case import (
    Case,
    Contender,
    Forward,
    K,
    Problem,
    Tier,
    Verdict,
    dense_fits,
    too_large,
)
from ..inputs import check_values, features
from ..ours import forced, hgnn_conv, implementations, knn, new_weight

NAMES = ["output", "gradient of x", "gradient of the weight"]
DHG, PYG, CSR = "DHG HGNNConv, Laplacian cached", "PyG HypergraphConv", "torch.sparse CSR"


@dataclass
class OnGraph(Problem):
    """Features [N, C], a weight [C, C] and a neighbour table [N, K]; a batch is put side by side.

    Rivals get a batch as one block-diagonal graph: nobody has to loop.
    """

    weight: nn.Parameter | None = None
    index: Tensor | None = None  # [B * N, K], numbered through the samples
    table: Any = None

    @property
    def flat(self) -> Tensor:
        """[B * N, C]"""
        return self.x.reshape(-1, self.x.shape[-1])

    @property
    def theta(self) -> nn.Parameter:
        assert self.weight is not None
        return self.weight

    @property
    def members(self) -> Tensor:
        assert self.index is not None
        return self.index


class Convolution:
    name = "conv"
    title = "`HGNNConv` on a given KNN graph, k = 25"

    def cases(self, tier: Tier, device: str) -> list[Case]:
        if tier == "smoke":
            return [
                Case(self.name, 256, 64, backward=True),
                Case(self.name, 1024, 64, backward=True),
            ]
        cases = []
        for nodes in (256, 1024, 4096, 16384):
            for channels in (64, 256, 512):
                cases.append(Case(self.name, nodes, channels, backward=True))
        cases += [Case(self.name, n, 256) for n in (1024, 4096)]
        cases.append(Case(self.name, 16384, 128, backward=True))
        cases.append(Case(self.name, 4096, 256, field="smooth", backward=True))
        cases += [Case(self.name, n, 256, batch=8, backward=True) for n in (256, 1024)]
        return cases

    def problem(self, case: Case, device: str, seed: int) -> OnGraph:
        x = features(case, device, seed)
        table = knn(K, "cpu")(x)
        index = table.index
        if index.dim() == 3:
            first = torch.arange(case.batch, device=x.device) * case.nodes
            index = (index + first[:, None, None]).flatten(0, 1)
        weight = new_weight(case.channels, case.channels, device, seed + 1)
        x = x.requires_grad_()
        grad = features(case, device, seed + 2)
        return OnGraph(case, x, [x, weight], grad, weight, index, table)

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        ours = [
            Contender(f"ours, {name}", _ours(name), "ours", implementation=name)
            for name, why in implementations(device)
            if why is None
        ]
        return [*ours, *_rivals(case), anchors.gemm(gemm_shape(case)), *anchors.copies()]

    def check(self, problem: OnGraph, contender: Contender, answer: Any) -> Verdict:
        by_rows = contender.name == PYG
        wanted = problem.exact(by_rows, lambda: reference(problem, by_rows))
        out, grads = answer
        return check_values([out, *grads], wanted, NAMES, searched=False)

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        return conv_bound(case, rates)


def gemm_shape(case: Case) -> tuple[int, int, int]:
    """X Theta."""
    return case.batch * case.nodes, case.channels, case.channels


def conv_bound(case: Case, rates: dict[str, float]) -> float:
    """Products with Theta, and every member's row read from the cache, to hyperedges and back."""
    products, passes = (3, 2) if case.backward else (1, 1)
    gathered = 4.0 * 2 * case.batch * case.nodes * K * case.channels
    product = anchors.gemm_work(gemm_shape(case)) / rates[anchors.GEMM]
    return products * product + passes * gathered / rates[anchors.CACHE]


def reference(problem: OnGraph, by_rows: bool) -> list[Tensor]:
    """Output and gradients in float64, slot by slot.

    ``by_rows`` is PyG's formula, ``D_v^-1 H D_e^-1 H^T X Theta``: as many operations, another
    normalisation.
    """
    x = problem.x.detach().double().requires_grad_()
    weight = problem.theta.detach().double().requires_grad_()
    out = reference_conv(x, weight, problem.members, by_rows)
    if not problem.case.backward:
        return [out.detach()]
    assert problem.grad is not None
    grads = torch.autograd.grad(out, [x, weight], problem.grad.double().view(out.shape))
    return [out.detach(), *grads]


def reference_conv(x: Tensor, weight: Tensor, index: Tensor, by_rows: bool = False) -> Tensor:
    """[B * N, C] in the precision of x."""
    z = F.linear(x.reshape(-1, x.shape[-1]), weight)
    degree = torch.bincount(index.flatten(), minlength=len(z)).to(z.dtype).unsqueeze(-1)
    power = -1.0 if by_rows else -0.5
    scale = torch.where(degree > 0, degree.clamp_min(1).pow(power), 0)
    if not by_rows:
        z = z * scale
    edges = torch.zeros_like(z)
    for slot in index.T:
        edges = edges + z.index_select(0, slot)
    edges = edges / index.shape[1]
    out = torch.zeros_like(z)
    for slot in index.T:
        out = out.index_add(0, slot, edges)
    return out * scale


def _ours(implementation: str) -> Callable[[OnGraph], Forward]:
    def build(problem: OnGraph) -> Forward:
        layer = hgnn_conv(problem.theta)
        table = forced(problem.table, implementation)
        return lambda: layer(problem.x, table)

    return build


def _rivals(case: Case) -> list[Contender]:
    return [
        Contender(DHG, _dhg, needs=("dhg",)),
        Contender(PYG, _pyg, needs=("torch_geometric",), leave_out=_messages_fit),
        Contender(
            "torch-scatter segment_csr",
            _segment_csr,
            needs=("torch_scatter",),
            leave_out=_messages_fit,
        ),
        Contender("torch.sparse COO", _coo),
        Contender(CSR, _csr),
        Contender("gather + index_add", _index_add, leave_out=_messages_fit),
        Contender(
            "torch.compile of gather + index_add",
            _compiled,
            leave_out=_not_compiled,
            compiles=True,
        ),
        Contender("dense PyTorch", _dense, leave_out=dense_fits),
    ]


_messages_fit = too_large(16384 * 256, "messages [N, K, C] of gigabytes")


def _not_compiled(case: Case) -> str | None:
    """Compiling takes many seconds: at the sizes of the bars only."""
    if case.backward and case.field == "random" and case.batch == 1 and case.nodes >= 1024:
        if (case.nodes, case.channels) in ((1024, 256), (4096, 256), (16384, 128)):
            return None
    return "compiled at 1024x256, 4096x256 and 16384x128 only"


def hyperedge_index(index: Tensor) -> Tensor:
    """[2, nnz] vertices and hyperedges of a table."""
    hyperedge = torch.arange(len(index), device=index.device).repeat_interleave(index.shape[1])
    return torch.stack([index.flatten(), hyperedge])


def _degree_scale(index: Tensor) -> Tensor:
    """[N, 1] D_v^-1/2; every vertex is in its own hyperedge."""
    return torch.bincount(index.flatten(), minlength=len(index)).unsqueeze(-1).float().rsqrt()


def _dhg(problem: OnGraph) -> Forward:
    layer, graph = dhg_layer(problem.theta), dhg_graph(problem.members)
    graph.L_HGNN  # noqa: B018  computed here, kept in the graph
    return lambda: layer(problem.flat, graph)


def dhg_layer(weight: nn.Parameter) -> Any:
    from dhg.nn import HGNNConv

    layer: Any = HGNNConv(weight.shape[1], weight.shape[0], bias=False, is_last=True)
    layer.theta.weight = weight
    return layer


def dhg_graph(index: Tensor) -> Any:
    import dhg

    return dhg.Hypergraph(len(index), index.tolist(), device=index.device)


def _pyg(problem: OnGraph) -> Forward:
    layer, pairs = pyg_layer(problem.theta), hyperedge_index(problem.members)
    return lambda: layer(problem.flat, pairs, num_edges=len(problem.members))


def pyg_layer(weight: nn.Parameter) -> Any:
    from torch_geometric.nn import HypergraphConv

    layer: Any = HypergraphConv(weight.shape[1], weight.shape[0], bias=False)
    layer.lin.weight = weight
    return layer.to(weight.device)


def _segment_csr(problem: OnGraph) -> Forward:
    from torch_scatter import segment_csr

    index, scale = problem.members, _degree_scale(problem.members)
    order = index.flatten().argsort(stable=True)
    hyperedge = order // K
    counts = torch.bincount(index.flatten(), minlength=len(index))
    to_nodes = F.pad(counts.cumsum(0), (1, 0))
    to_edges = torch.arange(len(index) + 1, device=index.device) * K

    def forward() -> Tensor:
        z = F.linear(problem.flat, problem.theta) * scale
        edges = segment_csr(z[index.flatten()], to_edges, reduce="mean")
        out: Tensor = segment_csr(edges[hyperedge], to_nodes, reduce="sum")
        return out * scale

    return forward


def _incidence(index: Tensor) -> Tensor:
    pairs = hyperedge_index(index)
    ones = torch.ones(pairs.shape[1], device=index.device)
    return torch.sparse_coo_tensor(pairs, ones, (len(index), len(index))).coalesce()


def _coo(problem: OnGraph) -> Forward:
    incidence = _incidence(problem.members)
    return sparse_forward(problem, incidence, incidence.T.coalesce())


def _csr(problem: OnGraph) -> Forward:
    incidence = _incidence(problem.members)
    return sparse_forward(
        problem, incidence.to_sparse_csr(), incidence.T.coalesce().to_sparse_csr()
    )


def sparse_forward(problem: OnGraph, incidence: Tensor, transposed: Tensor) -> Forward:
    scale = _degree_scale(problem.members)

    def forward() -> Tensor:
        z = F.linear(problem.flat, problem.theta) * scale
        return incidence @ ((transposed @ z) / K) * scale

    return forward


def _index_add(problem: OnGraph) -> Forward:
    index, scale = problem.members, _degree_scale(problem.members)
    return lambda: _gather_add(problem.flat, problem.theta, index, scale)


def _compiled(problem: OnGraph) -> Forward:
    index, scale = problem.members, _degree_scale(problem.members)
    function = torch.compile(_gather_add, dynamic=False)
    return lambda: function(problem.flat, problem.theta, index, scale)


def _gather_add(x: Tensor, weight: Tensor, index: Tensor, scale: Tensor) -> Tensor:
    z = F.linear(x, weight) * scale
    edges = z[index].mean(1)
    pairs = edges.unsqueeze(1).expand(-1, index.shape[1], -1).flatten(0, 1)
    return torch.zeros_like(z).index_add(0, index.flatten(), pairs) * scale


def _dense(problem: OnGraph) -> Forward:
    case = problem.case
    scale = _degree_scale(problem.members)
    index = problem.members % case.nodes
    incidence = torch.zeros(case.batch * case.nodes, case.nodes, device=index.device)
    # Row e of this matrix holds the members of hyperedge e: it is H transposed.
    transposed = incidence.scatter_(1, index, 1.0).view(case.batch, case.nodes, case.nodes)
    incidence = transposed.mT.contiguous()
    scale = scale.view(case.batch, case.nodes, 1)

    def forward() -> Tensor:
        x = problem.x.view(case.batch, case.nodes, -1)
        z = F.linear(x, problem.theta) * scale
        return incidence @ ((transposed @ z) / K) * scale

    return forward
