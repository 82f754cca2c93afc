"""Random hypergraphs without labels: uniform ones, and ones with given degrees."""

import math

import torch
from torch import Tensor

from hypergraph._checks import check_integer, check_positive_int
from hypergraph._draws import as_generator, distinct_integers, random_integers, shuffled
from hypergraph.incidence import Hypergraph

# Above this many possible hyperedges a binomial count is drawn from its Poisson limit: float64
# cannot hold the number of trials, and the two differ by less than the probability p.
_EXACT_TRIALS = 2**52
_ROUNDS_WITHOUT_PROGRESS = 2000


def uniform_hypergraph(
    num_nodes: int,
    size: int,
    num_edges: int | None = None,
    probability: float | None = None,
    seed: int | torch.Generator = 0,
) -> Hypergraph:
    """Random hypergraph whose hyperedges are different subsets of ``size`` vertices.

    With ``num_edges`` it is G(n, m): every set of m different hyperedges is equally likely. With
    ``probability`` it is G(n, p): each of the C(n, size) possible hyperedges is there with
    probability p, independently. C(n, size) may be beyond 64 bits (DHG overflows from n = 2000
    on); from 2^52 on, the number of hyperedges is drawn from Poisson(p C(n, size)), which differs
    from the binomial by at most p in total variation.

    Args:
        num_nodes: n.
        size: vertices per hyperedge, 1 to n.
        num_edges: m, 0 to C(n, size). Give this or ``probability``.
        probability: p in [0, 1].
        seed: an int, or a generator on the CPU.

    Returns:
        Hypergraph with n vertices; vertices in no hyperedge are isolated.

    Raises:
        ValueError, TypeError: an argument is out of range, or not one of m and p is given.

    Example:
        >>> uniform_hypergraph(2000, 5, num_edges=300, seed=0).edge_degree().unique()
        tensor([5.])
    """
    n, k = check_positive_int("num_nodes", num_nodes), check_positive_int("size", size)
    if k > n:
        raise ValueError(f"`size` must be at most `num_nodes`={n}, got {k}")
    generator = as_generator("seed", seed)
    total = math.comb(n, k)
    if (num_edges is None) == (probability is None):
        raise ValueError("give one of `num_edges` and `probability`, got both or neither")
    if probability is not None:
        if not 0 <= probability <= 1:
            raise ValueError(f"`probability` must lie in [0, 1], got {probability}")
        m = _binomial(total, probability, generator)
    else:
        if isinstance(num_edges, bool) or not isinstance(num_edges, int):
            raise TypeError(f"`num_edges` must be an int, got {type(num_edges).__name__}")
        if not 0 <= num_edges <= total:
            raise ValueError(
                f"`num_edges` must lie in [0, {total}], the number of different hyperedges of "
                f"{k} among {n} vertices, got {num_edges}"
            )
        m = num_edges
    members = _different_subsets(n, k, m, total, generator)  # [m, k]
    hyperedge = torch.arange(m).repeat_interleave(k)
    return Hypergraph(torch.stack([members.flatten(), hyperedge]), n, m)


