"""Nearest rows by cosine."""

import ctypes
import math

import torch
from torch import Tensor

from hypergraph_kernels.compiled._library import in_threads, library, pointer

MAX_NEIGHBORS = 256
"""Candidates of a row are compared with each other, which is only fast for few."""

_PANEL = 16
_BLOCK = 256
_MOST_BLOCKS = 1 << 15  # pairs of blocks are counted in 32 bits
_PRODUCTS_PER_THREAD = 1 << 24


class _Search(ctypes.Structure):
    _fields_ = [
        ("n", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("block", ctypes.c_int64),
        ("limit", ctypes.c_float),
        ("margin", ctypes.c_int32),
        ("unit", ctypes.c_double),
        ("x", ctypes.c_void_p),
        ("points", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("bar", ctypes.c_void_p),
        ("count", ctypes.c_void_p),
        ("score", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("lock", ctypes.c_void_p),
    ]


def nearest_by_cosine(
    x: Tensor,  # [n, channels]
    k: int,
    limit: float | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of every row by cosine distance, the row itself first.

    The distance of two rows is ``|a - b|^2 / 2`` in float32 of the rows brought to length one, and
    1 if one of them is zero; equal distances are in the order of their indices. Uses
    ``torch.get_num_threads()`` threads; the result does not depend on how many.

    Args:
        x: [n, channels] float32 on a CPU, contiguous, of any magnitude.
        k: the row itself included, 1 <= k <= min(n, MAX_NEIGHBORS).
        limit: rows farther than this need not be found.
        out: where to write the result.

    Returns:
        nearest [n, k] int64 and distance [n, k] float32; slots for which nothing lies within the
        limit hold the row itself at an infinite distance.
    """
    n, channels = x.shape
    if not 1 <= k <= min(n, MAX_NEIGHBORS):
        raise ValueError(f"`k` must lie in 1 .. {min(n, MAX_NEIGHBORS)}, got {k}")
    padded = math.ceil(n / _PANEL) * _PANEL
    capacity = max(96, (2 * k + 47) // 8 * 8)
    block = max(_BLOCK, math.ceil(n / _MOST_BLOCKS / _PANEL) * _PANEL)
    blocks = math.ceil(n / block)
    pairs = math.ceil(channels / 16) * 8
    workspace = torch.empty(padded * (pairs + 2 * capacity + 2), dtype=torch.int32)
    points = torch.empty_like(x)
    order = torch.empty(256, dtype=torch.int64)
    locks = torch.zeros(1 + blocks, dtype=torch.int32)
    sizes = [padded * size for size in (pairs, 1, 1, capacity, capacity)]
    packed, bar, count, score, index = workspace.split(sizes)
    search = _Search(
        n,
        channels,
        k - 1,
        capacity,
        block,
        math.inf if limit is None else limit,
        0,
        0.0,
        pointer(x, torch.float32),
        pointer(points, torch.float32),
        *(pointer(part, torch.int32) for part in (packed, bar, count, score, index)),
        pointer(order, torch.int64),
        pointer(locks, torch.int32),
    )
    nearest, distance = out or (torch.empty(n, k, dtype=torch.int64), torch.empty(n, k))
    if nearest.shape != (n, k) or distance.shape != (n, k):
        raise ValueError(f"`out` must hold two tensors [{n}, {k}]")
    results = pointer(nearest, torch.int64), pointer(distance, torch.float32)
    functions, shared = library(), ctypes.byref(search)
    if functions.hgk_knn_prepare(shared):
        raise ValueError(f"`x` of shape {list(x.shape)} cannot be searched")
    products = n * n * max(channels, 64)
    threads = max(1, min(torch.get_num_threads(), blocks, products // _PRODUCTS_PER_THREAD))
    in_threads(lambda _: functions.hgk_knn_collect(shared), threads)

    def finish(part: int) -> None:
        keys = torch.empty(capacity, dtype=torch.int64)
        begin, end = n * part // threads, n * (part + 1) // threads
        functions.hgk_knn_finish(shared, begin, end, *results, pointer(keys, torch.int64))

    in_threads(finish, threads)
    return nearest, distance
