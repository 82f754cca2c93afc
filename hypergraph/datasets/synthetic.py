"""Synthetic data whose labels are known because they were planted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hypergraph._checks import check_non_negative_number, check_positive_int
from hypergraph._draws import as_generator, random_integers, repeated_in_row, shuffled
from hypergraph.datasets.record import HypergraphDataset, Split
from hypergraph.datasets.splits import label_features, random_splits
from hypergraph.generators import draw_sizes, separate_pairs
from hypergraph.incidence import Hypergraph

__all__ = [
    "WIRINGS",
    "HyperedgeDataset",
    "HypergraphCollection",
    "majority_label",
    "planted_partition",
    "wiring_families",
]

WIRINGS = ("random", "assortative", "balanced", "by-size")


@dataclass(frozen=True, eq=False)
class HyperedgeDataset:
    """A hypergraph with labels of its hyperedges.

    Attributes:
        name: what it is.
        hypergraph: N vertices, M hyperedges.
        x: [N, F] vertex features.
        y: [M] int64 labels of the hyperedges.
        node_label: [N] int64, what the features are noisy copies of.
        splits: hyperedges to learn from, to choose by and to be judged by.
    """

    name: str
    hypergraph: Hypergraph
    x: Tensor
    y: Tensor
    node_label: Tensor
    splits: tuple[Split, ...]


@dataclass(frozen=True, eq=False)
class HypergraphCollection:
    """Many hypergraphs with one label each.

    Attributes:
        name: what it is.
        hypergraphs: G hypergraphs; batch them with ``Hypergraph.batch``.
        x: vertex features of each, [N_g, F].
        y: [G] int64 labels.
        splits: hypergraphs to learn from, to choose by and to be judged by.
        label_names: name of every class.
    """

    name: str
    hypergraphs: tuple[Hypergraph, ...]
    x: tuple[Tensor, ...]
    y: Tensor
    splits: tuple[Split, ...]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.hypergraphs)


def planted_partition(
    num_nodes: int = 400,
    num_classes: int = 4,
    num_edges: int = 600,
    size: int | tuple[int, int] | Tensor = (2, 6),
    homophily: float = 0.8,
    num_features: int = 32,
    noise: float = 1.0,
    isolated: float = 0.0,
    seed: int | torch.Generator = 0,
) -> HypergraphDataset:
    """Vertices in classes, and hyperedges that keep to a class: a hypergraph block model.

    Vertices get balanced classes at random. Every hyperedge gets a home class, uniformly, and
    every one of its members is drawn from the home class with probability ``homophily`` and from
    all vertices otherwise; a vertex drawn twice for a hyperedge is drawn again. At 0 hyperedges
    say nothing about classes, at 1 they never mix them. It is a stochastic block model for
    hypergraphs with one affinity (Ghoshdastidar and Dukkipati, https://arxiv.org/abs/1602.06516),
    with the number of hyperedges and their sizes given rather than drawn.

    Args:
        num_nodes: N.
        num_classes: classes of N / num_classes vertices, give or take one.
        num_edges: M.
        size: of all hyperedges, (low, high) for uniform ones in between, both included, or
            [M] integers.
        homophily: in [0, 1].
        num_features: channels of x, at least ``num_classes``.
        noise: standard deviation of what is added to the one-hot labels (``label_features``).
        isolated: share of the vertices, chosen at random, that no hyperedge may take. Others may
            be left out by chance.
        seed: an int, or a generator on the CPU.

    Returns:
        HypergraphDataset with one random split, 50/25/25.

    Raises:
        ValueError, TypeError: an argument is out of range, or a hyperedge is larger than the
            smallest class.

    Example:
        >>> data = planted_partition(homophily=1.0, isolated=0.1, seed=0)
        >>> int((data.hypergraph.node_degree() == 0).sum()) >= 40
        True
    """
    _check_share("homophily", homophily)
    generator = as_generator("seed", seed)
    label = _labels(num_nodes, num_classes, generator)
    _check_share("isolated", isolated)
    free = torch.randperm(num_nodes, generator=generator)[round(isolated * num_nodes) :]
    hypergraph, _ = _class_hyperedges(label, free, num_edges, size, homophily, generator)
    x = label_features(label, num_features, noise, _seed(generator))
    split = random_splits(label, seed=_seed(generator))
    return HypergraphDataset(
        f"planted-partition(homophily={homophily:g}, noise={noise:g})",
        hypergraph,
        x,
        label,
        (split,),
        source="hypergraph.datasets.synthetic.planted_partition",
    )


def majority_label(
    num_nodes: int = 400,
    num_classes: int = 3,
    num_edges: int = 600,
    size: int | tuple[int, int] | Tensor = (3, 9),
    homophily: float = 0.3,
    num_features: int = 16,
    noise: float = 1.0,
    seed: int | torch.Generator = 0,
) -> HyperedgeDataset:
    """Hyperedges to be classified: the label is the class that most members have.

    Vertices, classes, features and hyperedges are those of ``planted_partition``. Hyperedges in
    which two classes are equally frequent are drawn again, so every label is right.

    Args:
        num_nodes: N.
        num_classes: classes of vertices, and of hyperedges.
        num_edges: M.
        size: see ``planted_partition``. Size 2 has no majority but when both agree.
        homophily: how much hyperedges keep to a class; at 0 the majorities are close.
        num_features: channels of x, at least ``num_classes``.
        noise: standard deviation of what is added to the one-hot classes.
        seed: an int, or a generator on the CPU.

    Returns:
        HyperedgeDataset with one random split of the hyperedges, 50/25/25.

    Raises:
        ValueError, TypeError: an argument is out of range.

    Example:
        >>> data = majority_label(num_edges=50, seed=1)
        >>> len(data.y), data.x.shape
        (50, torch.Size([400, 16]))
    """
    _check_share("homophily", homophily)
    generator = as_generator("seed", seed)
    label = _labels(num_nodes, num_classes, generator)
    everyone = torch.arange(num_nodes)
    hypergraph, votes = _class_hyperedges(
        label, everyone, num_edges, size, homophily, generator, ties=False
    )
    y = votes.argmax(1)
    x = label_features(label, num_features, noise, _seed(generator))
    split = random_splits(y, seed=_seed(generator))
    return HyperedgeDataset("majority-label", hypergraph, x, y, label, (split,))


def wiring_families(
    num_hypergraphs: int = 200,
    num_nodes: tuple[int, int] = (45, 75),
    wirings: Sequence[str] = WIRINGS,
    strength: float = 0.9,
    seed: int | torch.Generator = 0,
) -> HypergraphCollection:
    """Hypergraphs to be classified by how they are wired, at equal degrees and sizes.

    All families draw numbers of vertices, vertex degrees and hyperedge sizes from the same
    distributions, so that no count, degree or size tells them apart; what differs is who meets
    whom: a third of the vertices are busy (degree 4 to 6, the others 1 or 2), half of the
    hyperedges are large (size 4 to 6, the others 2 or 3), and

    - ``"random"``: anyone meets anyone (the configuration model);
    - ``"assortative"``: hyperedges, small or large, hold busy vertices only, or others only;
    - ``"balanced"``: busy and other vertices are spread evenly over all hyperedges;
    - ``"by-size"``: busy vertices are in large hyperedges, the others in small ones.

    No vertex is in a hyperedge twice. The only feature is the constant 1: a classifier has to take
    everything from the incidence.

    Args:
        num_hypergraphs: in all; families alternate, so they are equally frequent.
        num_nodes: (low, high), both included.
        wirings: the families to tell apart, at least one; their order numbers the labels.
        strength: share of the pairs that follow the rule, in [0, 1]; the others are random.
        seed: an int, or a generator on the CPU.

    Returns:
        HypergraphCollection with one random split, 50/25/25.

    Raises:
        ValueError, TypeError: an argument is out of range.

    Example:
        >>> data = wiring_families(8, seed=0)
        >>> data.y.tolist(), data.label_names[1]
        ([0, 1, 2, 3, 0, 1, 2, 3], 'assortative')
    """
    check_positive_int("num_hypergraphs", num_hypergraphs)
    names = tuple(wirings)
    unknown = [name for name in names if name not in WIRINGS]
    if unknown or not names:
        raise ValueError(f"`wirings` must hold some of {', '.join(WIRINGS)}, got {list(names)}")
    low, high = num_nodes
    if not 20 <= low <= high:
        raise ValueError(f"`num_nodes` must be (low, high), 20 <= low <= high, got {num_nodes}")
    _check_share("strength", strength)
    generator = as_generator("seed", seed)
    y = torch.arange(num_hypergraphs) % len(names)
    hypergraphs = tuple(
        _wired(int(n), names[label], strength, generator)
        for n, label in zip(
            low + random_integers(torch.full((num_hypergraphs,), high - low + 1), generator),
            y.tolist(),
            strict=True,
        )
    )
    features = tuple(torch.ones(h.num_nodes, 1) for h in hypergraphs)
    split = random_splits(y, seed=_seed(generator))
    return HypergraphCollection("wiring-families", hypergraphs, features, y, (split,), names)


def _wired(num_nodes: int, wiring: str, strength: float, generator: torch.Generator) -> Hypergraph:
    busy = torch.arange(num_nodes) < num_nodes // 3
    degrees = torch.where(
        busy, _between(num_nodes, 4, 6, generator), _between(num_nodes, 1, 2, generator)
    )
    pairs = int(degrees.sum())
    # Hyperedges large, small, large, ... until they hold all pairs; the last takes what is left.
    sizes = torch.stack([_between(pairs, 4, 6, generator), _between(pairs, 2, 3, generator)], 1)
    sizes = sizes.flatten()
    ends = sizes.cumsum(0)
    count = int((ends < pairs).sum()) + 1
    sizes = sizes[:count].clone()
    sizes[-1] -= int(ends[count - 1]) - pairs
    hyperedge = torch.arange(count).repeat_interleave(sizes)
    large = torch.arange(count) % 2 == 0

    # Both sides of every pair get a rank, and equal ranks meet. Busy vertices rank in [0, 1),
    # the others in [1, 2); so do the hyperedges, by the rule.
    node = torch.arange(num_nodes).repeat_interleave(degrees)
    stub_rank = torch.rand(pairs, generator=generator) + ~busy[node]
    place_rank = torch.rand(pairs, generator=generator)
    if wiring == "assortative":
        place_rank = torch.rand(count, generator=generator)[hyperedge]
    elif wiring == "by-size":
        place_rank = place_rank + ~large[hyperedge]
    elif wiring == "balanced":  # the places of each hyperedge, evenly over all ranks
        first = (sizes.cumsum(0) - sizes)[hyperedge]
        shift = torch.rand(count, generator=generator)[hyperedge]
        place_rank = (torch.arange(pairs) - first + shift) / sizes[hyperedge]
    stray = torch.rand(pairs, generator=generator) >= (0.0 if wiring == "random" else strength)
    stub_order, place_order = stub_rank.argsort(), place_rank.argsort()
    members = torch.empty_like(node)
    members[place_order] = node[stub_order]
    members[stray] = shuffled(members[stray], generator)
    members = separate_pairs(members, hyperedge, num_nodes, generator)
    # Vertices in no order, lest their numbers tell who is busy.
    members = torch.randperm(num_nodes, generator=generator)[members]
    return Hypergraph(torch.stack([members, hyperedge]), num_nodes, count)


def _class_hyperedges(
    label: Tensor,
    free: Tensor,
    num_edges: int,
    size: int | tuple[int, int] | Tensor,
    homophily: float,
    generator: torch.Generator,
    ties: bool = True,
) -> tuple[Hypergraph, Tensor]:
    """Hyperedges among the ``free`` vertices, and the [M, classes] votes of their members."""
    check_positive_int("num_edges", num_edges)
    classes = int(label.max()) + 1
    order = free[label[free].argsort(stable=True)]  # free vertices by class
    counts = torch.bincount(label[free], minlength=classes)
    starts = counts.cumsum(0) - counts
    sizes = draw_sizes(size, num_edges, int(counts.min()), generator)
    home = random_integers(torch.full((num_edges,), classes), generator)
    hyperedge = torch.arange(num_edges).repeat_interleave(sizes)
    node = torch.empty_like(hyperedge)
    again = torch.ones_like(hyperedge, dtype=torch.bool)
    rounds = 0
    while bool(again.any()):
        rounds += 1
        if rounds > 10_000:
            raise ValueError(
                "`size` leaves too little choice: no hyperedges of these sizes without ties were "
                "found; allow other sizes or raise `homophily`"
            )
        edges = hyperedge[again]
        inside = torch.rand(edges.shape, generator=generator) < homophily
        bound = torch.where(inside, counts[home[edges]], free.shape[0])
        start = torch.where(inside, starts[home[edges]], 0)
        node[again] = order[start + random_integers(bound, generator)]
        keys = hyperedge * label.shape[0] + node
        again = repeated_in_row(keys.unsqueeze(0)).squeeze(0)
        votes = torch.zeros(num_edges, classes, dtype=torch.long)
        votes.view(-1).index_add_(0, hyperedge * classes + label[node], torch.ones_like(node))
        if not ties and classes > 1:
            top = votes.topk(2, dim=1).values
            again |= (top[:, 0] == top[:, 1])[hyperedge]
    return Hypergraph(torch.stack([node, hyperedge]), label.shape[0], num_edges), votes


def _labels(num_nodes: int, num_classes: int, generator: torch.Generator) -> Tensor:
    check_positive_int("num_nodes", num_nodes)
    check_positive_int("num_classes", num_classes)
    if num_classes > num_nodes:
        raise ValueError(
            f"`num_classes` must be at most `num_nodes`={num_nodes}, got {num_classes}"
        )
    return torch.randperm(num_nodes, generator=generator) % num_classes


def _between(count: int, low: int, high: int, generator: torch.Generator) -> Tensor:
    return low + random_integers(torch.full((count,), high - low + 1), generator)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator))


def _check_share(name: str, value: float) -> None:
    check_non_negative_number(name, value)
    if value > 1:
        raise ValueError(f"`{name}` must lie in [0, 1], got {value}")
