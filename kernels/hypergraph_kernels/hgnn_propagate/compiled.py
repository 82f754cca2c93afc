"""The operator through the compiled path."""

import torch.nn.functional as F
from torch import Tensor

from hypergraph_kernels._segments import Segments
from hypergraph_kernels.compiled import propagate
from hypergraph_kernels.incidence_spmm.reference import in_order


def hgnn_propagate(
    z: Tensor,
    by_edge: Tensor | Segments,
    by_node: Segments,
    edge_scale: Tensor | None,
    factor: float,
    node_scale: Tensor | None,
    values: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """The operator in one call; bias and activation follow."""
    inward: tuple[Tensor, Tensor | None, Tensor | None]
    if isinstance(by_edge, Tensor):
        edge_values = None if values is None else values.flatten().contiguous()
        inward = by_edge.contiguous(), None, edge_values
    else:
        edge_values = None if values is None else in_order(values, by_edge).contiguous()
        inward = by_edge.columns.contiguous(), by_edge.offsets.contiguous(), edge_values
    node_values = None if values is None else in_order(values, by_node).contiguous()
    outward = by_node.columns.contiguous(), by_node.offsets.contiguous(), node_values
    scales = (
        None if edge_scale is None else edge_scale.contiguous(),
        factor,
        None if node_scale is None else node_scale.contiguous(),
    )
    out = propagate(z.contiguous(), inward, outward, *scales)
    if bias is not None:
        out.add_(bias)
    return F.elu_(out) if activation == "elu" else out
