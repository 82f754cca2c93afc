"""The three operations of StyleGAN2 as plain functions: resampling, bias and activation,
modulated convolution.

Everything is ordinary PyTorch: it runs where its input lives, is differentiable any number of
times, and traces. Nothing is compiled. Tensors that are channels-last stay so; on a CPU the
depthwise filters below are several times faster on them (``python -m benchmarks.generator``).

Papers: Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020,
https://arxiv.org/abs/1912.04958), section 2 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .conv import conv2d, conv_transpose2d

Padding = int | tuple[int, int, int, int]
"""One number for all sides, or ``(left, right, top, bottom)``; negative values crop."""

_ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = {
    "linear": (lambda x, _: x, 1.0),
    "relu": (lambda x, _: F.relu(x), math.sqrt(2)),
    "lrelu": (lambda x, slope: F.leaky_relu(x, slope), math.sqrt(2)),
    "tanh": (lambda x, _: torch.tanh(x), 1.0),
    "sigmoid": (lambda x, _: torch.sigmoid(x), 1.0),
    "elu": (lambda x, _: F.elu(x), 1.0),
    "selu": (lambda x, _: F.selu(x), 1.0),
    "softplus": (lambda x, _: F.softplus(x), 1.0),
    "swish": (lambda x, _: torch.sigmoid(x) * x, math.sqrt(2)),
}


def fir_kernel(taps: Sequence[float] | Tensor, gain: float = 1.0) -> Tensor:
    """Return the two-dimensional low-pass filter of ``taps [k]``: outer product, sum ``gain``.

    Example:
        >>> fir_kernel([1, 3, 3, 1]).shape
        torch.Size([4, 4])
    """
    t = torch.as_tensor(taps, dtype=torch.float32)
    if t.ndim != 1 or t.numel() == 0:
        raise ValueError(f"`taps` must be a list of numbers, got shape {list(t.shape)}")
    kernel = torch.outer(t, t)
    return kernel / kernel.sum() * gain


def upfirdn2d(
    x: Tensor,  # [B, C, H, W]
    kernel: Tensor,  # [kh, kw], or [k] for the same taps along both axes
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    padding: Padding = 0,
    *,
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Insert zeros, pad, filter, keep every n-th pixel.

    The filter is a true convolution: the kernel is flipped, which shows with asymmetric kernels
    only. With ``flip=True`` it is applied as it stands (correlation).

    Args:
        x: images or features ``[B, C, H, W]``, any float type.
        kernel: ``[kh, kw]``, or ``[k]`` for a separable filter.
        up: pixels per input pixel, ``(x, y)`` or one number.
        down: keep every n-th pixel, ``(x, y)`` or one number.
        padding: after the insertion of zeros, ``(left, right, top, bottom)`` or one number;
            negative values crop.
        flip: apply the kernel without flipping it.
        gain: factor on the result.

    Returns:
        ``[B, C, (H * up + top + bottom - kh) // down + 1, ...]``.

    Raises:
        ValueError: wrong shapes, or an output without pixels.

    Example:
        >>> x = torch.ones(1, 2, 8, 8)
        >>> upfirdn2d(x, fir_kernel([1, 3, 3, 1], gain=4), up=2, padding=(2, 1, 2, 1)).shape
        torch.Size([1, 2, 16, 16])
    """
    if x.ndim != 4:
        raise ValueError(f"`x` must have shape [B, C, H, W], got {list(x.shape)}")
    if kernel.ndim not in (1, 2):
        raise ValueError(f"`kernel` must have shape [kh, kw] or [k], got {list(kernel.shape)}")
    (up_x, up_y), (down_x, down_y) = _pair(up, "up"), _pair(down, "down")
    left, right, top, bottom = _sides(padding)
    kernel = kernel.to(x.dtype)
    if kernel.ndim == 1:
        row, column = kernel[None] * gain, kernel[:, None]
        x = upfirdn2d(x, row, (up_x, 1), (down_x, 1), (left, right, 0, 0), flip=flip)
        return upfirdn2d(x, column, (1, up_y), (1, down_y), (0, 0, top, bottom), flip=flip)
    kh, kw = kernel.shape
    height, width = x.shape[2] * up_y + top + bottom, x.shape[3] * up_x + left + right
    if height < kh or width < kw:
        raise ValueError(
            f"`padding` {padding} leaves {height} x {width} pixels for a {kh} x {kw} kernel: "
            "nothing would come out; pad more"
        )
    if gain != 1.0:
        kernel = kernel * gain
    channels = x.shape[1]
    if up_x == up_y == 1:
        weight = (kernel if flip else kernel.flip(0, 1)).expand(channels, 1, kh, kw)
        x, pad = _pad(x, (left, right, top, bottom))
        return F.conv2d(x, weight, None, (down_y, down_x), pad, groups=channels)
    # A transposed convolution inserts the zeros without storing them, and does not flip.
    weight = (kernel.flip(0, 1) if flip else kernel).expand(channels, 1, kh, kw)
    full = F.conv_transpose2d(x, weight, stride=(up_y, up_x), groups=channels)
    full = F.pad(
        full, (left - kw + 1, right + up_x - kw, top - kh + 1, bottom + up_y - kh)
    )  # ends as if the zeros had been there
    return full[:, :, ::down_y, ::down_x] if down_x != 1 or down_y != 1 else full


