"""e4e: an encoder for editing, one W code and small per-row deltas on top of it.

Tov et al., "Designing an Encoder for StyleGAN Image Manipulation",
https://arxiv.org/abs/2102.02766, section 5.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .psp import PyramidEncoder


class Encoder4Editing(PyramidEncoder):
    """e4e's encoder: ``w_0`` from the first head, row ``i`` is ``w_0 + delta_i``.

    Paper: https://arxiv.org/abs/2102.02766, section 5.1. The network is pSp's; small deltas keep
    the code close to W, where edits work. Training adds the deltas one at a time
    (:attr:`stage`, :func:`progressive_stage`), coarse rows first.

    Args:
        num_ws: rows of the code, any number from 1 on: ``2 * log2(resolution) - 2`` for StyleGAN2.
        w_dim: width of a row.
        depth: of the trunk: 18, 34, 50, 100 or 152.
        squeeze_excite: IR-SE units if true, IR units if not.
        in_channels: channels of the image.

    Raises:
        ValueError: an argument out of range; in ``forward``, an image of another size.

    Example:
        >>> import torch
        >>> encoder = Encoder4Editing(num_ws=4, w_dim=32, depth=18).eval()
        >>> encoder.stage = 0
        >>> code = encoder(torch.zeros(1, 3, 256, 256))
        >>> code.shape, bool((code == code[:, :1]).all())
        (torch.Size([1, 4, 32]), True)
    """

    def __init__(
        self,
        num_ws: int = 18,
        *,
        w_dim: int = 512,
        depth: int = 50,
        squeeze_excite: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__(
            num_ws,
            w_dim=w_dim,
            depth=depth,
            squeeze_excite=squeeze_excite,
            in_channels=in_channels,
        )
        self._stage = num_ws - 1

    @property
    def stage(self) -> int:
        """Rows 1 to ``stage`` have a delta, later ones are ``w_0``.

        0 is a pure W encoder; ``num_ws - 1``, which may also be set as ``"inference"``, is the
        whole network and the default. It is a setting of the object and in no file.
        """
        return self._stage

    @stage.setter
    def stage(self, value: int | Literal["inference"]) -> None:
        last = self.num_ws - 1
        if value == "inference":
            value = last
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= last:
            raise ValueError(f"`stage` must be 0 to {last} or 'inference', got {value!r}")
        self._stage = value

    def offsets(self, image: Tensor) -> Tensor:
        """The code of ``image [B, in_channels, 256, 256]`` without ``latent_avg``."""
        base, deltas = self.base_and_deltas(image)
        return base[:, None] + deltas

    def base_and_deltas(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``w_0 [B, w_dim]`` without ``latent_avg``, and the deltas ``[B, num_ws, w_dim]``.

        The deltas of row 0 and of the rows after :attr:`stage` are 0. Their norm is the
        regularisation of the paper's equation 5.

        Raises:
            ValueError: an image of another size than the encoder can read.
        """
        self._check(image)
        pyramid = self.pyramid(self.trunk(image))
        base = self.heads[0](pyramid.coarse)
        none = torch.zeros_like(base)
        deltas = [
            self.heads[row](pyramid.of_row(row)) if 1 <= row <= self._stage else none
            for row in range(self.num_ws)
        ]
        return base, torch.stack(deltas, 1)


def progressive_stage(step: int, num_ws: int, *, start: int = 20_000, every: int = 2_000) -> int:
    """The stage of e4e's training at a step: 0, then from ``start`` on one more row each ``every``.

    Paper: https://arxiv.org/abs/2102.02766, section 5.1; the numbers are the released code's.

    Args:
        step: training step, from 0 on.
        num_ws: rows of the encoder's code.
        start: the step at which row 1 gets its delta.
        every: steps between two rows.

    Returns:
        A value for :attr:`Encoder4Editing.stage`.

    Raises:
        ValueError: a negative step or start, or ``every`` or ``num_ws`` below 1.

    Example:
        >>> [progressive_stage(step, 18) for step in (0, 19_999, 20_000, 22_000, 200_000)]
        [0, 0, 1, 2, 17]
    """
    for name, value, least in (
        ("step", step, 0), ("start", start, 0), ("every", every, 1), ("num_ws", num_ws, 1),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"`{name}` must be {least} or more, got {value}")
    return 0 if step < start else min(1 + (step - start) // every, num_ws - 1)
