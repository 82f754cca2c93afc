"""Mini-batches: sub-hypergraphs around seed vertices, and hyperedges with negatives."""

from hypergraph.sampling.hyperedges import HyperedgeBatch, HyperedgeSampler
from hypergraph.sampling.negatives import Negatives, negative_hyperedges
from hypergraph.sampling.neighbors import NeighborBatch, NeighborSampler

__all__ = [
    "HyperedgeBatch",
    "HyperedgeSampler",
    "Negatives",
    "NeighborBatch",
    "NeighborSampler",
    "negative_hyperedges",
]
