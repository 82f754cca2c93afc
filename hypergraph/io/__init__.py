"""Read, write and convert hypergraphs: HIF, text, npz, safetensors, PyG, DHG, XGI and more."""

from hypergraph.io.arrays import load_npz, load_safetensors, save_npz, save_safetensors
from hypergraph.io.dhg import from_dhg, to_dhg
from hypergraph.io.hif import HIF, read_hif, write_hif
from hypergraph.io.labelled import Labelled
from hypergraph.io.networkx import from_networkx, to_networkx
from hypergraph.io.pyg import from_hetero, from_pyg, to_hetero, to_hypergraph_data, to_pyg
from hypergraph.io.scipy import from_scipy, to_scipy
from hypergraph.io.text import read_hyperedges, read_pairs, write_hyperedges, write_pairs
from hypergraph.io.xgi import from_xgi, to_xgi

__all__ = [
    "HIF",
    "Labelled",
    "from_dhg",
    "from_hetero",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "from_xgi",
    "load_npz",
    "load_safetensors",
    "read_hif",
    "read_hyperedges",
    "read_pairs",
    "save_npz",
    "save_safetensors",
    "to_dhg",
    "to_hetero",
    "to_hypergraph_data",
    "to_networkx",
    "to_pyg",
    "to_scipy",
    "to_xgi",
    "write_hif",
    "write_hyperedges",
    "write_pairs",
]
