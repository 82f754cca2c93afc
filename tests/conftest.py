"""What every test shares: threads, seeds, the tolerance table, and what a test may skip on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.hypergraph.generated import FULL_SIZE, Suite, generate

ROOT = Path(__file__).resolve().parents[1]


# (rtol, atol) for one operation on values of order one. A test that needs more writes the reason
# beside its own numbers.
TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-10, 1e-11),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
    torch.float16: (2e-3, 2e-3),
}

# Two processes on two cores: a deadline would measure the neighbour.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracle-count",
        type=int,
        default=10_000,
        help="generated hypergraphs per layer, operator and construction (make deep: 1,000,000)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # `-n 2` on two cores: one thread each. A single process may use what the machine has.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if {"oracle_count", "oracle_suites"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.oracle)
    if not any("assets" in item.keywords for item in items):
        return
    from gan_inversion.assets import assets_installed

    if assets_installed():
        return
    skip = pytest.mark.skip(reason="skipped: face assets not installed (make demo installs them)")
    for item in items:
        if "assets" in item.keywords:
            item.add_marker(skip)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "gpu" in item.keywords and not torch.cuda.is_available():
        pytest.skip("skipped: no CUDA device")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Start every test from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield


@pytest.fixture(scope="session")
def tolerance() -> dict[torch.dtype, dict[str, float]]:
    """The table as keyword arguments: ``assert_close(a, b, **tolerance[a.dtype])``."""
    return {dtype: {"rtol": rtol, "atol": atol} for dtype, (rtol, atol) in TOLERANCES.items()}


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def source_environment(project_root: Path) -> dict[str, str]:
    """Environment in which a subprocess imports the three packages from this tree."""
    roots = [project_root, project_root / "kernels", project_root / "applications"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of golden outputs and reference data, which is not part of the repository."""
    named = os.environ.get("HYPERGRAPH_SHARED")
    if named:
        folder = Path(named)
        if not folder.is_dir():
            pytest.fail(f"HYPERGRAPH_SHARED={named} is not a folder; unset it or correct it")
        return folder
    sibling = ROOT.parent / "shared"
    if (sibling / "golden").is_dir():
        return sibling
    pytest.skip("skipped: no golden data (set HYPERGRAPH_SHARED to its folder)")


@pytest.fixture(scope="session")
def oracle_count(pytestconfig: pytest.Config) -> int:
    """How many hypergraphs every comparison with a dense definition generates."""
    return int(pytestconfig.getoption("--oracle-count"))


@pytest.fixture(scope="session")
def oracle_suites(oracle_count: int) -> Callable[[bool], Iterator[Suite]]:
    """``oracle_suites(weighted)`` yields half of ``oracle_count`` hypergraphs, 5,000 at once: plain
    and weighted ones together make up the count."""
    size = min(FULL_SIZE, max(1, oracle_count // 2))
    pieces = max(1, round(oracle_count / 2 / size))
    first: dict[bool, Suite] = {}

    def suites(weighted: bool) -> Iterator[Suite]:
        for piece in range(pieces):
            if piece:
                yield generate(size, 2 * piece + weighted, weighted)
                continue
            if weighted not in first:
                first[weighted] = generate(size, int(weighted), weighted)
            yield first[weighted]

    return suites
