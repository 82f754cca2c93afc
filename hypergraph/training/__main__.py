"""``hypergraph-train``: train a node classifier from the command line."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

import torch

from hypergraph import datasets, models
from hypergraph._checks import check_positive_int
from hypergraph.datasets import HypergraphDataset, label_features, read_npz
from hypergraph.training.node_classifier import TrainingConfig, train_node_classifier


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: default those of the process.

    Returns:
        The exit status: 0; 2 where an argument does not fit; 130 after an interrupt.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(_listing())
        return 0
    if options.data is None or options.model is None:
        parser.error("--data and --model are required; --list shows what there is")
    try:
        if options.threads:
            torch.set_num_threads(check_positive_int("--threads", options.threads))
        data = _load(options)
        if data.x is None:
            raise ValueError(
                f"{options.data} has no features; --label-noise 1.0 makes some of its labels, "
                "another file may hold some"
            )
        result = train_node_classifier(
            options.model,
            data,
            model_options=_model_options(options),
            config=TrainingConfig(
                epochs=options.epochs,
                lr=options.lr,
                weight_decay=options.weight_decay,
                patience=options.patience,
                self_loops=options.self_loops,
                normalize_features=options.normalize_features,
            ),
            runs=options.runs,
            seed=options.seed,
            splits=options.splits,
            out=options.out,
            device=options.device,
            quiet=options.quiet,
        )
    except KeyboardInterrupt:
        kept = f"; finished runs are in {options.out}, the same command continues"
        print(f"interrupted{kept if options.out else ''}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"hypergraph-train: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result.to_json(), indent=1) if options.json else result.table())
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = TrainingConfig()
    parser = argparse.ArgumentParser(
        prog="hypergraph-train",
        description="Train a node classifier several times and report its test accuracy.",
    )
    add = parser.add_argument
    add("--list", action="store_true", help="show the data sets and models and stop")
    add("--data", metavar="NAME|FILE", help="a data set's name, or an npz file")
    add("--root", type=Path, help=f"folder of npz files (default {datasets.default_root()})")
    add("--no-download", dest="download", action="store_false", help="never download a data set")
    add("--label-noise", type=float, help="features made of labels and this much noise")
    add("--model", metavar="NAME", help="a model's name")
    add(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="another value for a default of the model, for example hidden_channels=256",
    )
    add("--runs", type=int, default=10, help="trainings (default %(default)s)")
    add("--seed", type=int, default=0, help="of the first run; the next ones count on")
    add(
        "--splits",
        choices=("random", "published"),
        default="random",
        help="50/25/25, or the data's",
    )
    add("--epochs", type=int, default=defaults.epochs, help="default %(default)s")
    add("--lr", type=float, default=defaults.lr, help="learning rate (default %(default)s)")
    add("--weight-decay", type=float, default=defaults.weight_decay, help="default %(default)s")
    add("--patience", type=int, help="stop after so many epochs without a better validation")
    add(
        "--no-self-loops",
        dest="self_loops",
        action="store_false",
        help="do not add {v} for vertices without it",
    )
    add("--normalize-features", action="store_true", help="divide features by their row sums")
    add("--out", type=Path, help="results file; the same command continues it")
    add("--json", action="store_true", help="print JSON in place of a table")
    add("--device", default="cpu", help="default %(default)s")
    add("--threads", type=int, default=0, help="CPU threads (default torch's)")
    add("--quiet", action="store_true", help="no progress")
    return parser


def _load(options: argparse.Namespace) -> HypergraphDataset:
    if options.data.endswith(".npz"):
        data = read_npz(options.data)
        if options.label_noise is not None:
            data = replace(data, x=label_features(data.y, noise=options.label_noise))
        return data

    def report(done: int, total: int | None) -> None:
        whole = "" if total is None else f" of {total >> 10}"
        print(f"\rdownloading {options.data}: {done >> 10}{whole} KiB ", end="", file=sys.stderr)

    return datasets.load(
        options.data,
        options.root,
        download=options.download,
        label_noise=options.label_noise,
        report=None if options.quiet else report,
    )


def _model_options(options: argparse.Namespace) -> dict[str, Any]:
    config = models.model_class(options.model).config_class
    kinds = {field.name: field.type for field in fields(config)}
    chosen: dict[str, Any] = {}
    for item in options.set:
        name, sign, text = item.partition("=")
        if not sign:
            raise ValueError(f"`--set` takes OPTION=VALUE, got {item!r}")
        try:
            value = json.loads(text.lower() if text in ("True", "False", "None") else text)
        except json.JSONDecodeError:
            value = text
        if kinds.get(name) is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        chosen[name] = value
    return chosen


def _listing() -> str:
    lines = ["data sets:"]
    for name in datasets.names():
        entry = datasets.info(name)
        notes = "" if entry.has_features else ", no features: --label-noise"
        home = "downloaded when needed" if entry.downloadable else f"needs {entry.file} in --root"
        lines.append(f"  {name:24}{home}{notes}")
    lines.append("models:")
    for name in models.names():
        config = models.model_class(name).config_class
        defaults = ", ".join(f"{field.name}={_default(field)!r}" for field in fields(config)[2:])
        lines.append(f"  {name:24}{defaults}")
    return "\n".join(lines)


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


if __name__ == "__main__":
    sys.exit(main())
