from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

MODULES = ["attribute_groups", "base", "cross_correlation", "epsilon_ball", "fusion"]
MODULES += ["fuzzy_cmeans", "image_windows", "khop", "kmeans", "knn", "static"]


def test_the_page_runs(project_root: Path) -> None:
    page = (project_root / "docs" / "constructions.md").read_text()
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "constructions.md", "exec"), names)


def test_the_page_names_tests_that_exist(project_root: Path) -> None:
    page = (project_root / "docs" / "constructions.md").read_text()
    folder = project_root / "tests" / "hypergraph" / "construct"
    source = "".join(path.read_text() for path in folder.glob("test_*.py"))
    for name in re.findall(r"`(?:test_\w+\.py::)?(test_\w+)`", page):
        assert f"def {name}(" in source, name
    for name in re.findall(r"(test_\w+\.py)", page):
        assert (folder / name).is_file(), name


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"hypergraph.construct.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0 and (result.attempted or name == "base")
