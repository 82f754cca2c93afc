from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from hypergraph_kernels import (
    gather_reduce,
    gather_reduce_transposed,
    table_segments,
    transpose_table,
)
from hypergraph_kernels.gather_reduce.op import _gather_reduce, _gather_reduce_transposed

F64 = torch.float64
SIZES = [(1, 1, 1, 1), (7, 5, 3, 4), (3, 17, 1, 63), (64, 33, 25, 17), (5, 0, 3, 2), (4, 6, 0, 3)]


def case(
    num_rows: int, edges: int, slots: int, channels: int, dtype: torch.dtype = F64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(num_rows + edges)
    x, y = torch.randn(num_rows, channels).to(dtype), torch.randn(edges, channels).to(dtype)
    return x, y, torch.randint(0, num_rows, (edges, slots)), torch.randn(edges, slots).to(dtype)


def test_by_hand() -> None:
    """Edge 0 has rows 0 and 1, edge 1 has row 2 twice; row 3 is in none."""
    index = torch.tensor([[0, 1], [2, 2]])
    x, weights = torch.tensor([[1.0], [2.0], [4.0], [8.0]]), torch.tensor([[1.0, 10.0], [2.0, 3.0]])
    assert gather_reduce(x, index).tolist() == [[3], [8]]
    assert gather_reduce(x, index, weights).tolist() == [[21], [20]]
    y = torch.tensor([[1.0], [7.0]])
    assert gather_reduce_transposed(y, index, 4).flatten().tolist() == [1, 1, 14, 0]
    assert gather_reduce_transposed(y, index, 4, weights).flatten().tolist() == [1, 10, 35, 0]
    transposed = transpose_table(index, 4)
    assert transposed.columns.tolist() == [0, 0, 1, 1]
    assert transposed.offsets.tolist() == [0, 1, 2, 4, 4]
    assert table_segments(index).offsets.tolist() == [0, 2, 4]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_equals_the_reference(size: tuple[int, ...], weighted: bool, known: bool) -> None:
    x, y, index, weights = case(*size)
    transposed = transpose_table(index, size[0]) if known else None
    for name in ("x", "y"):
        results = []
        for implementation in ("cpu", "reference"):
            features = (x if name == "x" else y).clone().requires_grad_()
            chosen = weights.clone().requires_grad_() if weighted else None
            if name == "x":
                out = gather_reduce(
                    features, index, chosen, transposed, implementation=implementation
                )
            else:
                out = gather_reduce_transposed(
                    features, index, size[0], chosen, transposed, implementation=implementation
                )
            inputs = [features] if chosen is None else [features, chosen]
            grads = torch.autograd.grad(out.sin().sum(), inputs)
            results.append([out, *grads])
        assert_close(*results)


@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives(weighted: bool) -> None:
    x, y, index, weights = case(5, 4, 3, 2)
    transposed = transpose_table(index, 5)
    for run, features in (
        (lambda f, w=None: gather_reduce(f, index, w, transposed), x),
        (lambda f, w=None: gather_reduce_transposed(f, index, 5, w, transposed), y),
    ):
        inputs = (features.requires_grad_(),) + ((weights.requires_grad_(),) if weighted else ())
        assert gradcheck(run, inputs)
        assert gradgradcheck(run, inputs)


@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck(weighted: bool) -> None:
    x, y, index, weights = case(5, 4, 3, 2)
    lists = transpose_table(index, 5)
    chosen = weights.requires_grad_() if weighted else None
    torch.library.opcheck(_gather_reduce, (x, index, weights.detach(), None, None, None, "cpu"))
    torch.library.opcheck(_gather_reduce, (x.requires_grad_(), index, chosen, *lists, "cpu"))
    torch.library.opcheck(
        _gather_reduce_transposed, (y.requires_grad_(), index, chosen, *lists, "cpu")
    )


def test_they_are_transposes() -> None:
    x, y, index, weights = case(30, 20, 5, 3)
    forth = gather_reduce(x, index, weights)
    back = gather_reduce_transposed(y, index, 30, weights)
    assert_close((forth * y).sum(), (back * x).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    x, y, index, weights = case(20, 30, 5, 9, dtype)
    forth = gather_reduce(x, index, weights)
    back = gather_reduce_transposed(y, index, 20, weights)
    assert forth.dtype == back.dtype == dtype
    tolerance = {"rtol": 5 * torch.finfo(dtype).eps, "atol": 20 * torch.finfo(dtype).eps}
    assert_close(forth.to(F64), gather_reduce(x.to(F64), index, weights.to(F64)), **tolerance)
    exact = gather_reduce_transposed(y.to(F64), index, 20, weights.to(F64))
    assert_close(back.to(F64), exact, **tolerance)


def test_compiles_to_one_graph() -> None:
    x, _, index, weights = case(5, 4, 3, 2)

    def run(x: Tensor, weights: Tensor) -> Tensor:
        return gather_reduce_transposed(gather_reduce(x, index, weights), index, 5, weights)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, weights), run(x, weights))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.zeros(3, 2).long()}, TypeError, "`x` must be a floating-point tensor"),
        ({"x": [1.0]}, TypeError, "`x` must be a floating-point tensor, got list"),
        ({"x": torch.zeros(3)}, ValueError, "`x` and `index` must have shapes"),
        ({"index": torch.zeros(2, 2).int()}, TypeError, "`index` must be an int64 tensor"),
        ({"index": torch.zeros(2).long()}, ValueError, "`x` and `index` must have shapes"),
        ({"weights": torch.ones(2, 1)}, ValueError, "`weights` must have the shape of `index`"),
        ({"weights": torch.ones(2, 2).double()}, ValueError, "torch.float32 on cpu"),
        ({"implementation": "fast"}, ValueError, "`implementation` must be one of"),
        ({"implementation": "compiled"}, ValueError, "cannot run gather_reduce"),
    ],
)
def test_bad_input_is_named(arguments: dict, error: type[Exception], message: str) -> None:
    index = torch.tensor([[0, 1], [2, 2]])
    with pytest.raises(error, match=message):
        gather_reduce(**({"x": torch.zeros(3, 2), "index": index} | arguments))


def test_bad_transposed_input_is_named() -> None:
    index = torch.tensor([[0, 1], [2, 2]])
    with pytest.raises(ValueError, match="`y` must have as many rows as `index`, 2, got .3, 2"):
        gather_reduce_transposed(torch.zeros(3, 2), index, 3)
    with pytest.raises(ValueError, match="`transposed` must have num_rows=3 segments, got 4"):
        gather_reduce_transposed(torch.zeros(2, 2), index, 3, None, transpose_table(index, 4))
