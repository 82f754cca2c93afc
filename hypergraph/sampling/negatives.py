"""Member sets that are no hyperedges."""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice, check_integer
from hypergraph._draws import as_generator, distinct_integers, random_integers, shuffled
from hypergraph.incidence import Hypergraph
from hypergraph.sampling._common import check_on_cpu, ranges
from hypergraph_kernels import Segments

Negatives = Literal["sized", "motif", "clique"]

_HASH_SEED = 0x5E7  # of the numbers that stand for vertices in the hash of a member set
_STALLED = 64  # tries of a growing set without a new member before it starts anew
_ROUNDS = 100  # rounds without a single new negative before giving up
_TRIES = 256  # hyperedges tried per round, at least


def negative_hyperedges(
    hypergraph: Hypergraph,
    count: int,
    kind: Negatives = "sized",
    sizes: Tensor | None = None,  # [count]
    seed: int | torch.Generator = 0,
    known: Hypergraph | None = None,
) -> Hypergraph:
    """Member sets that are no hyperedges, of three kinds from easy to hard.

    - ``"sized"``: different vertices, uniformly;
    - ``"motif"``: a set that is connected in the clique expansion: grown from the member of a
      random pair by adding, again and again, a random member of a random hyperedge of a random
      vertex of the set;
    - ``"clique"``: a random hyperedge in which one random member is replaced by another vertex that
      shares a hyperedge with each of the others.

    Patil et al., Negative sampling for hyperlink prediction in networks (PAKDD 2020,
    https://doi.org/10.1007/978-3-030-47436-2_45), section 3. Their motif sampling adds a uniform
    neighbour of the set; ours prefers vertices that meet the set often, which is harder and needs
    no clique expansion. "clique" takes time and memory in proportion to the sum of squared sizes.

    Args:
        hypergraph: on the CPU. A vertex counts once per hyperedge.
        count: how many; they may repeat each other.
        kind: see above.
        sizes: [count] integers >= 1, for "sized" and "motif"; default drawn from the hyperedges
            with at least 2 members, as the replaced hyperedge for "clique" always is.
        seed: an int, or a generator on the CPU.
        known: sets that must not come out; default the hyperedges of ``hypergraph``.

    Returns:
        Hypergraph over the same vertices with ``count`` hyperedges.

    Raises:
        ValueError, TypeError: an argument is out of range, or no such set is found.

    Example:
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.sampling import negative_hyperedges
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2], [0, 2]])
        >>> negative_hyperedges(h, 2, sizes=torch.tensor([3, 3])).edge_degree()
        tensor([3., 3.])
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"`count` must be an int, got {type(count).__name__}")
    if count < 0:
        raise ValueError(f"`count` must be non-negative, got {count}")
    check_choice("kind", kind, get_args(Negatives))
    rows = NegativeDraw(check_on_cpu(hypergraph), kind, known)(
        count, sizes, as_generator("seed", seed)
    )
    row, column = (rows < hypergraph.num_nodes).nonzero(as_tuple=True)
    return Hypergraph(torch.stack([rows[row, column], row]), hypergraph.num_nodes, count)


class Sets:
    """The hyperedges as sets: every member once, ascending."""

    def __init__(self, h: Hypergraph) -> None:
        node, edge = h.hyperedge_index
        if h.incidence_weight is not None:  # a pair of value 0 is as good as absent
            present = h.incidence_weight.detach() > 0
            node, edge = node[present], edge[present]
        keys = (edge * max(h.num_nodes, 1) + node).unique()
        self.num_nodes = h.num_nodes
        self.edge = keys // max(h.num_nodes, 1)
        self.size = torch.bincount(self.edge, minlength=h.num_edges)
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), self.size.cumsum(0)])
        self.segments = Segments(keys % max(h.num_nodes, 1), offsets, None)

    def rows(self, edges: Tensor) -> Tensor:
        """[R, width] members of some hyperedges, ``num_nodes`` where there are fewer."""
        sizes, start = self.size[edges], self.segments.offsets[edges]
        slots = torch.arange(int(sizes.max()) if edges.numel() else 0)
        inside = slots < sizes[:, None]
        position = torch.where(inside, start[:, None] + slots, 0)
        return torch.where(inside, self.segments.columns[position], self.num_nodes)


class NegativeDraw:
    """Draws negatives of one kind; what can be prepared is prepared once."""

    def __init__(self, h: Hypergraph, kind: Negatives, known: Hypergraph | None) -> None:
        if known is not None and check_on_cpu(known).num_nodes != h.num_nodes:
            raise ValueError(
                f"`known` must have the vertices of `hypergraph`, {h.num_nodes}, "
                f"got {known.num_nodes}"
            )
        self.kind, self.num_nodes = kind, h.num_nodes
        self.sets = Sets(h)
        # A set is known by the sum, modulo 2^64, of random numbers that stand for its members.
        stand = torch.Generator().manual_seed(_HASH_SEED)
        high, low = torch.randint(-(2**31), 2**31, (2, h.num_nodes + 1), generator=stand)
        self._stands_for = (high << 32) ^ low
        self._stands_for[-1] = 0
        taken = self.sets if known is None else Sets(known)
        hashes = torch.zeros(taken.size.shape[0], dtype=torch.long)
        hashes.index_add_(0, taken.edge, self._stands_for[taken.segments.columns])
        self._taken = hashes.sort().values
        # Hyperedges of one vertex are no model for a negative.
        self._models = (self.sets.size >= 2).nonzero().squeeze(1)
        if kind == "motif":
            by_node = self.sets.segments.columns.argsort(stable=True)
            degree = torch.bincount(self.sets.segments.columns, minlength=h.num_nodes)
            self._edges_by_node = self.sets.edge[by_node]
            self._node_start, self._node_count = degree.cumsum(0) - degree, degree
        elif kind == "clique":
            self._neighbors = self._clique_expansion()
            firsts = torch.arange(h.num_nodes + 1) * h.num_nodes
            self._neighbor_start = torch.searchsorted(self._neighbors, firsts)

    def __call__(
        self, count: int, sizes: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """[count, width] members, ``num_nodes`` where there are fewer."""
        if sizes is not None:
            sizes = self._checked_sizes(sizes, count)
        elif count and self._models.numel() == 0:
            raise ValueError("`hypergraph` must have a hyperedge with 2 members, got none")
        elif self.kind != "clique":
            sizes = self.sets.size[self._random(self._models, count, generator)]
        widths = self.sets.size if sizes is None else sizes
        width = int(widths.max()) if count else 0
        out = torch.full((count, width), self.num_nodes)
        missing, rounds = torch.arange(count), 0
        while missing.numel():
            rounds += 1
            if rounds > _ROUNDS:
                raise ValueError(
                    f"`count`={count} negatives of kind {self.kind!r} were asked for, and for "
                    f"{missing.numel()} no set that is not a hyperedge was found; ask for other "
                    "`sizes` or another kind"
                )
            if sizes is None:  # any found row will do: where few hyperedges serve, try many
                rows = self._exchanged(max(missing.numel(), _TRIES), generator)
                rows = rows[self._is_new(rows)][: missing.numel()]
                found = torch.arange(missing.numel()) < rows.shape[0]
            else:
                make = self._grown if self.kind == "motif" else self._anywhere
                rows = make(sizes[missing], generator)
                found = self._is_new(rows)
                rows = rows[found]
            if rows.numel():
                rounds = 0
                out[missing[found], : rows.shape[1]] = rows
            missing = missing[~found]
        return out

    def _is_new(self, rows: Tensor) -> Tensor:
        """[R] bool: the row is not empty and no known hyperedge."""
        filled = (rows < self.num_nodes).any(1)
        if self._taken.numel() == 0:
            return filled
        hashes = self._stands_for[rows].sum(1)
        place = torch.searchsorted(self._taken, hashes).clamp(max=self._taken.numel() - 1)
        return filled & (self._taken[place] != hashes)

    def _anywhere(self, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        width = int(sizes.max())
        rows = distinct_integers(torch.full_like(sizes, self.num_nodes), width, generator)
        # The first k of a set in uniform order are a uniform set of k.
        return rows.masked_fill(torch.arange(width) >= sizes[:, None], self.num_nodes)

    def _grown(self, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """A row that does not grow to its size stays empty: its part of the whole is too small."""
        members = self.sets.segments.columns
        count, width = sizes.shape[0], int(sizes.max())
        rows = torch.full((count, width), self.num_nodes)
        if members.numel() == 0:
            return rows
        rows[:, 0] = self._random(members, count, generator)
        filled, stalled = torch.ones_like(sizes), torch.zeros_like(sizes)
        while True:
            growing = ((filled < sizes) & (stalled < _STALLED)).nonzero().squeeze(1)
            if growing.numel() == 0:
                break
            u = rows[growing, random_integers(filled[growing], generator)]
            pick = random_integers(self._node_count[u], generator)
            edge = self._edges_by_node[self._node_start[u] + pick]
            pick = random_integers(self.sets.size[edge], generator)
            v = members[self.sets.segments.offsets[edge] + pick]
            new = (rows[growing] != v[:, None]).all(1)
            grown = growing[new]
            rows[grown, filled[grown]] = v[new]
            filled[grown] += 1
            stalled[grown] = 0
            stalled[growing[~new]] += 1
        rows[filled < sizes] = self.num_nodes
        return rows

    def _exchanged(self, count: int, generator: torch.Generator | None) -> Tensor:
        """A row in which no member can be exchanged so stays empty."""
        n = self.num_nodes
        edges = self._random(self._models, count, generator)
        rows, number = self.sets.rows(edges), torch.arange(count)
        out = random_integers(self.sets.size[edges], generator)
        rest = rows.clone()
        rest[number, out] = n
        # Candidates are the neighbours of the member that has fewest.
        start = self._neighbor_start
        degree = torch.cat([start.diff(), torch.full((1,), 2**62)])
        pivot = rest.gather(1, degree[rest].argmin(1, keepdim=True)).squeeze(1)
        row, position = ranges(start[pivot], degree[pivot])
        candidate = self._neighbors[position] % n
        outside = (rows[row] != candidate[:, None]).all(1)
        row, candidate = row[outside], candidate[outside]
        for slot in range(rest.shape[1]):
            other = rest[row, slot]
            key = other * n + candidate
            place = torch.searchsorted(self._neighbors, key).clamp(max=self._neighbors.numel() - 1)
            fits = (other == n) | (self._neighbors[place] == key)
            row, candidate = row[fits], candidate[fits]
        # One of the candidates of each row: the first in a random order.
        order = shuffled(torch.arange(row.numel()), generator)
        order = order[row[order].argsort(stable=True)]
        row, candidate = row[order], candidate[order]
        first = torch.ones_like(row, dtype=torch.bool)
        first[1:] = row[1:] != row[:-1]
        result = torch.full_like(rows, n)
        row, candidate = row[first], candidate[first]
        result[row] = rows[row]
        result[row, out[row]] = candidate
        return result

    def _clique_expansion(self) -> Tensor:
        """Ascending keys u N + v of the ordered pairs of vertices that share a hyperedge."""
        size, (columns, offsets, _) = self.sets.size[self.sets.edge], self.sets.segments
        first, second = ranges(offsets[self.sets.edge], size)
        u, v = columns[first], columns[second]
        return (u * self.num_nodes + v)[u != v].unique()

    def _random(self, of: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        return of[random_integers(torch.full((count,), of.shape[0]), generator)]

    def _checked_sizes(self, sizes: Tensor, count: int) -> Tensor:
        if self.kind == "clique":
            raise ValueError("`sizes` does not go with kind 'clique': they are those of hyperedges")
        sizes = check_integer("sizes", sizes)
        if sizes.shape != (count,):
            raise ValueError(f"`sizes` must have shape [{count}], got {list(sizes.shape)}")
        if count and not 1 <= int(sizes.min()) <= int(sizes.max()) <= self.num_nodes:
            raise ValueError(
                f"`sizes` must lie in [1, {self.num_nodes}], got {int(sizes.min())} "
                f"to {int(sizes.max())}"
            )
        return sizes
