"""Time against the number of vertices, and how much of the roofline is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .machine import ROOT

IMAGES = ROOT / "docs" / "images"
_PANELS = {
    "knn": ("KNN(25), C = 64", 64, False),
    "conv": ("HGNNConv on a given graph, C = 256", 256, True),
    "layer": ("whole dynamic layer, C = 256", 256, True),
    "streamed": ("H_S + abs(H_L), C = 256", 256, True),
    "lowrank": ("low-rank layer, C = 256", 256, True),
    "spmm": ("incidence_spmm, ragged hyperedges, C = 64", 64, True),
}
_TICKS = [256, 1024, 4096, 16384, 65536]


def draw(results: dict[str, Any], folder: Path = IMAGES, prefix: str = "kernels") -> list[Path]:
    """Write the two pictures; return their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 8, "axes.titlesize": 9, "svg.hashsalt": "kernels"}):
        paths = [folder / f"{prefix}-time.png", folder / f"{prefix}-roofline.png"]
        folder.mkdir(parents=True, exist_ok=True)
        _times(results, pyplot, paths[0])
        _rooflines(results, pyplot, paths[1])
    return paths


def _times(results: dict[str, Any], pyplot: Any, path: Path) -> None:
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 9), layout="constrained")
    for axis, (group, (title, channels, backward)) in zip(axes.flat, _PANELS.items(), strict=False):
        for name, points in series(results, group, channels, backward).items():
            ours = name.startswith("ours, ") and "stored" not in name
            style = {"linewidth": 2.2, "zorder": 3} if ours else {"linewidth": 1, "alpha": 0.85}
            nodes, seconds = zip(*points, strict=True)
            axis.plot(nodes, seconds, marker="o", markersize=3, label=name, **style)
        axis.set(title=f"{title}, {'f+b' if backward else 'f'}", xscale="log", yscale="log")
        axis.set_xticks(_TICKS, [f"{tick:,}" for tick in _TICKS])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.set(xlabel="vertices", ylabel="seconds", xlim=(200, 85000))
        axis.grid(True, which="major", alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _rooflines(results: dict[str, Any], pyplot: Any, path: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    labels: list[str] = []
    bars: dict[str, list[tuple[int, float]]] = {}
    for group, (_, channels, backward) in _PANELS.items():
        for record in results["groups"].get(group, {}).get("records", []):
            case = record["case"]
            if case["batch"] > 1 or (case["channels"], case["backward"]) != (channels, backward):
                continue
            place = len(labels)
            labels.append(f"{group} {case['nodes']}x{channels} {case['field'][0]}")
            for column, fraction in record["roofline"].items():
                bars.setdefault(column, []).append((place, fraction))
    width = 0.8 / max(len(bars), 1)
    for number, (column, points) in enumerate(bars.items()):
        places = [place + (number - (len(bars) - 1) / 2) * width for place, _ in points]
        axis.bar(places, [fraction for _, fraction in points], width, label=f"ours, {column}")
    axis.set_xticks(range(len(labels)), labels, rotation=75, ha="right", fontsize=6)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(ylabel="fraction of the roofline")
    if bars:
        axis.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def series(
    results: dict[str, Any], group: str, channels: int, backward: bool
) -> dict[str, list[tuple[int, float]]]:
    """Median seconds of everybody by number of vertices; smooth features where both were timed."""
    found: dict[str, dict[int, float]] = {}
    records = results["groups"].get(group, {}).get("records", [])
    for record in sorted(records, key=lambda one: one["case"]["field"]):
        case = record["case"]
        if case["batch"] > 1 or (case["channels"], case["backward"]) != (channels, backward):
            continue
        for name, entry in record["contenders"].items():
            if entry["kind"] != "anchor" and "seconds" in entry:
                found.setdefault(name, {})[case["nodes"]] = entry["seconds"]["median"]
    return {name: sorted(points.items()) for name, points in found.items()}
