"""Two folders of images: pairing, what is left out and said, the report, the command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_inversion.cli import main
from gan_inversion.metrics import (
    LPIPS,
    FeatureNetwork,
    FolderReport,
    IdentityNetwork,
    compare_folders,
    psnr_values,
    ssim_values,
)
from gan_inversion.metrics import folders as module
from gan_inversion.metrics.features import resize_clean

COLOUR = FeatureNetwork(
    "FD-colour", "KD-colour", "mean colour", lambda x: resize_clean(x, 8), lambda x: x.mean((2, 3))
)


def face(image: Tensor) -> Tensor | None:
    return None if image.mean() < -0.9 else image.mean((0, 2, 3))


FACES = IdentityNetwork("mean colour", face, "distance")


def write(folder: Path, name: str, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / name)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    real, fake = tmp_path / "real", tmp_path / "fake"
    for i in range(9):
        write(real, f"{i}.png", i)
        write(fake, f"{i}.bmp", 100 + i)
    return real, fake


def compare(real: Path, fake: Path, **arguments: Any) -> FolderReport:
    given = {"feature_network": COLOUR, "identity_network": FACES, "progress": False}
    return compare_folders(real, fake, **{**given, **arguments})


def read(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]


def test_values_are_the_metrics_own(pair: tuple[Path, Path]) -> None:
    report = compare(*pair)
    assert list(report.scores) == ["psnr", "ssim", "id", "FD-colour", "KD-colour"]
    assert report.pairs == [str(i) for i in range(9)]
    images = [(read(pair[0] / f"{i}.png"), read(pair[1] / f"{i}.bmp")) for i in range(9)]
    expected = [psnr_values(a, b).item() for a, b in images]
    assert report.per_pair["psnr"] == pytest.approx(expected)
    assert report.scores["psnr"].value == pytest.approx(np.mean(expected))
    expected = [ssim_values(a, b).item() for a, b in images]
    assert report.scores["ssim"].value == pytest.approx(np.mean(expected))
    assert report.scores["ssim"].n == report.scores["FD-colour"].n == 9
    assert "mean colour, 9 and 9 images" in report.scores["FD-colour"].protocol
    assert all(score.interval is not None for score in report.scores.values())
    assert compare(*pair).as_dict() == report.as_dict()


def test_what_cannot_be_compared_is_named(pair: tuple[Path, Path]) -> None:
    real, fake = pair
    write(real, "sub/lonely.png", 1)
    write(fake, "stranger.png", 2)
    (fake / "0.bmp").write_bytes(b"<html>")
    (real / "1.png").write_bytes((real / "1.png").read_bytes()[:200])
    (real / "2.png").write_bytes(b"")
    write(fake, "3.bmp", 3, size=(20, 18))
    Image.new("RGB", (40, 36)).save(real / "4.png")
    (fake / "notes.txt").write_text("hello")
    write(fake, ".hidden/5.png", 5)
    report = compare(real, fake)
    assert report.pairs == ["4", "5", "6", "7", "8"]
    assert report.only_in_real == ["sub/lonely"] and report.only_in_fake == ["stranger"]
    damaged = {str(fake / "0.bmp"), str(real / "1.png"), str(real / "2.png")}
    assert set(report.unreadable) == damaged
    assert report.left_out == {"3": "the sizes are 40 x 36 and 20 x 18; pass `resize`"}
    assert report.ignored == [str(fake / "notes.txt")]
    assert report.per_pair["id"][0] is None and report.scores["id"].n == 4
    assert "1 pairs left out, no face found" in report.scores["id"].protocol
    # The sets keep what has no partner, and lose what cannot be read.
    assert "8 and 9 images" in report.scores["FD-colour"].protocol
    table = report.table()
    for text in ("unreadable (3)", str(real / "2.png"), "not comparable (1)", "sub/lonely"):
        assert text in table


def test_resize_makes_sizes_equal_and_says_so(pair: tuple[Path, Path]) -> None:
    write(pair[1], "3.bmp", 3, size=(80, 72))
    report = compare(*pair, resize=32)
    assert len(report.pairs) == 9 and not report.left_out
    assert all("images at 32 px" in score.protocol for score in report.scores.values())
    sizes = {report.settings["resize"], compare(*pair).settings["resize"]}
    assert sizes == {32, None}


def test_report_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    out.write_text("old")
    Image.open(pair[0] / "0.png").save(pair[1] / "0.bmp")  # equal images: no infinity in JSON
    report = compare(*pair, out=out)
    stored = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert stored == report.as_dict()
    assert stored["per_pair"]["psnr"][0] == 120
    assert stored["scores"]["psnr"]["interval_protocol"].startswith("95 %, percentile bootstrap")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fake", "real", "report.json"]


def test_a_failed_write_keeps_the_old_report(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    out.write_text("old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        compare(*pair, metrics=["psnr"], out=out)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fake", "real", "report.json"]


def test_other_metrics_by_name(pair: tuple[Path, Path]) -> None:
    for name in ("0.png", "1.png"):
        write(pair[0], name, 7, size=(176, 176))
        write(pair[1], name.replace("png", "bmp"), 8, size=(176, 176))
    for i in range(2, 9):
        (pair[0] / f"{i}.png").unlink()
    report = compare(*pair, metrics=["ms-ssim", "lpips"], lpips_network=LPIPS("squeeze"))
    assert list(report.scores) == ["ms-ssim", "lpips"]
    assert report.scores["lpips"].value == 0 and "not loaded" in report.scores["lpips"].protocol
    assert 0 < report.scores["ms-ssim"].value < 1
    skimage = compare(*pair, metrics=["ssim"], ssim_variant="skimage").scores["ssim"]
    assert skimage.protocol.startswith("SSIM (skimage)")
    assert skimage.value != compare(*pair, metrics=["ssim"]).scores["ssim"].value


def test_fid_needs_the_official_network(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="'fid' is made with the official Inception only.*FD-col"):
        compare(*pair, metrics=["fid"])
    official = FeatureNetwork(
        "FID", "KID", "the real one", COLOUR.prepare, COLOUR.embed, is_official=True
    )
    report = compare(*pair, metrics=["fid", "kid"], feature_network=official)
    assert list(report.scores) == ["FID", "KID"] and report.pairs == []


def test_sets_alone_need_no_pairs(pair: tuple[Path, Path]) -> None:
    for i in range(9):
        (pair[1] / f"{i}.bmp").rename(pair[1] / f"other{i}.bmp")
    assert list(compare(*pair, metrics=["fd"]).scores) == ["FD-colour"]
    with pytest.raises(ValueError, match="has a partner of the same name"):
        compare(*pair)


def test_one_small_pair_does_not_end_a_long_run(pair: tuple[Path, Path]) -> None:
    for i in range(1, 9):
        write(pair[0], f"{i}.png", i, size=(176, 176))
        write(pair[1], f"{i}.bmp", 50 + i, size=(176, 176))
    report = compare(*pair, metrics=["psnr", "ms-ssim"])
    assert report.pairs == [str(i) for i in range(1, 9)]
    assert "sides of at least 176 px for MS-SSIM" in report.left_out["0"]
    assert len(report.per_pair["psnr"]) == len(report.per_pair["ms-ssim"]) == 8


def test_bad_arguments_are_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = pair
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ({"metrics": ["psnr", "best"]}, "`metrics` must be a list of some of"),
        ({"metrics": "psnr"}, "`metrics` must be a list"),
        ({"metrics": []}, "`metrics` must be a list"),
        ({"metrics": ["lpips"]}, "which needs `lpips_network`"),
        ({"metrics": ["ms-ssim"]}, "none of 9 pairs .* pair '0': .* at least 176 px"),
        ({"resize": 0}, "`resize` must be a side of 1 to 10000 pixels, got 0"),
        ({"resize": 10**8}, "`resize` must be a side of 1 to"),
        ({"seed": 10**20}, "`seed` must fit 63 bits"),
        ({"out": ""}, "must name a file"),
        ({"out": tmp_path / "empty"}, "`out` must name a JSON file, got a folder"),
        ({"out": fake / "1.bmp"}, "`out` must name a JSON file, got a picture's name"),
        ({"ssim_variant": "best"}, "`variant` must be one of"),
        ({"out": tmp_path / "no" / "r.json"}, "`out` must lie in a folder that exists"),
        ({"fake": tmp_path / "nowhere"}, "`fake` must be a folder of images"),
        ({"fake": tmp_path / "empty"}, "`fake`: .* holds no image"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(**{"real": real, "fake": fake, **arguments})
    write(fake, "0.png", 0)
    with pytest.raises(ValueError, match=r"0\.png and 0\.bmp in .* have one name"):
        compare(real, fake)


def test_what_no_score_can_come_of_is_said_before_the_features(pair, tmp_path: Path) -> None:
    def never(image: Tensor) -> Tensor:
        raise AssertionError("features were computed")

    idle = FeatureNetwork("FD", "KD", "none", lambda x: x, never)
    blind = IdentityNetwork("blind", lambda image: None, "distance")
    with pytest.raises(ValueError, match="any of 9 pairs: .* `metrics` without 'id'"):
        compare(*pair, metrics=["id", "fd"], feature_network=idle, identity_network=blind)
    write(tmp_path / "one", "0.png", 0)
    with pytest.raises(ValueError, match="`fake`: .*one holds one image"):
        compare(pair[0], tmp_path / "one", metrics=["psnr", "fd"], feature_network=idle)


def test_nothing_left_to_compare(pair: tuple[Path, Path]) -> None:
    for i in range(9):
        write(pair[1], f"{i}.bmp", i, size=(20, 20))
    with pytest.raises(ValueError, match="none of 9 pairs .*40 x 36 and 20 x 20; pass `resize`"):
        compare(*pair, metrics=["psnr"])


def test_command(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "efficientnet_features", lambda: COLOUR)
    out = tmp_path / "r.json"
    given = ["evaluate", *map(str, pair), "--metric", "psnr", "--metric", "fd"]
    assert main([*given, "--out", str(out), "--seed", "3"]) == 0
    shown = capsys.readouterr()
    assert "FD-colour" in shown.out and str(out) in shown.out and "pairs: 100%" in shown.err
    stored = json.loads(out.read_text())
    assert stored["settings"]["seed"] == 3 and set(stored["scores"]) == {"psnr", "FD-colour"}
    assert math.isfinite(stored["scores"]["psnr"]["value"])
    assert main([*given, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["evaluate", str(pair[0]), str(tmp_path / "none")]) == 1
    assert "`fake` must be a folder" in capsys.readouterr().err
    assert main([*given, "--clean"]) == 1
    assert "--inception FILE" in capsys.readouterr().err
    assert main([*given, "--metric", "best"]) == 1
    assert "`metrics` must be a list of some of" in capsys.readouterr().err
    page = tmp_path / "inception.pth"
    page.write_text("<!DOCTYPE html><html></html>")
    assert main([*given, "--inception", str(page)]) == 1
    assert "inception.pth" in capsys.readouterr().err


def test_metrics_are_there_when_they_are_asked_for(source_environment: dict[str, str]) -> None:
    code = (
        "import sys, gan_inversion; assert 'torch' not in sys.modules; "
        "print(gan_inversion.metrics.compare_folders.__name__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=source_environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "compare_folders", run.stderr
