"""Constructions: modules that build a hypergraph from features."""

from hypergraph.construct.base import Construction
from hypergraph.construct.cross_correlation import CrossCorrelation
from hypergraph.construct.epsilon_ball import EpsilonBall
from hypergraph.construct.fusion import Fusion, fuse, part_shares
from hypergraph.construct.fuzzy_cmeans import FuzzyCMeans
from hypergraph.construct.kmeans import KMeans
from hypergraph.construct.knn import KNN

__all__ = [
    "KNN",
    "Construction",
    "CrossCorrelation",
    "EpsilonBall",
    "Fusion",
    "FuzzyCMeans",
    "KMeans",
    "fuse",
    "part_shares",
]
