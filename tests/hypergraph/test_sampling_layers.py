"""Every layer of the library computes for the seeds of a batch what it computes on the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hypergraph import Hypergraph
from hypergraph.datasets.synthetic import planted_partition
from hypergraph.sampling import NeighborSampler
from tests.hypergraph.nn.cases import CASES, LayerCase

# Hops that a layer needs, where that is not one: HyperGCN's graph degrees and the attention over a
# vertex' hyperedges look at all members of the neighbours' hyperedges, and HWNN applies the
# smoothing k1 + k2 - 2 times.
HOPS = {"HyperGCN": 2, "HypergraphAttentionConv over edges": 2, "HWNNConv": 4}


def hops(name: str, depth: int) -> int:
    return depth * next((count for start, count in HOPS.items() if name.startswith(start)), 1)


@pytest.fixture(scope="module")
def medium() -> Hypergraph:
    """300 vertices, some isolated, hyperedges of 0 to 5 members, weights, repeated pairs."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(0, 6, (260,), generator=generator)
    h = planted_partition(300, 3, 260, sizes, 0.5, isolated=0.1, seed=0).hypergraph
    repeated = torch.cat([h.hyperedge_index, h.hyperedge_index[:, :20]], 1)
    nnz = repeated.shape[1]
    return Hypergraph(
        repeated,
        300,
        260,
        torch.rand(260, generator=generator, dtype=torch.float64) + 0.1,
        torch.rand(nnz, generator=generator, dtype=torch.float64) + 0.1,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_networks_give_seeds_their_full_output(case: LayerCase, medium: Hypergraph) -> None:
    layer = case.make().double().eval()
    x = torch.randn(300, case.in_channels, dtype=torch.float64)

    def network(x: Tensor, h: Hypergraph, depth: int) -> Tensor:
        for number in range(depth):
            if number:
                x = torch.tanh(x @ mix[: x.shape[1]])
            torch.manual_seed(0)  # for layers that draw a vector
            x = case.call(layer, x, h)
        return x

    mix = torch.randn(64, case.in_channels, dtype=torch.float64)
    seeds = torch.tensor([17, 3, 250, 101])
    with torch.no_grad():
        for depth in (1, 2):
            batch = NeighborSampler(medium, [None] * hops(case.name, depth))(seeds)
            assert len(batch.nodes) < 300
            out = network(x[batch.nodes], batch.hypergraph, depth)[:4]
            torch.testing.assert_close(out, network(x, medium, depth)[seeds])
