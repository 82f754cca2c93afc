import re

import torch

from hypergraph import datasets, models


def test_code_and_tables_of_the_page(project_root, capsys):
    page = (project_root / "docs" / "training.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:  # later blocks use the names of earlier ones
        torch.manual_seed(0)
        exec(compile(block, "docs/training.md", "exec"), names)
    assert "test accuracy" in capsys.readouterr().out
    assert names["scores"].shape == (60, 3)
    for name in models.names():
        assert f"| `{name}` | `{models.model_class(name).__name__}`" in page
    for name in datasets.names():
        row = next(
            line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line
        )
        assert ("downloads it" in row) == datasets.info(name).downloadable
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert target.startswith("https://") or (project_root / "docs" / target).exists(), target