def bias_act(
    x: Tensor,  # [B, C, ...]
    bias: Tensor | None = None,  # [C]
    activation: str = "lrelu",
    *,
    slope: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias per channel, activate, multiply by ``gain``, clamp to ``[-clamp, clamp]``.

    Args:
        x: ``[B, C, ...]``.
        bias: ``[C]`` or None.
        activation: linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish.
        slope: of lrelu.
        gain: default: sqrt(2) for relu, lrelu and swish, 1 for the others, so that the variance
            is roughly kept.
        clamp: after the gain; None for no limit.

    Raises:
        ValueError: unknown activation, or a bias that is not ``[C]``.

    Example:
        >>> bias_act(torch.tensor([[-1.0, 1.0]]), gain=1.0)
        tensor([[-0.2000,  1.0000]])
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"`activation` must be one of {sorted(_ACTIVATIONS)}, got {activation!r}")
    if bias is not None:
        if bias.shape != x.shape[1:2]:
            raise ValueError(f"`bias` must have shape {list(x.shape[1:2])}, got {list(bias.shape)}")
        x = x + bias.reshape(-1, *[1] * (x.ndim - 2))
    function, default_gain = _ACTIVATIONS[activation]
    x = function(x, slope)
    gain = default_gain if gain is None else gain
    if gain != 1.0:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def resample_conv2d(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, k, k]
    kernel: Tensor | None = None,  # [kh, kw] low-pass filter of sum 1
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    *,
    flip: bool = False,
    bias: Tensor | None = None,  # [O]
) -> Tensor:
    """Convolution between an up- and a down-sampling, each with the low-pass filter ``kernel``.

    Defined as: insert zeros, pad, filter (times ``up**2``, centred), convolve, filter (centred),
    keep every ``down``-th pixel; so with padding ``k // 2`` the size follows the factors. The
    steps are done in the cheapest order.

    Args:
        x: ``[B, I, H, W]``.
        weight: ``[O, I, k, k]``.
        kernel: ``[kh, kw]``; needed when ``up`` or ``down`` is not 1.
        up: up-sampling factor.
        down: down-sampling factor.
        padding: of the convolution, at the up-sampled resolution.
        flip: flip ``weight``: a true convolution. StyleGAN2's own up-convolutions are.
        bias: added to the result, ``[O]``.

    Example:
        >>> x, w = torch.ones(1, 3, 8, 8), torch.ones(5, 3, 3, 3)
        >>> resample_conv2d(x, w, fir_kernel([1, 3, 3, 1]), up=2, padding=1).shape
        torch.Size([1, 5, 16, 16])
    """
    left, right, top, bottom = _sides(padding)
    if up == down == 1:
        return _convolve(x, weight.flip(2, 3) if flip else weight, bias, (left, right, top, bottom))
    if kernel is None or kernel.ndim != 2:
        raise ValueError("`kernel` must be a [kh, kw] filter when `up` or `down` is not 1")
    kh, kw = weight.shape[2:]
    fh, fw = kernel.shape
    if up > 1:
        left, right = left + (fw + up - 1) // 2, right + (fw - up) // 2
        top, bottom = top + (fh + up - 1) // 2, bottom + (fh - up) // 2
    if down > 1:
        left, right = left + (fw - down + 1) // 2, right + (fw - down) // 2
        top, bottom = top + (fh - down + 1) // 2, bottom + (fh - down) // 2
    sides = (left, right, top, bottom)
    if up == 1:
        if kh == kw == 1:  # fewer pixels for the convolution
            return _convolve(upfirdn2d(x, kernel, 1, down, sides), weight, bias)
        x = upfirdn2d(x, kernel, padding=sides)
        return _convolve(x, weight.flip(2, 3) if flip else weight, bias, stride=down)
    if kh == kw == 1 and down == 1:
        x = upfirdn2d(_convolve(x, weight, None), kernel, up, 1, sides, gain=up**2)
        return _add_bias(x, bias)
    # The transposed convolution does what insertion of zeros and convolution do; the filter
    # commutes with both, so it comes last, on the fewer channels.
    x = conv_transpose2d(x, (weight if flip else weight.flip(2, 3)).transpose(0, 1), up)
    sides = (left - kw + 1, right - kw + up, top - kh + 1, bottom - kh + up)
    if down == 1:
        return _filter(x, kernel * up**2, sides, bias)
    return _add_bias(
        upfirdn2d(upfirdn2d(x, kernel, padding=sides, gain=up**2), kernel, 1, down), bias
    )


