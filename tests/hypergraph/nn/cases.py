"""Every layer with its dense definition; tests/hypergraph/nn/test_layers.py holds all of them to
the same laws."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from hypergraph import Incidence


def _plain(layer: nn.Module, x: Tensor, h: Incidence) -> Tensor:
    return layer(x, h)


@dataclass(frozen=True)
class LayerCase:
    """A layer in one setting.

    ``define(layer, x, H, w)`` is the slow, obvious definition in dense float64 matrices, for
    x [G, N, C], H [G, N, M] (repeated pairs added up) and w [G, M] of G hypergraphs at once,
    padded with isolated vertices and empty hyperedges. It may use the layer's parameters and
    its sub-modules that act on single rows (Linear, LayerNorm, an MLP), but none of the
    library's operators.
    """

    name: str
    make: Callable[[], nn.Module]
    define: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    in_channels: int = 4
    call: Callable[[nn.Module, Tensor, Incidence], Tensor] = _plain
    """How the layer is applied; further inputs must be made from x and h alone."""
    every_operator: bool = False
    """Works with every incidence operator, not only with those that list members."""
    linear: bool = False
    """out(a x + b y) = a out(x) + b out(y) once biases are zero."""
    no_gradcheck: str = ""
    """Why the gradient is not the derivative of the value, as where a paper detaches a factor."""
    thread_tolerance: float = 1e-6
    """How far an output may differ between 1 and 2 threads, of the largest value; more where
    BatchNorm, which alone differs by 1e-6 there, is followed by further layers."""


def _collect() -> list[LayerCase]:
    """The ``CASES`` of every module in tests/hypergraph/nn/definitions."""
    from tests.hypergraph.nn import definitions

    cases: list[LayerCase] = []
    for module in pkgutil.iter_modules(definitions.__path__):
        cases += importlib.import_module(f"{definitions.__name__}.{module.name}").CASES
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), names
    return cases


def __getattr__(name: str) -> list[LayerCase]:
    # Not at import: a definition that is imported on its own imports this module first.
    if name == "CASES":
        return globals().setdefault("CASES", _collect())
    raise AttributeError(name)
