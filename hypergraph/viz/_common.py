"""What the pictures share: axes, colours, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hypergraph.incidence import Incidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

# Okabe and Ito's palette, which the common kinds of colour blindness tell apart, without its
# yellow, which is too light for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A")
LINES = ("-", "--", ":", "-.")
INK = "#222222"
FAINT = "#F2F2F2"


def pyplot() -> Any:
    """Import matplotlib, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "hypergraph.viz needs matplotlib; install it with pip install 'hypergraph-nn[viz]'"
        ) from error
    return plt


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, or those of a new figure of so many inches."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    assert ax is not None
    return ax


def style_of(number: int) -> tuple[str, str]:
    """Colour and line of a hyperedge: 28 that differ."""
    return PALETTE[number % len(PALETTE)], LINES[number // len(PALETTE) % len(LINES)]


def dense_of(hypergraph: object, sample: int | None) -> tuple[Array, Array]:
    """H [N, M] and the hyperedge weights [M] of one hypergraph, in float64."""
    if not isinstance(hypergraph, Incidence):
        raise TypeError(
            f"`hypergraph` must be an incidence operator, got {type(hypergraph).__name__}"
        )
    matrix, weight = hypergraph.to_dense().detach(), hypergraph.weight().detach()
    sample = check_sample(hypergraph, sample)
    if sample is not None:
        matrix, weight = matrix[sample], weight[sample]
    return matrix.cpu().double().numpy(), weight.cpu().double().numpy()


def check_sample(hypergraph: Incidence, sample: int | None) -> int | None:
    """Return ``sample`` if it fits the operator, raise ValueError otherwise."""
    count = hypergraph.batch_size
    if count is None:
        if sample is not None:
            raise ValueError(
                f"`sample` goes with a batch of hypergraphs, got {sample} with a single one"
            )
        return None
    if sample is None or not 0 <= sample < count:
        raise ValueError(f"`sample` must say which of the {count} hypergraphs, got {sample}")
    return sample


def labels_of(name: str, labels: Sequence[object] | None, count: int) -> list[str]:
    """One text per item: those given, or the numbers."""
    if labels is None:
        return [str(number) for number in range(count)]
    if len(labels) != count:
        raise ValueError(f"`{name}` must hold {count} labels, got {len(labels)}")
    return [str(label) for label in labels]


def text_width(texts: Sequence[str], points: float) -> float:
    """Inches that the longest text takes, roughly: letters are about 0.6 as wide as high."""
    return 0.62 * points / 72 * max((len(text) for text in texts), default=0)
