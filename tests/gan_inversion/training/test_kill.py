"""A run that is killed, again and again and anywhere, ends like one that was not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gan_inversion.training.run_folder import digest, load_checkpoint

ROOT = Path(__file__).resolve().parents[3]
TINY = Path(__file__).with_name("tiny_gan.py")


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "applications")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


class Server:
    """The forking process of ``tiny_gan.py``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(TINY), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self, folder: Path, steps: int, **job: Any) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), "steps": steps} | job) + "\n")
        self.process.stdin.flush()
        return int(self.answer())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(30)


def trained(folder: Path) -> str:
    """Hash of everything that was trained."""
    return digest(load_checkpoint(folder / "checkpoint.pt")["parts"])


def figures(folder: Path) -> list[dict[str, float]]:
    """The log without the times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill_many(server: Server, folder: Path, kills: int, steps: int, longest: float) -> list[int]:
    """Kill at random moments, resume, compare; return how far each killed process had come."""
    assert server(folder / "whole", steps) == 0
    whole, log = trained(folder / "whole"), figures(folder / "whole")
    assert [line["step"] for line in log] == list(range(1, steps + 1))
    rng = random.Random(0)
    reached, orphans, runs = [], 0, 0
    while len(reached) < kills:
        killed = folder / f"killed{runs}"
        runs += 1
        while len(reached) < kills:
            if server(killed, steps, kill_after=rng.uniform(0, longest)) == 0:
                break  # it was done before
            path = killed / "checkpoint.pt"
            reached.append(load_checkpoint(path)["step"] if path.exists() else -1)
            if len(reached) > 1 and reached[-1] == reached[-2]:
                longest *= 1.5  # a busy machine: the process had hardly begun
            orphans += sum(n.endswith(".tmp") for n in names(killed)) if killed.exists() else 0
        assert server(killed, steps) == 0
        assert trained(killed) == whole
        assert figures(killed) == log  # no line is missing, double or different
        assert names(killed) == ["checkpoint.pt", "log.jsonl"]
    print(
        f"{kills} kills in {runs} runs, at steps {reached}, {orphans} temporary files left behind"
    )
    return reached


def test_twenty_kills_at_random_points(server: Server, tmp_path: Path) -> None:
    reached = kill_many(server, tmp_path, kills=20, steps=150, longest=0.5)
    # The kills were in the run, not before or after it.
    assert len({step for step in reached if 0 < step < 150}) >= 5


@pytest.mark.slow
def test_many_kills_at_random_points(server: Server, tmp_path: Path) -> None:
    kill_many(server, tmp_path, kills=200, steps=400, longest=0.8)


@pytest.mark.parametrize("moment", ["before", "half", "written", "moved"])
def test_killed_around_the_writing_of_a_checkpoint(
    moment: str, server: Server, tmp_path: Path
) -> None:
    """Every stage of the writer, by name and not by luck."""
    run = tmp_path / "run"
    assert server(run, 12, die_at=moment) == -9
    left = [n for n in names(run) if n.endswith(".tmp")]
    assert len(left) == (1 if moment != "moved" else 0)
    # Saves are at steps 0, 2, 4, 6: the fourth counts once it is in its place.
    assert load_checkpoint(run / "checkpoint.pt")["step"] == (6 if moment == "moved" else 4)
    assert server(run, 12) == 0
    assert server(tmp_path / "whole", 12) == 0
    assert trained(run) == trained(tmp_path / "whole")
    assert figures(run) == figures(tmp_path / "whole")
    assert names(run) == ["checkpoint.pt", "log.jsonl"]


def test_a_full_disk_keeps_the_old_checkpoint(server: Server, tmp_path: Path) -> None:
    """The limit on the size of files stops the real writer in the middle, as a full disk does."""
    assert server(tmp_path / "run", 12, fail_at=5) == 1
    error = (tmp_path / "run" / "error.txt").read_text()
    assert "CheckpointError" in error and "could not be written" in error, error
    assert "the checkpoint before it was kept" in error
    (tmp_path / "run" / "error.txt").unlink()
    assert names(tmp_path / "run") == ["checkpoint.pt", "log.jsonl"]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 4
    assert server(tmp_path / "run", 12) == 0  # there is room again
    assert server(tmp_path / "whole", 12) == 0
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
