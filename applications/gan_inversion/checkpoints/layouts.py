"""Which layout a file has, and the networks in it.

A layout is a function from a file's content to its parts; it returns none where the file is of
another layout. Parts are functions, called when their network is wanted: naming a file costs
nothing but reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from . import encoder_layouts as encoders
from . import stylegan2_layouts as stylegan2
from .encoder_names import without_wrapper
from .files import NetworkFile, own_network
from .limits import shown
from .read import Content

GENERATOR, DISCRIMINATOR, ENCODER, FACE_ID = "generator", "discriminator", "encoder", "face_id"
_TF_NETWORK = "dnnlib.tflib.network.Network"

Part = Callable[..., NetworkFile]


@dataclass(frozen=True)
class Found:
    """A file's layout and what is in it.

    Attributes:
        layout: short name, such as ``"rosinality"``.
        title: what it is, for people.
        parts: ``"generator"``, ``"discriminator"``, ``"encoder"``, ``"face_id"`` -> function that
            returns the network as a :class:`~.files.NetworkFile`.
        notes: what else is worth knowing.
    """

    layout: str
    title: str
    parts: dict[str, Part]
    notes: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)


def find_layout(content: Content) -> Found | None:
    """Name a file's layout; None if it is of none that this project knows.

    Raises:
        CheckpointError: a file of this project that is damaged; without the path.
    """
    if (own := _own(content)) is not None:
        return own
    content = replace(content, tree=_unwrapped(content.tree))
    for layout in _LAYOUTS:
        found = layout(content)
        if found is not None:
            return found
    return None


def _unwrapped(tree: Any) -> Any:
    """The tree without DataParallel's ``module.`` in front of all names of a state dict."""
    if not isinstance(tree, dict):
        return tree
    if _is_tensors(tree):
        return without_wrapper(tree)
    return {k: without_wrapper(v) if _is_tensors(v) else v for k, v in tree.items()}


def _generator(pair: tuple[dict[str, Any], dict[str, Tensor]]) -> NetworkFile:
    return NetworkFile("StyleGAN2Generator", *pair)


def _discriminator(pair: tuple[dict[str, Any], dict[str, Tensor]]) -> NetworkFile:
    return NetworkFile("StyleGAN2Discriminator", *pair)


def _is_tensors(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(part, Tensor) for part in value.values())
        and all(isinstance(name, str) for name in value)
    )


def _names(value: Any) -> Iterable[str]:
    return [n for n in value if isinstance(n, str)] if isinstance(value, Mapping) else []


# --- our own -----------------------------------------------------------------------------------
_OWN = {
    "StyleGAN2Generator": GENERATOR,
    "StyleGAN2Discriminator": DISCRIMINATOR,
    "GradualStyleEncoder": ENCODER,
    "Encoder4Editing": ENCODER,
    "LastLayerWEncoder": ENCODER,
    "ArcFace": FACE_ID,
}


def _own(content: Content) -> Found | None:
    network = own_network(content)
    if network is None:
        return None
    if network.network not in _OWN:
        raise CheckpointError(
            f"it holds the network {network.network!r}, expected one of {', '.join(_OWN)}"
        )
    return Found(
        "gan_inversion",
        f"{network.network} of this project",
        {_OWN[network.network]: partial(_own_part, network)},
        card=network.card,
    )


def _own_part(network: NetworkFile, **options: Any) -> NetworkFile:
    """The network, unless another one was asked for; it holds its mean latent, too."""
    if options.get("key") == "g":
        raise CheckpointError("it holds one generator; leave out `key`")
    asked = options.get("encoder")
    if asked is not None and encoders.ENCODERS[asked].__name__ != network.network:
        raise CheckpointError(f"its encoder is no {asked}; leave out `encoder`")
    rows = network.config.get("num_ws")
    if options.get("num_ws", rows) != rows:
        raise CheckpointError(f"its codes have {rows} rows; leave out `num_ws`")
    return network


