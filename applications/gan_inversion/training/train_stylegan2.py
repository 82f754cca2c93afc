"""Train a StyleGAN2 from scratch, on faces the project draws or on a folder of pictures.

    python -m gan_inversion.training.train_stylegan2 --out FOLDER
    python -m gan_inversion.training.train_stylegan2 --out FOLDER --data PICTURES --resolution 64
    torchrun --standalone --nproc-per-node 2 -m gan_inversion.training.train_stylegan2 --out FOLDER

The folder gets ``checkpoint.pt`` (the same command resumes from it), ``log.jsonl``, sheets of
samples with the same latents every time (``fakes-*.png``, ``reals.png``), and at the end
``generator.safetensors`` (the averaged one) and ``discriminator.safetensors``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .._arguments import positive_number, whole_number
from ..checkpoints.files import NetworkFile, save_network
from ..errors import CheckpointError
from ..photo import save_png
from .image_source import DrawnFaces, FolderImages, ImageSource
from .stylegan2_training import StyleGAN2Trainer, StyleGAN2Training
from .trainer import Report, RunConfig, run
from .workers import Workers, start_workers

Frechet = Callable[[Tensor, Tensor], float]
"""Images ``[n, 3, R, R]`` in [-1, 1], real and generated, to their distance."""

SHEET = (6, 10)  # rows, columns
DRAWN = 50_000


def sheet(images: Tensor, columns: int = SHEET[1], margin: int = 2) -> Image.Image:
    """Lay out images ``[n, 3, R, R]`` in [-1, 1] as a picture.

    Example:
        >>> sheet(torch.zeros(4, 3, 8, 8), columns=2, margin=2).size
        (22, 22)
    """
    n, _, height, width = images.shape
    rows = -(-n // columns)
    page = torch.full(
        (rows * (height + margin) + margin, columns * (width + margin) + margin, 3),
        255,
        dtype=torch.uint8,
    )
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    for i, image in enumerate(pixels):
        top = margin + i // columns * (height + margin)
        left = margin + i % columns * (width + margin)
        page[top : top + height, left : left + width] = image
    return Image.fromarray(page.numpy())


def latents(count: int, width: int, seed: int) -> Tensor:
    """Return ``[count, width]`` normal random numbers that are the same in every run."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def sheet_report(trainer: StyleGAN2Trainer, folder: Path) -> Callable[[int], dict[str, float]]:
    """Return a report that writes ``fakes-STEP.png``, and ``reals.png`` beside the first."""

    def report(done: int) -> dict[str, float]:
        count = SHEET[0] * SHEET[1]
        reals = folder / "reals.png"
        if not reals.exists():
            chosen = range(min(count, len(trainer.source)))
            save_png(sheet(trainer.source.images(chosen)), reals)
        images = trainer.sample(latents(count, trainer.config.latent, 1))
        save_png(sheet(images), folder / f"fakes-{done:06d}.png")
        return {}

    return report


def frechet_report(
    trainer: StyleGAN2Trainer, frechet: Frechet, images: int, name: str
) -> Callable[[int], dict[str, float]]:
    """Return a report that logs the distance of ``images`` samples to as many real images."""

    def report(done: int) -> dict[str, float]:
        real = trainer.source.images(range(min(images, len(trainer.source))))
        fake = trainer.sample(latents(images, trainer.config.latent, 2))
        return {name: round(frechet(real, fake), 4)}

    return report


