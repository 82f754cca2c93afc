"""Adaptive discriminator augmentation with a small set of transformations in plain PyTorch.

Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020
(https://arxiv.org/abs/2006.06676), section 3. Of its 18 transformations these are here: mirroring,
rotation by 90 degrees, translation by whole pixels (pixel blitting), brightness, contrast and
saturation; with the paper's strengths. Rotations by other angles, scaling, filtering, noise and
cut-out are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

TRANSLATION = 0.125  # of the side, at most
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # standard deviations; the last two of log2


def augment(images: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Disturb each image at random.

    Args:
        images: ``[B, C, R, R]`` in [-1, 1]; with C other than 3 saturation is left out.
        p: probability of each transformation, 0 to 1. Below about 0.8 a generator does not learn
            to disturb, since every transformation leaves some images as they are.
        generator: all random numbers come from here; their count does not depend on ``p``.

    Returns:
        ``[B, C, R, R]``, not clamped; differentiable any number of times.

    Example:
        >>> x = torch.rand(2, 3, 8, 8)
        >>> torch.equal(augment(x, 0.0, torch.Generator()), x)
        True
    """
    batch, channels, side = images.shape[0], images.shape[1], images.shape[-1]
    chosen = (torch.rand(6, batch, generator=generator) < p).to(images.device)
    uniform = torch.rand(4, batch, generator=generator).to(images.device)
    normal = torch.randn(3, batch, generator=generator).to(images)

    # Where each output pixel comes from: whole pixels only, so nothing is interpolated.
    y, x = torch.meshgrid(*[torch.arange(side, device=images.device)] * 2, indexing="ij")
    y, x = (t.expand(batch, side, side) for t in (y, x))

    def each(values: Tensor) -> Tensor:
        return values[:, None, None]

    shift = ((uniform[:2] * 2 - 1) * TRANSLATION * side).round().long() * chosen[0]
    y, x = _reflect(y - each(shift[0]), side), _reflect(x - each(shift[1]), side)
    turns = each((uniform[2] * 4).long() * chosen[1])
    for quarter in range(3):
        turned = turns > quarter
        y, x = torch.where(turned, x, y), torch.where(turned, side - 1 - y, x)
    mirrored = each((uniform[3] < 0.5) & chosen[2])
    x = torch.where(mirrored, side - 1 - x, x)
    rows = torch.arange(batch, device=images.device)[:, None, None]
    images = images[rows, :, y, x].permute(0, 3, 1, 2)

    def strength(values: Tensor, where: Tensor, otherwise: float) -> Tensor:
        return torch.where(where, values, otherwise)[:, None, None, None]

    images = images + strength(BRIGHTNESS * normal[0], chosen[3], 0.0)
    images = images * strength(torch.exp2(CONTRAST * normal[1]), chosen[4], 1.0)
    if channels == 3:
        grey = images.mean(1, keepdim=True)
        factor = strength(torch.exp2(SATURATION * normal[2]), chosen[5], 1.0)
        # The form that leaves an image alone to the bit where the factor is one.
        images = images + (factor - 1) * (images - grey)
    return images


def _reflect(position: Tensor, side: int) -> Tensor:
    """Fold positions back at the borders, without repeating the border's pixel."""
    period = 2 * (side - 1)
    folded = position.remainder(period)
    return torch.minimum(folded, period - folded)


class AdaptiveAugmentation:
    """The probability ``p``, moved so that the discriminator stays a little unsure.

    Equation 1's r_t, the mean sign of the logits of real images, is held at a target: above it the
    discriminator overfits, and ``p`` grows.

    Args:
        target: of r_t; None keeps ``p`` at its start.
        speed: images that it takes ``p`` to go from 0 to 1.
        interval: steps between two adjustments.
        p: at the start.
    """

    def __init__(
        self,
        target: float | None = 0.6,
        speed: float = 500_000,
        interval: int = 4,
        p: float = 0.0,
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"`p` must be from 0 to 1, got {p}")
        if speed <= 0 or interval < 1:
            raise ValueError(f"`speed` and `interval` must be positive, got {speed} and {interval}")
        self.target, self.speed, self.interval = target, speed, interval
        self.p = p
        self.signs, self.steps = 0.0, 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Disturb ``images``; see :func:`augment`."""
        if self.p == 0:  # the generator is not used up either: the next step has its own
            return images
        return augment(images, self.p, generator)

    def update(self, sign: float, batch: int) -> None:
        """Take note of a step: mean sign of the real images' logits, and how many there were."""
        self.signs += sign
        self.steps += 1
        if self.steps < self.interval:
            return
        if self.target is not None:
            over = self.signs / self.steps - self.target
            change = batch * self.steps / self.speed
            self.p = min(1.0, max(0.0, self.p + (change if over > 0 else -change)))
        self.signs, self.steps = 0.0, 0

    def state_dict(self) -> dict[str, float]:
        """Return the adaptive state."""
        return {"p": self.p, "signs": self.signs, "steps": self.steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over an adaptive state."""
        self.p, self.signs, self.steps = state["p"], state["signs"], int(state["steps"])
