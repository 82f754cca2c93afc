"""Pictures of hypergraphs, drawn with matplotlib (``pip install 'hypergraph-nn[viz]'``)."""

from hypergraph.viz.bipartite import draw_bipartite
from hypergraph.viz.hulls import draw_hulls
from hypergraph.viz.image import draw_on_image
from hypergraph.viz.layout import force_layout, spectral_layout
from hypergraph.viz.matrix import draw_incidence, spectral_order

__all__ = [
    "draw_bipartite",
    "draw_hulls",
    "draw_incidence",
    "draw_on_image",
    "force_layout",
    "spectral_layout",
    "spectral_order",
]
