"""Hyperedges learned from cross-correlations of the features."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_choice,
    check_layer_dtype,
    check_positive_int,
    check_positive_number,
)
from hypergraph._numerics import propagation_dtype
from hypergraph.construct.base import Construction
from hypergraph.incidence import Dense, Incidence, LowRank, Streamed
from hypergraph.incidence.streamed import SoftmaxAxis

NonNeg = Literal["abs", "softmax", "factors"]
Omega = Literal["linear", "tied"]

_DEFAULT_EDGES = 256
_ROUNDING = 32  # a spread of Psi below so many units of rounding counts as none
_VANISHING = 1e-12  # mean squares below this count as no signal: they are not scaled up


class CrossCorrelation(Construction):
    """Long-range hyperedges: how much every vertex contributes to every learned hyperedge.

    ``H = nonneg(Psi Lambda Psi^T Omega)`` (Wadhwa et al., https://arxiv.org/abs/2011.02904, and
    Eq. 3 of DHFusion), with ``Psi = x W_psi + b`` [N, rank], ``Lambda = diag(mean(x) W + b)`` from
    globally pooled features, and ``Omega = x W_omega`` [N, num_edges], which is never formed:
    ``Psi^T Omega = (Psi^T x) W_omega``.

    Eq. 3 as printed has entries of both signs, which leaves D_v^(-1/2) undefined, so one of:

    - ``"abs"``: absolute values (Wadhwa et al.), a ``Streamed`` operator;
    - ``"softmax"``: softmax over ``axis`` (DHFusion's code), a ``Streamed`` operator;
    - ``"factors"``: both factors made non-negative by a softmax over their ``rank`` channels, a
      ``LowRank`` operator; our variant, linear in N and M.

    Two differences from both codes keep H from being nothing but a global mean or a one-hot
    choice: Psi is centred over the vertices, and the correlations are divided by their root mean
    square (a learned scale follows where scale matters, for softmax and factors). Vertices that
    are all equal therefore give H = 0 for "abs".

    Args:
        in_channels: channels C of x.
        num_edges: hyperedges M of Omega; default 256. Not with ``omega="tied"``.
        rank: channels d of Psi.
        nonneg: how signs are removed.
        omega: ``"linear"``, or ``"tied"``: Omega is the identity, M = N and hyperedge e belongs to
            vertex e, so that sums with a KNN table are permutation-equivariant.
        axis: what a softmax sums to one over, ``"edges"`` or ``"nodes"``.
        centred: subtract the mean of Psi over the vertices.
        temperature: initial divisor of the normalised correlations, for softmax and factors.
        streamed: recompute H tile by tile in every product (O(N + M) memory, one derivative); False
            stores it as ``Dense``: faster while N x M is small, O(N M) memory.

    Returns (from a call):
        An operator with N vertices and M hyperedges; see ``Construction.forward``.

    Raises:
        ValueError, TypeError: bad arguments.

    Example:
        >>> import torch
        >>> from hypergraph import CrossCorrelation
        >>> CrossCorrelation(8, num_edges=5)(torch.randn(2, 10, 8)).shape
        (2, 10, 5)
    """

    def __init__(
        self,
        in_channels: int,
        num_edges: int | None = None,
        rank: int = 64,
        nonneg: NonNeg = "abs",
        omega: Omega = "linear",
        axis: SoftmaxAxis = "edges",
        centred: bool = True,
        temperature: float = 1.0,
        streamed: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels: int = check_positive_int("in_channels", in_channels)
        self.rank = check_positive_int("rank", rank)
        check_choice("nonneg", nonneg, get_args(NonNeg))
        check_choice("omega", omega, get_args(Omega))
        check_choice("axis", axis, get_args(SoftmaxAxis))
        temperature = check_positive_number("temperature", temperature)
        if omega == "tied" and num_edges is not None:
            raise ValueError(
                f"`num_edges` goes with omega='linear', got {num_edges} with omega='tied', "
                "where there are as many hyperedges as vertices; leave it out"
            )
        self.nonneg: NonNeg = nonneg
        self.axis: SoftmaxAxis = axis
        self.centred = centred
        self.streamed = streamed
        self.psi = nn.Linear(in_channels, rank)
        self.metric = nn.Linear(in_channels, rank)
        nn.init.ones_(self.metric.bias)  # Lambda starts near the identity
        self.omega: nn.Linear | None = None
        if omega == "linear":
            num_edges = _DEFAULT_EDGES if num_edges is None else num_edges
            self.num_edges = check_positive_int("num_edges", num_edges)
            # No bias: centred Psi is orthogonal to constants.
            self.omega = nn.Linear(in_channels, self.num_edges, bias=False)
        self.log_scale: nn.Parameter | None = None
        if nonneg != "abs":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def construct(self, x: Tensor) -> Incidence:
        """Build from checked features [N, C] or [B, N, C]."""
        check_layer_dtype(x, self.psi.weight)
        # The mean of no vertices would be NaN, and with it the gradient of its weight.
        mean = x.mean(-2, keepdim=True) if x.shape[-2] else x.sum(-2, keepdim=True)
        psi, scale = self.psi(x), self.metric(mean)
        dtype = propagation_dtype(psi)
        with torch.autocast(x.device.type, enabled=False):
            psi, scale, x = psi.to(dtype), scale.to(dtype), x.to(dtype)
            if self.centred:
                # What centring leaves of equal vertices is rounding: it must not be scaled up.
                rounding = (_ROUNDING * torch.finfo(dtype).eps) ** 2 * _mean_square(psi.detach())
                psi = psi - psi.mean(-2, keepdim=True)
                psi = psi * (_mean_square(psi.detach()) > rounding)
            psi = psi * _inverse_rms(psi)
            p = psi * scale  # [..., N, rank]
            q = self._edge_factors(psi, x)  # [..., M, rank]
            if self.nonneg == "factors":
                return self._low_rank(p, q)
            # Mean square of P Q^T from the two rank x rank Gram matrices.
            gram = ((p.mT @ p) * (q.mT @ q)).sum((-2, -1), keepdim=True)
            mean_square = gram / max(p.shape[-2] * q.shape[-2], 1)
            q = q * (mean_square.clamp_min(0) + _VANISHING).rsqrt()
            if self.nonneg == "abs":
                operator = Streamed(p, q, "abs")
            else:
                assert self.log_scale is not None
                operator = Streamed(p, q * self.log_scale.to(dtype).exp(), "softmax", self.axis)
        return operator if self.streamed else Dense(operator.to_dense())

    def extra_repr(self) -> str:
        """Show the settings."""
        omega = "'tied'" if self.omega is None else f"'linear', num_edges={self.num_edges}"
        return (
            f"in_channels={self.in_channels}, rank={self.rank}, nonneg='{self.nonneg}', "
            f"omega={omega}{'' if self.streamed else ', streamed=False'}"
        )

    def _edge_factors(self, psi: Tensor, x: Tensor) -> Tensor:
        """``Omega^T Psi`` (over N, to keep its size free of N), without forming Omega."""
        if self.omega is None:
            return psi
        correlation = x.mT @ psi / max(x.shape[-2], 1)  # [..., C, rank]
        return self.omega.weight.to(x.dtype) @ correlation

    def _low_rank(self, p: Tensor, q: Tensor) -> LowRank:
        assert self.log_scale is not None
        sharpness = self.log_scale.to(p.dtype).exp()
        p = (p * _inverse_rms(p) * sharpness).softmax(-1)
        q = (q * _inverse_rms(q) * sharpness).softmax(-1)
        return LowRank(p, q)


def _inverse_rms(factors: Tensor) -> Tensor:
    """[..., 1, 1] inverse root mean square over both dimensions of every sample."""
    return (_mean_square(factors) + _VANISHING).rsqrt()


def _mean_square(factors: Tensor) -> Tensor:
    """[..., 1, 1] over both dimensions of every sample; 0 without vertices."""
    total = factors.square().sum((-2, -1), keepdim=True)
    return total / max(factors.shape[-2:].numel(), 1)
