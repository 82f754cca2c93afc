"""Face generators behind one interface."""

from .base import Generator, Hooks
from .mobile_stylegan import MobileStyleGAN, load_default_generator
from .stylegan2 import StyleGAN2Config, StyleGAN2Generator

__all__ = [
    "Generator",
    "Hooks",
    "MobileStyleGAN",
    "StyleGAN2Config",
    "StyleGAN2Generator",
    "load_default_generator",
]