def feature_frechet(network: Any) -> Frechet:
    """Return the Frechet distance of a feature network's features; those of reals are kept.

    Args:
        network: a :class:`~gan_inversion.metrics.FeatureNetwork`.
    """
    from ..metrics import extract_features, frechet_score

    kept: list[tuple[Tensor, Tensor]] = []

    def distance(real: Tensor, fake: Tensor) -> float:
        if not kept or not torch.equal(kept[0][0], real):
            kept[:] = [(real, extract_features(real.split(1), network))]
        # Through bytes, as pictures are: a real image was one.
        fake = ((fake.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        features = extract_features(fake.split(1), network)
        return frechet_score(kept[0][1], features, resamples=0).value

    return distance


def save_networks(trainer: StyleGAN2Trainer, folder: Path, card: dict[str, Any]) -> list[Path]:
    """Write the averaged generator and the discriminator; return the files."""
    trainer.average.measure_w()
    networks: dict[str, nn.Module] = {
        "generator": trainer.average,
        "discriminator": trainer.discriminator,
    }
    written = []
    for name, network in networks.items():
        path = folder / f"{name}.safetensors"
        state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        config = asdict(network.config)  # type: ignore[call-overload]
        content = NetworkFile(type(network).__name__, config, state, card)
        try:
            save_network(path, content)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error}") from error
        written.append(path)
    return written


def _source(args: argparse.Namespace, progress: bool) -> ImageSource:
    if args.data == "drawn":
        return DrawnFaces(DRAWN, args.resolution)
    return FolderImages(Path(args.data), args.resolution, progress=progress)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_stylegan2", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--data", default="drawn", help="a folder of pictures (default: drawn)")
    parser.add_argument("--steps", type=whole_number(1), default=20_000)
    parser.add_argument(
        "--minutes", type=positive_number, help="stop after this long; resumes later"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument(
        "--shards", type=whole_number(1), help="of a batch (default: one a process)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=whole_number(1), help="CPU threads of a process")
    parser.add_argument("--checkpoint-every", type=whole_number(1), default=250, metavar="STEPS")
    parser.add_argument("--sheet-every", type=whole_number(1), default=1000, metavar="STEPS")
    parser.add_argument(
        "--fd-every", type=whole_number(0), default=1000, metavar="STEPS", help="0: never"
    )
    parser.add_argument("--fd-images", type=whole_number(2), default=1000)
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("--no-progress", action="store_true")
    parser.add_argument("--ada", action="store_true", help="adaptive augmentation, target 0.6")
    for field in fields(StyleGAN2Training):
        option = "--" + field.name.replace("_", "-")
        if field.name == "mirror":
            parser.add_argument(option, action="store_true", help="mirror real images at random")
        elif field.name != "ada_target":
            kind = int if field.type == "int" else float
            parser.add_argument(option, type=kind, default=field.default)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    names = {field.name for field in fields(StyleGAN2Training)} - {"ada_target"}
    config = StyleGAN2Training(
        ada_target=0.6 if args.ada else None, **{name: getattr(args, name) for name in names}
    )
    with start_workers(args.device) as workers:
        _train(args, config, workers)


def _train(args: argparse.Namespace, config: StyleGAN2Training, workers: Workers) -> None:
    progress = workers.first and not args.no_progress
    run_config = RunConfig(
        args.steps,
        checkpoint_every=args.checkpoint_every,
        seconds=None if args.minutes is None else 60 * args.minutes,
        seed=args.seed,
        shards=args.shards or workers.size,
    )
    source = _source(args, progress)
    trainer = StyleGAN2Trainer(config, source, seed=args.seed, device=workers.device)
    reports = [Report(args.sheet_every, sheet_report(trainer, args.out))]
    card: dict[str, Any] = {}
    if args.fd_every:
        from ..metrics import efficientnet_features

        network = efficientnet_features()
        name = network.frechet_name
        distance = frechet_report(trainer, feature_frechet(network), args.fd_images, name)
        reports.append(Report(args.fd_every, distance))
        card["protocol"] = f"{name}: {network.protocol}, {args.fd_images} images each"
    steps = run(
        trainer.parts,
        trainer.step,
        run_config,
        args.out,
        settings=trainer.settings,
        reports=reports,
        workers=workers,
        description="StyleGAN2",
        progress=progress,
        tensorboard=args.tensorboard,
    )
    if workers.first:
        card |= {
            "what": f"StyleGAN2, {config.resolution} px, trained from scratch",
            "data": source.name,
            "steps_done": steps,
            "images_seen": steps * config.batch,
            "training": asdict(config) | asdict(run_config),
        }
        for path in save_networks(trainer, args.out, card):
            print(path)
    workers.wait()


if __name__ == "__main__":
    main()
