"""Pictures: what they show is the hypergraph, everything is inside, and layouts keep promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from hypergraph import KNN, CrossCorrelation, Hypergraph, Incidence
from hypergraph.datasets.synthetic import planted_partition
from hypergraph.incidence import Dense, LowRank, NeighborTable, Streamed
from hypergraph.viz import (
    draw_bipartite,
    draw_hulls,
    draw_incidence,
    draw_on_image,
    force_layout,
    spectral_layout,
    spectral_order,
)
from hypergraph.viz.bipartite import _crossings, _few_crossings
from hypergraph.viz.hulls import _levels, outline
from tests.hypergraph.oracle import hypergraphs

# Two triangles and a pair that share vertices, a singleton, an empty hyperedge, a lone vertex.
MIXED = Hypergraph.from_edges([[0, 1, 2], [2, 3, 4, 5], [5, 6], [7], []], num_nodes=9)
NOTHING = Hypergraph(torch.empty(2, 0, dtype=torch.long), 0, 0)
NO_EDGES = Hypergraph(torch.empty(2, 0, dtype=torch.long), 3, 0)


@pytest.fixture(autouse=True)
def _close_figures() -> object:
    yield
    plt.close("all")


def operators() -> dict[str, Incidence]:
    p, q = torch.rand(6, 2), torch.rand(4, 2)
    return {
        "sparse": Hypergraph(
            torch.tensor([[0, 1, 2, 2, 5], [0, 0, 1, 1, 3]]),
            6,
            4,
            torch.tensor([1.0, 2.0, 3.0, 0.5]),
            torch.rand(5) + 0.1,
        ),
        "table": NeighborTable(torch.tensor([[0, 1], [1, 2], [4, 5], [3, 0]]), 6),
        "dense": Dense(torch.rand(6, 4)),
        "low rank": LowRank(p, q),
        "streamed": Streamed(p - 0.5, q, "abs"),
    }


def everything_is_inside(figure: Figure) -> None:
    """No text and no patch may be cut off, and no two labels of a kind may run into each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    whole = figure.bbox
    for ax in figure.axes:
        texts = [t for t in ax.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text()]
        if not ax.axison:  # then what belongs to an axis is not drawn
            hidden = {*ax.xaxis.findobj(), *ax.yaxis.findobj()}
            texts = [text for text in texts if text not in hidden]
        for text in texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, text
            assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, text
        for axis in (ax.xaxis, ax.yaxis):
            labels = [t for t in axis.get_ticklabels() if t.get_text() and t.get_visible()]
            boxes = [label.get_window_extent(renderer) for label in labels if ax.axison]
            for one, other in zip(boxes, boxes[1:], strict=False):
                assert not one.padded(-0.5).overlaps(other.padded(-0.5))


# ---- incidence


@pytest.mark.parametrize("sort", [None, "degree", "spectral"])
@pytest.mark.parametrize("name", list(operators()))
def test_incidence_shows_the_matrix(name: str, sort: str | None) -> None:
    torch.manual_seed(0)
    h = operators()[name]
    ax = draw_incidence(h, sort=sort)  # type: ignore[arg-type]
    rows = [int(text.get_text()) for text in ax.get_yticklabels()]
    columns = [int(text.get_text()) for text in ax.get_xticklabels()]
    assert sorted(rows) == list(range(6)) and sorted(columns) == list(range(4))
    matrix = h.to_dense()
    shown = ax.images[0].get_array().filled(0)
    np.testing.assert_allclose(shown, matrix[rows][:, columns].numpy(), rtol=1e-6)
    if sort is None:
        assert rows == list(range(6)) and columns == list(range(4))
    if sort == "degree":
        degree = (matrix @ h.weight())[rows]
        assert (degree.diff() <= 1e-6).all()
        assert (matrix.sum(0)[columns].diff() <= 1e-6).all()


