"""The optional compiled CPU path: one C file, built when you ask for it.

``python -m hypergraph_kernels.compiled build`` compiles it in seconds with the C compiler on PATH
into your cache folder; from then on ``implementation="auto"`` uses it for float32 on a CPU. Nothing
is compiled at import or installation, and nothing needs it.
"""

from hypergraph_kernels.compiled._build import BuildError, remove
from hypergraph_kernels.compiled._knn import MAX_NEIGHBORS, nearest_by_cosine
from hypergraph_kernels.compiled._library import build_and_load as build
from hypergraph_kernels.compiled._library import instructions, is_available
from hypergraph_kernels.compiled._pairs import sort_pairs
from hypergraph_kernels.compiled._propagate import propagate

__all__ = [
    "MAX_NEIGHBORS",
    "BuildError",
    "build",
    "instructions",
    "is_available",
    "nearest_by_cosine",
    "propagate",
    "remove",
    "sort_pairs",
]
