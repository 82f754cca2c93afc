import pytest
import torch

from hypergraph import Hypergraph
from hypergraph.datasets import HypergraphDataset, label_features, random_splits


@pytest.fixture(scope="package")
def planted() -> HypergraphDataset:
    """120 vertices of 3 classes; hyperedges within a class; features that say little."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 3
    edges = []
    for number in range(90):
        members = (y == number % 3).nonzero().squeeze(1)
        edges.append(members[torch.randperm(40, generator=generator)[:4]].tolist())
    h = Hypergraph.from_edges(edges, 120)
    splits = tuple(random_splits(y, (0.3, 0.2, 0.5), seed) for seed in (1, 2))
    x = label_features(y, 8, noise=1.5)
    return HypergraphDataset("planted", h, x, y, splits)
