"""Checkpoints of the pSp family and of face networks, to and from the names of our modules.

Everything here works on plain nested dictionaries of tensors, as
:func:`~gan_inversion.checkpoints.read.read_checkpoint` returns them, and changes none of them.
A :class:`~gan_inversion.errors.CheckpointError` from here names the reason but no path: whoever
opened the file adds it.

========== ============================================== =====================================
layout     what is in ``state_dict``                      what becomes of it
========== ============================================== =====================================
psp, e4e   ``encoder.*``, ``decoder.*``                   encoder, generator
w_encoder  ``encoder.*`` without heads, ``decoder.*``     encoder into W, generator
hfgi       e4e's, ``residue.*``, ``grid_align.*``         e4e, generator, two parts
sdic       e4e's, ``SAF.*``, ``DIP.*``, losses            e4e, generator, parts
hyperstyle ``hypernet.*``, ``decoder.*``                  generator, one part; its encoder into W
           (``w_encoder.*``)                              is in another file unless it was kept
========== ============================================== =====================================

**Parts** are the networks of one method (HFGI's ``residue`` and ``grid_align``, SDIC's ``SAF`` and
``DIP``, HyperStyle's ``hypernet``) and anything else that was saved along, such as SDIC's loss
networks. They are handed over under their prefix with their own names, untouched, and belong to
whoever implements the method. (Of a hypernetwork every name and shape is compared all the same:
:mod:`~gan_inversion.checkpoints.hypernet_names`.)

**Prefixes.** A prefix is cut with its dot. The released ``get_keys`` compares without the dot, so
that a name such as ``encoder_ema.x`` would be taken for ``encoder.``; here it is its own part.
A ``module.`` in front of every name (DataParallel) is dropped.

**latent_avg.** ``[num_ws, w_dim]``, or one row that stands for all. It is added to an encoder's
output if the options say ``start_from_latent_avg``, or if they do not mention it and the file has
a ``latent_avg``. Where the options say so and the file has none, ``needs_latent_avg`` is set: the
mean latent of the generator has to be put in its place.

pSp's and e4e's networks have the same names and shapes; only the options tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..encoders import ArcFace, Encoder, Encoder4Editing, GradualStyleEncoder, LastLayerWEncoder
from ..encoders.ir_se import STAGE_CHANNELS
from ..errors import CheckpointError
from .encoder_names import count_indices, shape_of, tensors, to_ours, to_theirs, trunk_config
from .hypernet_names import hypernet_layout
from .limits import shown

AMBIGUOUS = "psp-or-e4e"
_ENCODER_TYPES = {"GradualStyleEncoder": "psp", "Encoder4Editing": "e4e"}
ENCODERS: dict[str, type[Encoder]] = {
    "psp": GradualStyleEncoder,
    "e4e": Encoder4Editing,
    "w_encoder": LastLayerWEncoder,
}
# A prefix that gives a method away.
_METHODS = {
    "hypernet": "hyperstyle",
    "SAF": "sdic",
    "DIP": "sdic",
    "residue": "hfgi",
    "grid_align": "hfgi",
}
_TOP_LEVEL = ("state_dict", "latent_avg", "opts")


@dataclass(frozen=True, eq=False)
class InversionCheckpoint:
    """A full checkpoint of the pSp family, taken apart.

    Attributes:
        layout: ``"psp"``, ``"e4e"``, ``"w_encoder"``, ``"hfgi"``, ``"sdic"`` or ``"hyperstyle"``.
        encoder_class: None where the file has no encoder, as HyperStyle's.
        encoder_config: arguments of ``encoder_class``.
        encoder_state: its state under our names, ``latent_avg`` included (zeros where nothing is
            to be added to the network's output).
        decoder: the generator's state in rosinality's names, without ``decoder.``; empty if none.
        w_avg: ``[w_dim]``, the mean of W for the generator; None where the file does not tell.
        needs_latent_avg: the encoder starts from a mean latent that the file does not hold: add the
            generator's ``w_avg`` to ``encoder_state["latent_avg"]``.
        parts: the method's own networks: prefix -> state dict, names and tensors untouched.
        training: what else lay beside ``state_dict``: ``global_step``, ``optimizer``, ...
        options: the released code's ``opts``.
        latent_avg: as the file holds it, None if it does not.
        resolution: side of the generator's image in pixels, from ``decoder``, else from the
            options; None if neither tells.
    """

    layout: str
    encoder_class: type[Encoder] | None
    encoder_config: dict[str, Any]
    encoder_state: dict[str, Tensor] = field(repr=False)
    decoder: dict[str, Tensor] = field(repr=False)
    w_avg: Tensor | None = field(repr=False)
    needs_latent_avg: bool
    parts: dict[str, dict[str, Tensor]] = field(repr=False)
    training: dict[str, Any] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    latent_avg: Tensor | None = field(default=None, repr=False)
    resolution: int | None = None
    encoder_prefix: str = field(default="encoder", repr=False)

    def build_encoder(self) -> Encoder:
        """The encoder with its weights, in evaluation mode; the tensors are shared, not copied.

        Raises:
            CheckpointError: there is none, or the mean latent has yet to be put in.
        """
        if self.encoder_class is None:
            raise CheckpointError(
                f"this {self.layout} checkpoint holds no encoder (it has "
                f"{', '.join([*self.parts, 'decoder'])}); load the file of its encoder"
            )
        if self.needs_latent_avg:
            raise CheckpointError(
                "the encoder starts from the generator's mean latent and the file has none; add "
                "the generator's `w_avg` to `encoder_state['latent_avg']` and clear "
                "`needs_latent_avg`"
            )
        with torch.device("meta"):
            encoder = self.encoder_class(**self.encoder_config)
        encoder.load_state_dict(self.encoder_state, assign=True)
        return encoder.eval()

    def with_w_avg(self, w_avg: Tensor) -> InversionCheckpoint:
        """A copy in which ``w_avg [w_dim]`` takes the place of the mean latent that is missing.

        Raises:
            ValueError: no mean latent is missing, or another shape.
        """
        if not self.needs_latent_avg:
            raise ValueError("`with_w_avg`: the checkpoint does not lack a mean latent")
        zeros = self.encoder_state["latent_avg"]
        if w_avg.shape != zeros.shape[1:]:
            raise ValueError(f"`w_avg` must have shape [{zeros.shape[1]}], got {list(w_avg.shape)}")
        rows = w_avg.detach().to(zeros).expand(zeros.shape).contiguous()
        state = self.encoder_state | {"latent_avg": rows}
        return replace(self, encoder_state=state, w_avg=rows[0], needs_latent_avg=False)


def _parts(tree: object) -> dict[str, dict[str, Tensor]]:
    """State dict -> {prefix: {rest of the name: tensor}}; a name without a dot has the rest ""."""
    if isinstance(tree, Mapping) and "state_dict" in tree:
        tree = tree["state_dict"]
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors(tree, "the state dict").items():
        prefix, _, rest = name.partition(".")
        parts.setdefault(prefix, {})[rest] = value
    return parts


def _options(tree: object) -> dict[str, Any]:
    options = tree.get("opts") if isinstance(tree, Mapping) and "state_dict" in tree else None
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise CheckpointError(f"`opts` must be a dictionary, got {type(options).__name__}")
    return {str(key): value for key, value in options.items()}


def _layout(parts: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    for prefix, method in _METHODS.items():
        if prefix in parts and ("decoder" in parts or "encoder" in parts):
            return method
    names = parts.get("encoder", {})
    if not any(name.startswith("input_layer.") for name in names):
        return None
    if not any(name.startswith("styles.") for name in names):
        return "w_encoder"
    kind = options.get("encoder_type")
    return _ENCODER_TYPES.get(kind, AMBIGUOUS) if isinstance(kind, str) else AMBIGUOUS


def inversion_layout(tree: object) -> str | None:
    """Which full checkpoint of the pSp family this is, or None.

    Returns:
        ``"psp"``, ``"e4e"``, ``"w_encoder"``, ``"hfgi"``, ``"sdic"``, ``"hyperstyle"``, None, or
        ``"psp-or-e4e"``: the networks are the same and the file's options do not tell which of the
        two it is.

    Example:
        >>> inversion_layout({"g_ema": {}, "latent_avg": None}) is None
        True
    """
    try:
        return _layout(_parts(tree), _options(tree))
    except CheckpointError:
        return None


def inversion_to_ours(
    tree: object, encoder: str | None = None, num_ws: int | None = None
) -> InversionCheckpoint:
    """Take a full checkpoint of pSp, e4e, HFGI, SDIC or HyperStyle apart.

    Args:
        tree: the content of the file: ``{"state_dict", "latent_avg", "opts", ...}``, or the state
            dict alone.
        encoder: ``"psp"`` or ``"e4e"``; needed where :func:`inversion_layout` says
            ``"psp-or-e4e"``, and stronger than what the options say.
        num_ws: rows of the code, needed for an encoder into W without generator, latent_avg and
            options, which all tell it.

    Raises:
        ValueError: `encoder` is neither of the two, or `num_ws` below 1.
        CheckpointError: another layout; a missing, unexpected or mis-shaped tensor; a question that
            only an argument can answer.
    """
    if encoder not in (None, "psp", "e4e"):
        raise ValueError(f"`encoder` must be 'psp', 'e4e' or None, got {encoder!r}")
    if num_ws is not None and num_ws < 1:
        raise ValueError(f"`num_ws` must be 1 or more, got {num_ws!r}")
    parts, options = _parts(tree), _options(tree)
    layout = _layout(parts, options)
    if layout is None:
        raise CheckpointError(
            f"no checkpoint of the pSp family: it holds {', '.join(map(shown, parts)) or 'nothing'}"
        )
    decoder = parts.pop("decoder", {})
    resolution = _resolution(decoder, options)
    stored = _latent_avg(tree, parts)

    prefix = "w_encoder" if layout == "hyperstyle" else "encoder"
    theirs = parts.pop(prefix, {})
    kind: type[Encoder] | None = None
    config: dict[str, Any] = {}
    state: dict[str, Tensor] = {}
    starts = False
    if theirs:
        name = _which_encoder(theirs, layout, options, encoder)
        layout = layout if layout in _METHODS.values() else name
        kind = ENCODERS[name]
        rows = num_ws or (2 * resolution.bit_length() - 4 if resolution else None)
        config = _encoder_config(theirs, rows, stored)
        if num_ws not in (None, config["num_ws"]):
            raise CheckpointError(f"its codes have {config['num_ws']} rows; leave out `num_ws`")
        state = to_ours(kind, config, theirs)
        # HyperStyle's code adds it without asking.
        starts = options.get("start_from_latent_avg", stored is not None)
        if not isinstance(starts, bool | int):
            raise CheckpointError(
                f"`opts.start_from_latent_avg` must be true or false, got {type(starts).__name__}"
            )
        starts = bool(starts) or layout == "hyperstyle"
        state["latent_avg"] = _mean_rows(stored if starts else None, config)
    elif layout != "hyperstyle":
        raise CheckpointError(f"it holds no encoder: nothing begins with {prefix}.")
    if layout == "hyperstyle":
        hypernet_layout(parts["hypernet"])  # whole, or refused
    beside = tree if isinstance(tree, Mapping) and "state_dict" in tree else {}
    return InversionCheckpoint(
        layout=layout,
        encoder_class=kind,
        encoder_config=config,
        encoder_state=state,
        decoder=decoder,
        w_avg=_common_row(stored),
        needs_latent_avg=starts and stored is None,
        parts=parts,
        training={str(key): value for key, value in beside.items() if key not in _TOP_LEVEL},
        options=options,
        latent_avg=stored,
        resolution=resolution,
        encoder_prefix=prefix,
    )


def _latent_avg(tree: object, parts: dict[str, dict[str, Tensor]]) -> Tensor | None:
    """The stored mean latent, from beside the state dict or out of it (and then out of `parts`)."""
    inside = parts.pop("latent_avg", {}).get("")
    beside = tree.get("latent_avg") if isinstance(tree, Mapping) else None
    stored = inside if beside is None else beside
    if stored is None:
        return None
    if not isinstance(stored, Tensor) or not stored.is_floating_point():
        raise CheckpointError(f"`latent_avg` must be a tensor, got {type(stored).__name__}")
    if stored.ndim not in (1, 2) or 0 in stored.shape:
        raise CheckpointError(
            f"`latent_avg` must have shape [w_dim] or [num_ws, w_dim], got {list(stored.shape)}"
        )
    if not bool(torch.isfinite(stored).all()):
        raise CheckpointError("`latent_avg` has values that are not finite")
    return stored


def _common_row(latent_avg: Tensor | None) -> Tensor | None:
    """The row that all rows equal, as in official files; rows that differ are no mean of W."""
    if latent_avg is None:
        return None
    rows = latent_avg.detach().reshape(-1, latent_avg.shape[-1])
    return rows[0].float().clone() if bool((rows == rows[0]).all()) else None


def _which_encoder(
    theirs: Mapping[str, Tensor], layout: str, options: Mapping[str, Any], asked: str | None
) -> str:
    if not any(name.startswith("styles.") for name in theirs):
        if asked is not None:
            raise CheckpointError("its encoder is one into W, without heads; leave out `encoder`")
        return "w_encoder"
    if asked is not None:
        return asked
    kind = options.get("encoder_type")
    if isinstance(kind, str) and kind in _ENCODER_TYPES:
        return _ENCODER_TYPES[kind]
    if layout in ("hfgi", "sdic"):
        return "e4e"  # the only one that their code has
    says = f"its options say {shown(kind)!r}" if kind is not None else "it has no `encoder_type`"
    raise CheckpointError(
        f"pSp's and e4e's networks have the same names, and {says}; "
        "pass `encoder='psp'` or `encoder='e4e'`"
    )


def _encoder_config(
    theirs: Mapping[str, Tensor], rows: int | None, latent_avg: Tensor | None
) -> dict[str, Any]:
    config = trunk_config(theirs)
    config["in_channels"] = shape_of(theirs, "input_layer.0.weight", 4)[1]
    heads = count_indices(theirs, r"styles\.(\d{1,3})\.")
    if heads:
        config["num_ws"] = heads
        config["w_dim"] = shape_of(theirs, "styles.0.linear.weight", 2)[0]
        return config
    if "output_layer_2.3.weight" in theirs:
        raise CheckpointError(
            "it is pSp's ablation 'last layer into W+' (output_layer_2), which is not supported"
        )
    config["w_dim"] = shape_of(theirs, "linear.weight", 2)[0]
    if rows is None and latent_avg is not None and latent_avg.ndim == 2 and len(latent_avg) > 1:
        rows = len(latent_avg)
    if rows is None:
        raise CheckpointError("nothing in it tells the number of styles; pass `num_ws`")
    config["num_ws"] = rows
    return config


def _mean_rows(latent_avg: Tensor | None, config: Mapping[str, Any]) -> Tensor:
    shape = (config["num_ws"], config["w_dim"])
    if latent_avg is None:
        return torch.zeros(shape)
    wide = latent_avg.shape[-1] == shape[1]
    if not wide or (latent_avg.ndim == 2 and len(latent_avg) not in (1, shape[0])):
        raise CheckpointError(
            f"`latent_avg` must have shape {list(shape)} or [{shape[1]}], "
            f"got {list(latent_avg.shape)}"
        )
    # A copy: the one small tensor that users replace or change in place.
    return latent_avg.detach().float().expand(shape).clone(memory_format=torch.contiguous_format)


def _resolution(decoder: Mapping[str, Tensor], options: Mapping[str, Any]) -> int | None:
    """Side of the generator's image: two convolutions for every doubling from 4 on."""
    doublings, odd = divmod(count_indices(decoder, r"convs\.(\d{1,3})\."), 2)
    if decoder:
        if odd or not 0 < doublings < 20:
            raise CheckpointError("decoder.convs does not hold two convolutions per resolution")
        return 4 * 2**doublings
    for name in ("stylegan_size", "output_size"):
        size = options.get(name)
        if isinstance(size, int) and 4 <= size <= 2**20 and size & (size - 1) == 0:
            return size
    return None


def ours_to_inversion(checkpoint: InversionCheckpoint) -> dict[str, Any]:
    """The inverse of :func:`inversion_to_ours`, exact: what the released code saves and loads.

    Raises:
        CheckpointError: the encoder's state is not that of its class.
    """
    state: dict[str, Tensor] = {}
    if checkpoint.encoder_class is not None:
        theirs = to_theirs(
            checkpoint.encoder_class, checkpoint.encoder_config, checkpoint.encoder_state
        )
        state |= {f"{checkpoint.encoder_prefix}.{name}": value for name, value in theirs.items()}
    for prefix, part in [("decoder", checkpoint.decoder), *checkpoint.parts.items()]:
        state |= {f"{prefix}.{name}" if name else prefix: value for name, value in part.items()}
    tree: dict[str, Any] = {"state_dict": state}
    if checkpoint.latent_avg is not None:
        tree["latent_avg"] = checkpoint.latent_avg
    return tree | {"opts": dict(checkpoint.options)} | checkpoint.training


# Face recognition


def face_id_layout(tree: object) -> str | None:
    """Which network a face-recognition file holds: ``"ir_se50"``, ``"ir101"``, ...; None: neither.

    Example:
        >>> face_id_layout({"g_ema": {}}) is None
        True
    """
    try:
        config = _face_id_config(tensors(tree, "the file"))
    except CheckpointError:
        return None
    # The field counts the first convolution in "101", the released code does not.
    depth = 101 if config["depth"] == 100 else config["depth"]
    return f"ir{'_se' if config['squeeze_excite'] else ''}{depth}"


def _face_id_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embedding_dim, flat = shape_of(state, "output_layer.3.weight", 2)
    side = round((flat / STAGE_CHANNELS[-1]) ** 0.5)
    if side * side * STAGE_CHANNELS[-1] != flat:
        raise CheckpointError(f"output_layer.3.weight reads {flat} values, not 512 x side x side")
    return {
        "input_size": 16 * side,
        **trunk_config(state),
        "embedding_dim": embedding_dim,
        "affine": "output_layer.4.weight" in state,
    }


def face_id_to_ours(tree: object) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read ``model_ir_se50.pth``, CurricularFace's IR-101 and their like for ArcFace.

    Returns:
        ``(config, state)`` for ``ArcFace(**config).load_state_dict(state)``.

    Raises:
        CheckpointError: another layout, a missing, unexpected or mis-shaped tensor.
    """
    theirs = tensors(tree, "the file")
    config = _face_id_config(theirs)
    return config, to_ours(ArcFace, config, theirs)


def ours_to_face_id(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`face_id_to_ours`, exact: the state dict that the released code loads.

    Raises:
        CheckpointError: the state is not that of ``ArcFace(**config)``.
    """
    return to_theirs(ArcFace, config, state)


# PTI


def is_pti_pivot(tree: object) -> bool:
    """Whether this is PTI's ``0.pt``: nothing but the latent code ``[1, num_ws, w_dim]``.

    (PTI's tuned generator, ``model_*.pt``, is a pickled NVlabs network and read as such.)
    """
    return isinstance(tree, Tensor) and tree.is_floating_point() and tree.ndim == 3


def pti_pivot_to_ours(tree: object) -> Tensor:
    """PTI's pivot (https://arxiv.org/abs/2106.05744) as a W+ code ``[B, num_ws, w_dim]``, float32.

    Raises:
        CheckpointError: something else than one tensor of that shape, or values that are not
            finite.
    """
    if not isinstance(tree, Tensor) or not is_pti_pivot(tree):
        got = list(tree.shape) if isinstance(tree, Tensor) else type(tree).__name__
        raise CheckpointError(f"a pivot is one tensor [1, num_ws, w_dim], got {got}")
    if not bool(torch.isfinite(tree).all()):
        raise CheckpointError("the pivot has values that are not finite")
    return tree.detach().float()
