"""Scores, layers and the polygons of the evaluation."""

from __future__ import annotations

import math

import pytest
import torch

from gan_inversion.known_answer import (
    REPORTING_LAYERS,
    TRAINING_LAYERS,
    average_precision,
    composite,
    draw_layer,
    score,
)
from gan_inversion.metrics.psnr import pooled_psnr


@pytest.mark.parametrize("kind", sorted(TRAINING_LAYERS | REPORTING_LAYERS))
def test_layers_are_deterministic_and_in_range(kind):
    colours, alpha = draw_layer(kind, seed=3, side=128)
    again = draw_layer(kind, seed=3, side=128)
    assert torch.equal(colours, again[0]) and torch.equal(alpha, again[1])
    assert colours.shape == (1, 3, 128, 128) and alpha.shape == (1, 1, 128, 128)
    assert colours.abs().max() <= 1 and alpha.min() >= 0 and alpha.max() <= 1
    assert 0.001 < alpha.mean() < 0.6
    assert not torch.equal(alpha, draw_layer(kind, seed=4, side=128)[1]) or not torch.equal(
        colours, draw_layer(kind, seed=4, side=128)[0]
    )


def test_no_layer_is_both_trained_on_and_reported():
    assert not set(TRAINING_LAYERS) & set(REPORTING_LAYERS)


def test_unknown_layer():
    with pytest.raises(ValueError, match="`kind` must be one of"):
        draw_layer("dragon", 0)


def test_composite_takes_the_layer_where_alpha_is_one():
    image, layer = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., :2] = 1
    out = composite(image, layer, alpha)
    assert out[..., :2].eq(1).all() and out[..., 2:].eq(0).all()


def test_score_is_0_for_nothing_and_1_for_the_ideal():
    photo, ideal = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    assert score(photo, ideal, photo) == pytest.approx(0.0)
    assert score(ideal, ideal, photo) == pytest.approx(1.0)
    assert score((photo + ideal) / 2, ideal, photo) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="strength 0"):
        score(photo, photo, photo)


def test_psnr_by_hand():
    a, b = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2)
    assert pooled_psnr(a, b) == pytest.approx(10 * math.log10(4 / 0.04), abs=1e-4)
    weight = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    b[0, :, 0, 0] = 0
    assert pooled_psnr(a, b, weight) == math.inf


def test_average_precision_by_hand():
    truth = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert average_precision(torch.tensor([0.9, 0.1, 0.8, 0.2]), truth) == pytest.approx(1.0)
    # positives at ranks 2 and 4: (1/2 + 2/4) / 2
    assert average_precision(torch.tensor([0.8, 0.9, 0.1, 0.2]), truth) == pytest.approx(0.5)
