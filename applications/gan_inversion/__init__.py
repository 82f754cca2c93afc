"""Edit one attribute of a real face photograph and leave the rest alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import AssetError, CheckpointError, GanInversionError, PhotoError

if TYPE_CHECKING:
    from .checkpoints.load import (
        load_discriminator,
        load_encoder,
        load_face_id,
        load_generator,
    )
    from .editor import Editor, EditResult, OpenPhoto

__all__ = [
    "AssetError",
    "CheckpointError",
    "EditResult",
    "Editor",
    "GanInversionError",
    "OpenPhoto",
    "PhotoError",
    "load_discriminator",
    "load_encoder",
    "load_face_id",
    "load_generator",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; the command's --help and error classes do not need it.
    if name in ("Editor", "EditResult", "OpenPhoto"):
        from . import editor

        return getattr(editor, name)
    if name in ("load_discriminator", "load_encoder", "load_face_id", "load_generator"):
        from .checkpoints import load

        return getattr(load, name)
    if name == "metrics":
        return importlib.import_module(".metrics", __package__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
