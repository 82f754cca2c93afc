"""Fit the 256 and 512 px outputs of MobileStyleGAN, which were pruned from the exported network.

    python -m gan_inversion.training.fit_heads --samples 400 --seed 0

Target: the Haar coefficients of the area-downsampled 1024 px output. Random patches of the
features are kept for every sample, then both heads are fitted with Adam. A tenth of the samples
is held out; its PSNR is printed and written to the card.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from .._arguments import whole_number
from ..generators import load_default_generator
from ..generators.mobile_stylegan import HEADS_FILE, FittedHead, MobileStyleGAN, haar_analysis

PATCH = 18  # a 16 px patch and one pixel of context for the 3x3 convolution
PATCHES = 4


@torch.no_grad()
def collect(
    generator: MobileStyleGAN, samples: int, seed: int
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Return ``{resolution: (features, styles, targets)}`` patches of random images."""
    g = torch.Generator().manual_seed(seed)
    stored: dict[int, tuple[list[Tensor], list[Tensor], list[Tensor]]] = {
        r: ([], [], []) for r in (256, 512)
    }
    for k in tqdm(range(samples), desc="sampling"):
        truncation = 0.5 + 0.5 * torch.rand((), generator=g).item()
        w = generator.broadcast(generator.sample_w(1, generator=g, truncation=truncation)).clone()
        if k % 3 == 0:  # style mixing: inversion moves the rows apart
            row = int(torch.randint(1, generator.num_ws, (), generator=g))
            w[:, row:] = generator.sample_w(1, generator=g, truncation=0.7)[:, None]
        if k % 3 == 1:
            spread = 0.3 * generator.w_std
            w = w + spread * torch.randn(w.shape, generator=g)
        image, features = generator.synthesis(w, return_features=True)
        assert isinstance(image, Tensor)
        for resolution, (xs, ws, ys) in stored.items():
            target = haar_analysis(F.interpolate(image, size=(resolution,) * 2, mode="area"))
            x = features[resolution // 2]
            for _ in range(PATCHES):
                top, left = torch.randint(0, x.shape[-1] - PATCH + 1, (2,), generator=g).tolist()
                window = (..., slice(top, top + PATCH), slice(left, left + PATCH))
                xs.append(x[window].contiguous())
                ys.append(target[window].contiguous())
                ws.append(w[:, {256: 9 + 2, 512: 11 + 2}[resolution]])
    return {r: (torch.cat(x), torch.cat(w), torch.cat(y)) for r, (x, w, y) in stored.items()}


def fit(x: Tensor, w: Tensor, y: Tensor, *, steps: int, seed: int) -> tuple[FittedHead, float]:
    """Fit one head; return it and its PSNR (dB, range 2) on the held-out tenth."""
    torch.manual_seed(seed)
    head = FittedHead(x.shape[1])
    held = max(PATCHES, len(x) // 10 // PATCHES * PATCHES)
    train = len(x) - held
    # Start from least squares on the centre pixels.
    fx = x[:train, :, 1:-1:3, 1:-1:3].permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    fy = y[:train, :, 1:-1:3, 1:-1:3].permute(0, 2, 3, 1).reshape(-1, 12)
    a = torch.cat([fx, torch.ones(len(fx), 1)], 1)
    gram = a.T @ a
    solution = torch.linalg.solve(
        gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(gram)), a.T @ fy
    )
    with torch.no_grad():
        head.linear.weight.copy_(solution[:-1].T[:, :, None, None])
        head.linear.bias.copy_(solution[-1])  # type: ignore[union-attr]
    optimiser = torch.optim.Adam(head.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    g = torch.Generator().manual_seed(seed)

    def error(i: Tensor | slice) -> Tensor:
        return (head.coefficients(x[i], w[i]) - y[i])[..., 1:-1, 1:-1]

    for _ in tqdm(range(steps), desc="fitting"):
        e = error(torch.randint(0, train, (32,), generator=g))
        loss = e.square().mean() + 0.1 * e.abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        # The Haar transform is orthogonal: a coefficient's error is a pixel's error.
        mse = error(slice(train, None)).square().mean().item()
    return head, 10 * math.log10(4 / mse)


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=whole_number(1), default=400)
    parser.add_argument("--steps", type=whole_number(1), default=800)
    parser.add_argument("--seed", type=whole_number(0), default=0)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    generator = load_default_generator()
    state: dict[str, Tensor] = {}
    figures = []
    for resolution, (x, w, y) in collect(generator, args.samples, args.seed).items():
        head, psnr = fit(x, w, y, steps=args.steps, seed=args.seed)
        figures.append(f"{resolution} px: {psnr:.1f} dB")
        state |= {f"{resolution}.{k}": v.half().contiguous() for k, v in head.state_dict().items()}
    metadata = {
        "what": "low-resolution heads of MobileStyleGAN-FFHQ, fitted on its own samples",
        "recipe": f"fit_heads --samples {args.samples} --steps {args.steps} --seed {args.seed}",
        "held_out_psnr": ", ".join(figures),
    }
    HEADS_FILE.parent.mkdir(exist_ok=True)
    save_file(state, HEADS_FILE, metadata)
    print(metadata["held_out_psnr"], f"({time.perf_counter() - start:.0f} s) -> {HEADS_FILE.name}")


if __name__ == "__main__":
    main()
