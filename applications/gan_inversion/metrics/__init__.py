"""Metrics that say how they were made: every result is a :class:`Score` with its protocol."""

from __future__ import annotations

from .distribution import (
    FeatureStatistics,
    frechet_distance,
    frechet_score,
    kernel_distance,
    kernel_score,
)
from .features import (
    FeatureNetwork,
    efficientnet_features,
    extract_features,
    inception_features,
)
from .folders import DEFAULT_METRICS, METRICS, FolderReport, compare_folders
from .identity import (
    IdentityNetwork,
    arcface_identity,
    dlib_identity,
    face_network_identity,
    identity,
)
from .inception import FIDInception, load_inception
from .lpips import LPIPS, load_lpips, lpips
from .ms_ssim import ms_ssim, ms_ssim_values
from .psnr import psnr, psnr_values
from .score import Score, mean_score
from .ssim import VARIANTS, SSIMVariant, ssim, ssim_values

__all__ = [
    "DEFAULT_METRICS",
    "LPIPS",
    "METRICS",
    "VARIANTS",
    "FIDInception",
    "FeatureNetwork",
    "FeatureStatistics",
    "FolderReport",
    "IdentityNetwork",
    "SSIMVariant",
    "Score",
    "arcface_identity",
    "compare_folders",
    "dlib_identity",
    "efficientnet_features",
    "extract_features",
    "face_network_identity",
    "frechet_distance",
    "frechet_score",
    "identity",
    "inception_features",
    "kernel_distance",
    "kernel_score",
    "load_inception",
    "load_lpips",
    "lpips",
    "mean_score",
    "ms_ssim",
    "ms_ssim_values",
    "psnr",
    "psnr_values",
    "ssim",
    "ssim_values",
]
