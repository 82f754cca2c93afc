"""Files from others: read without executing, recognised, converted, and written as our own.

This is the one place of the application that opens weights it did not make itself.
"""

from typing import TYPE_CHECKING, Any

from .read import Content, read_checkpoint, read_content

if TYPE_CHECKING:
    from .doctor import Report, convert
    from .files import NetworkFile, clean_orphans, load_network, save_network
    from .load import load_discriminator, load_encoder, load_face_id, load_generator

__all__ = [
    "Content",
    "NetworkFile",
    "Report",
    "clean_orphans",
    "convert",
    "load_discriminator",
    "load_encoder",
    "load_face_id",
    "load_generator",
    "load_network",
    "read_checkpoint",
    "read_content",
    "save_network",
]
_MODULES = {
    "files": ("NetworkFile", "clean_orphans", "load_network", "save_network"),
    "load": ("load_discriminator", "load_encoder", "load_face_id", "load_generator"),
    "doctor": ("Report", "convert"),
}


def __getattr__(name: str) -> Any:
    # The layouts import the networks, which import this package's reader for their own files.
    import importlib

    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
