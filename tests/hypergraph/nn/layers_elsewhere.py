"""Run every layer in other processes; started by test_processes.py.

``python layers_elsewhere.py outputs FILE THREADS`` stores what every layer gives on one large
hypergraph; ``python layers_elsewhere.py ddp FILE`` stores the gradients that two processes average.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from hypergraph import (
    KNN,
    CrossCorrelation,
    DynamicHGConv,
    Fusion,
    Hypergraph,
    Incidence,
    UniGATConv,
)
from tests.hypergraph.nn.cases import CASES, LayerCase

NODES, EDGES, PAIRS = 1500, 900, 9000


def _of_its_own(*_: object) -> Tensor:
    raise NotImplementedError("its definition is in test_dynamic_hg_conv.py")


def _without(layer: torch.nn.Module, x: Tensor, _: Incidence) -> Tensor:
    return layer(x)


def _dual() -> DynamicHGConv:
    parts = [KNN(8, weighting="rbf", differentiable=True), CrossCorrelation(4, num_edges=8, rank=4)]
    return DynamicHGConv(4, 6, construction=Fusion(parts))


# Their hypergraphs come from the features, so that only what follows here concerns them.
DYNAMIC = [
    LayerCase("DynamicHGConv", lambda: DynamicHGConv(4, 6, k=8), _of_its_own, call=_without),
    LayerCase("DynamicHGConv, dual", _dual, _of_its_own, call=_without),
    LayerCase(
        "DynamicHGConv, attention",
        lambda: DynamicHGConv(4, 6, k=8, conv=UniGATConv),
        _of_its_own,
        call=_without,
    ),
]
EVERYWHERE = [*CASES, *DYNAMIC]


def inputs(case: LayerCase, seed: int, nodes: int = NODES) -> tuple[Tensor, Hypergraph]:
    torch.manual_seed(seed)
    edges, pairs = nodes * EDGES // NODES, nodes * PAIRS // NODES
    index = torch.stack([torch.randint(0, nodes, (pairs,)), torch.randint(0, edges, (pairs,))])
    h = Hypergraph(index, nodes, edges, torch.rand(edges) + 0.1, torch.rand(pairs) + 0.1)
    return torch.randn(nodes, case.in_channels), h


def result(case: LayerCase) -> dict[str, Tensor]:
    """Output and every gradient of a seeded layer in training mode."""
    x, h = inputs(case, 0)
    torch.manual_seed(1)
    layer = case.make()
    x.requires_grad_()
    out = case.call(layer, x, h)
    out.sin().sum().backward()
    assert x.grad is not None
    stored = {"output": out.detach(), "x": x.grad}
    for name, parameter in layer.named_parameters():
        if parameter.grad is not None:
            stored[name] = parameter.grad
    return stored


def gradients(case: LayerCase, rank: int, wrap: bool) -> dict[str, Tensor]:
    """Gradients of one process's samples; averaged over the processes with ``wrap``."""
    torch.manual_seed(1)
    layer = case.make().eval()
    # As DistributedDataParallel's users do: parameters that a setting leaves unused are found.
    module = (
        torch.nn.parallel.DistributedDataParallel(layer, find_unused_parameters=True)
        if wrap
        else layer
    )
    x, h = inputs(case, 10 + rank, 60)
    case.call(module, x, h).square().mean().backward()
    return {n: p.grad for n, p in layer.named_parameters() if p.grad is not None}


def _ddp(rank: int, meeting: str, file: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    stored = {}
    for case in EVERYWHERE:
        for name, grad in gradients(case, rank, wrap=True).items():
            stored[f"{case.name}/{name}"] = grad
    if rank == 0:
        save_file(stored, file)
    torch.distributed.destroy_process_group()


def main() -> None:
    task, file = sys.argv[1:3]
    if task == "outputs":
        torch.set_num_threads(int(sys.argv[3]))
        stored = {}
        for case in EVERYWHERE:
            for name, tensor in result(case).items():
                stored[f"{case.name}/{name}"] = tensor.contiguous()
        save_file(stored, file)
    else:
        with tempfile.TemporaryDirectory() as folder:
            meeting = str(Path(folder) / "meeting")
            torch.multiprocessing.spawn(_ddp, (meeting, file), nprocs=2)


if __name__ == "__main__":
    main()
