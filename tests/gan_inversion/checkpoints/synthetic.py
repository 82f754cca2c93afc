"""Files as other people's code writes them, made from a flat state dict."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.gan_inversion.checkpoints.payloads import torch_bytes

SOURCE = "raise SystemExit('the source in a pickle was run')\n"


@contextmanager
def modules_named(**functions: dict[str, Any]):
    """Modules that exist while a pickle is written, and not when it is read."""
    made = {}
    for dotted, content in functions.items():
        name = dotted.replace("__", ".")
        for parent in (name.partition(".")[0], name):
            made.setdefault(parent, types.ModuleType(parent))
        for key, value in content.items():
            value.__module__, value.__qualname__, value.__name__ = name, key, key
            setattr(made[name], key, value)
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _reconstruct(meta: dict[str, Any]) -> Any:
    raise AssertionError("a file must not be read by calling what it names")


class Persistent(nn.Module):
    """Pickled as NVlabs' persistence does: a call with class name, source and state."""

    kind = "Network"

    def __reduce__(self) -> Any:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": self.kind,
            "state": dict(self.__dict__),
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def persistent(
    state: Mapping[str, Tensor],
    kind: str,
    kwargs: dict[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> Persistent:
    """Nested modules whose ``state_dict()`` is ``state``, with ``settings`` by dotted name."""
    root = Persistent()
    root.kind = kind

    def at(path: list[str]) -> Persistent:
        node = root
        for name in path:
            if name not in node._modules:
                node.add_module(name, Persistent())
            node = node._modules[name]  # type: ignore[assignment]
        return node

    for name, tensor in state.items():
        *path, last = name.split(".")
        buffer = last in ("w_avg", "resample_filter", "noise_const")
        if buffer:
            at(path).register_buffer(last, tensor.clone())
        else:
            at(path).register_parameter(last, nn.Parameter(tensor.clone()))
    for name, value in (settings or {}).items():
        *path, last = name.split(".")
        setattr(at(path), last, value)
    root._init_args, root._init_kwargs = (), kwargs  # type: ignore[assignment]
    return root


def nvlabs_pickle(content: Any, protocol: int = 4) -> bytes:
    """A pickle of persistent objects."""
    with modules_named(torch_utils__persistence={"_reconstruct_persistent_obj": _reconstruct}):
        return pickle.dumps(content, protocol)


def nvlabs_torch(network: Any) -> bytes:
    """torch.save of a persistent object."""
    with modules_named(torch_utils__persistence={"_reconstruct_persistent_obj": _reconstruct}):
        return torch_bytes(network)


class TFNetwork:
    """As NVlabs' TensorFlow networks pickle themselves."""

    def __init__(self, name: str, variables: list[Any], components: dict[str, Any]) -> None:
        self.__dict__.update(
            version=4,
            name=name,
            static_kwargs={"num_channels": 3},
            components=components,
            build_module_src=SOURCE,
            build_func_name="G_main",
            variables=variables,
        )


def tf_pickle(
    variables: Mapping[str, np.ndarray], discriminator: Mapping[str, np.ndarray]
) -> bytes:
    """(G, D, Gs) with the variables of the parts under their own components."""
    parts: dict[str, list[Any]] = {"G_mapping/": [], "G_synthesis/": [], "": []}
    for name, value in variables.items():
        prefix = next(p for p in parts if name.startswith(p))
        parts[prefix].append((name[len(prefix) :], value))
    with modules_named(dnnlib__tflib__network={"Network": TFNetwork}):
        sys.modules["dnnlib.tflib"] = types.ModuleType("dnnlib.tflib")
        components = {
            "synthesis": TFNetwork("G_synthesis", parts["G_synthesis/"], {}),
            "mapping": TFNetwork("G_mapping", parts["G_mapping/"], {}),
        }
        generator = TFNetwork("G", parts[""], components)
        judge = TFNetwork("D", list(discriminator.items()), {})
        try:
            return pickle.dumps((generator, judge, generator), 3)
        finally:
            del sys.modules["dnnlib.tflib"]


def save(tree: Any, path: Any, zipped: bool = True) -> None:
    """torch.save in either container."""
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
