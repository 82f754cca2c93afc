"""Places for vertices, such that the members of a hyperedge are near each other."""

from __future__ import annotations

import numpy as np

from hypergraph.incidence import Incidence
from hypergraph.viz._common import Array, dense_of

_NEAR = 1e-9


def spectral_layout(hypergraph: Incidence, sample: int | None = None) -> Array:
    """Places from the second and third eigenvector of D_v^-1 H W D_e^-1 H^T.

    Zhou et al., Learning with hypergraphs (NIPS 2006), section 5, without a layout's usual
    refinement: vertices with the same hyperedges are in the same place.

    Args:
        hypergraph: any incidence operator; its dense form is made.
        sample: which one, if it is a batch.

    Returns:
        [N, 2] float64 in [-1, 1]; isolated vertices are at 0.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import spectral_layout
        >>> spectral_layout(Hypergraph.from_edges([[0, 1], [1, 2], [2, 3]])).shape
        (4, 2)
    """
    matrix, weight = dense_of(hypergraph, sample)
    return _fitted(_spectral(matrix, weight, 2))


def force_layout(
    hypergraph: Incidence,
    sample: int | None = None,
    iterations: int = 400,
    seed: int = 0,
) -> Array:
    """Places from springs between every hyperedge's centre and its members.

    Fruchterman and Reingold, Graph drawing by force-directed placement (1991), on the bipartite
    graph of vertices and hyperedges, started from the spectral layout; vertices that are not in a
    hyperedge are also pushed out of the circle around its members, so that hulls hold few others.

    Args:
        hypergraph: any incidence operator; its dense form is made, and (N + M)^2 distances.
        sample: which one, if it is a batch.
        iterations: steps of ever smaller movements.
        seed: of the small shifts that part equal places.

    Returns:
        [N, 2] float64 in [-1, 1], the same for the same seed.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.viz import force_layout
        >>> force_layout(Hypergraph.from_edges([[0, 1], [1, 2], [2, 3]])).shape
        (4, 2)
    """
    matrix, weight = dense_of(hypergraph, sample)
    member = matrix[:, matrix.sum(0) > 0] > 0  # [N, M]
    n, m = member.shape
    if n < 2:
        return np.zeros((n, 2))
    random = np.random.default_rng(seed)
    place = _fitted(_spectral(matrix, weight, 2)) + random.normal(0, 0.1, (n, 2))
    size = np.maximum(member.sum(0), 1)[:, None]
    place = np.concatenate([place, member.T @ place / size])
    node, edge = member.nonzero()
    ideal = 2.0 / np.sqrt(n + m)
    for step in range(iterations):
        away = place[:, None] - place[None]  # [P, P, 2]
        distance = np.sqrt((away**2).sum(-1)) + _NEAR
        force = (away * (ideal / distance)[..., None] ** 2).sum(1)
        pull = place[node] - place[n + edge]
        pull = pull * np.sqrt((pull**2).sum(-1, keepdims=True)) / ideal**2
        np.add.at(force, node, -pull * ideal)
        np.add.at(force, n + edge, pull * ideal)
        force -= 0.6 * place  # what no spring holds must not drift away
        # Out of the circles of the hyperedges one is not in.
        middle = member.T @ place[:n] / size
        out = place[:n, None] - middle[None]  # [N, M, 2]
        reach = np.sqrt((out**2).sum(-1)) + _NEAR
        radius = np.where(member, reach, 0).max(0, initial=0.0) + 0.6 * ideal
        inside = np.clip(radius - reach, 0, None) * ~member
        force[:n] += (1.5 * out * (inside / reach)[..., None]).sum(1) / ideal
        length = np.sqrt((force**2).sum(-1, keepdims=True)) + _NEAR
        limit = 0.3 * (1 - step / iterations) ** 1.5
        place = place + force / length * np.minimum(length * 0.05, limit)
    return _fitted(_apart(place[:n], 0.8 * ideal))


def _apart(place: Array, gap: float) -> Array:
    """Vertices of the same hyperedges may end up in one place: move them a gap apart."""
    for _ in range(100):
        away = place[:, None] - place[None]
        distance = np.sqrt((away**2).sum(-1)) + _NEAR
        overlap = np.clip(gap - distance, 0, None)
        np.fill_diagonal(overlap, 0)
        if overlap.max() < 0.05 * gap:
            break
        place = place + 0.5 * (away * (overlap / distance)[..., None]).sum(1)
    return place


def _spectral(matrix: Array, weight: Array, count: int) -> Array:
    """[N, count] left singular vectors 2, 3, ... of D_v^-1/2 H (W D_e^-1)^1/2, over d_v^1/2."""
    n = matrix.shape[0]
    out = np.zeros((n, count))
    if 0 in matrix.shape:
        return out
    degree, size = matrix @ weight, matrix.sum(0)
    root = np.sqrt(np.divide(1.0, degree, where=degree > 0, out=np.zeros(n)))
    scale = np.sqrt(np.divide(weight, size, where=size > 0, out=np.zeros(len(size))))
    left = np.linalg.svd(root[:, None] * matrix * scale, full_matrices=False)[0]
    found = (root[:, None] * left)[:, 1 : count + 1]
    # Singular vectors are determined up to their sign: the largest entry is positive.
    strongest = np.abs(found).argmax(0)
    found = found * np.sign(found[strongest, np.arange(found.shape[1])])
    out[:, : found.shape[1]] = found
    return out


def _fitted(place: Array) -> Array:
    """Centred and scaled to [-1, 1]; both directions alike."""
    if not len(place):
        return place
    place = place - (place.max(0) + place.min(0)) / 2
    extent = np.abs(place).max()
    return place / extent if extent > _NEAR else place
