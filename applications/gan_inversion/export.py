"""Generators, and the edit of a photograph, as ONNX files that are checked before they are kept.

``torch.onnx.export`` says what a network computes in ONNX's operators; whether a runtime computes
the same is another question. Here it is asked every time: onnxruntime runs the new file for several
batch sizes, and a file whose numbers are not PyTorch's never gets its name.

Needs the extra ``export`` (onnx, onnxscript, onnxruntime).
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypergraph import KNN
from hypergraph._files import checked_path

from .checkpoints.files import workplace
from .errors import GanInversionError
from .generators import Generator
from .inversion import Inversion, tuned_generator
from .methods.dhfusion import DHFusion

TOLERANCE = 1e-4
"""Largest difference to PyTorch that is accepted, relative to an output's largest value."""

EDIT_TOLERANCE = 1e-2
"""The same for the edit of a photograph: its hyperedges are chosen by comparing distances, and one
of two equally near neighbours gives a slightly different mask."""

# protobuf messages end at 2 GB; weights of larger networks go into a second file.
_ONE_FILE = 1_500_000_000
_MISSING = "networks are exported and checked with onnx, onnxscript and onnxruntime"


@dataclass(frozen=True)
class Exported:
    """What was written, and how close it is.

    Attributes:
        path: the ONNX file.
        files: all files of it: one, or two where the weights lie beside (keep their names).
        inputs: name -> shape; ``"batch"`` is any number from 1 up.
        outputs: the same.
        difference: output -> largest difference between onnxruntime and PyTorch over the batches
            that were run, relative to the output's largest value.
        batches: their sizes.
    """

    path: Path
    files: tuple[Path, ...]
    inputs: dict[str, tuple[str | int, ...]]
    outputs: dict[str, tuple[str | int, ...]]
    difference: dict[str, float]
    batches: tuple[int, ...]

    def __str__(self) -> str:
        def line(kind: str, shapes: Mapping[str, tuple[str | int, ...]]) -> str:
            return f"  {kind}: " + ", ".join(
                f"{name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items()
            )

        size = sum(path.stat().st_size for path in self.files) / 1e6
        worst = ", ".join(f"{name} {value:.1e}" for name, value in self.difference.items())
        return "\n".join(
            [
                f"{', '.join(map(str, self.files))} ({size:.1f} MB)",
                line("inputs", self.inputs),
                line("outputs", self.outputs),
                "  largest difference from PyTorch, relative to the largest value, for batches of "
                f"{', '.join(map(str, self.batches))}: {worst}",
            ]
        )


class _Render(nn.Module):
    def __init__(self, generator: Generator, noise: str, resolution: int) -> None:
        super().__init__()
        self.generator, self.noise, self.resolution = generator, noise, resolution

    def forward(self, w_plus: Tensor) -> Tensor:
        image = self.generator.synthesis(w_plus, self.resolution, self.noise)
        assert isinstance(image, Tensor)
        return image


