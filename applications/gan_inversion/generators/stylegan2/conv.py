"""Convolutions with a fast weight gradient for channels-last tensors on a CPU.

PyTorch's own (oneDNN) is two to three times slower there than for contiguous tensors, while its
forward pass and its input gradient are faster (``python -m benchmarks.generator``). So the weight
gradient is written as matrix products over blocks of rows that stay in the cache:
``gradient[s, c, i, j] = sum_p small[p, s] * big[stride * p + (i, j), c]``.

The three operations are each other's derivatives, hence differentiable any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

_BLOCK = 1 << 18  # numbers of a block of patches: 1 MB, the usual second-level cache
_SMALL = 16 * 16  # fewer pixels than this gain nothing


def conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """:func:`torch.nn.functional.conv2d` without a bias, with square stride and padding."""
    if _ours_is_faster(x, weight):
        return _Conv.apply(x, weight, stride, padding)
    return F.conv2d(x, weight, None, stride, padding)


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """:func:`torch.nn.functional.conv_transpose2d`, as :func:`conv2d`."""
    if _ours_is_faster(x, weight):
        return _ConvTranspose.apply(x, weight, stride, padding)
    return F.conv_transpose2d(x, weight, None, stride, padding)


def _ours_is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and weight.requires_grad
        and weight.shape[-1] > 1
        and x.shape[2] * x.shape[3] >= _SMALL
        # Compilers and exporters choose for themselves; forward mode and torch.func have no rule
        # for ours.
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
    )


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), (grad,) = ctx.saved_tensors, grads
        grad = grad.contiguous(memory_format=torch.channels_last)
        gx = gw = None
        if ctx.needs_input_grad[0]:
            gx = conv_transpose2d(grad, weight, *ctx.geometry)
        if ctx.needs_input_grad[1]:
            gw = _WeightGradient.apply(x, grad, *ctx.geometry, weight.shape[-1])
        return gx, gw, None, None


class _ConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return F.conv_transpose2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), (grad,) = ctx.saved_tensors, grads
        grad = grad.contiguous(memory_format=torch.channels_last)
        gx = gw = None
        if ctx.needs_input_grad[0]:
            gx = conv2d(grad, weight, *ctx.geometry)
        if ctx.needs_input_grad[1]:
            gw = _WeightGradient.apply(grad, x, *ctx.geometry, weight.shape[-1])
        return gx, gw, None, None


class _WeightGradient(torch.autograd.Function):
    """``[S, C, k, k]`` from ``big [B, C, ...]`` and ``small [B, S, H, W]``; see the module."""

    @staticmethod
    def forward(
        ctx: Any, big: Tensor, small: Tensor, stride: int, padding: int, size: int
    ) -> Tensor:
        ctx.save_for_backward(big, small)
        ctx.geometry = stride, padding
        batch, channels = big.shape[:2]
        _, others, height, width = small.shape
        rows = max(1, min(height, _BLOCK // (size * size * channels * width)))
        block = big.new_empty(rows, width, size, size * channels)
        total = big.new_zeros(others, size * size * channels)
        for b in range(batch):
            padded = big[b].permute(1, 2, 0)
            if padding:
                padded = F.pad(padded, (0, 0, padding, padding, padding, padding))
            padded = padded.contiguous()  # [H', W', C]
            line = padded.shape[1] * channels
            strides = (stride * line, stride * channels, line, 1)
            pixels = small[b].permute(1, 2, 0)  # [H, W, S]
            for start in range(0, height, rows):
                count = min(rows, height - start)
                patches = block[:count]
                view = padded[stride * start :]
                # A row of a patch is one run of size * channels numbers.
                patches.copy_(view.as_strided(patches.shape, strides))
                part = pixels[start : start + count].reshape(count * width, others)
                total.addmm_(part.t(), patches.view(count * width, -1))
        return total.view(others, size, size, channels).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (big, small), (grad,) = ctx.saved_tensors, grads
        return (
            conv_transpose2d(small, grad, *ctx.geometry),
            conv2d(big, grad, *ctx.geometry),
            None,
            None,
            None,
        )
