"""Laplacians against dense products and against DHG's own structure tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    Dense,
    Hypergraph,
    LowRank,
    laplacian_matrix,
    laplacian_product,
)
from hypergraph.incidence.base import TensorMap
from tests.hypergraph.oracle import F64, dense_incidence, hgnn, hypergraphs, inverse

KINDS = ("hgnn", "transition", "symmetric", "random_walk")


def definition(matrix: Tensor, weight: Tensor, kind: str) -> Tensor:
    """With explicit diagonal matrices."""
    identity = torch.eye(matrix.shape[0], dtype=matrix.dtype)
    smooth = hgnn(identity, matrix, weight)
    node = torch.diag(inverse(matrix @ weight, 1.0))
    walk = node @ matrix @ torch.diag(weight * inverse(matrix.sum(0), 1.0)) @ matrix.T
    kinds = {"hgnn": smooth, "transition": walk}
    return kinds.get(kind, identity - (smooth if kind == "symmetric" else walk))


@given(hypergraphs())
def test_equals_the_dense_product(h: Hypergraph) -> None:
    shape = (h.num_nodes, h.num_edges)
    matrix = dense_incidence(h.hyperedge_index, shape, h.incidence_weight)
    x = torch.randn(h.num_nodes, 3, dtype=F64)
    for kind in KINDS:
        expected = definition(matrix, h.weight(F64), kind)
        got = laplacian_matrix(h, kind, dtype=F64)  # type: ignore[arg-type]
        assert got.is_coalesced() and got.dtype == F64
        assert_close(got.to_dense(), expected)
        assert_close(laplacian_product(x, h, kind), expected @ x)  # type: ignore[arg-type]
        rows = laplacian_matrix(h, kind, "csr", F64)  # type: ignore[arg-type]
        assert rows.layout == torch.sparse_csr
        assert_close(rows @ x, expected @ x)
        assert_close(rows.to_dense(), expected)


def test_walks_go_somewhere_and_laplacians_are_symmetric() -> None:
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3], [3]], 5, torch.tensor([1.0, 0.5, 2.0]))
    walk = laplacian_matrix(h, "transition").to_dense()
    assert_close(walk.sum(1), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    symmetric = laplacian_matrix(h).to_dense()
    assert_close(symmetric, symmetric.T)
    values = torch.linalg.eigvalsh(symmetric.double())
    assert values.min() > -1e-7 and values.max() < 1 + 1e-7
    assert laplacian_matrix(Hypergraph.from_edges([])).shape == (0, 0)


def test_products_take_any_operator_and_batches() -> None:
    factors = torch.rand(5, 2, dtype=F64), torch.rand(4, 2, dtype=F64)
    low_rank = LowRank(*factors)
    dense = factors[0] @ factors[1].T
    x = torch.randn(3, 5, 2, dtype=F64)
    for kind in KINDS:
        expected = definition(dense, torch.ones(4, dtype=F64), kind) @ x
        assert_close(laplacian_product(x, low_rank, kind), expected)  # type: ignore[arg-type]
        samples = Dense(dense.expand(3, -1, -1))
        assert_close(laplacian_product(x, samples, kind), expected)  # type: ignore[arg-type]
    index = torch.tensor([[0, 1], [0, 0]])
    half = laplacian_product(torch.randn(3, 2).bfloat16(), index)
    assert half.dtype == torch.bfloat16
    y = torch.randn(3, 2)
    for kind in KINDS:
        matrix = laplacian_matrix(Hypergraph(index, 3), kind)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16):
            got = laplacian_product(y, index, kind)  # type: ignore[arg-type]
        assert_close(got, matrix.to_dense() @ y)  # in float32 all the same


def test_gradients() -> None:
    index = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 1, 0]])
    values = torch.rand(6, dtype=F64).add(0.1).requires_grad_()
    weight = torch.rand(2, dtype=F64).add(0.1).requires_grad_()

    def run(values: Tensor, weight: Tensor) -> list[Tensor]:
        h = Hypergraph(index, 4, 2, weight, values)
        return [laplacian_matrix(h, kind).to_dense() for kind in KINDS]  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(run, (values, weight))


def test_bad_arguments_are_named() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    with pytest.raises(ValueError, match="`kind` must be one of 'hgnn', 'transition'"):
        laplacian_matrix(h, "rw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`kind` must be one of"):
        laplacian_product(torch.ones(2, 1), h, "rw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`layout` must be one of 'coo', 'csr'"):
        laplacian_matrix(h, layout="dense")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`dtype` must be a floating dtype"):
        laplacian_matrix(h, dtype=torch.int64)
    with pytest.raises(TypeError, match="members can be listed"):
        laplacian_matrix(LowRank(torch.rand(3, 2), torch.rand(4, 2)))
    with pytest.raises(ValueError, match="`hypergraph` must have as many vertices"):
        laplacian_product(torch.ones(3, 1), h)


# ---- DHG 0.9.7


@pytest.fixture(scope="module", params=["isolated", "singleton", "weighted", "random"])
def dhg(request, shared_dir: Path) -> tuple[Hypergraph, dict[str, Tensor]]:
    folder = shared_dir / "golden" / "d_hypergraph" / request.param
    info = json.loads((folder / "info.json").read_text())
    weight = torch.tensor(info["e_weight_stored"])
    h = Hypergraph.from_edges(info["e_list_stored"], info["num_v"], weight)
    return h, load_file(folder / "tensors.safetensors")


def same(got: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value."""
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_structure_of_dhg(dhg: tuple[Hypergraph, dict[str, Tensor]]) -> None:
    h, golden = dhg
    same(h.to_dense(), golden["H"])
    same(h.weight(), golden["W_e"])
    same(h.node_degree(), golden["D_v"])
    same(h.edge_degree(), golden["D_e"])
    for name, kind in (("L_HGNN", "hgnn"), ("L_sym", "symmetric"), ("L_rw", "random_walk")):
        same(laplacian_matrix(h, kind).to_dense(), golden[name])
        same(laplacian_product(golden["X"], h, kind), golden[name] @ golden["X"])
    same(laplacian_product(golden["X"], h, "hgnn"), golden["smoothing_with_HGNN"])


