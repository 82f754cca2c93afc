"""The package as a user meets it: names, docstrings, the pages under docs/."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import torch

import hypergraph
import hypergraph_kernels

MODULES = [
    name
    for package in (hypergraph, hypergraph_kernels)
    for name in (
        package.__name__,
        *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")),
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_public_names_are_listed_documented_and_sorted() -> None:
    for package in (hypergraph, hypergraph_kernels):
        assert len(set(package.__all__)) == len(package.__all__)
        for name in package.__all__:
            item = getattr(package, name)
            if typing.get_origin(item) is not typing.Literal:  # which can hold no docstring
                assert inspect.getdoc(item), name


def test_every_layer_and_construction_shows_an_example() -> None:
    for name in hypergraph.__all__:
        item = getattr(hypergraph, name)
        if not inspect.isclass(item) or inspect.isabstract(item):
            continue
        if not issubclass(item, tuple):  # a result says what its fields are
            assert ">>>" in (item.__doc__ or ""), name


def test_import_is_light(source_environment: dict[str, str]) -> None:
    """It loads nothing beyond what torch and numpy load themselves."""
    code = (
        "import sys, numpy, torch; before = set(sys.modules); import hypergraph; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=source_environment, capture_output=True, text=True, check=True
    )
    loaded = set(ast.literal_eval(done.stdout)) - set(sys.stdlib_module_names)
    assert loaded <= {"hypergraph", "hypergraph_kernels", "torch"}


def test_submodules_load_on_demand(source_environment: dict[str, str]) -> None:
    code = (
        "import sys, hypergraph; assert 'hypergraph.io' not in sys.modules; hypergraph.io; "
        "assert 'hypergraph.io' in sys.modules; assert 'datasets' in dir(hypergraph)"
    )
    subprocess.run([sys.executable, "-c", code], env=source_environment, check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hypergraph.nothing  # noqa: B018


def test_every_layer_is_in_the_table_with_its_tests(project_root: Path) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.*?) ?\| (.*?) ?\| (.*?) ?\| `(\w+\.py)` \|$",
        (project_root / "docs" / "layers.md").read_text(),
        re.MULTILINE,
    )
    layers = {name for name in hypergraph.nn.__all__ if name.endswith("Conv")}
    assert {row[0] for row in rows} == layers
    assert len(rows) == len(layers) >= 20
    folder = project_root / "tests" / "hypergraph" / "nn"
    for name, _, _, _, definition, tests in rows:
        assert name in (folder / tests).read_text(), (name, tests)
        if definition:
            assert name in (folder / "definitions" / definition.strip("`")).read_text(), name


# io.md and training.md have tests of their own beside those of their modules.
PAGES = {"hypergraph.md": 4, "constructions.md": 1}


@pytest.mark.parametrize(("name", "least"), PAGES.items())
def test_code_in_the_documentation_runs(name: str, least: int, project_root: Path) -> None:
    page = (project_root / "docs" / name).read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= least
    names: dict[str, object] = {}
    for block in blocks:  # later blocks may use the names of earlier ones
        torch.manual_seed(0)
        exec(compile(block, f"docs/{name}", "exec"), names)


def test_the_first_block_is_short(project_root: Path) -> None:
    page = (project_root / "docs" / "hypergraph.md").read_text()
    block = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 6


def test_links_in_the_documentation_exist(project_root: Path) -> None:
    for page in sorted((project_root / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            exists = (page.parent / target).exists()
            assert target.startswith("https://") or exists, (page.name, target)
