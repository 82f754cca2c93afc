"""Edit one attribute of a real face photograph and leave the rest alone."""

from .errors import AssetError, CheckpointError, GanInversionError, PhotoError

__all__ = ["AssetError", "CheckpointError", "GanInversionError", "PhotoError"]
