"""Hypergraph layers."""

from hypergraph.nn.dynamic_hg_conv import DynamicHGConv
from hypergraph.nn.hgnn_conv import HGNNConv, hgnn_propagate

__all__ = ["DynamicHGConv", "HGNNConv", "hgnn_propagate"]
