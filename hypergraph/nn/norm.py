"""Normalisations whose statistics are those of every hypergraph by itself."""

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_features,
    check_layer_dtype,
    check_positive_int,
    check_positive_number,
)
from hypergraph._numerics import without_autocast
from hypergraph.nn._samples import Samples


class _SampleNorm(nn.Module):
    """What the normalisations share: arguments, precision, absent rows."""

    def __init__(self, channels: int | None, eps: float, affine: bool) -> None:
        super().__init__()
        self.channels = None if channels is None else check_positive_int("channels", channels)
        self.eps = check_positive_number("eps", eps)
        self.scale = self.shift = None
        if affine:
            self.scale = nn.Parameter(torch.ones(channels or 0))
            self.shift = nn.Parameter(torch.zeros(channels or 0))

    def forward(
        self,
        x: Tensor,  # [N, C] or [B, N, C]
        batch: Tensor | None = None,  # [N]
        weight: Tensor | None = None,  # [N] or [B, N]
        num_samples: int | None = None,
    ) -> Tensor:
        """Normalise every sample.

        Args:
            x: [N, C] features of vertices (or hyperedges), or [B, N, C].
            batch: [N] the sample of every row; None with [N, C] for a single sample.
            weight: multiplicities; None for ones.
            num_samples: B; default the largest entry of ``batch`` + 1. Needed while compiling.

        Returns:
            The shape and dtype of x.

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        x = check_features(x, self.channels)
        samples = Samples(x, batch, num_samples, weight, self.channels)
        for parameter in self.parameters():
            check_layer_dtype(x, parameter)
            break
        with without_autocast(x.device):
            out = self._normalise(samples, samples.in_precision())
            present = samples.present()
            if present is not None:
                out = torch.where(present.unsqueeze(-1), out, 0)
            return out.view(x.shape).to(x.dtype)

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _affine(self, out: Tensor) -> Tensor:
        """Scale and shift, where the layer has them."""
        if self.scale is not None and self.shift is not None:
            out = out * self.scale.to(out.dtype) + self.shift.to(out.dtype)
        return out


def _centred(samples: Samples, rows: Tensor) -> Tensor:
    """Rows minus their sample's mean.

    It is taken out twice: equal rows of large values leave rounding the first time, which division
    by a small deviation would blow up.
    """
    for _ in range(2):
        rows = rows - samples.spread(samples.reduce(rows, "mean"))
    return rows


class MeanSubtractionNorm(_SampleNorm):
    """Subtract the mean row of every hypergraph: ``x_v' = x_v - sum_u m_u x_u / sum_u m_u``.

    Yang et al., Revisiting "Over-smoothing" in Deep GCNs (2020, https://arxiv.org/abs/2003.13663).

    Rows are the vertices (or hyperedges) of a hypergraph, told apart by ``batch`` as in
    ``HypergraphPool``; ``weight`` gives them multiplicities, which count in all statistics. A row
    of weight 0 is absent and comes out as 0, so that padding stays 0. A hypergraph of one row, or
    of equal rows, becomes 0 (before scale and shift, where a norm has them), not rounding divided
    by a small number, and gradients are finite. Statistics run in at least float32; the result has
    the dtype of x.

    Example:
        >>> import torch
        >>> from hypergraph import MeanSubtractionNorm
        >>> MeanSubtractionNorm()(torch.tensor([[1.0], [5.0]])).flatten()
        tensor([-2.,  2.])
    """

    def __init__(self) -> None:
        super().__init__(None, 1.0, affine=False)

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        return _centred(samples, rows)


class PairNorm(_SampleNorm):
    """Keep the mean squared distance between the rows of a hypergraph constant.

    ``x_v' = s c_v / sqrt( sum_u m_u |c_u|^2 / sum_u m_u + eps )`` with the centred rows c; with
    ``individually``, ``x_v' = s c_v / sqrt( |c_v|^2 + eps )``.

    Zhao and Akoglu, PairNorm: Tackling Oversmoothing in GNNs (ICLR 2020,
    https://arxiv.org/abs/1909.12223), Eq. 10 and 11; the individual form is PairNorm-SI of the
    released code, which divides by ``eps + |c_v|``.

    Rows, multiplicities and degenerate hypergraphs are as in ``MeanSubtractionNorm``.

    Args:
        scale: s; default 1.
        individually: scale every row by itself.
        eps: added to the squared length.

    Example:
        >>> import torch
        >>> from hypergraph import PairNorm
        >>> PairNorm()(torch.randn(10, 4)).square().sum(1).mean()
        tensor(1.0000)
    """

    def __init__(self, scale: float = 1.0, individually: bool = False, eps: float = 1e-5) -> None:
        super().__init__(None, eps, affine=False)
        self.factor = check_positive_number("scale", scale)
        self.individually = individually

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        rows = _centred(samples, rows)
        length = rows.square().sum(-1, keepdim=True)
        if not self.individually:
            length = samples.spread(samples.reduce(length, "mean"))
        return self.factor * rows * (length + self.eps).rsqrt()

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"scale={self.factor}, individually={self.individually}, eps={self.eps}"


class GraphNorm(_SampleNorm):
    """Normalise every channel of a hypergraph, with a learned share of the mean taken out.

    ``x_vc' = gamma_c (x_vc - alpha_c mu_c) / sqrt( sigma_c^2 + eps ) + beta_c``

    mu is the mean over the hypergraph's rows, sigma^2 the mean of ``(x_vc - alpha_c mu_c)^2``.

    Cai et al., GraphNorm: A Principled Approach to Accelerating Graph Neural Network Training (ICML
    2021, https://arxiv.org/abs/2009.03294), Section 4. alpha, gamma = 1 and beta = 0 at the start.

    Rows, multiplicities and degenerate hypergraphs are as in ``MeanSubtractionNorm``.

    Args:
        channels: C.
        eps: added to the variance.

    Example:
        >>> import torch
        >>> from hypergraph import GraphNorm
        >>> GraphNorm(8)(torch.randn(2, 10, 8)).shape
        torch.Size([2, 10, 8])
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps, affine=True)
        self.mean_share = nn.Parameter(torch.ones(channels))

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        mean = samples.spread(samples.reduce(rows, "mean"))
        rows = _centred(samples, rows) + (1 - self.mean_share.to(rows.dtype)) * mean
        variance = samples.spread(samples.reduce(rows.square(), "mean"))
        return self._affine(rows * (variance + self.eps).rsqrt())

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"{self.channels}, eps={self.eps}"


class HypergraphInstanceNorm(_SampleNorm):
    """Normalise every channel of a hypergraph to mean 0 and variance 1.

    ``x_vc' = gamma_c (x_vc - mu_c) / sqrt( sigma_c^2 + eps ) + beta_c``, mu and sigma^2 over the
    hypergraph's rows (the biased variance).

    Ulyanov et al., Instance Normalization (2016, https://arxiv.org/abs/1607.08022), Eq. 3, with the
    vertices of a hypergraph in place of the pixels of an image.

    Rows, multiplicities and degenerate hypergraphs are as in ``MeanSubtractionNorm``.

    Args:
        channels: C.
        affine: learn gamma and beta.
        eps: added to the variance.

    Example:
        >>> import torch
        >>> from hypergraph import HypergraphInstanceNorm
        >>> HypergraphInstanceNorm(1)(torch.tensor([[1.0], [3.0]])).flatten()
        tensor([-1.0000,  1.0000])
    """

    def __init__(self, channels: int, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__(channels, eps, affine)

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        rows = _centred(samples, rows)
        variance = samples.spread(samples.reduce(rows.square(), "mean"))
        return self._affine(rows * (variance + self.eps).rsqrt())

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"{self.channels}, affine={self.scale is not None}, eps={self.eps}"


class HypergraphLayerNorm(_SampleNorm):
    """Normalise all rows and channels of a hypergraph together to mean 0 and variance 1.

    ``x_vc' = gamma_c (x_vc - mu) / sqrt( sigma^2 + eps ) + beta_c``, mu and sigma^2 over the
    hypergraph's rows and channels. (For the channels of each vertex alone use
    ``torch.nn.LayerNorm``.)

    Ba et al., Layer Normalization (2016, https://arxiv.org/abs/1607.06450), Eq. 3, over a
    hypergraph.

    Rows, multiplicities and degenerate hypergraphs are as in ``MeanSubtractionNorm``.

    Args:
        channels: C.
        affine: learn gamma and beta.
        eps: added to the variance.

    Example:
        >>> import torch
        >>> from hypergraph import HypergraphLayerNorm
        >>> norm = HypergraphLayerNorm(2, affine=False)
        >>> norm(torch.tensor([[1.0, 3.0], [3.0, 1.0]]))
        tensor([[-1.0000,  1.0000],
                [ 1.0000, -1.0000]])
    """

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__(channels, eps, affine)

    def _normalise(self, samples: Samples, rows: Tensor) -> Tensor:
        for _ in range(2):  # as in _centred
            mean = samples.reduce(rows.mean(-1, keepdim=True), "mean")
            rows = rows - samples.spread(mean)
        square = rows.square().mean(-1, keepdim=True)
        variance = samples.spread(samples.reduce(square, "mean"))
        return self._affine(rows * (variance + self.eps).rsqrt())

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"{self.channels}, affine={self.scale is not None}, eps={self.eps}"
