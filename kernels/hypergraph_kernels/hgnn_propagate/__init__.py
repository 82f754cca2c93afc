"""The HGNN operator of a fixed hypergraph."""

from hypergraph_kernels.hgnn_propagate.op import Activation, hgnn_propagate

__all__ = ["Activation", "hgnn_propagate"]
