"""The page about files and other libraries: its code runs, its links are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch


def test_code_of_the_page_runs(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (project_root / "docs" / "io.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    missing = set()
    for block in blocks:  # later blocks may use the names of earlier ones
        torch.manual_seed(0)
        try:
            exec(compile(block, "docs/io.md", "exec"), names)
        except ImportError as error:
            library = str(error.name).partition(".")[0]
            assert library in {"torch_geometric", "xgi", "dhg", "networkx", "scipy"}, error
            missing.add(library)
    if missing:
        pytest.skip(f"skipped: {', '.join(sorted(missing))} not installed; the rest ran")


def test_links_exist(project_root: Path) -> None:
    folder = project_root / "docs"
    for target in re.findall(r"\]\(([^)#]+)\)", (folder / "io.md").read_text()):
        assert target.startswith("https://") or (folder / target).exists(), target


def test_every_function_is_on_the_page(project_root: Path) -> None:
    from hypergraph import io

    page = (project_root / "docs" / "io.md").read_text()
    assert [name for name in io.__all__ if f"`{name}`" not in page] == []
