"""KNN hyperedges plus learned cross-correlation: ``H = H_S + H_L``, then HGNN's convolution."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergraph import CrossCorrelation, Fusion

from .. import anchors
from ..case import Case, Contender, Forward, K, Problem, Tier, Verdict, dense_fits
from ..inputs import check_values, exact_neighbors, features, per_sample
from ..ours import Forced, hgnn_conv, implementations, knn, new_weight
from .knn import gemm_shape, search_flops

RANK = 64
DENSE, LITERAL, STORED = "dense PyTorch", "dense PyTorch, literal diagonals", "ours, H stored"
_NAMES = [
    "output",
    "gradient of x",
    "gradient of Theta",
    "gradient of Psi",
    "gradient of Lambda",
    "gradient of Omega",
]
Variant = Literal["abs", "factors"]


@dataclass
class Learned(Problem):
    """A layer's parameters, shared by all contenders; as many hyperedges as vertices."""

    build: CrossCorrelation | None = None
    weight: nn.Parameter | None = None

    @property
    def theta(self) -> nn.Parameter:
        assert self.weight is not None
        return self.weight

    @property
    def correlation(self) -> CrossCorrelation:
        assert self.build is not None
        return self.build


class CrossCorrelationLayer:
    def __init__(self, variant: Variant) -> None:
        self.variant: Variant = variant
        self.name = {"abs": "streamed", "factors": "lowrank"}[variant]
        self.title = {
            "abs": "`H_S + abs(H_L)` layer, streamed: `Fusion([KNN, CrossCorrelation])`",
            "factors": "Low-rank layer: `CrossCorrelation(nonneg='factors')` beside the KNN",
        }[variant]

    def cases(self, tier: Tier, device: str) -> list[Case]:
        def case(nodes: int, channels: int, **options: Any) -> Case:
            return Case(self.name, nodes, channels, backward=True, **options)

        if tier == "smoke":
            return [case(256, 64)]
        cases = [case(n, c) for n in (256, 1024) for c in (64, 256, 512)]
        cases.append(case(4096, 256))
        cases.append(Case(self.name, 1024, 256))
        cases.append(case(1024, 256, field="smooth"))
        if self.variant == "factors":
            cases.append(case(16384, 256, least=2))
        elif device.startswith("cuda"):
            cases.append(case(16384, 256))
        return cases

    def problem(self, case: Case, device: str, seed: int) -> Learned:
        x = features(case, device, seed).requires_grad_()
        weight = new_weight(case.channels, case.channels, device, seed + 1)
        with torch.random.fork_rng():
            torch.manual_seed(seed + 3)
            build = CrossCorrelation(case.channels, case.nodes, RANK, self.variant).to(device)
        # The bias of Psi does nothing where Psi is centred; that of Lambda is one more vector.
        leaves = [x, weight, build.psi.weight, build.metric.weight, build.omega.weight]  # type: ignore[union-attr]
        grad = features(case, device, seed + 2)
        return Learned(case, x, leaves, grad, build, weight)  # type: ignore[arg-type]

    def contenders(self, case: Case, device: str) -> Sequence[Contender]:
        ours = [
            Contender(f"ours, {name}", self.ours(name), "ours", implementation=name)
            for name, why in implementations(device)
            if why is None
        ]
        rivals = [
            Contender(DENSE, _dense, leave_out=dense_fits),
            Contender(LITERAL, _literal, leave_out=_literal_is_slow),
        ]
        if self.variant == "abs":
            rivals.append(Contender(STORED, self.ours("cpu", streamed=False), leave_out=dense_fits))
        return [*ours, *rivals, anchors.gemm(gemm_shape(case)), *anchors.copies()]

    def check(self, problem: Learned, contender: Contender, answer: Any) -> Verdict:
        wanted = problem.exact("", lambda: self._reference(problem))
        out, grads = answer
        return check_values([out, *grads], wanted, _NAMES, searched=True)

    def _reference(self, problem: Learned) -> list[Tensor]:
        """Output and gradients by the formulas, in float64."""
        leaves = [leaf.detach().double().requires_grad_() for leaf in problem.leaves]
        x, theta, *weights = leaves
        build = copy.deepcopy(problem.correlation).double()
        named = dict(zip(("psi.weight", "metric.weight", "omega.weight"), weights, strict=True))
        parameters = {**dict(build.named_parameters()), **named}
        tables = torch.stack([exact_neighbors(sample, K) for sample in per_sample(x)])
        stack = x if x.dim() == 3 else x.unsqueeze(0)
        out = dense_layer(stack, theta, parameters, tables, self.variant)
        if not problem.case.backward:
            return [out.detach()]
        assert problem.grad is not None
        grads = torch.autograd.grad(out, leaves, problem.grad.double().view(out.shape))
        return [out.detach(), *grads]

    def bound(self, case: Case, rates: dict[str, float]) -> float:
        """Products only: the search, Theta, and H_L times features (twice; four times back)."""
        pairs, d, c = 2.0 * case.batch * case.nodes**2, RANK, case.channels
        products = 2.0 * case.batch * case.nodes * c * c * (3 if case.backward else 1)
        if self.variant == "abs":
            products += pairs * (3 * d + 2 * c + (4 * d + 4 * c if case.backward else 0))
        else:
            passes = 3 if case.backward else 1
            products += passes * 2.0 * case.batch * case.nodes * d * 4 * c
        return (search_flops(case) + products) / rates[anchors.GEMM]

    def ours(self, implementation: str, streamed: bool = True) -> Callable[[Learned], Forward]:
        """Our layer, running one implementation; or our layer with H stored."""

        def build(problem: Learned) -> Forward:
            learned = problem.correlation
            if not streamed:
                learned = CrossCorrelation(
                    learned.in_channels, learned.num_edges, RANK, self.variant, streamed=False
                )
                for name in ("psi", "metric", "omega", "log_scale"):
                    setattr(learned, name, getattr(problem.correlation, name))
            fusion = Fusion([knn(K, implementation), learned], "sum", (1.0, 1.0))
            construction, layer = Forced(fusion, implementation), hgnn_conv(problem.theta)
            return lambda: layer(problem.x, construction(problem.x))

        return build


