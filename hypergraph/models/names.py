"""Names for the command line."""

from hypergraph._checks import check_choice
from hypergraph.models.all_deep_sets import AllDeepSets
from hypergraph.models.allset_transformer import AllSetTransformer
from hypergraph.models.base import NodeModel
from hypergraph.models.conv_net import ConvNet
from hypergraph.models.dhgnn import DHGNN
from hypergraph.models.edhnn import EDHNN
from hypergraph.models.hcha import HCHA
from hypergraph.models.hgnn import HGNN
from hypergraph.models.hgnnp import HGNNP
from hypergraph.models.hnhn import HNHN
from hypergraph.models.hypergcn import HyperGCN
from hypergraph.models.unigcnii import UniGCNII
from hypergraph.models.unignn import UniGNN

_MODELS: dict[str, type[NodeModel]] = {
    "hgnn": HGNN,
    "hgnnp": HGNNP,
    "hcha": HCHA,
    "hnhn": HNHN,
    "hypergcn": HyperGCN,
    "unignn": UniGNN,
    "unigcnii": UniGCNII,
    "all-deep-sets": AllDeepSets,
    "allset-transformer": AllSetTransformer,
    "edhnn": EDHNN,
    "dhgnn": DHGNN,
    "conv-net": ConvNet,
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
