"""Numerical rules shared by operators and layers."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def propagation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype in which features are propagated: the widest given, at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def ordinary_tensors() -> AbstractContextManager[object]:
    """Leave inference mode: what an operator keeps must also serve a later backward."""
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        return torch.inference_mode(False)
    return nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast, of which the meta device knows nothing."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def in_autocast(device: torch.device) -> bool:
    """Tell whether autocast is at work on a device."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def inverse_power(degree: Tensor, exponent: float) -> Tensor:
    """Raise degrees to a negative power, with 0 in place of infinity.

    ``degree ** exponent`` where the degree is above the smallest normal number of its dtype,
    exactly 0 elsewhere (also for negative degrees). The gradient is 0 where the result was set to
    0, and is clamped to the square root of the largest number elsewhere, so that it is finite for
    every degree (in float32 the clamp acts below 1e-12).

    Args:
        degree: any shape, floating.
        exponent: negative, -1 or -0.5 in practice.

    Returns:
        The same shape.
    """
    out: Tensor = _InversePower.apply(degree, exponent)
    return out


class _InversePower(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(degree: Tensor, exponent: float) -> Tensor:
        return _masked_power(degree, exponent)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.exponent = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        (degree,) = ctx.saved_tensors
        limit = torch.finfo(degree.dtype).max ** 0.5
        slope = ctx.exponent * _masked_power(degree, ctx.exponent - 1)
        return grads[0] * slope.clamp(-limit, limit), None


def _masked_power(degree: Tensor, exponent: float) -> Tensor:
    counts = degree > torch.finfo(degree.dtype).tiny
    return torch.where(counts, degree, 1).pow(exponent) * counts
