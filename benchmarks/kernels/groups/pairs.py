"""The two operations on lists of pairs, over hyperedges of every size: sparse products, softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hypergraph_kernels import Segments, incidence_softmax, incidence_spmm, segments_from

from .. import anchors
from ..case import Case, Contender, Forward, K, Problem, Tier, Verdict, too_large
from ..inputs import check_values, features
from ..ours import implementations

_HUBS = 10.0  # hyperedge r is drawn in proportion to 1 / (r + _HUBS)


@dataclass(kw_only=True)
class OnPairs(Problem):
    """As many hyperedges as vertices, and a list of pairs in the order of (hyperedge, vertex).

    Sizes fall off like 1 / rank: K members on average, about a third of all vertices in the largest
    hyperedges, none in some.
    """

    edge: Tensor
    node: Tensor
    values: Tensor  # of every pair: [nnz], or [nnz, heads]
    by_edge: Segments
    by_node: Segments


def on_pairs(case: Case, device: str, seed: int, heads: int | None) -> OnPairs:
    x = features(case, device, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    n, wanted = case.nodes, K * case.nodes
    draws = wanted * 5 // 4  # some come twice
    edge = torch.multinomial(1 / (torch.arange(n) + _HUBS), draws, True, generator=generator)
    node = torch.randint(n, (draws,), generator=generator)
    pairs = (edge * n + node).unique()
    kept = torch.randperm(len(pairs), generator=generator)[:wanted].sort().values
    edge, node = (pairs[kept] // n).to(device), (pairs[kept] % n).to(device)
    shape = (len(edge),) if heads is None else (len(edge), heads)
    values = torch.randn(shape, generator=generator).to(device).requires_grad_()
    if heads is None:
        grad, leaves = features(case, device, seed + 2), [x.requires_grad_(), values]
    else:
        grad, leaves = torch.randn(shape, generator=generator).to(device), [values]
    return OnPairs(
        case,
        x,
        leaves,
        grad,
        edge=edge,
        node=node,
        values=values,
        by_edge=segments_from(edge, node, n),
        by_node=segments_from(node, edge, n),
    )


class SparseProduct:
    name = "spmm"
    title = "`incidence_spmm`: weighted sums over ragged hyperedges, gradients to both factors"

    def cases(self, tier: Tier, device: str) -> list[Case]:
        sizes = [(1024, 64), (4096, 64), (4096, 256), (16384, 64), (16384, 256)]
        cases = [Case(self.name, n, c, backward=True) for n, c in sizes]
        forward = [Case(self.name, n, c) for n, c in ((4096, 64), (4096, 256), (16384, 64))]
        return cases[:1] if tier == "smoke" else [*cases, *forward]

    def problem(self, case: Case, device: str, seed: int) -> OnPairs:
        return on_pairs(case, device, seed, None)

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        rivals = [
            Contender("torch.sparse CSR", _csr),
            Contender("torch.sparse COO", _coo, leave_out=_no_dense_gradient),
            Contender("gather + index_add", _gather_add, leave_out=_messages_fit),
            Contender(
                "torch-scatter segment_csr",
                _segment_csr,
                needs=("torch_scatter",),
                leave_out=_messages_fit,
            ),
        ]
        return [*_ours(device, _product), *rivals, *anchors.copies()]

    def check(self, problem: OnPairs, contender: Contender, answer: Any) -> Verdict:
        out, grads = answer
        # The gradient of values in one column: rows of a matrix are what is compared.
        got = [out, *(grad.view(len(grad), -1) for grad in grads)]
        wanted = problem.exact("", lambda: self._reference(problem))
        names = ["output", "gradient of x", "gradient of the values"]
        return check_values(got, wanted, names, searched=False)

    def _reference(self, problem: OnPairs) -> list[Tensor]:
        x, values = (leaf.detach().double().requires_grad_() for leaf in problem.leaves)
        out = torch.zeros_like(x)
        for part in torch.arange(len(values), device=x.device).split(1 << 16):
            messages = values[part, None] * x[problem.node[part]]
            out = out.index_add(0, problem.edge[part], messages)
        return _with_gradients(problem, out, [x, values])

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        """Every pair's row read from the cache; backwards twice, once for either factor."""
        read = 4.0 * K * case.nodes * case.channels
        return (3 if case.backward else 1) * read / rates[anchors.CACHE]