def demodulation(
    weight: Tensor,  # [O, I, k, k] or [B, O, I, k, k]
    style: Tensor,  # [B, I]
    eps: float = 1e-8,
) -> Tensor:
    """Return ``1 / sqrt(sum((weight * style)**2) + eps)``, ``[B, O]``, in float32 at least.

    The sum over the kernel's taps does not depend on the style, so no kernel per sample is formed.
    """
    dtype = torch.promote_types(style.dtype, torch.float32)
    energy = weight.to(dtype).square().sum((-2, -1))  # [(B,) O, I]
    square = style.to(dtype).square()
    if energy.ndim == 2:
        total = square @ energy.t()
    else:
        total = torch.bmm(energy, square[:, :, None])[:, :, 0]
    return torch.rsqrt(total + eps)


def modulated_conv2d(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, k, k] or [B, O, I, k, k]
    style: Tensor,  # [B, I]
    *,
    demodulate: bool = True,
    eps: float = 1e-8,
    up: int = 1,
    down: int = 1,
    kernel: Tensor | None = None,  # [kh, kw]
    gain: float = 1.0,
    bias: Tensor | None = None,  # [O]
    implementation: Literal["auto", "weights", "activations"] = "auto",
) -> Tensor:
    """Convolve every sample with its own kernel ``weight * style``, normalised per output channel.

    ``y[b, o] = gain * d[b, o] * sum_i style[b, i] * weight[o, i] (*) x[b, i] + bias[o]`` with
    ``d = 1 / sqrt(sum_ik (style * weight)**2 + eps)``, or 1 without demodulation
    (https://arxiv.org/abs/1912.04958, equations 1 to 3). The equalised learning rate's constant
    belongs into ``style``.

    Args:
        x: ``[B, I, H, W]``.
        weight: ``[O, I, k, k]`` with odd ``k``, or one kernel a sample ``[B, O, I, k, k]``.
        style: ``[B, I]``.
        demodulate: normalise; toRGB layers do not.
        eps: in the square root.
        up: 1 or 2: output pixels per input pixel. As in StyleGAN2's own up-convolutions, the kernel
            is then applied flipped (a true convolution).
        down: 1 or 2.
        kernel: low-pass filter of sum 1, needed when ``up`` or ``down`` is 2.
        gain: factor on the result, before the bias.
        bias: ``[O]``.
        implementation: ``"weights"`` scales the kernel of each sample, ``"activations"`` the input
            and the output of one shared convolution. Equal up to rounding; ``"auto"`` takes the
            faster one, see :func:`choose_implementation`.

    Returns:
        ``[B, O, H * up / down, W * up / down]``, size kept by ``k // 2`` pixels of padding.

    Raises:
        ValueError: shapes that do not fit, or an unknown implementation.

    Example:
        >>> x, w, s = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3), torch.randn(2, 3)
        >>> modulated_conv2d(x, w, s).shape
        torch.Size([2, 5, 8, 8])
    """
    batch, channels = x.shape[:2]
    if style.shape != (batch, channels):
        raise ValueError(f"`style` must have shape [{batch}, {channels}], got {list(style.shape)}")
    per_sample = weight.ndim == 5
    expected = (batch, channels) if per_sample else (channels,)
    if weight.ndim not in (4, 5) or (*weight.shape[:-4], weight.shape[-3]) != expected:
        raise ValueError(
            f"`weight` must have shape [O, {channels}, k, k] or [{batch}, O, {channels}, k, k], "
            f"got {list(weight.shape)}"
        )
    if implementation == "auto":
        implementation = choose_implementation(x, weight, style)
    elif implementation not in ("weights", "activations"):
        raise ValueError(
            f"`implementation` must be 'auto', 'weights' or 'activations', got {implementation!r}"
        )
    if implementation == "activations" and per_sample:
        raise ValueError(
            "`implementation` 'activations' needs one `weight` for all samples; use 'weights'"
        )
    out_scale: Tensor | None = None  # [B, O]
    if demodulate:
        out_scale = demodulation(weight, style, eps)
        out_scale = (out_scale * gain if gain != 1.0 else out_scale).to(x.dtype)
    elif gain != 1.0:
        style = style * gain
    style, weight = style.to(x.dtype), weight.to(x.dtype)
    padding = weight.shape[-1] // 2
    if implementation == "activations":
        y = resample_conv2d(
            x * style[:, :, None, None],
            weight,
            kernel,
            up,
            down,
            padding,
            flip=up > 1,
            bias=bias if out_scale is None else None,
        )
        if out_scale is None:
            return y
        y = y * out_scale[:, :, None, None]
        return y if bias is None else y.add_(bias[:, None, None])
    kernels = (weight if per_sample else weight[None]) * style[:, None, :, None, None]
    if out_scale is not None:
        kernels = kernels * out_scale[:, :, None, None, None]

    def convolve(sample: Tensor, k: Tensor) -> Tensor:
        return resample_conv2d(sample, k, kernel, up, down, padding, flip=up > 1, bias=bias)

    if x.shape[0] == 1:
        return convolve(x, kernels[0])
    if x.shape[0] == 0:
        return convolve(x, kernels.new_zeros(kernels.shape[1:]))
    pairs = zip(x.split(1), kernels.unbind(), strict=True)
    return torch.cat([convolve(sample, k) for sample, k in pairs])


