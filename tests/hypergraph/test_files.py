"""Orphaned temporary files are found by their names, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypergraph._files import atomic_writer, remove_orphans


def test_orphans_go_and_everything_else_stays(tmp_path: Path) -> None:
    kept = ["a.pt", ".a.pt.tmp", "a.pt.0123456789abcdef.tmp", ".a.pt.0123456789ABCDEF.tmp", ".tmp"]
    for name in kept:
        (tmp_path / name).write_text("kept")
    (tmp_path / ".folder.0123456789abcdef.tmp").mkdir()
    writer = atomic_writer(tmp_path / "b.pt")
    with writer:  # the name that a writer really uses, while it is writing
        (orphan,) = remove_orphans(tmp_path)
        assert orphan.name.startswith(".b.pt.") and not orphan.exists()
        orphan.write_text("so that the writer can finish")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted([*kept, "b.pt"])
    assert remove_orphans(tmp_path) == []


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        remove_orphans(tmp_path / "nowhere")
