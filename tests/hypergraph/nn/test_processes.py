"""Layers in other processes: the same seed, other thread counts, two processes, saved models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from tests.hypergraph.nn.cases import CASES, LayerCase
from tests.hypergraph.nn.layers_elsewhere import EVERYWHERE, gradients, inputs, result

each_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
everywhere = pytest.mark.parametrize("case", EVERYWHERE, ids=lambda case: case.name)
BY_NAME = {case.name: case for case in EVERYWHERE}


@pytest.fixture(scope="module")
def elsewhere(
    project_root: Path,
    source_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., dict[str, Tensor]]:
    """Run tests/hypergraph/nn/layers_elsewhere.py once per set of arguments."""
    kept: dict[tuple[str, ...], dict[str, Tensor]] = {}
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(task: str, *arguments: str) -> dict[str, Tensor]:
        key = (task, *arguments)
        if key not in kept:
            file = folder / ("-".join(key) + ".safetensors")
            command = [sys.executable, "-m", "tests.hypergraph.nn.layers_elsewhere", task]
            path = os.pathsep.join([str(project_root), source_environment["PYTHONPATH"]])
            done = subprocess.run(
                [*command, str(file), *arguments],
                env={**source_environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                cwd=project_root,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            kept[key] = load_file(file)
        return kept[key]

    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@everywhere
def test_same_seed_in_another_process_is_bit_equal(
    case: LayerCase, elsewhere: Callable[..., dict[str, Tensor]], one_thread: None
) -> None:
    there = elsewhere("outputs", "1")
    here = result(case)
    assert set(here) == {n.partition("/")[2] for n in there if n.startswith(f"{case.name}/")}
    for name, tensor in here.items():
        assert torch.equal(tensor, there[f"{case.name}/{name}"]), name


@each_layer
def test_two_threads_agree_with_one(
    case: LayerCase, elsewhere: Callable[..., dict[str, Tensor]]
) -> None:
    one, two = elsewhere("outputs", "1"), elsewhere("outputs", "2")
    for name, tensor in one.items():
        if name.startswith(f"{case.name}/"):
            scale = tensor.abs().max().item() if tensor.numel() else 0.0
            # A gradient of a parameter is a sum of 1,500 terms of either sign, which two threads
            # split otherwise than one.
            tolerance = case.thread_tolerance * (1 if name.endswith("/output") else 10)
            assert_close(two[name], tensor, rtol=0, atol=tolerance * max(scale, 1e-30), msg=name)


def test_our_reductions_are_bit_equal_for_any_number_of_threads() -> None:
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        x, h = inputs(CASES[0], 0, 6000)
        x = x.repeat(1, 16).requires_grad_()
        y = h.v2e(x)
        out = h.e2v(y.sin())
        (grad,) = torch.autograd.grad(out.cos().sum(), x)
        softmax = h.incidence_softmax(h.gather_nodes(x))
        found.append((y, out, grad, h.node_degree(), h.edge_degree(), softmax))
    torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


@everywhere
def test_two_processes_average_their_gradients(
    case: LayerCase, elsewhere: Callable[..., dict[str, Tensor]]
) -> None:
    there = elsewhere("ddp")
    pieces = [gradients(case, rank, wrap=False) for rank in (0, 1)]
    assert pieces[0]
    for name in pieces[0]:
        mean = (pieces[0][name] + pieces[1][name]) / 2
        assert_close(there[f"{case.name}/{name}"], mean, rtol=1e-5, atol=1e-6, msg=name)


@everywhere
def test_save_pretrained_and_from_pretrained(case: LayerCase, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")

    class Model(nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.layer = BY_NAME[name].make()

    model = Model(name=case.name)
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    x, h = inputs(case, 0, 60)
    model.eval()
    again.eval()
    assert torch.equal(case.call(again.layer, x, h), case.call(model.layer, x, h))
