"""Full checkpoints of the pSp family: told apart, taken apart, put together again; or refused."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from gan_inversion.checkpoints.encoder_layouts import (
    face_id_layout,
    face_id_to_ours,
    inversion_layout,
    inversion_to_ours,
    is_pti_pivot,
    ours_to_face_id,
    ours_to_inversion,
    pti_pivot_to_ours,
)
from gan_inversion.checkpoints.hypernet_names import HypernetLayout, hypernet_layout
from gan_inversion.encoders import ArcFace, Encoder4Editing, GradualStyleEncoder, LastLayerWEncoder
from gan_inversion.errors import CheckpointError
from tests.gan_inversion.encoders import foreign
from tests.gan_inversion.encoders.foreign import FACE_LAYERS, prefixed

W_DIM, NUM_WS = 16, 4  # 2 * log2(8) - 2


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    return foreign.drawn(foreign.trunk_shapes(18))


@pytest.fixture(scope="module")
def pyramid(trunk) -> dict[str, Tensor]:
    return trunk | foreign.drawn(foreign.pyramid_shapes(NUM_WS, W_DIM))


@pytest.fixture(scope="module")
def decoder() -> dict[str, Tensor]:
    return foreign.drawn(foreign.decoder_shapes(8))


@pytest.fixture
def tree(pyramid, decoder) -> dict:
    """An e4e checkpoint with rows of latent_avg that are equal, as in official files."""
    mean = torch.randn(W_DIM)
    return {
        "state_dict": prefixed(encoder=pyramid, decoder=decoder),
        "latent_avg": mean.repeat(NUM_WS, 1),
        "opts": {"encoder_type": "Encoder4Editing", "start_from_latent_avg": True},
        "global_step": 7,
        "discriminator_state_dict": {"a": torch.ones(1)},
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_e4e_file_comes_apart_and_back(tree, decoder):
    assert inversion_layout(tree) == "e4e"
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == "e4e" and checkpoint.encoder_class is Encoder4Editing
    assert checkpoint.encoder_config == {
        "num_ws": NUM_WS, "w_dim": W_DIM, "depth": 18, "squeeze_excite": True, "in_channels": 3
    }  # fmt: skip
    assert same(checkpoint.decoder, decoder) and checkpoint.resolution == 8
    assert checkpoint.parts == {} and not checkpoint.needs_latent_avg
    assert checkpoint.training.keys() == {"global_step", "discriminator_state_dict"}
    assert torch.equal(checkpoint.w_avg, tree["latent_avg"][0])
    encoder = checkpoint.build_encoder()
    assert not encoder.training and torch.equal(encoder.latent_avg, tree["latent_avg"])
    assert torch.equal(
        encoder.trunk.units[2].shortcut.conv.weight,
        tree["state_dict"]["encoder.body.2.shortcut_layer.0.weight"],
    )

    back = ours_to_inversion(checkpoint)
    assert back.keys() == tree.keys() and back["opts"] == tree["opts"]
    assert same(back["state_dict"], tree["state_dict"])
    assert torch.equal(back["latent_avg"], tree["latent_avg"]) and back["global_step"] == 7


def test_nothing_of_the_tree_is_changed(tree):
    before = {key: value.clone() for key, value in tree["state_dict"].items()}
    encoder = inversion_to_ours(tree).build_encoder()
    with torch.no_grad():
        encoder.latent_avg.zero_()
    assert same(before, tree["state_dict"]) and tree["latent_avg"].any()
    assert len(tree) == 5


@pytest.mark.parametrize(
    ("options", "layout", "kind"),
    [
        ({"encoder_type": "GradualStyleEncoder"}, "psp", GradualStyleEncoder),
        ({"encoder_type": "Encoder4Editing"}, "e4e", Encoder4Editing),
    ],
)
def test_psp_and_e4e_are_told_apart_by_their_options(tree, options, layout, kind):
    tree["opts"] = options
    assert inversion_layout(tree) == layout
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == layout and checkpoint.encoder_class is kind


@pytest.mark.parametrize("options", [None, {}, {"encoder_type": "BackboneEncoder"}])
def test_without_options_the_caller_has_to_say(tree, options):
    tree["opts"] = options
    assert inversion_layout(tree) == "psp-or-e4e"
    with pytest.raises(CheckpointError, match="pass `encoder='psp'` or `encoder='e4e'`"):
        inversion_to_ours(tree)
    assert inversion_to_ours(tree, encoder="psp").layout == "psp"
    assert inversion_to_ours(tree, encoder="e4e").encoder_class is Encoder4Editing
    with pytest.raises(ValueError, match="`encoder` must be 'psp', 'e4e' or None, got 'w'"):
        inversion_to_ours(tree, encoder="w")


def test_a_bare_state_dict_and_dataparallel(tree):
    bare = {f"module.{key}": value for key, value in tree["state_dict"].items()}
    checkpoint = inversion_to_ours(bare, encoder="e4e")
    assert checkpoint.training == {} and checkpoint.latent_avg is None
    assert not checkpoint.build_encoder().latent_avg.any()
    inside = tree["state_dict"] | {"latent_avg": torch.ones(W_DIM)}
    checkpoint = inversion_to_ours(inside, encoder="e4e")
    assert bool((checkpoint.encoder_state["latent_avg"] == 1).all()) and not checkpoint.parts


def test_a_name_that_only_begins_like_a_prefix_is_another_part(tree):
    """The released loader would take encoder_ema.x for a parameter of the encoder."""
    tree["state_dict"]["encoder_ema.x"] = torch.ones(1)
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.parts.keys() == {"encoder_ema"}


# latent_avg


def test_latent_avg_one_row_is_repeated(tree):
    mean = torch.randn(W_DIM)
    for stored in (mean, mean[None]):
        checkpoint = inversion_to_ours(tree | {"latent_avg": stored})
        assert torch.equal(checkpoint.encoder_state["latent_avg"], mean.repeat(NUM_WS, 1))
        assert torch.equal(checkpoint.w_avg, mean)
        assert ours_to_inversion(checkpoint)["latent_avg"] is stored


def test_latent_avg_of_different_rows_is_no_mean_of_w(tree):
    rows = torch.randn(NUM_WS, W_DIM)
    checkpoint = inversion_to_ours(tree | {"latent_avg": rows})
    assert checkpoint.w_avg is None
    assert torch.equal(checkpoint.encoder_state["latent_avg"], rows)


def test_latent_avg_is_added_only_if_the_options_say_so(tree):
    tree["opts"] = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": False}
    checkpoint = inversion_to_ours(tree)
    assert not checkpoint.encoder_state["latent_avg"].any() and not checkpoint.needs_latent_avg
    assert torch.equal(checkpoint.w_avg, tree["latent_avg"][0]), "the generator's mean, still"


def test_a_latent_avg_that_is_missing_is_asked_for(tree):
    tree["latent_avg"] = None
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.needs_latent_avg
    with pytest.raises(CheckpointError, match="starts from the generator's mean latent"):
        checkpoint.build_encoder()
    with pytest.raises(ValueError, match=r"`w_avg` must have shape \[16\], got \[3\]"):
        checkpoint.with_w_avg(torch.ones(3))
    full = checkpoint.with_w_avg(torch.ones(W_DIM))
    assert bool((full.build_encoder().latent_avg == 1).all())
    with pytest.raises(ValueError, match="does not lack"):
        full.with_w_avg(torch.ones(W_DIM))


@pytest.mark.parametrize("shape", [(W_DIM + 1,), (3, W_DIM), (1, 1, W_DIM), (0, W_DIM), ()])
def test_a_latent_avg_of_another_shape_is_refused(tree, shape):
    with pytest.raises(CheckpointError, match="`latent_avg` must have shape"):
        inversion_to_ours(tree | {"latent_avg": torch.zeros(shape)})


# The other layouts


@pytest.mark.parametrize(
    ("layout", "extra"),
    [
        ("hfgi", {"residue": ["conv_layer1.0.weight"], "grid_align": ["conv_layer1.0.weight"]}),
        (
            "sdic",
            {"SAF": ["x.weight"], "DIP": ["feature.0"], "id_loss": ["a"], "lpips_loss": ["b"]},
        ),
    ],
)
def test_methods_on_top_of_e4e_keep_their_own_networks(tree, layout, extra):
    parts = {part: {key: torch.rand(2) for key in keys} for part, keys in extra.items()}
    tree["state_dict"] |= prefixed(**parts)
    tree["opts"] = {"start_from_latent_avg": True}  # their code knows no other encoder
    assert inversion_layout(tree) == layout
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == layout and checkpoint.encoder_class is Encoder4Editing
    assert checkpoint.parts.keys() == parts.keys()
    assert all(same(checkpoint.parts[name], parts[name]) for name in parts)
    checkpoint.build_encoder()
    assert same(ours_to_inversion(checkpoint)["state_dict"], tree["state_dict"])


@pytest.mark.parametrize("how", ["decoder", "latent_avg", "options", "argument"])
def test_an_encoder_into_w_takes_the_number_of_rows_from_what_there_is(trunk, decoder, how):
    parts = {"encoder": trunk | foreign.drawn(foreign.linear_shapes(W_DIM))}
    tree: dict = {"state_dict": prefixed(**parts), "opts": {"encoder_type": "WEncoder"}}
    assert inversion_layout(tree) == "w_encoder"
    with pytest.raises(CheckpointError, match="number of styles; pass `num_ws`"):
        inversion_to_ours(tree)
    if how == "decoder":
        tree["state_dict"] |= prefixed(decoder=decoder)
    elif how == "latent_avg":
        tree["latent_avg"] = torch.randn(NUM_WS, W_DIM)
    elif how == "options":
        tree["opts"]["output_size"] = 8
    checkpoint = inversion_to_ours(tree, num_ws=NUM_WS if how == "argument" else None)
    assert checkpoint.layout == "w_encoder" and checkpoint.encoder_class is LastLayerWEncoder
    assert checkpoint.encoder_config["num_ws"] == NUM_WS
    checkpoint.build_encoder()
    assert same(ours_to_inversion(checkpoint)["state_dict"], tree["state_dict"])


def test_hyperstyle_with_and_without_its_encoder(trunk, decoder):
    hypernet = foreign.zeros(HypernetLayout(FACE_LAYERS, False, 6).shapes())
    tree = {
        "state_dict": prefixed(hypernet=hypernet, decoder=decoder),
        "latent_avg": torch.ones(NUM_WS, W_DIM),
        "opts": {"encoder_type": "SharedWeightsHyperNetResNet", "output_size": 8},
    }
    assert inversion_layout(tree) == "hyperstyle"
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.encoder_class is None and checkpoint.parts.keys() == {"hypernet"}
    assert checkpoint.parts["hypernet"].keys() == hypernet.keys()
    with pytest.raises(CheckpointError, match="hyperstyle checkpoint holds no encoder"):
        checkpoint.build_encoder()
    assert ours_to_inversion(checkpoint)["state_dict"].keys() == tree["state_dict"].keys()

    w_encoder = trunk | foreign.drawn(foreign.linear_shapes(W_DIM))
    tree["state_dict"] |= prefixed(w_encoder=w_encoder)
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.encoder_class is LastLayerWEncoder
    assert bool((checkpoint.build_encoder().latent_avg == 1).all())
    assert ours_to_inversion(checkpoint)["state_dict"].keys() == tree["state_dict"].keys()

    del tree["state_dict"]["hypernet.refinement_blocks.9.linear.bias"]
    with pytest.raises(CheckpointError, match="missing refinement_blocks.9.linear.bias"):
        inversion_to_ours(tree)


@pytest.mark.parametrize("layers", [FACE_LAYERS, tuple(range(26)), (25,)])
@pytest.mark.parametrize("separable", [False, True])
def test_hypernet_layout_finds_what_it_was_made_of(layers, separable):
    layout = HypernetLayout(layers, separable, 6)
    found = hypernet_layout(foreign.zeros(layout.shapes()))
    # toRGB layers are the same in both kinds
    assert found == (layout if layers != (25,) else HypernetLayout(layers, False, 6))


def test_hypernet_of_another_kind_is_refused():
    state = foreign.zeros(HypernetLayout((24,), False, 6).shapes())
    for broken, reason in (
        (state | {"extra": torch.zeros(1)}, "unexpected extra"),
        (state | {"bn1.bias": torch.zeros(3)}, r"hypernet.bn1.bias has shape \[3\], not \[64\]"),
        (state | {"refinement_blocks.40.linear.bias": torch.zeros(3)}, "refinement_blocks.40"),
        ({}, "for 0 layers"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            hypernet_layout(broken)


# Face recognition


@pytest.mark.parametrize(
    ("depth", "squeeze", "affine", "name"),
    [(18, True, True, "ir_se18"), (50, False, False, "ir50"), (100, False, False, "ir101")],
)
def test_face_networks(depth, squeeze, affine, name):
    shapes = foreign.trunk_shapes(depth, squeeze) | foreign.face_shapes(2, 32, affine)
    state = foreign.zeros(shapes)
    assert face_id_layout(state) == name
    config, ours = face_id_to_ours(state)
    assert config == {
        "input_size": 32, "depth": depth, "squeeze_excite": squeeze, "embedding_dim": 32,
        "affine": affine,
    }  # fmt: skip
    with torch.device("meta"):
        net = ArcFace(**config)
    net.load_state_dict(ours, assign=True)
    back = ours_to_face_id(config, ours)
    assert back.keys() == state.keys()
    with pytest.raises(CheckpointError, match="the state is not that of ArcFace"):
        ours_to_face_id(config | {"affine": not affine}, ours)


def test_curricularface_ir101_full_size():
    """https://arxiv.org/abs/2004.00288: IR-101 without squeeze-and-excitation, 65.1 million."""
    shapes = foreign.trunk_shapes(100, False) | foreign.face_shapes(7, 512, False)
    config, state = face_id_to_ours(foreign.zeros(shapes))
    assert config == {
        "input_size": 112, "depth": 100, "squeeze_excite": False, "embedding_dim": 512,
        "affine": False,
    }  # fmt: skip
    with torch.device("meta"):
        net = ArcFace(**config)
    assert net.load_state_dict(state, assign=True).missing_keys == []
    assert sum(p.numel() for p in net.parameters()) == 65_128_768
    assert face_id_layout({"conv1.weight": torch.zeros(1)}) is None


