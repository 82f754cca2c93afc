"""Files from others: read without executing, recognised, converted, and written as our own.

This is the one place of the application that opens weights it did not make itself.
"""

from .read import Content, read_checkpoint, read_content

__all__ = ["Content", "read_checkpoint", "read_content"]
