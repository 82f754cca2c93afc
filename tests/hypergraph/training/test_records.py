import json
import math
from dataclasses import replace

import pytest
import torch

from hypergraph.training import (
    RunLog,
    RunResult,
    TrainingConfig,
    TrainingResult,
    train_node_classifier,
)
from hypergraph.training.node_classifier import _content

CONFIG = TrainingConfig(epochs=4)


def train(data, path, runs, **options):
    options = {"config": CONFIG, "model_options": {"hidden_channels": 4}, **options}
    return train_node_classifier("hgnn", data, runs=runs, out=path, quiet=True, **options)


def result(run, valid=0.5):
    return RunResult(run, run, 0.75, valid, 0.25, 3, 4, 0.5)


def test_a_second_call_continues(planted, tmp_path):
    path = tmp_path / "folder" / "runs.jsonl"
    trained = []
    first = train(planted, path, 2, on_trained=lambda model, run: trained.append(run.run))
    again = train(planted, path, 2, on_trained=lambda model, run: trained.append(run.run))
    assert trained == [0, 1] and again == first
    longer = train(planted, path, 4, on_trained=lambda model, run: trained.append(run.run))
    assert trained == [0, 1, 2, 3] and longer.runs[:2] == first.runs
    assert train(planted, path, 1).runs == first.runs[:1]


def test_an_interrupt_costs_the_current_run_only(planted, tmp_path):
    path = tmp_path / "runs.jsonl"
    whole = train(planted, tmp_path / "whole.jsonl", 3)

    def interrupt(model, run):
        if run.run == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(planted, path, 3, on_trained=interrupt)
    done = train(planted, path, 3)
    assert [replace(r, seconds=0) for r in done.runs] == [replace(r, seconds=0) for r in whole.runs]


def test_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RunLog(path, {"a": 1})
    log.append(result(0))
    log.append(result(1, valid=math.nan))
    text = path.read_text()
    path.write_text(text + '{"run": {"ru')
    again = RunLog(path, {"a": 1})
    assert list(again.runs) == [0, 1] and again.runs[0] == result(0)
    assert math.isnan(again.runs[1].valid)
    assert path.read_text() == text
    again.append(result(2))
    assert [json.loads(line) for line in path.read_text().splitlines()][3]["run"]["run"] == 2
    path.write_text(text[:10])  # torn within the first line: nothing was run yet
    assert RunLog(path, {"a": 1}).runs == {}
    assert json.loads(path.read_text()) == {"settings": {"a": 1}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]


def test_other_settings_do_not_mix(planted, tmp_path):
    path = tmp_path / "runs.jsonl"
    train(planted, path, 1)
    before = path.read_text()
    for options in (
        {"config": replace(CONFIG, lr=0.5)},
        {"model_options": {"hidden_channels": 5}},
        {"seed": 1},
        {"splits": "published"},
        {"fractions": (0.6, 0.2, 0.2)},
    ):
        with pytest.raises(ValueError, match="holds runs with other settings"):
            train(planted, path, 1, **options)
    for data in (
        replace(planted, x=planted.x + 1),
        replace(planted, y=2 - planted.y),
        replace(planted, hypergraph=planted.hypergraph.drop_edges([0])),
    ):
        with pytest.raises(ValueError, match="other settings .content"):
            train(data, path, 1)
    assert path.read_text() == before
    train(planted, tmp_path / "published", 1, splits="published")
    with pytest.raises(ValueError, match="other settings .content"):
        other = replace(planted, splits=planted.splits[:1])
        train(other, tmp_path / "published", 1, splits="published")


def test_splits_without_validation_have_a_content(planted):
    """An empty list may have the stride 0, as one read from an array has."""
    split = planted.splits[0]
    empty = torch.zeros(1, dtype=torch.long).expand(0)
    one = split.train[:1].squeeze(0).expand(1)
    assert empty.stride() == one.stride() == (0,)
    known = {
        _content(planted, [replace(split, valid=valid, train=train)])
        for valid in (empty, torch.tensor([], dtype=torch.long))
        for train in (one, split.train[:1])
    }
    assert len(known) == 1 and known != {_content(planted, [split])}


def test_a_file_from_before_the_content_was_noted_is_continued(planted, tmp_path):
    path = tmp_path / "runs.jsonl"
    first = train(planted, path, 1)
    lines = path.read_text().splitlines()
    settings = json.loads(lines[0])
    del settings["settings"]["content"]
    path.write_text("\n".join([json.dumps(settings), *lines[1:], ""]))
    assert train(planted, path, 1).runs == first.runs


def test_a_lambda_has_no_name_to_go_on_by(planted, tmp_path):
    with pytest.raises(ValueError, match="`out` needs a model with a name"):
        train_node_classifier(lambda i, o: None, planted, out=tmp_path / "runs.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        "{}\n",
        '{"settings": {"a": 1}}\n{"run": {"run": 0}}\n',
        '{"settings": [1]}\n',
        "[1]\n",
        "3\n",
        '{"mine": "a JSON file without a line break"}',
        "one line",
        "\udcff\n",  # no UTF-8
    ],
)
def test_other_files_are_refused_and_kept(tmp_path, text):
    path = tmp_path / "other.txt"
    content = text.encode(errors="surrogateescape")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a results file"):
        RunLog(path, {"a": 1})
    assert path.read_bytes() == content


def test_statistics_of_no_run_and_of_one():
    none = TrainingResult({})
    assert math.isnan(none.mean) and math.isnan(none.std) and math.isnan(none.valid_mean)
    assert none.to_json()["mean"] is None
    one = TrainingResult({}, (result(0),))
    assert (one.mean, one.std, one.valid_mean) == (0.25, 0.0, 0.5)
    untested = TrainingResult({}, (replace(result(0), test=math.nan), result(1)))
    assert math.isnan(untested.mean) and math.isnan(untested.std)
