"""Operators compute their products with the implementation asked for, and pass it on."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from hypergraph import (
    Concat,
    Dense,
    FixedHypergraph,
    Hypergraph,
    LowRank,
    NeighborTable,
    Streamed,
    WeightedSum,
)
from hypergraph.incidence import BlockDiagonal, Incidence

INDEX = torch.tensor([[0, 1, 1, 2, 3], [0, 0, 1, 1, 1]])


def operators() -> dict[str, Incidence]:
    sparse = Hypergraph(INDEX, 4, 4)
    table = NeighborTable(torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]]), 4)
    dense = Dense(torch.ones(4, 4))
    return {
        "sparse": sparse,
        "table": table,
        "dense": dense,
        "low_rank": LowRank(torch.ones(4, 2), torch.ones(4, 2)),
        "streamed": Streamed(torch.randn(4, 2), torch.randn(4, 2)),
        "concat": Concat([sparse, table]),
        "sum": WeightedSum([sparse, table], [0.5, torch.tensor(2.0)]),
        "blocks": BlockDiagonal([sparse, table], torch.tensor([0, 1] * 4)),
        "pairs": dense.with_members(),
    }


def names(h: Incidence) -> set[str]:
    """The implementations of an operator and all of its parts."""
    found = {h.implementation}
    for value in vars(h).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Incidence):
                found |= names(item)
    return found


@pytest.mark.parametrize("kind", operators())
def test_copies_keep_the_implementation(kind: str) -> None:
    h = operators()[kind]
    assert names(h) == {"auto"} and "implementation" not in repr(h)
    chosen = h.with_implementation("reference")
    assert names(h) == {"auto"}, "the operator itself must not change"
    weight = torch.ones(h.num_edges)
    copies = [
        chosen,
        chosen.to(torch.float64),
        chosen.with_hyperedge_weight(None if kind == "sum" else weight),
        pickle.loads(pickle.dumps(chosen)),
        copy.copy(chosen),
        copy.deepcopy(chosen),
        FixedHypergraph(chosen).double().hypergraph,
    ]
    if kind not in ("low_rank", "streamed"):
        copies.append(chosen.with_members())
    for twin in copies:
        assert names(twin) == {"reference"}
        assert "implementation='reference'" in repr(twin)
    back = chosen.with_implementation("auto")
    assert names(back) == {"auto"} and repr(back) == repr(h)


def test_a_shallow_copy_shares_its_tensors() -> None:
    h = Hypergraph(INDEX, 4, 4, torch.ones(4))
    kept = h._by_node
    twin = h.with_implementation("reference")
    assert twin.hyperedge_index is h.hyperedge_index
    assert twin.hyperedge_weight is h.hyperedge_weight
    assert twin._by_node is kept, "the pairs need not be sorted once more"


def test_transforms_keep_the_implementation() -> None:
    h = Hypergraph.batch([Hypergraph(INDEX, 4, 4)] * 2).with_implementation("reference")
    results = [
        h.replace(hyperedge_weight=torch.ones(8)),
        h.dual(),
        h.coalesce(),
        h.subgraph(torch.tensor([0, 1]))[0],
        *h.unbatch(),
    ]
    assert all(names(result) == {"reference"} for result in results)


def test_a_file_keeps_the_implementation() -> None:
    buffer = io.BytesIO()
    torch.save(Hypergraph(INDEX).with_implementation("reference"), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True).implementation == "reference"
    state = Hypergraph(INDEX).__getstate__() | {"implementation": "fast"}
    with pytest.raises(ValueError, match="`implementation` must be one of 'auto'"):
        Hypergraph.__new__(Hypergraph).__setstate__(state)


def test_unknown_implementations_are_named() -> None:
    with pytest.raises(ValueError, match="`implementation` must be one of 'auto'.*got 'fast'"):
        Hypergraph(INDEX).with_implementation("fast")  # type: ignore[arg-type]
