import pytest
import torch

from hypergraph import Hypergraph
from hypergraph.datasets import HypergraphDataset, Split


@pytest.fixture
def toy() -> HypergraphDataset:
    """Six vertices, one isolated; three hyperedges, the last empty; sparse features."""
    h = Hypergraph.from_edges([[0, 1, 2], [3, 2], []], num_nodes=6)
    x = torch.zeros(6, 10)
    x[0, 3] = x[1, 9] = x[4, 0] = 1.0
    x[5, 2] = -0.5
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    splits = (
        Split(torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([3, 4, 5])),
        Split(torch.tensor([5]), torch.tensor([4, 3]), torch.tensor([0, 1, 2])),
    )
    return HypergraphDataset("toy", h, x, y, splits, ("a", "b", "c"), "made here", "MIT")
