"""The Hypergraph Interchange Format, HIF."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch

from hypergraph._files import MAX_BYTES, PathLike, checked_path, read_text, write_text
from hypergraph.incidence import Hypergraph
from hypergraph.io._records import Record, Records, decode, encode
from hypergraph.io._schema import HIFError, check_document, check_keys, dump, parse
from hypergraph.io.labelled import Labelled, as_labelled

_TOP_KEYS = {
    "network_type": "network-type",
    "metadata": "metadata",
    "nodes": "nodes",
    "edges": "edges",
}


@dataclass(frozen=True)
class HIF:
    """A document in the Hypergraph Interchange Format, kept to the letter.

    Everything that a file says stays as it is: order, ids ("1" and 1 are two ids), integers and
    floats, records that repeat, negative weights, what is left out. ``hypergraph`` and
    ``labelled()`` give it as tensors. Standard: https://github.com/HIF-org/HIF-standard (Coll et
    al., HIF: The hypergraph interchange format for higher-order networks,
    https://arxiv.org/abs/2507.11520).

    Attributes:
        incidences: records ``{"edge", "node"}`` with optional ``"weight"``, ``"direction"``
            ("head" or "tail") and ``"attrs"``.
        nodes: records ``{"node"}`` with optional ``"weight"`` and ``"attrs"``; None where the
            document has no such list.
        edges: records ``{"edge"}`` with optional ``"weight"`` and ``"attrs"``; or None.
        network_type: ``"undirected"``, ``"directed"``, ``"asc"`` or None.
        metadata: a dictionary, or None.

    Raises:
        ValueError: the content does not obey the schema, with the place and the reason.

    Example:
        >>> from hypergraph.io import HIF
        >>> hif = HIF([{"edge": "abc", "node": 42}, {"edge": "abc", "node": 7, "weight": 0.5}])
        >>> hif.node_ids, hif.edge_ids
        ((42, 7), ('abc',))
        >>> hif.hypergraph.to_dense()
        tensor([[1.0000],
                [0.5000]])
    """

    incidences: list[Record]
    nodes: list[Record] | None = None
    edges: list[Record] | None = None
    network_type: str | None = None
    metadata: dict[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        check_document(self.to_dict())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Take a parsed JSON document.

        Raises:
            ValueError: it does not obey the schema.
        """
        document = check_keys(document)
        values = {name: document.get(key) for name, key in _TOP_KEYS.items()}
        return cls(document["incidences"], **values)

    def to_dict(self) -> dict[str, Any]:
        """The document as ``json.dump`` takes it."""
        document: dict[str, Any] = {}
        for name, key in _TOP_KEYS.items():
            if (value := getattr(self, name)) is not None:
                document[key] = value
        document["incidences"] = self.incidences
        return document

    @classmethod
    def from_hypergraph(cls, hypergraph: Hypergraph | Labelled) -> Self:
        """Describe a hypergraph; all it holds is in the document.

        Weights and directions become those of HIF; features and groups become the attributes
        ``"features"`` and ``"group"``. A note in the metadata tells ``labelled()`` of these, and of
        dtypes other than float32, so that it gives back the same hypergraph.

        Args:
            hypergraph: with string or integer ids, and attributes that JSON can hold.

        Raises:
            ValueError: an id or an attribute is something else; a feature is not finite.
        """
        records = encode(as_labelled(hypergraph))
        node_ids, edge_ids = records.node_ids, records.edge_ids
        return cls(
            [
                {"edge": edge_ids[edge], "node": node_ids[node], **record}
                for (node, edge), record in zip(records.pairs, records.incidences, strict=True)
            ],
            [{"node": i, **record} for i, record in zip(node_ids, records.nodes, strict=True)],
            [{"edge": i, **record} for i, record in zip(edge_ids, records.edges, strict=True)],
            records.network_type,
            records.metadata,
        )

    @cached_property
    def node_ids(self) -> tuple[Hashable, ...]:
        """Ids of the vertices, in order: those of ``nodes``, then others of ``incidences``."""
        return self._ids("node", self.nodes)

    @cached_property
    def edge_ids(self) -> tuple[Hashable, ...]:
        """Ids of the hyperedges, in order: those of ``edges``, then others of ``incidences``."""
        return self._ids("edge", self.edges)

    @cached_property
    def hypergraph(self) -> Hypergraph:
        """``labelled().hypergraph``: vertices in the order of ``node_ids``."""
        return self.labelled().hypergraph

    def labelled(self, dtype: torch.dtype | None = None, use_weights: bool = True) -> Labelled:
        """The document as tensors, with its names and attributes.

        Where some records have a weight, those without have 1. An incidence that is listed twice
        counts twice. A list without any weight or direction gives None.

        Args:
            dtype: of the weights; default PyTorch's, or the document's where
                ``from_hypergraph`` made it.
            use_weights: False leaves all weights out, negative ones for example.

        Raises:
            ValueError: a weight is negative or too large; two records of one vertex or hyperedge
                contradict each other.
        """
        nodes = self._merged("node", self.nodes, self.node_ids)
        edges = self._merged("edge", self.edges, self.edge_ids)
        node_number = {name: number for number, name in enumerate(self.node_ids)}
        edge_number = {name: number for number, name in enumerate(self.edge_ids)}
        pairs = [(node_number[r["node"]], edge_number[r["edge"]]) for r in self.incidences]
        incidences = [dict(record) for record in self.incidences]
        if not use_weights:
            for record in (*nodes, *edges, *incidences):
                record.pop("weight", None)
        for name, group in (("nodes", nodes), ("edges", edges), ("incidences", incidences)):
            for number, record in enumerate(group):
                if record.get("weight", 1) < 0:
                    raise ValueError(
                        f"the weights of {name} must be non-negative to become a Hypergraph, got "
                        f"{record['weight']} (number {number}); pass use_weights=False"
                    )
        records = Records(
            self.node_ids,
            self.edge_ids,
            nodes,
            edges,
            pairs,
            incidences,
            self.metadata or {},
            self.network_type,
        )
        return decode(records, dtype)

    def __repr__(self) -> str:
        kind = "" if self.network_type is None else f"network_type={self.network_type!r}, "
        return (
            f"HIF({kind}{len(self.node_ids)} nodes, {len(self.edge_ids)} edges, "
            f"{len(self.incidences)} incidences)"
        )

    def _ids(self, key: str, declared: list[Record] | None) -> tuple[Hashable, ...]:
        found = dict.fromkeys(record[key] for record in declared or ())
        found.update(dict.fromkeys(record[key] for record in self.incidences))
        return tuple(int(i) if isinstance(i, float) else i for i in found)

    @staticmethod
    def _merged(key: str, declared: list[Record] | None, ids: tuple[Hashable, ...]) -> list[Record]:
        """One record per id; records that repeat an id must agree or complete each other."""
        merged: dict[Hashable, Record] = {name: {} for name in ids}
        for number, record in enumerate(declared or ()):
            known = merged[record[key]]
            attrs = {**known.get("attrs", {}), **record.get("attrs", {})}
            new = {**known, **{k: v for k, v in record.items() if k != key}}
            if attrs:
                new["attrs"] = attrs
            old_attrs = known.get("attrs", {})
            clash = [k for k in ("weight",) if k in known and new[k] != known[k]]
            clash += [k for k in old_attrs if attrs[k] != old_attrs[k]]
            if clash:
                raise ValueError(
                    f"{key}s[{number}] must not contradict an earlier record of {record[key]!r}, "
                    f"got another {clash[0]!r}; merge the two"
                )
            merged[record[key]] = new
        return list(merged.values())