# PTI


def test_pti_pivot():
    pivot = torch.randn(1, 18, 512, dtype=torch.float64, requires_grad=True)
    assert is_pti_pivot(pivot)
    code = pti_pivot_to_ours(pivot)
    assert code.dtype == torch.float32 and not code.requires_grad
    assert torch.equal(code, pivot.detach().float())
    for wrong in (torch.zeros(18, 512), torch.zeros(1, 18, 512, dtype=torch.int64), {}, None):
        assert not is_pti_pivot(wrong)
        with pytest.raises(CheckpointError, match="a pivot is one tensor"):
            pti_pivot_to_ours(wrong)
    with pytest.raises(CheckpointError, match="not finite"):
        pti_pivot_to_ours(torch.full((1, 18, 512), torch.nan))


# Files that are something else, or damaged


def change(tree: dict, **tensors: Tensor | None) -> dict:
    state = dict(tree["state_dict"])
    for name, value in tensors.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return tree | {"state_dict": state}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder.latlayer1.bias": None}, "missing latlayer1.bias"),
        ({"encoder.styles.1.convs.2.weight": None}, "missing styles.1.convs.2.weight"),
        ({"encoder.styles.9.linear.bias": torch.zeros(1)}, "unexpected styles.9.linear.bias"),
        ({"encoder.odd\n\x1b[1m": torch.zeros(1)}, r"unexpected odd\\n\\x1b\[1m"),
        ({"encoder.latlayer1.bias": torch.zeros(3)}, r"latlayer1.bias has shape \[3\]"),
        ({"encoder.latlayer1.bias": torch.zeros(512).long()}, "has dtype torch.int64"),
        ({"encoder.latlayer1.bias": torch.zeros(512, dtype=torch.complex64)}, "has dtype"),
        ({"encoder.input_layer.0.weight": torch.zeros(3)}, "must have 4 dimensions"),
        ({"encoder.input_layer.0.weight": torch.zeros(64, 0, 3, 3)}, "`in_channels` must be"),
        ({"encoder.styles.0.linear.weight": None}, "styles.0.linear.weight is missing"),
        ({"encoder.body.8.res_layer.0.bias": torch.zeros(3)}, "its trunk has 9 units"),
        ({"decoder.convs.2.noise.weight": torch.zeros(1)}, "two convolutions per resolution"),
    ],
)
def test_damaged_files_are_named(tree, changes, reason):
    with pytest.raises(CheckpointError, match=reason):
        inversion_to_ours(change(tree, **changes))


