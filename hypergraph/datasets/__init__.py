"""Benchmark data sets with labels: loaders, splits, features."""

from hypergraph.datasets.catalogue import (
    DatasetInfo,
    content_digest,
    default_root,
    info,
    load,
    names,
)
from hypergraph.datasets.npz import read_npz, write_npz
from hypergraph.datasets.record import HypergraphDataset, Split
from hypergraph.datasets.splits import label_features, random_splits

__all__ = [
    "DatasetInfo",
    "HypergraphDataset",
    "Split",
    "content_digest",
    "default_root",
    "info",
    "label_features",
    "load",
    "names",
    "random_splits",
    "read_npz",
    "write_npz",
]
