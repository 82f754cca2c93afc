"""Names and attributes beside tensors, and libraries that are not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypergraph import Hypergraph, io
from hypergraph.io import Labelled


def test_defaults_are_numbers() -> None:
    h = Hypergraph.from_edges([[0, 1], []], num_nodes=3)
    labelled = Labelled(h, edge_attrs=[{}, {}])
    assert labelled.node_ids == range(3) and labelled.edge_ids == range(2)
    assert labelled.edge_attrs == ()
    assert repr(labelled) == f"Labelled({h!r})"
    named = Labelled(h, "abc", ["x", "y"], metadata={"a": 1}, network_type="directed")
    assert named.node_number == {"a": 0, "b": 1, "c": 2}
    assert named.edge_number == {"x": 0, "y": 1}
    assert repr(named).endswith("network_type='directed', with metadata)")


def test_misuse_is_named() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"node_ids": "a"}, ValueError, "`node_ids` must hold 2 names, got 1"),
        ({"node_ids": "aa"}, ValueError, "got 'a' twice"),
        ({"edge_ids": "ab"}, ValueError, "`edge_ids` must hold 1"),
        ({"node_attrs": [{}]}, ValueError, "`node_attrs` must hold 2"),
        ({"incidence_attrs": [1, 2]}, TypeError, "`incidence_attrs` must hold dictionaries"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            Labelled(h, **arguments)
    with pytest.raises(TypeError, match="`hypergraph` must be a Hypergraph, got list"):
        Labelled([[0, 1]])  # type: ignore[arg-type]


H = Hypergraph.from_edges([[0, 1]])
CALLS: dict[str, tuple[str, Callable[[], Any]]] = {
    "to_pyg": ("torch_geometric.data", lambda: io.to_pyg(H)),
    "to_hetero": ("torch_geometric.data", lambda: io.to_hetero(H)),
    "from_pyg": ("torch_geometric.data", lambda: io.from_pyg(None)),  # type: ignore[arg-type]
    "to_dhg": ("dhg", lambda: io.to_dhg(H)),
    "from_dhg": ("dhg", lambda: io.from_dhg(None)),  # type: ignore[arg-type]
    "to_xgi": ("xgi", lambda: io.to_xgi(H)),
    "to_networkx": ("networkx", lambda: io.to_networkx(H)),
    "to_scipy": ("scipy.sparse", lambda: io.to_scipy(H)),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_absent_library_is_an_import_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypergraph.io import pyg

    module, call = CALLS[name]
    monkeypatch.setitem(sys.modules, module, None)
    pyg._data_class.cache_clear()
    with pytest.raises(ImportError, match=r"pip install hypergraph-nn\[interop\]"):
        call()
    pyg._data_class.cache_clear()


def test_a_library_that_is_broken_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xgi.py").write_text("import a_library_that_is_not_there")
    monkeypatch.delitem(sys.modules, "xgi", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="a_library_that_is_not_there"):
        io.to_xgi(H)


def test_names_are_listed_and_sorted() -> None:
    assert sorted(io.__all__) == io.__all__
    assert all(getattr(io, name).__doc__ for name in io.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        io.pyg.nonsense  # type: ignore[attr-defined]  # noqa: B018