@pytest.mark.parametrize(
    "tree",
    [
        None, 3, [], {}, torch.zeros(3), "text", {"state_dict": None}, {"state_dict": {}},
        {"state_dict": {1: torch.zeros(1)}}, {"encoder.x": 3}, {"g_ema": {}, "latent_avg": None},
        {"state_dict": {"encoder.x": torch.zeros(1)}}, {"params_ema": {"a": torch.zeros(1)}},
        {"state_dict": {"a.b": torch.zeros(1)}, "opts": "text"},
    ],
)  # fmt: skip
def test_other_trees_are_no_checkpoints_of_this_family(tree):
    assert inversion_layout(tree) is None and face_id_layout(tree) is None
    with pytest.raises(CheckpointError):
        inversion_to_ours(tree)
    with pytest.raises(CheckpointError):
        face_id_to_ours(tree)


def test_the_ablation_into_w_plus_is_named(trunk):
    extra = {"output_layer_2.3.weight": torch.zeros(1), "linear.weight": torch.zeros(9, 512)}
    tree = {"state_dict": prefixed(encoder=trunk | extra)}
    with pytest.raises(CheckpointError, match="'last layer into W\\+'"):
        inversion_to_ours(tree)


def test_half_precision_becomes_float32(tree):
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in tree["state_dict"].items()
    }
    checkpoint = inversion_to_ours(tree | {"state_dict": state})
    dtypes = {value.dtype for value in checkpoint.encoder_state.values()}
    assert dtypes == {torch.float32, torch.int64}