# --- StyleGAN2 ---------------------------------------------------------------------------------
def _nvlabs(content: Content) -> Found | None:
    """A pickle of ``{"G", "D", "G_ema", ...}``, or of one network (PTI's tuned generators)."""
    tree = content.tree
    if not isinstance(tree, Mapping):
        return None
    if _is_tensors(tree):  # a state dict alone
        tree = {"state": tree}
    networks = {"G_ema": tree} if "state" in tree else tree
    parts: dict[str, Part] = {}
    for key in ("G_ema", "G"):
        node = networks.get(key)
        if GENERATOR not in parts and _has(node, stylegan2.is_nvlabs_generator):
            parts[GENERATOR] = partial(_nvlabs_generator, networks, key)
    for node in [tree] if "state" in tree else [tree.get("D")]:
        if _has(node, stylegan2.is_nvlabs_discriminator):
            parts[DISCRIMINATOR] = partial(_nvlabs_discriminator, node)
    if not parts:
        return None
    one = " (one network, as PTI saves its tuned generator)" if "class_name" in tree else ""
    notes = []
    if "state" in tree and "init_kwargs" not in tree:
        notes.append("no constructor's arguments: activations are taken to have no limit")
    return Found("nvlabs", f"StyleGAN2 of NVlabs' PyTorch code{one}", parts, tuple(notes))


def _has(node: Any, is_layout: Callable[[Iterable[str]], bool]) -> bool:
    return isinstance(node, Mapping) and _is_tensors(node.get("state")) and is_layout(node["state"])


def _nvlabs_generator(networks: Any, default: str, key: str | None = None) -> NetworkFile:
    key = default if key in (None, "g_ema") else "G" if key == "g" else key
    if not isinstance(networks.get(key), Mapping):
        raise CheckpointError(f"it has no {key!r}; its networks are {', '.join(_names(networks))}")
    return _generator(stylegan2.nvlabs_to_ours(networks[key]))


def _nvlabs_discriminator(node: Any) -> NetworkFile:
    return _discriminator(stylegan2.nvlabs_discriminator_to_ours(node))


def _rosinality(content: Content) -> Found | None:
    tree = content.tree
    if not isinstance(tree, Mapping):
        return None
    parts: dict[str, Part] = {}
    bare = _is_tensors(tree)
    generators = [tree] if bare else [tree.get("g_ema"), tree.get("g")]
    if any(stylegan2.is_rosinality_generator(_names(node)) for node in generators):
        parts[GENERATOR] = lambda key=None: _generator(stylegan2.rosinality_to_ours(tree, key))
    if stylegan2.is_rosinality_discriminator(_names(tree if bare else tree.get("d"))):
        parts[DISCRIMINATOR] = lambda: _discriminator(
            stylegan2.rosinality_discriminator_to_ours(tree)
        )
    if not parts:
        return None
    notes = []
    if GENERATOR in parts and tree.get("latent_avg") is None:
        notes.append("no mean latent (latent_avg): it is measured from the mapping network on load")
    trained = [key for key in ("g_optim", "d_optim") if key in tree]
    if trained:
        notes.append(f"a training file: {', '.join(trained)} are not used")
    return Found("rosinality", "StyleGAN2 of rosinality's code", parts, tuple(notes))


def _mmgen(content: Content) -> Found | None:
    tree = content.tree
    if not isinstance(tree, Mapping):
        return None
    state = tree.get("state_dict", tree)
    parts: dict[str, Part] = {}
    for prefix in ("generator_ema.", "generator.", ""):
        names = [n[len(prefix) :] for n in _names(state) if n.startswith(prefix)]
        if GENERATOR not in parts and stylegan2.is_mmgen_generator(names):
            parts[GENERATOR] = lambda key=None: _generator(
                stylegan2.mmgen_to_ours(tree, {"g_ema": "generator_ema", "g": "generator"}.get(key))
            )
    if parts and any(name.startswith("discriminator.") for name in _names(state)):
        parts[DISCRIMINATOR] = lambda: _discriminator(stylegan2.mmgen_discriminator_to_ours(tree))
    return Found("mmgen", "StyleGAN2 of MMGeneration", parts) if parts else None


