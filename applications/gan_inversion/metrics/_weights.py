"""Networks' weights from files that the user has."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..checkpoints import read_content
from ..errors import CheckpointError


def read_state(path: str | os.PathLike[str], what: str) -> tuple[dict[str, Tensor], str]:
    """Read a flat state dict, and the SHA-256 of the file; nothing that it may hold is run.

    Args:
        path: a file of PyTorch or safetensors, as :func:`read_checkpoint` takes it.
        what: for messages, for example ``"an AlexNet"``.

    Raises:
        CheckpointError: no such file, or it holds something else.
    """
    content = read_content(path, digest=True)
    tree = content.tree
    if isinstance(tree, Mapping) and isinstance(tree.get("state_dict"), Mapping):
        tree = tree["state_dict"]
    if not isinstance(tree, Mapping):
        raise CheckpointError(
            f"{os.fspath(path)}: it holds a {type(tree).__name__}, expected a state dict of {what}"
        )
    state = {str(k): v for k, v in tree.items() if isinstance(v, Tensor)}
    return state, content.sha256 or ""


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
