"""The formulation everybody publishes: one kernel a sample, one grouped convolution.

Resampling is the plain PyTorch fall-back of the released codes: zeros inserted, padded, and a
convolution over ``[B * C, 1, H, W]``. ``depthwise=True`` gives it our filter instead, which shows
how much of the difference that alone makes. It takes a generator's own weights.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_inversion.generators.stylegan2 import StyleGAN2Generator


def synthesis(g: StyleGAN2Generator, w_plus: Tensor, *, depthwise: bool = False) -> Tensor:
    """Render ``w_plus [B, num_ws, w_dim]`` with the stored noise."""
    x = g.const.repeat(w_plus.shape[0], 1, 1, 1)
    x = styled(g, 0, x, w_plus, depthwise)
    image = rgb(g, 0, x, w_plus)
    for j in range(1, g.num_blocks):
        x = styled(g, 2 * j - 1, x, w_plus, depthwise)
        x = styled(g, 2 * j, x, w_plus, depthwise)
        up = resample(image, g.kernel * 4, 2, (2, 1, 2, 1), depthwise)
        image = rgb(g, j, x, w_plus) + up
    return image


def styled(g: StyleGAN2Generator, i: int, x: Tensor, w_plus: Tensor, depthwise: bool) -> Tensor:
    layer = g.convs[i]
    style = layer.affine(w_plus[:, i])
    weight = layer.weight[None] * layer.fan_in_scale * style[:, None, :, None, None]
    weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    if layer.up == 2:
        x = grouped_transposed(x, weight)
        x = resample(x, g.kernel * 4, 1, (1, 1, 1, 1), depthwise)
    else:
        x = grouped(x, weight, 1)
    x = x + layer.noise_strength * layer.noise
    return F.leaky_relu(x + layer.bias[:, None, None], 0.2) * math.sqrt(2)


def rgb(g: StyleGAN2Generator, j: int, x: Tensor, w_plus: Tensor) -> Tensor:
    layer = g.rgbs[j]
    style = layer.affine(w_plus[:, 2 * j + 1])
    weight = layer.weight[None] * layer.fan_in_scale * style[:, None, :, None, None]
    return grouped(x, weight, 0) + layer.bias[:, None, None]


def grouped(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    batch, out = weight.shape[:2]
    x = x.reshape(1, -1, *x.shape[2:])
    x = F.conv2d(x, weight.flatten(0, 1), padding=padding, groups=batch)
    return x.reshape(batch, out, *x.shape[2:])


def grouped_transposed(x: Tensor, weight: Tensor) -> Tensor:
    batch, out = weight.shape[:2]
    x = x.reshape(1, -1, *x.shape[2:])
    weight = weight.transpose(1, 2).flatten(0, 1)
    x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
    return x.reshape(batch, out, *x.shape[2:])


def resample(
    x: Tensor, kernel: Tensor, up: int, sides: tuple[int, int, int, int], depthwise: bool
) -> Tensor:
    batch, channels, height, width = x.shape
    if up > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(batch, channels, height * up, width * up)
    x = F.pad(x, sides)
    if depthwise:
        weight = kernel.flip(0, 1).expand(channels, 1, -1, -1)
        return F.conv2d(x, weight, groups=channels)
    x = F.conv2d(x.reshape(batch * channels, 1, *x.shape[2:]), kernel.flip(0, 1)[None, None])
    return x.reshape(batch, channels, *x.shape[2:])