def test_odd_arguments_and_options(tree):
    with pytest.raises(ValueError, match="`num_ws` must be 1 or more, got 0"):
        inversion_to_ours(tree, num_ws=0)
    tree["opts"]["start_from_latent_avg"] = torch.ones(3)
    with pytest.raises(CheckpointError, match="must be true or false, got Tensor"):
        inversion_to_ours(tree)


def test_mutated_trees_raise_one_exception_or_load(tree):
    """Names, shapes, types and options changed at random, up to three at once."""
    rng = random.Random(0)
    odd = [None, 3, "x", True, [], {}, torch.zeros(()), torch.zeros(2, 3), torch.ones(3).long(),
           torch.zeros(1, 1, 1, 1), torch.zeros(0), torch.full((4, 16), torch.nan)]  # fmt: skip
    names = list(tree["state_dict"])
    refused = 0
    for _ in range(150):
        mutant = {**tree, "state_dict": dict(tree["state_dict"]), "opts": dict(tree["opts"])}
        for _ in range(rng.randint(1, 3)):
            name, value = rng.choice(names), rng.choice(odd)
            where = rng.choice(["drop", "put", "rename", "top", "opts"])
            state = mutant["state_dict"]
            if not isinstance(state, dict):
                break
            if where == "drop":
                state.pop(name, None)
            elif where == "put":
                state[name] = value
            elif where == "rename":
                moved = name.replace(rng.choice("abces."), rng.choice(["", "9", ".", "\u0663"]), 1)
                state[moved] = state.pop(name, torch.zeros(1))
            elif where == "top":
                mutant[rng.choice(["latent_avg", "opts", "state_dict", "extra"])] = value
            elif isinstance(mutant["opts"], dict):
                key = rng.choice(["encoder_type", "start_from_latent_avg", "output_size"])
                mutant["opts"][key] = value
        inversion_layout(mutant)
        face_id_layout(mutant)
        try:
            checkpoint = inversion_to_ours(mutant)
            if not checkpoint.needs_latent_avg:
                checkpoint.build_encoder()
            ours_to_inversion(checkpoint)
        except CheckpointError as error:
            refused += 1
            assert len(str(error)) < 500 and str(error).isprintable()
    assert 50 < refused < 150
