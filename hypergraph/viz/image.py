"""Hyperedges of a feature map, over the picture that the map came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph._numerics import inverse_power
from hypergraph.incidence import Incidence
from hypergraph.viz._common import Array, check_sample, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Of = Literal["hyperedge", "vertex"]

_MARK = "#00E5FF"
_BRIGHTEST = 4.0  # times white: a generator may go beyond white, but not so far


def draw_on_image(
    hypergraph: Incidence,
    image: Tensor | Any,
    grid: tuple[int, int],
    numbers: Sequence[int],
    of: Of = "hyperedge",
    mark: Sequence[int | None] | bool = False,
    sample: int | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    titles: Sequence[str] | None = None,
    cmap: str = "inferno",
    opacity: float = 0.75,
    colorbar: bool = True,
) -> Figure:
    """Draw members of hyperedges, or what a vertex depends on, over a picture.

    Vertices are the cells of a feature map, row by row (``x.flatten(2).mT`` of [B, C, rows,
    columns]). The picture is shown in grey, and every cell is coloured by its value, the more
    opaque the larger.

    - ``of="hyperedge"``: the values are column e of H: who is in hyperedge e, and how much.
    - ``of="vertex"``: the values are row v of D_v^-1 H W D_e^-1 H^T: how much of every vertex
      reaches vertex v in one mean over hyperedges. They sum to 1.

    H is never made dense: every operator can be drawn, ``Streamed`` ones of large maps too.

    Args:
        hypergraph: any incidence operator over rows x columns vertices.
        image: [height, width], [height, width, 3] as matplotlib shows it, or a tensor
            [channels, height, width] in [-1, 1].
        grid: (rows, columns) of the feature map.
        numbers: hyperedges or vertices, one panel each.
        of: what the numbers are.
        mark: True rings the cell with the panel's number, that is the vertex itself, or the vertex
            that hyperedge e belongs to (``KNN``, ``CrossCorrelation(omega="tied")``); a sequence
            names a vertex, or None, for each panel.
        sample: which one, if the operator is a batch.
        axes: one per panel; default a new figure with up to 4 panels in a row.
        titles: one per panel; default the number, and the cell (row, column) that is marked.
        cmap: matplotlib colour map.
        opacity: of the largest value.
        colorbar: draw one for all panels; each panel has its own maximum, so it shows shares.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        ValueError, TypeError: an argument does not fit.

    Example:
        >>> import torch
        >>> from hypergraph import KNN
        >>> from hypergraph.viz import draw_on_image
        >>> x = torch.rand(2, 8, 6, 6)
        >>> h = KNN(k=4)(x.flatten(2).mT)
        >>> figure = draw_on_image(h, torch.rand(3, 60, 60), (6, 6), [0, 14], sample=1, mark=True)
        >>> [ax.get_title() for ax in figure.axes[:2]]
        ['hyperedge 0 of vertex (0, 0)', 'hyperedge 14 of vertex (2, 2)']
    """
    if not isinstance(hypergraph, Incidence):
        raise TypeError(
            f"`hypergraph` must be an incidence operator, got {type(hypergraph).__name__}"
        )
    check_choice("of", of, ("hyperedge", "vertex"))
    rows, columns = grid
    if rows * columns != hypergraph.num_nodes:
        raise ValueError(
            f"`grid` must have as many cells as there are vertices, {hypergraph.num_nodes}, "
            f"got {rows} x {columns}"
        )
    numbers = [int(number) for number in numbers]
    count = hypergraph.num_edges if of == "hyperedge" else hypergraph.num_nodes
    if not numbers or min(numbers) < 0 or max(numbers) >= count:
        raise ValueError(f"`numbers` must hold numbers in [0, {count}), got {numbers}")
    marks = _marks(mark, numbers, hypergraph.num_nodes)
    if titles is None:
        titles = [_title(of, *pair, columns) for pair in zip(numbers, marks, strict=True)]
    elif len(titles) != len(numbers):
        raise ValueError(f"`titles` must hold {len(numbers)} texts, got {len(titles)}")
    grey = _grey(image)
    values = _values(hypergraph, numbers, of, check_sample(hypergraph, sample))
    figure, panels = _panels(axes, len(numbers), grey.shape, colorbar)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    shades = pyplot().get_cmap(cmap)
    for panel, value, marked, title in zip(panels, values, marks, titles, strict=True):
        share = value / value.max() if value.max() > 0 else value
        # Opacity, too, follows the value: where nothing is, the picture shows.
        colors = shades(share.reshape(rows, columns))
        colors[..., 3] = opacity * share.reshape(rows, columns) ** 0.5
        box = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        panel.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=box, aspect="auto")
        panel.imshow(colors, extent=box, aspect="auto", interpolation="nearest")
        panel.set_aspect(grey.shape[0] / grey.shape[1] * columns / rows)
        if marked is not None:
            corner = (marked % columns - 0.5, marked // columns - 0.5)
            for color, width in (("black", 3.5), (_MARK, 1.8)):
                panel.add_patch(
                    Rectangle(corner, 1, 1, fill=False, edgecolor=color, linewidth=width)
                )
        panel.set_title(title, fontsize=9)
        panel.set_axis_off()
    if colorbar:
        scale = ScalarMappable(Normalize(0, 1), cmap)
        bar = figure.colorbar(scale, ax=panels, shrink=0.8, pad=0.02, aspect=25)
        what = "incidence" if of == "hyperedge" else "influence"
        bar.set_label(f"{what}, share of the largest", fontsize=9)
        bar.outline.set_visible(False)
    return figure


def _values(
    hypergraph: Incidence, numbers: Sequence[int], of: Of, sample: int | None
) -> list[Array]:
    """[N] values per number, through products with unit vectors."""
    count = hypergraph.num_edges if of == "hyperedge" else hypergraph.num_nodes
    dtype = hypergraph.dtype or torch.float32
    unit = torch.zeros(count, len(numbers), dtype=torch.promote_types(dtype, torch.float32))
    unit[torch.tensor(numbers), torch.arange(len(numbers))] = 1
    unit = unit.to(hypergraph.device)
    if sample is not None:
        assert hypergraph.batch_size is not None
        unit = unit.expand(hypergraph.batch_size, -1, -1)
    with torch.no_grad():
        if of == "hyperedge":
            out = hypergraph.e2v(unit)
        else:  # the operator is symmetric but for the degrees
            degree = inverse_power(hypergraph.node_degree(unit.dtype), -1.0).unsqueeze(-1)
            edges, size = hypergraph.v2e_with_degree(unit * degree)
            weight = hypergraph.weight(unit.dtype) * inverse_power(size, -1.0)
            out = hypergraph.e2v(edges * weight.unsqueeze(-1))
    out = out if sample is None else out[sample]
    return list(out.T.cpu().double().numpy())


def _grey(image: Tensor | Any) -> Array:
    """[height, width] in [0, 1]."""
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] not in (1, 3):
            raise ValueError(
                "`image` as a tensor must have shape [1 or 3, height, width] and values in "
                f"[-1, 1], got {list(image.shape)}"
            )
        if not image.is_floating_point():
            raise TypeError(
                f"`image` as a tensor must hold floats in [-1, 1], got {image.dtype}; "
                "convert bytes with image / 127.5 - 1"
            )
        pixels = image.detach().cpu().double().permute(1, 2, 0).numpy() / 2 + 0.5
    else:
        pixels = np.asarray(image)
        if pixels.dtype == np.uint8:
            pixels = pixels / 255.0
        pixels = pixels.astype(np.float64)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
            raise ValueError(
                "`image` must have shape [height, width], or [height, width, 3], "
                f"got {list(pixels.shape)}"
            )
    if pixels.size and pixels.max() > _BRIGHTEST:
        raise ValueError(
            "`image` must lie in [-1, 1] as a tensor, in [0, 1] or bytes as an array, got up to "
            f"{pixels.max():.4g} times white; divide by 255"
        )
    if pixels.shape[2] >= 3:
        pixels = pixels[..., :3] @ np.array([[0.299], [0.587], [0.114]])
    return np.clip(pixels[..., 0], 0, 1)


def _marks(
    mark: Sequence[int | None] | bool, numbers: Sequence[int], num_nodes: int
) -> list[int | None]:
    if isinstance(mark, bool):
        marks: list[int | None] = [number if mark else None for number in numbers]
    else:
        marks = list(mark)
    if len(marks) != len(numbers):
        raise ValueError(f"`mark` must name {len(numbers)} vertices, got {len(marks)}")
    for vertex in marks:
        if vertex is not None and not 0 <= vertex < num_nodes:
            raise ValueError(f"`mark` must name vertices in [0, {num_nodes}), got {vertex}")
    return marks


def _title(of: Of, number: int, marked: int | None, columns: int) -> str:
    cell = "" if marked is None else f"({marked // columns}, {marked % columns})"
    if of == "vertex":
        return f"vertex ({number // columns}, {number % columns})"
    return f"hyperedge {number}" + (f" of vertex {cell}" if cell else "")


def _panels(
    axes: Axes | Sequence[Axes] | None, count: int, shape: tuple[int, ...], colorbar: bool
) -> tuple[Figure, list[Axes]]:
    plt = pyplot()
    if axes is None:
        across = min(count, 4)
        down = -(-count // across)
        high = 2.3 * shape[0] / shape[1] + 0.35
        size = (2.3 * across + 0.9 * colorbar, high * down)
        figure, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
        panels = list(grid.flat)
        for panel in panels[count:]:
            panel.set_axis_off()
        return figure, panels[:count]
    panels = list(np.atleast_1d(np.asarray(axes, dtype=object)).flat)
    if len(panels) != count:
        raise ValueError(f"`axes` must hold one per panel, {count}, got {len(panels)}")
    return panels[0].figure, panels
