"""Sums of rows that a table names, and the transpose of that."""

from hypergraph_kernels.gather_reduce._table import table_segments, transpose_table
from hypergraph_kernels.gather_reduce.op import gather_reduce, gather_reduce_transposed

__all__ = ["gather_reduce", "gather_reduce_transposed", "table_segments", "transpose_table"]
