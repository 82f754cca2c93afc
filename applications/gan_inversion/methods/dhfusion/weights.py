"""Files of DH-Net and EF-Net: half-precision safetensors with the configuration inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hypergraph._files import atomic_writer

from ...errors import CheckpointError
from .dh_net import DHNet, DHNetConfig
from .ef_net import EFNet, EFNetConfig

PRETRAINED = Path(__file__).parent.parent.parent / "pretrained"
DH_NET_FILE = PRETRAINED / "dh_net.safetensors"
EF_NET_FILE = PRETRAINED / "ef_net.safetensors"


def save_network(net: DHNet | EFNet, path: Path, card: dict[str, Any]) -> None:
    """Write a network's weights as float16 with its configuration and card, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in net.state_dict().items()
    }
    metadata = {
        "network": type(net).__name__,
        "config": json.dumps(net.config.to_dict()),
        "card": json.dumps(card),
    }
    with atomic_writer(path) as file:
        file.write(save(state, metadata))


def _load(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    if metadata.get("network") != kind:
        raise CheckpointError(
            f"{path}: expected the weights of {kind}, got {metadata.get('network')!r}"
        )
    state = {k: (v.float() if v.is_floating_point() else v) for k, v in state.items()}
    return json.loads(metadata["config"]), json.loads(metadata["card"]), state


def _fill(net: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit their configuration: {error}") from error
    net.eval().requires_grad_(False)


def load_dh_net(path: Path = DH_NET_FILE) -> tuple[DHNet, dict[str, Any]]:
    """Return DH-Net, frozen, and its card.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    config, card, state = _load(path, "DHNet")
    net = DHNet(DHNetConfig(**config))
    _fill(net, state, path)
    return net, card


def load_ef_net(path: Path = EF_NET_FILE) -> tuple[EFNet, dict[str, Any]]:
    """Return EF-Net, frozen, and its card.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    config, card, state = _load(path, "EFNet")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    net = EFNet(EFNetConfig(**fields))
    _fill(net, state, path)
    return net, card
