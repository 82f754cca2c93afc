"""EF-Net: fuse the photograph and the edited image by the mask and decode the result.

DHFusion, Equations 9 to 12, sized for MobileStyleGAN's features. Two outputs share one trunk:

* ``fusion="feature"``, the paper's: the fused features and the generator's are decoded into the
  whole image.
* ``fusion="residual"``: a feathered pixel blend plus a correction that starts at zero and acts
  near the mask only::

      result = I + M (T - I) + g(M) (A (I - I') + C)

  with the photograph I, its inversion I', the edited image T, the mask M, the mask dilated by a
  few pixels g(M), and the decoder's two predictions: how much A in (-1, 1) of what the inversion
  lost (texture, glasses, a microphone) to put back, none where the edit moves structure, and a
  correction C in Haar channels.
  An untrained network gives the plain blend; outside g(M) the photograph's pixels are untouched.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...generators.mobile_stylegan import haar_analysis, haar_synthesis
from ...hub import Hub
from ...images import smoothstep

FEATURE_SIDES = (64, 128, 256, 512)


@dataclass(frozen=True)
class EFNetConfig:
    """Widths of EF-Net; the defaults are what the shipped weights use.

    Attributes:
        generator_channels: channels of the generator's features at 64, 128, 256 and 512 px.
        encoder_channels: widths of the encoder at 64, 32 and 16 px (fine, medium, coarse).
        decoder_channels: widths of the decoder at 64, 128, 256 and 512 px.
        num_ws: rows of a W+ code.
        w_dim: width of a row.
    """

    generator_channels: tuple[int, ...] = (512, 256, 128, 64)
    encoder_channels: tuple[int, ...] = (96, 160, 224)
    decoder_channels: tuple[int, ...] = (96, 64, 40, 32)
    num_ws: int = 16
    w_dim: int = 512

    def to_dict(self) -> dict[str, object]:
        """Return the fields, for a file's metadata."""
        return asdict(self)


def block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and LeakyReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.LeakyReLU(0.2))


class Encoder(nn.Module):
    """256 px image to features at 64, 32 and 16 px, the coarse ones fed back to the finer."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        fine, medium, coarse = widths
        self.stem = nn.Sequential(block(3, 32, 2), block(32, 64, 2), block(64, fine))
        self.to_medium = nn.Sequential(block(fine, medium, 2), block(medium, medium))
        self.to_coarse = nn.Sequential(block(medium, coarse, 2), block(coarse, coarse))
        self.medium_from_coarse = nn.Conv2d(coarse, medium, 1)
        self.fine_from_medium = nn.Conv2d(medium, fine, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return fine, medium and coarse features."""
        fine = self.stem(image)
        medium = self.to_medium(fine)
        coarse = self.to_coarse(medium)
        medium = medium + upsample(self.medium_from_coarse(coarse))
        fine = fine + upsample(self.fine_from_medium(medium))
        return fine, medium, coarse


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Bilinear up-sampling."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def normalise(x: Tensor) -> Tensor:
    """Divide each pixel's features by their root mean square over the channels.

    The generator has no demodulation: the scale of its features follows the style, so they must
    be normalised before they are mixed with anything. Per pixel, so that crops agree with the
    whole.
    """
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def resize_mask(mask: Tensor, side: int) -> Tensor:
    """Mask ``[B, 1, h, w]`` at another side: area down, bicubic up, in [0, 1]."""
    if mask.shape[-1] == side:
        return mask
    if mask.shape[-1] > side:
        return F.interpolate(mask, size=(side, side), mode="area")
    up = F.interpolate(mask, size=(side, side), mode="bicubic", align_corners=False)
    return up.clamp(0, 1)


def dilate(mask: Tensor) -> Tensor:
    """g(M): the mask grown by about 16 pixels and smoothed; 0 stays 0 further away."""
    small = F.avg_pool2d(mask, 4)
    grown = F.max_pool2d(small, 7, 1, 3)
    smooth = F.avg_pool2d(grown, 5, 1, 2, count_include_pad=False)
    return upsample(smooth, 4)


MOVED_LOW, MOVED_HIGH = 0.10, 0.26  # of the range [-1, 1]


def moved(inverted: Tensor, edited: Tensor) -> Tensor:
    """Where the edit moves structure rather than tone, ``[B, 1, h, w]`` in [0, 1].

    There what the inversion lost of the photograph has no place any more: teeth that are put back
    onto closed lips are a ghost.
    """
    difference = F.avg_pool2d((edited - inverted).abs().amax(1, keepdim=True), 4)
    for _ in range(3):
        difference = F.avg_pool2d(F.pad(difference, (3,) * 4, mode="reflect"), 7, 1)
    return upsample(smoothstep(difference, MOVED_LOW, MOVED_HIGH), 4)


