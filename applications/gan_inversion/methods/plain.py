"""The edit of the inversion with nothing on top: what every method starts from."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..inversion import Inversion, tuned_generator
from .base import Edited, Method


class Plain(Method):
    """Regenerates the whole face: at strength 0 its result is the inversion."""

    name = "plain"

    @torch.no_grad()
    def edit(self, aligned: Tensor, inversion: Inversion, change: Tensor) -> Edited:
        """Render the changed code."""
        start = time.perf_counter()
        generator = tuned_generator(self.generator, inversion.generator_delta)
        image = generator.synthesis(inversion.w_plus + change)
        assert isinstance(image, Tensor)
        image = image.clamp(-1, 1)
        seconds = {"generate": time.perf_counter() - start}
        return Edited(image, image, torch.ones_like(image[:, :1]), seconds)
