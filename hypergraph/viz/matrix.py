"""The incidence matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hypergraph._checks import check_choice
from hypergraph.incidence import Incidence
from hypergraph.viz._common import (
    FAINT,
    PALETTE,
    Array,
    axes_of,
    dense_of,
    labels_of,
    pyplot,
    text_width,
)
from hypergraph.viz.layout import _spectral

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Order = Literal["degree", "spectral"]

_ALL_LABELS = 40  # more rows or columns than this get only some labels


def draw_incidence(
    hypergraph: Incidence,
    ax: Axes | None = None,
    sort: Order | None = None,
    node_labels: Sequence[object] | None = None,
    edge_labels: Sequence[object] | None = None,
    sample: int | None = None,
    cmap: str = "viridis_r",
    colorbar: bool | None = None,
) -> Axes:
    """Draw H: a row per vertex, a column per hyperedge, values as shade.

    Args:
        hypergraph: any incidence operator; its dense form is made. Repeated pairs add up; the
            hyperedge weights are not in H.
        ax: where to draw; default a new figure.
        sort: None keeps the numbering; ``"degree"`` puts large degrees and sizes first;
            ``"spectral"`` brings vertices that share hyperedges, and hyperedges that share
            vertices, next to each other (``spectral_order``).
        node_labels: one per vertex; default the numbers.
        edge_labels: one per hyperedge; default the numbers.
        sample: which one, if the operator is a batch.
        cmap: matplotlib colour map for values; light should mean small.
        colorbar: default where values other than 0 and 1 occur.

    Returns:
        The axes; the picture is ``ax.images[0]``.

    Raises:
        ImportError: matplotlib is missing.
        ValueError, TypeError: an argument does not fit.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import draw_incidence
        >>> ax = draw_incidence(Hypergraph.from_edges([[0, 1], [1, 2]]), sort="degree")
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['1', '0', '2']
    """
    check_choice("sort", sort, (None, "degree", "spectral"))
    matrix, weight = dense_of(hypergraph, sample)
    n, m = matrix.shape
    rows = labels_of("node_labels", node_labels, n)
    columns = labels_of("edge_labels", edge_labels, m)
    down, across = np.arange(n), np.arange(m)
    if sort == "degree":
        down = np.argsort(-(matrix @ weight), kind="stable")
        across = np.argsort(-matrix.sum(0), kind="stable")
    elif sort == "spectral":
        down, across = spectral_order_of(matrix, weight)
    plain = bool(np.isin(matrix, (0, 1)).all())
    colorbar = not plain if colorbar is None else colorbar
    cell = min(max(6.0 / max(n, m, 1), 0.05), 0.32)
    longest = max((len(text) for text in columns), default=0)
    upright = m <= _ALL_LABELS and m * longest > _ALL_LABELS
    width = 1.0 + cell * m + 0.9 * colorbar + text_width(rows, 8)
    ax = axes_of(ax, width, 1.0 + cell * n + (text_width(columns, 8) if upright else 0.2))
    if plain:
        from matplotlib.colors import ListedColormap

        shades = ListedColormap([PALETTE[0]]).with_extremes(bad=FAINT)
    else:
        shades = pyplot().get_cmap(cmap).with_extremes(bad=FAINT)
    shown = np.ma.masked_equal(matrix[down][:, across], 0)
    highest = float(matrix.max()) if matrix.size else 1.0
    few = max(n, m) <= 2 * _ALL_LABELS
    image = ax.imshow(
        shown.reshape(n, m) if matrix.size else np.zeros((max(n, 1), max(m, 1))),
        cmap=shades,
        vmin=0.0,
        vmax=max(highest, np.finfo(float).tiny),
        aspect="equal" if few else "auto",
        interpolation="nearest" if few else "antialiased",
        interpolation_stage="rgba",
    )
    _label(ax.xaxis, [columns[e] for e in across])
    _label(ax.yaxis, [rows[v] for v in down])
    if upright:
        ax.tick_params(axis="x", labelrotation=90)
    ax.set_xlabel("hyperedge")
    ax.set_ylabel("vertex")
    if few:  # lines between the cells
        ax.set_xticks(np.arange(m + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="both", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if colorbar:
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
        bar.set_label("incidence")
        bar.outline.set_visible(False)
    return ax


def spectral_order(
    hypergraph: Incidence, sample: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Orders in which related vertices, and related hyperedges, are neighbours.

    Both follow the second singular vectors of D_v^-1/2 H (W D_e^-1)^1/2 (Dhillon, Co-clustering
    documents and words using bipartite spectral graph partitioning, KDD 2001, section 4); one
    connected part comes after the other, larger parts first. Isolated vertices and empty hyperedges
    are last.

    Args:
        hypergraph: any incidence operator; its dense form is made.
        sample: which one, if it is a batch.

    Returns:
        [N] vertices and [M] hyperedges, each number once.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import spectral_order
        >>> spectral_order(Hypergraph.from_edges([[0, 3], [1, 2], [3, 1]]))[0].tolist() in (
        ...     [0, 3, 1, 2], [2, 1, 3, 0])
        True
    """
    return spectral_order_of(*dense_of(hypergraph, sample))


def spectral_order_of(matrix: Array, weight: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``spectral_order`` of a matrix [N, M] and hyperedge weights [M]."""
    n, m = matrix.shape
    part_of_node, part_of_edge = _parts(matrix)
    down: list[int] = []
    across: list[int] = []
    sizes = np.bincount(part_of_node[part_of_node >= 0]) if n else np.zeros(0, dtype=int)
    for part in np.argsort(-sizes, kind="stable"):
        nodes = (part_of_node == part).nonzero()[0]
        edges = (part_of_edge == part).nonzero()[0]
        block = matrix[np.ix_(nodes, edges)]
        rank = _spectral(block, weight[edges], 1)[:, 0]
        down += nodes[np.argsort(rank, kind="stable")].tolist()
        across += edges[np.argsort(rank @ block / block.sum(0), kind="stable")].tolist()
    down += (part_of_node < 0).nonzero()[0].tolist()
    across += (part_of_edge < 0).nonzero()[0].tolist()
    return np.array(down, dtype=np.int64), np.array(across, dtype=np.int64)


def _parts(matrix: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The connected part of every vertex and hyperedge; -1 for what is in no pair."""
    n, m = matrix.shape
    node_part, edge_part = np.full(n, -1), np.full(m, -1)
    member = matrix > 0
    part = 0
    for first in range(n):
        if node_part[first] >= 0 or not member[first].any():
            continue
        nodes = np.arange(n) == first
        edges = np.zeros(m, dtype=bool)
        while True:
            more = member[nodes].any(0)
            if (more == edges).all():
                break
            edges = more
            nodes = member[:, edges].any(1)
        node_part[nodes], edge_part[edges] = part, part
        part += 1
    return node_part, edge_part


def _label(axis: object, labels: list[str]) -> None:
    """All labels where they are few, else some, evenly."""
    step = -(-len(labels) // _ALL_LABELS) if labels else 1
    if step > 1:  # a round number reads better
        step = next(s for s in (5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if s >= step)
    places = np.arange(0, len(labels), step)
    axis.set_ticks(places, [labels[place] for place in places], fontsize=8)  # type: ignore[attr-defined]
