import os
import pickle
import pickletools

import numpy as np
import pytest
import scipy.sparse

from hypergraph.datasets.pickles import CSR, read_pickle

EDGES = {"author": {1, 5, 2}, ("tuple", 3): [4, np.int64(7)], 9: np.array([3, 4])}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_what_numpy_and_scipy_write(tmp_path, protocol):
    matrix = scipy.sparse.random(7, 5, 0.4, "csr", dtype=np.float64, rng=3)
    value = {
        "edges": EDGES,
        "labels": [0, 1, np.int32(2)],
        "features": matrix,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
        "words": np.array([b"ab", b"c"]),
        "rest": (None, True, 1.5, "text", b"bytes", frozenset([1])),
    }
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(value, protocol))
    read = read_pickle(path)
    assert read["edges"]["author"] == [1, 2, 5] and read["edges"]["tuple", 3] == [4, 7]
    assert read["edges"][9].tolist() == [3, 4]
    assert read["labels"] == [0, 1, 2]
    features = read["features"]
    assert isinstance(features, CSR) and features.shape == (7, 5)
    rebuilt = scipy.sparse.csr_matrix((features.data, features.indices, features.indptr), (7, 5))
    assert np.array_equal(rebuilt.toarray(), matrix.toarray().astype(np.float32))
    assert np.array_equal(read["fortran"], value["fortran"])
    assert read["big"].tolist() == [0, 1, 2]
    assert read["flags"].tolist() == [True, False]
    assert read["words"].tolist() == [b"ab", b"c"]
    assert read["rest"] == [None, True, 1.5, "text", b"bytes", [1]]


def test_reads_python_2_pickles(tmp_path):
    """A dict {'a': array([1, 2])} as Python 2 with numpy 1 wrote it."""
    text = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02i2K\x00K\x01\x87R"
        b"q\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x04\x01\x00\x02\x00tbs."
    )
    path = tmp_path / "old.pickle"
    path.write_bytes(text)
    assert read_pickle(path)["a"].tolist() == [1, 2]


class _Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        _Call(os.system, "touch executed"),
        _Call(eval, "open('executed', 'w')"),
        _Call(getattr, "a", "upper"),
        _Call(np.load, "executed"),
        _Call(scipy.sparse.coo_matrix, (2, 2)),
        np.array([_Call(os.system, "touch executed")], dtype=object),
        np.array([1, "a"], dtype=object),
        np.zeros(2, dtype=[("a", "i4")]),
        np.array(["text"]),
        object(),
    ],
    ids=lambda value: getattr(getattr(value, "call", ("",))[0], "__name__", type(value).__name__),
)
def test_anything_else_is_refused_and_nothing_is_executed(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 5):
        path = tmp_path / "hostile.pickle"
        path.write_bytes(pickle.dumps([1, value], protocol))
        with pytest.raises(ValueError, match=r"hostile\.pickle") as caught:
            read_pickle(path)
        assert "was not loaded" in str(caught.value) or "not a pickle" in str(caught.value)
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", [b"_codecs\nencode", b"scipy.sparse.csr\ncsr_matrix", b"numpy\ndtype"]
)
def test_a_pickle_cannot_change_what_the_next_one_is_read_with(tmp_path, name):
    """BUILD with (None, {attribute: value}) sets attributes of whatever it is given."""
    path = tmp_path / "p.pickle"
    path.write_bytes(b"\x80\x02c" + name + b"\nN}U\x04makeK\x01s\x86b.")
    with pytest.raises(ValueError, match="a change of a"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("reduce", "message"),
    [
        (b"cnumpy.core.multiarray\nscalar\nU\x02i4U\x04\x01\x00\x00\x00\x86R.", "without a dtype"),
        (b"cnumpy._core.numeric\n_frombuffer\n(U\x01aNK\x01U\x01CtR.", "not a pickle of arrays"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85N\x89U\x01atb.",
            "without a dtype",
        ),
    ],
)
def test_parts_that_do_not_fit(tmp_path, reduce, message):
    path = tmp_path / "p.pickle"
    path.write_bytes(b"\x80\x02" + reduce)
    with pytest.raises(ValueError, match=message):
        read_pickle(path)


def test_persistent_ids_and_extensions_are_refused(tmp_path):
    path = tmp_path / "p.pickle"
    path.write_bytes(b"\x80\x02U\x03keyQ.")
    assert any(op.name == "BINPERSID" for op, _, _ in pickletools.genops(path.read_bytes()))
    with pytest.raises(ValueError, match="a reference to another file"):
        read_pickle(path)


def test_broken_files(tmp_path):
    whole = pickle.dumps({"a": np.arange(10), "b": list(range(50))}, 2)
    path = tmp_path / "broken.pickle"
    half = whole[: len(whole) // 2]
    for content in (b"", b"hello", whole[:-1], half, whole.replace(b"i8", b"V8")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.pickle"):
            read_pickle(path)
    with pytest.raises(FileNotFoundError):
        read_pickle(tmp_path / "absent.pickle")
