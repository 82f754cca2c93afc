"""What the samplers share: drawing pairs, numbering, and DataLoaders."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hypergraph._checks import check_index_range, check_integer, check_positive_int
from hypergraph._draws import as_generator, distinct_integers, shuffled
from hypergraph.incidence import Hypergraph
from hypergraph_kernels import Segments

_Batch = TypeVar("_Batch")


class Batches(Sampler[tuple[int, Tensor]]):
    """Numbers in batches, each with a seed of its own."""

    def __init__(
        self,
        numbers: Tensor,
        batch_size: int,
        shuffle: bool,
        seed: int | torch.Generator | None,
        drop_last: bool,
    ) -> None:
        self._numbers = numbers
        self._size = check_positive_int("batch_size", batch_size)
        self._shuffle, self._drop_last = shuffle, drop_last
        self._generator = None if seed is None else as_generator("seed", seed)

    def __len__(self) -> int:
        count = len(self._numbers)
        return count // self._size if self._drop_last else -(-count // self._size)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        numbers = shuffled(self._numbers, self._generator) if self._shuffle else self._numbers
        seeds = torch.randint(2**62, (len(self),), generator=self._generator)
        for number, seed in enumerate(seeds.tolist()):
            yield seed, numbers[number * self._size : (number + 1) * self._size]


class Drawn(Dataset[_Batch], Generic[_Batch]):
    """What a sampler draws for a seed and numbers, as a data set that workers can index."""

    def __init__(self, sampler: Callable[[Tensor, torch.Generator], _Batch]) -> None:
        self._sampler = sampler

    def __getitem__(self, key: tuple[int, Tensor]) -> _Batch:
        seed, numbers = key
        return self._sampler(numbers, torch.Generator().manual_seed(seed))


def draw_pairs(
    segments: Segments, rows: Tensor, limit: int | None, generator: torch.Generator | None
) -> Tensor:
    """Pairs of some segments, up to ``limit`` different ones of each, as the caller counts them."""
    start = segments.offsets[rows]
    count = segments.offsets[rows + 1] - start
    if limit is None:
        position = ranges(start, count)[1]
    else:
        large = count > limit
        position = ranges(start[~large], count[~large])[1]
        drawn = distinct_integers(count[large], limit, generator) + start[large, None]
        position = torch.cat([position, drawn.flatten()])
    return position if segments.order is None else segments.order[position]


def ranges(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """``start[r], start[r] + 1, ...`` for every row r: the rows, and the values."""
    row = torch.arange(count.shape[0]).repeat_interleave(count)
    first = count.cumsum(0) - count
    return row, torch.arange(row.shape[0]) - first[row] + start[row]


def unseen(numbers: Tensor, seen: Tensor) -> Tensor:
    """Those of the numbers that are not marked yet, once each, ascending; marks them."""
    new = numbers[~seen[numbers]].unique()
    seen[new] = True
    return new


def places(numbers: Tensor, among: Tensor) -> Tensor:
    """Where every number stands in ``among``, which holds each once."""
    ordered, order = among.sort()
    return order[torch.searchsorted(ordered, numbers)]


def check_numbers(name: str, given: Tensor | Sequence[int], count: int, size_name: str) -> Tensor:
    """[n] different int64 numbers in [0, count), from numbers or a bool mask."""
    if not isinstance(given, Tensor):
        given = torch.tensor(given) if len(given) else torch.zeros(0, dtype=torch.long)
    if given.dtype == torch.bool:
        if given.shape != (count,):
            raise ValueError(
                f"`{name}` must have shape [{count}] as a mask, got {list(given.shape)}"
            )
        return given.nonzero().squeeze(1).cpu()
    numbers = check_integer(name, given).cpu()
    if numbers.dim() != 1:
        raise ValueError(f"`{name}` must have shape [n], got {list(numbers.shape)}")
    check_index_range(name, numbers, count, size_name)
    if numbers.unique().shape != numbers.shape:
        raise ValueError(f"`{name}` must be different from each other; pass {name}.unique()")
    return numbers


def check_limit(name: str, value: int | None) -> int | None:
    return None if value is None else check_positive_int(name, value)


def check_on_cpu(hypergraph: object) -> Hypergraph:
    if not isinstance(hypergraph, Hypergraph):
        raise TypeError(f"`hypergraph` must be a Hypergraph, got {type(hypergraph).__name__}")
    if hypergraph.device.type != "cpu":
        raise ValueError(
            f"`hypergraph` must be on the CPU to be sampled, got {hypergraph.device}; pass "
            "hypergraph.to('cpu'), and move the batches"
        )
    return hypergraph
