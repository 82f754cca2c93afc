"""The optional compiled path: how it is built, found and refused, and what it computes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hypergraph_kernels import compiled
from hypergraph_kernels.compiled import _build, _library
from hypergraph_kernels.compiled.__main__ import main

COMPILER = _build.find_compiler()
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on PATH")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A cache folder of this module with the library in it."""
    if COMPILER is None:
        pytest.skip("no C compiler on PATH")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        compiled.build()
        path = _build.built_libraries()[0]
    yield path
    _library.forget()


@pytest.fixture
def library(built, monkeypatch):
    """The library of this module, in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parent.parent))
    _library.forget()
    assert compiled.is_available()
    yield built
    _library.forget()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _library.forget()
    yield tmp_path / "hypergraph-nn"
    _library.forget()


def copied(library: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / library.name
    shutil.copy(library, copy)
    copy.chmod(0o600)
    return copy


class TestBuild:
    def test_nothing_is_built_by_looking(self, empty_cache):
        assert not compiled.is_available()
        assert not empty_cache.exists()

    def test_using_it_unbuilt_says_what_to_do(self, empty_cache):
        pairs = torch.zeros(1, dtype=torch.int64)
        with pytest.raises(RuntimeError, match="python -m hypergraph_kernels.compiled build"):
            compiled.sort_pairs(pairs, pairs, 1)

    def test_no_compiler(self, empty_cache, monkeypatch):
        monkeypatch.setenv("PATH", str(empty_cache))
        with pytest.raises(compiled.BuildError, match="cc, gcc or clang was not found on PATH"):
            compiled.build()
        with pytest.raises(compiled.BuildError, match="`compiler` 'icc' was not found"):
            compiled.build(compiler="icc")

    @pytest.mark.skipif(shutil.which("false") is None, reason="needs the command false")
    def test_failing_compiler(self, empty_cache):
        with pytest.raises(compiled.BuildError, match="failed"):
            compiled.build(compiler="false")
        assert list(empty_cache.iterdir()) == []

    def test_folder_that_cannot_be_made(self, tmp_path, monkeypatch, built):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(compiled.BuildError, match="XDG_CACHE_HOME"):
            compiled.build()

    def test_relative_cache_is_ignored(self, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
        assert _build.cache_folder() == Path.home() / ".cache" / "hypergraph-nn"

    def test_sound_library_is_kept(self, library):
        before = library.stat().st_mtime_ns
        assert compiled.build() == library
        assert library.stat().st_mtime_ns == before
        assert library.stat().st_mode & 0o077 == 0

    @needs_compiler
    def test_two_processes_at_once(self, empty_cache):
        command = [sys.executable, "-m", "hypergraph_kernels.compiled", "build"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        pipe = subprocess.PIPE
        both = [subprocess.Popen(command, env=environment, stderr=pipe) for _ in range(2)]
        errors = [process.communicate()[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], errors
        assert list(empty_cache.glob("building-*")) == []
        assert compiled.is_available()


class TestCommand:
    @needs_compiler
    def test_build_status_remove(self, empty_cache, capsys):
        assert main(["status"]) == 0
        assert "in use: no" in capsys.readouterr().out
        assert main(["build"]) == 0
        assert "on this processor" in capsys.readouterr().out
        assert main(["status"]) == 0
        status = capsys.readouterr().out
        assert ": sound" in status and "in use: yes" in status
        assert main(["remove"]) == 0
        assert "deleted" in capsys.readouterr().out
        assert list(empty_cache.iterdir()) == []

    def test_without_compiler(self, empty_cache, monkeypatch, capsys):
        monkeypatch.setenv("PATH", str(empty_cache))
        assert main(["build"]) == 1
        assert "no C compiler" in capsys.readouterr().err


class TestRefused:
    """Files that must never be loaded."""

    def test_truncated(self, built, empty_cache):
        copy = copied(built, empty_cache)
        copy.write_bytes(copy.read_bytes()[:5000])
        with pytest.warns(RuntimeWarning, match="its content is not what was built"):
            assert not compiled.is_available()

    @needs_compiler
    def test_truncated_is_built_again(self, built, empty_cache):
        copy = copied(built, empty_cache)
        copy.write_bytes(b"")
        path = compiled.build()
        assert _build.fault_of(path) is None and compiled.is_available()

    def test_other_source_is_not_looked_at(self, built, empty_cache):
        copy = copied(built, empty_cache)
        other = copy.with_name(copy.name.replace(_build.source_digest(), "0" * 16))
        copy.rename(other)
        assert not compiled.is_available()
        assert _build.fault_of(other) == "it was built from another source or for another machine"

    @needs_compiler
    def test_renamed_from_other_source(self, empty_cache, monkeypatch, tmp_path):
        """The digest inside the library decides, whatever its name says."""
        source = tmp_path / "kernels.c"
        source.write_bytes(_build._SOURCE.read_bytes() + b"\nint other(void) { return 1; }\n")
        with monkeypatch.context() as patch:
            patch.setattr(_build, "_SOURCE", source)
            _build.source_digest.cache_clear()
            path, digest = _build.build(), _build.source_digest()
        _build.source_digest.cache_clear()
        path.rename(path.with_name(path.name.replace(digest, _build.source_digest())))
        with pytest.warns(RuntimeWarning, match=f"built from source {digest}"):
            assert not compiled.is_available()

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
    def test_writable_by_others(self, built, empty_cache):
        copied(built, empty_cache).chmod(0o622)
        with pytest.warns(RuntimeWarning, match="other users may write to it"):
            assert not compiled.is_available()

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
    def test_of_another_user(self, built, empty_cache, monkeypatch):
        copied(built, empty_cache)
        monkeypatch.setattr(os, "getuid", lambda: 123456)
        with pytest.warns(RuntimeWarning, match="it belongs to another user"):
            assert not compiled.is_available()


class TestThreads:
    def test_parts_in_order(self):
        assert _library.in_threads(lambda part: part * 10, 5) == [0, 10, 20, 30, 40]

    def test_an_error_in_a_part_is_raised(self):
        def work(part):
            if part == 2:
                raise ValueError("part two")

        with pytest.raises(ValueError, match="part two"):
            _library.in_threads(work, 3)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_after_fork(self):
        _library.in_threads(lambda part: part, 2)
        child = os.fork()
        if child == 0:
            done = _library.in_threads(lambda part: part, 2) == [0, 1]
            os._exit(0 if done else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestSortPairs:
    def test_by_hand(self, library):
        rows = torch.tensor([2, 0, 2, 0, 3])
        columns = torch.tensor([5, 6, 7, 8, 9])
        sorted_columns, offsets, order = compiled.sort_pairs(rows, columns, 5)
        assert sorted_columns.tolist() == [6, 8, 5, 7, 9]
        assert offsets.tolist() == [0, 2, 2, 4, 5, 5]
        assert order.tolist() == [1, 3, 0, 2, 4]

    @pytest.mark.parametrize(("nnz", "num_rows"), [(0, 0), (0, 3), (1, 1), (1000, 7), (999, 4000)])
    def test_random(self, library, nnz, num_rows):
        generator = torch.Generator().manual_seed(nnz)
        rows = torch.randint(max(num_rows, 1), (nnz,), generator=generator)
        columns = torch.randint(100, (nnz,), generator=generator)
        sorted_columns, offsets, order = compiled.sort_pairs(rows, columns, num_rows)
        expected, by_row = rows.sort(stable=True)
        assert torch.equal(order, by_row)
        assert torch.equal(sorted_columns, columns[by_row])
        assert torch.equal(offsets, torch.searchsorted(expected, torch.arange(num_rows + 1)))

    @pytest.mark.parametrize("wrong", [-1, 3, 2**62])
    def test_out_of_range(self, library, wrong):
        with pytest.raises(IndexError, match="`rows` must lie in 0 .. 2"):
            compiled.sort_pairs(torch.tensor([0, wrong]), torch.tensor([0, 0]), 3)

    def test_wrong_dtype_or_layout(self, library):
        rows = torch.zeros(4, dtype=torch.int64)
        with pytest.raises(TypeError, match="contiguous torch.int64"):
            compiled.sort_pairs(rows.int(), rows, 1)
        with pytest.raises(TypeError, match="contiguous torch.int64"):
            compiled.sort_pairs(rows[::2], rows[:2], 1)