class _Edit(nn.Module):
    """DHFusion's edit from tensors to tensors; the same code as the method's own."""

    def __init__(self, method: DHFusion, delta: dict[str, Tensor] | None) -> None:
        super().__init__()
        self.generator = tuned_generator(method.generator, delta)
        self.dh_net = copy.deepcopy(method.dh_net)
        # The search by its definition; see `_decompositions` for other operators of ours.
        for module in self.dh_net.modules():
            if isinstance(module, KNN):
                module.implementation = "reference"
        self.ef_net, self.trunk = method.ef_net, method.trunk
        self.fusion = method.fusion

    def forward(
        self, photo: Tensor, inverted: Tensor, w_plus: Tensor, change: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        method = DHFusion(self.generator, self.fusion, self.dh_net, self.ef_net, self.trunk)
        images, plain, mask, _ = method.outputs(photo, Inversion(w_plus, inverted), change)
        return images[self.fusion], plain, mask


def export_generator(
    generator: Generator,
    path: str | os.PathLike[str],
    *,
    noise: str = "const",
    resolution: int | None = None,
    tolerance: float = TOLERANCE,
    batches: Sequence[int] = (1, 3),
    external_data: bool | None = None,
) -> Exported:
    """Write ``synthesis`` as an ONNX file: ``w_plus [batch, num_ws, w_dim]`` to ``image``.

    Args:
        generator: any of this project's, with its weights.
        path: ends in ``.onnx``.
        noise: ``"const"`` (the stored planes) or ``"none"``.
        resolution: one of ``generator.resolutions``; default: the full one.
        tolerance: largest difference to PyTorch that is accepted, relative to the largest value.
        batches: sizes that onnxruntime is run with; the file takes any.
        external_data: keep the weights in a file beside; None: only above 1.5 GB.

    Returns:
        What was written, and the largest difference. The image ``[batch, 3, R, R]`` is nominally
        in [-1, 1], not clamped.

    Raises:
        ImportError: the extra ``export`` is not installed.
        ValueError: an argument is not one of the above.
        GanInversionError: the runtime's numbers are not PyTorch's; nothing is written.
        OSError: the folder does not exist, the disk is full, ...; an old file is kept.

    Example:
        >>> import tempfile
        >>> from gan_inversion.generators import StyleGAN2Config, StyleGAN2Generator
        >>> g = StyleGAN2Generator(StyleGAN2Config(8, (4, 4), z_dim=8, w_dim=8))
        >>> path = tempfile.mkdtemp() + "/g.onnx"
        >>> export_generator(g, path).inputs                          # doctest: +SKIP
        {'w_plus': ('batch', 4, 8)}
    """
    if noise not in ("const", "none"):
        raise ValueError(f"`noise` must be 'const' or 'none' in a file, got {noise!r}")
    side = generator.resolution if resolution is None else resolution
    if side not in generator.resolutions:
        raise ValueError(f"`resolution` must be one of {generator.resolutions}, got {side}")

    def inputs(batch: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        shape = (batch, generator.num_ws, generator.w_dim)
        spread = torch.randn(shape, generator=rng).to(generator.w_avg) * generator.w_std
        return (generator.w_avg + spread,)

    return _export(
        _Render(generator, noise, side).eval(),
        path,
        inputs,
        ("w_plus",),
        ("image",),
        tolerance,
        batches,
        external_data,
    )


def export_edit(
    method: DHFusion,
    path: str | os.PathLike[str],
    *,
    generator_delta: dict[str, Tensor] | None = None,
    tolerance: float = EDIT_TOLERANCE,
    batches: Sequence[int] = (1, 2),
    external_data: bool | None = None,
) -> Exported:
    """Write DHFusion's edit as one ONNX file: generator, DH-Net's mask and EF-Net's fusion.

    ======== ======================== ===========================================================
    input    shape                    what
    ======== ======================== ===========================================================
    photo    [batch, 3, R, R]         the aligned photograph I, in [-1, 1]
    inverted [batch, 3, R, R]         its inversion I', in [-1, 1]
    w_plus   [batch, num_ws, w_dim]   its code
    change   [batch, num_ws, w_dim]   sum of strength * direction
    ======== ======================== ===========================================================

    Outputs: ``image`` (the result), ``plain`` (the edit T of the inversion), both
    ``[batch, 3, R, R]`` in [-1, 1], and the fusion ``mask [batch, 1, R, R]`` in [0, 1].

    Finding and aligning the face, the inversion (an optimisation), directions by name, pasting back
    and the report stay in Python.

    Args:
        method: with its networks; ``method.fusion`` is what ``image`` shows.
        path: ends in ``.onnx``.
        generator_delta: weights that the inversion of *one* photograph tuned
            (``Inversion.generator_delta``); the file then is for that photograph.
        tolerance: as for :func:`export_generator`.
        batches: as for :func:`export_generator`.
        external_data: as for :func:`export_generator`.

    Raises:
        ImportError, ValueError, GanInversionError, OSError: as for :func:`export_generator`.

    Example:
        >>> from gan_inversion.generators import load_default_generator
        >>> method = DHFusion(load_default_generator())               # doctest: +SKIP
        >>> print(export_edit(method, "edit.onnx"))                   # doctest: +SKIP
    """
    generator = tuned_generator(method.generator, generator_delta)
    code = (generator.num_ws, generator.w_dim)

    def inputs(batch: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        # Of real pictures: noise would decide nothing about neighbours that are features.
        w = generator.sample_w(batch, generator=rng, truncation=0.7)
        w_plus = w[:, None].repeat(1, code[0], 1)
        other = generator.sample_w(batch, generator=rng, truncation=0.7)
        change = 0.3 * (other - w)[:, None].repeat(1, code[0], 1)
        inverted = generator.synthesis(w_plus).clamp(-1, 1)  # type: ignore[union-attr]
        noise = torch.randn(inverted.shape, generator=rng).to(inverted)
        return (inverted + 0.05 * noise).clamp(-1, 1), inverted, w_plus, change

    return _export(
        _Edit(method, generator_delta).eval(),
        path,
        inputs,
        ("photo", "inverted", "w_plus", "change"),
        ("image", "plain", "mask"),
        tolerance,
        batches,
        external_data,
    )


def _export(
    network: nn.Module,
    path: str | os.PathLike[str],
    inputs: Any,  # (batch, random generator) -> the network's arguments
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    tolerance: float,
    batches: Sequence[int],
    external_data: bool | None,
) -> Exported:
    target = checked_path(path)
    if target.suffix != ".onnx":
        raise ValueError(f"`path` must end in .onnx, got {target.name!r}")
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be above 0, got {tolerance}")
    if not batches or any(not isinstance(size, int) or size < 1 for size in batches):
        raise ValueError(f"`batches` must be sizes from 1 up, got {list(batches)}")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"{_MISSING}: pip install 'hypergraph-nn[export]'") from error
    devices = {t.device.type for t in (*network.parameters(), *network.buffers())}
    if devices != {"cpu"}:
        raise ValueError(f"the networks must be on the CPU to be exported, not on {devices}")
    target = Path(os.path.realpath(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"`path` must lie in a folder that exists, got {target}")
    if target.is_dir():  # found out at the end otherwise, after a minute
        raise IsADirectoryError(f"`path` must name a file, got the folder {target}")
    weights = sum(t.nbytes for t in (*network.parameters(), *network.buffers()))
    beside = weights > _ONE_FILE if external_data is None else external_data
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        program = _traced(network, inputs(2, rng), input_names, output_names)
        with workplace(target) as folder:
            draft = folder / target.name
            data = f"{target.name}.{secrets.token_hex(8)}.data" if beside else None
            importlib.import_module("onnx_ir").save(program.model, draft, external_data=data)
            del program
            if data is not None and not (folder / data).exists():
                data = None  # tensors of a few numbers stay in the graph
            tensors = ((size, inputs(size, rng)) for size in batches)
            found = _compare(network, draft, tensors, input_names, output_names)
            worst = max(found[2], key=lambda name: found[2][name])
            if not found[2][worst] <= tolerance:  # NaN is no agreement, either
                raise GanInversionError(
                    f"{target}: not written: onnxruntime's `{worst}` differs from PyTorch's by "
                    f"{found[2][worst]:.1e} of the largest value, `tolerance` is {tolerance:.1e}"
                )
            _publish(draft, target, data)
    files = (target,) if data is None else (target, target.with_name(data))
    return Exported(target, files, *found, tuple(batches))


def _traced(
    network: nn.Module,
    example: tuple[Tensor, ...],
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
) -> Any:
    # The exporter reports that torchvision is absent, which here is a rule, and its own habits;
    # neither tells a user anything.
    loggers = [
        logging.getLogger(name)
        for name in ("torch.onnx._internal.exporter._registration", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
            warnings.filterwarnings("ignore", ".*The axis name: batch will not be used.*")
            shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in example)
            exported = torch.export.export(network, example, dynamic_shapes=shapes)
            program = torch.onnx.export(
                exported.run_decompositions(_decompositions()),
                dynamo=True,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=tuple({0: "batch"} for _ in example),
                custom_translation_table={
                    torch.ops.prims.frexp.default: _frexp,
                    torch.ops.aten._cdist_forward.default: _cdist,
                    torch.ops.aten.sort.stable: _stable_sort,
                },
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return program


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Our own operators, by their definitions: no other runtime has them."""
    from hypergraph_kernels.gather_reduce import reference

    def transposed(
        y: Tensor,
        index: Tensor,
        weights: Tensor | None,
        columns: Tensor,
        offsets: Tensor,
        *others: Any,
    ) -> Tensor:
        return reference.gather_reduce_transposed(y, index, offsets.shape[0] - 1, weights)

    ops = torch.ops.hypergraph_kernels
    return {
        ops.gather_reduce.default: lambda x, index, weights, *others: reference.gather_reduce(
            x, index, weights
        ),
        ops.gather_reduce_transposed.default: transposed,
    }


def _frexp(x: Any) -> tuple[Any, Any]:
    """``torch.frexp`` in ONNX's operators, which have none.

    The logarithm is rounded, so next to a power of two the exponent may be one off; features are
    scaled by its power of two alone, where that is harmless.
    """
    op: Any = importlib.import_module("onnxscript").opset18
    size = op.Abs(x)
    one = op.CastLike(op.Constant(value_float=1.0), x)
    two = op.CastLike(op.Constant(value_float=2.0), x)
    zero = op.Equal(x, op.Sub(x, x))
    log2 = op.Div(op.Log(op.Where(zero, one, size)), op.Log(two))
    exponent = op.Where(zero, op.Sub(one, one), op.Add(op.Floor(log2), one))
    return op.Div(x, op.Pow(two, exponent)), op.Cast(exponent, to=6)  # 6: int32


def _cdist(x: Any, y: Any, p: float, compute_mode: int | None = None) -> Any:
    """Euclidean distances from one matrix product, of centred points: differences of all pairs
    would be ``[batch, n, m, channels]`` large."""
    if p != 2.0:
        raise GanInversionError(f"distances with p = {p} have no translation to ONNX, only 2")
    op: Any = importlib.import_module("onnxscript").opset18
    rows, last = op.Constant(value_ints=[-2]), op.Constant(value_ints=[-1])
    origin = op.ReduceMean(x, rows, keepdims=1)
    x, y = op.Sub(x, origin), op.Sub(y, origin)
    x_norm = op.ReduceSumSquare(x, last, keepdims=1)
    y_norm = op.ReduceSumSquare(y, last, keepdims=1)
    turn = op.MatMul(x, op.Transpose(y, perm=[0, 2, 1]))
    norms = op.Add(x_norm, op.Transpose(y_norm, perm=[0, 2, 1]))
    return op.Sqrt(op.Relu(op.Sub(norms, op.Add(turn, turn))))


def _stable_sort(
    x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Any, Any]:
    """ONNX's TopK of all: of equal values it, too, takes the one with the lower index first."""
    op: Any = importlib.import_module("onnxscript").opset18
    size = op.Shape(x, start=dim, end=dim + 1 if dim != -1 else None)
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)


def _compare(
    network: nn.Module,
    draft: Path,
    tensors: Iterator[tuple[int, tuple[Tensor, ...]]],
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """Shapes of inputs and outputs, and the largest relative difference of every output."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(draft, options, providers=["CPUExecutionProvider"])
    difference = dict.fromkeys(output_names, 0.0)
    for _, given in tensors:
        expected = network(*given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        fed = {name: t.numpy() for name, t in zip(input_names, given, strict=True)}
        results = session.run(list(output_names), fed)
        for name, ours, theirs in zip(output_names, expected, results, strict=True):
            got = torch.from_numpy(theirs)
            if got.shape != ours.shape:
                raise GanInversionError(
                    f"onnxruntime's `{name}` has shape {list(got.shape)}, PyTorch's "
                    f"{list(ours.shape)}; the network does not export"
                )
            error = float((got - ours).abs().max() / ours.abs().max().clamp_min(1e-12))
            difference[name] = max(difference[name], error) if error == error else error
    shapes = [
        {value.name: tuple(value.shape) for value in values}
        for values in (session.get_inputs(), session.get_outputs())
    ]
    return shapes[0], shapes[1], difference


def _publish(draft: Path, target: Path, data: str | None) -> None:
    """Give the files their names: the one that is opened last, when what it names is there."""
    for path in draft.parent.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if data is not None:
        os.replace(draft.with_name(data), target.with_name(data))
    os.replace(draft, target)
    # Weights of the file that was replaced.
    for other in target.parent.iterdir():
        old = re.fullmatch(rf"{re.escape(target.name)}\.[0-9a-f]{{16}}\.data", other.name)
        if old and other.name != data:
            other.unlink(missing_ok=True)
