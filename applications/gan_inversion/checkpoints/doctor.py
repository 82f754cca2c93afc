"""What a file is, what is missing in it, and what it can be used for; and files converted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import stylegan2_layouts as stylegan2
from .files import NetworkFile, clean_orphans, save_network, write_torch
from .layouts import DISCRIMINATOR, ENCODER, FACE_ID, GENERATOR, Found
from .limits import shown
from .load import build, find, part_of
from .read import Content, read_content

_USES = {
    GENERATOR: "generating, inverting and editing: gan_inversion.load_generator(path); "
    "gan-inversion convert",
    DISCRIMINATOR: "training on: gan_inversion.load_discriminator(path)",
    ENCODER: "inverting photographs in one step: gan_inversion.load_encoder(path)",
    FACE_ID: "identity loss and identity metric: gan_inversion.load_face_id(path)",
}


@dataclass
class NetworkReport:
    """One network of a file.

    Attributes:
        part: ``"generator"``, ``"discriminator"``, ``"encoder"`` or ``"face_id"``.
        network: class of this project that runs it.
        facts: resolution, styles, widths, ... as far as they apply.
        problem: why it cannot be used; empty if it can.
    """

    part: str
    network: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Report:
    """What :func:`doctor` found.

    Attributes:
        path: the file.
        size: bytes, None if it cannot be told.
        sha256: of the whole file.
        container: how it is packed.
        checksummed: whether damage to a number in it would have been seen.
        layout: short name of the layout, None if unknown.
        title: the layout in words.
        networks: what is in it.
        uses: what it can be used for.
        notes: worth knowing.
        problems: why it, or a part of it, cannot be used.
    """

    path: Path
    size: int | None = None
    sha256: str | None = None
    container: str | None = None
    checksummed: bool = False
    layout: str | None = None
    title: str = ""
    networks: list[NetworkReport] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether anything in it can be used."""
        return bool(self.uses)

    def __str__(self) -> str:
        lines = [str(self.path)]
        if self.size is not None:
            lines.append(f"  size       {self.size:,} bytes")
        if self.sha256:
            lines.append(f"  SHA-256    {self.sha256}")
        if self.container:
            seen = "its checksums are right" if self.checksummed else "no checksum inside"
            lines.append(f"  container  {self.container}, {seen}")
        if self.title:
            lines.append(f"  layout     {self.title}")
        for network in self.networks:
            facts = ", ".join(f"{name} {value}" for name, value in network.facts.items())
            text = f"{network.network}: {facts}" if network.network else "not usable"
            lines.append(f"  {network.part:10s} {text}")
        for title, texts in (
            ("note", self.notes),
            ("problem", self.problems),
            ("use", self.uses or ["nothing in this project"]),
        ):
            lines += [f"  {title:10s} {text}" for text in texts]
        return "\n".join(lines)


def doctor(path: str | os.PathLike[str]) -> Report:
    """Say what a file is. Never raises: what is wrong stands in the report.

    Every network in the file is put together once, so a file of which the report says that it can
    be used does load.

    Args:
        path: any file.

    Returns:
        The report; ``print(report)`` is meant to be read.

    Example:
        >>> print(doctor("absent.pt"))
        absent.pt
          problem    there is no such file
          use        nothing in this project
    """
    report = Report(Path(str(path)))
    try:
        _examine(path, report)
    except Exception as error:  # a report is worth more than a traceback, whatever it is about
        text = str(error).removeprefix(f"{report.path}: ")
        known = isinstance(error, CheckpointError)
        report.problems.append(text if known else f"{type(error).__name__}: {shown(text, 300)}")
    return report


def _examine(path: Any, report: Report) -> None:
    try:
        report.size = os.stat(path).st_size
    except OSError:
        pass
    content = read_content(path, digest=True)
    report.sha256, report.container = content.sha256, content.container
    report.checksummed = content.checksummed
    try:
        found = find(report.path, content)
    except CheckpointError as error:
        report.title = "unknown"
        report.problems.append(str(error).removeprefix(f"{report.path}: "))
        report.notes.append(f"it holds {_summary(content)}")
        return
    report.layout, report.title = found.layout, found.title
    report.notes += found.notes
    report.notes += [f"{name}: {shown(value, 200)}" for name, value in found.card.items()]
    # Our own files were compared with their digest when they were recognised.
    report.checksummed |= found.layout == "gan_inversion"
    for part in found.parts:
        network = _network(report.path, found, part)
        report.networks.append(network)
        if network.problem:
            report.problems.append(f"{part}: {network.problem}")
        else:
            report.uses.append(_USES[part])
    if found.layout == "latent":
        report.uses.append("an edit direction: gan-inversion edit --direction FILE")
    if found.layout == "method":
        report.uses.append("the method's own code, which knows where it lies")


