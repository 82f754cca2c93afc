"""No public op reads memory that is not its own, whatever the indices."""

from __future__ import annotations

import pytest
import torch

from hypergraph_kernels import (
    Segments,
    hgnn_propagate,
    incidence_softmax,
    incidence_spmm,
    sampled_dot,
    segments_from,
)

NODE = torch.tensor([0, 1, 2, 7, 3])
EDGE = torch.tensor([0, 0, 1, 1, 1])
BY_NODE = segments_from(NODE, EDGE, 8)
BAD = (-1, 8, 100, 1 << 31, (1 << 32) + 1, 10**11)


def by_edge(column: int = 7, offsets: tuple[int, ...] = (0, 2, 5)) -> Segments:
    return Segments(torch.tensor([0, 1, 2, column, 3]), torch.tensor(offsets), None)


@pytest.mark.parametrize("column", BAD)
def test_columns_out_of_range(column: int) -> None:
    segments = by_edge(column)
    x, y = torch.randn(8, 16), torch.randn(2, 16)
    for heads in (None, 1, 4):
        with pytest.raises(IndexError, match=r"`segments.columns` must lie in 0 .. 7"):
            sampled_dot(y, x, segments, BY_NODE, heads=heads)
    with pytest.raises(IndexError, match=r"`segments.columns`"):
        incidence_spmm(x, torch.ones(5, 4), segments, BY_NODE)
    with pytest.raises((IndexError, RuntimeError)):
        incidence_spmm(x, None, segments, BY_NODE)
    with pytest.raises((IndexError, RuntimeError)):
        hgnn_propagate(x, segments, BY_NODE)
    values = torch.ones(5, requires_grad=True)
    with pytest.raises((IndexError, RuntimeError)):
        incidence_spmm(x, values, segments, BY_NODE).sum().backward()


@pytest.mark.parametrize("offsets", [(0, 2, 100), (0, -1, 5), (1, 2, 5), (0, 6, 5)])
def test_offsets_that_do_not_rise_to_the_number_of_pairs(offsets: tuple[int, ...]) -> None:
    segments = by_edge(offsets=offsets)
    with pytest.raises(IndexError, match=r"`segments.offsets` must rise from 0"):
        sampled_dot(torch.randn(2, 16), torch.randn(8, 16), segments, BY_NODE)
    with pytest.raises(IndexError, match=r"`segments.offsets` must rise from 0"):
        incidence_spmm(torch.randn(8, 16), torch.ones(5, 4), segments, BY_NODE)


@pytest.mark.parametrize("place", BAD)
def test_order_out_of_range(place: int) -> None:
    order = torch.tensor([0, 1, 2, 3, place])
    segments = Segments(NODE, torch.tensor([0, 2, 5]), order)
    scores = torch.randn(5, 4) * 100
    with pytest.raises((IndexError, RuntimeError)):
        incidence_softmax(scores, segments, rows=EDGE)
    with pytest.raises((IndexError, RuntimeError)):
        incidence_softmax(scores, segments)
    with pytest.raises((IndexError, RuntimeError)):
        sampled_dot(torch.randn(2, 16), torch.randn(8, 16), segments, BY_NODE)


@pytest.mark.parametrize("row", BAD)
@pytest.mark.parametrize("ascending", [False, True])
def test_rows_out_of_range(row: int, ascending: bool) -> None:
    rows = torch.tensor([0, 3, 2, row])
    rows = rows.sort().values if ascending else rows
    with pytest.raises(IndexError, match="`rows` must lie in 0 .. 7"):
        segments_from(rows, torch.arange(4), 8)
