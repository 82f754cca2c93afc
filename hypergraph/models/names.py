"""Names for the command line."""

from hypergraph._checks import check_choice
from hypergraph.models.allset_transformer import AllSetTransformer
from hypergraph.models.base import NodeModel
from hypergraph.models.edhnn import EDHNN
from hypergraph.models.hgnn import HGNN
from hypergraph.models.unigcnii import UniGCNII

_MODELS: dict[str, type[NodeModel]] = {
    "hgnn": HGNN,
    "allset-transformer": AllSetTransformer,
    "edhnn": EDHNN,
    "unigcnii": UniGCNII,
}


def names() -> tuple[str, ...]:
    """Names of the models that ``model_class`` and ``hypergraph-train`` know.

    Example:
        >>> from hypergraph import models
        >>> "hgnn" in models.names()
        True
    """
    return tuple(_MODELS)


def model_class(name: str) -> type[NodeModel]:
    """The class of a model by its name.

    Raises:
        ValueError: there is no model of that name; the message lists those there are.
    """
    check_choice("model", name, names())
    return _MODELS[name]
