"""What another form cannot hold is named, never dropped in silence."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from hypergraph.incidence import Hypergraph

# Optional fields; `group_names` goes with hyperedge_group, `node_batch` and `edge_batch` with
# num_samples.
FIELDS = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
    "num_samples",
)


def given_fields(hypergraph: Hypergraph, but: Sequence[str] = ()) -> list[str]:
    """The optional fields that a hypergraph has, without those in ``but``, in backticks."""
    given = [name for name in FIELDS if getattr(hypergraph, name) is not None]
    return [f"`{name}`" for name in given if name not in but]


def refuse_loss(form: str, lost: Sequence[str], lossy: bool) -> None:
    """Raise ValueError if something would be lost and the caller did not agree to it."""
    if lost and not lossy:
        raise ValueError(
            f"{form} cannot hold {'; '.join(lost)}: pass lossy=True to drop what it cannot hold, "
            "or write another format (hypergraph.io.save_npz and write_hif keep everything)"
        )


def check_hypergraph(hypergraph: object) -> Hypergraph:
    """Return ``hypergraph`` if it is a Hypergraph, raise TypeError otherwise."""
    if not isinstance(hypergraph, Hypergraph):
        raise TypeError(
            f"`hypergraph` must be a Hypergraph, got {type(hypergraph).__name__}; "
            "make one with Hypergraph(...) or Hypergraph.from_dense(operator.to_dense())"
        )
    return hypergraph


def optional_module(name: str, distribution: str) -> ModuleType:
    """Import a library that is not among our own requirements."""
    try:
        return import_module(name)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # it is there, but something that it needs is not
        raise ImportError(
            f"{distribution} is not installed; pip install hypergraph-nn[interop]", name=name
        ) from error
