"""What a Triton kernel is compiled with, so that it can be compiled where there is no GPU."""

from typing import Any, NamedTuple


class AotCase(NamedTuple):
    """One kernel in one configuration that its launcher really uses.

    Every ``triton_kernels.py`` lists its own in ``aot_cases()``; the tests compile them for sm_80
    and sm_90 and read registers, spills and shared memory from the binary.
    """

    kernel: Any
    """The ``@triton.jit`` function."""
    signature: dict[str, str]
    """Type of every argument that is not a constexpr: ``"*fp32"``, ``"*i64"``, ``"i32"``, ...;
    ``"i32:16"`` for a number that the launcher makes a multiple of 16. Others are compiled both
    ways."""
    constexprs: dict[str, Any]
    """Value of every constexpr argument."""
    num_warps: int
    num_stages: int
