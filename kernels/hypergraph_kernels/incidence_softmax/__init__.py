"""Attention over ragged segments."""

from hypergraph_kernels.incidence_softmax.op import incidence_softmax

__all__ = ["incidence_softmax"]
