"""What every construction does with its input."""

from abc import abstractmethod

from torch import Tensor, nn

from hypergraph._checks import check_batch, check_features
from hypergraph.incidence import BlockDiagonal, Incidence


class Construction(nn.Module):
    """A module that builds an incidence operator from vertex features.

    Subclasses write ``construct`` for features [N, C] or [B, N, C]; a ``batch`` vector is handled
    here, by building one hypergraph per sample.
    """

    in_channels: int | None = None

    def forward(
        self,
        x: Tensor,  # [N, C] or [B, N, C]
        batch: Tensor | None = None,  # [N]
    ) -> Incidence:
        """Build the hypergraph of ``x``.

        Args:
            x: [N, C] vertex features, or [B, N, C] for B hypergraphs of N vertices each.
            batch: [N] int64 with x of shape [N, C]: the sample of every vertex, 0 to B - 1, in any
                order; hyperedges stay inside samples.

        Returns:
            An operator over N vertices, with ``batch_size`` B for [B, N, C].

        Raises:
            ValueError, TypeError: a shape or dtype does not fit.
        """
        x = check_features(x, self.in_channels)
        batch = check_batch(batch, x)
        if batch is None:
            return self.construct(x)
        return self.construct_flat(x, batch)

    @abstractmethod
    def construct(self, x: Tensor) -> Incidence:
        """Build from checked features [N, C] or [B, N, C]."""

    def construct_flat(self, x: Tensor, batch: Tensor) -> Incidence:
        """Build from checked features [N, C] and the sample of every vertex."""
        samples = int(batch.max()) + 1 if batch.numel() else 0
        if samples == 0:
            return self.construct(x)
        return BlockDiagonal([self.construct(x[batch == b]) for b in range(samples)], batch)
