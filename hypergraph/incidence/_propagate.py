"""The HGNN operator of a list of members: one kernel where the weights are constants."""

import torch
from torch import Tensor

from hypergraph._numerics import inverse_power
from hypergraph.incidence.base import Incidence, stored_values
from hypergraph_kernels import Segments
from hypergraph_kernels import hgnn_propagate as kernel


def takes_kernel(h: Incidence) -> bool:
    """Tell whether the HGNN operator of a hypergraph may be computed by its kernel.

    It may where a product needs gradients to the features only: then
    ``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2`` is one fixed symmetric matrix, its own backward. With a
    learned W, RBF weights that depend on the features or the like, the composition of products and
    degrees has the gradients to H, W and both degrees. The reference is that composition, too.
    """
    if h.implementation == "reference":
        return False
    if not torch.is_grad_enabled():
        return True
    return not any(tensor.requires_grad for tensor in stored_values(h))


def scales(h: Incidence, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``W D_e^-1`` and ``D_v^-1/2``, flat: hyperedges and vertices numbered through the samples."""
    node_scale = inverse_power(h.node_degree(dtype), -0.5)
    edge_degree = h.edge_degree(dtype)
    edge_scale = h.weight(edge_degree.dtype) * inverse_power(edge_degree, -1.0)
    return edge_scale.flatten(), node_scale.flatten()


def propagate(
    h: Incidence,
    z: Tensor,  # [..., num_nodes, C]
    by_edge: Tensor | Segments,
    by_node: Segments,
    edge_scale: Tensor | float,
    node_scale: Tensor,
    values: Tensor | None,
) -> Tensor:
    """The kernel on the features of one hypergraph or all samples of a batch, in one call."""
    flat = z.flatten(0, -2)
    out = kernel(
        flat,
        by_edge,
        by_node,
        edge_scale,
        node_scale,
        values,
        implementation=h.implementation,
    )
    return out.view(z.shape)
