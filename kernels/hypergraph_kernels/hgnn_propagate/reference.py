"""The definition: into hyperedges and back, scaled on the way."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels._segments import Segments
from hypergraph_kernels.incidence_spmm.reference import in_order, rows_of


def hgnn_propagate(
    z: Tensor,
    by_edge: Segments,
    edge_scale: Tensor | float,
    node_scale: Tensor | None,
    values: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """``act(node_scale * (H (edge_scale * (H^T (node_scale * z)))) + bias)``."""
    node, edge, num_edges = by_edge.columns, rows_of(by_edge), by_edge.offsets.shape[0] - 1
    value = 1 if values is None else in_order(values, by_edge).unsqueeze(-1)
    scaled = z if node_scale is None else z * node_scale.unsqueeze(-1)
    edges = z.new_zeros(num_edges, z.shape[1]).index_add(0, edge, scaled[node] * value)
    edges = edges * (edge_scale.unsqueeze(-1) if isinstance(edge_scale, Tensor) else edge_scale)
    out = torch.zeros_like(z).index_add(0, node, edges[edge] * value)
    if node_scale is not None:
        out = out * node_scale.unsqueeze(-1)
    if bias is not None:
        out = out + bias
    return F.elu(out) if activation == "elu" else out
