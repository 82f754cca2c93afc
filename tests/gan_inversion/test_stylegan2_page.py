"""docs/stylegan2.md: its code runs, its commands and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from gan_inversion.cli import _parser


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "stylegan2.md").read_text()


def run(page: str, *, export: bool) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    torch.manual_seed(0)
    for block in blocks:  # later blocks may use the names of earlier ones
        if export or "export_generator" not in block:
            exec(compile(block, "docs/stylegan2.md", "exec"), names)


def test_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")
    monkeypatch.chdir(tmp_path)
    run(page, export=False)
    assert (tmp_path / "folder" / "model.safetensors").exists()


@pytest.mark.slow
def test_code_of_the_page_runs_with_the_export(page: str, tmp_path: Path, monkeypatch) -> None:
    for name in ("huggingface_hub", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"skipped: {name} not installed")
    monkeypatch.chdir(tmp_path)
    run(page, export=True)
    assert (tmp_path / "small.onnx").exists()


def test_commands_of_the_page_exist(page: str) -> None:
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    ours = [line for line in lines if line.startswith("gan-inversion ")]
    assert len(ours) == 7
    for line in ours:
        _parser().parse_args(shlex.split(line)[1:])


def test_links_exist(page: str, project_root: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page):
        assert target.startswith("https://") or (project_root / "docs" / target).exists(), target
