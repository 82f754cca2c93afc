"""The search's Triton kernels against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph_kernels import knn
from hypergraph_kernels.knn import Neighbors

pytestmark = pytest.mark.triton


def _agree(x: Tensor, k: int, metric: Any, **settings: Any) -> Neighbors:
    """The kernels' answer, which must be the reference's up to rounding."""
    found = knn(x, k, metric, implementation="triton", **settings)
    expected = knn(x.cpu().double(), k, metric, implementation="reference", **settings)
    threshold = settings.get("threshold")
    if threshold is None:
        assert found.kept.all()
        assert_close(found.distance.cpu().double(), expected.distance, rtol=1e-5, atol=2e-6)
    kept, wanted = found.kept.cpu(), expected.kept
    assert torch.equal(kept, wanted)
    nearest = found.nearest.cpu()
    # Where the order differs, the distances are too close for float32 to tell.
    differs = (nearest != expected.nearest) & kept
    apart = (found.distance.cpu().double() - expected.distance)[differs].abs()
    assert differs.float().mean() < 0.02
    assert (apart <= 2e-6 * expected.distance[differs].abs() + 2e-6).all()
    itself = torch.arange(x.shape[-2]).unsqueeze(-1)
    assert torch.equal(nearest[..., :1], itself.expand_as(nearest[..., :1]))
    assert torch.equal(torch.where(kept, itself, nearest), itself.expand_as(nearest)) or kept.all()
    assert_close(found.row_mean.cpu().double(), expected.row_mean, rtol=1e-5, atol=1e-5)
    return found


@pytest.mark.parametrize(
    ("metric", "n", "channels", "k"),
    [("cosine", 63, 17, 9), ("euclidean", 63, 17, 9), ("dot", 63, 65, 9), ("cosine", 129, 32, 4)],
)
def test_random_rows(metric: str, n: int, channels: int, k: int, device: torch.device) -> None:
    _agree(torch.randn(n, channels, device=device), k, metric, with_row_mean=True)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_a_batch_with_a_threshold(metric: str, device: torch.device) -> None:
    x = torch.randn(3, 17, 5, device=device)
    threshold = {"cosine": 0.6, "euclidean": 2.5, "dot": -1.0}[metric]
    found = _agree(x, 6, metric, threshold=threshold, with_row_mean=True)
    assert found.kept.any() and not found.kept.all()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_hardly_any_rows(metric: str, n: int, device: torch.device) -> None:
    found = _agree(torch.randn(2, n, 3, device=device), 5, metric, with_row_mean=True)
    assert found.nearest.shape == (2, n, min(5, n))


def test_no_rows(device: torch.device) -> None:
    found = knn(torch.randn(2, 0, 3, device=device), 5, implementation="triton")
    assert [field.shape for field in found[:3]] == [(2, 0, 0)] * 3
    assert found.row_mean.shape == (2, 0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_equal_rows_go_by_index(metric: str, device: torch.device) -> None:
    x = torch.randn(4, 7, device=device).repeat(8, 1)
    x[5] = 0
    found = _agree(x, 6, metric)
    if metric != "dot":
        row = torch.arange(0, 32, 4, device=device)
        assert found.nearest[0].tolist() == row[:6].tolist()
        assert found.nearest[28].tolist() == [28, *row[:5].tolist()]


@pytest.mark.parametrize("most", [0, 100])
def test_more_candidates_than_there_is_room_for(
    most: int, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """Such rows are searched by themselves, or all rows again in full precision first."""
    from hypergraph_kernels.knn import triton_kernels

    monkeypatch.setattr(triton_kernels, "_TOO_MANY", most)
    monkeypatch.setattr(triton_kernels, "_CAPACITY", 16)
    monkeypatch.setitem(triton_kernels._RANK, "CAPACITY", 16)
    searched = []
    exactly = triton_kernels._search_exactly

    def counted(points: Tensor, which: Tensor, *rest: Any) -> None:
        searched.append(int(which.sum()))
        exactly(points, which, *rest)

    monkeypatch.setattr(triton_kernels, "_search_exactly", counted)
    x = torch.randn(40, 3, device=device)
    x[8:32] = x[8]
    x[35] = 0
    for metric in ("cosine", "euclidean", "dot"):
        _agree(x, 5, metric)
    assert all(count >= 24 for count in searched) and len(searched) == 3


def test_many_neighbors(device: torch.device) -> None:
    _agree(torch.randn(132, 6, device=device), 128, "euclidean")


def test_rows_far_from_the_origin(device: torch.device) -> None:
    _agree(torch.randn(40, 6, device=device) + 100, 5, "euclidean")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float, device: torch.device) -> None:
    x = torch.randn(20, 6, device=device)
    for metric in ("cosine", "euclidean"):
        small = knn(x, 5, metric, implementation="triton")
        scaled = knn(x * scale, 5, metric, implementation="triton")
        assert torch.equal(small.nearest, scaled.nearest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_searched_in_float32(dtype: torch.dtype, device: torch.device) -> None:
    found = _agree(torch.randn(33, 8, device=device).to(dtype), 5, "cosine")
    assert found.distance.dtype == torch.float32


def test_launches_of_some_rows(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Buffers of bounded size: samples one by one, and long ones in pieces."""
    from hypergraph_kernels.knn import triton_kernels

    monkeypatch.setattr(triton_kernels, "_BUFFER", 1)
    _agree(torch.randn(2, 150, 4, device=device), 3, "euclidean", with_row_mean=True)


def test_large_groups(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    from hypergraph_kernels.knn import triton_kernels

    monkeypatch.setattr(triton_kernels, "_GROUPS_PER_NEIGHBOR", 1)
    _agree(torch.randn(200, 4, device=device), 4, "cosine")


def test_every_output_is_written(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Outputs and buffers start as garbage, and none of it is left."""

    def filled(tensor: Tensor) -> Tensor:
        if tensor.dtype.is_floating_point:
            return tensor.fill_(torch.nan)
        return tensor.fill_(1 if tensor.dtype == torch.bool else 2**31 - 1)

    new_empty, empty_like = Tensor.new_empty, torch.empty_like
    x = torch.randn(2, 63, 9, device=device)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "new_empty", lambda *args, **kw: filled(new_empty(*args, **kw)))
        patch.setattr(torch, "empty_like", lambda *args, **kw: filled(empty_like(*args, **kw)))
        _agree(x, 5, "euclidean", threshold=3.0, with_row_mean=True)


def test_too_many_neighbors_to_ask_for(device: torch.device) -> None:
    x = torch.randn(140, 2, device=device)
    with pytest.raises(ValueError, match="no Triton kernel for these arguments"):
        knn(x, 129, implementation="triton")
