"""Results of runs, kept in a file that survives an interrupt."""

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hypergraph._files import write_text

CONTENT = "content"  # key of the settings: SHA-256 of what was trained on
_BEGINS = '{"settings": '


@dataclass(frozen=True)
class RunResult:
    """One training.

    Attributes:
        run: number, from 0.
        seed: of the weights and the dropout.
        train: accuracy on the training vertices at ``epoch``.
        valid: accuracy on the validation vertices at ``epoch``; NaN without any.
        test: accuracy on the test vertices at ``epoch``.
        epoch: the first with the best validation accuracy, from 1; the last one without
            validation vertices.
        epochs: epochs trained.
        seconds: wall-clock time.
    """

    run: int
    seed: int
    train: float
    valid: float
    test: float
    epoch: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """All runs of one model on one data set.

    Attributes:
        settings: what was run, as written to the results file.
        runs: in order.
    """

    settings: dict[str, Any]
    runs: tuple[RunResult, ...] = field(default=())

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(self._test) if self.runs else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation (n - 1) of the test accuracy; 0 for a single run.

        NaN without runs, or without test vertices.
        """
        if not self.runs or any(math.isnan(test) for test in self._test):
            return math.nan
        return statistics.stdev(self._test) if len(self.runs) > 1 else 0.0

    @property
    def valid_mean(self) -> float:
        """Mean validation accuracy at the chosen epochs; NaN without validation vertices."""
        return statistics.fmean(run.valid for run in self.runs) if self.runs else math.nan

    @property
    def _test(self) -> list[float]:
        return [run.test for run in self.runs]

    def table(self) -> str:
        """The runs and their mean as text."""
        lines = ["run   epoch   train   valid    test"]
        for run in self.runs:
            lines.append(
                f"{run.run:3d}   {run.epoch:5d}  {_percent(run.train)}  {_percent(run.valid)}  "
                f"{_percent(run.test)}"
            )
        lines.append(f"test accuracy {100 * self.mean:.2f} +- {100 * self.std:.2f} %")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; NaN becomes None, which JSON can hold."""
        return {
            "settings": self.settings,
            "mean": _finite(self.mean),
            "std": _finite(self.std),
            "valid_mean": _finite(self.valid_mean),
            "runs": [
                {key: _finite(value) for key, value in asdict(run).items()} for run in self.runs
            ],
        }


class RunLog:
    """A JSON-lines file: the settings, then one line per finished run.

    A line is written by one system call and forced to disk, so that an interrupt leaves whole
    lines and at most one torn last line, which is dropped. Opening a file that holds other settings
    raises ValueError: figures of different experiments never mix.

    Args:
        path: the file; made with its folder if need be.
        settings: plain values that say what is run.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.settings = json.loads(json.dumps(settings))
        self.runs: dict[int, RunResult] = {}
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except UnicodeDecodeError as error:
            raise self._foreign(error) from error
        lines = text.split("\n")
        whole, torn = lines[:-1], lines[-1]
        if whole:
            self._read(whole)
        elif not torn.startswith(_BEGINS[: len(torn)]):  # somebody's file without a line break
            raise self._foreign("no line break")
        if torn or not whole:
            self._rewrite()

    def append(self, result: RunResult) -> None:
        """Add a finished run."""
        line = _line({"run": {key: _finite(value) for key, value in asdict(result).items()}})
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        self.runs[result.run] = result

    def _read(self, lines: Sequence[str]) -> None:
        try:
            entries = [json.loads(line) for line in lines]
            found = entries[0]["settings"]
            results = [_run(entry["run"]) for entry in entries[1:]]
            if not isinstance(found, dict):
                raise ValueError("its settings are no object")
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign(error) from error
        if CONTENT in self.settings:  # files of earlier versions lack it
            found.setdefault(CONTENT, self.settings[CONTENT])
        if found != self.settings:
            keys = sorted(
                key for key in {*found, *self.settings} if found.get(key) != self.settings.get(key)
            )
            told = ", ".join(
                f"{key}: {found.get(key)!r} there, {self.settings.get(key)!r} now" for key in keys
            )
            raise ValueError(
                f"{self.path} holds runs with other settings ({told}); name another file or "
                "delete it"
            )
        self.runs = {result.run: result for result in results}

    def _foreign(self, why: object) -> ValueError:
        return ValueError(
            f"{self.path} is not a results file of hypergraph.training ({why}); name another one"
        )

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [_line({"settings": self.settings})]
        for result in self.runs.values():
            lines.append(_line({"run": {k: _finite(v) for k, v in asdict(result).items()}}))
        write_text(self.path, "".join(lines))


def _run(values: dict[str, Any]) -> RunResult:
    known = {entry.name for entry in fields(RunResult)}
    if set(values) != known:
        raise ValueError(f"a run must have {sorted(known)}")
    filled: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items()}
    return RunResult(**filled)


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float) -> str:
    return "     -" if math.isnan(value) else f"{100 * value:6.2f}"