def test_spectral_order_puts_parts_together_and_recovers_a_band() -> None:
    generator = torch.Generator().manual_seed(0)
    band = [[i, i + 1, i + 2] for i in range(18)]
    far = [[20 + i, 21 + i] for i in range(5)]
    nodes = torch.randperm(28, generator=generator)
    edges = torch.randperm(23, generator=generator).tolist()
    named = [nodes[edge].tolist() for edge in band + far]
    h = Hypergraph.from_edges([named[e] for e in edges], num_nodes=28)
    down, across = spectral_order(h)
    original = nodes.argsort()[torch.from_numpy(down.copy())].tolist()
    big, small, rest = original[:20], original[20:26], original[26:]
    assert big in (list(range(20)), list(range(19, -1, -1)))
    assert small in (list(range(20, 26)), list(range(25, 19, -1)))
    assert sorted(rest) == [26, 27]
    columns = [edges[e] for e in across]
    assert columns[:18] in (list(range(18)), list(range(17, -1, -1)))


@given(hypergraphs())
@settings(max_examples=20)
def test_orders_are_permutations(h: Hypergraph) -> None:
    down, across = spectral_order(h)
    assert sorted(down) == list(range(h.num_nodes))
    assert sorted(across) == list(range(h.num_edges))
    left, right = _few_crossings((h.to_dense() > 0).double().numpy())
    assert sorted(left) == list(range(h.num_nodes))
    assert sorted(right) == list(range(h.num_edges))


def test_incidence_of_a_batch_and_labels() -> None:
    matrix = torch.rand(2, 3, 4)
    ax = draw_incidence(Dense(matrix), sample=1, node_labels="abc")
    np.testing.assert_allclose(ax.images[0].get_array().filled(0), matrix[1].numpy())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="`sample`"):
        draw_incidence(Dense(matrix))
    with pytest.raises(ValueError, match="`sample`"):
        draw_incidence(Dense(matrix[0]), sample=0)


# ---- bipartite


def test_bipartite_draws_a_line_per_pair_with_its_width() -> None:
    h = Hypergraph(
        torch.tensor([[0, 1, 1, 3], [0, 0, 1, 2]]),
        5,
        4,
        incidence_weight=torch.tensor([1.0, 0.5, 0.25, 1.0]),
    )
    ax = draw_bipartite(h)
    dots, squares = (collection.get_offsets() for collection in ax.collections)
    node_at = {float(y): v for v, (_, y) in enumerate(dots)}
    edge_at = {float(y): e for e, (_, y) in enumerate(squares)}
    assert len(node_at) == 5 and len(edge_at) == 4
    drawn = {}
    for line in ax.lines:
        low, high = line.get_ydata()
        drawn[node_at[float(low)], edge_at[float(high)]] = line.get_linewidth()
    assert set(drawn) == {(0, 0), (1, 0), (1, 1), (3, 2)}
    assert drawn[0, 0] == drawn[3, 2] > drawn[1, 0] > drawn[1, 1]


@given(st.integers(0, 10_000))
def test_crossings_are_counted_right_and_never_more_after_ordering(seed: int) -> None:
    random = np.random.default_rng(seed)
    member = (random.random((6, 5)) < 0.4).astype(float)
    pairs = np.argwhere(member > 0)
    slow = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(pairs) for b in pairs[:i])
    assert _crossings(member) == slow
    left, right = _few_crossings(member)
    assert _crossings(member[left][:, right]) <= slow


def test_ordering_finds_a_drawing_without_crossings() -> None:
    h = Hypergraph.from_edges([[3, 1], [0, 2], [1, 0]])
    left, right = _few_crossings(h.to_dense().double().numpy())
    assert _crossings(h.to_dense().double().numpy()[left][:, right]) == 0


# ---- layouts and hulls


