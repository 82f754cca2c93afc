"""The optional compiled path: how it is built, found and refused, and what it computes."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch

from hypergraph_kernels import Segments, compiled, hgnn_propagate, knn, segments_from
from hypergraph_kernels.compiled import _build, _knn, _library, _propagate
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


@pytest.fixture
def quick(monkeypatch):
    """Builds without optimisation."""
    monkeypatch.setattr(_build, "_FLAGS", (*_build._FLAGS, "-O0"))
    _build.source_digest.cache_clear()
    yield
    _build.source_digest.cache_clear()


def copied(library: Path, folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_two_processes_at_once(self, empty_cache, quick):
        processes = [multiprocessing.get_context("fork").Process(target=_build.build) for _ in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        assert list(empty_cache.glob("building-*")) == []
        assert compiled.is_available()


class TestCommand:
    @needs_compiler
    def test_build_status_remove(self, empty_cache, quick, capsys):
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
    def test_truncated_is_built_again(self, empty_cache, quick):
        damaged = _build.build()
        damaged.write_bytes(b"")
        path = compiled.build()
        assert _build.fault_of(path) is None and compiled.is_available()

    def test_other_source_is_not_looked_at(self, built, empty_cache):
        copy = copied(built, empty_cache)
        other = copy.with_name(copy.name.replace(_build.source_digest(), "0" * 16))
        copy.rename(other)
        assert not compiled.is_available()
        assert _build.fault_of(other) == "it was built from another source or for another machine"

    @needs_compiler
    def test_renamed_from_other_source(self, empty_cache, quick, monkeypatch, tmp_path):
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
        with pytest.warns(RuntimeWarning, match="it may be written to by other users"):
            assert not compiled.is_available()

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
    def test_of_another_user(self, built, empty_cache, monkeypatch):
        copied(built, empty_cache)
        monkeypatch.setattr(os, "getuid", lambda: 123456)
        with pytest.warns(RuntimeWarning, match="it belongs to another user"):
            assert not compiled.is_available()

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
    def test_in_a_folder_that_others_may_write_to(self, built, empty_cache):
        copied(built, empty_cache)
        empty_cache.chmod(0o777)
        with pytest.warns(RuntimeWarning, match="its folder may be written to by other users"):
            assert not compiled.is_available()
        with pytest.raises(compiled.BuildError, match=r"may be written to .* XDG_CACHE_HOME"):
            compiled.build()


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

    def test_segments_inside_a_transform(self, library):
        columns = torch.arange(4)

        def total(x):
            rows = (x > 0).long() * torch.tensor([3, 2, 1, 0])  # a tensor without an address
            segments = segments_from(rows, columns, 4)
            return (x[segments.columns] * torch.arange(1.0, 5.0)).sum()

        gradient = torch.func.grad(total)(torch.ones(4))
        assert gradient.tolist() == [4.0, 3.0, 2.0, 1.0]


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """The same library without its instructions for this processor."""
    if COMPILER is None:
        pytest.skip("no C compiler on PATH")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("portable")))
        patch.setattr(_build, "_FLAGS", (*_build._FLAGS, "-DHGK_PORTABLE"))
        _build.source_digest.cache_clear()
        loaded = _library._load(_build.build())
    _build.source_digest.cache_clear()
    assert loaded.hgk_instructions() == b"portable"
    return loaded


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def features(kind: str, n: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n * 1000 + channels)
    x = torch.randn(n, channels, generator=generator)
    if kind == "repeated":
        x = x[torch.randint(max(n // 4, 1), (n,), generator=generator)]
    elif kind == "some zero":
        x = x.relu() * (torch.rand(n, 1, generator=generator) < 0.8)
    elif kind == "all zero":
        x = torch.zeros_like(x)
    elif kind == "constant":
        x = torch.ones_like(x)
    elif kind == "crowded":  # all within the rounding to 16 bits of each other
        x = 1 + 1e-5 * x
    elif kind == "one-hot":
        x = torch.eye(channels)[torch.randint(channels, (n,), generator=generator)]
    elif kind == "magnitudes":
        x = x * 10.0 ** torch.randint(-37, 37, (n, 1), generator=generator)
    return x


KINDS = (
    "random", "repeated", "some zero", "all zero", "constant", "crowded", "one-hot", "magnitudes",
)  # fmt: skip
SIZES = ((1, 3, 1), (2, 5, 2), (17, 1, 5), (63, 7, 25), (255, 33, 24), (300, 64, 25), (530, 20, 9))


def exact_distances(x: torch.Tensor) -> torch.Tensor:
    points = x.double()
    points = points / points.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    points = points / points.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2 / 2
    zero = ~points.any(-1)
    distance = torch.where(zero[:, None] | zero[None], 1.0, distance)
    return distance.fill_diagonal_(-1)


class TestNearestByCosine:
    def test_by_hand(self, library):
        x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
        nearest, distance = compiled.nearest_by_cosine(x, 4)
        assert nearest.tolist() == [[0, 2, 1, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2],
                                    [4, 1, 3, 0]]  # fmt: skip
        expected = [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 2]]
        assert torch.allclose(distance, torch.tensor(expected).float(), atol=1e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_exact(self, library, kind):
        for n, channels, k in SIZES:
            x = features(kind, n, channels)
            nearest, distance = compiled.nearest_by_cosine(x, min(k, n))
            exact = exact_distances(x)
            found = exact.gather(1, nearest)
            best = exact.sort(dim=-1).values[:, : nearest.shape[1]]
            assert torch.equal(nearest[:, 0], torch.arange(n))
            assert all(len(set(row)) == len(row) for row in nearest.tolist())
            assert (best - found).abs().max() < 1e-6, (n, channels)
            assert (distance[:, 1:] - found[:, 1:]).abs().sum() < 1e-6 * found.numel()
            # By (distance, index), the row itself apart.
            steps = distance[:, 1:].diff(dim=-1)
            assert ((steps > 0) | (steps == 0) & (nearest[:, 1:].diff(dim=-1) > 0)).all()

    def test_equal_rows_tie(self, library):
        """Copies of a row are at equal distances from all others, to the bit."""
        x = features("random", 40, 33).repeat(9, 1)
        nearest, distance = compiled.nearest_by_cosine(x, 40)
        groups, group_distance = nearest[:, 9:36].view(-1, 3, 9), distance[:, 9:36].view(-1, 3, 9)
        assert (groups % 40 == groups[..., :1] % 40).all()
        assert (group_distance == group_distance[..., :1]).all()
        assert (groups.diff(dim=-1) == 40).all()
        assert (distance[:, :9] == 0).all()

    def test_limit(self, library):
        x = features("random", 300, 8)
        limit = 0.3
        nearest, distance = compiled.nearest_by_cosine(x, 25, limit)
        every, far = compiled.nearest_by_cosine(x, 25)
        within = far <= limit
        assert within.any() and not within.all()
        assert torch.equal(distance[within], far[within])
        assert torch.equal(nearest[within], every[within])
        assert (distance[~within] > limit).all()
        empty = distance.isinf()
        assert empty.any()
        assert torch.equal(nearest[empty], torch.arange(300)[:, None].expand(300, 25)[empty])

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_for_every_number_of_threads(self, library, threads, kind, monkeypatch):
        monkeypatch.setattr(_knn, "_PRODUCTS_PER_THREAD", 1)
        monkeypatch.setattr(_knn, "_BLOCK", 64)
        x = features(kind, 530, 33)
        threads(1)
        expected = compiled.nearest_by_cosine(x, 25)
        for count in (2, 5):
            threads(count)
            found = compiled.nearest_by_cosine(x, 25)
            assert all(map(torch.equal, found, expected))

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_for_every_instruction_set(self, library, portable, kind, monkeypatch):
        for n, channels, k in SIZES:
            x = features(kind, n, channels)
            expected = compiled.nearest_by_cosine(x, min(k, n))
            with monkeypatch.context() as patch:
                patch.setattr(_knn, "library", lambda: portable)
                found = compiled.nearest_by_cosine(x, min(k, n))
            assert all(map(torch.equal, found, expected))

    def test_bad_arguments(self, library):
        x = torch.randn(5, 3)
        for k in (0, 6, 257):
            with pytest.raises(ValueError, match=r"`k` must lie in 1 \.\. 5"):
                compiled.nearest_by_cosine(x, k)
        with pytest.raises(TypeError, match="contiguous torch.float32"):
            compiled.nearest_by_cosine(x.double(), 2)
        with pytest.raises(ValueError, match="`out` must hold"):
            compiled.nearest_by_cosine(x, 2, out=(torch.empty(5, 3, dtype=torch.int64), x))


class TestSearch:
    """The op that uses it."""

    @pytest.mark.parametrize("threshold", [None, 0.9])
    def test_as_the_reference(self, library, threshold):
        x = torch.randn(3, 130, 16, generator=torch.Generator().manual_seed(0))
        found = knn(x, 12, threshold=threshold, implementation="compiled")
        expected = knn(x, 12, threshold=threshold, implementation="reference")
        assert torch.equal(found.nearest, expected.nearest)
        assert torch.equal(found.kept, expected.kept)
        kept = found.kept
        assert torch.allclose(found.distance[kept], expected.distance[kept], atol=1e-6)
        single = knn(x[1], 12, threshold=threshold)  # "auto"
        assert all(map(torch.equal, single, (field[1] for field in found)))

    @pytest.mark.parametrize("there", [True, False])
    def test_first_look_while_compiling(self, built, tmp_path, monkeypatch, there):
        """torch.compile may be the first to ask whether the library is there."""
        folder = built.parent.parent if there else tmp_path
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        _library.forget()
        torch.compiler.reset()
        search = torch.compile(lambda x: knn(x, 5).nearest, fullgraph=True, backend="eager")
        x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(search(x), knn(x, 5).nearest)
        assert compiled.is_available() is there
        _library.forget()

    def test_what_it_does_not_take(self, library):
        x = torch.randn(20, 4)
        for setting in ({"metric": "dot"}, {"metric": "euclidean"}, {"with_row_mean": True}):
            with pytest.raises(ValueError, match="no compiled path for these arguments"):
                knn(x, 3, implementation="compiled", **setting)
            knn(x, 3, **setting)
        with pytest.raises(ValueError, match="takes float32"):
            knn(x.double(), 3, implementation="compiled")


def pairs_of(nodes: int, edges: int, nnz: int) -> tuple[Segments, Segments]:
    generator = torch.Generator().manual_seed(nnz)
    node = torch.randint(max(nodes, 1), (nnz,), generator=generator)
    edge = torch.randint(max(edges, 1), (nnz,), generator=generator)
    return segments_from(edge, node, edges), segments_from(node, edge, nodes)


class TestPropagate:
    def test_by_hand(self, library):
        table = torch.tensor([[0, 1], [1, 2]])
        by_node = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 3, 4]), None
        z = torch.tensor([[2.0], [4.0], [8.0]])
        scale = torch.tensor([1.0, 10.0])
        out = compiled.propagate(z, (table, None, None), by_node, scale, 0.5)
        assert out.flatten().tolist() == [3.0, 63.0, 60.0]

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        ("nodes", "edges", "nnz", "channels"),
        [(0, 0, 0, 3), (4, 0, 0, 8), (5, 7, 0, 9), (1, 1, 3, 1), (40, 30, 200, 17),
         (63, 65, 999, 100), (9, 50, 60, 0)],
    )  # fmt: skip
    def test_as_the_reference(self, library, nodes, edges, nnz, channels, weighted):
        by_edge, by_node = pairs_of(nodes, edges, nnz)
        z, bias = torch.randn(nodes, channels), torch.randn(channels)
        constants = {"edge_scale": torch.rand(edges), "node_scale": torch.rand(nodes)}
        constants |= {"values": torch.rand(nnz) if weighted else None}
        results = []
        for implementation in ("compiled", "reference", "auto"):
            given = z.clone().requires_grad_(), bias.clone().requires_grad_()
            out = hgnn_propagate(
                given[0], by_edge, by_node, **constants, bias=given[1], activation="elu",
                implementation=implementation,
            )  # fmt: skip
            results.append((out, *torch.autograd.grad(out.square().sum(), given)))
        for found, expected, auto in zip(*results, strict=True):
            assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(found, auto)

    def test_table_with_values(self, library):
        table = torch.randint(30, (20, 7), generator=torch.Generator().manual_seed(0))
        edge = torch.arange(20).repeat_interleave(7)
        by_node = segments_from(table.flatten(), edge, 30)
        z, values = torch.randn(30, 33), torch.rand(20, 7)
        found, expected = (
            hgnn_propagate(z, table, by_node, 0.1, None, values, implementation=implementation)
            for implementation in ("compiled", "reference")
        )
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("nodes", [2**16, 2**16 + 1])  # the most that 16 bits number
    def test_the_last_of_many_rows(self, library, nodes):
        by_edge = segments_from(torch.tensor([0, 0, 1]), torch.tensor([0, nodes - 1, 7]), 2)
        by_node = segments_from(torch.tensor([0, nodes - 1, 7]), torch.tensor([0, 0, 1]), nodes)
        z = torch.zeros(nodes, 2)
        z[nodes - 1], z[0], z[7] = 1.0, 2.0, 8.0
        lists = (by_edge.columns, by_edge.offsets, None), (by_node.columns, by_node.offsets, None)
        out = compiled.propagate(z, *lists)
        assert out[:, 1].nonzero().flatten().tolist() == [0, 7, nodes - 1]
        assert out[[0, 7, nodes - 1], 1].tolist() == [3.0, 8.0, 3.0]
        out = compiled.propagate(torch.ones(2, 2), lists[1], lists[0])
        assert out.tolist() == [[2.0, 2.0], [1.0, 1.0]]

    def test_same_for_every_number_of_threads(self, library, threads, monkeypatch):
        monkeypatch.setattr(_propagate, "_SUMS_PER_THREAD", 1)
        by_edge, by_node = pairs_of(63, 65, 999)
        lists = (by_edge.columns, by_edge.offsets, None), (by_node.columns, by_node.offsets, None)
        for channels in (5, 100, 257):
            z = torch.randn(63, channels)
            threads(1)
            expected = compiled.propagate(z, *lists)
            for count in (2, 5):
                threads(count)
                assert torch.equal(compiled.propagate(z, *lists), expected)

    def test_same_for_every_instruction_set(self, library, portable, monkeypatch):
        by_edge, by_node = pairs_of(63, 65, 999)
        lists = (by_edge.columns, by_edge.offsets, None), (by_node.columns, by_node.offsets, None)
        z, scale = torch.randn(63, 100), torch.rand(65)
        expected = compiled.propagate(z, *lists, scale, 3.0)
        monkeypatch.setattr(_propagate, "library", lambda: portable)
        assert torch.equal(compiled.propagate(z, *lists, scale, 3.0), expected)

    def test_out_of_range(self, library):
        z, offsets = torch.zeros(2, 4), torch.tensor([0, 1, 2])
        good = torch.tensor([0, 1]), offsets, None
        for wrong in (-1, 2, 2**16, 2**62, -(2**63)):  # 2**16 would be 0 in 16 bits
            bad = torch.tensor([0, wrong]), offsets, None
            for lists in ((bad, good), (good, bad)):
                with pytest.raises(IndexError, match="2 vertices and 2 hyperedges"):
                    compiled.propagate(z, *lists)
        for bounds in ([0, 2, 1], [-1, 1, 2], [0, 1, 3]):
            with pytest.raises(IndexError):
                compiled.propagate(z, good, (good[0], torch.tensor(bounds), None))
        with pytest.raises(IndexError):
            compiled.propagate(torch.zeros(3, 4), good, good)
        with pytest.raises(ValueError, match=r"`node_scale` must have shape \[2\]"):
            compiled.propagate(z, good, good, node_scale=torch.ones(1))
        with pytest.raises(ValueError, match="2 columns but 3 values"):
            compiled.propagate(z, (*good[:2], torch.ones(3)), good)
