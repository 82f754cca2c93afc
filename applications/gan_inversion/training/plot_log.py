"""Draw the curves of a training's log.

    python -m gan_inversion.training.plot_log FOLDER OUT.png --figures d_loss,g_loss FD-EffLite0

Every group of figures (names joined by commas) gets its own axes; all share the steps. Figures of
every step are drawn as means of up to 200 equal stretches, rare ones with a dot each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from hypergraph._files import atomic_writer

from ..errors import CheckpointError
from .run_folder import LOG

STRETCHES = 200


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a run's log; half a line at its end is left out.

    Raises:
        CheckpointError: there is no log, or a line in it is none.
    """
    path = folder / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not the log of a training: {error}") from error


def curve(records: Sequence[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Return steps and values of one figure, at most ``STRETCHES`` of each.

    Raises:
        ValueError: no line has such a figure.

    Example:
        >>> curve([{"step": 1, "loss": 2.0}, {"step": 2}], "loss")
        ([1.0], [2.0])
    """
    found = [(record["step"], record[name]) for record in records if name in record]
    if not found:
        known = sorted({key for record in records for key in record} - {"step"})
        raise ValueError(f"`figures`: no {name!r} in the log; it has {', '.join(known)}")
    length = -(-len(found) // STRETCHES)
    parts = [found[i : i + length] for i in range(0, len(found), length)]
    columns = ([sum(column) / len(part) for column in zip(*part, strict=True)] for part in parts)
    steps, values = zip(*columns, strict=True)
    return list(steps), list(values)


def plot_log(folder: Path, out: Path, groups: Sequence[Sequence[str]]) -> None:
    """Write a PNG with one pair of axes for each group of figures.

    Raises:
        CheckpointError: see :func:`read_log`.
        ValueError: a figure that is not in the log, or another suffix than ``.png``.
    """
    from matplotlib.figure import Figure

    if out.suffix != ".png":
        raise ValueError(f"`out` must end in .png, got {out}")
    records = read_log(folder)
    figure = Figure(figsize=(7, 2.2 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, names in zip(rows, groups, strict=True):
        for name in names:
            steps, values = curve(records, name)
            axes.plot(steps, values, label=name, marker="." if len(steps) < 50 else None)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("step")
    with atomic_writer(out) as file:
        figure.savefig(file, format="png", dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--figures", nargs="+", default=["loss"], metavar="NAME,NAME")
    args = parser.parse_args(argv)
    plot_log(args.folder, args.out, [group.split(",") for group in args.figures])


if __name__ == "__main__":
    main()
