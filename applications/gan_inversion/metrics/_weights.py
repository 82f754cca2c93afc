"""Networks' weights from files that the user has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"`path`: {os.fspath(path)} cannot be read: {error}") from error
    return digest.hexdigest()


def read_state(path: str | os.PathLike[str], what: str) -> dict[str, Tensor]:
    """Read a flat state dict; nothing that the file may hold is run.

    Args:
        path: a file of PyTorch or safetensors.
        what: for messages, for example ``"an AlexNet"``.

    Raises:
        CheckpointError: no such file, or it holds something else.
    """
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"`path` must be a state dict of {what}, got {os.fspath(path)}: {error}"
        ) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"`path` must hold a state dict of {what}, got a {type(state).__name__} in "
            f"{os.fspath(path)}"
        )
    return {str(k): v for k, v in state.items() if isinstance(v, Tensor)}


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load ``state`` into ``module``, every name and every shape.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or not finite.
    """
    own = module.state_dict()
    missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or unknown:
        raise CheckpointError(
            f"this is not {what}: {len(missing)} tensors are missing ({', '.join(missing[:3])}) "
            f"and {len(unknown)} are unknown ({', '.join(unknown[:3])})"
        )
    for name, value in own.items():
        got = state[name]
        if got.shape != value.shape:
            raise CheckpointError(
                f"this is not {what}: `{name}` must have shape {list(value.shape)}, got "
                f"{list(got.shape)}"
            )
        if not torch.isfinite(got).all():
            raise CheckpointError(f"`{name}` must be finite, got NaN or infinity")
    module.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})
