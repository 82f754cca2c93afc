import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace

import pytest

from hypergraph import datasets
from hypergraph.datasets import write_npz
from hypergraph.training.__main__ import main
from hypergraph.training.progress import Progress, bar


@pytest.fixture(scope="module")
def file(planted, tmp_path_factory):
    return str(write_npz(planted, tmp_path_factory.mktemp("data") / "planted.npz"))


def test_prints_a_table_and_continues_from_a_file(file, tmp_path, capsys):
    out = tmp_path / "runs.jsonl"
    arguments = ["--data", file, "--model", "hgnn", "--epochs", "5", "--lr", "0.05", "--runs", "2"]
    arguments += ["--set", "hidden_channels=4", "--set", "dropout=0", "--set", "activation=elu"]
    assert main([*arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["run", "epoch", "train", "valid", "test"]
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert lines[3].startswith("test accuracy ") and lines[3].endswith("%")
    assert "HGNN on planted: test" in shown.err
    settings = json.loads(out.read_text().splitlines()[0])["settings"]
    expected = {"hidden_channels": 4, "dropout": 0.0, "activation": "elu"}
    assert settings["model_options"] == expected
    assert isinstance(settings["model_options"]["dropout"], float)

    before = out.read_text()
    assert main([*arguments, "--out", str(out), "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.err == "" and out.read_text() == before
    assert len(report["runs"]) == 2
    assert lines[3] == f"test accuracy {100 * report['mean']:.2f} +- {100 * report['std']:.2f} %"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cora", "--model", "hgnn"], "`name` must be one of"),
        (["--data", "FILE", "--model", "gnn"], "`model` must be one of"),
        (["--data", "absent.npz", "--model", "hgnn"], "there is none at absent.npz"),
        (["--data", "FILE", "--model", "hgnn", "--set", "hidden"], "takes OPTION=VALUE"),
        (["--data", "FILE", "--model", "hgnn", "--set", "width=3"], "`width` is not an option"),
        (["--data", "FILE", "--model", "hgnn", "--set", "dropout=2"], "`dropout` must lie in"),
        (["--data", "FILE", "--model", "hgnn", "--lr", "-1"], "`lr` must be positive"),
        (["--data", "FILE", "--model", "hgnn", "--runs", "0"], "`runs` must be at least 1"),
        (["--data", "FILE", "--model", "hgnn", "--threads", "-1"], "`--threads` must be at least"),
        (["--data", "FILE", "--model", "hgnn", "--device", "abacus"], "`device` 'abacus' cannot"),
    ],
)
def test_wrong_arguments_end_with_one_line(file, arguments, message, capsys):
    assert main([file if part == "FILE" else part for part in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err
    assert shown.err.startswith("hypergraph-train: ") and shown.err.count("\n") == 1


def test_data_without_features_say_which_argument_gives_some(planted, tmp_path, capsys):
    path = write_npz(replace(planted, x=None), tmp_path / "bare.npz")
    arguments = ["--data", str(path), "--model", "hgnn", "--epochs", "1", "--runs", "1", "--quiet"]
    assert main(arguments) == 2
    assert "bare.npz has no features; --label-noise" in capsys.readouterr().err
    assert main([*arguments, "--label-noise", "1"]) == 0


def test_lists_what_there_is(capsys):
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "cora-cocitation" in shown and "hidden_channels=128" in shown
    assert "conv_options={}" in shown
    with pytest.raises(SystemExit) as caught:
        main(["--data", "zoo"])
    assert caught.value.code == 2 and "--list shows" in capsys.readouterr().err


def test_published_splits_and_label_noise(file, capsys):
    arguments = ["--data", file, "--model", "hgnn", "--epochs", "3", "--runs", "1", "--quiet"]
    assert main([*arguments, "--splits", "published", "--json"]) == 0
    published = json.loads(capsys.readouterr().out)
    assert published["settings"]["splits"] == "published"
    noise = ["--label-noise", "0", "--epochs", "40", "--lr", "0.05", "--json"]
    assert main([*arguments, *noise]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] > 0.95


def test_a_data_set_by_name_and_threads(planted, tmp_path, monkeypatch, capsys):
    write_npz(planted, tmp_path / "zoo.npz")
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)

    def load(name, root, *, download, label_noise, report):
        report(2048, 4096)
        report(2048, None)
        return real(name, root, download=download, label_noise=label_noise)

    real = datasets.load
    monkeypatch.setattr(datasets, "load", load)
    arguments = ["--data", "zoo", "--root", str(tmp_path), "--model", "hgnn", "--epochs", "1"]
    assert main([*arguments, "--runs", "1", "--threads", "3"]) == 0
    shown = capsys.readouterr().err
    assert threads == [3]
    assert "downloading zoo: 2 of 4 KiB" in shown and "downloading zoo: 2 KiB" in shown


def test_an_interrupt_is_told(file, tmp_path, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hypergraph.training.__main__.train_node_classifier", interrupt)
    assert main(["--data", file, "--model", "hgnn"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_says_how_to_go_on(file, tmp_path, source_environment):
    out = tmp_path / "runs.jsonl"
    command = [sys.executable, "-m", "hypergraph.training", "--data", file, "--model", "hgnn"]
    command += ["--epochs", "100000", "--out", str(out), "--set", "hidden_channels=4"]
    # A shell may have started pytest with interrupts ignored, which children inherit.
    process = subprocess.Popen(
        command,
        env={**source_environment, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # 130 in a shell either way: Python ends by the signal itself if the interrupt came while text
    # was executed, as it is when dataclasses are imported.
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted; finished runs are in" in errors and "Traceback" not in errors


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_rewrites_a_line_on_a_terminal_only():
    terminal, pipe = _Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with Progress(stream=stream, interval=0) as progress:
            progress.update("longer text")
            progress.update("short")
            progress.line("done")
            progress.update("more")
    assert terminal.getvalue() == "\rlonger text\rshort      \rdone \n\rmore\n"
    assert pipe.getvalue() == "longer text\nshort\ndone\nmore\n"

    rare, quiet = io.StringIO(), io.StringIO()
    with Progress(stream=rare, interval=3600) as progress:
        progress.update("never shown")
    with Progress(quiet=True, stream=quiet, interval=0) as progress:
        progress.update("a")
        progress.line("b")
    assert rare.getvalue() == quiet.getvalue() == ""


def test_bar():
    assert [bar(share, 4) for share in (-1, 0, 0.5, 1, 2)] == [
        "....",
        "....",
        "##..",
        "####",
        "####",
    ]


def test_the_command_has_its_name(project_root):
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["hypergraph-train"].split(":")
    assert getattr(importlib.import_module(module), function) is main
