"""Whether two trees are the same to the bit."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor


def same(a: Any, b: Any) -> bool:
    """Structure, types, order of keys and every bit of every number; dict types do not matter."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        a, b = a.detach().contiguous(), b.detach().contiguous()
        return torch.equal(a.view(-1).view(torch.uint8), b.view(-1).view(torch.uint8))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b
