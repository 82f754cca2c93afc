"""The HGNN operator's Triton kernels against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph_kernels import Segments, hgnn_propagate, segments_from, transpose_table

pytestmark = pytest.mark.triton


def members(
    nodes: int, edges: int, slots: int, device: torch.device
) -> tuple[Tensor | Segments, Segments, int]:
    """A table, or with no slots random pairs of which half belong to vertex 0."""
    if slots:
        table = torch.randint(0, nodes, (edges, slots), device=device)
        return table, transpose_table(table, nodes), table.numel()
    nnz = 1300  # more than two windows
    node = torch.randint(0, nodes, (nnz,), device=device)
    node[torch.rand(nnz, device=device) < 0.5] = 0
    edge = torch.randint(0, edges, (nnz,), device=device)
    return segments_from(edge, node, edges), segments_from(node, edge, nodes), nnz


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (17, 9, 3, 5), (33, 17, 25, 17), (12, 7, 0, 130)])
@pytest.mark.parametrize("full", [False, True])
def test_outputs_and_gradients(size: tuple[int, ...], full: bool, device: torch.device) -> None:
    nodes, edges, slots, channels = size
    by_edge, by_node, nnz = members(nodes, edges, slots, device)
    others: dict[str, Any] = {"edge_scale": 0.3}
    if full:
        others = {
            "edge_scale": torch.rand(edges, device=device),
            "node_scale": torch.rand(nodes, device=device),
            "values": torch.rand(nnz, device=device),
            "activation": "elu",
        }
    z = torch.randn(nodes, channels, device=device, requires_grad=True)
    bias = torch.randn(channels, device=device, requires_grad=True)
    cotangent = torch.randn(nodes, channels, device=device)
    results = []
    for implementation in ("triton", "reference"):
        if full:
            others["bias"] = bias
        out = hgnn_propagate(z, by_edge, by_node, **others, implementation=implementation)
        grads = torch.autograd.grad(out, [z, bias] if full else [z], cotangent)
        results.append([out, *grads])
    scale = max(1.0, *(tensor.abs().max().item() for tensor in results[1]))
    assert_close(*results, rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("given", ["edge_scale", "node_scale", "values", "bias", "activation"])
@pytest.mark.parametrize("slots", [0, 3])
def test_every_argument_alone(given: str, slots: int, device: torch.device) -> None:
    nodes, edges = 11, 7
    by_edge, by_node, nnz = members(nodes, edges, slots, device)
    argument = {
        "edge_scale": torch.rand(edges, device=device),
        "node_scale": torch.rand(nodes, device=device),
        "values": torch.rand(nnz, device=device),
        "bias": torch.randn(5, device=device),
        "activation": "elu",
    }[given]
    z = torch.randn(nodes, 5, device=device)
    results = [
        hgnn_propagate(z, by_edge, by_node, **{given: argument}, implementation=name)
        for name in ("triton", "reference")
    ]
    assert_close(*results, rtol=1e-4, atol=1e-3 if slots == 0 else 1e-5)


@pytest.mark.parametrize("size", [(0, 0, 3), (4, 0, 3), (4, 3, 0)])
def test_empty(size: tuple[int, int, int], device: torch.device) -> None:
    nodes, edges, channels = size
    table = torch.zeros(edges, 2, dtype=torch.long, device=device)
    z, bias = torch.randn(nodes, channels, device=device), torch.randn(channels, device=device)
    by_node = transpose_table(table, nodes)
    out = hgnn_propagate(z, table, by_node, bias=bias, activation="elu", implementation="triton")
    assert_close(out, torch.nn.functional.elu(bias.expand(nodes, -1)))


def test_every_element_is_written(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.Tensor.new_empty

    def filled(*args: Any, **kwargs: Any) -> Tensor:
        out = plain(*args, **kwargs)
        return out.fill_(torch.nan) if out.is_floating_point() else out

    monkeypatch.setattr(torch.Tensor, "new_empty", filled)
    for slots in (0, 3):
        by_edge, by_node, _ = members(20, 9, slots, device)
        z = torch.randn(20, 17, device=device)
        assert hgnn_propagate(z, by_edge, by_node, implementation="triton").isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, device: torch.device) -> None:
    by_edge, by_node, _ = members(33, 17, 9, device)
    z = torch.randn(33, 17, device=device)
    scale = torch.rand(33, device=device)
    got = hgnn_propagate(
        z.to(dtype), by_edge, by_node, 0.1, scale.to(dtype), implementation="triton"
    )
    assert got.dtype == dtype
    exact = hgnn_propagate(z, by_edge, by_node, 0.1, scale, implementation="reference")
    assert_close(got.float(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps)
