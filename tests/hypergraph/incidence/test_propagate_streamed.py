"""HGNN's propagation through learned hyperedges, alone and beside others, against the matrix."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from hypergraph import (
    Concat,
    Dense,
    Incidence,
    LowRank,
    NeighborTable,
    Streamed,
    WeightedSum,
    fuse,
)
from hypergraph.nn.hgnn_conv import hgnn_propagate

F64 = torch.float64
NODES, RANK = 11, 3
Build = Callable[[Tensor, Tensor, Tensor, Tensor], Incidence]


def _table(p: Tensor) -> NeighborTable:
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, NODES, (*p.shape[:-1], 3), generator=generator)
    return NeighborTable(index, NODES)


def _thin(p: Tensor, q: Tensor) -> LowRank:
    return LowRank(p.square(), q.square())


BUILDS: dict[str, Build] = {
    "abs": lambda p, q, c, w: Streamed(p, q),
    "weighted": lambda p, q, c, w: Streamed(p, q, hyperedge_weight=w),
    "softmax over edges": lambda p, q, c, w: Streamed(p, q, "softmax"),
    "softmax over nodes": lambda p, q, c, w: Streamed(p, q, "softmax", "nodes"),
    "scaled": lambda p, q, c, w: WeightedSum([Streamed(p, q)], [c]),
    "sum": lambda p, q, c, w: WeightedSum([_table(p), Streamed(p, q)], [0.5, c]),
    "weighted sum": lambda p, q, c, w: WeightedSum([Streamed(p, q), _table(p)], [c, 1.0], w),
    "sum of softmax": lambda p, q, c, w: WeightedSum(
        [_table(p), Streamed(p, q, "softmax")], [1, c]
    ),
    "two streamed": lambda p, q, c, w: WeightedSum([Streamed(p, q), Streamed(q, p)], [c, 2.0]),
    "concat": lambda p, q, c, w: Concat([_table(p), Streamed(p, q, "abs", hyperedge_weight=w)]),
    "fused sum": lambda p, q, c, w: fuse([_table(p), Streamed(p, q)], "sum"),
    "fused concat": lambda p, q, c, w: fuse([_table(p), Streamed(p, q)], "concat"),
    "thin": lambda p, q, c, w: WeightedSum([_table(p), _thin(p, q)], [0.5, c]),
    "thin first": lambda p, q, c, w: WeightedSum(
        [_thin(p, q), _table(p), Streamed(p, q)], [c, 1.0, 0.3], w
    ),
    "two thin": lambda p, q, c, w: WeightedSum([_thin(p, q), _thin(q, p)], [1.0, c]),
    "no table": lambda p, q, c, w: WeightedSum([_table(p), _table(q)], [c, 0.3]),
}


def _inputs(samples: int | None) -> tuple[Tensor, ...]:
    batch = () if samples is None else (samples,)
    p, q = (torch.randn(*batch, NODES, RANK, dtype=F64) for _ in range(2))
    c, w = torch.rand(batch, dtype=F64) + 0.5, torch.rand(*batch, NODES, dtype=F64)
    z = torch.randn(*batch, NODES, 4, dtype=F64)
    return tuple(tensor.requires_grad_() for tensor in (p, q, c, w, z))


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("samples", [None, 2])
@pytest.mark.parametrize("kind", BUILDS)
def test_output_and_gradients_are_those_of_the_matrix(
    kind: str, samples: int | None, implementation: str
) -> None:
    p, q, c, w, z = _inputs(samples)
    # Factors that a graph leads to, as a construction makes them: their degrees may be kept.
    h = BUILDS[kind](p * 1.5, q * 0.5, c, w).with_implementation(implementation)
    stored = BUILDS[kind](p * 1.5, q * 0.5, c, w)
    out = hgnn_propagate(z, h)
    expected = hgnn_propagate(z, Dense(stored.to_dense(), stored.hyperedge_weight))
    assert_close(out, expected)
    towards = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, (p, q, c, w, z), towards, materialize_grads=True)
    grads = torch.autograd.grad(out, (p, q, c, w, z), towards, materialize_grads=True)
    assert_close(grads, wanted)


@pytest.mark.parametrize("kind", ["abs", "sum", "concat"])
def test_one_hypergraph_is_shared_by_a_batch(kind: str) -> None:
    p, q, c, w, _ = _inputs(None)
    z = torch.randn(3, NODES, 4, dtype=F64)
    h = BUILDS[kind](p, q, c, w)
    assert_close(hgnn_propagate(z, h), torch.stack([hgnn_propagate(part, h) for part in z]))


@pytest.mark.parametrize("kind", ["sum", "fused sum", "fused concat", "weighted"])
def test_a_second_derivative(kind: str) -> None:
    p, q, c, w, z = _inputs(None)

    def penalty(h: Incidence) -> tuple[Tensor, ...]:
        (grad,) = torch.autograd.grad(hgnn_propagate(z, h).sin().sum(), z, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), (p, q, z))

    stored = BUILDS[kind](p, q, c, w)
    expected = penalty(Dense(stored.to_dense(), stored.hyperedge_weight))
    assert_close(penalty(BUILDS[kind](p, q, c, w)), expected)


@pytest.mark.parametrize("kind", ["sum", "fused sum", "fused concat"])
def test_in_a_checkpoint(kind: str) -> None:
    p, q, c, w, z = _inputs(None)
    expected = torch.autograd.grad(
        hgnn_propagate(z, BUILDS[kind](p * 1.5, q * 0.5, c, w)).sin().sum(), (p, q, z)
    )
    h = BUILDS[kind](p * 1.5, q * 0.5, c, w)
    out = checkpoint(hgnn_propagate, z, h, use_reentrant=False)
    assert_close(torch.autograd.grad(out.sin().sum(), (p, q, z)), expected)


def test_the_matrix_is_passed_over_three_times_and_four_back() -> None:
    """Degrees, to hyperedges, to vertices; scores and degrees are made once for all of them."""
    p, q, _, _, z = _inputs(None)
    with torch.profiler.profile() as run:
        h = fuse([_table(p), Streamed(p * 1.5, q * 0.5)], "sum")
        hgnn_propagate(z, h).sin().sum().backward()
    names = [event.name for event in run.events() if "::cross_correlation" in event.name]
    ops = ["cross_correlation_scores"]
    ops += ["cross_correlation_degrees", "cross_correlation_propagate"]
    ops += ["cross_correlation_propagate_backward", "cross_correlation_degrees_backward"]
    assert names == [f"hypergraph_kernels::{name}" for name in ops]


def test_products_of_a_subclass_are_its_own() -> None:
    class Doubled(LowRank):
        def _v2e(self, x: Tensor) -> Tensor:
            return 2 * super()._v2e(x)

        def _e2v(self, y: Tensor) -> Tensor:
            return 2 * super()._e2v(y)

    p, q, _, _, z = _inputs(None)
    doubled = Doubled(p.square(), q.square())
    assert_close(
        hgnn_propagate(z, WeightedSum([doubled, _table(p)], [0.5, 1.0])),
        hgnn_propagate(z, WeightedSum([_thin(p, q), _table(p)], [1.0, 1.0])),
    )


def test_scores_are_not_pickled() -> None:
    p, z = torch.randn(100, 4), torch.randn(100, 3)
    h = Streamed(p, p * 0.5)
    h.keep_degrees(torch.float32)
    expected = hgnn_propagate(z, h)
    written = pickle.dumps(h)
    assert len(written) < 100 * 100
    assert_close(hgnn_propagate(z, pickle.loads(written)), expected)
