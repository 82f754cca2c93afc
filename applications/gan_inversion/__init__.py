"""Edit one attribute of a real face photograph and leave the rest alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import AssetError, CheckpointError, GanInversionError, PhotoError

if TYPE_CHECKING:
    from .editor import Editor, EditResult, OpenPhoto

__all__ = [
    "AssetError",
    "CheckpointError",
    "EditResult",
    "Editor",
    "GanInversionError",
    "OpenPhoto",
    "PhotoError",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; the command's --help and error classes do not need it.
    if name in ("Editor", "EditResult", "OpenPhoto"):
        from . import editor

        return getattr(editor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
