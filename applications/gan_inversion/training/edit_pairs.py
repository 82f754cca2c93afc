"""Make the training pairs of DH-Net and EF-Net from the generator itself.

    python -m gan_inversion.training.edit_pairs --out FOLDER --first 0 --count 300 --seed 0

For every identity: a latent ``w``, its "inversion" ``w' = w + error`` (an error of random size,
because inverting hundreds of pictures by optimisation takes a day on a CPU), and a few edits
``s * d``:

* ``I' = G(w')`` and ``T = G(w' + s d)``: what the networks see;
* ``G(w)`` and ``G(w + s d)``: the photograph and the true edited photograph;
* the region ``r = smoothstep(blur(|G(w + s d) - G(w)|))``: where the edit truly acts.

A quarter of the edits follow a random principal component of W on random rows: directions that no
classifier has a name for. Files are written one per identity and atomically; a run that was
stopped continues where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from hypergraph._files import atomic_writer

from .._arguments import whole_number
from ..directions import Direction, load_directions
from ..generators import Generator, load_default_generator
from ..images import smoothstep

EDITS = 4
REGION_SIDE = 64
REGION_LOW, REGION_HIGH = 0.04, 0.16  # of the range [-1, 1]; part of the protocol
REGION_BLUR = 3  # passes of a 5 px box at 256 px, about a Gaussian of 2.4 px
UNNAMED = -1


def edit_region(before: Tensor, after: Tensor, side: int = REGION_SIDE) -> Tensor:
    """Where an edit acts: ``[B, 3, R, R]`` twice -> soft region ``[B, 1, side, side]``.

    ``r = smoothstep(blur(mean_c |after - before|))`` at 256 px, then averaged to ``side``.
    """
    difference = (after - before).abs().mean(1, keepdim=True)
    difference = F.interpolate(difference, size=(256, 256), mode="area")
    for _ in range(REGION_BLUR):
        difference = F.avg_pool2d(F.pad(difference, (2, 2, 2, 2), mode="reflect"), 5, 1)
    region = smoothstep(difference, REGION_LOW, REGION_HIGH)
    return F.interpolate(region, size=(side, side), mode="area")


def to_bytes(image: Tensor) -> Tensor:
    """[-1, 1] floats -> uint8, rounded."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_bytes(image: Tensor) -> Tensor:
    """uint8 -> [-1, 1] floats."""
    return image.float() / 127.5 - 1


def principal_components(generator: Generator, count: int = 64) -> Tensor:
    """Top principal components of W times their standard deviations, ``[count, 512]``."""
    g = torch.Generator().manual_seed(1234)
    w = generator.sample_w(20_000, generator=g, truncation=1.0) - generator.w_avg
    _, values, vectors = torch.linalg.svd(w, full_matrices=False)
    return vectors[:count] * (values[:count, None] / len(w) ** 0.5)


def simulated_inversion(generator: Generator, w_plus: Tensor, *, rng: torch.Generator) -> Tensor:
    """Return ``w_plus`` with the kind of error an inversion leaves: shared and row by row."""
    size = 0.35 * torch.rand((), generator=rng).item() ** 1.5
    shared = generator.sample_w(1, generator=rng, truncation=1.0) - generator.w_avg
    rows = torch.randn(w_plus.shape, generator=rng) * generator.w_std
    return w_plus + size * (0.6 * shared[:, None] + rows)


def sample_edits(
    directions: list[Direction], components: Tensor, rng: torch.Generator, num_ws: int
) -> list[tuple[int, float, Tensor]]:
    """Draw ``EDITS`` tuples of (direction index or UNNAMED, strength, change of W+ [16, 512])."""
    edits = []
    order = torch.randperm(len(directions), generator=rng).tolist()
    for k in range(EDITS):
        u = torch.rand(4, generator=rng)
        sign = 1.0 if u[0] < 0.5 else -1.0
        if u[1] < 0.25:
            component = components[int(u[2] * len(components))]
            first = int(u[3] * (num_ws - 3))
            last = min(num_ws, first + 2 + int(torch.randint(0, 7, (), generator=rng)))
            change = torch.zeros(num_ws, components.shape[1])
            strength = sign * (1.0 + 2.0 * u[2].item())
            change[first:last] = strength * component
            edits.append((UNNAMED, strength, change))
        else:
            index = order[k % len(order)]
            low, high = directions[index].range
            limit = high if sign > 0 else -low
            strength = sign * limit * (0.3 + 0.7 * u[2].item())
            zero = torch.zeros(1, num_ws, components.shape[1])
            edits.append((index, strength, directions[index].apply(zero, strength)[0]))
    return edits


@torch.no_grad()
def make_identity(
    generator: Generator, directions: list[Direction], components: Tensor, seed: int
) -> dict[str, Tensor]:
    """Make everything that is stored for one identity; the same seed gives the same bytes."""
    rng = torch.Generator().manual_seed(seed)
    truncation = 0.6 + 0.35 * torch.rand((), generator=rng).item()
    w = generator.broadcast(generator.sample_w(1, generator=rng, truncation=truncation)).clone()
    w_inverted = simulated_inversion(generator, w, rng=rng)
    edits = sample_edits(directions, components, rng, generator.num_ws)

    def render(code: Tensor) -> Tensor:
        image = generator.synthesis(code)
        assert isinstance(image, Tensor)
        return image

    def small(image: Tensor) -> Tensor:
        return to_bytes(F.interpolate(image, size=(256, 256), mode="area"))[0]

    photo, inverted = render(w), render(w_inverted)
    edited_small, regions = [], []
    stored: dict[str, Tensor] = {}
    for k, (_, _, change) in enumerate(edits):
        true_edit = render(w + change)
        regions.append((edit_region(photo, true_edit)[0] * 255).round().to(torch.uint8))
        edited = render(w_inverted + change)
        edited_small.append(small(edited))
        if k == 0:
            stored["true_edit"] = to_bytes(true_edit)[0]
            stored["edited"] = to_bytes(edited)[0]
    return stored | {
        "photo": to_bytes(photo)[0],
        "inverted": to_bytes(inverted)[0],
        "w": w[0],
        "w_inverted": w_inverted[0],
        "inverted_small": small(inverted),
        "edited_small": torch.stack(edited_small),
        "region": torch.stack(regions),
        "direction": torch.tensor([e[0] for e in edits]),
        "strength": torch.tensor([e[1] for e in edits]),
        "change": torch.stack([e[2] for e in edits]),
    }


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=whole_number(0), default=0)
    parser.add_argument("--count", type=whole_number(1), default=300)
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--threads", type=whole_number(1), default=2)
    parser.add_argument("--directions", type=Path, help="a file of fit_directions; else shipped")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    generator = load_default_generator()
    directions = list(load_directions(args.directions).values())
    components = principal_components(generator)
    for i in tqdm(range(args.first, args.first + args.count), desc="identities"):
        path = args.out / f"{i:06d}.safetensors"
        if path.exists():
            continue
        stored = make_identity(generator, directions, components, args.seed * 1_000_003 + i)
        with atomic_writer(path) as file:
            file.write(save({k: v.contiguous() for k, v in stored.items()}))


if __name__ == "__main__":
    main()