def _literal_is_slow(case: Case) -> str | None:
    return "many seconds per call: diagonal matrices" if case.nodes > 1024 else None


def _dense(problem: Learned) -> Forward:
    return _dense_forward(problem, literal=False)


def _literal(problem: Learned) -> Forward:
    return _dense_forward(problem, literal=True)


def _dense_forward(problem: Learned, literal: bool) -> Forward:
    variant: Variant = problem.correlation.nonneg  # type: ignore[assignment]

    def forward() -> Tensor:
        x = problem.x if problem.x.dim() == 3 else problem.x.unsqueeze(0)
        unit = F.normalize(x.detach(), dim=-1)
        table = (unit @ unit.mT).topk(K).indices
        parameters = dict(problem.correlation.named_parameters())
        return dense_layer(x, problem.theta, parameters, table, variant, literal)

    return forward


def dense_layer(
    x: Tensor,  # [B, N, C]
    theta: Tensor,  # [C, C]
    parameters: Mapping[str, Tensor],
    table: Tensor,  # [B, N, K]
    variant: Variant,
    literal: bool = False,
) -> Tensor:
    """The layer with H in memory, by the formulas; ``literal`` with every factor as a matrix."""
    n = x.shape[-2]
    psi = F.linear(x, parameters["psi.weight"], parameters["psi.bias"])
    mean = x.mean(-2, keepdim=True)
    scale = F.linear(mean, parameters["metric.weight"], parameters["metric.bias"])
    psi = psi - psi.mean(-2, keepdim=True)
    psi = psi / _rms(psi)
    if literal and variant == "abs":
        omega = F.linear(x, parameters["omega.weight"])
        learned = psi @ torch.diag_embed(scale.squeeze(-2)) @ (psi.mT @ omega / n)
    else:
        p, q = psi * scale, parameters["omega.weight"] @ (x.mT @ psi / n)
        if variant == "factors":
            sharpness = parameters["log_scale"].exp()
            p = (p / _rms(p) * sharpness).softmax(-1)
            q = (q / _rms(q) * sharpness).softmax(-1)
        learned = p @ q.mT
    if variant == "abs":
        learned = (learned / _rms(learned)).abs()
    members = torch.zeros_like(learned).scatter_(-2, table.mT, 1.0)  # column e: hyperedge e
    learned = learned * (K / learned.sum(-1).mean(-1))[:, None, None]
    incidence = members + learned
    node_scale, edge_scale = incidence.sum(-1).rsqrt(), 1 / incidence.sum(-2)
    z = F.linear(x, theta)
    if literal:
        nodes, edges = torch.diag_embed(node_scale), torch.diag_embed(edge_scale)
        operator = nodes @ incidence @ edges @ incidence.mT @ nodes
        return operator @ z
    edges = edge_scale.unsqueeze(-1) * (incidence.mT @ (node_scale.unsqueeze(-1) * z))
    return node_scale.unsqueeze(-1) * (incidence @ edges)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean((-2, -1), keepdim=True).sqrt()
