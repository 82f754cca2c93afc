"""Editing methods behind one protocol; they share the pipeline and never import each other."""

from .base import Edited, Method
from .plain import Plain

__all__ = ["Edited", "Method", "Plain"]
