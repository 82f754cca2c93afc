"""Face generators behind one interface."""

from .base import Generator, Hooks
from .mobile_stylegan import MobileStyleGAN, load_default_generator

__all__ = ["Generator", "Hooks", "MobileStyleGAN", "load_default_generator"]
