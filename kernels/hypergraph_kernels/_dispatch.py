"""Which implementation of an op runs."""

import importlib.util
import os
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

Implementation = Literal["auto", "reference", "cpu", "compiled", "triton"]

_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def choose(
    op: str,
    implementation: Implementation,
    x: Tensor,
    *,
    triton: bool = True,
    compiled: bool = False,
) -> Implementation:
    """Return the name of the implementation to run; never ``"auto"``.

    ``"auto"`` takes Triton for CUDA tensors in a dtype that it computes in, the compiled CPU path
    for float32 CPU tensors where the user has built it, and plain PyTorch ("cpu", which runs on any
    device) everywhere else. While ``TRITON_INTERPRET=1`` is set, ``"triton"`` also takes CPU
    tensors: it runs in Triton's interpreter. Under forward-mode derivatives and the transforms of
    ``torch.func``, for which operators of one's own have no rules, ``"auto"`` takes the reference.

    Args:
        op: name of the op, for messages.
        implementation: what the caller asked for.
        x: the tensor whose device and dtype decide.
        triton: the op has a Triton implementation that fits the arguments.
        compiled: the op has a compiled implementation that fits the arguments.

    Raises:
        ValueError: an unknown name, or an implementation that cannot run here.
    """
    if implementation not in get_args(Implementation):
        names = ", ".join(repr(name) for name in get_args(Implementation))
        raise ValueError(f"`implementation` must be one of {names}, got {implementation!r}")
    if implementation == "reference":
        return implementation
    if is_transformed():
        if implementation == "auto":
            return "reference"
        raise ValueError(
            f"`implementation={implementation!r}` cannot run {op} under torch.func or forward-mode "
            "derivatives; use 'auto' or 'reference'"
        )
    if implementation == "cpu":
        return implementation
    if implementation == "auto":
        if triton and x.is_cuda and x.dtype in _TRITON_DTYPES and has_triton():
            return "triton"
        if compiled and x.device.type == "cpu" and x.dtype == torch.float32 and has_compiled():
            return "compiled"
        return "cpu"
    reason = _why_not(implementation, x, triton, compiled)
    if reason is not None:
        raise ValueError(f"`implementation={implementation!r}` cannot run {op}: {reason}")
    return implementation


def is_transformed() -> bool:
    """Tell whether tensors carry more than values and the tape of ``backward``."""
    if torch.compiler.is_compiling():
        return False
    # A custom operator would return zero tangents without a word.
    return forward_ad._current_level >= 0 or torch._C._functorch.maybe_current_level() is not None


def _why_not(implementation: str, x: Tensor, triton: bool, compiled: bool) -> str | None:
    if implementation == "triton":
        if not triton:
            return "it has no Triton kernel for these arguments; use 'auto'"
        if not has_triton():
            return "triton is not installed; pip install 'hypergraph-nn[kernels]' (Linux)"
        if x.dtype not in _TRITON_DTYPES:
            return f"its kernels take float32, float16 and bfloat16, got {x.dtype}; use 'auto'"
        if not x.is_cuda and not interpreted():
            return f"its tensors must be on a CUDA device, got {x.device}; use 'auto' or 'cpu'"
        return None
    if not compiled:
        return "it has no compiled path for these arguments; use 'auto'"
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return f"the compiled path takes float32 on a CPU, got {x.dtype} on {x.device}; use 'auto'"
    if not has_compiled():
        return "it has not been built; run `python -m hypergraph_kernels.compiled build` once"
    return None


@cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Tell whether Triton kernels run in its interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def has_compiled() -> bool:
    """Tell whether the compiled CPU path has been built and loads."""
    from hypergraph_kernels import compiled

    return compiled.is_available()
