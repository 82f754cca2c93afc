"""The key lists of full-size checkpoints: none missing, none unexpected; one element per tensor."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from gan_inversion.checkpoints.encoder_layouts import (
    face_id_layout,
    face_id_to_ours,
    inversion_layout,
    inversion_to_ours,
    ours_to_face_id,
    ours_to_inversion,
)
from gan_inversion.checkpoints.hypernet_names import HypernetLayout, hypernet_layout
from gan_inversion.encoders import ArcFace
from tests.gan_inversion.encoders.foreign import FACE_LAYERS, prefixed


def stored_layout(path) -> dict[str, Tensor]:
    """A file of that layout: every tensor with its shape and type, one element of memory each."""
    return {
        name: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for name, shape, dtype in json.loads(path.read_text())
    }


@pytest.mark.parametrize(
    ("file", "options", "layout", "count", "num_ws", "size"),
    [
        ("psp_Encoder4Editing_1024", "Encoder4Editing", "e4e", 621, 18, 1024),
        ("psp_Encoder4Editing_512", "Encoder4Editing", "e4e", 593, 16, 512),
        ("psp_GradualStyleEncoder_1024", "GradualStyleEncoder", "psp", 621, 18, 1024),
        ("psp_SingleStyleCodeEncoder_1024", "SingleStyleCodeEncoder", "w_encoder", 387, 18, 1024),
    ],
)
def test_full_size_key_lists(shared_dir, file, options, layout, count, num_ws, size):
    folder = shared_dir / "golden" / "c_encoders" / "layouts_fullsize"
    state = stored_layout(folder / f"{file}.json")
    tree = {"state_dict": state, "latent_avg": torch.zeros(num_ws, 512),
            "opts": {"encoder_type": options, "start_from_latent_avg": True}}  # fmt: skip
    assert inversion_layout(tree) == layout
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == layout and checkpoint.resolution == size
    assert checkpoint.encoder_config == {
        "num_ws": num_ws, "w_dim": 512, "depth": 50, "squeeze_excite": True, "in_channels": 3
    }  # fmt: skip
    assert checkpoint.parts == {}
    with torch.device("meta"):
        encoder = checkpoint.encoder_class(**checkpoint.encoder_config)
    result = encoder.load_state_dict(checkpoint.encoder_state, strict=False, assign=True)
    assert result.missing_keys == [] and result.unexpected_keys == []
    # Every key is either in the decoder or in the encoder, which has latent_avg on top.
    assert len(checkpoint.encoder_state) == count + 1
    assert len(checkpoint.decoder) + count == len(state)
    assert ours_to_inversion(checkpoint)["state_dict"].keys() == state.keys()


@pytest.mark.parametrize(
    ("file", "layers", "separable"),
    [
        ("SharedWeightsHyperNetResNet", tuple(range(26)), False),
        ("SharedWeightsHyperNetResNet_faces", FACE_LAYERS, False),
        ("SharedWeightsHyperNetResNetSeparable", tuple(range(26)), True),
    ],
)
def test_full_size_hyperstyle(shared_dir, file, layers, separable):
    """The whole file: the hypernetwork's names are all known, none is missing, none is over."""
    golden = shared_dir / "golden"
    folder = golden / "e_modules" / "hyperstyle" / "layouts_fullsize"
    hypernet = stored_layout(folder / f"{file}.json")
    psp = stored_layout(golden / "c_encoders/layouts_fullsize/psp_SingleStyleCodeEncoder_1024.json")
    state = prefixed(hypernet=hypernet)
    state |= {key: value for key, value in psp.items() if key.startswith("decoder.")}
    state |= {f"w_{key}": value for key, value in psp.items() if key.startswith("encoder.")}
    tree = {"state_dict": state, "latent_avg": torch.zeros(18, 512), "opts": {}}
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == "hyperstyle" and checkpoint.resolution == 1024
    assert checkpoint.parts.keys() == {"hypernet"}
    assert checkpoint.parts["hypernet"].keys() == hypernet.keys()
    layout = hypernet_layout(checkpoint.parts["hypernet"])
    assert layout == HypernetLayout(layers, separable, 6)
    assert {k: tuple(v.shape) for k, v in hypernet.items()} == layout.shapes()
    assert len(checkpoint.decoder) == 171 and len(checkpoint.encoder_state) == 388
    assert ours_to_inversion(checkpoint)["state_dict"].keys() == state.keys()


def test_full_size_face_network(shared_dir):
    path = shared_dir / "golden" / "c_encoders" / "arcface_backbone_112_50_ir_se" / "layout.json"
    state = stored_layout(path)
    assert len(state) == 397 and face_id_layout(state) == "ir_se50"
    config, ours = face_id_to_ours(state)
    assert config == ArcFace(**config).config and config["input_size"] == 112
    assert ours_to_face_id(config, ours).keys() == state.keys()
