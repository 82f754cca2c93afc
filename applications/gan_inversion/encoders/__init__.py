"""Encoders of photographs into latent codes, and the face network of their identity loss."""

from .arcface import ArcFace, IDLoss
from .base import Encoder, EqualizedLinear
from .e4e import Encoder4Editing, progressive_stage
from .ir_se import IRFeatures, IRTrunk
from .psp import GradualStyleEncoder, LastLayerWEncoder

__all__ = [
    "ArcFace",
    "Encoder",
    "Encoder4Editing",
    "EqualizedLinear",
    "GradualStyleEncoder",
    "IDLoss",
    "IRFeatures",
    "IRTrunk",
    "LastLayerWEncoder",
    "progressive_stage",
]
