"""Complete models with the published defaults."""

from hypergraph.models.all_deep_sets import AllDeepSets, AllDeepSetsConfig
from hypergraph.models.allset_transformer import AllSetTransformer, AllSetTransformerConfig
from hypergraph.models.base import ModelConfig, NodeModel, count_parameters
from hypergraph.models.conv_net import ConvNet, ConvNetConfig, conv_net
from hypergraph.models.dhgnn import DHGNN, DHGNNConfig
from hypergraph.models.edhnn import EDHNN, EDHNNConfig
from hypergraph.models.features import feature_dropout, sparse_rows
from hypergraph.models.hcha import HCHA, HCHAConfig
from hypergraph.models.hgnn import HGNN, HGNNConfig
from hypergraph.models.hgnnp import HGNNP, HGNNPConfig
from hypergraph.models.hnhn import HNHN, HNHNConfig
from hypergraph.models.hypergcn import HyperGCN, HyperGCNConfig
from hypergraph.models.names import model_class, names
from hypergraph.models.unigcnii import UniGCNII, UniGCNIIConfig
from hypergraph.models.unignn import UniGNN, UniGNNConfig
from hypergraph.models.vihgnn import ViHGNN, ViHGNNConfig

__all__ = [
    "AllDeepSets",
    "AllDeepSetsConfig",
    "AllSetTransformer",
    "AllSetTransformerConfig",
    "ConvNet",
    "ConvNetConfig",
    "DHGNN",
    "DHGNNConfig",
    "EDHNN",
    "EDHNNConfig",
    "HCHA",
    "HCHAConfig",
    "HGNN",
    "HGNNConfig",
    "HGNNP",
    "HGNNPConfig",
    "HNHN",
    "HNHNConfig",
    "HyperGCN",
    "HyperGCNConfig",
    "ModelConfig",
    "NodeModel",
    "UniGCNII",
    "UniGCNIIConfig",
    "UniGNN",
    "UniGNNConfig",
    "ViHGNN",
    "ViHGNNConfig",
    "conv_net",
    "count_parameters",
    "feature_dropout",
    "model_class",
    "names",
    "sparse_rows",
]
