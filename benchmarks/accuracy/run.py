"""Test accuracy on Cora and Citeseer beside the published figures.

    python benchmarks/accuracy/run.py --root DATA --work RUNS

Writes docs/results/node_classification.json and the tables of benchmarks/accuracy/README.md. An
interrupted run continues when called again with the same ``--work``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypergraph import datasets
from hypergraph.training import TrainingResult, train_node_classifier

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from settings import DATASETS, MODELS, PUBLISHED, SETTINGS, Setting, hypergcn_setting  # noqa: E402

RESULTS = ROOT / "docs" / "results" / "node_classification.json"
README = HERE / "README.md"
NAMES = {
    "hgnn": "HGNN",
    "unigcnii": "UniGCNII",
    "allset-transformer": "AllSetTransformer",
    "edhnn": "ED-HNN",
    "cora-cocitation": "Cora co-citation",
    "citeseer-cocitation": "Citeseer co-citation",
    "cora-coauthorship": "Cora co-authorship",
}
PROTOCOLS = {
    "random": "random 50/25/25 splits, test accuracy at the epoch of the best validation accuracy",
    "full": "as random, but every training goes through 500 epochs (HGNN on Cora co-citation only)",
    "hypergcn": "HyperGCN's ten splits (20 labels per class on Cora, 23 on Citeseer, no validation "
    "set), test accuracy after the last epoch",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder of npz files (default: downloaded)")
    parser.add_argument("--work", type=Path, required=True, help="folder for the finished runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--data", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="train, but write no results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for protocol in options.protocols:
        for model in options.models:
            for name in options.data:
                if protocol == "full" and (model, name) != ("hgnn", "cora-cocitation"):
                    continue
                data = datasets.load(name, options.root)
                setting = SETTINGS[model, name]
                if protocol == "full":
                    setting = replace(setting, config=replace(setting.config, patience=None))
                if protocol == "hypergcn":
                    setting = hypergcn_setting(model, setting)
                result = train_node_classifier(
                    model,
                    data,
                    model_options=setting.options,
                    config=setting.config,
                    runs=options.runs,
                    splits="published" if protocol == "hypergcn" else "random",
                    out=options.work / f"{protocol}-{model}-{name}.jsonl",
                )
                results.append(row(protocol, model, name, setting, result))
                print(line(results[-1]), flush=True)
    if options.dry:
        return
    report = {"about": about(options), "protocols": PROTOCOLS, "results": results}
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    write_tables(results)


def row(
    protocol: str, model: str, name: str, setting: Setting, result: TrainingResult
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "protocol": protocol,
        "model": model,
        "dataset": name,
        "test_mean": round(100 * result.mean, 2),
        "test_std": round(100 * result.std, 2),
        "options": setting.options,
        "training": asdict(setting.config),
        "origin": setting.origin,
        "runs": result.to_json()["runs"],
    }
    if protocol != "hypergcn":
        mean, std = PUBLISHED[model, name]
        entry["published_mean"], entry["published_std"] = mean, std
        entry["reached"] = bool(entry["test_mean"] >= round(mean - std, 2))
    return entry


def line(entry: dict[str, Any]) -> str:
    text = (
        f"{entry['protocol']:9}{entry['model']:20}{entry['dataset']:21}"
        f"{entry['test_mean']:6.2f} +- {entry['test_std']:.2f}"
    )
    if "published_mean" in entry:
        text += f"   published {entry['published_mean']:.2f} +- {entry['published_std']:.2f}"
    return text


def about(options: argparse.Namespace) -> dict[str, Any]:
    """What a reader needs to repeat the figures."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    ).stdout.strip()
    return {
        "command": "python benchmarks/accuracy/run.py --work runs/accuracy",
        "commit": commit,
        "seeds": f"0 to {options.runs - 1}: split, weights and dropout of run r are drawn from r",
        "deviation": "sample standard deviation over the runs",
        "reached": "mean at least the published mean less its deviation",
        "published": "ED-HNN (ICLR 2023), Table 2",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seconds": "wall-clock, on a machine shared with other work: no measure of speed",
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores, {options.threads} thread",
    }


def write_tables(results: list[dict[str, Any]]) -> None:
    """Put the tables between the markers of the README."""
    text = README.read_text(encoding="utf-8")
    for protocol in PROTOCOLS:
        chosen = [entry for entry in results if entry["protocol"] == protocol]
        if not chosen:
            continue
        start, end = f"<!-- {protocol} -->", f"<!-- end {protocol} -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        text = f"{before}{start}\n{table(chosen)}\n{end}{after}"
    README.write_text(text, encoding="utf-8")


def table(entries: list[dict[str, Any]]) -> str:
    data = [name for name in DATASETS if any(entry["dataset"] == name for entry in entries)]
    found = {(entry["model"], entry["dataset"]): entry for entry in entries}
    lines = [
        "| test accuracy, % | " + " | ".join(NAMES[name] for name in data) + " |",
        "|---|" + "---|" * len(data),
    ]
    for model in MODELS:
        if not any(entry["model"] == model for entry in entries):
            continue
        cells, published = [], []
        for name in data:
            entry = found.get((model, name))
            cells.append(
                "-" if entry is None else f"{entry['test_mean']:.2f} ± {entry['test_std']:.2f}"
            )
            if entry is not None and "published_mean" in entry:
                published.append(f"{entry['published_mean']:.2f} ± {entry['published_std']:.2f}")
        lines.append(f"| {NAMES[model]} | " + " | ".join(cells) + " |")
        if published:
            lines.append("| *published* | " + " | ".join(f"*{cell}*" for cell in published) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
