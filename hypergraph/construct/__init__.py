"""Constructions: modules that build a hypergraph from features."""

from hypergraph.construct.attribute_groups import AttributeGroups
from hypergraph.construct.base import Construction
from hypergraph.construct.cross_correlation import CrossCorrelation
from hypergraph.construct.epsilon_ball import EpsilonBall
from hypergraph.construct.fusion import Fusion, fuse, part_shares
from hypergraph.construct.fuzzy_cmeans import FuzzyCMeans
from hypergraph.construct.image_windows import ImageWindows
from hypergraph.construct.khop import KHop
from hypergraph.construct.kmeans import KMeans
from hypergraph.construct.knn import KNN
from hypergraph.construct.static import StaticConstruction

__all__ = [
    "KNN",
    "AttributeGroups",
    "Construction",
    "CrossCorrelation",
    "EpsilonBall",
    "Fusion",
    "FuzzyCMeans",
    "ImageWindows",
    "KHop",
    "KMeans",
    "StaticConstruction",
    "fuse",
    "part_shares",
]