def read_hif(path: PathLike, max_bytes: int = MAX_BYTES) -> HIF:
    """Read a HIF file; nothing in it is ever executed.

    Args:
        path: a ``.json`` file, or ``.json.gz``.
        max_bytes: the most that the file may hold, unpacked.

    Raises:
        OSError: there is no such file.
        ValueError: it is cut short, no JSON, or breaks the schema; the message names the file, the
            place and the reason. A number that is not finite, a key that an object holds twice
            and bottomless nesting are refused as well.

    Example:
        >>> import tempfile
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.io import read_hif, write_hif
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_hif(f"{folder}/h.json.gz", Hypergraph.from_edges([[0, 1], []], num_nodes=3))
        ...     read_hif(f"{folder}/h.json.gz").hypergraph
        Hypergraph(num_nodes=3, num_edges=2, nnz=2, device='cpu')
    """
    text = read_text(path, max_bytes)
    try:
        return HIF.from_dict(parse(text))  # type: ignore[arg-type]
    except HIFError as error:
        raise HIFError(f"{checked_path(path)}: {error}") from error


def write_hif(
    path: PathLike, hypergraph: HIF | Labelled | Hypergraph, indent: int | None = None
) -> None:
    """Write a HIF file at once: on an error, an old file stays as it was.

    Args:
        path: a ``.json`` file, or ``.json.gz``.
        hypergraph: a document, or what ``HIF.from_hypergraph`` takes.
        indent: as in ``json.dump``.

    Raises:
        OSError: the file cannot be written.
        ValueError: JSON cannot hold something, see ``HIF.from_hypergraph``.
    """
    if isinstance(hypergraph, HIF):
        check_document(hypergraph.to_dict())  # its lists may have been changed since
    else:
        hypergraph = HIF.from_hypergraph(hypergraph)
    write_text(path, dump(hypergraph.to_dict(), indent))
