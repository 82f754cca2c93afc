"""Drawn faces depend on their number alone, and every factor is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_inversion.errors import PhotoError
from gan_inversion.training.drawn_images import FACTORS, GLASSES_ABOVE, draw_faces, draw_factors
from gan_inversion.training.image_source import DrawnFaces, FolderImages


def test_a_face_depends_on_its_number_alone():
    together = DrawnFaces(100, 32).images([7, 3, 7])
    assert together.shape == (3, 3, 32, 32)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])
    torch.testing.assert_close(DrawnFaces(100, 32).images([3])[0], together[1], rtol=0, atol=1e-6)
    assert not torch.equal(DrawnFaces(100, 32, seed=1).images([3])[0], together[1])
    assert together.min() >= -1 and together.max() <= 1 and together.std() > 0.2


def test_every_factor_moves_something():
    base = torch.full((1, len(FACTORS)), 0.5)
    for i, name in enumerate(FACTORS):
        changed = base.clone()
        changed[0, i] = 0.9
        moved = (draw_faces(base, 64) - draw_faces(changed, 64)).abs().amax()
        assert moved > 0.1, name
    glasses = FACTORS.index("glasses")
    almost = base.clone()
    almost[0, glasses] = GLASSES_ABOVE  # worn above, not at
    assert torch.equal(draw_faces(almost, 32), draw_faces(base, 32))


def test_factors_fill_the_range():
    factors = draw_factors(range(2000))
    assert factors.min() >= 0 and factors.max() < 1
    assert (factors.mean(0) - 0.5).abs().max() < 0.03
    correlation = torch.corrcoef(factors.T) - torch.eye(len(FACTORS))
    assert correlation.abs().max() < 0.1
    assert draw_factors([]).shape == (0, len(FACTORS))


def test_the_same_face_at_another_size():
    factors = draw_factors(range(8))
    large = draw_faces(factors, 128)
    small = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - draw_faces(factors, 32)).abs().mean() < 0.03


def test_pixels_can_be_differentiated():
    factors = draw_factors([1]).requires_grad_()
    draw_faces(factors, 32).square().sum().backward()
    assert factors.grad is not None and torch.isfinite(factors.grad).all()
    silent = [n for n, g in zip(FACTORS, factors.grad[0], strict=True) if g == 0]
    assert silent == ["glasses"]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`factors` must have shape .* got \\[2, 3\\]"):
        draw_faces(torch.zeros(2, 3), 32)
    with pytest.raises(ValueError, match="`resolution` must be at least 4"):
        draw_faces(draw_factors([0]), 2)


def test_a_folder_of_pictures(tmp_path):
    (tmp_path / "deep").mkdir()
    red = np.zeros((20, 30, 3), dtype=np.uint8)
    red[:, 5:25, 0] = 255  # the central square; what is beside it is cut off
    Image.fromarray(red).save(tmp_path / "b.png")
    Image.fromarray(np.full((16, 16), 200, dtype=np.uint8)).save(tmp_path / "deep" / "a.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    source = FolderImages(tmp_path, 16)
    assert len(source) == 2
    images = source.images([0, 1, 1])
    assert images.shape == (3, 3, 16, 16)
    assert images[0, 0].eq(1).all() and images[0, 1:].eq(-1).all()
    assert images[2].eq(200 / 127.5 - 1).all()
    name = source.name
    Image.fromarray(red + 1).save(tmp_path / "b.png")
    assert FolderImages(tmp_path, 16).name != name  # other pictures are other settings


def test_folders_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(PhotoError, match="`data` must be a folder"):
        FolderImages(tmp_path / "nowhere", 16)
    with pytest.raises(PhotoError, match="no pictures"):
        FolderImages(tmp_path, 16)
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    with pytest.raises(PhotoError, match="small.png"):
        FolderImages(tmp_path, 16)
