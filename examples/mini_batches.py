"""Train on a hypergraph in mini-batches, and get the exact outputs of the whole from batches.

    python examples/mini_batches.py
    python examples/mini_batches.py --nodes 100000 --workers 2

``NeighborSampler`` draws, for a batch of seed vertices, as many hyperedges and members as asked
for, hop by hop. Training uses 3 hyperedges per vertex and 3 members per hyperedge; the outputs at
the end come from batches with all of them (None), and are those of the whole hypergraph, which the
example checks. Features are noisy labels: the table compares with an MLP on the same features.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypergraph import Hypergraph, UniSAGEConv
from hypergraph.datasets import HypergraphDataset
from hypergraph.datasets.synthetic import planted_partition
from hypergraph.sampling import NeighborSampler


class Network(nn.Module):
    """Two convolutions; without hypergraph an MLP of the same width."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        # Means on both sides: a mean over drawn members is an estimate of that over all.
        self.first = UniSAGEConv(channels, width, bias=True, e2v_reduce="mean")
        self.second = UniSAGEConv(width, classes, bias=True, e2v_reduce="mean")

    def forward(self, x: Tensor, h: Hypergraph) -> Tensor:
        """Scores [N, classes]."""
        x = nn.functional.dropout(self.first(x, h).relu(), 0.3, self.training)
        return self.second(x, h)


def train_in_batches(model: Network, data: HypergraphDataset, sampler: NeighborSampler,
                     epochs: int, workers: int, seed: int) -> tuple[float, float]:  # fmt: skip
    """Train; seconds per epoch, and vertices per batch on average."""
    assert data.x is not None
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    train = data.splits[0].train
    loader = sampler.loader(train, batch_size=128, shuffle=True, seed=seed, num_workers=workers)
    start, seen, steps = time.perf_counter(), 0, 0
    model.train()
    for _ in range(epochs):
        for batch in loader:
            # The batch is numbered anew, seeds first; batch.nodes are the original numbers.
            out = model(data.x[batch.nodes], batch.hypergraph)[: batch.num_seeds]
            loss = nn.functional.cross_entropy(out, data.y[batch.seeds])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen, steps = seen + len(batch.nodes), steps + 1
    return (time.perf_counter() - start) / max(epochs, 1), seen / max(steps, 1)


@torch.no_grad()
def outputs_in_batches(model: Network, data: HypergraphDataset) -> Tensor:
    """The outputs for all vertices, a batch at a time."""
    assert data.x is not None
    model.eval()
    sampler = NeighborSampler(data.hypergraph, [None, None])
    out = torch.empty(data.hypergraph.num_nodes, data.num_classes)
    for batch in sampler.loader(batch_size=4096):
        out[batch.seeds] = model(data.x[batch.nodes], batch.hypergraph)[: batch.num_seeds]
    return out


def accuracy(out: Tensor, data: HypergraphDataset) -> float:
    """Share of right answers among the test vertices."""
    test = data.splits[0].test
    return float((out[test].argmax(1) == data.y[test]).float().mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=0)
    settings = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(settings.seed)
    data = planted_partition(
        settings.nodes, 8, settings.nodes, (2, 8), homophily=0.7, num_features=16,
        noise=1.0, seed=settings.seed,
    )  # fmt: skip
    assert data.x is not None
    h = data.hypergraph

    model = Network(data.num_features, data.num_classes)
    sampler = NeighborSampler(h, num_hyperedges=[3, 3], num_members=3, boundary=False)
    seconds, vertices = train_in_batches(
        model, data, sampler, settings.epochs, settings.workers, settings.seed
    )
    from_batches = outputs_in_batches(model, data)
    with torch.no_grad():
        whole = model(data.x, h)
    torch.testing.assert_close(from_batches, whole, rtol=1e-4, atol=1e-4)

    alone = Hypergraph(torch.empty(2, 0, dtype=torch.long), h.num_nodes, 0)  # no hyperedges: an MLP
    mlp = Network(data.num_features, data.num_classes)
    train_in_batches(
        mlp, data, NeighborSampler(alone, [1, 1]), settings.epochs, settings.workers, settings.seed
    )
    mlp.eval()
    with torch.no_grad():
        without = mlp(data.x, alone)

    results = {"MLP": accuracy(without, data), "mini-batches": accuracy(from_batches, data)}
    print(f"{h.num_nodes} vertices, {h.num_edges} hyperedges, {h.nnz} pairs")
    print(f"batches of 128 seeds hold {vertices:.0f} vertices; {seconds:.1f} s per epoch")
    print(f"largest difference, outputs from batches and from the whole: "
          f"{float((from_batches - whole).abs().max()):.1g}")  # fmt: skip
    print(f"\n{'':20}test accuracy")
    for name, value in results.items():
        print(f"{name:20}{100 * value:10.1f} %")
    print(f"\n{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} thread(s)")
    return results


if __name__ == "__main__":
    main()
