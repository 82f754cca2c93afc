"""The command ``gan-inversion evaluate``."""

from __future__ import annotations

import argparse

import torch

from ..errors import GanInversionError
from .features import inception_features
from .folders import DEFAULT_METRICS, compare_folders
from .identity import arcface_identity
from .lpips import load_lpips


def evaluate(args: argparse.Namespace) -> None:
    """Run the command: print the table, and write the report if asked to.

    Args:
        args: what the command's parser made of the command line.

    Raises:
        GanInversionError: a file cannot be used or written.
        ValueError: arguments that do not fit together, or nothing to compare.
    """
    if args.clean and args.inception is None:
        raise ValueError("--clean says how images are resized for --inception FILE; name that, too")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    # A wrong file should be named before an hour of work.
    lpips = None if args.lpips is None else load_lpips(args.lpips, args.lpips_trunk)
    faces = None if args.face_id is None else arcface_identity(args.face_id)
    features = None
    if args.inception is not None:
        resize = "clean" if args.clean else "pytorch-fid"
        features = inception_features(args.inception, resize=resize)  # type: ignore[arg-type]
    metrics = args.metric or list(DEFAULT_METRICS)
    if args.metric is None:
        if features is not None and features.is_official:
            metrics = [{"fd": "fid", "kd": "kid"}.get(m, m) for m in metrics]
        if lpips is not None:
            metrics.append("lpips")
    try:
        report = compare_folders(
            args.real,
            args.fake,
            metrics=metrics,
            out=args.out,
            ssim_variant=args.ssim,
            resize=args.resize,
            lpips_network=lpips,
            feature_network=features,
            identity_network=faces,
            batch_size=args.batch_size,
            seed=args.seed,
            progress=not args.quiet,
        )
    except OSError as error:
        raise GanInversionError(f"the report could not be made: {error}") from error
    print(report.table())
    if args.out is not None:
        print(f"\n{args.out}")
