"""ONNX files, torch.export and torch.compile of the generators and of the edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_inversion import export
from gan_inversion.checkpoints.files import workplace
from gan_inversion.cli import main
from gan_inversion.errors import GanInversionError
from gan_inversion.generators import load_default_generator
from gan_inversion.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from gan_inversion.methods.dhfusion import DHNet, DHNetConfig
from hypergraph import KNN

CONFIG = StyleGAN2Config(8, (6, 4), z_dim=8, w_dim=8, num_mapping_layers=2)


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    torch.manual_seed(3)
    state = StyleGAN2Generator(CONFIG).state_dict()
    for name, value in state.items():
        if name.endswith((".bias", "noise_strength")):
            value.add_(torch.randn_like(value), alpha=0.2)
    return StyleGAN2Generator.from_state(CONFIG, state)


def needs_the_extra() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"skipped: {name} not installed (extra: export)")


def run(path: Path, **inputs: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (image,) = session.run(["image"], {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(image)


def close(got: Tensor, expected: Tensor) -> bool:
    return bool((got - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("noise, beside", [("const", False), ("none", True)])
def test_the_generator_as_onnx(generator, noise: str, beside: bool, tmp_path: Path) -> None:
    needs_the_extra()
    path = tmp_path / "g.onnx"
    done = export.export_generator(generator, path, noise=noise, external_data=beside)
    assert done.inputs == {"w_plus": ("batch", 4, 8)}
    assert done.outputs["image"][0] == "batch" and done.outputs["image"][2:] == (8, 8)
    assert done.difference["image"] <= 1e-5 and done.batches == (1, 3)
    assert sorted(tmp_path.iterdir()) == sorted(done.files) and len(done.files) == 1 + beside
    w = torch.randn(5, 4, 8)  # a batch that was not tried
    assert close(run(path, w_plus=w), generator.synthesis(w, noise=noise))
    assert not close(run(path, w_plus=w), generator.synthesis(w + 0.1, noise=noise))
    assert str(path) in str(done) and "largest difference" in str(done)


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(generator, tmp_path: Path, monkeypatch) -> None:
    needs_the_extra()
    path = tmp_path / "g.onnx"
    path.write_text("the old one")
    traced = export._traced

    def other(network: nn.Module, *rest):  # what is written is of another network
        changed = StyleGAN2Generator(CONFIG)
        return traced(export._Render(changed, "const", 8).eval(), *rest)

    monkeypatch.setattr(export, "_traced", other)
    with pytest.raises(GanInversionError, match="`image` differs from PyTorch's"):
        export.export_generator(generator, path)
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]


class _Mask(nn.Module):
    """DH-Net from taps to its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.dh_net = DHNet(DHNetConfig(3, 16, 8, 1, 5, 1.0, 8, heads=2))
        for module in self.dh_net.modules():
            if isinstance(module, KNN):
                module.implementation = "reference"

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
        mask = self.dh_net([a, b, c], [d, e, f]).attention[-1]
        assert isinstance(mask, Tensor)
        return mask