class EFNet(Hub, nn.Module):
    """Editing-driven fusion network; see the module's docstring.

    Example:
        >>> config = EFNetConfig((8, 8, 8, 8), (8, 8, 8), (8, 8, 8, 8), num_ws=2, w_dim=4)
        >>> net = EFNet(config)
        >>> fused = net.fuse(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256),
        ...                  torch.ones(1, 1, 32, 32))
        >>> net.latent_change(fused).shape
        torch.Size([1, 2, 4])
    """

    config_class = EFNetConfig

    def __init__(self, config: EFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EFNetConfig()
        fine, medium, coarse = config.encoder_channels
        self.encoder = Encoder(config.encoder_channels)
        self.to_latent = nn.Sequential(
            nn.Linear(fine + medium + coarse, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, config.num_ws * config.w_dim),
        )
        widths = config.decoder_channels
        self.reduce = nn.ModuleList(
            nn.Conv2d(g, w, 1) for g, w in zip(config.generator_channels, widths, strict=True)
        )
        self.first = block(fine + widths[0], widths[0])
        self.up = nn.ModuleList(
            nn.Conv2d(a, 4 * b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.mix = nn.ModuleList(block(2 * w, w) for w in widths[1:])
        # At 512 px: 12 Haar channels each of I, I', T and the blend, and the mask.
        last = widths[-1]
        self.pixels = block(4 * 12 + 1, last)
        self.merge = nn.Sequential(block(2 * last, last), block(last, last))
        self.image_head = nn.Conv2d(last, 12, 3, padding=1)
        self.correction_head = nn.Conv2d(last, 12, 3, padding=1)
        self.restore_head = nn.Conv2d(last, 4, 3, padding=1)  # 4: one value a pixel at 1024
        linears: tuple[nn.Linear | nn.Conv2d, ...] = (
            self.to_latent[-1],  # type: ignore[assignment]
            self.correction_head,
            self.restore_head,
        )
        for zero in linears:
            nn.init.zeros_(zero.weight)
            if zero.bias is not None:
                nn.init.zeros_(zero.bias)

    def fuse(self, photo: Tensor, edited: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 9 at three scales, from 256 px images and a mask of any side."""
        of_photo, of_edited = self.encoder(photo), self.encoder(edited)
        fused = []
        for i, t in zip(of_photo, of_edited, strict=True):
            m = resize_mask(mask, i.shape[-1])
            fused.append(t * m + i * (1 - m))
        return fused[0], fused[1], fused[2]

    def latent_change(self, fused: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Map the fused features to a change of the edited code, ``[B, num_ws, w_dim]``."""
        pooled = torch.cat([f.mean((2, 3)) for f in fused], 1)
        change = self.to_latent(pooled)
        return change.unflatten(1, (self.config.num_ws, self.config.w_dim))

    def decode(
        self,
        fine: Tensor,  # [B, F, h/16, w/16]
        features: dict[int, Tensor],  # of the generator: {64: [B, G, h/16, w/16], ...}
        photo: Tensor,  # I [B, 3, h, w]
        inverted: Tensor,  # I'
        edited: Tensor,  # T
        mask: Tensor,  # M [B, 1, h, w]
        restore_share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Decode the fused features; all inputs may be crops of the same window.

        ``restore_share`` scales A: less of it keeps more of the edit and less of the old skin.

        Returns:
            ``"feature"`` and ``"residual"`` images ``[B, 3, h, w]``, the ``"blend"``, and
            ``"restore"`` (A) ``[B, 1, h, w]``.
        """
        sides = sorted(features)
        x = self.first(torch.cat([fine, self.reduce[0](normalise(features[sides[0]]))], 1))
        for i, side in enumerate(sides[1:]):
            x = F.pixel_shuffle(self.up[i](x), 2)
            x = self.mix[i](torch.cat([x, self.reduce[i + 1](normalise(features[side]))], 1))
        blend = photo + mask * (edited - photo)
        haar = [haar_analysis(t) for t in (photo, inverted, edited, blend)]
        pixels = self.pixels(torch.cat([*haar, F.avg_pool2d(mask, 2)], 1))
        x = self.merge(torch.cat([x, pixels], 1))
        restore = torch.tanh(F.pixel_shuffle(self.restore_head(x), 2))
        correction = haar_synthesis(self.correction_head(x))
        restore = restore_share * restore * (1 - moved(inverted, edited))
        near = dilate(mask)
        residual = blend + near * (restore * mask * (photo - inverted) + correction)
        return {
            "blend": blend,
            "restore": restore,
            "residual": residual,
            "feature": haar_synthesis(self.image_head(x)),
        }
