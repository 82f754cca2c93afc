"""Hypergraph neural networks whose hypergraphs may be built from the features themselves.

>>> import torch
>>> from hypergraph import DynamicHGConv
>>> DynamicHGConv(16, 32, k=4)(torch.randn(100, 16)).shape
torch.Size([100, 32])

``hypergraph.datasets``, ``generators``, ``io``, ``models``, ``sampling``, ``training`` and ``viz``
are loaded when they are first used.
"""

import importlib
from types import ModuleType

from hypergraph.collate import PaddedBatch, collate_padded
from hypergraph.construct import (
    KNN,
    AttributeGroups,
    Construction,
    CrossCorrelation,
    EpsilonBall,
    Fusion,
    FuzzyCMeans,
    ImageWindows,
    KHop,
    KMeans,
    StaticConstruction,
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
    AllDeepSetsConv,
    AllSetTransformerConv,
    AttentionPool,
    DHGNNConv,
    DynamicHGConv,
    EDHNNConv,
    EDHNNJumpLinkConv,
    EDHNNMeanDegConv,
    GraphNorm,
    HGNNConv,
    HGNNPConv,
    HMPNNConv,
    HNHNConv,
    HWNNConv,
    HyperGATConv,
    HyperGCNConv,
    HypergraphAttentionConv,
    HypergraphInstanceNorm,
    HypergraphLayerNorm,
    HypergraphPool,
    JHConv,
    LaplacianConv,
    MeanSubtractionNorm,
    PairNorm,
    TopK,
    TopKPool,
    UniGATConv,
    UniGCNConv,
    UniGCNIIConv,
    UniGINConv,
    UniSAGEConv,
    ViHGNNConv,
    extreme_members,
    hgnn_propagate,
    sample_members,
    unigcn_propagate,
)

__all__ = [
    "KNN",
    "AllDeepSetsConv",
    "AllSetTransformerConv",
    "AttentionPool",
    "AttributeGroups",
    "BlockDiagonal",
    "Concat",
    "Construction",
    "CrossCorrelation",
    "DHGNNConv",
    "Dense",
    "DynamicHGConv",
    "EDHNNConv",
    "EDHNNJumpLinkConv",
    "EDHNNMeanDegConv",
    "EpsilonBall",
    "FixedHypergraph",
    "Fusion",
    "FuzzyCMeans",
    "GraphNorm",
    "HGNNConv",
    "HGNNPConv",
    "HMPNNConv",
    "HNHNConv",
    "HWNNConv",
    "HyperGATConv",
    "HyperGCNConv",
    "Hypergraph",
    "HypergraphAttentionConv",
    "HypergraphInstanceNorm",
    "HypergraphLayerNorm",
    "HypergraphPool",
    "ImageWindows",
    "Incidence",
    "JHConv",
    "KHop",
    "KMeans",
    "LaplacianConv",
    "LowRank",
    "MeanSubtractionNorm",
    "MemberIncidence",
    "Members",
    "NeighborTable",
    "PaddedBatch",
    "PairNorm",
    "StaticConstruction",
    "Streamed",
    "TopK",
    "TopKPool",
    "UniGATConv",
    "UniGCNConv",
    "UniGCNIIConv",
    "UniGINConv",
    "UniSAGEConv",
    "ViHGNNConv",
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
    "sample_members",
    "star_expansion",
    "unigcn_propagate",
]

_ON_DEMAND = ("datasets", "generators", "io", "models", "sampling", "training", "viz")


def __getattr__(name: str) -> ModuleType:
    if name in _ON_DEMAND:
        return importlib.import_module(f"hypergraph.{name}")
    raise AttributeError(f"module 'hypergraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_DEMAND])
