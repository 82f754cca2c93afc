"""What the layers of UniGNN share."""

import torch
from torch import Tensor, nn

from hypergraph._checks import check_choice, check_features
from hypergraph._numerics import inverse_power, propagation_dtype, without_autocast
from hypergraph.incidence import Incidence
from hypergraph.incidence._pairs import Reduce
from hypergraph.nn.hgnn_conv import as_incidence


def unigcn_propagate(
    z: Tensor,  # [N, C] or [B, N, C]
    hypergraph: Incidence | Tensor,
    v2e_reduce: str = "mean",
) -> Tensor:
    """Smooth features as UniGCN does, without its linear map.

    ``x_v = d_v^-1/2 sum over e of w_e h_ve dbar_e^-1/2 y_e``, where ``y_e`` is the mean of the
    members' features and ``dbar_e`` the mean of their degrees, both weighted by h_ve. With
    ``v2e_reduce="sum"`` both are sums. Degrees contain W: ``d_v = sum over e of w_e h_ve``.

    Args:
        z: [N, C] or [B, N, C].
        hypergraph: an operator over N vertices, or a ``hyperedge_index`` [2, nnz].
        v2e_reduce: ``"mean"`` or ``"sum"``.

    Returns:
        The shape and dtype of z; computed in at least float32. 0 for isolated vertices.

    Raises:
        ValueError, TypeError: the features and the hypergraph do not fit.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph, unigcn_propagate
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> unigcn_propagate(torch.tensor([[2.0], [4.0], [0.0], [1.0]]), h).flatten()
        tensor([2.4495, 2.8868, 1.6330, 0.0000])
    """
    check_choice("v2e_reduce", v2e_reduce, ("mean", "sum"))
    hypergraph = as_incidence(hypergraph, check_features(z))
    with without_autocast(z.device):
        features = z.to(propagation_dtype(z))
        node_degree = hypergraph.node_degree(features.dtype)
        edges, edge_degree = hypergraph.v2e_with_degree(features)
        member_degree = hypergraph.v2e(node_degree.unsqueeze(-1)).squeeze(-1)
        if v2e_reduce == "mean":
            share = inverse_power(edge_degree, -1.0)
            edges, member_degree = edges * share.unsqueeze(-1), member_degree * share
        scale = hypergraph.weight(edge_degree.dtype) * inverse_power(member_degree, -0.5)
        out = hypergraph.e2v(edges * scale.unsqueeze(-1))
        return (out * inverse_power(node_degree, -0.5).unsqueeze(-1)).to(z.dtype)


def jump_propagate(
    z: Tensor,  # [N, C] or [B, N, C]
    hypergraph: Incidence | Tensor,
    v2e_reduce: Reduce,
    e2v_reduce: Reduce,
    own: float | Tensor = 1.0,
) -> Tensor:
    """``own z`` and what comes back from the hyperedges; computed in at least float32."""
    hypergraph = as_incidence(hypergraph, check_features(z))
    with without_autocast(z.device):
        features = z.to(propagation_dtype(z))
        around = hypergraph.v2v(features, v2e_reduce, e2v_reduce)
        return (own * features + around).to(z.dtype)


def normalize_rows(x: Tensor) -> Tensor:
    """Divide every row by its Euclidean norm, a constant to the gradient; a zero row stays 0.

    The official ``use_norm``, which detaches the norm. A row is divided by its largest entry first,
    so that no square overflows.
    """
    with torch.no_grad():
        largest = x.abs().amax(-1, keepdim=True)
        inverse = inverse_power(largest, -1.0)
        inverse = inverse * inverse_power((x * inverse).square().sum(-1, keepdim=True), -0.5)
    return x * inverse


def head_scores(x: Tensor, attention: Tensor) -> Tensor:
    """Inner products of each head's channels: [..., heads * C] with [heads, C] -> [..., heads]."""
    return (x.unflatten(-1, attention.shape) * attention).sum(-1)


def glorot(parameter: Tensor, fans: int) -> None:
    """Draw from Glorot's uniform distribution for ``fans`` = fan_in + fan_out."""
    bound = (6 / fans) ** 0.5
    nn.init.uniform_(parameter, -bound, bound)
