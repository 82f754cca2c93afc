"""Vertices on the left, hyperedges on the right, a line per pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hypergraph.incidence import Incidence
from hypergraph.viz._common import INK, Array, axes_of, dense_of, labels_of, style_of, text_width
from hypergraph.viz.matrix import spectral_order_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SWEEPS = 24
_TIGHTEST = 0.13  # inches between rows that can be labelled
_ALL_LABELS = 400  # more rows than this are drawn without labels


def draw_bipartite(
    hypergraph: Incidence,
    ax: Axes | None = None,
    order: bool = True,
    node_labels: Sequence[object] | None = None,
    edge_labels: Sequence[object] | None = None,
    sample: int | None = None,
) -> Axes:
    """Draw vertices and hyperedges in two columns, joined where a vertex is in a hyperedge.

    Lines have the colour of the hyperedge, and a width that follows the incidence value.

    Args:
        hypergraph: any incidence operator; its dense form is made.
        ax: where to draw; default a new figure.
        order: put both columns in an order with few crossings (every item at the mean place of
            those it is joined with, again and again: Sugiyama et al., 1981); False keeps the
            numbering, from the top.
        node_labels: one per vertex; default the numbers.
        edge_labels: one per hyperedge; default "e0", "e1", ...
        sample: which one, if the operator is a batch.

    Raises:
        ImportError: matplotlib is missing.
        ValueError, TypeError: an argument does not fit.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import draw_bipartite
        >>> ax = draw_bipartite(Hypergraph.from_edges([[0, 1], [1, 2]]))
        >>> len(ax.lines)
        4
    """
    matrix, _ = dense_of(hypergraph, sample)
    n, m = matrix.shape
    texts = labels_of("node_labels", node_labels, n)
    if edge_labels is None:
        edge_labels = [f"e{number}" for number in range(m)]
    names = labels_of("edge_labels", edge_labels, m)
    left, right = _few_crossings(matrix) if order else (np.arange(n), np.arange(m))
    rows = max(n, m, 1)
    height, tall = _heights(left, rows), _heights(right, rows)
    pitch = max(min(0.28, 11.0 / rows), _TIGHTEST)
    if rows > _ALL_LABELS:
        pitch = _ALL_LABELS * _TIGHTEST / rows
    size = float(np.clip(72 * pitch * 0.62, 5.5, 9.0))
    width = 3.2 + text_width([*texts, "vertices"], size) + text_width([*names, "hyperedges"], size)
    ax = axes_of(ax, width, max(1.2, 0.6 + pitch * rows))
    highest = matrix.max() if matrix.size else 1.0
    for v, e in zip(*matrix.nonzero(), strict=True):
        color, line = style_of(int(e))
        width = (0.6 + 1.4 * matrix[v, e] / highest) * min(1.0, pitch / 0.2)
        ax.plot([0, 1], [height[v], tall[e]], color=color, ls=line, lw=width, zorder=1)
    dot = float(np.clip(72 * pitch * 0.45, 2.0, 8.0)) ** 2
    ax.scatter(np.zeros(n), height, s=dot, c="white", edgecolors=INK, linewidths=1.2, zorder=2)
    colors = [style_of(e)[0] for e in range(m)]
    ax.scatter(np.ones(m), tall, s=dot, c=colors, marker="s", zorder=2)
    for v in range(n if rows <= _ALL_LABELS else 0):
        _write(ax, (0, height[v]), texts[v], -7, "right", size)
    for e in range(m if rows <= _ALL_LABELS else 0):
        _write(ax, (1, tall[e]), names[e], 7, "left", size)
    for x, title, side in ((0, "vertices", "right"), (1, "hyperedges", "left")):
        ax.annotate(
            title,
            (x, 0.5),
            xytext=(4 - 8 * x, 8),
            textcoords="offset points",
            ha=side,
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    ax.set_xlim(-0.05, 1.05)
    ax.set_ylim(-max(rows - 0.5, 0.5), 0.5)
    ax.axis("off")
    return ax


def _write(
    ax: Axes, place: tuple[float, float], text: str, shift: float, side: str, size: float
) -> None:
    ax.annotate(
        text,
        place,
        xytext=(shift, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=size,
        color=INK,
        annotation_clip=False,
    )


def _heights(order: NDArray[np.int64], rows: int) -> Array:
    """[n] heights, downwards in order; both columns fill the rows."""
    out = np.empty(len(order))
    step = rows / max(len(order), 1)
    out[order] = -(np.arange(len(order)) + 0.5) * step + 0.5
    return out


def _few_crossings(matrix: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Orders of both columns, the best of some sweeps."""
    member = (matrix > 0).astype(np.float64)
    n, m = member.shape
    best, fewest = (np.arange(n), np.arange(m)), np.inf
    for left, right in ((np.arange(n), np.arange(m)), spectral_order_of(member, np.ones(m))):
        for _ in range(_SWEEPS + 1):
            crossings = _crossings(member[left][:, right])
            if crossings < fewest:
                best, fewest = (left, right), crossings
            right = right[np.argsort(_mean_place(member[left][:, right].T), kind="stable")]
            left = left[np.argsort(_mean_place(member[left][:, right]), kind="stable")]
    return best


def _mean_place(member: Array) -> Array:
    """Mean column of the ones of every row; rows without any go last."""
    count = member.sum(1)
    total = member @ np.arange(member.shape[1])
    return np.divide(total, count, where=count > 0, out=np.full(len(count), np.inf))


def _crossings(member: Array) -> float:
    """Number of crossing pairs of lines: for each one, the ones below it on the left of it."""
    if 0 in member.shape:
        return 0.0
    below = np.cumsum(member[::-1], 0)[::-1]
    below = np.concatenate([below[1:], np.zeros((1, member.shape[1]))])
    before = np.cumsum(below, 1) - below
    return float((member * before).sum())
