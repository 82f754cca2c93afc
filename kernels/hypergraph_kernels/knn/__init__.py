"""Exact k nearest neighbours: see the README of this folder."""

from hypergraph_kernels.knn._neighbors import Metric, Neighbors
from hypergraph_kernels.knn.op import knn

__all__ = ["Metric", "Neighbors", "knn"]
