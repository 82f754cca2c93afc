"""Incidence operators: one hypergraph, several exact representations."""

from hypergraph.incidence.base import Incidence, MemberIncidence, Members
from hypergraph.incidence.block_diagonal import BlockDiagonal
from hypergraph.incidence.concat import Concat
from hypergraph.incidence.dense import Dense
from hypergraph.incidence.fixed import FixedHypergraph
from hypergraph.incidence.low_rank import LowRank
from hypergraph.incidence.sparse import Hypergraph
from hypergraph.incidence.streamed import Streamed
from hypergraph.incidence.table import NeighborTable
from hypergraph.incidence.weighted_sum import WeightedSum

__all__ = [
    "BlockDiagonal",
    "Concat",
    "Dense",
    "FixedHypergraph",
    "Hypergraph",
    "Incidence",
    "LowRank",
    "MemberIncidence",
    "Members",
    "NeighborTable",
    "Streamed",
    "WeightedSum",
]
