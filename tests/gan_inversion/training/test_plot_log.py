"""Curves of a log: means of stretches, rare figures, errors by name."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from gan_inversion.errors import CheckpointError
from gan_inversion.training.plot_log import STRETCHES, curve, main, read_log

RECORDS = [
    {"step": n, "loss": float(n)} | ({"fd": 1 / n} if n % 100 == 0 else {}) for n in range(1, 1001)
]


def write(folder, tail=""):
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS) + tail)


def test_curves_are_means_of_stretches():
    steps, losses = curve(RECORDS, "loss")
    assert len(steps) == STRETCHES and steps == losses  # the loss is the step
    assert steps[0] == 3.0 and steps[-1] == 998.0  # means of 1..5 and of 996..1000
    assert curve(RECORDS, "fd") == (
        [100.0 * n for n in range(1, 11)],
        pytest.approx([1 / (100 * n) for n in range(1, 11)]),
    )
    with pytest.raises(ValueError, match="no 'accuracy' in the log; it has fd, loss"):
        curve(RECORDS, "accuracy")


def test_the_command_writes_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    write(tmp_path, tail='{"step": 1001, "lo')  # a run that is going on
    assert len(read_log(tmp_path)) == 1000
    main([str(tmp_path), str(tmp_path / "curves.png"), "--figures", "loss", "fd,loss"])
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (840, 528)
    with pytest.raises(ValueError, match="`out` must end in .png"):
        main([str(tmp_path), str(tmp_path / "curves.pdf")])


def test_logs_that_are_none_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not the log of a training"):
        read_log(tmp_path)
    write(tmp_path, tail="not json\n")
    with pytest.raises(CheckpointError, match="not the log of a training"):
        read_log(tmp_path)
