"""Checks of arguments, made once at the public door."""

import math

import torch
from torch import Tensor

from hypergraph._numerics import in_autocast


def is_eager() -> bool:
    """Tell whether values may be looked at: not while torch.compile or torch.export traces."""
    return not torch.compiler.is_compiling()


def check_float(name: str, tensor: object) -> Tensor:
    """Return ``tensor`` if it is a floating-point tensor, raise TypeError otherwise."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(
            f"`{name}` must be floating point, got {tensor.dtype}; convert it with .float()"
        )
    return tensor


def check_integer(name: str, tensor: object) -> Tensor:
    """Return ``tensor`` as int64 if it is an integer tensor, raise TypeError otherwise."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"`{name}` must hold integers, got {tensor.dtype}; convert it with .long()")
    return tensor.long()


def check_device(name: str, tensor: Tensor, device: torch.device, owner: str) -> None:
    """Raise ValueError unless ``tensor`` is on ``device``, where ``owner`` is."""
    if tensor.device != device:
        raise ValueError(
            f"`{name}` must be on the device of `{owner}`, {device}, got {tensor.device}; "
            f"move it with .to({str(device)!r})"
        )


def check_index_range(name: str, index: Tensor, size: int, size_name: str) -> None:
    """Raise ValueError unless every entry of ``index`` lies in [0, size)."""
    if not is_eager() or index.numel() == 0 or index.is_meta:
        return
    low, high = (int(v) for v in torch.aminmax(index))
    if low < 0 or high >= size:
        worst = low if low < 0 else high
        raise ValueError(
            f"`{name}` must lie in [0, {size_name}={size}), got {worst}; "
            f"correct the index or pass a larger `{size_name}`"
        )


def check_non_negative(name: str, values: Tensor | None) -> None:
    """Raise ValueError if any value is negative, infinite or NaN."""
    if values is None or not is_eager() or values.numel() == 0 or values.is_meta:
        return
    lowest, highest = (float(v) for v in torch.aminmax(values.detach()))
    if not lowest >= 0:
        raise ValueError(
            f"`{name}` must be non-negative, got a smallest value of {lowest}; "
            "degrees would be undefined, pass for example its absolute value"
        )
    if highest == math.inf:
        raise ValueError(f"`{name}` must be finite, got infinity: degrees would be undefined")


def check_non_negative_number(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= ``value`` < infinity."""
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be non-negative and finite, got {value}")


def check_positive_number(name: str, value: object) -> float:
    """Return ``value`` as a float if 0 < value < infinity, raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {value}")
    return float(value)


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` if it is an int of at least 1, raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}")
    return value


def check_finite_number(name: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number, raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if not -math.inf < value < math.inf:
        raise ValueError(f"`{name}` must be finite, got {value}")
    return float(value)


def check_fraction(name: str, value: object) -> float:
    """Return ``value`` as a float if 0 <= value <= 1, raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must lie in [0, 1], got {value}")
    return float(value)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {expected}, got {value!r}")


def check_features(x: object, channels: int | None = None) -> Tensor:
    """Return vertex features [N, C] or [B, N, C] of the right type and width, raise otherwise."""
    x = check_float("x", x)
    if x.dim() not in (2, 3):
        raise ValueError(
            f"`x` must have shape [N, C] or [B, N, C], got {list(x.shape)}; "
            "turn a feature map [B, C, H, W] into vertices with x.flatten(2).mT"
        )
    if channels is not None and x.shape[-1] != channels:
        raise ValueError(
            f"`x` must have {channels} channels in its last dimension, got shape {list(x.shape)}"
        )
    return x


def check_like(name: str, tensor: object, x: Tensor) -> Tensor:
    """Return ``tensor`` if it has the shape, device and (autocast apart) dtype of ``x``."""
    tensor = check_float(name, tensor)
    if tensor.shape != x.shape:
        raise ValueError(
            f"`{name}` must have the shape of `x`, {list(x.shape)}, got {list(tensor.shape)}"
        )
    check_device(name, tensor, x.device, "x")
    if tensor.dtype != x.dtype and not in_autocast(x.device):
        raise TypeError(
            f"`{name}` must have the dtype of `x`, {x.dtype}, got {tensor.dtype}; "
            "convert one of them with .to()"
        )
    return tensor


def check_layer_dtype(x: Tensor, weight: Tensor) -> None:
    """Raise TypeError unless a linear layer with this weight takes ``x`` (autocast may cast)."""
    if x.dtype != weight.dtype and not in_autocast(x.device):
        raise TypeError(
            f"`x` must have the dtype of the layer's parameters, {weight.dtype}, got {x.dtype}; "
            "convert one of them with .to()"
        )


def check_batch(batch: Tensor | None, x: Tensor) -> Tensor | None:
    """Return the ``batch`` vector as int64 if it fits ``x``, raise otherwise."""
    if batch is None:
        return None
    batch = check_integer("batch", batch)
    if x.dim() != 2:
        raise ValueError(
            f"`batch` goes with `x` of shape [N, C], got {list(x.shape)}; "
            "leave it out for [B, N, C], where every sample has a hypergraph of its own"
        )
    if batch.shape != x.shape[:1]:
        raise ValueError(
            f"`batch` must have shape [{x.shape[0]}], one entry per row of `x`, "
            f"got {list(batch.shape)}"
        )
    check_device("batch", batch, x.device, "x")
    if is_eager() and batch.numel() and not batch.is_meta and int(batch.min()) < 0:
        raise ValueError(f"`batch` must be non-negative, got {int(batch.min())}")
    return batch
