"""Hypergraph layers."""

from hypergraph.nn.all_set_transformer import AllSetTransformerConv
from hypergraph.nn.dynamic_hg_conv import DynamicHGConv
from hypergraph.nn.hgnn_conv import HGNNConv, hgnn_propagate
from hypergraph.nn.hypergcn_conv import HyperGCNConv, extreme_members
from hypergraph.nn.unigcn_conv import UniGCNConv
from hypergraph.nn.unigcnii_conv import UniGCNIIConv
from hypergraph.nn.unigin_conv import UniGINConv
from hypergraph.nn.unignn import unigcn_propagate
from hypergraph.nn.unisage_conv import UniSAGEConv

__all__ = [
    "AllSetTransformerConv",
    "DynamicHGConv",
    "HGNNConv",
    "HyperGCNConv",
    "UniGCNConv",
    "UniGCNIIConv",
    "UniGINConv",
    "UniSAGEConv",
    "extreme_members",
    "hgnn_propagate",
    "unigcn_propagate",
]
