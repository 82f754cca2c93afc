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
from hypergraph.datasets.synthetic import (
    HyperedgeDataset,
    HypergraphCollection,
    planted_partition,
    wiring_families,
)

__all__ = [
    "DatasetInfo",
    "HyperedgeDataset",
    "HypergraphCollection",
    "HypergraphDataset",
    "Split",
    "content_digest",
    "default_root",
    "info",
    "label_features",
    "load",
    "names",
    "planted_partition",
    "random_splits",
    "read_npz",
    "wiring_families",
    "write_npz",
]
