"""Two processes under torchrun train what one does; a killed one ends the run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import Tensor

from gan_inversion.training.run_folder import load_checkpoint

from .test_kill import TINY, environment, figures

STEPS = 50


def torchrun(processes: int, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(TINY), "train", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def tensors(tree: object, name: str = "") -> dict[str, Tensor]:
    if isinstance(tree, Tensor):
        return {name: tree.double()}
    items = tree.items() if isinstance(tree, dict) else ()
    items = enumerate(tree) if isinstance(tree, (list, tuple)) else items
    return {k: v for key, value in items for k, v in tensors(value, f"{name}.{key}").items()}


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch statistics, a minibatch-stddev layer, dropout, R1 and the adaptive state included.

    Four shards, two in each process: the sums of the gradients are added in another order.
    """
    run = torchrun(2, tmp_path, STEPS, 4)
    monkeypatch.syspath_prepend(str(TINY.parent))
    import tiny_gan

    tiny_gan.train_tiny(tmp_path / "one", STEPS, 4)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert (tmp_path / "pid0").read_text() != (tmp_path / "pid1").read_text()
    one, two = tmp_path / "one", tmp_path / "run"
    a = tensors(load_checkpoint(one / "checkpoint.pt")["parts"])
    b = tensors(load_checkpoint(two / "checkpoint.pt")["parts"])
    assert a.keys() == b.keys() and len(a) > 40
    largest = max((a[name] - b[name]).abs().max().item() for name in a if a[name].numel())
    print(f"largest difference after {STEPS} steps: {largest:.1e}")
    assert largest < 1e-6
    for line, other in zip(figures(one), figures(two), strict=True):  # means over all shards
        assert line == pytest.approx(other, abs=1e-6)


def test_a_killed_peer_ends_the_run(tmp_path: Path) -> None:
    run = torchrun(2, tmp_path, 60, 2, 0.1)
    log, pid = tmp_path / "run" / "log.jsonl", tmp_path / "pid1"
    deadline = time.monotonic() + 90
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    while not (checkpoint.exists() and load_checkpoint(checkpoint)["step"] >= 4):
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()[0]
        time.sleep(0.1)
    start = time.monotonic()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    took = time.monotonic() - start
    print(f"ended {took:.1f} s after the kill")
    assert run.returncode != 0 and took < 60
    assert "SIGKILL" in output or "exitcode  : -9" in output, output
    assert log.exists() and 4 <= load_checkpoint(checkpoint)["step"] < 60


@pytest.mark.slow
def test_a_killed_peer_is_noticed_without_torchrun(tmp_path: Path) -> None:
    """The survivor itself raises, whoever started it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        env = environment() | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, str(TINY), "train", str(tmp_path), "500", "2", "0.05"]
        processes.append(
            subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    deadline = time.monotonic() + 90
    while not (checkpoint.exists() and load_checkpoint(checkpoint)["step"] >= 2):
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.1)
    processes[1].kill()
    start = time.monotonic()
    output, _ = processes[0].communicate(timeout=60)
    processes[1].communicate()
    assert processes[0].returncode == 1 and time.monotonic() - start < 60
    assert "Connection closed by peer" in output or "RuntimeError" in output, output
