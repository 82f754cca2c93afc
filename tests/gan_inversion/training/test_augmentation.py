"""Augmentations: each does what its name says, none leaks, and the controller follows the sign."""

from __future__ import annotations

import pytest
import torch

from gan_inversion.training import augmentation
from gan_inversion.training.augmentation import AdaptiveAugmentation, augment


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_happens_at_probability_zero():
    x = torch.randn(8, 3, 9, 9)
    assert torch.equal(augment(x, 0.0, rng()), x)


def test_geometry_only_moves_pixels(monkeypatch):
    """Mirrored, turned and shifted images consist of the pixels of the first one, reflected."""
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION"):
        monkeypatch.setattr(augmentation, name, 0.0)
    x = torch.arange(16 * 16.0).view(1, 1, 16, 16).expand(256, 3, -1, -1)
    y = augment(x, 1.0, rng())
    # Every result is one of 2 mirrorings x 4 turns x 5 x 5 shifts of the reflected picture.
    padded = torch.nn.functional.pad(x[:1], (2, 2, 2, 2), mode="reflect")[0]
    found, unchanged = set(), 0
    for image in y:
        matches = [
            (top, left, turns, mirror)
            for top in range(5)
            for left in range(5)
            for turns in range(4)
            for mirror in (False, True)
            if torch.equal(_moved(padded, top, left, turns, mirror), image)
        ]
        assert matches
        found.add(matches[0])
        unchanged += torch.equal(image, x[0])
    assert len(found) > 60 and unchanged < 20
    assert {m[2] for m in found} == {0, 1, 2, 3} and {m[3] for m in found} == {False, True}


def _moved(padded, top, left, turns, mirror):
    image = padded[:, top : top + 16, left : left + 16]
    image = torch.rot90(image, turns, (1, 2))
    return image.flip(2) if mirror else image


@pytest.mark.parametrize("kept", ["BRIGHTNESS", "CONTRAST", "SATURATION"])
def test_colour(kept, monkeypatch):
    """One at a time: a sum, a factor, a factor on the distance from grey."""
    for name in {"BRIGHTNESS", "CONTRAST", "SATURATION"} - {kept}:
        monkeypatch.setattr(augmentation, name, 0.0)
    # Constant in space, so that moving pixels changes nothing.
    x = torch.randn(4000, 3, 1, 1, generator=rng(1)).expand(-1, -1, 4, 4)
    y = augment(x, 1.0, rng())
    a, b = x[:, :, 0, 0], y[:, :, 0, 0]
    grey_a, grey_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    if kept == "BRIGHTNESS":
        values = (b - a)[:, :1]
        torch.testing.assert_close(b - a, values.expand(-1, 3), atol=1e-6, rtol=0)
        assert values.std() == pytest.approx(0.2, rel=0.05)
    elif kept == "CONTRAST":
        values = b[:, :1] / a[:, :1]
        torch.testing.assert_close(b, a * values, atol=1e-5, rtol=1e-4)
        assert values.log2().std() == pytest.approx(0.5, rel=0.05)
    else:
        torch.testing.assert_close(grey_a, grey_b, atol=1e-5, rtol=1e-4)
        values = ((b - grey_b).norm(dim=1) / (a - grey_a).norm(dim=1)).log2()
        assert values.std() == pytest.approx(1.0, rel=0.05)


def test_the_probability_is_that_of_each_transformation(monkeypatch):
    monkeypatch.setattr(augmentation, "CONTRAST", 0.0)
    monkeypatch.setattr(augmentation, "SATURATION", 0.0)
    x = torch.zeros(4000, 3, 2, 2)
    changed = (augment(x, 0.3, rng()) != 0).any(1).any(1).any(1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.03)


def test_differentiable_twice_and_grey_images():
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: augment(t, 0.8, rng(3)).square(), (x,))
    assert augment(torch.randn(2, 1, 8, 8), 1.0, rng()).shape == (2, 1, 8, 8)


def test_the_controller_follows_the_sign_and_stays_in_range():
    ada = AdaptiveAugmentation(target=0.6, speed=1000, interval=4)
    for _ in range(3):
        ada.update(1.0, 50)
    assert ada.p == 0
    ada.update(1.0, 50)
    assert ada.p == pytest.approx(0.2)  # 4 steps of 50 images, of 1000
    for _ in range(40):
        ada.update(0.9, 50)
    assert ada.p == 1.0
    for _ in range(4):
        ada.update(0.5, 50)
    assert ada.p == pytest.approx(0.8)
    for _ in range(60):
        ada.update(-1.0, 50)
    assert ada.p == 0.0
    fixed = AdaptiveAugmentation(target=None, p=0.5)
    for _ in range(8):
        fixed.update(1.0, 1000)
    assert fixed.p == 0.5


def test_its_state_resumes_between_two_adjustments():
    whole, first = AdaptiveAugmentation(speed=1000), AdaptiveAugmentation(speed=1000)
    signs = [0.9, 0.2, 0.7, 0.8, 1.0, 0.9, 0.9]
    for sign in signs:
        whole.update(sign, 10)
    for sign in signs[:6]:
        first.update(sign, 10)
    second = AdaptiveAugmentation(speed=1000)
    second.load_state_dict(first.state_dict())
    second.update(signs[6], 10)
    assert second.state_dict() == whole.state_dict() and whole.p > 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`p` must be from 0 to 1, got 2"):
        AdaptiveAugmentation(p=2)
    with pytest.raises(ValueError, match="`speed` and `interval` must be positive"):
        AdaptiveAugmentation(speed=0)