def test_dh_net_as_onnx(tmp_path: Path) -> None:
    """Neighbours, their table's transpose and cross-correlation, in ONNX's operators."""
    needs_the_extra()
    names = tuple("abcdef")

    def taps(batch: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        shapes = ((24, 64, 64), (40, 32, 32), (112, 16, 16)) * 2
        return tuple(torch.randn(batch, *shape, generator=rng) for shape in shapes)

    torch.manual_seed(0)
    network = _Mask().eval().requires_grad_(False)
    path = tmp_path / "mask.onnx"
    done = export._export(network, path, taps, names, ("mask",), 1e-5, (1, 3), None)
    assert done.difference["mask"] <= 1e-5
    assert done.outputs == {"mask": ("batch", 1, 8, 8)}


@pytest.mark.slow
@pytest.mark.assets
def test_the_edit_as_onnx(tmp_path: Path) -> None:
    needs_the_extra()
    from gan_inversion.methods.dhfusion import DHFusion

    method = DHFusion(load_default_generator())
    done = export.export_edit(method, tmp_path / "edit.onnx", batches=(1,))
    assert set(done.inputs) == {"photo", "inverted", "w_plus", "change"}
    assert set(done.outputs) == {"image", "plain", "mask"}
    assert done.difference["plain"] <= 1e-4 and done.difference["image"] <= 1e-2


def test_wrong_arguments_are_named(generator, tmp_path: Path) -> None:
    cases = {
        "`noise`": {"noise": "random"},
        "`resolution`": {"resolution": 5},
        "`tolerance`": {"tolerance": 0.0},
        "`batches`": {"batches": (0,)},
    }
    for message, options in cases.items():
        with pytest.raises(ValueError, match=message):
            export.export_generator(generator, tmp_path / "g.onnx", **options)
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        export.export_generator(generator, tmp_path / "g.pt")
    (tmp_path / "g.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="`path` must name a file"):
        export.export_generator(generator, tmp_path / "g.onnx")


def test_options_that_would_do_nothing_are_refused(capsys) -> None:
    for options, message in (
        (["--sha256", "0" * 64], "--sha256 is for a file"),
        (["--fusion", "blend"], "--fusion is for --part edit"),
    ):
        assert main(["export", "default", "g.onnx", *options]) == 1
        assert message in capsys.readouterr().err


def test_a_missing_extra_is_named(generator, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"hypergraph-nn\[export\]"):
        export.export_generator(generator, tmp_path / "g.onnx")
    assert list(tmp_path.iterdir()) == []


def test_publishing_replaces_both_files(tmp_path: Path) -> None:
    """The data of the file before goes when the new file is there; others' files stay."""
    target = tmp_path / "g.onnx"
    old = tmp_path / f"g.onnx.{'0' * 16}.data"
    other = tmp_path / f"h.onnx.{'0' * 16}.data"
    for path in (target, old, other):
        path.write_text("old")
    with workplace(target) as folder:
        (folder / "g.onnx").write_text("new")
        (folder / f"g.onnx.{'1' * 16}.data").write_text("weights")
        export._publish(folder / "g.onnx", target, f"g.onnx.{'1' * 16}.data")
    new = tmp_path / f"g.onnx.{'1' * 16}.data"
    assert sorted(tmp_path.iterdir()) == sorted([target, new, other])
    assert target.read_text() == "new" and new.read_text() == "weights"


def exported(network: nn.Module, example: Tensor) -> nn.Module:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes=shapes).module()


@pytest.mark.slow
def test_torch_export_with_any_batch(generator) -> None:
    program = exported(generator, torch.randn(2, 4, 8))
    for batch in (1, 3, 12):
        w = torch.randn(batch, 4, 8)
        assert close(program(w), generator(w))


@pytest.mark.slow
def test_torch_compile_as_one_graph(generator) -> None:
    w = torch.randn(2, 4, 8)
    compiled = torch.compile(generator, fullgraph=True)
    with torch.no_grad():
        assert close(compiled(w), generator(w))


@pytest.mark.slow
@pytest.mark.assets
def test_torch_export_of_the_default_generator() -> None:
    g = load_default_generator()
    rng = torch.Generator().manual_seed(0)
    program = exported(g, g.broadcast(g.sample_w(2, generator=rng)).contiguous())
    w = g.broadcast(g.sample_w(1, generator=rng)).contiguous()
    with torch.no_grad():
        assert close(program(w), g(w))


@pytest.mark.slow
@pytest.mark.assets
def test_torch_compile_of_the_default_generator() -> None:
    """One graph; the code generator takes minutes at this size, so the graph itself is run."""
    g = load_default_generator()
    rng = torch.Generator().manual_seed(0)
    w = g.broadcast(g.sample_w(1, generator=rng)).contiguous()
    compiled = torch.compile(g, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert close(compiled(w), g(w))
