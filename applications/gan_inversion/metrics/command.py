"""The command ``gan-inversion evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import GanInversionError
from .features import inception_features
from .folders import DEFAULT_METRICS, METRICS, compare_folders
from .identity import arcface_identity
from .lpips import load_lpips
from .ssim import VARIANTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gan-inversion evaluate",
        description="Compare two folders of images, matched by name; every figure comes with its "
        "protocol and, where it is sampled, with a 95 % interval.",
    )
    parser.add_argument("real", type=Path, help="folder of originals")
    parser.add_argument("fake", type=Path, help="folder of results")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the whole report")
    parser.add_argument(
        "--metric",
        action="append",
        choices=METRICS,
        help=f"once for each; default: {', '.join(DEFAULT_METRICS)}, lpips with --lpips, and fid "
        "and kid in place of fd and kd with --inception",
    )
    parser.add_argument("--ssim", choices=sorted(VARIANTS), default="wang", help="which SSIM")
    parser.add_argument("--resize", type=int, default=None, metavar="SIDE", help="square, first")
    parser.add_argument("--lpips", type=Path, default=None, metavar="FILE", help="its trunk")
    parser.add_argument("--lpips-trunk", choices=("alex", "vgg", "squeeze"), default="alex")
    parser.add_argument(
        "--inception", type=Path, default=None, metavar="FILE", help="pt_inception-2015-12-05-*.pth"
    )
    parser.add_argument(
        "--face-id", type=Path, default=None, metavar="FILE", help="ArcFace, in place of dlib"
    )
    parser.add_argument("--clean", action="store_true", help="clean-fid's resizing for Inception")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of intervals and blocks")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: print the table, and write the report if asked to.

    Raises:
        GanInversionError: a file cannot be used or written.
        ValueError: arguments that do not fit together, or nothing to compare.
    """
    args = _parser().parse_args(argv)
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
