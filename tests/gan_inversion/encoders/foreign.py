"""The released encoders written out slowly, on state dicts under their own names.

Shapes, weights to fill them with, and a forward pass made of one functional call after the other:
the definition that the modules and the converters are compared with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

UNITS = {18: [2, 2, 2, 2], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3]}
WIDTHS = [64, 128, 256, 512]
State = dict[str, Tensor]
FACE_LAYERS = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24)
"""What HyperStyle tunes for faces."""


def prefixed(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def _norm(name: str, width: int, affine: bool = True) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if affine:
        shapes = {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes | {
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }


def trunk_shapes(depth: int, squeeze: bool = True, in_channels: int = 3) -> dict:
    shapes = {"input_layer.0.weight": (64, in_channels, 3, 3), "input_layer.2.weight": (64,)}
    shapes |= _norm("input_layer.1", 64)
    before, unit = 64, 0
    for count, width in zip(UNITS[depth], WIDTHS, strict=True):
        for _ in range(count):
            name = f"body.{unit}"
            if before != width:
                shapes[f"{name}.shortcut_layer.0.weight"] = (width, before, 1, 1)
                shapes |= _norm(f"{name}.shortcut_layer.1", width)
            shapes |= _norm(f"{name}.res_layer.0", before)
            shapes[f"{name}.res_layer.1.weight"] = (width, before, 3, 3)
            shapes[f"{name}.res_layer.2.weight"] = (width,)
            shapes[f"{name}.res_layer.3.weight"] = (width, width, 3, 3)
            shapes |= _norm(f"{name}.res_layer.4", width)
            if squeeze:
                shapes[f"{name}.res_layer.5.fc1.weight"] = (width // 16, width, 1, 1)
                shapes[f"{name}.res_layer.5.fc2.weight"] = (width, width // 16, 1, 1)
            before, unit = width, unit + 1
    return shapes


def pyramid_shapes(num_ws: int, w_dim: int) -> dict:
    shapes = {
        "latlayer1.weight": (512, 256, 1, 1), "latlayer1.bias": (512,),
        "latlayer2.weight": (512, 128, 1, 1), "latlayer2.bias": (512,),
    }  # fmt: skip
    for row in range(num_ws):
        for conv in range(4 if row < 3 else 5 if row < 7 else 6):
            before = 512 if conv == 0 else w_dim
            shapes[f"styles.{row}.convs.{2 * conv}.weight"] = (w_dim, before, 3, 3)
            shapes[f"styles.{row}.convs.{2 * conv}.bias"] = (w_dim,)
        shapes[f"styles.{row}.linear.weight"] = (w_dim, w_dim)
        shapes[f"styles.{row}.linear.bias"] = (w_dim,)
    return shapes


def linear_shapes(w_dim: int) -> dict:
    return {"linear.weight": (w_dim, 512), "linear.bias": (w_dim,)}


def face_shapes(side: int, width: int, affine: bool = True) -> dict:
    return {
        **_norm("output_layer.0", 512),
        "output_layer.3.weight": (width, 512 * side * side),
        "output_layer.3.bias": (width,),
        **_norm("output_layer.4", width, affine),
    }


def decoder_shapes(resolution: int) -> dict:
    """Enough of rosinality's names to tell the resolution."""
    shapes = {"input.input": (1, 8, 4, 4)}
    side, i = 8, 0
    while side <= resolution:
        shapes |= {f"convs.{i}.noise.weight": (1,), f"convs.{i + 1}.noise.weight": (1,)}
        side, i = side * 2, i + 2
    return shapes


def drawn(shapes: dict, dtype: torch.dtype = torch.float32, seed: int = 0) -> State:
    """Weights for which no activation vanishes or explodes."""
    rng = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=rng, dtype=dtype)
        if name.endswith("running_var"):
            value = 0.9 + 0.2 * value.abs()
        elif len(shape) == 1:
            centre = 0.25 if ".2.weight" in name else 1.0 if name.endswith("weight") else 0.0
            value = centre + 0.1 * value
        elif not name.endswith("linear.weight"):
            value = value * (value[0].numel() or 1) ** -0.5
        state[name] = value
    return state