def choose_implementation(
    x: Tensor, weight: Tensor, style: Tensor
) -> Literal["weights", "activations"]:
    """Which formulation :func:`modulated_conv2d` takes by itself.

    Scaling kernels touches fewer numbers than scaling the activations twice: one to one and a half
    times as fast on a CPU (``benchmarks/generator``, batches 1 and 3). But when a gradient for the
    style is wanted and none for the kernel, as in an inversion, a scaled kernel would cost a whole
    weight-gradient convolution that nobody needs: then the activations are faster, up to two and a
    half times. Large batches, other devices and traced graphs take one convolution for all.
    """
    if weight.ndim == 5:
        return "weights"
    if torch.is_grad_enabled() and style.requires_grad and not weight.requires_grad:
        return "activations"
    if x.shape[0] == 1:
        return "weights"
    if (
        torch.compiler.is_compiling() or x.device.type != "cpu"
    ):  # asked first: no guard on the batch
        return "activations"
    return "weights" if x.shape[0] <= 8 else "activations"


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sides: tuple[int, int, int, int] = (0, 0, 0, 0),
    stride: int = 1,
) -> Tensor:
    x, (rows, columns) = _pad(x, sides)
    if rows != columns:
        return F.conv2d(x, weight, bias, stride, (rows, columns))
    if bias is not None and torch.is_grad_enabled() and weight.requires_grad:
        return conv2d(x, weight, stride, rows).add_(bias[:, None, None])
    return F.conv2d(x, weight, bias, stride, rows)


def _filter(x: Tensor, kernel: Tensor, sides: Padding, bias: Tensor | None) -> Tensor:
    """Low-pass filter with the bias inside: no further pass over the output."""
    channels = x.shape[1]
    weight = kernel.to(x.dtype).flip(0, 1).expand(channels, 1, -1, -1)
    x, pad = _pad(x, _sides(sides))
    return F.conv2d(x, weight, bias, 1, pad, groups=channels)


def _add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def _pad(x: Tensor, sides: tuple[int, int, int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Leave symmetric padding to the convolution, which needs no copy for it."""
    left, right, top, bottom = sides
    if left == right >= 0 and top == bottom >= 0:
        return x, (top, left)
    return F.pad(x, sides), (0, 0)


def _sides(padding: Padding) -> tuple[int, int, int, int]:
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) != 4:
        raise ValueError(f"`padding` must be a number or (left, right, top, bottom), got {padding}")
    left, right, top, bottom = padding
    return left, right, top, bottom


def _pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}")
    return x, y
