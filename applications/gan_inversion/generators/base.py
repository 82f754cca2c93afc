"""The interface that every method uses to talk to a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Hooks = Mapping[str, Callable[[Tensor], Tensor]]
"""Layer name -> function that receives the layer's output and returns its replacement."""


class Generator(nn.Module, ABC):
    """A style-based generator: ``z -> w -> image``, with a W+ code of ``num_ws`` rows.

    Attributes:
        num_ws: rows of a W+ code.
        w_dim: width of a row.
        resolution: side of the full output in pixels.
        resolutions: sides that :meth:`synthesis` can produce.
        w_avg: mean of the mapped latents, ``[w_dim]``.
        w_std: root mean square of ``w - w_avg``, scalar.
    """

    num_ws: int
    w_dim: int
    resolution: int
    resolutions: tuple[int, ...]
    w_avg: Tensor
    w_std: Tensor

    @property
    def z_dim(self) -> int:
        """Width of what :meth:`mapping` takes."""
        return self.w_dim

    @abstractmethod
    def mapping(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Map ``z [B, z_dim]`` to ``w [B, w_dim]``; truncation pulls towards ``w_avg``."""

    @abstractmethod
    def synthesis(
        self,
        w_plus: Tensor,
        resolution: int | None = None,
        noise: str | Sequence[Tensor] = "const",
        hooks: Hooks | None = None,
        return_features: bool = False,
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Render ``w_plus`` (``[B, num_ws, w_dim]`` or ``[B, w_dim]``) as ``[B, 3, R, R]``."""

    def broadcast(self, w: Tensor) -> Tensor:
        """Return ``w`` as a W+ code: ``[B, w_dim]`` is repeated over the rows.

        Raises:
            ValueError: any other shape than ``[B, w_dim]`` or ``[B, num_ws, w_dim]``.
        """
        if w.ndim == 2 and w.shape[1] == self.w_dim:
            return w[:, None].expand(-1, self.num_ws, -1)
        if w.ndim == 3 and w.shape[1:] == (self.num_ws, self.w_dim):
            return w
        raise ValueError(
            f"`w_plus` must have shape [B, {self.w_dim}] or [B, {self.num_ws}, {self.w_dim}], "
            f"got {list(w.shape)}"
        )

    @torch.no_grad()
    def sample_w(self, n: int, *, generator: torch.Generator, truncation: float = 0.8) -> Tensor:
        """Draw ``n`` latents ``[n, w_dim]`` with an explicit random generator."""
        z = torch.randn(n, self.z_dim, generator=generator)
        return self.mapping(z.to(self.w_avg), truncation)
