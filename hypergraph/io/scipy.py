"""scipy sparse matrices."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import check_hypergraph, given_fields, optional_module, refuse_loss

if TYPE_CHECKING:
    from scipy.sparse import sparray


def to_scipy(
    hypergraph: Hypergraph,
    format: Literal["coo", "csr", "csc"] = "coo",
    lossy: bool = False,
) -> "sparray":
    """The incidence matrix H as a scipy sparse array [num_nodes, num_edges].

    ``"coo"`` keeps every pair, in order, repeated ones too; ``"csr"`` and ``"csc"`` add repeated
    pairs up, which is the same H.

    Args:
        hypergraph: with incidence weights or without (ones in float32).
        format: of the array.
        lossy: drop what a matrix cannot hold: all fields but the incidence weights.

    Raises:
        ValueError: the hypergraph has more than its incidence, and ``lossy`` is False.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import from_scipy, to_scipy
        >>> matrix = to_scipy(Hypergraph.from_edges([[0, 1], [1]], num_nodes=3))
        >>> matrix.toarray().tolist()
        [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
        >>> from_scipy(matrix)
        Hypergraph(num_nodes=3, num_edges=2, nnz=3, device='cpu')
    """
    h = check_hypergraph(hypergraph)
    check_choice("format", format, ("coo", "csr", "csc"))
    refuse_loss("a scipy matrix", given_fields(h, but=("incidence_weight",)), lossy)
    sparse = optional_module("scipy.sparse", "scipy")
    rows, columns = h.hyperedge_index.detach().cpu().numpy()
    if h.incidence_weight is None:
        values: Any = np.ones(rows.shape[0], np.float32)
    elif h.incidence_weight.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"`incidence_weight` must be float32 or float64 for scipy, got "
            f"{h.incidence_weight.dtype}; convert with .to(torch.float32)"
        )
    else:
        values = h.incidence_weight.detach().cpu().numpy()
    matrix = sparse.coo_array((values, (rows, columns)), shape=(h.num_nodes, h.num_edges))
    return matrix.asformat(format)


def from_scipy(matrix: Any, hyperedge_weight: Tensor | None = None) -> Hypergraph:
    """Take a scipy sparse matrix or array as the incidence H.

    Args:
        matrix: [num_nodes, num_edges], non-negative, any sparse format; every stored entry becomes
            a pair, zeros too. Boolean and integer entries become numbers of PyTorch's default
            dtype; entries that are all one give a hypergraph without incidence weights.
        hyperedge_weight: [num_edges]; default ones.

    Raises:
        TypeError, ValueError: it is no sparse matrix of two dimensions with non-negative numbers.
    """
    sparse = optional_module("scipy.sparse", "scipy")
    if not sparse.issparse(matrix):
        raise TypeError(
            f"`matrix` must be a scipy sparse matrix, got {type(matrix).__name__}; "
            "for a dense one use Hypergraph.from_dense"
        )
    if len(matrix.shape) != 2:
        raise ValueError(
            f"`matrix` must have shape [num_nodes, num_edges], got {list(matrix.shape)}"
        )
    if matrix.dtype.kind not in "buif":
        raise TypeError(f"`matrix` must hold real numbers, got {matrix.dtype}")
    pairs = matrix.tocoo()
    index = torch.from_numpy(np.stack([pairs.row, pairs.col]).astype(np.int64))
    values = None
    if not bool((pairs.data == 1).all()):
        # Copies: they would share memory with the caller's matrix.
        if pairs.data.dtype in (np.float32, np.float64):
            values = torch.from_numpy(pairs.data.copy())
        else:
            values = torch.from_numpy(pairs.data.astype(np.float64))
            if pairs.data.dtype.kind != "f":  # else longdouble, which PyTorch has not
                values = values.to(torch.get_default_dtype())
    num_nodes, num_edges = matrix.shape
    return Hypergraph(index, int(num_nodes), int(num_edges), hyperedge_weight, values)
