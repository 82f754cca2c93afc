"""Hypergraph layers."""

from hypergraph.nn.all_deep_sets import AllDeepSetsConv
from hypergraph.nn.all_set_transformer import AllSetTransformerConv
from hypergraph.nn.dhgnn_conv import DHGNNConv, sample_members
from hypergraph.nn.dynamic_hg_conv import DynamicHGConv
from hypergraph.nn.ed_hnn import EDHNNConv, EDHNNJumpLinkConv, EDHNNMeanDegConv
from hypergraph.nn.hgnn_conv import HGNNConv, hgnn_propagate
from hypergraph.nn.hgnnp_conv import HGNNPConv
from hypergraph.nn.hmpnn_conv import HMPNNConv
from hypergraph.nn.hnhn_conv import HNHNConv
from hypergraph.nn.hwnn_conv import HWNNConv
from hypergraph.nn.hypergat_conv import HyperGATConv
from hypergraph.nn.hypergcn_conv import HyperGCNConv, extreme_members
from hypergraph.nn.hypergraph_attention_conv import HypergraphAttentionConv
from hypergraph.nn.jh_conv import JHConv
from hypergraph.nn.laplacian_conv import LaplacianConv
from hypergraph.nn.norm import (
    GraphNorm,
    HypergraphInstanceNorm,
    HypergraphLayerNorm,
    MeanSubtractionNorm,
    PairNorm,
)
from hypergraph.nn.pool import AttentionPool, HypergraphPool, TopK, TopKPool
from hypergraph.nn.unigat_conv import UniGATConv
from hypergraph.nn.unigcn_conv import UniGCNConv
from hypergraph.nn.unigcnii_conv import UniGCNIIConv
from hypergraph.nn.unigin_conv import UniGINConv
from hypergraph.nn.unignn import unigcn_propagate
from hypergraph.nn.unisage_conv import UniSAGEConv
from hypergraph.nn.vihgnn_conv import ViHGNNConv

__all__ = [
    "AllDeepSetsConv",
    "AllSetTransformerConv",
    "AttentionPool",
    "DHGNNConv",
    "DynamicHGConv",
    "EDHNNConv",
    "EDHNNJumpLinkConv",
    "EDHNNMeanDegConv",
    "GraphNorm",
    "HGNNConv",
    "HGNNPConv",
    "HMPNNConv",
    "HNHNConv",
    "HWNNConv",
    "HyperGATConv",
    "HyperGCNConv",
    "HypergraphAttentionConv",
    "HypergraphInstanceNorm",
    "HypergraphLayerNorm",
    "HypergraphPool",
    "JHConv",
    "LaplacianConv",
    "MeanSubtractionNorm",
    "PairNorm",
    "TopK",
    "TopKPool",
    "UniGATConv",
    "UniGCNConv",
    "UniGCNIIConv",
    "UniGINConv",
    "UniSAGEConv",
    "ViHGNNConv",
    "extreme_members",
    "hgnn_propagate",
    "sample_members",
    "unigcn_propagate",
]
