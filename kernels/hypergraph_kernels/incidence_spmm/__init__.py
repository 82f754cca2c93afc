"""Sparse incidence times features, and the inner products that are its gradient."""

from hypergraph_kernels.incidence_spmm.op import incidence_spmm, sampled_dot

__all__ = ["incidence_spmm", "sampled_dot"]
