"""Tell hypergraphs apart by how they are wired.

    python examples/hypergraph_classification.py
    python examples/hypergraph_classification.py --seed 1 --epochs 60

The data are ``wiring_families``: four families with the same numbers of vertices, the same vertex
degrees and the same hyperedge sizes, which differ only in who meets whom. The baseline is a network
on just these numbers (how many vertices have degree 1, 2, ..., how many hyperedges have 1, 2, ...
members): the honest question is whether message passing finds more than can be counted, and since
the counts are distributed alike, chance (25 %) is what counting should reach.

The network is three ``UniGINConv`` layers from a constant feature, mean and maximum over the
vertices of each hypergraph, and a small MLP. Hypergraphs of different sizes are batched as one
disjoint union (``Hypergraph.batch``); ``node_batch`` says which vertex belongs to which.
"""

import argparse
import copy
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypergraph import Hypergraph, HypergraphPool, UniGINConv
from hypergraph.datasets.synthetic import HypergraphCollection, wiring_families


class Classifier(nn.Module):
    """Three convolutions, a readout per hypergraph, an MLP."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        # Sums over members, not means: the size of a hyperedge is part of the wiring.
        sizes = [(1, width), (width, width), (width, width)]
        self.convs = nn.ModuleList(UniGINConv(i, o, v2e_reduce="sum") for i, o in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in sizes)
        self.pool = HypergraphPool(["mean", "max"])
        self.head = nn.Sequential(
            nn.Linear(2 * 3 * width, width), nn.ReLU(), nn.Linear(width, classes)
        )

    def forward(self, batch: Hypergraph) -> Tensor:
        """Scores [number of hypergraphs, classes] of a disjoint union."""
        x = batch.node_features
        assert x is not None and batch.num_samples is not None
        pooled = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, batch)).relu()
            pooled.append(self.pool(x, batch.node_batch, num_samples=batch.num_samples))
        return self.head(torch.cat(pooled, 1))


def counts(hypergraphs: Sequence[Hypergraph], most: int = 10) -> Tensor:
    """[G, ...] what can be counted: vertices, hyperedges, and shares of every degree and size."""
    rows = []
    for h in hypergraphs:
        degrees = torch.bincount(h.node_degree().long().clamp(max=most), minlength=most + 1)
        sizes = torch.bincount(h.edge_degree().long().clamp(max=most), minlength=most + 1)
        numbers = torch.tensor([h.num_nodes / 50, h.num_edges / 50])
        rows.append(torch.cat([numbers, degrees / h.num_nodes, sizes / h.num_edges]))
    return torch.stack(rows)


def fit(
    model: nn.Module,
    batches: Sequence[tuple[Hypergraph | Tensor, Tensor]],
    valid: tuple[Hypergraph | Tensor, Tensor],
    test: tuple[Hypergraph | Tensor, Tensor],
    epochs: int,
) -> float:
    """Train, and leave the model as it was at the best validation accuracy; its test accuracy."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    best, state = -1.0, copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        model.train()
        for inputs, labels in batches:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        chosen = accuracy(model, *valid)
        if chosen > best:
            best, state = chosen, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    return accuracy(model, *test)


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Hypergraph | Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    return float((model(inputs).argmax(1) == labels).float().mean())


def union(data: HypergraphCollection, numbers: Tensor) -> tuple[Hypergraph, Tensor]:
    """Some hypergraphs side by side, with their features, and their labels."""
    members = [
        data.hypergraphs[number].replace(node_features=data.x[number])
        for number in numbers.tolist()
    ]
    return Hypergraph.batch(members), data.y[numbers]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--count", type=int, default=400, help="hypergraphs in all")
    settings = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(settings.seed)
    data = wiring_families(settings.count, seed=settings.seed)
    split, classes = data.splits[0], len(data.label_names)

    network = Classifier(classes)
    batches = [union(data, numbers) for numbers in split.train.split(50)]
    valid, test = union(data, split.valid), union(data, split.test)
    by_network = fit(network, batches, valid, test, settings.epochs)

    table = counts(data.hypergraphs)
    table = (table - table[split.train].mean(0)) / (table[split.train].std(0) + 1e-6)
    baseline = nn.Sequential(nn.Linear(table.shape[1], 32), nn.ReLU(), nn.Linear(32, classes))
    rows = [(table[numbers], data.y[numbers]) for numbers in split.train.split(50)]
    valid_rows = (table[split.valid], data.y[split.valid])
    test_rows = (table[split.test], data.y[split.test])
    by_counts = fit(baseline, rows, valid_rows, test_rows, settings.epochs)

    results = {
        "chance": 1 / classes,
        "MLP on degree and size counts": by_counts,
        "UniGIN x 3, mean and max": by_network,
    }
    print(f"{len(data)} hypergraphs, families: {', '.join(data.label_names)}")
    print(f"\n{'':32}test accuracy")
    for name, value in results.items():
        print(f"{name:32}{100 * value:10.1f} %")
    print("\nwhat the network takes each family for (rows: true)")
    with torch.no_grad():
        guesses = network(test[0]).argmax(1)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    confusion.index_put_((test[1], guesses), torch.ones_like(guesses), accumulate=True)
    for name, row in zip(data.label_names, confusion.tolist(), strict=True):
        print(f"{name:16}" + "".join(f"{value:6}" for value in row))
    print(f"\n{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} thread(s)")
    return results


if __name__ == "__main__":
    main()
