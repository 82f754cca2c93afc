"""DHFusion: an edit-aware mask from dual dynamic hypergraphs, and fusion by that mask."""

from .dh_net import DHNet, DHNetConfig, DHNetOutput
from .ef_net import EFNet, EFNetConfig
from .method import DHFusion
from .weights import load_dh_net, load_ef_net, save_network

__all__ = [
    "DHFusion",
    "DHNet",
    "DHNetConfig",
    "DHNetOutput",
    "EFNet",
    "EFNetConfig",
    "load_dh_net",
    "load_ef_net",
    "save_network",
]