def configuration_model(
    node_degrees: Tensor,  # [num_nodes]
    edge_sizes: Tensor,  # [num_edges]
    seed: int | torch.Generator = 0,
    repeated_pairs: bool = False,
) -> Hypergraph:
    """Random hypergraph in which every vertex degree and every hyperedge size is given.

    Stubs of vertices and of hyperedges are matched at random (Chodrow, Configuration models of
    random hypergraphs, https://arxiv.org/abs/1902.09302, section 2). With ``repeated_pairs`` that
    is all: a vertex may be in a hyperedge more than once, and every matching is equally likely.
    Without, repeated pairs are exchanged against random others, which keeps all degrees and sizes;
    the result is then nearly, not exactly, uniform among the hypergraphs without repeated pairs.

    Args:
        node_degrees: [num_nodes] integers >= 0.
        edge_sizes: [num_edges] integers >= 0, with the same sum.
        seed: an int, or a generator on the CPU.
        repeated_pairs: allow them.

    Raises:
        ValueError, TypeError: the sums differ, or no hypergraph without repeated pairs has these
            degrees and sizes (Gale and Ryser), or none was found.

    Example:
        >>> h = configuration_model(torch.tensor([3, 2, 1, 0]), torch.tensor([3, 2, 1]))
        >>> h.node_degree(), h.edge_degree()
        (tensor([3., 2., 1., 0.]), tensor([3., 2., 1.]))
    """
    degrees = _counts("node_degrees", node_degrees)
    sizes = _counts("edge_sizes", edge_sizes)
    if int(degrees.sum()) != int(sizes.sum()):
        raise ValueError(
            "`node_degrees` and `edge_sizes` must have the same sum, the number of pairs, "
            f"got {int(degrees.sum())} and {int(sizes.sum())}"
        )
    generator = as_generator("seed", seed)
    n, m = degrees.shape[0], sizes.shape[0]
    node = shuffled(torch.arange(n).repeat_interleave(degrees), generator)
    hyperedge = torch.arange(m).repeat_interleave(sizes)
    if not repeated_pairs:
        _check_realisable(degrees, sizes)
        node = separate_pairs(node, hyperedge, n, generator)
    return Hypergraph(torch.stack([node, hyperedge]), n, m)


def separate_pairs(
    node: Tensor,  # [nnz]
    hyperedge: Tensor,  # [nnz]
    num_nodes: int,
    generator: torch.Generator,
) -> Tensor:
    """Exchange vertices between pairs at random until no pair is repeated.

    Degrees and sizes stay as they are. An exchange of the vertices of pairs i and j is made only
    if both new pairs are new, so the number of repeated pairs never grows.

    Returns:
        [nnz] the new vertices.
    """
    node = node.clone()
    rounds, fewest = 0, node.shape[0]
    while True:
        keys = hyperedge * num_nodes + node
        ordered, order = keys.sort(stable=True)
        repeated = order[1:][ordered[1:] == ordered[:-1]]
        if repeated.numel() == 0:
            return node
        rounds, fewest = (
            (0, repeated.numel()) if repeated.numel() < fewest else (rounds + 1, fewest)
        )
        if rounds > _ROUNDS_WITHOUT_PROGRESS:
            raise ValueError(
                "`node_degrees` and `edge_sizes` leave so little choice that no arrangement "
                "without repeated pairs was found; pass repeated_pairs=True"
            )
        # As many exchanges of pairs that are in order, lest the last repeated ones are stuck.
        others = torch.randint(node.shape[0], (repeated.numel(),), generator=generator)
        first = torch.cat([repeated, others])
        second = torch.randint(node.shape[0], (first.numel(),), generator=generator)
        apart = _first_use(torch.stack([first, second], 1))
        first, second = first[apart], second[apart]
        new = torch.stack(
            [
                hyperedge[first] * num_nodes + node[second],
                hyperedge[second] * num_nodes + node[first],
            ],
            1,
        )
        place = torch.searchsorted(ordered, new).clamp(max=ordered.numel() - 1)
        fine = (ordered[place] != new).all(1) & _first_use(new)
        first, second = first[fine], second[fine]
        node[first], node[second] = node[second], node[first]


def _first_use(rows: Tensor) -> Tensor:
    """[R] bool: no entry of the row [R, 2] occurs twice in it or in any other row before it."""
    flat = rows.flatten()
    ordered, order = flat.sort(stable=True)
    used = torch.zeros_like(flat, dtype=torch.bool)
    used[order[1:]] = ordered[1:] == ordered[:-1]
    return ~used.view(-1, 2).any(1)


def _check_realisable(degrees: Tensor, sizes: Tensor) -> None:
    """Raise ValueError unless a hypergraph without repeated pairs exists (Gale and Ryser)."""
    count = sizes.shape[0]
    if degrees.numel() and int(degrees.max()) > count:
        raise ValueError(
            f"`node_degrees` must be at most the number of hyperedges, {count}, got "
            f"{int(degrees.max())}; pass repeated_pairs=True to let a vertex be in one twice"
        )
    # sum over v of min(d_v, k), for k = 1, 2, ...: how many places the k largest may fill
    at_least = torch.bincount(degrees, minlength=count + 1).flip(0).cumsum(0).flip(0)[1:]
    room = at_least.cumsum(0)
    if bool((sizes.sort(descending=True).values.cumsum(0) > room).any()):
        raise ValueError(
            "`edge_sizes` cannot be filled without repeated pairs by vertices of these "
            "`node_degrees`; make the hyperedges smaller or pass repeated_pairs=True"
        )


