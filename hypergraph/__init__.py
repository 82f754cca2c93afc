"""Hypergraph neural networks whose hypergraphs may be built from the features themselves.

>>> import torch
>>> from hypergraph import DynamicHGConv
>>> DynamicHGConv(16, 32, k=4)(torch.randn(100, 16)).shape
torch.Size([100, 32])
"""

from hypergraph.collate import PaddedBatch, collate_padded
from hypergraph.construct import (
    KNN,
    Construction,
    CrossCorrelation,
    EpsilonBall,
    Fusion,
    FuzzyCMeans,
    KMeans,
    fuse,
    part_shares,
)
from hypergraph.expansion import (
    clique_expansion,
    line_expansion,
    line_graph,
    star_expansion,
)
from hypergraph.incidence import (
    BlockDiagonal,
    Concat,
    Dense,
    FixedHypergraph,
    Hypergraph,
    Incidence,
    LowRank,
    MemberIncidence,
    Members,
    NeighborTable,
    Streamed,
    WeightedSum,
)
from hypergraph.laplacian import laplacian_matrix, laplacian_product
from hypergraph.nn import (
    AllSetTransformerConv,
    DynamicHGConv,
    HGNNConv,
    HyperGCNConv,
    UniGCNConv,
    UniGCNIIConv,
    UniGINConv,
    UniSAGEConv,
    extreme_members,
    hgnn_propagate,
    unigcn_propagate,
)

__all__ = [
    "KNN",
    "AllSetTransformerConv",
    "BlockDiagonal",
    "Concat",
    "Construction",
    "CrossCorrelation",
    "Dense",
    "DynamicHGConv",
    "EpsilonBall",
    "FixedHypergraph",
    "Fusion",
    "FuzzyCMeans",
    "HGNNConv",
    "HyperGCNConv",
    "Hypergraph",
    "Incidence",
    "KMeans",
    "LowRank",
    "MemberIncidence",
    "Members",
    "NeighborTable",
    "PaddedBatch",
    "Streamed",
    "UniGCNConv",
    "UniGCNIIConv",
    "UniGINConv",
    "UniSAGEConv",
    "WeightedSum",
    "clique_expansion",
    "collate_padded",
    "extreme_members",
    "fuse",
    "hgnn_propagate",
    "laplacian_matrix",
    "laplacian_product",
    "line_expansion",
    "line_graph",
    "part_shares",
    "star_expansion",
    "unigcn_propagate",
]
