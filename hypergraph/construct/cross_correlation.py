"""Hyperedges learned from cross-correlations of the features."""

import math
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from hypergraph._checks import (
    check_choice,
    check_layer_dtype,
    check_positive_int,
    check_positive_number,
)
from hypergraph._numerics import propagation_dtype
from hypergraph.construct.base import Construction, check_grid
from hypergraph.incidence import Dense, Incidence, LowRank, Streamed
from hypergraph.incidence.streamed import SoftmaxAxis
from hypergraph_kernels import Implementation

NonNeg = Literal["abs", "softmax", "factors"]
Omega = Literal["linear", "tied", "conv"]

_DEFAULT_EDGES = 256
_ROUNDING = 32  # a spread of Psi below so many units of rounding counts as none
_VANISHING = 1e-12  # mean squares below this count as no signal: they are not scaled up


class CrossCorrelation(Construction):
    """Long-range hyperedges: how much every vertex contributes to every learned hyperedge.

    ``H = nonneg(Psi Lambda Psi^T Omega)`` (Wadhwa et al., https://arxiv.org/abs/2011.02904, and
    Eq. 3 of DHFusion), with ``Psi = x W_psi + b`` [N, rank], ``Lambda = diag(mean(x) W + b)`` from
    globally pooled features, and ``Omega`` [N, num_edges]: ``x W_omega``, which is never formed as
    ``Psi^T Omega = (Psi^T x) W_omega``, or a convolution of the feature map, as in both codes.

    Eq. 3 as printed has entries of both signs, which leaves D_v^(-1/2) undefined, so one of:

    - ``"abs"``: absolute values (Wadhwa et al.), a ``Streamed`` operator;
    - ``"softmax"``: softmax over ``axis`` (DHFusion's code), a ``Streamed`` operator;
    - ``"factors"``: both factors made non-negative by a softmax over their ``rank`` channels, a
      ``LowRank`` operator; our variant, linear in N and M.

    Two differences from both codes keep H from being nothing but a global mean or a one-hot
    choice: Psi is centred over the vertices, and the correlations are divided by their root mean
    square (a learned scale follows where scale matters, for softmax and factors). Vertices that
    are all equal therefore give H = 0 for "abs". ``CrossCorrelation.wadhwa`` and ``.dhfusion``
    make the published forms, without either.

    Args:
        in_channels: channels C of x.
        num_edges: hyperedges M of Omega; default 256. Not with ``omega="tied"``.
        rank: channels d of Psi.
        nonneg: how signs are removed.
        omega: ``"linear"``; ``"conv"``: a convolution over the image that the vertices are the
            pixels of; or ``"tied"``: Omega is the identity, M = N and hyperedge e belongs to
            vertex e, so that sums with a KNN table are permutation-equivariant.
        axis: what a softmax sums to one over, ``"edges"`` or ``"nodes"``.
        centred: subtract the mean of Psi over the vertices.
        temperature: initial divisor of the normalised correlations, for softmax and factors; with
            ``normalized=False`` a constant divisor of what goes into the softmax.
        streamed: recompute H tile by tile in every product (O(N + M) memory, two derivatives);
            False stores it as ``Dense``: faster while N x M is small, O(N M) memory.
        normalized: divide the correlations by their root mean square; False takes them as they are
            (not for ``"factors"``).
        omega_bias: a bias in Omega. It changes nothing where Psi is centred.
        grid: height and width (or one number for both) of the image, for ``omega="conv"``; vertex
            v is pixel (v // width, v % width).
        kernel_size: of that convolution, odd; zeros are padded.
        implementation: of the products with H, see ``Incidence.with_implementation``;
            ``"reference"`` also forms a convolutional Omega.

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
        normalized: bool = True,
        omega_bias: bool = False,
        grid: int | tuple[int, int] | None = None,
        kernel_size: int = 7,
        implementation: Implementation = "auto",
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
        if omega == "tied" and omega_bias:
            raise ValueError("`omega_bias` goes with omega='linear' or 'conv', got omega='tied'")
        if (grid is None) == (omega == "conv"):
            raise ValueError(
                "`grid` gives height and width of the image for omega='conv', and only for it, "
                f"got grid={grid} with omega='{omega}'"
            )
        if not normalized and nonneg == "factors":
            raise ValueError(
                "`normalized=False` goes with nonneg='abs' or 'softmax', got 'factors'"
            )
        check_positive_int("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd, got {kernel_size}: the window is centred on a pixel"
            )
        check_choice("implementation", implementation, get_args(Implementation))
        self.implementation: Implementation = implementation
        self.nonneg: NonNeg = nonneg
        self.axis: SoftmaxAxis = axis
        self.centred = centred
        self.streamed = streamed
        self.normalized = normalized
        self.temperature = temperature
        self.grid = None if grid is None else check_grid("grid", grid)
        self.psi = nn.Linear(in_channels, rank)
        self.metric = nn.Linear(in_channels, rank)
        nn.init.ones_(self.metric.bias)  # Lambda starts near the identity
        self.omega: nn.Linear | nn.Conv2d | None = None
        if omega != "tied":
            num_edges = _DEFAULT_EDGES if num_edges is None else num_edges
            self.num_edges = check_positive_int("num_edges", num_edges)
        # No bias unless asked for: centred Psi is orthogonal to constants.
        if omega == "linear":
            self.omega = nn.Linear(in_channels, self.num_edges, bias=omega_bias)
        elif omega == "conv":
            padding = kernel_size // 2
            self.omega = nn.Conv2d(
                in_channels, self.num_edges, kernel_size, padding=padding, bias=omega_bias
            )
        self.log_scale: nn.Parameter | None = None
        if nonneg != "abs" and normalized:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @classmethod
    def wadhwa(
        cls,
        in_channels: int,
        grid: int | tuple[int, int],
        num_edges: int = 256,
        rank: int = 64,
        streamed: bool = True,
    ) -> Self:
        """The incidence of Wadhwa et al., as their released code computes it.

        ``H = |Psi Lambda Psi^T Omega|``: Psi and Lambda linear with bias, Omega a 7 x 7 convolution
        with bias, weights drawn by Glorot's normal rule, biases 0; nothing centred or normalised.
        Their networks use 256 hyperedges and rank 128 on maps of 32 x 32 and 64 x 64.

        Args:
            in_channels: channels C of x.
            grid: height and width of the feature map.
            num_edges: hyperedges M.
            rank: channels of Psi; 64 is their layer's default.
            streamed: see the class.

        Example:
            >>> import torch
            >>> from hypergraph import CrossCorrelation
            >>> build = CrossCorrelation.wadhwa(8, grid=(4, 6), num_edges=5)
            >>> build(torch.randn(2, 24, 8)).shape
            (2, 24, 5)
        """
        out = cls(
            in_channels,
            num_edges,
            rank,
            nonneg="abs",
            omega="conv",
            centred=False,
            streamed=streamed,
            normalized=False,
            omega_bias=True,
            grid=grid,
            kernel_size=7,
        )
        assert out.omega is not None and out.omega.bias is not None
        for layer in (out.psi, out.metric, out.omega):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return out

    @classmethod
    def dhfusion(
        cls,
        in_channels: int,
        grid: int | tuple[int, int] = 16,
        num_edges: int | None = None,
        rank: int | None = None,
        temperature: float = 1.0,
        streamed: bool = True,
    ) -> Self:
        """The long-term incidence of DHFusion (Eq. 3), as its released code computes it.

        ``H = softmax over the hyperedges of Psi Lambda Psi^T Omega``, with Psi, Lambda and Omega as
        in ``wadhwa``. At its 512 channels the rows are nearly one-hot from the start, and most
        hyperedges all but empty; ``temperature=in_channels ** 0.5`` undoes that. (Its DH-Net also
        reshapes [C, N] features to [N, C] without a transpose; give x as [N, C] here.)

        Args:
            in_channels: channels C of x.
            grid: height and width of the feature map.
            num_edges: hyperedges M; default one per pixel.
            rank: channels of Psi; default ``in_channels``.
            temperature: constant divisor of the scores; theirs is 1.
            streamed: see the class.

        Example:
            >>> import torch
            >>> from hypergraph import CrossCorrelation
            >>> CrossCorrelation.dhfusion(8, grid=4)(torch.randn(2, 16, 8)).shape
            (2, 16, 16)
        """
        height, width = check_grid("grid", grid)
        return cls(
            in_channels,
            height * width if num_edges is None else num_edges,
            in_channels if rank is None else rank,
            nonneg="softmax",
            omega="conv",
            axis="edges",
            centred=False,
            temperature=temperature,
            streamed=streamed,
            normalized=False,
            omega_bias=True,
            grid=grid,
            kernel_size=7,
        )

    def construct(self, x: Tensor) -> Incidence:
        """Build from checked features [N, C] or [B, N, C]."""
        check_layer_dtype(x, self.psi.weight)
        if self.grid is not None and x.shape[-2] != self.grid[0] * self.grid[1]:
            raise ValueError(
                f"`x` must have one vertex per pixel of the grid, {self.grid[0]} x {self.grid[1]} "
                f"= {self.grid[0] * self.grid[1]}, got {x.shape[-2]}"
            )
        # Not `mean`: of no vertices that would be NaN, and its gradient is as large as x.
        total = x.sum(-2, keepdim=True, dtype=propagation_dtype(x))  # beyond float16's range
        mean = (total / max(x.shape[-2], 1)).to(x.dtype)
        psi, scale = self.psi(x), self.metric(mean)
        dtype = propagation_dtype(psi)
        with torch.autocast(x.device.type, enabled=False):
            psi, scale, x = psi.to(dtype), scale.to(dtype), x.to(dtype)
            if self.centred:
                # What centring leaves of equal vertices is rounding: it must not be scaled up.
                rounding = (_ROUNDING * torch.finfo(dtype).eps) ** 2 * _mean_square(psi.detach())
                psi = psi - psi.mean(-2, keepdim=True)
                psi = psi * (_mean_square(psi.detach()) > rounding)
            if self.normalized:
                psi = psi * _inverse_rms(psi)
            p = psi * scale  # [..., N, rank]
            q = self._edge_factors(psi, x)  # [..., M, rank]
            if self.nonneg == "factors":
                return self._marked(self._low_rank(p, q))
            if self.normalized:
                # Mean square of P Q^T from the two rank x rank Gram matrices.
                gram = ((p.mT @ p) * (q.mT @ q)).sum((-2, -1), keepdim=True)
                mean_square = gram / max(p.shape[-2] * q.shape[-2], 1)
                q = q * (mean_square.clamp_min(0) + _VANISHING).rsqrt()
            if self.nonneg == "abs":
                operator = Streamed(p, q, "abs")
            elif self.log_scale is None:
                operator = Streamed(p, q / self.temperature, "softmax", self.axis)
            else:
                operator = Streamed(p, q * self.log_scale.to(dtype).exp(), "softmax", self.axis)
        built = operator if self.streamed else Dense(operator.to_dense())
        return self._marked(built)

    def extra_repr(self) -> str:
        """Show the settings."""
        omega = "'tied'"
        if isinstance(self.omega, nn.Linear):
            omega = f"'linear', num_edges={self.num_edges}"
        elif self.grid is not None:
            omega = f"'conv', num_edges={self.num_edges}, grid={self.grid}"
        return (
            f"in_channels={self.in_channels}, rank={self.rank}, nonneg='{self.nonneg}', "
            f"omega={omega}{'' if self.streamed else ', streamed=False'}"
            f"{'' if self.normalized else ', normalized=False'}"
        )

    def _edge_factors(self, psi: Tensor, x: Tensor) -> Tensor:
        """``Omega^T Psi``; over N, to keep its size free of N, if normalised."""
        over = max(x.shape[-2], 1) if self.normalized else 1
        if self.omega is None:
            return psi
        weight = self.omega.weight.to(x.dtype)
        bias = None if self.omega.bias is None else self.omega.bias.to(x.dtype)
        if self.grid is not None:
            factors = self._convolved(psi, x, weight) / over
        else:
            factors = weight @ (x.mT @ psi / over)  # Omega itself is not formed
        if bias is None:
            return factors
        return factors + bias.unsqueeze(-1) * (psi.sum(-2, keepdim=True) / over)

    def _convolved(self, psi: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """``Omega^T Psi`` [..., M, rank] of a convolutional Omega without its bias.

        Omega is linear in the shifted images, so Psi meets those first: ``T[r, c, s] = sum over v
        of psi[v, r] x[v + s, c]`` for every shift s of the window, which is the weight gradient of
        a convolution, then ``sum over c, s of T[r, c, s] weight[e, c, s]``. That is rank * (N + M)
        window products of C channels where Omega itself takes N * M.
        """
        assert self.grid is not None
        samples, (num_nodes, channels) = x.shape[:-2].numel(), x.shape[-2:]
        image = x.mT.reshape(samples, channels, *self.grid)
        padding = weight.shape[-1] // 2
        few = self.num_edges * num_nodes <= self.rank * (num_nodes + self.num_edges)
        plain = self.implementation == "reference" or torch.onnx.is_in_onnx_export()
        if few or plain or samples == 0:
            omega = F.conv2d(image, weight, padding=padding).flatten(2)
            return omega.view(*x.shape[:-2], self.num_edges, num_nodes) @ psi
        # Samples are groups: each has a weight gradient of its own.
        shifted = conv2d_weight(
            image.reshape(1, -1, *self.grid),
            (samples * self.rank, channels, *weight.shape[-2:]),
            psi.mT.reshape(1, -1, *self.grid),
            padding=padding,
            groups=samples,
        )
        shifted = shifted.view(*x.shape[:-2], self.rank, -1)
        return weight.flatten(1) @ shifted.mT

    def _marked(self, operator: Incidence) -> Incidence:
        if self.implementation == "auto":
            return operator
        return operator.with_implementation(self.implementation)

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
