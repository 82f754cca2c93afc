"""One hypergraph as a batch of equal hypergraphs."""

import torch
from torch import Tensor

from hypergraph.incidence import Dense, Incidence, Members, NeighborTable
from hypergraph.incidence.pair_list import PairList


def repeated(part: Incidence, samples: int) -> Incidence:
    """The same hypergraph for each of ``samples`` samples.

    Tables and dense matrices keep their form; anything else that lists its members becomes a list
    of pairs, numbered through the samples.

    Raises:
        TypeError: the operator lists no members.
    """

    def expanded(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.expand(samples, *tensor.shape)

    weight = part.hyperedge_weight
    if isinstance(part, NeighborTable):
        index = part.index.expand(samples, *part.index.shape)
        table = (expanded(part.weights), expanded(part.mask), weight)
        return NeighborTable(index, part.num_nodes, *table)._like(part)
    if isinstance(part, Dense):
        return Dense(part.matrix.expand(samples, *part.matrix.shape), weight)._like(part)
    node, hyperedge, value = part.with_members().members()
    sample = torch.arange(samples, device=part.device)[:, None]
    pairs = Members(
        (node + sample * part.num_nodes).flatten(),
        (hyperedge + sample * part.num_edges).flatten(),
        None if value is None else value.expand(samples, -1).flatten(),
    )
    return PairList(pairs, part.num_nodes, part.num_edges, samples, weight)._like(part)
