"""Complete models with the published defaults."""

from hypergraph.models.allset_transformer import AllSetTransformer, AllSetTransformerConfig
from hypergraph.models.base import ModelConfig, NodeModel, count_parameters
from hypergraph.models.edhnn import EDHNN, EDHNNConfig
from hypergraph.models.features import feature_dropout, sparse_rows
from hypergraph.models.hgnn import HGNN, HGNNConfig
from hypergraph.models.names import model_class, names
from hypergraph.models.unigcnii import UniGCNII, UniGCNIIConfig

__all__ = [
    "AllSetTransformer",
    "AllSetTransformerConfig",
    "EDHNN",
    "EDHNNConfig",
    "HGNN",
    "HGNNConfig",
    "ModelConfig",
    "NodeModel",
    "UniGCNII",
    "UniGCNIIConfig",
    "count_parameters",
    "feature_dropout",
    "model_class",
    "names",
    "sparse_rows",
]
