"""Resampling, bias and activation, modulated convolution: against loops and definitions."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gan_inversion.generators.stylegan2 import (
    bias_act,
    fir_kernel,
    modulated_conv2d,
    resample_conv2d,
    upfirdn2d,
)
from gan_inversion.generators.stylegan2.conv import conv2d, conv_transpose2d

ASYMMETRIC = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
CL = torch.channels_last


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def slow_upfirdn2d(x: Tensor, kernel: Tensor, up: int, down: int, sides: tuple) -> Tensor:
    """Pixel by pixel, from the definition."""
    left, right, top, bottom = sides
    kh, kw = kernel.shape
    height, width = x.shape[2] * up + top + bottom, x.shape[3] * up + left + right
    out = x.new_zeros(*x.shape[:2], (height - kh) // down + 1, (width - kw) // down + 1)
    for i, j, a, b in itertools.product(*map(range, (*out.shape[2:], kh, kw))):
        row, column = i * down + a - top, j * down + b - left
        if row % up == column % up == 0 and row >= 0 and column >= 0:
            row, column = row // up, column // up
            if row < x.shape[2] and column < x.shape[3]:
                out[:, :, i, j] += x[:, :, row, column] * kernel[kh - 1 - a, kw - 1 - b]
    return out


def slow_modulated(x, weight, style, demodulate, up, down, kernel) -> Tensor:
    """Sample by sample: scaled kernel, zeros inserted, convolution, filter, every n-th pixel."""
    rows = []
    for b in range(x.shape[0]):
        w = weight * style[b][None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        rows.append(slow_resample(x[b : b + 1], w.flip(2, 3) if up > 1 else w, kernel, up, down))
    return torch.cat(rows)


def slow_resample(x: Tensor, w: Tensor, kernel: Tensor, up: int, down: int) -> Tensor:
    size, pad = kernel.shape[0], w.shape[-1] // 2
    low = high = pad
    if up > 1:
        low, high = low + (size + up - 1) // 2, high + (size - up) // 2
        x = slow_upfirdn2d(x, kernel * up**2, up, 1, (low, high, low, high))
        return torch.nn.functional.conv2d(x, w)
    if down > 1:
        low, high = low + (size - down + 1) // 2, high + (size - down) // 2
        x = slow_upfirdn2d(x, kernel, 1, 1, (low, high, low, high))
        return torch.nn.functional.conv2d(x, w, stride=down)
    return torch.nn.functional.conv2d(x, w, padding=pad)


def test_upfirdn2d_by_hand() -> None:
    x = torch.tensor([[[[1.0, 10.0]]]])
    kernel = torch.tensor([[1.0, 2.0]])
    # a true convolution: 1*2 is what the first pixel leaves behind, not 1*1
    assert upfirdn2d(x, kernel, padding=(1, 1, 0, 0)).flatten().tolist() == [1.0, 12.0, 20.0]
    flipped = upfirdn2d(x, kernel, padding=(1, 1, 0, 0), flip=True)
    assert flipped.flatten().tolist() == [2.0, 21.0, 10.0]
    up = upfirdn2d(x, torch.ones(1, 1), up=(2, 1))
    assert up.flatten().tolist() == [1.0, 0.0, 10.0, 0.0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CL])
@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (2, 1, 2, 1), (-1, 2, 3, -2), (1, 1, 1, 1)])
def test_upfirdn2d_against_its_definition(sides, up, down, memory_format) -> None:
    x = random(2, 3, 5, 6).contiguous(memory_format=memory_format)
    expected = slow_upfirdn2d(x, ASYMMETRIC, up, down, sides)
    assert_close(upfirdn2d(x, ASYMMETRIC, up, down, sides), expected)
    flipped = upfirdn2d(x, ASYMMETRIC.flip(0, 1), up, down, sides, flip=True, gain=3.0)
    assert_close(flipped, 3 * expected)


def test_upfirdn2d_separable_and_linear() -> None:
    x, y, taps = random(1, 2, 7, 6), random(1, 2, 7, 6), torch.tensor([1.0, 4.0, 2.0]).double()
    sides = (2, 1, 0, 3)
    both = upfirdn2d(x, torch.outer(taps, taps), 2, 1, sides, gain=0.5)
    assert_close(upfirdn2d(x, taps, 2, 1, sides, gain=0.5), both)
    total = upfirdn2d(x + 2 * y, ASYMMETRIC, padding=1)
    assert_close(
        total, upfirdn2d(x, ASYMMETRIC, padding=1) + 2 * upfirdn2d(y, ASYMMETRIC, padding=1)
    )


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 1]])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2)])
def test_resample_conv2d_against_its_definition(up, down, size, taps) -> None:
    x, w, bias = random(2, 3, 6, 8), random(4, 3, size, size), random(4)
    kernel = fir_kernel(taps).double()
    got = resample_conv2d(x, w, kernel, up, down, size // 2, bias=bias)
    assert_close(got, slow_resample(x, w, kernel, up, down) + bias[:, None, None])
    assert got.shape[2:] == (6 * up // down, 8 * up // down)


@pytest.mark.parametrize("implementation", ["auto", "weights", "activations"])
@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv2d_against_its_definition(demodulate, up, down, implementation) -> None:
    x, w, style, bias = random(3, 4, 6, 6), random(5, 4, 3, 3), random(3, 4), random(5)
    kernel = fir_kernel([1, 3, 3, 1]).double()
    expected = slow_modulated(x, w, style, demodulate, up, down, kernel)
    options = {"demodulate": demodulate, "up": up, "down": down, "kernel": kernel}
    options |= {"implementation": implementation, "bias": bias, "gain": 1.5}
    got = modulated_conv2d(x, w, style, **options)
    assert_close(got, 1.5 * expected + bias[:, None, None])
    if implementation != "activations":
        per_sample = modulated_conv2d(x, w[None].expand(3, -1, -1, -1, -1), style, **options)
        assert_close(per_sample, got)


@pytest.mark.parametrize("implementation", ["weights", "activations"])
@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2)])
def test_modulated_conv2d_gradients_twice(up, down, implementation) -> None:
    kernel = fir_kernel([1, 3, 3, 1]).double()
    inputs = [random(2, 2, 4, 4), random(3, 2, 3, 3), random(2, 2) + 2, random(3)]
    inputs = [t.requires_grad_() for t in inputs]

    def op(x, w, s, b):
        options = {"up": up, "down": down, "kernel": kernel, "implementation": implementation}
        return modulated_conv2d(x, w, s, bias=b, gain=1.3, **options)

    assert torch.autograd.gradcheck(op, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(op, inputs, fast_mode=True)


def test_upfirdn2d_and_bias_act_gradients_twice() -> None:
    x = random(1, 2, 5, 4).requires_grad_()
    for op in (
        lambda t: upfirdn2d(t, ASYMMETRIC, 2, 1, (2, 1, 0, 3)),
        lambda t: upfirdn2d(t, ASYMMETRIC, 1, 2, 2),
        lambda t: bias_act(t, t.mean((0, 2, 3)), "swish", clamp=3.0),
        lambda t: bias_act(t, None, "lrelu"),
    ):
        assert torch.autograd.gradcheck(op, [x], fast_mode=True)
        assert torch.autograd.gradgradcheck(op, [x], fast_mode=True)


@pytest.mark.parametrize(
    "transposed, stride, padding", [(False, 1, 1), (True, 2, 0), (False, 2, 0)]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_weight_gradient(transposed, stride, padding, batch) -> None:
    ours = conv_transpose2d if transposed else conv2d
    theirs = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
    # more rows than fit into a block; the last block is not full
    x = torch.randn(batch, 33, 61, 65).contiguous(memory_format=CL)
    w = torch.randn(33, 33, 3, 3) / 17
    results = []
    for op in (ours, lambda x, w, s, p: theirs(x, w, None, s, p)):
        a, b = (
            x.clone(memory_format=torch.preserve_format).requires_grad_(),
            w.clone().requires_grad_(),
        )
        y = op(a, b, stride, padding)
        first = torch.autograd.grad(y.square().sum() / y.numel(), (a, b), create_graph=True)
        penalty = first[0].square().sum() * 1e3 + first[1].square().sum()
        results.append((y, *first, *torch.autograd.grad(penalty, (a, b))))
    assert type(results[0][0].grad_fn).__name__ in ("_ConvBackward", "_ConvTransposeBackward")
    for got, expected in zip(*results, strict=True):
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_bfloat16_stays_and_is_near() -> None:
    x, w, s = torch.randn(2, 8, 8, 8), torch.randn(8, 8, 3, 3), torch.randn(2, 8)
    full = modulated_conv2d(x, w, s)
    for implementation in ("weights", "activations"):
        half = modulated_conv2d(x.bfloat16(), w, s, implementation=implementation)
        assert half.dtype == torch.bfloat16
        assert (half.float() - full).abs().max() < 0.03 * full.abs().max()


def test_bad_arguments_are_named() -> None:
    x, w, s = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3), torch.randn(2, 3)
    for call, message in (
        (lambda: upfirdn2d(x[0], ASYMMETRIC), r"`x` must have shape \[B, C, H, W\]"),
        (lambda: upfirdn2d(x, ASYMMETRIC[None]), "`kernel` must"),
        (lambda: upfirdn2d(x, ASYMMETRIC, padding=-2), "nothing would come out"),
        (lambda: upfirdn2d(x, ASYMMETRIC, up=0), "`up` must be at least 1"),
        (lambda: upfirdn2d(x, ASYMMETRIC, padding=(1, 2)), "`padding` must be"),
        (lambda: bias_act(x, torch.zeros(4)), "`bias` must"),
        (lambda: bias_act(x, None, "gelu"), "`activation` must be one of"),
        (lambda: resample_conv2d(x, w, None, up=2), "`kernel` must be"),
        (lambda: modulated_conv2d(x, w, s[:1]), "`style` must"),
        (lambda: modulated_conv2d(x, w[:, :2], s), "`weight` must"),
        (lambda: modulated_conv2d(x, w, s, implementation="fast"), "`implementation` must"),
        (lambda: fir_kernel([]), "`taps` must"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="use 'weights'"):
        modulated_conv2d(x, w.expand(2, -1, -1, -1, -1), s, implementation="activations")
