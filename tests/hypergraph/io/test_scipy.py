"""scipy sparse matrices: the same H, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hypergraph import Hypergraph
from hypergraph.io import from_scipy, to_scipy
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

sparse = pytest.importorskip("scipy.sparse", reason="skipped: scipy not installed")
BOTH = (torch.float32, torch.float64)


@given(hypergraphs(("incidence_weight",), dtypes=BOTH))
def test_a_hypergraph_comes_back(h: Hypergraph) -> None:
    got = from_scipy(to_scipy(h))
    if h.incidence_weight is not None and bool((h.incidence_weight == 1).all()):
        h = h.replace(incidence_weight=None)  # weights of one are no weights
    assert_same(got, h)


@given(hypergraphs(("incidence_weight",), dtypes=BOTH), st.sampled_from(["csr", "csc"]))
def test_compressed_formats_add_repeated_pairs_up(h: Hypergraph, format: Any) -> None:
    matrix = to_scipy(h, format)
    assert matrix.format == format
    dense = h.to_dense()
    np.testing.assert_allclose(matrix.toarray(), dense.numpy(), rtol=1e-6)
    assert torch.allclose(from_scipy(matrix).to_dense().to(dense.dtype), dense, rtol=1e-6)


def test_matrices_of_others() -> None:
    dense = np.array([[0, 2, 0], [1, 0, 0]])
    for make in (sparse.lil_array, sparse.csr_matrix, sparse.dok_array, sparse.bsr_array):
        h = from_scipy(make(dense), hyperedge_weight=torch.tensor([1.0, 2.0, 3.0]))
        assert h.to_dense().tolist() == dense.tolist()
        assert h.dtype == torch.float32
        assert h.weight().tolist() == [1, 2, 3]
    assert from_scipy(sparse.csr_array(dense.astype(bool))).incidence_weight is None
    stored_zero = sparse.coo_array(([0.0, 1.0], ([0, 1], [1, 0])), shape=(2, 2))
    assert from_scipy(stored_zero).nnz == 2
    for kind, expected in ((np.longdouble, torch.float64), (np.uint8, torch.float32)):
        assert from_scipy(sparse.csr_array(np.full((1, 1), 3, kind))).dtype == expected
    matrix = sparse.coo_array(([0.5], ([0], [0])), shape=(1, 1))
    h = from_scipy(matrix)
    matrix.data[0] = 9
    assert h.to_dense().item() == 0.5  # a copy


def test_misuse_and_loss_are_named() -> None:
    with pytest.raises(ValueError, match="`hyperedge_weight`.*`node_features`.*lossy=True"):
        to_scipy(everything())
    assert to_scipy(everything(), lossy=True).shape == (5, 4)
    with pytest.raises(ValueError, match="`format`"):
        to_scipy(Hypergraph.from_edges([[0]]), "dia")  # type: ignore[arg-type]
    half = Hypergraph(torch.zeros(2, 1, dtype=torch.long), incidence_weight=torch.ones(1).half())
    with pytest.raises(ValueError, match="float16"):
        to_scipy(half)
    with pytest.raises(TypeError, match="from_dense"):
        from_scipy(np.eye(2))
    with pytest.raises(TypeError, match="complex"):
        from_scipy(sparse.csr_array(np.eye(2, dtype=complex)))
    with pytest.raises(ValueError, match="negative"):
        from_scipy(sparse.csr_array(-np.eye(2)))
    with pytest.raises(ValueError, match="shape"):
        from_scipy(sparse.coo_array(np.ones(3)))
