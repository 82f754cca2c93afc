"""The definition: gather a row for every slot of the table, multiply, add up."""

from torch import Tensor


def gather_reduce(x: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
    """``out[e] = sum over slots j of weights[e, j] * x[index[e, j]]``."""
    rows = x[index]
    if weights is not None:
        rows = rows * weights.unsqueeze(-1)
    return rows.sum(1)


def gather_reduce_transposed(
    y: Tensor, index: Tensor, num_rows: int, weights: Tensor | None
) -> Tensor:
    """``out[v] = sum over slots (e, j) with index[e, j] = v of weights[e, j] * y[e]``."""
    rows = y.unsqueeze(1).expand(*index.shape, y.shape[1])
    if weights is not None:
        rows = rows * weights.unsqueeze(-1)
    out = rows.new_zeros(num_rows, y.shape[1])
    return out.index_add(0, index.flatten(), rows.reshape(-1, y.shape[1]))
