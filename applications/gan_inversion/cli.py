"""The command ``gan-inversion``.

Heavy imports happen inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from ._arguments import positive_number, whole_number

TRAINERS = {
    "heads": "fit_heads",
    "directions": "fit_directions",
    "pairs": "edit_pairs",
    "dh-net": "train_dh_net",
    "ef-net": "train_ef_net",
    "stylegan2": "train_stylegan2",
}
DEMO_EDITS = {
    "astronaut": ({"smile": -2.0}, {"age": -2.0}),
    "hopper": ({"smile": 2.0}, {"age": -2.0}),
}


def _parse_edit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected NAME=STRENGTH, for example smile=-2, got {text!r}"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gan-inversion",
        description="Edit one attribute of a face photograph and leave the rest alone.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    edit = commands.add_parser("edit", help="edit a photograph")
    edit.add_argument("photo", type=Path)
    edit.add_argument("out", type=Path, help="folder for the results")
    edit.add_argument(
        "--edit",
        type=_parse_edit,
        action="append",
        required=True,
        metavar="NAME=STRENGTH",
        help="for example smile=-2; each --edit makes one result (see --together)",
    )
    edit.add_argument("--together", action="store_true", help="apply all edits to one result")
    edit.add_argument("--method", choices=("dhfusion", "plain"), default="dhfusion")
    edit.add_argument("--fusion", choices=("residual", "feature", "blend"), default="residual")
    edit.add_argument("--no-paste", action="store_true", help="do not paste the face back")
    edit.add_argument(
        "--face", type=whole_number(0), default=None, help="which face, 0 is the largest"
    )
    edit.add_argument(
        "--direction", type=Path, action="append", default=[], help="a .pt or .npy direction file"
    )
    _inversion_options(edit)

    invert = commands.add_parser("invert", help="invert a photograph and write the inversion")
    invert.add_argument("photo", type=Path)
    invert.add_argument("out", type=Path, help="PNG file")
    invert.add_argument("--face", type=whole_number(0), default=None)
    _inversion_options(invert)

    demo = commands.add_parser("demo", help="edit two public-domain photographs")
    demo.add_argument("--out", type=Path, default=Path("demo"))
    _inversion_options(demo)

    commands.add_parser("directions", help="list the edits there are")
    doctor = commands.add_parser("doctor", help="say what a file of weights is and what it is for")
    doctor.add_argument("file", type=Path, nargs="+")
    convert = commands.add_parser("convert", help="convert a file of weights")
    convert.add_argument("source", type=Path, metavar="IN")
    convert.add_argument("target", type=Path, metavar="OUT", help=".safetensors (ours), .pt, .pth")
    convert.add_argument(
        "--part", choices=("generator", "discriminator", "encoder", "face_id"), default=None
    )
    convert.add_argument(
        "--layout", choices=("rosinality", "mmgen", "nvlabs"), default="rosinality"
    )
    convert.add_argument("--encoder", choices=("psp", "e4e"), help="if the file does not tell")
    convert.add_argument("--sha256", help="what IN must hash to")
    export = commands.add_parser(
        "export", help="write a generator, or the edit of a photograph, as ONNX"
    )
    export.add_argument(
        "source", metavar="IN", help="a file of a StyleGAN2 generator, or default: MobileStyleGAN"
    )
    export.add_argument("target", type=Path, metavar="OUT", help=".onnx")
    export.add_argument("--part", choices=("generator", "edit"), default="generator")
    export.add_argument("--noise", choices=("const", "none"), default="const")
    export.add_argument(
        "--resolution", type=whole_number(1), default=None, help="default: the full one"
    )
    export.add_argument("--fusion", choices=("residual", "feature", "blend"), default="residual")
    export.add_argument(
        "--tolerance",
        type=positive_number,
        default=None,
        help="largest relative difference from PyTorch",
    )
    export.add_argument("--sha256", help="what IN must hash to")
    evaluate = commands.add_parser(
        "evaluate",
        help="compare two folders of images: PSNR, SSIM, ID, FID ...",
        description="Compare two folders of images, matched by name; every figure comes with its "
        "protocol and, where it is sampled, with a 95-percent interval.",
    )
    _evaluate_options(evaluate)
    train = commands.add_parser(
        "train",
        help="make the shipped weights again, or a StyleGAN2",
        epilog="`gan-inversion train NETWORK --help` lists the options of each.",
    )
    train.add_argument("network", choices=sorted(TRAINERS))
    train.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("real", type=Path, help="folder of originals")
    add("fake", type=Path, help="folder of results")
    add("--out", type=Path, default=None, metavar="FILE", help="JSON file for the whole report")
    add(
        "--metric",
        action="append",
        metavar="NAME",
        help="psnr, ssim, ms-ssim, lpips, id, fd, kd, fid or kid, once for each; default: psnr, "
        "ssim, id, fd, kd, lpips with --lpips, and fid, kid in place of fd, kd with --inception",
    )
    add("--ssim", default="wang", metavar="NAME", help="wang, skimage, torchmetrics ...")
    add("--resize", type=whole_number(1), default=None, metavar="SIDE", help="to squares, first")
    add("--lpips", type=Path, default=None, metavar="FILE", help="torchvision's trunk for LPIPS")
    add("--lpips-trunk", choices=("alex", "vgg", "squeeze"), default="alex")
    add(
        "--inception", type=Path, default=None, metavar="FILE", help="pt_inception-2015-12-05-*.pth"
    )
    add("--clean", action="store_true", help="clean-fid's resizing for Inception")
    add("--face-id", type=Path, default=None, metavar="FILE", help="ArcFace, in place of dlib")
    add("--batch-size", type=whole_number(1), default=16)
    add("--seed", type=whole_number(0), default=0, help="of intervals and blocks")
    add("--threads", type=whole_number(1), default=None, help="CPU threads")
    add("--quiet", action="store_true", help="no progress bars")


def _inversion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps", type=whole_number(1), default=None, help="inversion steps in all"
    )
    parser.add_argument("--cache", type=Path, default=None, help="folder of cached inversions")
    parser.add_argument("--threads", type=whole_number(1), default=None, help="CPU threads")


def _editor(args: argparse.Namespace, method: str, fusion: str = "residual"):  # noqa: ANN202
    import torch

    from .editor import DEFAULT_CACHE, Editor
    from .inversion import InversionConfig

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    config = InversionConfig()
    if args.steps is not None:
        config = config.with_total_steps(args.steps)
    return Editor.from_pretrained(
        method, fusion=fusion, inversion_config=config, cache=args.cache or DEFAULT_CACHE
    )


def _prepare_folder(folder: Path) -> None:
    """Make sure that results can be written before a minute is spent on them."""
    from .errors import GanInversionError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GanInversionError(
            f"`out` must be a folder that can be written, got {folder}: {error}; name another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise GanInversionError(f"`out`: {folder} cannot be written; name another folder")


def _name(strengths: dict[str, float]) -> str:
    return "_".join(f"{name}{strength:+g}" for name, strength in strengths.items())


def _run_edit(args: argparse.Namespace) -> None:
    from .photo import load_photo

    editor = _editor(args, args.method, args.fusion)
    for path in args.direction:
        editor.add_direction(path)
    names = [name for name, _ in args.edit]
    if args.together and len(set(names)) < len(names):
        raise ValueError(f"--together takes each edit once, got {', '.join(names)}")
    groups = [dict(args.edit)] if args.together else [{name: s} for name, s in args.edit]
    for strengths in groups:
        editor.change(strengths)  # an unknown name should fail before a minute of inversion
    load_photo(args.photo)
    _prepare_folder(args.out)
    photo = editor.open(args.photo, face=args.face)
    for strengths in groups:
        start = time.perf_counter()
        result = photo.edit(paste=not args.no_paste, **strengths)
        written = result.save_all(args.out, f"{args.photo.stem}_{_name(strengths)}")
        print(f"{_name(strengths)}: {written[0]} ({time.perf_counter() - start:.1f} s)")
        print(f"  sheet: {written[2]}")


def _run_invert(args: argparse.Namespace) -> None:
    from .editor import to_image
    from .photo import load_photo, save_png

    if args.out.suffix.lower() != ".png":
        raise ValueError(f"`out` must end in .png, got {args.out}")
    editor = _editor(args, "plain")
    load_photo(args.photo)
    _prepare_folder(args.out.parent)
    photo = editor.open(args.photo, face=args.face)
    save_png(to_image(photo.inversion.image), args.out)
    print(args.out)


def _run_demo(args: argparse.Namespace) -> None:
    from .assets import asset_path

    start = time.perf_counter()
    _prepare_folder(args.out)
    editor = _editor(args, "dhfusion")
    sheets = []
    for name, edits in DEMO_EDITS.items():
        print(f"{name}: finding, aligning and inverting the face", flush=True)
        photo = editor.open(asset_path(name))
        for strengths in edits:
            result = photo.edit(**strengths)
            written = result.save_all(args.out, f"{name}_{_name(strengths)}")
            report = result.report
            print(
                f"  {_name(strengths):10s} mask {report['mask_mean']:.2f}, "
                f"identity distance {report['identity_distance']:.2f} "
                f"(plain edit {report['identity_distance_of_plain_edit']:.2f}): {written[0]}"
            )
            sheets.append(written[2])
    print(f"\nSheets to look at ({time.perf_counter() - start:.0f} s in all):")
    for path in sheets:
        print(f"  {path}")


def _run_doctor(args: argparse.Namespace) -> int:
    from .checkpoints.doctor import doctor

    reports = [doctor(path) for path in args.file]
    print("\n\n".join(map(str, reports)))
    return 0 if all(report.usable and not report.problems for report in reports) else 1


def _run_convert(args: argparse.Namespace) -> None:
    from .checkpoints.doctor import convert
    from .errors import GanInversionError

    options = {} if args.encoder is None else {"encoder": args.encoder}
    if options and args.part not in (None, "encoder"):
        raise ValueError(f"--encoder is for --part encoder, not {args.part}")
    try:
        network = convert(
            args.source,
            args.target,
            part=args.part,
            layout=args.layout,
            options=options,
            sha256=args.sha256,
        )
    except OSError as error:
        raise GanInversionError(f"`OUT`: {args.target} cannot be written: {error}") from error
    print(f"{args.target}: {network.network}, {len(network.state)} tensors")


def _run_export(args: argparse.Namespace) -> None:
    from .checkpoints.load import load_generator
    from .errors import GanInversionError
    from .export import EDIT_TOLERANCE, TOLERANCE, export_edit, export_generator
    from .generators import Generator, load_default_generator
    from .methods.dhfusion import DHFusion

    edits = args.part == "edit"
    if edits and args.source != "default":
        raise ValueError(
            "`IN` must be default with --part edit: the shipped DH-Net and EF-Net belong to it"
        )
    if edits and (args.resolution is not None or args.noise != "const"):
        raise ValueError("--resolution and --noise are for --part generator")
    if not edits and args.fusion != "residual":
        raise ValueError("--fusion is for --part edit")
    if args.source == "default" and args.sha256 is not None:
        raise ValueError("--sha256 is for a file as `IN`; the default's is known")
    generator: Generator
    if args.source == "default":
        generator = load_default_generator()
    else:
        generator = load_generator(args.source, sha256=args.sha256)
    try:
        if edits:
            method = DHFusion(generator, args.fusion)
            tolerance = EDIT_TOLERANCE if args.tolerance is None else args.tolerance
            print(export_edit(method, args.target, tolerance=tolerance))
        else:
            tolerance = TOLERANCE if args.tolerance is None else args.tolerance
            print(
                export_generator(
                    generator,
                    args.target,
                    noise=args.noise,
                    resolution=args.resolution,
                    tolerance=tolerance,
                )
            )
    except ImportError as error:
        raise GanInversionError(str(error)) from error
    except OSError as error:
        raise GanInversionError(f"`OUT`: {args.target} cannot be written: {error}") from error


def _run_directions() -> None:
    from .directions import load_directions

    for name, direction in load_directions().items():
        low, high = direction.range
        print(f"{name:16s} {low:+g} to {high:+g}  {direction.description}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 1 after an error message."""
    args = _parser().parse_args(argv)
    from .errors import GanInversionError

    try:
        if args.command == "train":
            module = importlib.import_module(f".training.{TRAINERS[args.network]}", __package__)
            module.main(args.arguments)
        elif args.command == "evaluate":
            from .metrics.command import evaluate

            evaluate(args)
        elif args.command == "doctor":
            return _run_doctor(args)
        elif args.command == "convert":
            _run_convert(args)
        elif args.command == "export":
            _run_export(args)
        elif args.command == "edit":
            _run_edit(args)
        elif args.command == "invert":
            _run_invert(args)
        elif args.command == "demo":
            _run_demo(args)
        else:
            _run_directions()
    # The last three: a loss that is not finite, an extra that is not installed, a full disk.
    except (GanInversionError, ValueError, FloatingPointError, ImportError, OSError) as error:
        print(f"gan-inversion: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "gan-inversion: interrupted; finished results and cached inversions are kept",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
