"""The folder of a training run: its checkpoint, its log, and what a killed process left there.

A checkpoint is replaced atomically and carries a SHA-256 of its own contents, so that neither a
kill nor a full disk nor a flipped bit ends in weights that nobody trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hypergraph._files import remove_orphans

from ..checkpoints.files import write_torch
from ..errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

FORMAT = 2  # of the checkpoint's own entries
CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


def digest(tree: Any) -> str:
    """Return the SHA-256 of nested dicts, lists, tensors and plain values; dicts in any order.

    Example:
        >>> digest({"a": 1, "b": [2.0]}) == digest({"b": [2.0], "a": 1})
        True
    """
    sha = hashlib.sha256()
    _add(sha, tree)
    return sha.hexdigest()


def _add(sha: Any, tree: Any) -> None:
    # The kind and the length go before the content: [[1], 2] is not [[1, 2]].
    if isinstance(tree, Tensor):
        value = tree.detach().cpu().contiguous()
        sha.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(tree, Mapping):
        sha.update(f"dict {len(tree)} ".encode())
        for key in sorted(tree, key=repr):
            sha.update(f"{key!r} ".encode())
            _add(sha, tree[key])
    elif isinstance(tree, (list, tuple)):
        sha.update(f"list {len(tree)} ".encode())
        for value in tree:
            _add(sha, value)
    else:
        sha.update(f"{type(tree).__name__} {tree!r} ".encode())


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint next to its place and move it there.

    Raises:
        CheckpointError: it could not be written (a full disk, for example); an old one is kept.
    """
    state = {**state, "format": FORMAT}
    state["sha256"] = digest(state)
    try:
        write_torch(path, state)
    except OSError as error:
        kept = "the checkpoint before it was kept" if path.exists() else "there is none before it"
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({error}); {kept}: make room and start "
            "the same command again"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU; nothing in the file is run.

    Raises:
        CheckpointError: the file is damaged, of another program, or not to be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise ten different types
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read ({type(error).__name__}: {first}); put a "
            "copy in its place, or use another folder"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a checkpoint of this version's trainer; use another folder"
        )
    stored = state.pop("sha256", None)
    if stored != digest(state):
        raise CheckpointError(
            f"{path}: damaged, its content does not match its SHA-256; put a copy in its place, "
            "or use another folder"
        )
    return state


class RunFolder:
    """One process's hold on a folder: locked, without orphans, with a log that can be cut.

    Args:
        folder: made if it is not there.

    Raises:
        CheckpointError: another process is training in it, or it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / CHECKPOINT
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The lock lies on the log: it is gone with the process, however that ends.
            self.log: BinaryIO = (folder / LOG).open("a+b")
        except OSError as error:
            raise CheckpointError(
                f"`folder` must be a folder that can be written to, got {folder}: {error}"
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(self.log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self.log.close()
                raise CheckpointError(
                    f"{folder}: another process is training in this folder; wait for it or use "
                    "another folder"
                ) from error
            except OSError:
                pass  # a file system without locks: as on Windows
        remove_orphans(folder)

    def close(self) -> None:
        """Let go of the folder."""
        # What cannot be written now was written at the last checkpoint, or has raised before.
        with contextlib.suppress(OSError):
            self.log.close()

    def cut_log(self, step: int) -> None:
        """Drop the log's lines from the first that is later than ``step`` or damaged.

        Those steps are done again; so that no line is there twice.
        """
        self.log.seek(0)
        kept = 0
        for line in self.log:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept += len(line)
        self.log.truncate(kept)
        self.log.seek(0, os.SEEK_END)

    def write_log(self, record: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            CheckpointError: it could not be written.
        """
        with self._disk_errors():
            self.log.write((json.dumps(record) + "\n").encode())

    def flush_log(self) -> None:
        """See that the lines so far are in the file.

        Raises:
            CheckpointError: they could not be written.
        """
        with self._disk_errors():
            self._flush()

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint; the lines of its steps are in the log before it is there."""
        self.flush_log()
        save_checkpoint(state, self.checkpoint)

    def _flush(self) -> None:
        self.log.flush()
        os.fsync(self.log.fileno())

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{self.folder / LOG}: cannot be written ({error}); the checkpoint was kept: make "
                "room and start the same command again"
            ) from error
