"""When the HGNN operator is one kernel, and that it is the same as the composition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hypergraph import KNN, Dense, Hypergraph, NeighborTable, hgnn_propagate
from hypergraph.incidence import Incidence, _propagate
from hypergraph.incidence._propagate import takes_kernel

F64 = torch.float64
INDEX = torch.tensor([[0, 1, 1, 2, 3, 3], [0, 0, 1, 1, 1, 1]])
TABLE = torch.tensor([[0, 1, 2], [3, 3, 1]])


def weighted(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=F64) + 0.1


def mask() -> Tensor:
    return torch.tensor([[True, True, False], [True, False, True]])


CONSTANT: dict[str, Callable[[], Incidence]] = {
    "sparse": lambda: Hypergraph(INDEX, 5, 3),
    "sparse, all weights": lambda: Hypergraph(INDEX, 5, 3, weighted(3), weighted(6)),
    "sparse, zero weights": lambda: Hypergraph(INDEX, 5, 3, torch.zeros(3)),
    "table": lambda: NeighborTable(TABLE, 5),
    "table, hyperedge weights": lambda: NeighborTable(TABLE, 5, hyperedge_weight=weighted(2)),
    "table, weights": lambda: NeighborTable(TABLE, 5, weighted(2, 3)),
    "table, mask": lambda: NeighborTable(TABLE, 5, mask=mask()),
    "table, no slots": lambda: NeighborTable(TABLE[:, :0], 5),
    "batch": lambda: NeighborTable(torch.stack([TABLE, TABLE.flip(0) + 1]), 5),
    "batch, everything": lambda: NeighborTable(
        TABLE.expand(2, 2, 3), 5, weighted(2, 2, 3), mask().expand(2, 2, 3), weighted(2)
    ),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per call of the kernel."""
    found: list[str] = []
    kernel = _propagate.kernel

    def counted(*args: object, **kwargs: object) -> Tensor:
        found.append("kernel")
        return kernel(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(_propagate, "kernel", counted)
    return found


@pytest.mark.parametrize("kind", CONSTANT)
@pytest.mark.parametrize("shared", [False, True])
def test_the_kernel_equals_the_composition(kind: str, shared: bool, calls: list[str]) -> None:
    h = CONSTANT[kind]()
    batch = [h.batch_size] if h.batch_size is not None else [3] if shared else []
    z = torch.randn(*batch, 5, 4, dtype=F64, requires_grad=True)
    cotangent = torch.randn_like(z)
    results = []
    for operator in (h, h.with_implementation("reference"), Dense(h.to_dense(), h.weight())):
        out = hgnn_propagate(z, operator)
        results.append((out, *torch.autograd.grad(out, z, cotangent)))
    assert calls == ["kernel"]
    assert_close(results[0], results[1])
    tolerance = {} if kind in ("sparse, all weights",) else {"rtol": 1e-6, "atol": 1e-6}
    assert_close(results[0], results[2], **tolerance)


def test_it_is_taken_where_only_features_need_gradients() -> None:
    for make in CONSTANT.values():
        assert takes_kernel(make())
        assert not takes_kernel(make().with_implementation("reference"))
        assert takes_kernel(make().with_implementation("cpu"))
    learned = torch.ones(3, requires_grad=True)
    for h in (Hypergraph(INDEX, 5, 3, learned), Hypergraph(INDEX, 5, 3, learned * 2)):
        assert not takes_kernel(h)
        with torch.no_grad():
            assert takes_kernel(h)
    x = torch.randn(6, 3, requires_grad=True)
    rbf = KNN(3, weighting="rbf")
    assert takes_kernel(rbf(x))
    assert not takes_kernel(KNN(3, weighting="rbf", differentiable=True)(x))


@pytest.mark.parametrize("learned", ["hyperedge_weight", "weights"])
def test_learned_weights_get_their_gradients(learned: str, calls: list[str]) -> None:
    weight, values = weighted(2), weighted(2, 3)
    (weight if learned == "hyperedge_weight" else values).requires_grad_()
    z = torch.randn(5, 4, dtype=F64, requires_grad=True)
    inputs = [z, weight if learned == "hyperedge_weight" else values]
    table = NeighborTable(TABLE, 5, values, hyperedge_weight=weight)
    dense = torch.zeros(5, 2, dtype=F64).index_put(
        (TABLE.flatten(), torch.arange(2).repeat_interleave(3)), values.flatten(), accumulate=True
    )
    grads = [
        torch.autograd.grad(hgnn_propagate(z, h).sin().sum(), inputs)
        for h in (table, Dense(dense, weight))
    ]
    assert calls == []
    assert_close(*grads)
    assert all(bool((grad != 0).any()) for grad in grads[0])


def test_scales_follow_a_weight_that_changes_in_place() -> None:
    weight, z = torch.ones(2, dtype=F64), torch.randn(5, 4, dtype=F64)
    h = NeighborTable(TABLE, 5, hyperedge_weight=weight)
    hgnn_propagate(z, h)
    weight[0] = 7
    assert_close(hgnn_propagate(z, h), hgnn_propagate(z, h.with_implementation("reference")))


def test_wrong_features_are_named() -> None:
    h = NeighborTable(TABLE, 5)
    for operator in (h, h.with_implementation("reference")):
        with pytest.raises(ValueError, match="`z` must have shape .num_nodes=5, C"):
            operator.hgnn_propagate(torch.randn(4, 2))


def test_a_mask_changed_in_place_counts() -> None:
    index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    h, x = NeighborTable(index, 4, mask=mask), torch.randn(4, 5)
    before = h.hgnn_propagate(x)
    mask[0, 1] = False
    fresh = NeighborTable(index, 4, mask=mask.clone()).hgnn_propagate(x)
    assert not torch.equal(before, fresh)
    assert torch.equal(h.hgnn_propagate(x), fresh)
