"""Hypergraphs to convert, as hypothesis draws them, and what it means to be the same."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from hypergraph import Hypergraph

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TENSORS = (
    "hyperedge_index",
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
    "node_batch",
    "edge_batch",
)
# Values that are easily lost: zeros, thirds, subnormal, large.
VALUES = (0.0, 1.0, 2.0, 1 / 3, 0.1, 5e-8, 60000.0, 0.7)


@st.composite
def hypergraphs(
    draw: st.DrawFn,
    fields: tuple[str, ...] = (),
    repeated: bool = True,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    least_nodes: int = 0,
    directions: tuple[int, ...] = (-1, 0, 1),
) -> Hypergraph:
    """Any hypergraph with some of ``fields``: gaps, isolated vertices and empty hyperedges too."""
    num_nodes = draw(st.integers(least_nodes, 6))
    num_edges = draw(st.integers(0, 5))
    pair = st.tuples(st.integers(0, max(num_nodes - 1, 0)), st.integers(0, max(num_edges - 1, 0)))
    most = 12 if num_nodes and num_edges else 0
    pairs = draw(st.lists(pair, max_size=most, unique=not repeated))
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()

    def numbers(*shape: int) -> Tensor:
        count = int(torch.tensor(shape).prod())
        values = draw(st.lists(st.sampled_from(VALUES), min_size=count, max_size=count))
        return torch.tensor(values, dtype=draw(st.sampled_from(dtypes))).reshape(shape)

    given: dict[str, object] = {}
    sizes = {
        "node_weight": (num_nodes,),
        "hyperedge_weight": (num_edges,),
        "incidence_weight": (len(pairs),),
        "node_features": (num_nodes, 2),
        "hyperedge_features": (num_edges, draw(st.integers(0, 3))),
    }
    for name in fields:
        if not draw(st.booleans()):
            continue
        if name in sizes:
            given[name] = numbers(*sizes[name])
        elif name == "hyperedge_group":
            groups = st.lists(st.integers(0, 2), min_size=num_edges, max_size=num_edges)
            given[name] = torch.tensor(draw(groups), dtype=torch.long)
            given["group_names"] = ("paper", "venue", "ÿ x")
        else:
            assert name == "direction"
            signs = st.sampled_from(directions)
            signed = draw(st.lists(signs, min_size=len(pairs), max_size=len(pairs)))
            given[name] = torch.tensor(signed, dtype=torch.int8)
    return Hypergraph(index, num_nodes, num_edges, **given)  # type: ignore[arg-type]


def everything() -> Hypergraph:
    """One with every field, a repeated pair, an isolated vertex and an empty hyperedge at the end.

    Vertex 4 is isolated, hyperedge 3 empty, the pair (1, 1) repeats.
    """
    random = torch.Generator().manual_seed(3)
    return Hypergraph(
        torch.tensor([[2, 0, 1, 1, 3, 1], [0, 0, 1, 1, 1, 2]]),
        5,
        4,
        torch.rand(4, generator=random),
        torch.rand(6, generator=random, dtype=torch.float64),
        node_weight=torch.rand(5, generator=random),
        node_features=torch.randn(5, 3, generator=random),
        hyperedge_features=torch.randn(4, 2, generator=random, dtype=torch.float64),
        hyperedge_group=torch.tensor([0, 0, 2, 2]),
        group_names=("a", "unused", "b"),
        direction=torch.tensor([-1, 1, 0, 1, -1, 1], dtype=torch.int8),
    )


def assert_same(got: Hypergraph, expected: Hypergraph, ordered: bool = True) -> None:
    """Every field equal in value, dtype and presence; pairs in the same order if ``ordered``."""
    assert (got.num_nodes, got.num_edges) == (expected.num_nodes, expected.num_edges)
    assert got.group_names == expected.group_names
    assert got.num_samples == expected.num_samples
    if not ordered:
        got, expected = _sorted(got), _sorted(expected)
    for name in TENSORS:
        a, b = getattr(got, name), getattr(expected, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            assert a.shape == b.shape, name
            assert torch.equal(a, b), name


def _sorted(h: Hypergraph) -> Hypergraph:
    rows = [h.hyperedge_index.double()]
    for row in (h.incidence_weight, h.direction):
        if row is not None:
            rows.append(row.detach().double()[None])
    keys = torch.cat(rows).t().tolist()
    order = torch.tensor(sorted(range(h.nnz), key=lambda i: keys[i]), dtype=torch.long)
    weight, direction = h.incidence_weight, h.direction
    return h.replace(
        hyperedge_index=h.hyperedge_index[:, order],
        incidence_weight=None if weight is None else weight[order],
        direction=None if direction is None else direction[order],
    )
