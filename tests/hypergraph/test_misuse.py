"""Wrong arguments: an error that names the argument, in a process that survives it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hypergraph.misuse_runner import PRELUDE

RUNNER = Path(__file__).with_name("misuse_runner.py")

# (code, the argument that the message must name, ValueError or TypeError)
STRUCTURE = [
    ("Hypergraph(tensor([[0, -1], [0, 0]]))", "hyperedge_index", ValueError),
    ("Hypergraph(tensor([[0, 4], [0, 0]]), num_nodes=4)", "hyperedge_index", ValueError),
    ("Hypergraph(tensor([[0, 1], [0, 3]]), 4, num_edges=3)", "hyperedge_index", ValueError),
    ("Hypergraph(tensor([[0, 1], [0, -5]]))", "hyperedge_index", ValueError),
    ("Hypergraph(index.T)", "hyperedge_index", ValueError),
    ("Hypergraph(index[0])", "hyperedge_index", ValueError),
    ("Hypergraph(torch.zeros(3, 4).long())", "hyperedge_index", ValueError),
    ("Hypergraph(index.float())", "hyperedge_index", TypeError),
    ("Hypergraph(index.bool())", "hyperedge_index", TypeError),
    ("Hypergraph(index.numpy())", "hyperedge_index", TypeError),
    ("Hypergraph(index.tolist())", "hyperedge_index", TypeError),
    ("Hypergraph(None)", "hyperedge_index", TypeError),
    ("Hypergraph(index, num_nodes=2.0)", "num_nodes", TypeError),
    ("Hypergraph(index, num_nodes=-1)", "num_nodes", ValueError),
    ("Hypergraph(index, num_nodes=True)", "num_nodes", TypeError),
    ("Hypergraph(index, num_edges='3')", "num_edges", TypeError),
    ("Hypergraph(index, num_nodes=tensor(4))", "num_nodes", TypeError),
    ("Hypergraph(index, 4, 3, torch.ones(2))", "hyperedge_weight", ValueError),
    ("Hypergraph(index, 4, 3, torch.ones(3, 1))", "hyperedge_weight", ValueError),
    ("Hypergraph(index, 4, 3, tensor([1.0, -1.0, 1.0]))", "hyperedge_weight", ValueError),
    ("Hypergraph(index, 4, 3, tensor([1.0, nan, 1.0]))", "hyperedge_weight", ValueError),
    ("Hypergraph(index, 4, 3, tensor([1.0, inf, 1.0]))", "hyperedge_weight", ValueError),
    ("Hypergraph(index, 4, 3, torch.ones(3).long())", "hyperedge_weight", TypeError),
    ("Hypergraph(index, 4, 3, [1.0, 1.0, 1.0])", "hyperedge_weight", TypeError),
    ("Hypergraph(index, 4, 3, None, torch.ones(3))", "incidence_weight", ValueError),
    ("Hypergraph(index, 4, 3, None, -torch.ones(4))", "incidence_weight", ValueError),
    ("Hypergraph(index, 4, 3, None, torch.full((4,), nan))", "incidence_weight", ValueError),
    ("Hypergraph(index, 4, 3, None, torch.ones(4).int())", "incidence_weight", TypeError),
    ("Hypergraph.from_edges([[0, 1.5]])", "edges", TypeError),
    ("Hypergraph.from_edges([[0, -1]], 3)", "hyperedge_index", ValueError),
    ("Hypergraph.from_edges([[0, 5]], 3)", "hyperedge_index", ValueError),
    ("Hypergraph.from_edges([['a', 'b']])", "edges", TypeError),
    ("Hypergraph.from_dense(-torch.ones(2, 2))", "matrix", ValueError),
    ("Hypergraph.from_dense(torch.ones(2))", "matrix", ValueError),
    ("Hypergraph.from_dense([[1, 0]])", "matrix", ValueError),
    ("Hypergraph.from_dense(torch.full((2, 2), nan))", "matrix", ValueError),
    ("Hypergraph.batch([])", "hypergraphs", ValueError),
    ("h.to(torch.int32)", "dtype", TypeError),
    ("h.with_hyperedge_weight(torch.ones(7))", "hyperedge_weight", ValueError),
    ("h.with_hyperedge_weight(-torch.ones(3))", "hyperedge_weight", ValueError),
    ("NeighborTable(tensor([[0, 9]]), 4)", "index", ValueError),
    ("NeighborTable(tensor([[0, -1]]), 4)", "index", ValueError),
    ("NeighborTable(tensor([0, 1]), 4)", "index", ValueError),
    ("NeighborTable(tensor([[0.0, 1.0]]), 4)", "index", TypeError),
    ("NeighborTable(tensor([[0, 1]]), 4, torch.ones(2))", "weights", ValueError),
    ("NeighborTable(tensor([[0, 1]]), 4, -torch.ones(1, 2))", "weights", ValueError),
    ("NeighborTable(tensor([[0, 1]]), 4, None, torch.ones(1, 2))", "mask", TypeError),
    ("NeighborTable(tensor([[0, 1]]), 4, None, torch.ones(1, 3).bool())", "mask", ValueError),
    ("NeighborTable(tensor([[0, 1]]), 4.0)", "num_nodes", TypeError),
    ("Dense(-torch.ones(2, 2))", "matrix", ValueError),
    ("Dense(torch.ones(2))", "matrix", ValueError),
    ("Dense(torch.ones(2, 2).long())", "matrix", TypeError),
    ("LowRank(-torch.ones(3, 2), torch.ones(4, 2))", "p", ValueError),
    ("LowRank(torch.ones(3, 2), torch.ones(4, 3))", "q", ValueError),
    ("Streamed(torch.ones(3, 2), torch.ones(4, 2), 'square')", "function", ValueError),
    ("Concat([])", "parts", ValueError),
    ("Concat([h, Dense(torch.ones(5, 2))])", "parts", ValueError),
    ("Concat([h, index])", "parts", TypeError),
    ("WeightedSum([h, table], [1.0, 1.0])", "parts", ValueError),
    ("WeightedSum([h], [-1.0])", "coefficients", ValueError),
    ("BlockDiagonal([h], tensor([0, 0, 0]))", "blocks", ValueError),
    ("BlockDiagonal([index], tensor([0, 0, 0]))", "blocks", TypeError),
]
PRODUCTS = [
    ("h.v2e(torch.randn(5, 2))", "x", ValueError),
    ("h.v2e(torch.randn(4))", "x", ValueError),
    ("h.v2e(x.long())", "x", TypeError),
    ("h.v2e(x.numpy())", "x", TypeError),
    ("h.v2e(x, 'median')", "reduce", ValueError),
    ("h.v2e(torch.randn(5, 2), 'mean')", "x", ValueError),
    ("h.v2e(torch.randn(5, 2), 'max')", "x", ValueError),
    ("h.e2v(x)", "y", ValueError),
    ("h.e2v(x, 'mean')", "y", ValueError),
    ("h.e2v(y, 'mode')", "reduce", ValueError),
    ("h.v2v(x, 'mean', 'mode')", "e2v_reduce", ValueError),
    ("batched.v2e(x)", "x", ValueError),
    ("batched.v2e(torch.randn(3, 4, 5))", "x", ValueError),
    ("batched.gather_nodes(x)", "x", ValueError),
    ("h.gather_edges(x)", "y", ValueError),
    ("h.reduce_to_edges(x[:3])", "messages", ValueError),
    ("h.reduce_to_nodes(torch.randn(4, 5, 6, 7))", "messages", ValueError),
    ("h.reduce_to_edges(x, 'all')", "reduce", ValueError),
    ("h.incidence_softmax(torch.randn(3))", "scores", ValueError),
    ("h.incidence_softmax(torch.randn(4), 'vertices')", "over", ValueError),
    ("h.incidence_softmax(torch.ones(4).long())", "scores", TypeError),
    ("LowRank(torch.ones(4, 2), torch.ones(3, 2)).v2e(x, 'max')", "hypergraph", TypeError),
    ("Streamed(torch.ones(4, 2), torch.ones(3, 2)).with_members()", "hypergraph", TypeError),
]
LAYERS = [
    ("HGNNConv(5, 2)(x, tensor([[0, 9], [0, 0]]))", "hyperedge_index", ValueError),
    ("HGNNConv(5, 2)(x, Hypergraph(index, 3))", "hypergraph", ValueError),
    ("HGNNConv(5, 2)(x, index.float())", "hyperedge_index", TypeError),
    ("HGNNConv(5, 2)(x, h.to('meta'))", "hypergraph", ValueError),
    ("HGNNConv(5, 2)(x.half(), h)", "x", TypeError),
    ("HGNNConv(4, 2)(x, h)", "x", ValueError),
    ("HGNNConv(0, 2)", "in_channels", ValueError),
    ("HGNNConv(5, 2.0)", "out_channels", TypeError),
    ("DynamicHGConv(5, 2, k=0)", "k", ValueError),
    ("DynamicHGConv(5, 2, metric='manhattan')", "metric", ValueError),
    ("DynamicHGConv(5, 2, construction=KNN)", "construction", TypeError),
    ("DynamicHGConv(5, 2)(x, tensor([0, 0, 1]))", "batch", ValueError),
    ("DynamicHGConv(5, 2)(x, tensor([0, 0, 1, -1]))", "batch", ValueError),
    ("DynamicHGConv(5, 2)(x, tensor([0.0, 0.0, 1.0, 1.0]))", "batch", TypeError),
    ("DynamicHGConv(5, 2)(torch.full((4, 5), nan))", "x", ValueError),
    ("KNN(2)(torch.tensor([[0.0], [inf]]))", "x", ValueError),
    ("KNN(2.0)", "k", TypeError),
    ("KNN(2, threshold=nan)", "threshold", ValueError),
    ("KNN(2, threshold='far')", "threshold", TypeError),
    ("KNN(2, bandwidth=1.0)", "bandwidth", ValueError),
    ("KNN(2, differentiable=True)", "differentiable", ValueError),
    ("CrossCorrelation(5, nonneg='relu')", "nonneg", ValueError),
    ("CrossCorrelation(5, num_edges=3, omega='tied')", "num_edges", ValueError),
    ("CrossCorrelation(5)(torch.randn(3, 4))", "x", ValueError),
    ("Fusion([])", "constructions", TypeError),
]
CASES = STRUCTURE + PRODUCTS + LAYERS


@pytest.fixture(scope="module")
def answers(source_environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    codes = [code for code, _, _ in CASES]
    done = subprocess.run(
        [sys.executable, str(RUNNER)],
        input=json.dumps(codes),
        env={**source_environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(codes, map(tuple, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize(("code", "argument", "error"), CASES, ids=[case[0] for case in CASES])
def test_names_the_argument(
    code: str, argument: str, error: type[Exception], answers: dict[str, tuple[str, str]]
) -> None:
    kind, message = answers[code]
    assert kind == error.__name__, (kind, message)
    assert f"`{argument}" in message, message
    assert "got" in message, message


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    made: dict[str, object] = {}
    exec(PRELUDE, made)
    return made


@pytest.mark.parametrize(("code", "argument", "error"), CASES, ids=[case[0] for case in CASES])
def test_leaves_what_it_was_given_as_it_was(
    code: str, argument: str, error: type[Exception], names: dict[str, object]
) -> None:
    """In this process too, where nothing may be changed by the refused call."""
    with pytest.raises(error, match=f"`{re.escape(argument)}.*got"):
        exec(code, dict(names))
    assert names["h"].v2e(names["x"]).shape == (3, 5)  # type: ignore[attr-defined]
    assert names["index"].tolist() == [[0, 1, 1, 2], [0, 0, 1, 1]]  # type: ignore[attr-defined]


def test_there_are_many_cases_and_right_code_is_accepted(
    source_environment: dict[str, str],
) -> None:
    assert len({code for code, _, _ in CASES}) == len(CASES) >= 60
    lines = ["HGNNConv(5, 2)(x, h)", "h.v2v(x, 'max')", "import os; os.abort()"]
    done = subprocess.run(
        [sys.executable, str(RUNNER)],
        input=json.dumps(lines),
        env={**source_environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    kinds = [kind for kind, _ in json.loads(done.stdout)]
    assert kinds == ["accepted", "accepted", "signal 6"]