def _tensorflow(content: Content) -> Found | None:
    """The first StyleGAN2 files: a pickle of (G, D, Gs), networks of NVlabs' TensorFlow code."""
    networks = content.tree
    if not isinstance(networks, (list, tuple)) or len(networks) != 3:
        return None
    if not all(isinstance(n, Mapping) and n.get("class_name") == _TF_NETWORK for n in networks):
        return None
    training, discriminator, averaged = networks

    def generator(key: str | None = None) -> NetworkFile:
        node = training if key == "g" else averaged
        return _generator(stylegan2.tf_to_ours(_tf_variables(node), _tf_settings(node)))

    def judge() -> NetworkFile:
        variables, settings = _tf_variables(discriminator), _tf_settings(discriminator)
        return _discriminator(stylegan2.tf_discriminator_to_ours(variables, settings))

    parts: dict[str, Part] = {}
    if stylegan2.is_tf_generator(_tf_variables(averaged)):
        parts = {GENERATOR: generator, DISCRIMINATOR: judge}
    title = "StyleGAN2" if parts else "a network (StyleGAN 1 or ProGAN, not supported)"
    return Found("tensorflow", f"{title} of NVlabs' TensorFlow code", parts)


def _tf_variables(node: Any, prefix: str = "") -> dict[str, Tensor]:
    """All variables of a network and its components, as the TensorFlow graph names them."""
    state = node.get("state", {}) if isinstance(node, Mapping) else {}
    pairs = state.get("variables", ())
    result: dict[str, Tensor] = {}
    for pair in pairs if isinstance(pairs, (list, tuple)) else ():
        if len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor):
            result[prefix + pair[0]] = pair[1]
    components = state.get("components") or {}
    for name, part in components.items() if isinstance(components, Mapping) else ():
        result |= _tf_variables(part, f"G_{name}/")
    return result


def _tf_settings(node: Any) -> dict[str, Any]:
    settings = node["state"].get("static_kwargs")
    return dict(settings) if isinstance(settings, Mapping) else {}


# --- encoders and face recognition -------------------------------------------------------------
_FAMILY = {
    "psp": "pSp",
    "e4e": "e4e",
    "psp-or-e4e": "pSp or e4e (their networks are equal, and the file does not tell)",
    "w_encoder": "encoder into W of the e4e code",
    "hfgi": "HFGI",
    "sdic": "SDIC",
    "hyperstyle": "HyperStyle",
}


def _inversion(content: Content) -> Found | None:
    tree = content.tree
    layout = encoders.inversion_layout(tree)
    if layout is None:
        return None
    names = _names(tree.get("state_dict", tree))
    prefixes = sorted({name.partition(".")[0] for name in names})
    parts: dict[str, Part] = {}
    if layout != "hyperstyle" or "w_encoder" in prefixes:
        parts[ENCODER] = partial(_encoder, tree)
    if "decoder" in prefixes:
        parts[GENERATOR] = partial(_decoder, tree)
    notes = []
    own = [p for p in prefixes if p not in ("encoder", "decoder", "latent_avg")]
    if own:
        names = ", ".join(shown(prefix, 40) for prefix in own[:10])
        more = f" and {len(own) - 10} more" if len(own) > 10 else ""
        notes.append(f"networks of the method beside them: {names}{more}")
    if "latent_avg" not in prefixes and tree.get("latent_avg") is None:
        notes.append("no mean latent (latent_avg) in the file")
    return Found(layout, f"a full checkpoint of {_FAMILY[layout]}", parts, tuple(notes))


def _taken_apart(
    tree: Any, encoder: str | None, num_ws: int | None
) -> encoders.InversionCheckpoint:
    return encoders.inversion_to_ours(tree, encoder, num_ws)


