import contextlib
import http.server
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch

from hypergraph import Hypergraph, datasets
from hypergraph.datasets import catalogue, content_digest, label_features, load, write_npz
from hypergraph.datasets.download import fetch


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; continues at a Range, and breaks off once where told to."""

    def __init__(self, *args, directory, broken, log, ranges, **kwargs):
        self.broken, self.asked, self.ranges = broken, log, ranges
        super().__init__(*args, directory=directory, **kwargs)

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Range")))
        content = self.headers.get("Range")
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            self.send_error(404)
            return
        start = int(content[6:-1]) if content and self.ranges else 0
        if start >= len(data) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        data = data[start:]
        if self.path in self.broken:
            self.broken.remove(self.path)
            data = data[: len(data) // 2]
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(folder, broken=(), ranges=True):
    asked = []
    broken = set(broken)

    def handler(*args):
        _Handler(*args, directory=str(folder), broken=broken, log=asked, ranges=ranges)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_fetch_continues_what_broke_off(tmp_path):
    content = bytes(range(256)) * 40
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "f").write_bytes(content)
    target = tmp_path / "got" / "f"
    seen = []
    with serve(tmp_path / "home", broken=["/f"]) as (home, asked):
        with pytest.raises(ConnectionError, match="is continued"):
            fetch(f"{home}/f", target)
        assert not target.exists()
        fetch(f"{home}/f", target, lambda done, total: seen.append((done, total)))
        assert target.read_bytes() == content
        assert asked[1][1] == f"bytes={len(content) // 2}-"
        assert seen[-1] == (len(content), len(content))
        assert [entry.name for entry in target.parent.iterdir()] == ["f"]
        with pytest.raises(ConnectionError, match="answers 404"):
            fetch(f"{home}/absent", target)
        assert target.read_bytes() == content


def test_fetch_begins_anew_where_the_server_cannot_continue(tmp_path):
    content = b"0123456789" * 100
    (tmp_path / "f").write_bytes(content)
    for ranges, left in ((False, b"wrong bytes"), (True, b"x" * 5000)):
        target = tmp_path / "target"
        (tmp_path / "target.part").write_bytes(left)
        with serve(tmp_path, ranges=ranges) as (home, _):
            fetch(f"{home}/f", target)
        assert target.read_bytes() == content


def test_fetch_stops_at_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("hypergraph.datasets.download._LIMIT", 100)
    (tmp_path / "f").write_bytes(b"x" * 101)
    with serve(tmp_path) as (home, _), pytest.raises(ConnectionError, match="more than"):
        fetch(f"{home}/f", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_fetch_names_what_cannot_be_reached(tmp_path):
    with serve(tmp_path) as (home, _):
        pass
    with pytest.raises(ConnectionError, match="could not be fetched"):
        fetch(f"{home}/f", tmp_path / "f")


@pytest.fixture
def repository(toy, tmp_path):
    """The toy data as HyperGCN keeps it: pickles of a dict, a CSR matrix, a list and splits."""
    folder = tmp_path / "home" / catalogue._HYPERGCN_COMMIT / "data" / "toy"
    (folder / "splits").mkdir(parents=True)
    edges = {"a": [0, 1, 2], "b": {3, 2}, "c": []}
    splits = [{"train": [0, 2], "test": [1, 3, 4, 5]}] * 10
    parts = {
        "hypergraph": edges,
        "features": scipy.sparse.csr_matrix(toy.x.numpy()),
        "labels": toy.y.tolist(),
        **{f"splits/{number}": split for number, split in enumerate(splits, 1)},
    }
    for name, value in parts.items():
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(value, 2))
    rest = torch.tensor([1, 3, 4, 5])
    split = replace(toy.splits[0], valid=rest[:0], test=rest)
    expected = replace(toy, splits=(split,) * 10, label_names=())
    entry = catalogue.DatasetInfo(
        "toy", "toy.npz", True, "here", "MIT", "data/toy", content_digest(expected)
    )
    return tmp_path / "home", entry, expected


def test_download_reads_the_original_pickles_and_checks_the_content(
    repository, tmp_path, monkeypatch
):
    home, entry, expected = repository
    monkeypatch.setitem(catalogue.CATALOGUE, "toy", entry)
    root = tmp_path / "root"
    with serve(home) as (address, asked):
        monkeypatch.setattr(catalogue, "_HYPERGCN", address)
        with pytest.raises(FileNotFoundError, match="`download` is False"):
            load("toy", root, download=False)
        assert not asked
        data = load("toy", root)
        assert torch.equal(data.x, expected.x) and torch.equal(data.y, expected.y)
        assert data.hypergraph.to_dense().tolist() == expected.hypergraph.to_dense().tolist()
        assert (data.source, data.licence, len(data.splits)) == ("here", "MIT", 10)
        count = len(asked)
        load("toy", root)
        assert len(asked) == count == 13  # the npz file is used from now on

        wrong = replace(entry, digest="0" * 64)
        monkeypatch.setitem(catalogue.CATALOGUE, "toy", wrong)
        with pytest.raises(ValueError, match="changed, or was tampered with"):
            load("toy", tmp_path / "other")
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("hypergraph", [[0, 1]]),
        ("hypergraph", {"a": 3}),
        ("hypergraph", {"a": [0, 6]}),
        ("labels", 5),
        ("features", "text"),
        ("splits/3", {"train": [0]}),
        ("splits/3", [1]),
    ],
)
def test_another_layout_is_refused(repository, tmp_path, monkeypatch, file, content):
    home, entry, _ = repository
    monkeypatch.setitem(catalogue.CATALOGUE, "toy", entry)
    folder = next(home.glob("*/data/toy"))
    (folder / f"{file}.pickle").write_bytes(pickle.dumps(content, 2))
    with serve(home) as (address, _):
        monkeypatch.setattr(catalogue, "_HYPERGCN", address)
        with pytest.raises(ValueError, match="does not hold what it did .*nothing was written"):
            load("toy", tmp_path / "root")
    with pytest.raises(ConnectionError, match="try again$"):
        load("toy", tmp_path / "root")  # nobody serves, and nothing was kept
    assert not (tmp_path / "root").exists()


def test_dense_features_and_one_hot_labels_are_read_too(toy):
    parts = {
        "hypergraph.pickle": {"a": [0, 1, 2], "b": [3, 2], "c": []},
        "features.pickle": toy.x.numpy(),
        "labels.pickle": np.eye(3)[toy.y.numpy()],
    }
    entry = catalogue.DatasetInfo("toy", "toy.npz", True, "", "")
    read = lambda name: parts.get(name, {"train": [0], "test": [1]})  # noqa: E731
    data = catalogue.from_hypergcn(read, entry)
    assert torch.equal(data.x, toy.x) and torch.equal(data.y, toy.y)


def test_digest_says_what_the_data_says(toy):
    digest = content_digest(toy)
    h = toy.hypergraph
    order = torch.randperm(h.hyperedge_index.shape[1])
    shuffled = Hypergraph(h.hyperedge_index[:, order], 6, 3)
    assert content_digest(replace(toy, hypergraph=shuffled)) == digest
    renumbered = Hypergraph.from_edges([[], [2, 3], [2, 1, 0]], 6)
    assert content_digest(replace(toy, hypergraph=renumbered)) == digest
    for other in (
        replace(toy, hypergraph=Hypergraph.from_edges([[0, 1, 2], [3, 2]], 6)),
        replace(toy, hypergraph=Hypergraph.from_edges([[0, 1], [2, 3, 2], []], 6)),
        replace(toy, x=toy.x * 2),
        replace(toy, x=toy.x.roll(1, 0)),
        replace(toy, x=None),
        replace(toy, y=toy.y.flip(0)),
        replace(toy, splits=toy.splits[:1]),
    ):
        assert content_digest(other) != digest


def test_every_name_is_described():
    for name in datasets.names():
        entry = datasets.info(name)
        assert entry.name == name and entry.source and entry.licence
        assert entry.downloadable == (entry.digest is not None)
        assert entry.has_features or not entry.downloadable
    with pytest.raises(ValueError, match="`name` must be one of"):
        datasets.load("cora")
    with pytest.raises(FileNotFoundError, match="cannot be downloaded; put the file there"):
        datasets.load("zoo", "nowhere")


def test_features_for_data_without(toy, tmp_path):
    bare = replace(toy, x=None)
    write_npz(bare, tmp_path / "zoo.npz")
    assert load("zoo", tmp_path).x is None
    data = load("zoo", tmp_path, label_noise=0.5, seed=3)
    assert torch.equal(data.x, label_features(toy.y, noise=0.5, seed=3))
    write_npz(toy, tmp_path / "zoo.npz")
    with pytest.raises(ValueError, match="zoo has some"):
        load("zoo", tmp_path, label_noise=0.5)


def test_real_data(shared_dir):
    """Sizes as published, and the content that the pinned hashes stand for."""
    root = shared_dir / "data" / "hypergraph" / "npz"
    sizes = {
        "cora-cocitation": (2708, 1579, 1433, 7),
        "citeseer-cocitation": (3312, 1079, 3703, 6),
        "cora-coauthorship": (2708, 1072, 1433, 7),
        "pubmed-cocitation": (19717, 7963, 0, 3),
        "dblp-coauthorship": (41302, 22363, 0, 6),
        "house-committees": (1290, 341, 0, 2),
    }
    for name, expected in sizes.items():
        data = load(name, root, download=False)
        h = data.hypergraph
        assert (h.num_nodes, h.num_edges, data.num_features, data.num_classes) == expected
        digest = datasets.info(name).digest
        if digest is not None:
            assert content_digest(data) == digest
            assert len(data.splits) == 10
