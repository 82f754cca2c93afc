"""StyleGAN2 in plain PyTorch: generator, discriminator and their operations."""

from .discriminator import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    minibatch_stddev,
)
from .generator import StyleGAN2Config, StyleGAN2Generator
from .ops import bias_act, fir_kernel, modulated_conv2d, resample_conv2d, upfirdn2d

__all__ = [
    "StyleGAN2Config",
    "StyleGAN2Discriminator",
    "StyleGAN2DiscriminatorConfig",
    "StyleGAN2Generator",
    "bias_act",
    "fir_kernel",
    "minibatch_stddev",
    "modulated_conv2d",
    "resample_conv2d",
    "upfirdn2d",
]
