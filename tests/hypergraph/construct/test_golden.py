"""Against what other libraries computed for the same points and graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from hypergraph import KNN, EpsilonBall, KHop
from hypergraph_kernels import knn

CASES = ["knn0", "knn1", "knn2"]


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    folder = shared_dir / "golden" / "d_hypergraph" / "knn"
    info = json.loads((folder / "info.json").read_text())
    return info, load_file(str(folder / "tensors.safetensors"))


def sets(rows: Tensor) -> list[frozenset[int]]:
    return [frozenset(row) for row in rows.tolist()]


@pytest.mark.parametrize("case", CASES)
def test_dhg_finds_the_same_neighbours_but_merges_equal_sets(golden, case: str) -> None:
    info, tensors = golden
    table = KNN(info[case]["k"], "euclidean")(tensors[f"{case}.X"])
    assert table.index.tolist() == tensors[f"{case}.e_list_raw"].tolist()
    # DHG keeps one hyperedge for several vertices with the same neighbours; here each has its own.
    assert table.num_edges == info[case]["n"] >= info[case]["num_e"]
    assert set(sets(table.index)) == {frozenset(e) for e in info[case]["e_list_stored"]}
    columns = {tuple(column) for column in table.to_dense().T.tolist()}
    assert columns == {tuple(column) for column in tensors[f"{case}.H"].T.tolist()}
    if case == "knn2":  # k = N: everything in one hyperedge there, and 12 times here
        assert (info[case]["num_e"], table.num_edges) == (1, 12)
        assert (table.node_degree() == 12).all() and (tensors["knn2.deg_v"] == 1).all()


def test_dhg_loses_centres_where_features_have_an_offset() -> None:
    """Its distances are those of a matrix product: far from the origin they are rounding."""
    x = torch.randn(200, 16) + 10_000
    theirs = torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist").topk(4, largest=False).indices
    lost = ~(theirs == torch.arange(200)[:, None]).any(1)
    assert lost.float().mean() > 0.3
    ours = KNN(4, "euclidean")(x).index
    assert torch.equal(ours[:, 0], torch.arange(200))
    exact = torch.cdist(x.double(), x.double()).topk(4, largest=False).indices
    assert (ours == exact).float().mean() > 0.99


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scikit_learn(golden, case: str, metric: str) -> None:
    """Neighbours of 9 further points: each is added to the set and asked for its own."""
    _, tensors = golden
    points = tensors[f"{case}.X"]
    index = tensors[f"{case}.sklearn_{metric}.index"]
    distance = tensors[f"{case}.sklearn_{metric}.dist"]
    queries = tensors[f"{case}.Q"]
    together = torch.cat([points.expand(9, -1, -1), queries[:, None]], 1)
    found = knn(together, index.shape[1] + 1, metric)
    assert torch.equal(found.nearest[:, -1, 1:], index)
    assert_close(found.distance[:, -1, 1:], distance, rtol=1e-5, atol=1e-6)
    radius = float(distance[:, 0].mean())
    ball = EpsilonBall(radius, metric)(together).to_dense()[:, :-1, -1]
    assert torch.equal(ball.sum(1) > 0, distance[:, 0] <= radius)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("unit", [False, True])
def test_torch_cluster(golden, case: str, unit: bool) -> None:
    info, tensors = golden
    name = f"{case}.torch_cluster_knn_graph{'_unit_rows' if unit else ''}_loop"
    source, target = tensors[name]
    theirs = [frozenset(source[target == v].tolist()) for v in range(info[case]["n"])]
    table = KNN(len(theirs[0]), "cosine" if unit else "euclidean")(tensors[f"{case}.X"])
    assert sets(table.index) == theirs


@pytest.mark.parametrize(("k", "only_last"), [(1, False), (2, False), (2, True)])
def test_dhg_khop(golden, k: int, only_last: bool) -> None:
    info, _ = golden
    edges = torch.tensor(info["from_graph"][0]).T
    theirs = info[f"from_graph_kHop_{k}{'_only' if only_last else ''}"][0]
    h = KHop(edges, k, only_last=only_last).hypergraph
    ours = [column.nonzero().flatten().tolist() for column in h.to_dense().T]
    assert ours == [sorted(edge) for edge in theirs]


def test_hgnn_multi_scale_and_soft_incidence() -> None:
    """The released construction, column by column: weights exp(-d^2 / mean(d)^2), all scales."""
    x = torch.randn(30, 5, dtype=torch.float64)
    distance = torch.cdist(x, x)
    columns = []
    for k in (4, 7):
        for center in range(30):
            column = torch.zeros(30, dtype=torch.float64)
            for v in distance[center].argsort()[:k]:
                mean = distance[center].mean()
                column[v] = torch.exp(-(distance[center, v] ** 2) / mean**2)
            columns.append(column)
    soft = KNN([4, 7], "euclidean", weighting="rbf")(x)
    assert_close(soft.to_dense(), torch.stack(columns, 1), rtol=1e-6, atol=1e-6)


def test_dhgnn_neighbours_are_those_of_unit_rows() -> None:
    """Its top k by the inner product of unit rows has the vertex itself first."""
    x = torch.randn(40, 6, dtype=torch.float64)
    unit = F.normalize(x, dim=1)
    theirs = (unit @ unit.T).topk(8).indices
    assert torch.equal(KNN(8)(x).index, theirs)


def test_dhfusion_halves_the_cosine_distance() -> None:
    """Its 0.5 is 1.0 here: neighbours of negative cosine go, and the weights do not change."""
    x = torch.randn(30, 6, dtype=torch.float64)
    unit = F.normalize(x, dim=1)
    half = ((1 - unit @ unit.T) / 2).fill_diagonal_(0)
    near = half.topk(25, largest=False).indices
    soft = torch.exp(-((half / half.mean(1, keepdim=True)) ** 2)) * (half <= 0.5)
    expected = torch.zeros_like(half).scatter(1, near, soft.gather(1, near))
    ours = KNN(25, threshold=1.0, weighting="rbf")(x).to_dense().T
    assert_close(ours, expected, rtol=1e-6, atol=1e-6)
