"""What operators made of other operators share."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hypergraph.incidence.base import Incidence


class Composite(Incidence):
    """An operator that keeps a list of operators, its ``parts``."""

    parts: tuple[Incidence, ...]

    @property
    def device(self) -> torch.device:
        """Where the parts live."""
        return self.parts[0].device

    @property
    def dtype(self) -> torch.dtype | None:
        """The widest dtype among the parts; None if none of them stores values."""
        return widest_dtype([part.dtype for part in self.parts])

    @abstractmethod
    def e2v_parts(self, y: Tensor) -> list[Tensor]:
        """The terms whose sum is ``e2v(y)``, one per part; see ``hypergraph.part_shares``."""

    def _e2v(self, y: Tensor) -> Tensor:
        terms = self.e2v_parts(y)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def _details(self) -> str:
        return f", parts=[{', '.join(map(repr, self.parts))}]"


def widest_dtype(dtypes: Sequence[torch.dtype | None]) -> torch.dtype | None:
    """The dtype that holds all the given ones; None if there is none."""
    widest: torch.dtype | None = None
    for dtype in dtypes:
        if dtype is not None:
            widest = dtype if widest is None else torch.promote_types(widest, dtype)
    return widest


def check_parts(parts: Sequence[Incidence], same_edges: bool) -> tuple[Incidence, ...]:
    """Return the parts as a tuple if they can be combined, raise otherwise."""
    if isinstance(parts, Incidence) or not isinstance(parts, Iterable):
        raise TypeError(
            f"`parts` must be a list of incidence operators, got {type(parts).__name__}"
        )
    parts = tuple(parts)
    if not parts:
        raise ValueError("`parts` must hold at least one incidence operator, got none")
    for part in parts:
        if not isinstance(part, Incidence):
            raise TypeError(
                f"`parts` must hold incidence operators, got {type(part).__name__}; "
                "wrap an index tensor as Hypergraph(hyperedge_index)"
            )
    first = parts[0]
    for number, part in enumerate(parts[1:], 1):
        if part.device != first.device:
            raise ValueError(
                f"`parts[{number}]` must be on the device of `parts[0]`, {first.device}, "
                f"got {part.device}; move it with .to({str(first.device)!r})"
            )
        same = part.num_nodes == first.num_nodes and part.batch_size == first.batch_size
        if same_edges:
            same = same and part.num_edges == first.num_edges
        if not same:
            what = "vertices, hyperedges" if same_edges else "vertices"
            hint = "; concatenate the hyperedges instead (Concat)" if same_edges else ""
            raise ValueError(
                f"`parts` must agree in {what} and samples, "
                f"got shapes {first.shape} and {part.shape}{hint}"
            )
    return parts
