"""Hyperedges from shared attribute values."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hypergraph._checks import check_integer, check_positive_int
from hypergraph.construct.static import StaticConstruction
from hypergraph.incidence import Hypergraph


class AttributeGroups(StaticConstruction):
    """One hyperedge per attribute value: all vertices that have it.

    ``h_ve = 1 if attribute a of vertex v has the value of hyperedge e``, else 0

    The attribute hyperedges of HGNN+ (Gao et al., TPAMI 2022); pyg-hyper has them as
    ``AddEntityAttributeHyperedges``. Hyperedges are sorted by attribute, then by value; members are
    in the order of their indices. A missing value (any negative number) puts a vertex in no
    hyperedge of that attribute. Values that occur fewer than ``min_members`` times have no
    hyperedge: one of a single vertex tells a layer nothing that a self-loop would not.

    Args:
        attributes: [N] or [N, A] int64, one column per attribute; or a mapping from names to [N].
        min_members: smallest hyperedge that is kept.

    Attributes:
        values: [M] int64, the value of every hyperedge.
        attribute: [M] int64, the column (or the place in the mapping) of every hyperedge; the
            hypergraph's groups are the attributes, under their names.

    Returns (from a call):
        Hypergraph with N vertices, the same for all samples; see ``StaticConstruction``.

    Raises:
        ValueError, TypeError: a shape or dtype does not fit.

    Example:
        >>> import torch
        >>> from hypergraph import AttributeGroups
        >>> groups = AttributeGroups({"colour": torch.tensor([2, 0, 2, -1])})
        >>> groups(torch.randn(4, 8)).to_dense().T
        tensor([[0., 1., 0., 0.],
                [1., 0., 1., 0.]])
        >>> groups.values
        tensor([0, 2])
    """

    def __init__(self, attributes: Tensor | Mapping[str, Tensor], min_members: int = 1) -> None:
        min_members = check_positive_int("min_members", min_members)
        names, columns = _columns(attributes)
        pairs, values, attribute, count = [], [], [], 0
        for number, column in enumerate(columns):
            present = (column >= 0).nonzero().squeeze(-1)
            distinct, group, sizes = column[present].unique(return_inverse=True, return_counts=True)
            kept = sizes >= min_members
            place = torch.where(kept, kept.cumsum(0) - 1 + count, -1)[group]
            pairs.append(torch.stack([present, place])[:, place >= 0])
            values.append(distinct[kept])
            attribute.append(torch.full_like(values[-1], number))
            count += int(kept.sum())
        num_nodes = columns[0].shape[0]
        kind = torch.cat(attribute)
        super().__init__(
            Hypergraph(
                torch.cat(pairs, 1), num_nodes, count, hyperedge_group=kind, group_names=names
            )
        )
        self.values, self.attribute = torch.cat(values), kind
        self.names, self.min_members = names, min_members

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"num_nodes={self.num_nodes}, attributes={list(self.names)}, "
            f"num_edges={self.hypergraph.num_edges}, min_members={self.min_members}"
        )


def _columns(attributes: object) -> tuple[tuple[str, ...], list[Tensor]]:
    """Names and columns [N] of the attributes."""
    if isinstance(attributes, Mapping):
        names = tuple(str(name) for name in attributes)
        columns = [check_integer(f"attributes[{n!r}]", c) for n, c in attributes.items()]
        sizes = {tuple(column.shape) for column in columns}
        if len(sizes) != 1 or any(column.dim() != 1 for column in columns):
            shapes = [list(column.shape) for column in columns]
            raise ValueError(
                "`attributes` must map at least one name to tensors [N] of equal size, "
                f"got {shapes}"
            )
        return names, columns
    matrix = check_integer("attributes", attributes)
    if matrix.dim() not in (1, 2) or (matrix.dim() == 2 and matrix.shape[1] == 0):
        raise ValueError(
            f"`attributes` must have shape [N] or [N, A] with A >= 1, got {list(matrix.shape)}"
        )
    columns = [matrix] if matrix.dim() == 1 else list(matrix.unbind(1))
    return tuple(str(number) for number in range(len(columns))), columns