class Softmax:
    name = "softmax"
    title = "`incidence_softmax` over ragged hyperedges; channels are scores per pair"

    def cases(self, tier: Tier, device: str) -> list[Case]:
        sizes = [(1024, 1), (4096, 1), (4096, 8), (16384, 1), (16384, 8), (65536, 8)]
        cases = [Case(self.name, n, c, backward=True) for n, c in sizes]
        return cases[:1] if tier == "smoke" else [*cases, Case(self.name, 4096, 8)]

    def problem(self, case: Case, device: str, seed: int) -> OnPairs:
        return on_pairs(case, device, seed, case.channels)

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        rivals = [
            Contender("PyG softmax", _pyg_softmax, needs=("torch_geometric",)),
            Contender("torch-scatter scatter_softmax", _scatter_softmax, needs=("torch_scatter",)),
        ]
        return [*_ours(device, _shares), *rivals, *anchors.copies()]

    def check(self, problem: OnPairs, contender: Contender, answer: Any) -> Verdict:
        out, grads = answer
        wanted = problem.exact("", lambda: self._reference(problem))
        names = ["output", "gradient of the scores"]
        return check_values([out, *grads], wanted, names, searched=False)

    def _reference(self, problem: OnPairs) -> list[Tensor]:
        scores = problem.values.detach().double().requires_grad_()
        powers = scores.exp()  # of normal numbers: nothing overflows
        total = powers.new_zeros(problem.case.nodes, powers.shape[1])
        shares = powers / total.index_add(0, problem.edge, powers)[problem.edge]
        return _with_gradients(problem, shares, [scores])

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        """Scores read and shares written; backwards two arrays read and one written."""
        array = 4.0 * K * case.nodes * case.channels
        return (5 if case.backward else 2) * array / rates[anchors.CACHE]


def _with_gradients(problem: OnPairs, out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    if not problem.case.backward:
        return [out.detach()]
    assert problem.grad is not None
    grads = torch.autograd.grad(out, leaves, problem.grad.double())
    return [out.detach(), *(grad.view(len(grad), -1) for grad in grads)]


def _ours(device: str, solve: Callable[[OnPairs, Any], Tensor]) -> list[Contender]:
    """On a CPU there is one path: the compiled one has no part in these operations."""

    def contender(name: str) -> Contender:
        def build(problem: OnPairs) -> Forward:
            return lambda: solve(problem, name)

        return Contender(f"ours, {name}", build, "ours", implementation=name)

    return [contender(name) for name, _ in implementations(device) if name != "compiled"]


def _product(problem: OnPairs, name: Any) -> Tensor:
    segments = problem.by_edge, problem.by_node
    return incidence_spmm(problem.x, problem.values, *segments, implementation=name)


def _shares(problem: OnPairs, name: Any) -> Tensor:
    return incidence_softmax(
        problem.values, problem.by_edge, rows=problem.edge, implementation=name
    )


_messages_fit = too_large(16384 * 256, "messages [nnz, C] of gigabytes")


def _no_dense_gradient(case: Case) -> str | None:
    """PyTorch makes the gradient of a sparse matrix from the dense one."""
    if case.nodes > 4096 and case.backward:
        return "its gradient is an N x N matrix first"
    return None


def _coo(problem: OnPairs) -> Forward:
    pairs, n = torch.stack([problem.edge, problem.node]), problem.case.nodes

    def forward() -> Tensor:
        matrix = torch.sparse_coo_tensor(
            pairs, problem.values, (n, n), check_invariants=False, is_coalesced=True
        )
        return torch.sparse.mm(matrix, problem.x)

    return forward


def _csr(problem: OnPairs) -> Forward:
    offsets, n = problem.by_edge.offsets, problem.case.nodes

    def forward() -> Tensor:
        matrix = torch.sparse_csr_tensor(
            offsets, problem.node, problem.values, (n, n), check_invariants=False
        )
        return torch.sparse.mm(matrix, problem.x)

    return forward


def _gather_add(problem: OnPairs) -> Forward:
    def forward() -> Tensor:
        messages = problem.x[problem.node] * problem.values[:, None]
        return torch.zeros_like(problem.x).index_add(0, problem.edge, messages)

    return forward


def _segment_csr(problem: OnPairs) -> Forward:
    from torch_scatter import segment_csr

    offsets = problem.by_edge.offsets

    def forward() -> Tensor:
        messages = problem.x[problem.node] * problem.values[:, None]
        out: Tensor = segment_csr(messages, offsets, reduce="sum")
        return out

    return forward


def _pyg_softmax(problem: OnPairs) -> Forward:
    from torch_geometric.utils import softmax

    return lambda: softmax(problem.values, ptr=problem.by_edge.offsets)


def _scatter_softmax(problem: OnPairs) -> Forward:
    from torch_scatter.composite import scatter_softmax

    n = problem.case.nodes
    index = problem.edge[:, None].repeat(1, problem.case.channels)
    return lambda: scatter_softmax(problem.values, index, dim=0, dim_size=n)