def test_layouts_are_deterministic_and_bring_members_together() -> None:
    h = planted_partition(60, 3, 40, (3, 5), 1.0, seed=0).hypergraph
    for layout in (force_layout, spectral_layout):
        place = layout(h)
        assert np.array_equal(place, layout(h))
        assert place.shape == (60, 2) and np.abs(place).max() <= 1 + 1e-9
        node, edge = h.hyperedge_index.numpy()
        together = np.array([a == b for a in edge for b in edge]).reshape(len(edge), -1)
        away = np.linalg.norm(place[node][:, None] - place[node][None], axis=-1)
        assert away[together].mean() < 0.6 * away[~together].mean()
    place = force_layout(h, seed=1)
    assert not np.array_equal(force_layout(h, seed=0), place)
    crowded = np.linalg.norm(place[:, None] - place[None], axis=-1)
    np.fill_diagonal(crowded, 1)
    assert crowded.min() > 0.01, "no two vertices on top of each other"


@pytest.mark.parametrize("h", [NOTHING, NO_EDGES, Hypergraph.from_edges([[0]])])
def test_degenerate_hypergraphs_are_drawn(h: Hypergraph) -> None:
    assert force_layout(h).shape == (h.num_nodes, 2)
    assert np.isfinite(force_layout(h)).all() and np.isfinite(spectral_layout(h)).all()
    for draw in (draw_hulls, draw_bipartite, draw_incidence):
        ax = draw(h)
        ax.figure.canvas.draw()