def _network(path: Path, found: Found, part: str) -> NetworkReport:
    report = NetworkReport(part)
    options = {"encoder": "psp"} if part == ENCODER and found.layout == "psp-or-e4e" else {}
    try:
        network = part_of(path, found, part, options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = build(network)
    except Exception as error:
        text = str(error).removeprefix(f"{path}: ").removeprefix(f"{found.title}: ")
        report.problem = text if isinstance(error, CheckpointError) else shown(text, 400)
        return report
    report.network = network.network
    report.facts = _facts(network, module)
    if options:
        report.facts["encoder"] = "pass encoder='psp' or encoder='e4e'"
    bad = [name for name, value in network.state.items() if not _finite(value)]
    if bad:
        report.problem = f"{len(bad)} tensors with NaN or infinity, such as {shown(bad[0])}"
    return report


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _facts(network: NetworkFile, module: torch.nn.Module) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    config = network.config
    if "resolution" in config:
        facts["resolution"] = config["resolution"]
    if hasattr(module, "num_ws"):
        facts["styles"] = f"{module.num_ws} x {module.w_dim}"
    if "channels" in config:
        facts["channels"] = "/".join(str(width) for width in config["channels"])
    if config.get("c_dim"):
        facts["labels"] = config["c_dim"]
    if "input_size" in config:
        facts["input"] = config["input_size"]
    count = sum(parameter.numel() for parameter in module.parameters())
    facts["parameters"] = f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:,}"
    if network.network == "StyleGAN2Generator":
        facts["mean latent"] = "stored" if "w_avg" in network.state else "measured on load"
    return facts


def _summary(content: Content) -> str:
    tree = content.tree
    if isinstance(tree, dict):
        names = ", ".join(shown(name, 40) for name in list(tree)[:6])
        return f"a dictionary of {len(tree)}: {names}{', ...' if len(tree) > 6 else ''}"
    if isinstance(tree, (list, tuple)):
        return f"a {type(tree).__name__} of {len(tree)} values"
    return f"a {type(tree).__name__}"


# --- conversion --------------------------------------------------------------------------------
_WRITERS: dict[tuple[str, str], Callable[[Any, Any], Any]] = {
    ("rosinality", GENERATOR): stylegan2.ours_to_rosinality,
    ("rosinality", DISCRIMINATOR): stylegan2.ours_to_rosinality_discriminator,
    ("nvlabs", GENERATOR): stylegan2.ours_to_nvlabs,
    ("nvlabs", DISCRIMINATOR): stylegan2.ours_to_nvlabs_discriminator,
    ("mmgen", GENERATOR): stylegan2.ours_to_mmgen,
}
_OPTIONS = {GENERATOR: ("key",), ENCODER: ("encoder", "num_ws", "w_avg")}
LAYOUTS = tuple(dict.fromkeys(layout for layout, _ in _WRITERS))


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    part: str | None = None,
    layout: str = "rosinality",
    options: dict[str, Any] | None = None,
    sha256: str | None = None,
) -> NetworkFile:
    """Convert one network of a file: to our own format, or to somebody else's.

    Tensors keep their bits, so that a way there and back gives the same tensors.

    Args:
        source: a file of any known layout.
        target: ``.safetensors`` for our own format (any network); ``.pt`` or ``.pth`` for a file of
            ``layout`` (generators and discriminators).
        part: ``"generator"``, ``"discriminator"``, ``"encoder"`` or ``"face_id"``; the generator
            if there is one, else the only network, if it is not named.
        layout: ``"rosinality"``, ``"mmgen"`` or ``"nvlabs"``: the last as ``{"state",
            "init_kwargs"}``, for NVlabs' pickles hold source code, which is not ours to write.
        options: of the source's part, see :func:`~.load.load_encoder`.
        sha256: what the source must hash to.

    Returns:
        What was written, under our names.

    Raises:
        CheckpointError: the source cannot be used, or the layout has no place for this network.
        ValueError: another suffix, part or layout.
        OSError: the target cannot be written; an old file is kept.
    """
    target = Path(target)
    if target.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"`target` must end in .safetensors, .pt or .pth, got {target.name!r}")
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if part is not None and part not in _USES:
        raise ValueError(f"`part` must be one of {', '.join(_USES)}, got {part!r}")
    path = Path(source)
    if path.exists() and target.exists() and path.samefile(target):
        raise ValueError(
            f"`target` is the source, {path}, of which only one network would be left; name "
            "another file"
        )
    content = read_content(source, sha256, digest=True)
    found = find(path, content)
    if part is None:
        part = GENERATOR if GENERATOR in found.parts else next(iter(found.parts), GENERATOR)
    if wrong := sorted(set(options or {}) - set(_OPTIONS.get(part, ()))):
        raise ValueError(f"`options`: {', '.join(wrong)} cannot be said of a part {part!r}")
    network = part_of(path, found, part, options or {})
    try:
        build(network)  # a file that does not load is not worth writing
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {found.title}: {shown(error, 400)}") from error
    if target.suffix == ".safetensors":
        card = found.card or {
            "converted_from": path.name,
            "layout": found.layout,
            "sha256": content.sha256,
        }
        network = NetworkFile(network.network, network.config, network.state, card)
        save_network(target, network)
        return network
    writer = _WRITERS.get((layout, part))
    if writer is None:
        raise CheckpointError(
            f"{path}: {layout}'s layout has no place for {part}; convert it to .safetensors"
        )
    try:
        tree = writer(network.config, network.state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    clean_orphans(target)
    write_torch(target, tree)
    return network
