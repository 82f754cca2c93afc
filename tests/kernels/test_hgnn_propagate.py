from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from hypergraph_kernels import (
    Segments,
    hgnn_propagate,
    segments_from,
    table_segments,
    transpose_table,
)
from hypergraph_kernels.hgnn_propagate.op import _hgnn_propagate

F64 = torch.float64


def case(nodes: int, edges: int, slots: int, channels: int, full: bool = True) -> dict[str, Any]:
    """Arguments over a table; ``full`` gives every optional one."""
    torch.manual_seed(nodes + edges)
    table = torch.randint(0, max(nodes, 1), (edges, slots))
    arguments: dict[str, Any] = {
        "z": torch.randn(nodes, channels, dtype=F64),
        "by_edge": table,
        "by_node": transpose_table(table, nodes),
    }
    if full:
        arguments |= {
            "edge_scale": torch.rand(edges, dtype=F64),
            "node_scale": torch.rand(nodes, dtype=F64),
            "values": torch.rand(edges, slots, dtype=F64),
            "bias": torch.randn(channels, dtype=F64),
            "activation": "elu",
        }
    return arguments


def ragged(nodes: int, edges: int, nnz: int) -> tuple[Segments, Segments]:
    """Random pairs with a hub, in a random order."""
    torch.manual_seed(nnz)
    node = torch.where(torch.rand(nnz) < 0.3, 0, torch.randint(0, nodes, (nnz,)))
    edge = torch.randint(0, edges, (nnz,))
    return segments_from(edge, node, edges), segments_from(node, edge, nodes)


def test_by_hand() -> None:
    """Edges {0, 1} and {1, 2}: vertex 1 gets both sums, the others one."""
    table = torch.tensor([[0, 1], [1, 2]])
    by_node = transpose_table(table, 4)
    z = torch.tensor([[2.0], [4.0], [8.0], [100.0]])
    assert hgnn_propagate(z, table, by_node).flatten().tolist() == [6, 18, 12, 0]
    scaled = hgnn_propagate(z, table, by_node, 0.5, torch.tensor([1.0, 2.0, 1.0, 1.0]))
    assert scaled.flatten().tolist() == [5, 26, 8, 0]
    edge_scale, bias = torch.tensor([1.0, -1.0]), torch.tensor([1.0])
    out = hgnn_propagate(z, table, by_node, edge_scale, None, None, bias, "elu")
    expected = [7, torch.expm1(torch.tensor(-5.0)).item(), torch.expm1(torch.tensor(-11.0)).item()]
    assert_close(out.flatten(), torch.tensor([*expected, 1.0]))


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (7, 5, 3, 4), (40, 33, 25, 130), (63, 17, 2, 65)])
@pytest.mark.parametrize("full", [False, True])
def test_equals_the_reference(size: tuple[int, int, int, int], full: bool) -> None:
    results = []
    for implementation in ("cpu", "reference"):
        arguments = case(*size, full)
        inputs = [arguments["z"].requires_grad_()]
        if full:
            inputs.append(arguments["bias"].requires_grad_())
        out = hgnn_propagate(**arguments, implementation=implementation)
        results.append([out, *torch.autograd.grad(out.sin().sum(), inputs)])
    assert_close(*results)


