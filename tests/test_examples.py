"""The examples run; at full length they beat what they compare themselves with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hypergraph import Hypergraph
from hypergraph.datasets import write_npz
from hypergraph.datasets.synthetic import planted_partition

SHORT = {
    "hyperedge_prediction": ["--epochs", "1", "--edges", "200"],
    "hypergraph_classification": ["--epochs", "1", "--count", "24"],
    "dynamic_layer": ["--epochs", "1", "--count", "16"],
    "mini_batches": ["--epochs", "1", "--nodes", "400"],
}


@pytest.fixture
def load(project_root: Path) -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        path = project_root / "examples" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"examples_{name}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("name", list(SHORT))
def test_example_runs_and_prints_a_table(
    name: str, load: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    results = load(name).main(SHORT[name])
    printed = capsys.readouterr().out
    assert len(results) >= 2
    for method in results:
        assert any(line.startswith(method) for line in printed.splitlines()), method


def test_examples_follow_their_seed(load: Callable[[str], ModuleType]) -> None:
    main = load("hyperedge_prediction").main
    first, second = main([*SHORT["hyperedge_prediction"]]), main([*SHORT["hyperedge_prediction"]])
    assert first == second
    assert main([*SHORT["hyperedge_prediction"], "--seed", "1"]) != first


def test_hyperedge_prediction_counts_ties_and_repeats_once(
    load: Callable[[str], ModuleType],
) -> None:
    module = load("hyperedge_prediction")
    labels = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    # One score for all says nothing, whichever comes first.
    assert module.average_precision(torch.zeros(5), labels) == pytest.approx(0.4)
    assert module.average_precision(torch.zeros(5), labels.flip(0)) == pytest.approx(0.4)
    h = Hypergraph.from_edges([[0], [0, 1], [1, 2], [1, 0], [2, 1, 2], [], [0, 1, 2]])
    assert module.different(h).tolist() == [1, 2, 6]


def test_hyperedge_prediction_reads_a_file(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    data = planted_partition(60, 3, 120, (2, 4), num_features=3, seed=0)
    path = write_npz(data, tmp_path / "mine.npz")
    arguments = ["--data", str(path), "--epochs", "1", "--negatives", "motif"]
    assert len(load("hyperedge_prediction").main(arguments)) == 3


def test_figures_of_merit(load: Callable[[str], ModuleType]) -> None:
    module = load("hyperedge_prediction")
    scores = torch.tensor([0.9, 0.8, 0.7, 0.7, 0.1])
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])
    # Pairs won: 3 + (0 + 1/2 + 1) of 6. Precision at the hyperedges: 1/1, 2/3.
    assert module.area_under_curve(scores, labels) == pytest.approx(4.5 / 6)
    assert module.average_precision(scores[[0, 1, 2, 4]], labels[[0, 1, 2, 4]]) == pytest.approx(
        (1 + 2 / 3) / 2
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SHORT))
def test_example_beats_its_baselines(name: str, load: Callable[[str], ModuleType]) -> None:
    results = load(name).main([])
    values = [sum(row.values()) if isinstance(row, dict) else row for row in results.values()]
    assert values[-1] > max(values[:-1])
