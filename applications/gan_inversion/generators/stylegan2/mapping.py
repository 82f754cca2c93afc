"""StyleGAN2's mapping network, shared by the generator and the conditional discriminator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate: the constant is applied when it runs.

    ``y = x @ (weight * lr / sqrt(in))^T + bias * lr`` (https://arxiv.org/abs/1710.10196, 4.1).
    Stored weights are normal with standard deviation ``1 / lr``, the biases ``bias / lr``.
    """

    def __init__(
        self, in_features: int, out_features: int, lr_multiplier: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias / lr_multiplier))
        self.lr_multiplier = lr_multiplier
        self.scale = lr_multiplier / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in]`` to ``[B, out]``."""
        bias = self.bias if self.lr_multiplier == 1.0 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


def normalize_second_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale every row of ``x [B, C]`` to mean square 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + eps)


class MappingNetwork(nn.Module):
    """``z [B, z_dim]`` and, where ``c_dim > 0``, a label ``c [B, c_dim]`` to ``w [B, w_dim]``.

    The label is embedded, normalised and set behind the normalised ``z``. With ``z_dim=0`` (the
    discriminator's) it is the only input.
    """

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, num_layers: int, lr_multiplier: float = 0.01
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.embed = EqualLinear(c_dim, w_dim) if c_dim else None
        first = z_dim + (w_dim if c_dim else 0)
        self.layers = nn.ModuleList(
            EqualLinear(first if i == 0 else w_dim, w_dim, lr_multiplier) for i in range(num_layers)
        )

    def forward(self, z: Tensor | None, c: Tensor | None = None) -> Tensor:
        """Return ``w [B, w_dim]``."""
        parts = []
        if self.z_dim:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                got = None if z is None else list(z.shape)
                raise ValueError(f"`z` must have shape [B, {self.z_dim}], got {got}")
            parts.append(normalize_second_moment(z))
        if self.embed is not None:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
                got = None if c is None else list(c.shape)
                raise ValueError(
                    f"`c` must have shape [B, {self.c_dim}], got {got}: the network is conditional"
                )
            parts.append(normalize_second_moment(self.embed(c)))
        elif c is not None:
            raise ValueError("`c` must be None: the network is not conditional")
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * math.sqrt(2)
        return x