def inside(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points inside a convex polygon to its nearest side; negative outside."""
    along = np.roll(corners, -1, 0) - corners
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    return ((points[:, None] - corners[None]) * normal[None]).sum(-1).min(1)


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_outlines_are_convex_and_at_the_radius(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).random((count, 2)).round(1)
    corners = outline(points, 0.3)
    depth = inside(corners, points)
    # A circle of 48 corners is flatter than the circle by 1 - cos(pi / 48) = 0.2 %.
    assert (depth >= 0.3 * 0.997).all()
    distance = np.linalg.norm(corners[:, None] - points[None], axis=-1).min(1)
    np.testing.assert_allclose(distance, 0.3, atol=1e-9)


def test_hulls_hold_their_members_and_no_others_here() -> None:
    ax = draw_hulls(MIXED)
    polygons = [patch for patch in ax.patches if isinstance(patch, Polygon)]
    dots = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert len(dots) == 9 and len(polygons) == 4, "the empty hyperedge has no outline"
    place = np.array([dot.center for dot in dots])
    held = set()
    for polygon in polygons:
        depth = inside(polygon.get_xy()[:-1], place)
        assert ((depth > dots[0].radius) | (depth < 0)).all(), "no outline cuts through a dot"
        held.add(frozenset((depth > 0).nonzero()[0].tolist()))
    assert held == {frozenset(s) for s in ([0, 1, 2], [2, 3, 4, 5], [5, 6], [7])}
    assert len({to_hex(polygon.get_edgecolor()) for polygon in polygons}) == 4
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["e0", "e1", "e2", "e3", "e4"]


def test_levels_differ_wherever_outlines_meet() -> None:
    h = planted_partition(20, 2, 25, (1, 5), 0.5, seed=1).hypergraph
    members = [h.to_dense()[:, e].nonzero().squeeze(1).numpy() for e in range(25)]
    level = _levels(members)
    for a in range(25):
        for b in range(a):
            if set(members[a]) & set(members[b]):
                assert level[a] != level[b]


def test_positions_are_taken() -> None:
    place = np.arange(18.0).reshape(9, 2) ** 1.5
    ax = draw_hulls(MIXED, positions=place, node_color=["#000000"] * 9, legend=False)
    dots = [patch for patch in ax.patches if isinstance(patch, Circle)]
    np.testing.assert_array_equal([dot.center for dot in dots], place)
    assert ax.get_legend() is None
    with pytest.raises(ValueError, match="`positions`"):
        draw_hulls(MIXED, positions=place[:8])
    with pytest.raises(ValueError, match="`positions`"):
        draw_hulls(MIXED, positions=np.full((9, 2), np.nan))


# ---- over an image


@pytest.mark.parametrize("name", list(operators()))
def test_image_panels_show_columns_and_influence(name: str) -> None:
    torch.manual_seed(0)
    h = operators()[name]
    picture = np.random.default_rng(0).random((20, 30))
    matrix, weight = h.to_dense().double(), h.weight().double()
    figure = draw_on_image(h, picture, (2, 3), [0, 3], cmap="gray")
    for panel, edge in zip(figure.axes[:2], (0, 3), strict=True):
        share = matrix[:, edge] / matrix[:, edge].max()
        shown = panel.images[1].get_array()
        np.testing.assert_allclose(shown[..., 0].ravel(), share, atol=4e-3)  # 256 shades
        np.testing.assert_allclose(shown[..., 3].ravel(), 0.75 * share**0.5, atol=1e-6)
        np.testing.assert_array_equal(panel.images[0].get_array(), picture)
    degree, size = matrix @ weight, matrix.sum(0)
    smooth = (matrix / degree.clamp_min(1e-30)[:, None] * (weight / size.clamp_min(1e-30))) @ (
        matrix.T
    )
    figure = draw_on_image(h, picture, (2, 3), [1], of="vertex", mark=True, cmap="gray")
    row = smooth[1] / smooth[1].max()
    np.testing.assert_allclose(figure.axes[0].images[1].get_array()[..., 0].ravel(), row, atol=4e-3)
    ring = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert {patch.get_xy() for patch in ring} == {(0.5, -0.5)}
    assert figure.axes[0].get_title() == "vertex (0, 1)"


def test_image_of_a_batch_of_feature_maps() -> None:
    x = torch.rand(3, 4, 5, 6)
    h = KNN(k=3)(x.flatten(2).mT)
    figure = draw_on_image(h, torch.rand(3, 50, 60) * 2 - 1, (5, 6), [7, 8], mark=True, sample=2)
    shown = figure.axes[1].images[1].get_array()[..., 3].ravel() > 0
    assert set(shown.nonzero()[0]) == set(h.index[2, 8].tolist())
    learned = CrossCorrelation(4, num_edges=3)(x.flatten(2).mT)
    draw_on_image(learned, torch.zeros(1, 10, 12), (5, 6), [0, 1, 2], sample=0)


def test_images_as_tensor_array_and_bytes_look_the_same() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    shown = []
    for image in (pixels, pixels / 255.0, tensor):
        figure = draw_on_image(Dense(torch.rand(4, 1)), image, (2, 2), [0])
        shown.append(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-6)
    np.testing.assert_allclose(shown[0], shown[2], atol=1e-6)
    expected = pixels / 255.0 @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(shown[0], expected, atol=1e-6)


# ---- all of them


def pictures() -> list[object]:
    wide = planted_partition(120, 4, 90, (2, 6), 0.9, seed=0).hypergraph
    names = ["a rather long name of a vertex"] * 9
    papers = ["a rather long name of a hyperedge"] * 5
    soft = MIXED.replace(incidence_weight=torch.rand(MIXED.nnz))
    return [
        lambda: draw_incidence(wide, sort="spectral"),
        lambda: draw_incidence(MIXED, node_labels=names, edge_labels=papers),
        lambda: draw_incidence(soft),
        lambda: draw_bipartite(wide),
        lambda: draw_bipartite(MIXED, node_labels=names, edge_labels=papers),
        lambda: draw_hulls(MIXED, edge_labels=papers),
        lambda: draw_hulls(MIXED, node_labels=names),
        lambda: draw_hulls(planted_partition(40, 4, 20, (1, 5), 1.0, seed=0).hypergraph),
        lambda: draw_on_image(Dense(torch.rand(12, 6)), np.zeros((30, 40)), (3, 4), range(6)),
    ]


@pytest.mark.parametrize("number", range(9))
def test_nothing_is_cut_off(number: int) -> None:
    drawn = pictures()[number]()  # type: ignore[operator]
    everything_is_inside(drawn if isinstance(drawn, Figure) else drawn.figure)


@pytest.mark.parametrize("draw", [draw_incidence, draw_bipartite, draw_hulls])
def test_axes_given_are_used(draw: object) -> None:
    _, (first, second) = plt.subplots(1, 2)
    count = len(plt.get_fignums())
    assert draw(MIXED, second) is second  # type: ignore[operator]
    assert isinstance(second, Axes) and not first.has_data()
    assert len(plt.get_fignums()) == count
    draw_on_image(Dense(torch.rand(4, 2)), np.zeros((4, 4)), (2, 2), [1], axes=first)
    assert first.images


def bytes_of(side: int) -> torch.Tensor:
    return torch.full((3, side, side), 200, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: draw_incidence(torch.eye(2)), TypeError, "`hypergraph`"),
        (lambda: draw_incidence(MIXED, sort="size"), ValueError, "`sort`"),
        (lambda: draw_incidence(MIXED, node_labels=["a"]), ValueError, "`node_labels`"),
        (lambda: draw_bipartite(MIXED, edge_labels=["a"]), ValueError, "`edge_labels`"),
        (lambda: draw_hulls(MIXED, node_color=["red"]), ValueError, "`node_color`"),
        (lambda: draw_on_image(torch.eye(2), None, (1, 2), [0]), TypeError, "`hypergraph`"),
        (lambda: draw_on_image(MIXED, np.zeros((2, 2)), (2, 4), [0]), ValueError, "`grid`"),
        (lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), [5]), ValueError, "`numbers`"),
        (lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), []), ValueError, "`numbers`"),
        (lambda: draw_on_image(MIXED, np.zeros(2), (3, 3), [0]), ValueError, "`image`"),
        (lambda: draw_on_image(MIXED, torch.zeros(2, 2), (3, 3), [0]), ValueError, "`image`"),
        (lambda: draw_on_image(MIXED, bytes_of(3), (3, 3), [0]), TypeError, "`image`"),
        (lambda: draw_on_image(MIXED, bytes_of(3).float(), (3, 3), [0]), ValueError, "`image`"),
        (lambda: draw_on_image(MIXED, 255 * np.ones((2, 2)), (3, 3), [0]), ValueError, "`image`"),
        (
            lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), [0], of="cell"),
            ValueError,
            "`of`",
        ),
        (
            lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), [0], mark=[9]),
            ValueError,
            "`mark`",
        ),
        (
            lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), [0], mark=[]),
            ValueError,
            "`mark`",
        ),
        (
            lambda: draw_on_image(MIXED, np.zeros((2, 2)), (3, 3), [0], titles=[]),
            ValueError,
            "`titles`",
        ),
    ],
)
def test_bad_arguments_are_named(call: object, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        call()  # type: ignore[operator]


def test_matplotlib_is_loaded_on_demand_and_missed_by_name(
    source_environment: dict[str, str],
) -> None:
    code = (
        "import sys, hypergraph.viz; loaded = 'matplotlib' in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "from hypergraph import Hypergraph\n"
        "messages = []\n"
        "for draw in (hypergraph.viz.draw_hulls, hypergraph.viz.draw_incidence):\n"
        "    try:\n"
        "        draw(Hypergraph.from_edges([[0, 1]]))\n"
        "    except ImportError as error:\n"
        "        messages.append(str(error))\n"
        "print([loaded, messages])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=source_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, messages = ast.literal_eval(done.stdout)
    assert not loaded
    assert len(messages) == 2 and all("hypergraph-nn[viz]" in message for message in messages)


def test_code_in_the_documentation_runs(project_root: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (project_root / "docs/viz.md").read_text(), re.S)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/viz.md", "exec"), names)
