"""The step of a StyleGAN2 training: logistic loss, R1, path length, averaged generator.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020
(https://arxiv.org/abs/1912.04958):

* discriminator: ``softplus(-D(x)) + softplus(D(G(z)))``; generator: ``softplus(-D(G(z)))``;
* R1, ``gamma / 2 * |grad_x D(x)|^2``, every 16 steps (section 3.1, "lazy");
* path length, ``weight * (|J_w^T y| - a)^2`` with ``a`` its running mean, every 4 steps
  (Equation 4);
* style mixing for nine of ten batches; the generator's weights are averaged over time.

With several shards (see :mod:`gan_inversion.training.trainer`) each has its own real images,
latents and crossover, and the groups of the minibatch standard deviation lie within a shard. The
running mean of path lengths and the augmentation's sign are means over all shards.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    StyleGAN2Generator,
)
from .augmentation import AdaptiveAugmentation
from .image_source import ImageSource
from .trainer import Shard, Stateful, Step


@dataclass(frozen=True)
class StyleGAN2Training:
    """What a training computes; together with a seed it gives the weights.

    Attributes:
        resolution: side of the images, a power of two from 8 on.
        batch: images of a step, over all shards.
        width: of the widest layers.
        base: a layer at side ``r`` has ``base / r`` channels, at most ``width``.
        latent: width of z and w.
        mapping_layers: of the mapping network.
        learning_rate: of both optimisers.
        gamma: of R1; None is ``0.0002 * resolution**2 / batch``, the rule of StyleGAN2-ADA's code.
        r1_every: steps between R1 penalties; its weight and Adam's constants are adapted.
        path_weight: of the path length penalty, 0 for none.
        path_every: steps between path length penalties.
        path_shrink: they take a batch that is smaller by this factor.
        path_decay: of the running mean of path lengths.
        mixing: probability of style mixing, for a shard.
        average_images: half-life of the averaged generator, in images; None is ``500 * batch``.
        average_rampup: its half-life is at most this part of the images seen so far.
        mirror: mirror real images at random.
        ada_target: of the adaptive augmentation; None for no augmentation.
        ada_images: images that it takes the augmentation's probability to go from 0 to 1.
    """

    resolution: int = 32
    batch: int = 16
    width: int = 64
    base: int = 1024
    latent: int = 64
    mapping_layers: int = 4
    learning_rate: float = 0.0025
    gamma: float | None = None
    r1_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_shrink: int = 2
    path_decay: float = 0.01
    mixing: float = 0.9
    average_images: float | None = None
    average_rampup: float = 0.05
    mirror: bool = False
    ada_target: float | None = None
    ada_images: float = 500_000

    def __post_init__(self) -> None:
        for name in ("batch", "width", "base", "latent", "mapping_layers", "path_shrink"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("r1_every", "path_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1 step, got {getattr(self, name)}")
        if not 0 <= self.mixing <= 1:
            raise ValueError(f"`mixing` must be from 0 to 1, got {self.mixing}")
        for name in ("gamma", "path_weight", "path_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be a number from 0 up, got {value}")
        for name in ("learning_rate", "average_images", "average_rampup", "ada_images"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be a number above 0, got {value}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Widths at 4, 8, ... ``resolution`` pixels."""
        sides = [2**i for i in range(2, self.resolution.bit_length())]
        return tuple(max(1, min(self.width, self.base // side)) for side in sides)

    @property
    def r1_gamma(self) -> float:
        """Weight of R1."""
        rule = 0.0002 * self.resolution**2 / self.batch
        return rule if self.gamma is None else self.gamma

    def networks(self) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
        """Return new networks with random weights from PyTorch's global generator."""
        generator = StyleGAN2Generator(
            StyleGAN2Config(
                self.resolution,
                self.channels,
                z_dim=self.latent,
                w_dim=self.latent,
                num_mapping_layers=self.mapping_layers,
            )
        )
        return generator, StyleGAN2Discriminator(
            StyleGAN2DiscriminatorConfig(self.resolution, self.channels)
        )


def lazy_adam(parameters: Any, learning_rate: float, every: int | None) -> torch.optim.Adam:
    """Return Adam(0, 0.99) with the constants of a penalty that has its own step now and then.

    Appendix B of the paper: with one more step in every ``every`` ones, learning rate and betas
    become those that make as much progress in the same time.
    """
    c = 1.0 if every is None else every / (every + 1)
    return torch.optim.Adam(parameters, learning_rate * c, (0.0, 0.99**c), eps=1e-8)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return the mean over the images of ``|grad D|^2``; differentiable.

    Args:
        logits: ``[B, 1]``, computed from ``images``.
        images: ``[B, C, R, R]`` that require gradients.
    """
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def path_lengths(images: Tensor, w_plus: Tensor, y: Tensor) -> Tensor:
    """Return ``|J^T y|`` of each image, ``[B]``; differentiable.

    Args:
        images: ``[B, C, R, R]``, computed from ``w_plus``.
        w_plus: ``[B, num_ws, w_dim]``; the length is the root of the mean over the rows of their
            squared lengths, as in the authors' code.
        y: normal random numbers of the images' shape; they are divided by R, so that the length
            does not depend on the resolution.
    """
    y = y / images.shape[-1]
    (slope,) = torch.autograd.grad((images * y).sum(), w_plus, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


class PathLength:
    """The running mean of path lengths."""

    def __init__(self) -> None:
        self.mean = 0.0

    def state_dict(self) -> dict[str, float]:
        """Return the running mean."""
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over a running mean."""
        self.mean = state["mean"]


class StyleGAN2Trainer:
    """Networks, optimisers and state of one training, and its step.

    Args:
        config: see :class:`StyleGAN2Training`.
        source: the real images.
        seed: of the first weights.
        device: where to compute. On a CPU a resumed run is equal to the bit; CUDA adds some of
            its gradients in an order of its own.

    Raises:
        ValueError: images of another resolution than the networks'.
    """

    def __init__(
        self,
        config: StyleGAN2Training,
        source: ImageSource,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if source.resolution != config.resolution:
            raise ValueError(
                f"`source` must have images of {config.resolution} px, got {source.resolution}"
            )
        self.config, self.source, self.device = config, source, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, discriminator = config.networks()
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        path_every = config.path_every if config.path_weight else None
        rate = config.learning_rate
        self.g_adam = lazy_adam(self.generator.parameters(), rate, path_every)
        self.d_adam = lazy_adam(self.discriminator.parameters(), rate, config.r1_every)
        self.augmentation = AdaptiveAugmentation(config.ada_target, config.ada_images)
        self.path = PathLength()

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint has to hold."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "g_adam": self.g_adam,
            "d_adam": self.d_adam,
            "augmentation": self.augmentation,
            "path": self.path,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed run must share."""
        return asdict(self.config) | {"data": self.source.name}

    def step(self, step: Step) -> dict[str, float]:
        """Do one step; see :func:`gan_inversion.training.trainer.run`."""
        config, images = self.config, self.config.batch // step.config.shards
        if images * step.config.shards != config.batch:
            raise ValueError(
                f"`batch` must be a multiple of the {step.config.shards} shards, got {config.batch}"
            )
        sign = torch.zeros((), device=self.device)

        def d_loss(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            nonlocal sign
            with torch.no_grad():
                fake = self._fake(shard, images)
            real = self._logits(self._real(shard, images), shard)
            fake = self._logits(fake, shard)
            sign = sign + real.detach().sign().mean() / len(step.shards)
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            return loss, {"real": real.mean().item(), "fake": fake.mean().item()}

        def r1_loss(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            real = self._real(shard, images).requires_grad_()
            logits = self._logits(real, shard)
            penalty = r1_penalty(logits, real)
            # Every parameter belongs to the graph: the last bias has a gradient of zero, not none.
            loss = config.r1_gamma / 2 * config.r1_every * penalty + 0 * logits.sum()
            return loss, {"r1": penalty.item()}

        def g_loss(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            return F.softplus(-self._logits(self._fake(shard, images), shard)).mean(), {}

        d = step.minimise(self.d_adam, d_loss)
        figures = {"d_loss": d["loss"], "d_grad": d["grad"], "real": d["real"], "fake": d["fake"]}
        if step.index % config.r1_every == 0:
            figures["r1"] = step.minimise(self.d_adam, r1_loss)["r1"]
        g = step.minimise(self.g_adam, g_loss)
        figures |= {"g_loss": g["loss"], "g_grad": g["grad"]}
        if config.path_weight and step.index % config.path_every == 0:
            figures["path"] = self._path_step(step, max(1, images // config.path_shrink))
        self._update_average((step.index + 1) * config.batch)
        sign_value = step.mean(sign).item()
        figures["sign"] = sign_value
        if config.ada_target is not None:
            self.augmentation.update(sign_value, config.batch)
            figures["p"] = self.augmentation.p
        return figures

    def sample(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Return the averaged generator's images of latents ``[n, latent]``, on the CPU."""
        found = []
        with torch.no_grad():
            for part in z.split(64):
                w = self.average.mapping(part.to(self.device), truncation)
                image = self.average.synthesis(w)
                assert isinstance(image, Tensor)
                found.append(image.cpu())
        return torch.cat(found)

    def _real(self, shard: Shard, images: int) -> Tensor:
        indices = torch.randint(len(self.source), (images,), generator=shard.generator)
        real = self.source.images(indices.tolist())
        if self.config.mirror:
            flip = torch.rand(images, generator=shard.generator) < 0.5
            real = torch.where(flip[:, None, None, None], real.flip(3), real)
        return real.to(self.device)

    def _codes(self, shard: Shard, images: int) -> Tensor:
        """Return W+ codes ``[images, num_ws, w_dim]``, mixed now and then."""
        g, random = self.generator, shard.generator
        z = torch.randn(2, images, self.config.latent, generator=random).to(self.device)
        mixed = torch.rand((), generator=random).item() < self.config.mixing
        crossover = int(torch.randint(1, g.num_ws, (), generator=random))
        first = g.mapping(z[0])
        return g.mix(first, g.mapping(z[1]), crossover) if mixed else g.broadcast(first)

    def _fake(self, shard: Shard, images: int) -> Tensor:
        image = self.generator.synthesis(self._codes(shard, images), noise="random")
        assert isinstance(image, Tensor)
        return image

    def _logits(self, images: Tensor, shard: Shard) -> Tensor:
        if self.config.ada_target is not None:
            images = self.augmentation(images, shard.generator)
        return self.discriminator(images)

    def _path_step(self, step: Step, images: int) -> float:
        total = torch.zeros((), device=self.device)
        mean, decay = self.path.mean, self.config.path_decay

        def path_loss(shard: Shard) -> tuple[Tensor, dict[str, float]]:
            nonlocal total
            w = self._codes(shard, images)
            image = self.generator.synthesis(w, noise="random")
            assert isinstance(image, Tensor)
            y = torch.randn(image.shape, generator=shard.generator).to(image)
            lengths = path_lengths(image, w, y)
            found = lengths.detach().mean()
            total = total + found / len(step.shards)
            target = mean + decay * (found - mean)
            penalty = (lengths - target).square().mean()
            weight = self.config.path_weight * self.config.path_every
            # As for R1: what only shifts the image has a gradient of zero, not none.
            return weight * penalty + 0 * image.sum(), {}

        step.minimise(self.g_adam, path_loss)
        length = step.mean(total).item()
        self.path.mean = mean + decay * (length - mean)
        return length

    @torch.no_grad()
    def _update_average(self, seen: int) -> None:
        config = self.config
        half_life = 500 * config.batch if config.average_images is None else config.average_images
        half_life = min(half_life, seen * config.average_rampup)
        keep = 0.5 ** (config.batch / max(half_life, 1e-8))
        for average, value in zip(
            self.average.parameters(), self.generator.parameters(), strict=True
        ):
            average.lerp_(value, 1 - keep)
        for buffer, new in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            buffer.copy_(new)
