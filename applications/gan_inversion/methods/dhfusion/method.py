"""DHFusion as a method of the pipeline."""

from __future__ import annotations

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...generators import Generator
from ...inversion import Inversion, tuned_generator
from ...perceptual import EfficientNetLite0, load_efficientnet_lite0
from ..base import Edited, Method
from .dh_net import DHNet
from .ef_net import FEATURE_SIDES, EFNet
from .mask import fusion_mask
from .weights import load_dh_net, load_ef_net

Fusion = Literal["residual", "feature", "blend"]

# Of what EF-Net would put back of the photograph. All of it takes half of the years back that
# "age -2" removed: old skin is what the inversion lost, too.
RESTORE_SHARE = 0.5


def _area(image: Tensor, side: int = 256) -> Tensor:
    return F.interpolate(image, size=(side, side), mode="area")


class DHFusion(Method):
    """DH-Net finds where the edit acts, EF-Net fuses photograph and edit there.

    Args:
        generator: the generator that inverts.
        fusion: ``"residual"`` (default), ``"feature"`` (the paper's), or ``"blend"``: the mask
            alone, without EF-Net, to compare with.
        dh_net: the mask network; None loads the shipped weights.
        ef_net: the fusion network; None loads the shipped weights.
        trunk: features that DH-Net reads; None loads the package's.

    Raises:
        ValueError: unknown ``fusion``.
        CheckpointError: weights are missing or damaged.
    """

    name = "dhfusion"

    def __init__(
        self,
        generator: Generator,
        fusion: Fusion = "residual",
        dh_net: DHNet | None = None,
        ef_net: EFNet | None = None,
        trunk: EfficientNetLite0 | None = None,
    ) -> None:
        super().__init__(generator)
        if fusion not in ("residual", "feature", "blend"):
            raise ValueError(f"`fusion` must be 'residual', 'feature' or 'blend', got {fusion!r}")
        self.fusion = fusion
        self.dh_net = dh_net or load_dh_net()[0]
        self.ef_net = ef_net or load_ef_net()[0]
        self.trunk = trunk or load_efficientnet_lite0()

    @torch.no_grad()
    def mask(self, inverted: Tensor, edited: Tensor) -> Tensor:
        """Return the fusion mask ``[1, 1, R, R]`` of an inverted and an edited image."""
        output = self.dh_net(
            self.dh_net.taps(self.trunk, inverted), self.dh_net.taps(self.trunk, edited)
        )
        return fusion_mask(output.mask(), inverted, edited)

    @torch.no_grad()
    def outputs(
        self, aligned: Tensor, inversion: Inversion, change: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, float]]:
        """Return all ways of fusing (``"blend"``, ``"residual"``, ``"feature"``) in one pass.

        Arguments are those of :meth:`edit`; also returned are the plain edit, the mask, and the
        seconds of each stage.
        """
        seconds = {}
        start = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal start
            now = time.perf_counter()
            seconds[stage] = now - start
            start = now

        generator = tuned_generator(self.generator, inversion.generator_delta)
        inverted = inversion.image
        code = inversion.w_plus + change
        plain = generator.synthesis(code)
        assert isinstance(plain, Tensor)
        plain = plain.clamp(-1, 1)
        lap("generate")
        mask = self.mask(inverted, plain)
        lap("mask")
        net = self.ef_net
        fused = net.fuse(_area(aligned), _area(plain), mask)
        code = code + net.latent_change(fused)
        _, features = generator.synthesis(code, return_features=True)
        kept = {side: features[side] for side in FEATURE_SIDES}  # type: ignore[index]
        out = net.decode(fused[0], kept, aligned, inverted, plain, mask, RESTORE_SHARE)
        lap("fuse")
        images = {name: out[name].clamp(-1, 1) for name in ("blend", "residual", "feature")}
        return images, plain, mask, seconds

    def edit(self, aligned: Tensor, inversion: Inversion, change: Tensor) -> Edited:
        """Find where the change acts, and fuse photograph and edit there."""
        images, plain, mask, seconds = self.outputs(aligned, inversion, change)
        return Edited(images[self.fusion], plain, mask, seconds)
