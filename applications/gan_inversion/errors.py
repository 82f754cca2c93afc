"""Exceptions that the application raises on purpose; anything else is a bug."""

from __future__ import annotations


class GanInversionError(Exception):
    """Base class: the message says what was expected, what came and what to do."""


class PhotoError(GanInversionError):
    """A photograph that cannot be used: unreadable, too small, no face, no such face."""


class CheckpointError(GanInversionError):
    """A weights or directions file that cannot be used; names the path and the reason."""


class AssetError(GanInversionError):
    """A packaged network or picture that is missing or is not the expected file."""
