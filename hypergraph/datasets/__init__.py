"""Benchmark data sets with labels: loaders, splits, features."""

from hypergraph.datasets.npz import read_npz, write_npz
from hypergraph.datasets.record import HypergraphDataset, Split
from hypergraph.datasets.splits import label_features, random_splits

__all__ = [
    "HypergraphDataset",
    "Split",
    "label_features",
    "random_splits",
    "read_npz",
    "write_npz",
]
