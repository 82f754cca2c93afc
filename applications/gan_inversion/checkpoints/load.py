"""From a file of any known layout to a network that runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .files import NetworkFile
from .layouts import DISCRIMINATOR, ENCODER, FACE_ID, GENERATOR, Found, find_layout
from .limits import printable, shown
from .read import Content, read_content

if TYPE_CHECKING:
    from ..encoders import ArcFace, Encoder
    from ..generators.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

Path = str | os.PathLike[str]


def load_generator(
    path: Path, *, key: str | None = None, sha256: str | None = None
) -> StyleGAN2Generator:
    """Load a StyleGAN2 generator from a file of any known layout; nothing in it is executed.

    rosinality (``stylegan2-ffhq-config-f.pt``), NVlabs ada and stylegan3 (``ffhq.pkl``), the
    TensorFlow pickles, MMGeneration, the decoder of pSp, e4e, HFGI, SDIC and HyperStyle
    checkpoints, PTI's tuned generators, and this project's own ``.safetensors``.

    Args:
        path: the file; what it is, is seen from its content.
        key: ``"g"`` for the network in training instead of its average, where both are there.
        sha256: what the file must hash to.

    Returns:
        The generator, frozen, in evaluation mode, on the CPU: ``.mapping(z, truncation=1.0)``,
        ``.synthesis(w_plus, noise="const")``, ``.num_ws``, ``.resolution``, ``.w_avg``.

    Raises:
        CheckpointError: with the path and the reason: unreadable, hostile, of another kind, with
            tensors missing, unknown or of a wrong shape.

    Example:
        >>> generator = load_generator("stylegan2-ffhq-config-f.pt")  # doctest: +SKIP
        >>> image = generator.synthesis(generator.mapping(torch.randn(1, 512)))  # doctest: +SKIP
    """
    if key not in (None, "g", "g_ema"):
        raise ValueError(f"`key` must be 'g', 'g_ema' or None, got {key!r}")
    options = {} if key is None else {"key": key}
    return cast("StyleGAN2Generator", _load(path, GENERATOR, sha256, options))


def load_discriminator(path: Path, *, sha256: str | None = None) -> StyleGAN2Discriminator:
    """Load a StyleGAN2 discriminator; arguments and errors as for :func:`load_generator`."""
    return cast("StyleGAN2Discriminator", _load(path, DISCRIMINATOR, sha256, {}))


def load_encoder(
    path: Path,
    *,
    encoder: str | None = None,
    num_ws: int | None = None,
    w_avg: Tensor | None = None,
    sha256: str | None = None,
) -> Encoder:
    """Load the encoder of a pSp, e4e, HFGI, SDIC or HyperStyle checkpoint, or of our own file.

    Args:
        path: the file.
        encoder: ``"psp"`` or ``"e4e"``, where the file does not tell which of the two it is.
        num_ws: rows of the code, for an encoder into W whose file does not tell.
        w_avg: ``[w_dim]``, the generator's mean latent, for an encoder that starts from it and
            whose file has neither it nor the generator; what a file has is taken from there.
        sha256: what the file must hash to.

    Returns:
        The encoder in evaluation mode, ``[B, 3, 256, 256]`` in [-1, 1] -> ``[B, num_ws, w_dim]``.

    Raises:
        CheckpointError: as :func:`load_generator`.
    """
    options = {"encoder": encoder, "num_ws": num_ws, "w_avg": w_avg}
    options = {name: value for name, value in options.items() if value is not None}
    return cast("Encoder", _load(path, ENCODER, sha256, options))


def load_face_id(path: Path, *, sha256: str | None = None) -> ArcFace:
    """Load a face-recognition network (``model_ir_se50.pth``, CurricularFace's IR-101).

    Returns:
        The network in evaluation mode, faces ``[B, 3, 112, 112]`` -> unit rows ``[B, 512]``.

    Raises:
        CheckpointError: as :func:`load_generator`.
    """
    return cast("ArcFace", _load(path, FACE_ID, sha256, {}))


def _load(path: Path, part: str, sha256: str | None, options: dict[str, Any]) -> nn.Module:
    content = read_content(path, sha256)
    return build_part(path, find(path, content), part, options)


def find(path: Path, content: Content) -> Found:
    """The layout of a file, or CheckpointError with the path."""
    try:
        found = find_layout(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if found is None:
        raise CheckpointError(f"{path}: a {content.container} file of no known layout")
    return found


def part_of(path: Path, found: Found, part: str, options: dict[str, Any]) -> NetworkFile:
    """One network of a file under our names, or CheckpointError with the path."""
    if part not in found.parts:
        has = f"it holds: {', '.join(found.parts)}" if found.parts else "it holds none"
        raise CheckpointError(f"{path}: it is {found.title}, without {_A[part]}; {has}")
    try:
        return found.parts[part](**options)
    except CheckpointError as error:
        # Names from the file stand in it, and a terminal obeys some of them.
        raise CheckpointError(f"{path}: {found.title}: {printable(str(error)[:2000])}") from error
    # A layout's function reads plain dicts that came from outside: what it stumbles over is theirs.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise CheckpointError(
            f"{path}: {found.title}, not as it should be ({type(e).__name__}: {shown(e)})"
        ) from e


def build_part(path: Path, found: Found, part: str, options: dict[str, Any]) -> nn.Module:
    """One network of a file, ready to run, or CheckpointError with the path."""
    network = part_of(path, found, part, options)
    try:
        return build(network)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path}: {found.title}: {shown(e, 400)}") from e


def build(network: NetworkFile) -> nn.Module:
    """The module of a network's configuration with its tensors, frozen, in evaluation mode.

    Raises:
        ValueError, RuntimeError: configuration and tensors do not fit each other.
    """
    check_config(network.config)
    from .. import encoders
    from ..generators import stylegan2

    if network.network == "StyleGAN2Generator":
        return stylegan2.StyleGAN2Generator.from_state(network.config, network.state)
    if network.network == "StyleGAN2Discriminator":
        return stylegan2.StyleGAN2Discriminator.from_state(network.config, network.state)
    kinds = ("GradualStyleEncoder", "Encoder4Editing", "LastLayerWEncoder", "ArcFace")
    if network.network not in kinds:
        raise ValueError(f"no network is called {network.network!r}")
    with torch.device("meta"):  # no time and memory for weights that are replaced at once
        module: nn.Module = getattr(encoders, network.network)(**network.config)
    state = {name: tensor.clone() for name, tensor in network.state.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def check_config(config: Any) -> None:
    """Refuse numbers that would make a module without end; a file may say anything.

    Raises:
        ValueError: names what is out of bounds.
    """
    if not isinstance(config, dict):
        raise ValueError(f"`config` must be a dictionary, got {type(config).__name__}")
    for name, value in config.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        limit = 256 if name in ("num_ws", "depth", "num_mapping_layers") else 65_536
        plain = all(isinstance(v, (int, float, str, type(None))) for v in values)
        if not plain or len(values) > 64:
            raise ValueError(f"`{shown(name)}` of the configuration is not a number or short list")
        if any(isinstance(v, (int, float)) and not abs(v) <= limit for v in values):
            raise ValueError(
                f"`{shown(name)}` of the configuration is out of bounds: {value!r:.80}"
            )


_A = {
    GENERATOR: "a generator",
    DISCRIMINATOR: "a discriminator",
    ENCODER: "an encoder",
    FACE_ID: "a face-recognition network",
}
