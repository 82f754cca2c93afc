"""Where the Triton tests run: in Triton's interpreter, or on a CUDA device."""

from __future__ import annotations

import pytest
import torch

from hypergraph_kernels._dispatch import has_triton, interpreted


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Device of the tensors: the CPU in the interpreter, else the CUDA device."""
    if not has_triton():
        pytest.skip("skipped: triton is not installed (pip install 'hypergraph-nn[kernels]')")
    if interpreted():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip("skipped: no CUDA device, and no interpreter (make test-triton sets it)")
