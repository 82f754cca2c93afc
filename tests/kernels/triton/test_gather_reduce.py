"""The table's Triton kernel against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph_kernels import gather_reduce, gather_reduce_transposed, transpose_table

pytestmark = pytest.mark.triton

SIZES = [(1, 1, 1, 1), (7, 5, 3, 17), (63, 17, 25, 5), (9, 6, 4, 130), (5, 0, 3, 2), (4, 6, 0, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_and_gradients(
    size: tuple[int, int, int, int], weighted: bool, device: torch.device
) -> None:
    num_rows, edges, slots, channels = size
    x, y = torch.randn(num_rows, channels, device=device), torch.randn(edges, channels).to(device)
    index = torch.randint(0, num_rows, (edges, slots), device=device)
    weights = torch.randn(edges, slots, device=device)
    transposed = transpose_table(index, num_rows)
    for forth in (True, False):
        results = []
        for implementation in ("triton", "reference"):
            features = (x if forth else y).clone().requires_grad_()
            chosen = weights.clone().requires_grad_() if weighted else None
            if forth:
                out = gather_reduce(
                    features, index, chosen, transposed, implementation=implementation
                )
            else:
                out = gather_reduce_transposed(
                    features, index, num_rows, chosen, transposed, implementation=implementation
                )
            inputs = [features] if chosen is None else [features, chosen]
            grads = torch.autograd.grad((out * out.detach().cos()).sum(), inputs)
            results.append([out, *grads])
        assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_added_up_in_float32(dtype: torch.dtype, device: torch.device) -> None:
    """300 ones in half precision: bfloat16 cannot count beyond 256."""
    x = torch.ones(2, 3, dtype=dtype, device=device)
    index = torch.zeros(2, 300, dtype=torch.long, device=device)
    out = gather_reduce(x, index, implementation="triton")
    assert out.dtype == dtype and out.tolist() == [[300.0] * 3] * 2


def test_every_element_is_written(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.Tensor.new_empty

    def filled(*args: Any, **kwargs: Any) -> Tensor:
        out = plain(*args, **kwargs)
        return out.fill_(torch.nan) if out.is_floating_point() else out

    monkeypatch.setattr(torch.Tensor, "new_empty", filled)
    x = torch.randn(6, 17, device=device)
    index = torch.randint(0, 6, (9, 3), device=device)
    out = gather_reduce(x, index, implementation="triton")
    back = gather_reduce_transposed(out, index, 8, implementation="triton")
    assert out.isfinite().all() and back.isfinite().all() and (back[6:] == 0).all()
