"""Time StyleGAN2's generator beside the published formulation, on this machine's CPU.

    python -m benchmarks.generator                          # 256 and 1024 px, batches 1 and 4
    python -m benchmarks.generator --size 256 --batch 1 --rounds 5

Both take the same weights (config-f widths) and must agree before anything is timed. Rounds are
interleaved and the order alternates; figures are CPU time on the given number of threads: medians,
and the median, lowest and highest of the rounds' ratios. Cases:

forward   no gradients
frozen    forward and backward to the code, as an inversion does
training  forward and backward to the code and all weights
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gan_inversion.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator

from . import reference

RIVALS = {
    "grouped": lambda g, w: reference.synthesis(g, w),
    "grouped + our filter": lambda g, w: reference.synthesis(g, w, depthwise=True),
}
CASES = ("forward", "frozen", "training")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{options.threads} thread(s); seconds of CPU time, ratio = rival / ours"
    )
    rows = []
    for size in options.size:
        generator = build(size, options.multiplier)
        for batch in options.batch:
            w = torch.randn(batch, generator.num_ws, 512)
            agree(generator, w[:1])
            for case in options.case:
                for row in race(generator, w, case, options.rival, options.rounds):
                    rows.append({"size": size, "batch": batch, "case": case, **row})
                    print(
                        f"{size:5d} px  batch {batch}  {case:8s}  ours {row['ours']:7.2f}  "
                        f"{row['rival']:20s} {row['seconds']:7.2f}  ratio {row['ratio']:5.2f}  "
                        f"({row['lowest']:.2f} to {row['highest']:.2f}, {row['rounds']} rounds)",
                        flush=True,
                    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator")
    parser.add_argument("--size", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rival", nargs="+", choices=RIVALS, default=["grouped"])
    parser.add_argument("--multiplier", type=float, default=2, help="2: config-f, 1: config-e")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def build(size: int, multiplier: float) -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(StyleGAN2Config.official(size, multiplier))
    for layer in generator.convs:
        torch.nn.init.constant_(layer.noise_strength, 0.1)
    return generator


def agree(generator: StyleGAN2Generator, w: Tensor) -> None:
    with torch.no_grad():
        ours = generator(w)
        for name, rival in RIVALS.items():
            theirs = rival(generator, w)
            error = float((ours - theirs).abs().max() / theirs.abs().max())
            if error > 1e-5:
                raise SystemExit(f"{name} and ours differ by {error:.1e} of the largest value")


def run(generator: StyleGAN2Generator, w: Tensor, case: str, render: Callable) -> float:
    generator.requires_grad_(case == "training")
    started = time.process_time()
    if case == "forward":
        with torch.no_grad():
            render(generator, w)
    else:
        render(generator, w.clone().requires_grad_()).square().mean().backward()
    seconds = time.process_time() - started
    generator.zero_grad()
    return seconds


def race(
    generator: StyleGAN2Generator, w: Tensor, case: str, rivals: list[str], rounds: int
) -> list[dict]:
    entries: dict[str, Callable] = {"ours": lambda g, v: g(v)}
    entries |= {name: RIVALS[name] for name in rivals}
    times: dict[str, list[float]] = {name: [] for name in entries}
    for i in range(rounds):
        for name in list(entries) if i % 2 == 0 else reversed(entries):
            times[name].append(run(generator, w, case, entries[name]))
    rows = []
    for name in rivals:
        ratios = [theirs / ours for theirs, ours in zip(times[name], times["ours"], strict=True)]
        rows.append(
            {
                "rival": name,
                "ours": statistics.median(times["ours"]),
                "seconds": statistics.median(times[name]),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "rounds": rounds,
            }
        )
    return rows


if __name__ == "__main__":
    main()
