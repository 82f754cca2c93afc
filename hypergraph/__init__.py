"""Hypergraph neural networks whose hypergraphs may be built from the features themselves.

>>> import torch
>>> from hypergraph import DynamicHGConv
>>> DynamicHGConv(16, 32, k=4)(torch.randn(100, 16)).shape
torch.Size([100, 32])
"""

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
from hypergraph.nn import (
    AllSetTransformerConv,
    DynamicHGConv,
    HGNNConv,
    HyperGCNConv,
    UniGCNIIConv,
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
    "Streamed",
    "UniGCNIIConv",
    "WeightedSum",
    "extreme_members",
    "fuse",
    "hgnn_propagate",
    "part_shares",
    "unigcn_propagate",
]
