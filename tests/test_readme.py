"""The README's code runs, its commands exist, and its links and pictures are there."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def readme(project_root: Path) -> str:
    return (project_root / "README.md").read_text()


def _block(readme: str, heading: str) -> str:
    section = readme.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match, f"no Python block under {heading!r}"
    return match.group(1)


def _statements(code: str) -> int:
    return len(ast.parse(code).body)


def test_the_layer_in_six_lines(readme: str) -> None:
    code = _block(readme, "The layer")
    assert _statements(code) <= 6
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)

    model, out = names["model"], names["out"]
    assert isinstance(out, torch.Tensor) and isinstance(model, torch.nn.Module)
    assert out.shape == (8, 1024, 10)
    assert out.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, f"{name} gets no gradient"


def test_the_library_block_runs(readme: str) -> None:
    names: dict[str, object] = {}
    exec(compile(_block(readme, "The library"), "README.md", "exec"), names)
    out = names["out"]
    assert isinstance(out, torch.Tensor) and out.shape == (5, 128)


def test_accuracies_are_those_of_the_results_file(readme: str, project_root: Path) -> None:
    """Every figure of the table stands in the table that the benchmark wrote."""
    written = (project_root / "benchmarks" / "accuracy" / "README.md").read_text()
    rows = re.findall(r"^\| (?:HGNN|UniGCNII|AllSetTransformer|ED-HNN).*$", readme, re.MULTILINE)
    assert len(rows) == 8
    for row in rows:
        figures = re.findall(r"\d\d\.\d\d ± \d\.\d\d", row)
        assert len(figures) in (3, 6)
        assert all(figure in written for figure in figures), row


def test_the_editor_in_six_lines_names_what_exists(readme: str) -> None:
    code = _block(readme, "The editor")
    assert _statements(code) <= 6
    from gan_inversion import Editor

    used = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    assert used == {"from_pretrained", "open", "edit", "save"}
    assert callable(Editor.from_pretrained) and callable(Editor.open)


@pytest.mark.slow
@pytest.mark.assets
def test_the_editor_in_six_lines_runs(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from gan_inversion.assets import asset_path

    Image.open(asset_path("astronaut")).convert("RGB").save(tmp_path / "portrait.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    exec(compile(_block(readme, "The editor"), "README.md", "exec"), {})
    for name in ("less_smile.png", "older.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) >= 512


def _console_lines(readme: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_make_targets_exist(readme: str, project_root: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (project_root / "Makefile").read_text(), re.MULTILINE)
    used = {line.split()[1] for line in _console_lines(readme) if line.startswith("make ")}
    assert {"demo", "test"} <= used <= set(targets)


def test_command_line_options_exist(
    readme: str, project_root: Path, source_environment: dict[str, str]
) -> None:
    """Every `gan-inversion` line of the README names a subcommand and options that it has."""
    lines = [line for line in _console_lines(readme) if line.startswith("gan-inversion ")]
    assert lines
    commands: dict[tuple[str, ...], set[str]] = {}
    for line in lines:
        _, name, *arguments = shlex.split(line, comments=True)
        command = (name, arguments[0]) if name == "train" else (name,)
        options = {argument for argument in arguments if argument.startswith("--")}
        commands.setdefault(command, set()).update(options)
    for command, options in commands.items():
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from gan_inversion.cli import main; sys.exit(main())",
            ]
            + [*command, "--help"],
            cwd=project_root,
            env=source_environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        for option in options:
            assert option in run.stdout, f"`gan-inversion {' '.join(command)}` has no {option}"


@pytest.mark.parametrize("document", ["README.md", "docs/index.md", "CHANGELOG.md"])
def test_links_and_pictures_exist(document: str, project_root: Path) -> None:
    path = project_root / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://", "#")):
            continue
        assert (path.parent / target.split("#")[0]).exists(), f"{document} links to {target}"


def test_extras_named_in_the_readme_exist(readme: str, project_root: Path) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    for group in re.findall(r"'\.\[([a-z,]+)\]'", readme):
        assert set(group.split(",")) <= set(project["optional-dependencies"])


def test_every_asset_package_is_in_the_licence_table(readme: str, project_root: Path) -> None:
    pinned = re.findall(
        r"^([a-z0-9-]+)==([0-9a-z.]+)",
        (project_root / "requirements/face-assets.txt").read_text(),
        re.MULTILINE,
    )
    assert len(pinned) == 4
    for name, version in pinned:
        assert f"| {name} {version} |" in readme


def test_public_names_of_the_design_are_exported() -> None:
    import hypergraph

    for name in ("Hypergraph", "HGNNConv", "DynamicHGConv", "KNN", "CrossCorrelation"):
        assert inspect.isclass(getattr(hypergraph, name)), name
        assert name in hypergraph.__all__
