"""Group c: the released encoders' own numbers, read through our layout converters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gan_inversion.checkpoints.encoder_layouts import (
    face_id_to_ours,
    inversion_to_ours,
    ours_to_inversion,
)
from gan_inversion.checkpoints.stylegan2_layouts import rosinality_to_ours
from gan_inversion.encoders import ArcFace, Encoder4Editing, IDLoss
from gan_inversion.generators.stylegan2 import StyleGAN2Generator
from tests.gan_inversion.encoders.golden import Case

pytestmark = pytest.mark.slow  # 30 to 150 million weights are drawn for each


def _encoder(case: Case, encoder: str | None):
    """The stored networks are bare; official files have them under "encoder."."""
    state = {f"encoder.{name}": value for name, value in case.weights.items()}
    num_ws = case.outputs["codes"].shape[1]
    checkpoint = inversion_to_ours(state, encoder, num_ws)
    back = ours_to_inversion(checkpoint)["state_dict"]
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)
    return checkpoint.build_encoder()


@torch.no_grad()
def _check_encoder(case: Case, encoder) -> None:
    x = case.image(case.info["input_recipe"]["name"], case.info["meta"]["input"])
    assert abs(float(x.double().sum()) - case.info["input_recipe"]["checksum"]["sum"]) < 1e-3
    case.check("codes", encoder(x))
    features = encoder.trunk(x)
    case.check("c1.slice", features.stride4[:, ::16, ::16, ::16])
    case.check("c2.slice", features.stride8[:, ::32, ::8, ::8])
    case.check("c3.slice", features.stride16[:, ::64, ::4, ::4])
    if isinstance(encoder, Encoder4Editing):
        for stage in (0, 2, 5):
            encoder.stage = stage
            case.check(f"codes_stage{stage}", encoder(x))


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("BackboneEncoderUsingLastLayerIntoW_50_ir_se_g32", None),
        ("Encoder4Editing_50_ir_se_g64", "e4e"),
        ("GradualStyleEncoder_50_ir_se_g32", "psp"),
    ],
)
def test_encoders(shared_dir, name, encoder):
    case = Case.load(shared_dir, name)
    _check_encoder(case, _encoder(case, encoder))


@torch.no_grad()
def test_arcface_and_identity_loss(shared_dir):
    case = Case.load(shared_dir, "arcface_backbone_112_50_ir_se")
    config, state = face_id_to_ours(case.weights)
    net = ArcFace(**config)
    net.load_state_dict(state)
    shapes = case.info["input_recipe"]["names"]
    images = {name: case.image(f"input.{name}", shape) for name, shape in shapes.items()}
    case.check("emb", net.eval()(images["x"]))
    loss = IDLoss(net)
    y, y_hat = images["y"], images["yhat"]
    case.check("emb_from_256_crop", loss.embed(y))
    case.check("id_loss", loss(y_hat, y).reshape(1))
    similarity = loss.similarity(y_hat, y)
    case.check("diff_target", similarity)
    # The released loss also logs how much nearer than the input the output is; there x is y.
    case.check("sim_improvement", (similarity - loss.similarity(y, y)).mean().reshape(1))


@torch.no_grad()
def test_full_checkpoint(shared_dir):
    """The whole of e4e at 32 pixels: encoder, mean latent and generator from one file."""
    case = Case.load(shared_dir, "psp_full_Encoder4Editing_g32")
    latent_avg = torch.from_numpy(case.rule.tensor(case.salt, "latent_avg", (8, 512), a=0.5))
    assert torch.equal(latent_avg, case.outputs["latent_avg"])
    # Constant blur kernels are not stored; official files have them.
    blur = torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 16
    weights = dict(case.weights)
    for i in range(3):
        weights[f"decoder.convs.{2 * i}.conv.blur.kernel"] = blur
        weights[f"decoder.to_rgbs.{i}.upsample.kernel"] = blur
    opts = {"encoder_type": "Encoder4Editing", "stylegan_size": 32, "start_from_latent_avg": True}
    tree = {"state_dict": weights, "latent_avg": latent_avg, "opts": opts}
    checkpoint = inversion_to_ours(tree)
    assert checkpoint.layout == "e4e" and checkpoint.resolution == 32 and not checkpoint.parts
    x = case.image(case.info["input_recipe"]["name"], case.info["input_recipe"]["shape"])
    codes = checkpoint.build_encoder()(x)
    case.check("codes", codes)

    config, state = rosinality_to_ours({"g_ema": checkpoint.decoder})
    generator = StyleGAN2Generator.from_state(config, state | {"w_avg": latent_avg[0]})
    image = generator.synthesis(codes)
    case.check("image", image)
    pooled = F.adaptive_avg_pool2d(image, 256)[:, :, ::8, ::8]
    case.check("image256_slice", pooled)
    mixed = codes.clone()
    mixed[:, [1, 4]] = 0.3 * latent_avg[[1, 4]] + 0.7 * codes[:, [1, 4]]
    case.check("image_latent_mask_1_4_alpha0p3", generator.synthesis(mixed))
