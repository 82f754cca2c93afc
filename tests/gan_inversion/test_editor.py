"""The whole path on the astronaut, with a very short inversion; and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from gan_inversion.cli import main


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    from gan_inversion.editor import Editor
    from gan_inversion.inversion import InversionConfig

    config = InversionConfig(steps_w=3, steps_w_plus=2, steps_tune=0, steps_full=1)
    return Editor.from_pretrained(
        "dhfusion", inversion_config=config, cache=tmp_path_factory.mktemp("cache")
    )


@pytest.fixture(scope="module")
def opened(editor):
    from gan_inversion.assets import asset_path

    return editor.open(asset_path("astronaut"), progress=False)


@pytest.mark.assets
def test_edit_changes_the_face_and_leaves_the_rest(opened, tmp_path):
    result = opened.edit(smile=-2.0)
    before, after = np.asarray(opened.photo), np.asarray(result.photo)
    assert after.shape == before.shape and result.face.size == (1024, 1024)
    changed = (before != after).any(2)
    assert changed[90:190, 180:270].any(), "the face is edited"
    assert not changed[:, 400:].any() and not changed[400:].any(), "shuttle, suit and helmet"
    outside = result.mask[0, 0] == 0
    aligned = np.asarray(opened.alignment.image)
    near = torch.nn.functional.max_pool2d(result.mask, 65, 1, 32)[0, 0] == 0
    assert outside.any()
    assert (np.asarray(result.face) == aligned)[near.numpy()].all()

    written = result.save_all(tmp_path / "out", "smile")
    assert [p.name for p in written] == [
        "smile.png",
        "smile_face.png",
        "smile_sheet.png",
        "smile.json",
    ]
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(written), "no temporary files"
    report = json.loads(written[-1].read_text())
    assert report["edits"] == {"smile": -2.0} and 0 < report["mask_mean"] < 0.8
    assert report["identity_distance"] < report["identity_distance_of_plain_edit"]
    assert Image.open(written[2]).width == 5 * 384


@pytest.mark.assets
def test_strength_zero_is_the_photograph(opened):
    result = opened.edit(smile=0.0)
    assert np.array_equal(np.asarray(result.photo), np.asarray(opened.photo))
    assert result.mask.max() == 0


@pytest.mark.assets
def test_result_tends_to_the_photograph_with_the_strength(opened):
    aligned = np.asarray(opened.alignment.image, np.float32)
    changes = [
        np.abs(np.asarray(opened.edit(paste=False, smile=s).face, np.float32) - aligned).mean()
        for s in (0.02, 0.3, 2.0)
    ]
    assert changes == sorted(changes) and changes[0] < 0.05 * changes[-1]


@pytest.mark.assets
def test_an_inversion_is_computed_once(editor, opened):
    from gan_inversion.assets import asset_path

    again = editor.open(asset_path("astronaut"), progress=False)
    assert opened.inversion.seconds > 0 and again.inversion.seconds == 0
    assert torch.equal(again.inversion.w_plus, opened.inversion.w_plus)


@pytest.mark.assets
def test_plain_method_is_the_edit_of_the_inversion(editor, opened):
    from gan_inversion.methods import Plain

    method = Plain(editor.method.generator)
    change = editor.change({"age": 1.0})
    edited = method.edit(torch.zeros(1, 3, 1024, 1024), opened.inversion, change)
    assert torch.equal(edited.image, edited.plain) and edited.mask.min() == 1
    nothing = method.edit(torch.zeros(1, 3, 1024, 1024), opened.inversion, 0 * change)
    assert torch.allclose(nothing.image, opened.inversion.image, atol=1e-3)


@pytest.mark.assets
def test_errors_name_what_is_wrong(editor, opened):
    from gan_inversion.directions import UnknownDirectionError
    from gan_inversion.editor import Editor

    with pytest.raises(UnknownDirectionError, match="smile"):
        opened.edit(smille=1)
    with pytest.raises(ValueError, match="must be finite"):
        opened.edit(smile=float("nan"))
    with pytest.raises(ValueError, match="leave the space of faces"), pytest.warns(UserWarning):
        opened.edit(smile=1e20)
    with pytest.raises(ValueError, match="`name` must be one of"):
        Editor.from_pretrained("magic")
    with pytest.raises(ValueError, match="`fusion` must be"):
        Editor.from_pretrained("dhfusion", fusion="magic")


def test_help_is_instant(source_environment):
    start = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", "import sys; from gan_inversion.cli import main; main(['--help'])"],
        env=source_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "edit" in out.stdout and time.perf_counter() - start < 3.0
    code = "import sys, gan_inversion.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=source_environment, check=True)


@pytest.mark.assets
@pytest.mark.parametrize(
    "arguments,message",
    [
        (["edit", "absent.jpg", "out", "--edit", "smile=1"], "absent.jpg"),
        (["edit", "absent.jpg", "out", "--edit", "smiel=1"], "smile"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.assets
def test_a_bad_out_folder_fails_before_the_inversion(capsys, tmp_path):
    from gan_inversion.assets import asset_path

    (tmp_path / "file").write_text("")
    arguments = ["edit", str(asset_path("astronaut")), str(tmp_path / "file"), "--edit", "age=1"]
    assert main(arguments) == 1
    assert "`out` must be a folder" in capsys.readouterr().err
    assert main([*arguments[:2], str(tmp_path), "--together", "--edit=age=1", "--edit=age=2"]) == 1
    assert "--together takes each edit once" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--threads", "-1"])


def test_malformed_edit_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["edit", "a.jpg", "out", "--edit", "smile"])
    assert "NAME=STRENGTH" in capsys.readouterr().err


@pytest.mark.assets
def test_directions_are_listed(capsys):
    assert main(["directions"]) == 0
    out = capsys.readouterr().out
    assert "smile" in out and "age" in out