def _counts(name: str, values: object) -> Tensor:
    counts = check_integer(name, values)
    if counts.dim() != 1 or (counts.numel() and int(counts.min()) < 0):
        raise ValueError(f"`{name}` must be a vector of integers >= 0, got {counts.tolist()!r:.60}")
    return counts.cpu()


def _binomial(trials: int, probability: float, generator: torch.Generator) -> int:
    p = torch.tensor(probability, dtype=torch.float64)
    if trials < _EXACT_TRIALS:
        count = torch.binomial(torch.tensor(float(trials), dtype=torch.float64), p, generator)
        return int(count)
    mean = math.exp(math.log(trials) + math.log(probability)) if probability else 0.0
    if mean > 2**31:
        raise ValueError(
            f"`probability`={probability} means {mean:.3g} hyperedges; choose a smaller one"
        )
    return int(torch.poisson(torch.tensor(mean, dtype=torch.float64), generator))


def _different_subsets(n: int, k: int, m: int, total: int, generator: torch.Generator) -> Tensor:
    """[m, k]: m different subsets out of the ``total`` ones, every choice equally likely."""
    if 2 * k > n and k < n:  # name those left out instead
        rest = _different_subsets(n, n - k, m, total, generator)
        inside = torch.ones(m, n, dtype=torch.bool).scatter_(1, rest, False)
        return inside.nonzero()[:, 1].view(m, k)
    if total <= 4 * m:
        return _subsets_of_rank(torch.randperm(total, generator=generator)[:m], n, k)
    found = torch.empty(0, k, dtype=torch.long)
    while found.shape[0] < m:  # at most a quarter of each round is in vain
        bounds = torch.full((m - found.shape[0],), n)
        drawn = distinct_integers(bounds, k, generator).sort(1).values
        found = torch.unique(torch.cat([found, drawn]), dim=0)
    return shuffled(found, generator)


def _subsets_of_rank(ranks: Tensor, n: int, k: int) -> Tensor:
    """[m, k]: subset number r in the combinatorial number system, r = sum of C(c_j, j)."""
    members = torch.empty(ranks.shape[0], k, dtype=torch.long)
    rest = ranks.clone()
    for j in range(k, 0, -1):
        table = torch.tensor([min(math.comb(c, j), 2**62) for c in range(n)])
        largest = torch.searchsorted(table, rest, right=True) - 1
        members[:, j - 1] = largest
        rest = rest - table[largest]
    return members


def draw_sizes(
    size: int | tuple[int, int] | Tensor, num_edges: int, largest: int, generator: torch.Generator
) -> Tensor:
    """[num_edges] hyperedge sizes: constant, uniform in a range (both ends included), or given."""
    if isinstance(size, Tensor):
        sizes = _counts("size", size)
        if sizes.shape[0] != num_edges:
            raise ValueError(
                f"`size` must have one entry per hyperedge, {num_edges}, got {sizes.shape[0]}"
            )
    else:
        pair = (size, size) if isinstance(size, int) else size
        whole = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not whole or not all(type(end) is int for end in pair):
            raise TypeError(f"`size` must be an int, a pair of them, or a tensor, got {size!r}")
        low, high = pair
        if not 1 <= low <= high:
            raise ValueError(f"`size` must be at least 1, or (low, high) with low <= high: {size}")
        sizes = low + random_integers(torch.full((num_edges,), high - low + 1), generator)
    if sizes.numel() and int(sizes.max()) > largest:
        raise ValueError(
            f"`size` must be at most {largest}, the vertices there are to choose from, "
            f"got {int(sizes.max())}"
        )
    return sizes
