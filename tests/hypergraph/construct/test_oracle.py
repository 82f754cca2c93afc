"""Every construction against a dense float64 definition, on thousands of generated point sets."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from hypergraph import (
    KNN,
    AttributeGroups,
    CrossCorrelation,
    Dense,
    EpsilonBall,
    FuzzyCMeans,
    Hypergraph,
    ImageWindows,
    KHop,
    KMeans,
    NeighborTable,
    fuse,
)
from tests.hypergraph.construct import points
from tests.hypergraph.construct.points import F64, LEAST_HITS, distances, point_sets


def enough(found: Counter[str], count: int) -> None:
    """Every degenerate class was hit (a shorter run proves less)."""
    if count >= 10_000:
        rare = {name: hits for name, hits in found.items() if hits < LEAST_HITS}
        assert not rare, rare


def members(table: NeighborTable) -> tuple[Tensor, Tensor]:
    mask = torch.ones_like(table.index, dtype=torch.bool) if table.mask is None else table.mask
    return torch.where(mask, table.index, -1), mask


def wrong_sets(
    x: Tensor, metric: str, table: NeighborTable, distance: Tensor, limit: float | None
) -> Tensor:
    """[B] the sets whose hyperedges are not the nearest vertices in the order of the rules."""
    got, mask = members(table)
    width = got.shape[-1]
    index, keep = points.neighbors(distance, width, limit)
    keep[..., :1] = True
    wrong = mask != keep
    if metric != "cosine":
        return (wrong | (got != torch.where(keep, index, -1))).flatten(1).any(1)
    # Cosines that tie in exact arithmetic differ in the last digits however they are computed. So
    # compare the distances; equal rows, whose cosines are equal to the bit, go by their indices.
    apart = distance.gather(-1, got.clamp_min(0)) - distance.gather(-1, index)
    wrong |= keep & (apart.abs() > 1e-12)
    wrong[..., :1] |= got[..., :1] != index[..., :1]
    sorted_ = torch.where(mask, got, -1 - torch.arange(width)).sort(-1).values
    wrong[..., 1:] |= sorted_[..., 1:] == sorted_[..., :-1]
    rows = torch.arange(x.shape[0])[:, None, None]
    here, following = x[rows, got[..., 1:-1]], x[rows, got[..., 2:]]
    same = (here == following).all(-1) & mask[..., 2:]
    wrong[..., 2:] |= same & (got[..., 2:] < got[..., 1:-1])
    return wrong.flatten(1).any(1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_knn(metric: str, oracle_count: int) -> None:
    found, sets = Counter(), 0
    for number, x in enumerate(point_sets(oracle_count)):
        k = (1, 2, 3, 4, 6, 12)[number % 6]
        # On the threshold itself, rounding decides: exact cases are in test_knn.py.
        limit = (None, 1.03, 1 + 1e-6 if metric != "cosine" else 0.97)[number % 3]
        distance = distances(x, metric)
        table = KNN(k, metric, limit)(x)
        assert table.shape == (x.shape[0], x.shape[1], x.shape[1])
        assert table.index.shape[-1] == min(k, x.shape[1])
        wrong = wrong_sets(x, metric, table, distance, limit)
        assert not wrong.any(), (k, limit, x[wrong][0])
        found += points.classes(x, distance, k)
        sets += x.shape[0]
    assert sets == oracle_count
    enough(found, oracle_count)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rbf_weights(metric: str, oracle_count: int) -> None:
    for number, x in enumerate(point_sets(oracle_count, seed=1)):
        if x.shape[1] == 0:
            continue
        k, width = (2, 4, 12)[number % 3], (None, 0.7)[number % 2]
        distance = distances(x, metric)
        scale = distance.mean(-1, keepdim=True) if width is None else width
        full = torch.exp(-((distance / torch.as_tensor(scale).clamp_min(1e-9)) ** 2))
        # The mean distance of equal points is the root of a rounding error: where the distances
        # themselves are such roots, their ratio is not defined.
        spread = distance.amax((1, 2)) > 1e-5
        hard = KNN(k, metric, 1.03)(x)
        index, mask = hard.index, hard.mask
        expected = full.gather(-1, index)
        for differentiable in (False, True):
            table = KNN(k, metric, 1.03, "rbf", width, differentiable)(x)
            assert torch.equal(table.index, index) and torch.equal(table.mask, mask)
            wrong = ((table.weights - expected).abs() > 1e-6) & mask
            assert not wrong[spread].any(), (k, width, x[spread][wrong[spread].flatten(1).any(1)])
        straight = KNN(k, metric, 1.03, "rbf", width, straight_through=True)(x)
        assert torch.equal(straight.to_dense(), hard.to_dense().to(F64))


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_epsilon_ball(metric: str, oracle_count: int) -> None:
    found = Counter()
    for number, x in enumerate(point_sets(oracle_count, seed=2)):
        radius = (0.53, 1.47, 2 + 1e-6 if metric != "cosine" else 1.97)[number % 3]
        most = (None, 3)[number % 2]
        distance = distances(x, metric)
        width = x.shape[1] if most is None else most
        keep = points.neighbors(distance, width, radius)[1]
        keep[..., :1] = True
        table = EpsilonBall(radius, metric, most)(x)
        assert table.index.shape[-1] == (int(keep.sum(-1).max()) if keep.numel() else 0)
        wrong = wrong_sets(x, metric, table, distance, radius)
        assert not wrong.any(), (radius, most, x[wrong][0])
        found += points.classes(x, distance, 3)
        if x.shape[1] > 1:
            found["ball of one"] += int((keep.sum(-1) == 1).any(1).sum())
            found["ball of all"] += int((keep.sum(-1) == x.shape[1]).any(1).sum())
    enough(found, oracle_count)


@pytest.mark.parametrize("rule", ["k-means++", "farthest"])
def test_kmeans(rule: str, oracle_count: int) -> None:
    found = Counter()
    for number, x in enumerate(point_sets(oracle_count, seed=3)):
        clusters, nearest, steps = (1, 2, 3, 5)[number % 4], (1, 2)[number % 2], (1, 30)[number % 2]
        build = KMeans(clusters, nearest, steps, rule, seed=number, weighting="rbf", bandwidth=1.3)
        dense = build(x).to_dense()
        assert dense.shape == (*x.shape[:2], clusters)
        if x.shape[1] == 0:
            continue
        centers, used, _ = points.lloyd(x, list(build._draws), rule, steps)
        distance = points.squared(x, centers)
        expected = torch.zeros_like(distance)
        open_ = distance.masked_fill(~used[:, None], torch.inf)
        for _ in range(min(nearest, clusters)):
            pick = points.first_nearest(open_, x)[..., None]
            fits = open_.gather(-1, pick).isfinite()
            weight = torch.exp(-distance.gather(-1, pick) / 1.3**2) * fits
            expected = torch.where(fits, expected.scatter(-1, pick, weight), expected)
            open_ = open_.scatter(-1, pick, torch.inf)
        wrong = ((dense - expected).abs() > 1e-9).flatten(1).any(1)
        assert not wrong.any(), (clusters, nearest, steps, x[wrong][0])
        hard = KMeans(clusters, nearest, steps, rule, seed=number)(x).to_dense()
        assert torch.equal(hard.to(F64), (expected > 0).to(F64))
        found += points.classes(x, distances(x, "euclidean"), clusters)
        found["fewer distinct points than clusters"] += int((~used).any(1).sum())
    for name in ("no points", "k beyond the points"):
        found.pop(name, None)
    enough(found, oracle_count)


@pytest.mark.parametrize("rule", ["k-means++", "farthest"])
def test_fuzzy_cmeans(rule: str, oracle_count: int) -> None:
    found = Counter()
    for number, x in enumerate(point_sets(oracle_count, seed=4)):
        clusters, fuzziness = (1, 2, 3, 5)[number % 4], (2.0, 1.5, 3.0)[number % 3]
        limit = (0.01, 0.2, 0.45)[number % 3]
        # Between two mirrored clusters the iteration amplifies rounding fivefold per step.
        steps, tolerance = ((6, 1e-8), (15, 1e-4))[number % 2]
        settings = {"max_iterations": steps, "start": rule, "seed": number}
        every = FuzzyCMeans(clusters, fuzziness, 0.0, "membership", **settings)
        soft = every(x).to_dense()
        assert soft.shape == (*x.shape[:2], clusters)
        if x.shape[1] == 0:
            continue
        expected = points.fuzzy(x, list(every._draws), rule, fuzziness, steps, 1e-3)
        wrong = ((soft - expected).abs() > tolerance).flatten(1).any(1)
        assert not wrong.any(), (clusters, fuzziness, x[wrong][0])
        kept = expected > limit
        best = F.one_hot(points.first_minimum(-expected), clusters).bool()
        kept = torch.where(kept.any(-1, keepdim=True), kept, best)
        clear = ((expected - limit).abs() > tolerance).flatten(1).all(1)  # not a matter of rounding
        hard = FuzzyCMeans(clusters, fuzziness, limit, **settings)(x).to_dense()
        assert torch.equal(hard[clear], kept[clear].to(F64))
        part = FuzzyCMeans(clusters, fuzziness, limit, "membership", **settings)(x).to_dense()
        assert torch.equal(part[clear], torch.where(kept, soft, 0)[clear])
        found += points.classes(x, distances(x, "euclidean"), clusters)
        found["vertex above the threshold nowhere"] += int((expected <= limit).all(-1).any(1).sum())
        found["hyperedge without members"] += int((hard.sum(1) == 0).any(1).sum())
    for name in ("no points", "k beyond the points"):
        found.pop(name, None)
    enough(found, oracle_count)


@pytest.mark.parametrize("nonneg", ["abs", "softmax"])
def test_cross_correlation(nonneg: str, oracle_count: int) -> None:
    found = Counter()
    for number, x in enumerate(point_sets(oracle_count, seed=5)):
        torch.manual_seed(number)
        tied, raw, centred = number % 2 == 0, number % 4 < 2, number % 3 == 0
        settings = {"rank": 2, "nonneg": nonneg, "centred": centred, "normalized": not raw}
        if tied:
            cc = CrossCorrelation(x.shape[2], omega="tied", **settings).to(F64)
        else:
            cc = CrossCorrelation(x.shape[2], 4, omega_bias=True, **settings).to(F64)
        got = cc(x).to_dense().detach()
        if x.shape[1] == 0:
            assert got.shape == (x.shape[0], 0, 0 if tied else 4)
            continue
        with torch.no_grad():
            psi = F.linear(x, cc.psi.weight, cc.psi.bias)
            psi = psi - psi.mean(1, keepdim=True) if centred else psi
            metric = torch.diag_embed(F.linear(x.mean(1), cc.metric.weight, cc.metric.bias))
            omega = torch.eye(x.shape[1], dtype=F64)
            if cc.omega is not None:
                omega = F.linear(x, cc.omega.weight, cc.omega.bias)
            matrix = psi @ metric @ psi.mT @ omega
        size = matrix.square().mean((1, 2), keepdim=True).sqrt()
        if not raw:
            # Correlations of all but equal vertices are rounding, and are not scaled up.
            silent = psi.abs().amax((1, 2), keepdim=True) < 1e-9
            matrix = torch.where(silent, 0, matrix / torch.where(size > 0, size, 1))
            found["no correlations"] += int(silent.sum())
        expected = matrix.abs() if nonneg == "abs" else matrix.softmax(-1)
        # Where nothing but 1e-12 is left to divide by, sizes between silence and signal fade.
        clear = torch.ones_like(size, dtype=torch.bool)
        if not raw:
            root = psi.square().mean((1, 2), keepdim=True).sqrt()
            relative = size / torch.where(root > 0, root, 1) ** 2
            clear = silent | ((root > 1e-3) & (relative > 1e-3))
        clear = clear.flatten()
        scale = expected.abs().amax((1, 2), keepdim=True).clamp_min(1)
        assert_close((got / scale)[clear], (expected / scale)[clear], rtol=0, atol=1e-5)
        assert clear.float().mean() > 0.8
        found += points.classes(x, distances(x, "euclidean"), 2)
    for name in ("no points", "k beyond the points"):
        found.pop(name, None)
    enough(found, oracle_count)


def test_fusion(oracle_count: int) -> None:
    """Sums and concatenations of random matrices, parts without degree among them."""
    random, found = torch.Generator().manual_seed(6), Counter()
    for n, m in ((1, 1), (2, 3), (4, 4), (7, 2)):
        batch = (oracle_count + 3) // 4
        parts = [
            torch.rand(batch, n, m, generator=random, dtype=F64)
            * (torch.rand(batch, 1, 1, generator=random) < 0.6)
            for _ in range(3)
        ]
        means = [part.sum((1, 2)) / n for part in parts]
        weights = (0.5, 2.0, 1.0)
        expected = []
        for sample in range(batch):
            scale = next((float(mean[sample]) for mean in means if mean[sample] > 0), 0.0)
            rows = []
            for part, mean, weight in zip(parts, means, weights, strict=True):
                size = float(mean[sample])
                rows.append(part[sample] * (weight * scale / size if size > 0 else 0.0))
            expected.append(torch.stack(rows))
        wanted = torch.stack(expected)  # [batch, parts, n, m]
        dense = [Dense(part) for part in parts]
        got = fuse(dense, "concat", weights).to_dense()
        assert_close(got, wanted.permute(0, 2, 1, 3).flatten(2))
        assert_close(fuse(dense, "sum", weights).to_dense(), wanted.sum(1))
        found["first part without degree"] += int((means[0] == 0).sum())
        found["no part with degree"] += int((sum(means) == 0).sum())
    enough(found, oracle_count)


def test_khop(oracle_count: int) -> None:
    """All graphs as one disjoint union, against powers of their adjacency matrices."""
    random, found = torch.Generator().manual_seed(7), Counter()
    size, per = 7, (oracle_count + 5) // 6
    for k, follow in ((1, "both"), (2, "both"), (3, "both"), (2, "out"), (2, "in"), (9, "out")):
        density = torch.rand(per, 1, 1, generator=random) * 0.5
        directed = torch.rand(per, size, size, generator=random) < density
        graph, source, target = directed.nonzero(as_tuple=True)
        edges = torch.stack([source, target]) + graph * size
        edges = torch.cat([edges, edges[:, ::3]], 1)  # repeated edges change nothing
        step = {"both": directed | directed.mT, "out": directed, "in": directed.mT}[follow]
        power, within = torch.eye(size).expand(per, -1, -1), torch.eye(size).expand(per, -1, -1)
        for _ in range(k):
            before, power = within, ((power @ step.float()) > 0).float()
            within = ((within + power) > 0).float()
        ring = (within - before + torch.eye(size)) > 0
        for only_last, expected in ((False, within > 0), (True, ring)):
            h = KHop(edges, k, per * size, only_last, follow).hypergraph
            node, center, value = h.members()
            assert value is None and h.shape == (per * size, per * size)
            got = torch.zeros(per, size, size)
            assert (node // size == center // size).all()
            index = (center // size, center % size, node % size)
            got.index_put_(index, torch.ones(node.shape[0]), accumulate=True)
            assert torch.equal(got, expected.float())
        found["vertex without edges"] += int((step.sum(2) == 0).any(1).sum())
        found["loop"] += int(directed.diagonal(0, 1, 2).any(1).sum())
        found["graph without edges"] += int((~step).flatten(1).all(1).sum())
        found["reaches all"] += int((within > 0).all(2).any(1).sum())
    enough(found, oracle_count)


def test_image_windows(oracle_count: int) -> None:
    random, found = torch.Generator().manual_seed(8), Counter()
    count = min(oracle_count, 10_000)  # there are hardly more of this size
    drawn = torch.randint(0, 1 << 30, (count, 9), generator=random).tolist()
    for number in range(count):
        h, w, a, b, s, t, d, e = (
            1 + v % top for v, top in zip(drawn[number], (5, 5, 3, 3, 3, 3, 2, 2), strict=False)
        )
        image = torch.arange(1.0, h * w + 1).view(1, 1, h, w)
        if number % 2:
            padding, before = "same", ((a - 1) // 2 * d, (b - 1) // 2 * e)
            after = ((a - 1) * d - before[0], (b - 1) * e - before[1])
            image = F.pad(image, (before[1], after[1], before[0], after[0]))
        else:
            padding = "valid"
            if (a - 1) * d >= h or (b - 1) * e >= w:
                with pytest.raises(ValueError, match="`size` must fit"):
                    ImageWindows((h, w), (a, b), (s, t), (d, e))
                found["too large"] += 1
                continue
        expected = F.unfold(image, (a, b), (d, e), 0, (s, t))[0].T.long() - 1
        build = ImageWindows((h, w), (a, b), (s, t), (d, e), padding)
        got, _ = members(build.hypergraph)
        assert torch.equal(got, expected), build
        rows, columns = build.windows
        assert rows * columns == got.shape[0]
        found["cut windows"] += bool((expected < 0).any())
        found["one pixel"] += h * w == 1
    enough(found, oracle_count)


def test_attribute_groups(oracle_count: int) -> None:
    """All tables as one: the values of table g lie in 4 g ... 4 g + 3."""
    random, found = torch.Generator().manual_seed(9), Counter()
    for size, columns, least in ((0, 1, 1), (1, 2, 1), (4, 1, 2), (5, 3, 1), (6, 2, 2), (6, 2, 3)):
        count = (oracle_count + 5) // 6
        table = torch.randint(-1, 4, (count, size, columns), generator=random)
        has = F.one_hot(table.clamp_min(0), 4).bool() & (table >= 0)[..., None]  # [G, N, A, 4]
        shifted = torch.where(table < 0, table, table + 4 * torch.arange(count)[:, None, None])
        build = AttributeGroups(shifted.flatten(0, 1), least)
        kept = has.sum(1) >= least  # [G, A, 4]
        column, graph, value = kept.transpose(0, 1).nonzero(as_tuple=True)
        assert torch.equal(build.attribute, column)
        assert torch.equal(build.values, graph * 4 + value)
        node, edge, weight = build.hypergraph.members()
        assert weight is None
        got = torch.zeros(count, size, columns, 4, dtype=torch.long)
        place = (graph[edge], node % max(size, 1), column[edge], value[edge])
        got.index_put_(place, torch.ones_like(edge), accumulate=True)
        assert torch.equal(node // max(size, 1), graph[edge])
        assert torch.equal(got, (has & kept[:, None]).long())
        found["missing value"] += int((table < 0).flatten(1).any(1).sum())
        found["no groups"] += int((~kept).flatten(1).all(1).sum())
        found["no vertices"] += count * (size == 0)
        found["groups that are too small"] += int(
            ((has.sum(1) > 0) & ~kept).flatten(1).any(1).sum()
        )
    enough(found, oracle_count)


def test_hypergraph_is_a_plain_one() -> None:
    """What the static constructions return works with everything that takes a Hypergraph."""
    assert isinstance(KHop(torch.tensor([[0], [1]])).hypergraph, Hypergraph)
    assert isinstance(AttributeGroups(torch.tensor([0, 0, 1])).hypergraph, Hypergraph)
