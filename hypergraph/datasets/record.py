"""What a loader returns."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from hypergraph._checks import check_float, check_integer
from hypergraph.incidence import Hypergraph


@dataclass(frozen=True)
class Split:
    """The vertices a classifier learns from, is chosen on, and is judged by.

    Attributes:
        train: [n] int64, vertices with known labels.
        valid: [n] int64, vertices that choose the epoch; empty where the data has none.
        test: [n] int64, vertices that are looked at once.
    """

    train: Tensor
    valid: Tensor
    test: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return replace(
            self,
            train=self.train.to(device),
            valid=self.valid.to(device),
            test=self.test.to(device),
        )


@dataclass(frozen=True, eq=False)
class HypergraphDataset:
    """A hypergraph with features and labels of its vertices.

    Attributes:
        name: name in ``hypergraph.datasets.names()``, or the file's.
        hypergraph: vertices and hyperedges as published, without self-loops.
        x: [N, F] features, or None where the data has none (see ``label_features``).
        y: [N] int64 labels 0 .. num_classes - 1.
        splits: splits published with the data; empty without.
        label_names: name of every class; empty where unknown.
        source: where the data comes from.
        licence: what is stated there.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.datasets import HypergraphDataset
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]])
        >>> data = HypergraphDataset("toy", h, torch.eye(3), torch.tensor([0, 0, 1]))
        >>> data.num_classes, data.num_features
        (2, 3)
    """

    name: str
    hypergraph: Hypergraph
    x: Tensor | None
    y: Tensor
    splits: tuple[Split, ...] = ()
    label_names: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.hypergraph, Hypergraph):
            kind = type(self.hypergraph).__name__
            raise TypeError(f"`hypergraph` must be a Hypergraph, got {kind}")
        y = check_integer("y", self.y)
        count = self.hypergraph.num_nodes
        if y.shape != (count,):
            raise ValueError(
                f"`y` must have shape [{count}], one label per vertex, got {list(y.shape)}"
            )
        if count and not y.is_meta and int(y.min()) < 0:
            raise ValueError(f"`y` must hold classes 0, 1, ..., got {int(y.min())}")
        object.__setattr__(self, "y", y)
        if self.x is not None:
            x = check_float("x", self.x)
            if x.dim() != 2 or x.shape[0] != count:
                raise ValueError(
                    f"`x` must have shape [{count}, F], one row per vertex, got {list(x.shape)}"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes: the names where known, else the largest label + 1."""
        largest = int(self.y.max()) + 1 if self.y.numel() else 0
        return max(largest, len(self.label_names))

    @property
    def num_features(self) -> int:
        """Channels of x, 0 without features."""
        return 0 if self.x is None else self.x.shape[1]

    def to(self, device: torch.device | str) -> Self:
        """Move every tensor to a device."""
        return replace(
            self,
            hypergraph=self.hypergraph.to(device),
            x=None if self.x is None else self.x.to(device),
            y=self.y.to(device),
            splits=tuple(split.to(device) for split in self.splits),
        )

    def __repr__(self) -> str:
        h = self.hypergraph
        return (
            f"HypergraphDataset({self.name!r}, num_nodes={h.num_nodes}, num_edges={h.num_edges}, "
            f"num_features={self.num_features}, num_classes={self.num_classes}, "
            f"splits={len(self.splits)})"
        )
