"""Names of the pSp family's networks: ours and those of the released code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders.ir_se import UNITS_PER_STAGE
from ..errors import CheckpointError
from .limits import shown

# Our names -> theirs, for all modules: (pattern, replacement), the first that matches is used.
_STEM = {"conv": 0, "norm": 1, "act": 2}
_UNIT = {
    "norm1": "res_layer.0",
    "conv1": "res_layer.1",
    "act": "res_layer.2",
    "conv2": "res_layer.3",
    "norm2": "res_layer.4",
    "se.reduce": "res_layer.5.fc1",
    "se.expand": "res_layer.5.fc2",
    "shortcut.conv": "shortcut_layer.0",
    "shortcut.norm": "shortcut_layer.1",
}
_TOP = {
    "lateral_middle": "latlayer1",
    "lateral_fine": "latlayer2",
    "linear": "linear",
    "norm": "output_layer.0",
    "projection": "output_layer.3",
    "embedding_norm": "output_layer.4",
}


def their_name(ours: str) -> str:
    """The name in the released code of one of our parameters or buffers."""
    path, leaf = ours.rsplit(".", 1)
    if match := re.fullmatch(r"trunk\.stem\.(\w+)", path):
        path = f"input_layer.{_STEM[match[1]]}"
    elif match := re.fullmatch(r"trunk\.units\.(\d+)\.([\w.]+)", path):
        path = f"body.{match[1]}.{_UNIT[match[2]]}"
    elif match := re.fullmatch(r"heads\.(\d+)\.convs\.(\d+)", path):
        # An activation without parameters follows every convolution of a head.
        path = f"styles.{match[1]}.convs.{2 * int(match[2])}"
    elif match := re.fullmatch(r"heads\.(\d+)\.linear", path):
        path = f"styles.{match[1]}.linear"
    else:
        path = _TOP[path]
    return f"{path}.{leaf}"


def on_meta(kind: type[nn.Module], config: Mapping[str, Any]) -> nn.Module:
    """A module without memory, for its names and shapes."""
    try:
        with torch.device("meta"):
            return kind(**config)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"its shapes belong to no {kind.__name__}: {error}") from error


def to_ours(
    kind: type[nn.Module], config: Mapping[str, Any], theirs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Rename a whole module's tensors after comparing every name and shape."""
    wanted = {
        ours: value for ours, value in on_meta(kind, config).state_dict().items()
        if ours != "latent_avg"
    }  # fmt: skip
    names = {ours: their_name(ours) for ours in wanted}
    known = set(names.values())
    missing = [name for name in names.values() if name not in theirs]
    unexpected = [name for name in theirs if name not in known]
    if missing or unexpected:
        raise CheckpointError(
            f"its tensors are not those of {kind.__name__}{_text(config)}: "
            f"missing {some(missing)}, unexpected {some(unexpected)}"
        )
    state = {}
    for ours, name in names.items():
        value, like = theirs[name], wanted[ours]
        if value.shape != like.shape:
            raise CheckpointError(
                f"{shown(name)} has shape {list(value.shape)}, {kind.__name__}{_text(config)} "
                f"needs {list(like.shape)}"
            )
        if value.is_floating_point() != like.is_floating_point() or value.is_complex():
            raise CheckpointError(f"{shown(name)} has dtype {value.dtype}, not {like.dtype}")
        state[ours] = value.to(like.dtype)
    return state


def _text(config: Mapping[str, Any]) -> str:
    return "(" + ", ".join(f"{k}={v}" for k, v in config.items()) + ")"


def some(names: list[str]) -> str:
    """The first few of them, safe for a message."""
    if not names:
        return "none"
    first = ", ".join(shown(name) for name in names[:4])
    return first if len(names) <= 4 else f"{first} and {len(names) - 4} more"


def count_indices(names: Iterable[str], pattern: str) -> int:
    """How many indices follow 0, 1, ... without a gap in ``pattern``'s first group."""
    found = {int(match[1]) for name in names if (match := re.match(pattern, name))}
    count = 0
    while count in found:
        count += 1
    return count


def shape_of(state: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there, with that many dimensions."""
    if name not in state:
        raise CheckpointError(f"{name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != ndim:
        raise CheckpointError(f"{name} must have {ndim} dimensions, got shape {list(shape)}")
    return shape


def trunk_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """``depth`` and ``squeeze_excite`` of the trunk whose names are in ``state``."""
    units = count_indices(state, r"body\.(\d{1,3})\.res_layer\.")
    squeeze_excite = "body.0.res_layer.5.fc1.weight" in state
    for depth, stages in UNITS_PER_STAGE.items():
        if sum(stages) == units:  # all depths differ in their number of units
            return {"depth": depth, "squeeze_excite": squeeze_excite}
    raise CheckpointError(
        f"its trunk has {units} units, which is none of the depths {sorted(UNITS_PER_STAGE)}"
    )


def tensors(tree: object, what: str) -> dict[str, Tensor]:
    """A flat state dict, without DataParallel's ``module.``; anything else is refused."""
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{what} must be a dictionary of tensors, got {type(tree).__name__}")
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{what} must hold tensors only, got {type(value).__name__} at {shown(name)}"
            )
    return without_wrapper(dict(tree))


def without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the ``module.`` that DataParallel puts in front of every name."""
    if state and all(name.startswith("module.") for name in state):
        return {name[len("module.") :]: value for name, value in state.items()}
    return state


def to_theirs(
    kind: type[nn.Module], config: Mapping[str, Any], ours: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of :func:`to_ours`; ``latent_avg``, which is kept elsewhere, is left out.

    Raises:
        CheckpointError: the state is not that of ``kind(**config)``.
    """
    names = on_meta(kind, config).state_dict().keys()
    if names != ours.keys():
        raise CheckpointError(
            f"the state is not that of {kind.__name__}{_text(config)}: "
            f"missing {some([n for n in names if n not in ours])}, "
            f"unexpected {some([n for n in ours if n not in names])}"
        )
    return {their_name(name): ours[name] for name in names if name != "latent_avg"}
