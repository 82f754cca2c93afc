"""Hyperedges as outlines around their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hypergraph.incidence import Incidence
from hypergraph.viz._common import INK, Array, axes_of, dense_of, labels_of, style_of, text_width
from hypergraph.viz.layout import force_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROUND = 48  # corners of a circle
_LEGEND = 24  # more hyperedges than this get no legend by default


def draw_hulls(
    hypergraph: Incidence,
    ax: Axes | None = None,
    positions: Array | None = None,  # [N, 2]
    node_labels: Sequence[object] | None = None,
    edge_labels: Sequence[object] | None = None,
    node_color: str | Sequence[str] = "white",
    sample: int | None = None,
    legend: bool | None = None,
    seed: int = 0,
) -> Axes:
    """Draw every hyperedge as a rounded outline around its members.

    The outline is the convex hull of circles around the members: a circle for one member, a capsule
    for two. Hyperedges that share a vertex have circles of different radius there, so that
    outlines do not run into each other. A convex outline may also cover vertices that are no
    members; the layout avoids that where it can, and a membership that matters can be read from
    ``draw_bipartite`` or ``draw_incidence``. Empty hyperedges appear in the legend only.

    Args:
        hypergraph: any incidence operator; its dense form is made.
        ax: where to draw; default a new figure.
        positions: [N, 2] places of the vertices; default ``force_layout``.
        node_labels: one per vertex, short; default the numbers.
        edge_labels: one per hyperedge, for the legend; default "e0", "e1", ...
        node_color: one colour, or one per vertex.
        sample: which one, if the operator is a batch.
        legend: name the hyperedges beside the picture; default up to 24 hyperedges.
        seed: of the layout.

    Raises:
        ImportError: matplotlib is missing.
        ValueError, TypeError: an argument does not fit.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import draw_hulls
        >>> ax = draw_hulls(Hypergraph.from_edges([[0, 1, 2], [2, 3], [3]]))
        >>> len(ax.patches)  # three outlines, four vertices
        7
    """
    matrix, _ = dense_of(hypergraph, sample)
    n, m = matrix.shape
    texts = labels_of("node_labels", node_labels, n)
    if edge_labels is None:
        edge_labels = [f"e{number}" for number in range(m)]
    names = labels_of("edge_labels", edge_labels, m)
    if positions is None:
        place = force_layout(hypergraph, sample, seed=seed)
    else:
        place = np.asarray(positions, dtype=np.float64)
        if place.shape != (n, 2) or not np.isfinite(place).all():
            raise ValueError(
                f"`positions` must be finite and of shape [{n}, 2], got {list(place.shape)}"
            )
    colors = [node_color] * n if isinstance(node_color, str) else list(node_color)
    if len(colors) != n:
        raise ValueError(f"`node_color` must be one colour or {n}, got {len(colors)}")
    legend = m <= _LEGEND if legend is None else legend
    ax = axes_of(ax, 6.4 + 1.0 * legend, 5.6)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Polygon
    from matplotlib.patheffects import withStroke

    radius = _dot_radius(place)
    members = [matrix[:, e].nonzero()[0] for e in range(m)]
    level = _levels(members)
    outlines = {
        e: outline(place[nodes], radius * (1.5 + 0.42 * level[e]))
        for e, nodes in enumerate(members)
        if len(nodes)
    }
    for e in sorted(outlines, key=lambda e: -len(members[e])):
        color, line = style_of(e)
        shape = Polygon(
            outlines[e],
            facecolor=(*_rgb(color), 0.13),
            edgecolor=color,
            linewidth=1.8,
            linestyle=line,
            zorder=1,
        )
        ax.add_patch(shape)
    reach = np.concatenate([*outlines.values(), place + 1.5 * radius, place - 1.5 * radius])
    low = reach.min(0) if len(reach) else np.zeros(2)
    high = reach.max(0) if len(reach) else np.ones(2)
    margin = 0.02 * float((high - low).max() or 1.0)
    ax.set_xlim(low[0] - margin, high[0] + margin)
    ax.set_ylim(low[1] - margin, high[1] + margin)
    ax.set_aspect("equal")
    ax.axis("off")
    # Text that fits the dots, in points, from the width of the axes in inches.
    width = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi
    width *= 0.8 if legend else 1.0
    scale = float(high[0] - low[0]) / max(width, 1e-9)  # data units per inch
    points = 72 * 2 * radius / max(scale, 1e-9)
    longest = max((len(text) for text in texts), default=1)
    size = float(np.clip(min(points * 0.62, 1.5 * points / max(longest, 1)), 0.0, 11.0))
    within = size >= 4.5
    if not within:  # names stand below the dots, and need room at the sides
        room = 0.5 * text_width(texts, 7) * scale
        sides = np.concatenate([place[:, 0] - room, place[:, 0] + room, reach[:, 0]])
        ax.set_xlim(sides.min() - margin, sides.max() + margin)
    dot = radius if within else 0.4 * radius
    for v in range(n):
        ax.add_patch(
            Circle(place[v], dot, facecolor=colors[v], edgecolor=INK, linewidth=1.0, zorder=3)
        )
        if within:
            ax.text(
                place[v, 0],
                place[v, 1],
                texts[v],
                ha="center",
                va="center_baseline",
                fontsize=size,
                color=_ink_on(colors[v]),
                zorder=4,
            )
        else:
            ax.annotate(
                texts[v],
                (place[v, 0], place[v, 1] - dot),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7,
                color=INK,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                zorder=4,
            )
    if legend and m:
        lines = [
            Line2D([], [], color=style_of(e)[0], ls=style_of(e)[1], lw=2, label=names[e])
            for e in range(m)
        ]
        ax.legend(
            handles=lines,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            fontsize=9,
            handlelength=2.4,
        )
    return ax


def outline(
    points: Array,  # [k, 2]
    radius: float,
) -> Array:
    """The convex hull of circles around points, as corners in order, counter-clockwise.

    Args:
        points: [k, 2], k at least 1.
        radius: of the circles.

    Returns:
        [c, 2] corners.
    """
    angle = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _convex_hull((points[:, None] + circle[None]).reshape(-1, 2))


def _convex_hull(points: Array) -> Array:
    """Andrew's monotone chain."""
    points = np.unique(points, axis=0)  # sorted by x, then y
    if len(points) < 3:
        return points
    halves = []
    for run in (points, points[::-1]):
        half: list[Array] = []
        for point in run:
            while len(half) > 1 and _turn(half[-2], half[-1], point) <= 0:
                half.pop()
            half.append(point)
        halves.append(half[:-1])
    return np.array(halves[0] + halves[1])


def _turn(a: Array, b: Array, c: Array) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _levels(members: list[NDArray[np.intp]]) -> list[int]:
    """A level per hyperedge, different where they share a vertex; small hyperedges lowest."""
    level = [0] * len(members)
    taken: dict[int, set[int]] = {}
    for e in sorted(range(len(members)), key=lambda e: len(members[e])):
        used = set().union(*(taken.get(int(v), set()) for v in members[e]))
        level[e] = next(number for number in range(len(members)) if number not in used)
        for v in members[e]:
            taken.setdefault(int(v), set()).add(level[e])
    return level


def _dot_radius(place: Array) -> float:
    """A fifth of the usual distance to the nearest vertex; small in a crowd."""
    if len(place) < 2:
        return 0.1
    distance = np.sqrt(((place[:, None] - place[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    nearest = np.median(distance.min(1))
    extent = float((place.max(0) - place.min(0)).max()) or 1.0
    return float(np.clip(0.22 * nearest, 0.006 * extent, 0.06 * extent))


def _rgb(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(color)


def _ink_on(color: str) -> str:
    """Dark or white, whichever is read more easily on a colour."""
    red, green, blue = _rgb(color)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