def zeros(shapes: dict) -> State:
    """The same layout without its memory: one element stands for all."""
    return {
        name: torch.tensor(0).expand(shape) if name.endswith("num_batches_tracked")
        else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }  # fmt: skip


def _normed(x: Tensor, state: State, name: str) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(
        x, mean, var, state.get(f"{name}.weight"), state.get(f"{name}.bias"), eps=1e-5
    )


def trunk(x: Tensor, state: State, depth: int) -> list[Tensor]:
    """The maps after every stage."""
    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = F.prelu(_normed(x, state, "input_layer.1"), state["input_layer.2.weight"])
    ends, unit = [], 0
    for count in UNITS[depth]:
        for i in range(count):
            stride, name = 2 if i == 0 else 1, f"body.{unit}"
            if f"{name}.shortcut_layer.0.weight" in state:
                short = F.conv2d(x, state[f"{name}.shortcut_layer.0.weight"], stride=stride)
                short = _normed(short, state, f"{name}.shortcut_layer.1")
            else:
                short = F.max_pool2d(x, 1, stride)
            y = _normed(x, state, f"{name}.res_layer.0")
            y = F.conv2d(y, state[f"{name}.res_layer.1.weight"], padding=1)
            y = F.prelu(y, state[f"{name}.res_layer.2.weight"])
            y = F.conv2d(y, state[f"{name}.res_layer.3.weight"], padding=1, stride=stride)
            y = _normed(y, state, f"{name}.res_layer.4")
            if f"{name}.res_layer.5.fc1.weight" in state:
                gate = F.adaptive_avg_pool2d(y, 1)
                gate = F.relu(F.conv2d(gate, state[f"{name}.res_layer.5.fc1.weight"]))
                gate = F.conv2d(gate, state[f"{name}.res_layer.5.fc2.weight"])
                y = y * torch.sigmoid(gate)
            x, unit = y + short, unit + 1
        ends.append(x)
    return ends


def _linear(x: Tensor, state: State, name: str) -> Tensor:
    weight = state[f"{name}.weight"]
    return x @ (weight / weight.shape[1] ** 0.5).T + state[f"{name}.bias"]


def _row(x: Tensor, state: State, row: int) -> Tensor:
    i = 0
    while f"styles.{row}.convs.{i}.weight" in state:
        name = f"styles.{row}.convs.{i}"
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1)
        x = F.leaky_relu(x)
        i += 2
    return _linear(x.flatten(1), state, f"styles.{row}.linear")


def codes(ends: list[Tensor], state: State, num_ws: int, stage: int | None = None) -> Tensor:
    """pSp's code, or e4e's at a stage, from what :func:`trunk` returns."""
    _, c1, c2, c3 = ends
    maps = [c3]
    for name, lateral in (("latlayer1", c2), ("latlayer2", c1)):
        y = F.conv2d(lateral, state[f"{name}.weight"], state[f"{name}.bias"])
        up = F.interpolate(maps[-1], y.shape[2:], mode="bilinear", align_corners=True)
        maps.append(up + y)
    rows = []
    for row in range(num_ws):
        value = _row(maps[0 if row < 3 else 1 if row < 7 else 2], state, row)
        if stage is not None and row:
            value = rows[0] + value if row <= stage else rows[0]
        rows.append(value)
    return torch.stack(rows, 1)


def w_codes(ends: list[Tensor], state: State, num_ws: int) -> Tensor:
    w = _linear(F.adaptive_avg_pool2d(ends[-1], 1).flatten(1), state, "linear")
    return torch.stack([w] * num_ws, 1)


def embedding(x: Tensor, state: State, depth: int) -> Tensor:
    y = _normed(trunk(x, state, depth)[-1], state, "output_layer.0").flatten(1)
    y = F.linear(y, state["output_layer.3.weight"], state["output_layer.3.bias"])
    y = _normed(y, state, "output_layer.4")
    return y / y.norm(dim=1, keepdim=True)