def _encoder(
    tree: Any,
    encoder: str | None = None,
    num_ws: int | None = None,
    w_avg: Tensor | None = None,
) -> NetworkFile:
    found = _taken_apart(tree, encoder, num_ws)
    kind = found.encoder_class
    if kind is None:
        raise CheckpointError("it holds no encoder; HyperStyle keeps its encoder in another file")
    if found.needs_latent_avg:
        if w_avg is None and found.decoder:
            w_avg = _w_avg_of(found)
        if w_avg is None:
            raise CheckpointError(
                "its encoder starts from a mean latent that the file does not hold; pass `w_avg`, "
                "that of the generator it was trained with"
            )
        found = found.with_w_avg(w_avg)
    return NetworkFile(kind.__name__, found.encoder_config, found.encoder_state)


def _w_avg_of(found: encoders.InversionCheckpoint) -> Tensor:
    from ..generators.stylegan2 import StyleGAN2Generator

    config, state = stylegan2.rosinality_to_ours({"g_ema": found.decoder})
    return StyleGAN2Generator.from_state(config, state).w_avg


def _decoder(tree: Any, key: str | None = None) -> NetworkFile:
    if key == "g":
        raise CheckpointError("it holds one generator; leave out `key`")
    # Which encoder it is does not matter to the generator, and it may be told by no option.
    ambiguous = encoders.inversion_layout(tree) == "psp-or-e4e"
    found = _taken_apart(tree, "psp" if ambiguous else None, None)
    theirs: dict[str, Any] = {"g_ema": found.decoder}
    if found.w_avg is not None:
        theirs["latent_avg"] = found.w_avg
    return _generator(stylegan2.rosinality_to_ours(theirs))


def _face_id(content: Content) -> Found | None:
    layout = encoders.face_id_layout(content.tree)
    if layout is None:
        return None

    def part() -> NetworkFile:
        return NetworkFile("ArcFace", *encoders.face_id_to_ours(content.tree))

    return Found(layout, f"a face-recognition network ({layout}, ArcFace)", {FACE_ID: part})


# --- known, and not a network that this package builds -----------------------------------------
_OTHERS: tuple[tuple[str, str, str], ...] = (
    ("synthesis.input.transform", "stylegan3", "a StyleGAN3 generator, which is not supported"),
    ("generator.progression.0.conv1.0.weight", "stylegan1", "rosinality's StyleGAN 1"),
    ("features.0.weight", "imagenet", "an ImageNet classifier (a trunk for LPIPS, if AlexNet/VGG)"),
    ("Conv2d_1a_3x3.conv.weight", "inception", "Inception v3 (features for FID and KID)"),
    ("lin0.model.1.weight", "lpips", "LPIPS' linear heads"),
    ("_conv_stem.weight", "efficientnet", "EfficientNet (perceptual features)"),
)


def _other(content: Content) -> Found | None:
    tree = content.tree
    network = content.metadata.get("network")
    if network is not None:
        return Found("method", f"weights of {network!r}, one of this project's methods", {})
    if isinstance(tree, Tensor):
        shape = list(tree.shape)
        if tree.ndim in (1, 2, 3) and tree.is_floating_point():
            title = f"one tensor {shape}: an edit direction, a latent code or PTI's pivot"
            return Found("latent", title, {}, ("`gan-inversion edit --direction FILE` takes it",))
        return Found("tensor", f"one tensor {shape}", {})
    nodes: list[Any] = [tree]
    if isinstance(tree, Mapping):
        nodes += [tree.get("state"), tree.get("state_dict"), tree.get("G_ema"), tree.get("g_ema")]
        nodes += [node.get("state") for node in nodes if isinstance(node, Mapping)]
    for name, layout, title in _OTHERS:
        if any(isinstance(node, Mapping) and name in node for node in nodes):
            return Found(layout, title, {})
    return None


_LAYOUTS: tuple[Callable[[Content], Found | None], ...] = (
    _nvlabs,
    _tensorflow,
    _inversion,
    _rosinality,
    _mmgen,
    _face_id,
    _other,
)