def messages(h: Hypergraph, reduce: str) -> dict[str, TensorMap]:
    """DHG's v2e, e2v and v2v in terms of ours.

    DHG multiplies by W at the end of v2e, not in e2v, whose mean divides by the degrees with W all
    the same: only v2v is a mean. Ours have W in e2v. DHG's softmax is one of the incidence values,
    or of the message weights in their place; without them it is the mean, and in e2v leaves W out.
    """
    weight, plain = h.weight().unsqueeze(1), h.with_hyperedge_weight(None)
    if reduce == "softmax_then_sum":

        def v2e(x: Tensor) -> Tensor:
            return weight * h.v2e(x, "mean")

        def e2v(y: Tensor) -> Tensor:
            return plain.e2v(y, "mean")

        return {"v2e": v2e, "e2v": e2v, "v2v": lambda x: e2v(v2e(x))}
    return {
        "v2e": lambda x: weight * h.v2e(x, reduce),  # type: ignore[arg-type]
        "e2v": lambda y: h.e2v(y / weight if reduce == "mean" else y, reduce),  # type: ignore
        "v2v": lambda x: h.v2v(x, reduce),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("reduce", ["sum", "mean", "softmax_then_sum"])
def test_messages_of_dhg_and_their_gradients(
    dhg: tuple[Hypergraph, dict[str, Tensor]], reduce: str
) -> None:
    h, golden = dhg
    for name, function in messages(h, reduce).items():
        leaf = golden["Y" if name == "e2v" else "X"].clone().requires_grad_()
        out = function(leaf)
        same(out.detach(), golden[f"{name}.{reduce}"])
        out.backward(golden[f"{name}.{reduce}.cotangent"])
        assert leaf.grad is not None
        same(leaf.grad, golden[f"{name}.{reduce}.grad"])


def test_message_weights_of_dhg(dhg: tuple[Hypergraph, dict[str, Tensor]]) -> None:
    """Weights of single messages are incidence weights here."""
    h, golden = dhg
    x, y, weight = golden["X"], golden["Y"], h.weight().unsqueeze(1)
    into_edges = torch.stack([golden["v2e_src"], golden["v2e_dst"]])
    into_nodes = torch.stack([golden["e2v_dst"], golden["e2v_src"]])
    shape = (h.num_nodes, h.num_edges)
    a = Hypergraph(into_edges, *shape, incidence_weight=golden["message_weight"])
    b = Hypergraph(into_nodes, *shape, incidence_weight=golden["message_weight"])
    same(weight * a.v2e(x), golden["v2e.sum.with_v2e_weight"])
    same(b.e2v(y), golden["e2v.sum.with_e2v_weight"])

    plain = a.replace(incidence_weight=None)
    attention = plain.incidence_softmax(golden["message_weight"]).unsqueeze(1)
    out = plain.reduce_to_edges(attention * plain.gather_nodes(x), weighted=False)
    same(weight * out, golden["v2e.softmax_then_sum.with_v2e_weight"])
    plain = b.replace(incidence_weight=None)
    attention = plain.incidence_softmax(golden["message_weight"], "edges").unsqueeze(1)
    out = plain.reduce_to_nodes(attention * plain.gather_edges(y), weighted=False)
    same(out, golden["e2v.softmax_then_sum.with_e2v_weight"])

    # DHG's weighted means multiply by the sum of the weights where they should divide by it.
    edge_sum, node_sum = a.edge_degree().unsqueeze(1), b.node_degree().unsqueeze(1)
    same(weight * a.v2e(x) * edge_sum, golden["v2e.mean.with_v2e_weight"])
    same(b.e2v(y) * node_sum, golden["e2v.mean.with_e2v_weight"])
    for h, got, features in ((a.dual(), a.v2e(x, "mean"), x), (b, b.e2v(y, "mean"), y)):
        dense = h.to_dense().double()
        expected = inverse(dense.sum(1), 1.0).unsqueeze(1) * (dense @ features.double())
        same(got, expected.float())