@pytest.mark.parametrize("given", ["edge_scale", "node_scale", "values", "bias", "activation"])
def test_every_argument_alone(given: str) -> None:
    plain, full = case(7, 5, 3, 4, False), case(7, 5, 3, 4)
    plain[given] = full[given]
    assert_close(
        hgnn_propagate(**plain, implementation="cpu"),
        hgnn_propagate(**plain, implementation="reference"),
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_ragged_hyperedges(weighted: bool) -> None:
    by_edge, by_node = ragged(20, 30, 200)
    z = torch.randn(20, 5, dtype=F64, requires_grad=True)
    values = torch.rand(200, dtype=F64) if weighted else None
    results = []
    for implementation in ("cpu", "reference"):
        out = hgnn_propagate(
            z, by_edge, by_node, 2.0, torch.rand(20, dtype=F64).fill_(0.7), values,
            implementation=implementation,
        )  # fmt: skip
        results.append([out, *torch.autograd.grad(out.sin().sum(), z)])
    assert_close(*results)


def test_a_table_is_a_list_of_segments() -> None:
    arguments = case(7, 5, 3, 4)
    expected = hgnn_propagate(**arguments)
    arguments["by_edge"] = table_segments(arguments["by_edge"])
    arguments["values"] = arguments["values"].flatten()
    assert_close(hgnn_propagate(**arguments), expected)


@pytest.mark.parametrize("size", [(0, 0, 0, 3), (4, 0, 3, 3), (4, 3, 0, 3), (4, 3, 2, 0)])
def test_empty(size: tuple[int, int, int, int]) -> None:
    arguments = case(*size)
    expected = torch.nn.functional.elu(arguments["bias"].expand(size[0], -1))
    if size[2] and size[1]:
        expected = arguments["z"]
    assert_close(hgnn_propagate(**arguments), expected)


@pytest.mark.parametrize("activation", [None, "elu"])
def test_derivatives(activation: str | None) -> None:
    arguments = case(5, 4, 3, 2) | {"activation": activation}
    z, bias = arguments.pop("z").requires_grad_(), arguments.pop("bias").requires_grad_()

    def run(z: Tensor, bias: Tensor) -> Tensor:
        return hgnn_propagate(z, bias=bias, **arguments)

    assert gradcheck(run, (z, bias))
    assert gradgradcheck(run, (z, bias))


def test_it_is_its_own_backward() -> None:
    arguments = case(30, 20, 4, 3) | {"bias": None, "activation": None}
    z, g = arguments["z"].requires_grad_(), torch.randn(30, 3, dtype=F64)
    (grad,) = torch.autograd.grad(hgnn_propagate(**arguments), z, g)
    assert_close(grad, hgnn_propagate(**(arguments | {"z": g})))


def test_nothing_of_the_features_is_saved() -> None:
    """Only indices and scales; with an activation the output, which the caller has anyway."""
    arguments = case(30, 20, 4, 6) | {"bias": None, "activation": None}
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() if tensor.is_floating_point() else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hgnn_propagate(**(arguments | {"z": arguments["z"].requires_grad_()}))
    assert sizes and max(sizes) <= 20 * 4 < 30 * 6


def test_a_batch_is_one_call() -> None:
    singles = [case(7, 5, 3, 4) for _ in range(3)]
    for number, single in enumerate(singles):
        single["z"] = single["z"] * (number + 1)
        single["by_edge"] = (single["by_edge"] + number) % 7
        single["by_node"] = transpose_table(single["by_edge"], 7)
    table = torch.cat([s["by_edge"] + 7 * number for number, s in enumerate(singles)])
    together = {
        name: torch.cat([s[name] for s in singles])
        for name in ("z", "edge_scale", "node_scale", "values")
    }
    out = hgnn_propagate(
        **together,
        by_edge=table,
        by_node=transpose_table(table, 21),
        bias=singles[0]["bias"],
        activation="elu",
    )
    assert_close(out, torch.cat([hgnn_propagate(**single) for single in singles]))


@pytest.mark.parametrize("ragged_edges", [False, True])
def test_opcheck(ragged_edges: bool) -> None:
    a = case(5, 4, 3, 2)
    lists = table_segments(a["by_edge"]) if ragged_edges else (a["by_edge"], None, None)
    scales = (a["edge_scale"], 1.0, a["node_scale"], a["values"].flatten())
    features = (a["z"].requires_grad_(), a["bias"].requires_grad_(), "elu")
    torch.library.opcheck(_hgnn_propagate, (*features, *lists, *a["by_node"], *scales, "cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    arguments = case(20, 30, 5, 70)
    exact = hgnn_propagate(**arguments)
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            arguments[name] = value.to(dtype)
    got = hgnn_propagate(**arguments)
    assert got.dtype == dtype
    scale = exact.abs().max().item()
    assert_close(got.to(F64), exact, rtol=0, atol=8 * torch.finfo(dtype).eps * scale)


def test_rows_that_do_not_fit_the_cache() -> None:
    """More than 8192 rows are propagated in narrower blocks."""
    torch.manual_seed(0)
    table = torch.randint(0, 9000, (50, 3))
    z, by_node = torch.randn(9000, 100), transpose_table(table, 9000)
    scale = torch.rand(9000)
    got = hgnn_propagate(z, table, by_node, 0.3, scale, implementation="cpu")
    assert_close(got, hgnn_propagate(z, table, by_node, 0.3, scale, implementation="reference"))


def test_several_threads_give_the_same() -> None:
    by_edge, by_node = ragged(50, 40, 6000)
    z = torch.randn(50, 70)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(hgnn_propagate(z, by_edge, by_node, 0.1, values=torch.ones(6000)))
    finally:
        torch.set_num_threads(threads)
    assert_close(*results, rtol=1e-5, atol=1e-3)


def test_compiles_to_one_graph() -> None:
    arguments = case(7, 5, 3, 4)
    z = arguments.pop("z").requires_grad_()
    compiled = torch.compile(
        lambda z: hgnn_propagate(z, **arguments), fullgraph=True, backend="aot_eager"
    )
    grads = [
        torch.autograd.grad(run(z).sin().sum(), z)
        for run in (compiled, lambda z: hgnn_propagate(z, **arguments))
    ]
    assert_close(*grads)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Any) -> None:
    arguments = case(7, 5, 3, 4)
    expected = hgnn_propagate(**arguments)
    with context():
        assert_close(hgnn_propagate(**arguments), expected)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"z": torch.zeros(7, 4).long()}, TypeError, "`z` must be a floating-point tensor"),
        ({"z": torch.zeros(6, 4, dtype=F64)}, ValueError, "`z` must have shape .7, channels"),
        ({"node_scale": torch.ones(7)}, ValueError, "`node_scale` must have shape .7. and the"),
        ({"edge_scale": torch.ones(4, dtype=F64)}, ValueError, "`edge_scale` must have shape .5."),
        ({"values": torch.ones(5, dtype=F64)}, ValueError, "`values` must have shape .15."),
        ({"bias": torch.ones(5, dtype=F64)}, ValueError, "`bias` must have shape .4."),
        ({"activation": "relu"}, ValueError, "`activation` must be None or 'elu', got 'relu'"),
        ({"by_edge": torch.zeros(5, 3)}, ValueError, "`by_edge` must be an int64 table"),
        ({"by_edge": torch.zeros(5, 2).long()}, ValueError, "`by_node` must hold the pairs"),
        (
            {"node_scale": torch.ones(7, dtype=F64, requires_grad=True)},
            ValueError,
            "`node_scale` must not require a gradient",
        ),
        ({"implementation": "fast"}, ValueError, "`implementation` must be one of"),
    ],
)
def test_bad_input_is_named(changed: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hgnn_propagate(**(case(7, 5, 3, 4) | changed))
