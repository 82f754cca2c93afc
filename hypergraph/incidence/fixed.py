"""A given hypergraph where a module is wanted."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from hypergraph._checks import check_features
from hypergraph.incidence.base import Incidence, check_fit


class FixedHypergraph(nn.Module):
    """Hold a given incidence operator in a module, so that it moves with the module.

    ``module.to(device)``, ``.double()`` and the like apply to its tensors as to buffers. It has no
    entry in the ``state_dict``: checkpoints stay independent of the hypergraph. Called with
    features it returns the operator, so it also stands where a construction is wanted: in
    ``Fusion`` beside hyperedges found in the features, or in ``DynamicHGConv``.

    Args:
        hypergraph: any incidence operator.

    Attributes:
        hypergraph: the operator, where the module is.

    Raises:
        TypeError: it is no operator.

    Example:
        >>> import torch
        >>> from hypergraph import KNN, DynamicHGConv, FixedHypergraph, Fusion, Hypergraph
        >>> known = FixedHypergraph(Hypergraph.from_edges([[0, 1, 2], [2, 3]]))
        >>> layer = DynamicHGConv(8, 16, construction=Fusion([known, KNN(2)]))
        >>> layer(torch.randn(4, 8)).shape
        torch.Size([4, 16])
        >>> known.double().hypergraph.edge_degree(), list(known.state_dict())
        (tensor([3., 2.]), [])
    """

    def __init__(self, hypergraph: Incidence) -> None:
        super().__init__()
        if not isinstance(hypergraph, Incidence):
            raise TypeError(
                f"`hypergraph` must be an incidence operator, got {type(hypergraph).__name__}; "
                "wrap an index tensor as Hypergraph(hyperedge_index)"
            )
        self.hypergraph = hypergraph

    def forward(self, x: Tensor | None = None, batch: Tensor | None = None) -> Incidence:
        """Return the operator.

        Args:
            x: [N, C] or [B, N, C] features it must fit; None for no check.
            batch: must be None: the samples of a fixed hypergraph are its own.

        Raises:
            ValueError, TypeError: x does not fit, or a ``batch`` is given.
        """
        if batch is not None:
            raise ValueError(
                "`batch` must be None with a fixed hypergraph, which was built for all vertices; "
                "put hypergraphs side by side with Hypergraph.batch"
            )
        if x is not None:
            check_fit(check_features(x), self.hypergraph)
        return self.hypergraph

    def extra_repr(self) -> str:
        """Show the operator."""
        return repr(self.hypergraph)

    def _apply(self, fn: Callable[[Tensor], Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)

        def convert(tensor: Tensor) -> Tensor:
            out: Tensor = fn(tensor)
            if out.is_floating_point() == tensor.is_floating_point():
                return out
            return out.to(tensor.dtype)  # module.type(...) would make numbers of indices

        self.hypergraph = self.hypergraph._mapped(convert)
        return self
