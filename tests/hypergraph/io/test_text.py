"""Text files: lists of hyperedges and of pairs."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypergraph import Hypergraph
from hypergraph.io import Labelled, read_hyperedges, read_pairs, write_hyperedges, write_pairs
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
separators = st.sampled_from([None, ",", "\t", ";"])


@reused
@given(h=hypergraphs(), separator=separators)
def test_hyperedges_come_back(h: Hypergraph, separator: str | None, tmp_path: Path) -> None:
    write_hyperedges(tmp_path / "h.txt", h, separator=separator)
    got = read_hyperedges(tmp_path / "h.txt", separator=separator)
    assert_same(got.hypergraph, h, ordered=False)
    assert got.node_ids == range(h.num_nodes)


@reused
@given(h=hypergraphs(("incidence_weight", "direction")), separator=separators)
def test_pairs_come_back_to_the_bit(h: Hypergraph, separator: str | None, tmp_path: Path) -> None:
    write_pairs(tmp_path / "h.txt", h, separator=separator)
    assert_same(read_pairs(tmp_path / "h.txt", separator=separator).hypergraph, h)


# Names that CSV must quote, and one that looks like a comment.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=4)
csv_names = st.lists(
    st.one_of(texts, st.sampled_from(["#x", 'say "a"', "a,b", "a b", "'", "-1"])).filter(
        lambda name: name == name.strip()
    ),
    min_size=6,
    max_size=6,
    unique=True,
)


@reused
@given(names=csv_names, edges=st.lists(st.lists(st.integers(0, 5)), max_size=4))
def test_names_come_back(names: list[str], edges: list[list[int]], tmp_path: Path) -> None:
    edges = [*edges, list(range(6))]  # so that every vertex has a hyperedge
    h = Hypergraph.from_edges(edges)
    labelled = Labelled(h, names)
    named = [[names[node] for node in edge] for edge in edges]
    write_hyperedges(tmp_path / "h.csv", labelled, separator=",")
    got = read_hyperedges(tmp_path / "h.csv", separator=",", names=True)
    members: list[list[object]] = [[] for _ in edges]
    for node, edge in got.hypergraph.hyperedge_index.t().tolist():
        members[edge].append(got.node_ids[node])
    assert members == named

    papers = [f"p,{number}" for number in range(len(edges))]
    if all(edges):
        write_pairs(tmp_path / "p.csv", Labelled(h, names, papers), separator=",")
        got = read_pairs(tmp_path / "p.csv", separator=",", names=True)
        assert [
            (got.node_ids[node], got.edge_ids[edge])
            for node, edge in got.hypergraph.hyperedge_index.t().tolist()
        ] == [(name, papers[e]) for e, edge in enumerate(named) for name in edge]


def test_files_of_others(tmp_path: Path) -> None:
    """Comments, tabs, Windows line ends, a byte-order mark, 1-based numbers, packed."""
    file = tmp_path / "h.txt"
    file.write_bytes(b"\xef\xbb\xbf# a comment\r\n1 2\t3\r\n  3   5 \r\n")
    h = read_hyperedges(file, base=1).hypergraph
    assert h.to_dense().tolist() == [[1, 0], [1, 0], [1, 1], [0, 0], [0, 1]]
    assert read_hyperedges(file, base=1, num_nodes=9).hypergraph.num_nodes == 9
    packed = tmp_path / "h.txt.gz"
    packed.write_bytes(gzip.compress(b"0 1\n2"))
    assert read_hyperedges(packed).hypergraph.to_dense().sum(0).tolist() == [2, 1]

    file.write_text(
        "# hypergraph-nn num_nodes=900000000000000000 num_edges=1\n0 800000000000000000\n"
    )
    assert read_hyperedges(file).hypergraph.num_nodes == 9 * 10**17  # claimed, never allocated

    table = tmp_path / "pairs.csv"
    table.write_text('paper,when,author,share\n"a, b",1999,Ada,0.5\n"a, b",,Bob,2\n\n')
    got = read_pairs(
        table,
        columns=("edge", "-", "node", "weight"),
        separator=",",
        names=True,
        skip_lines=1,
        dtype=torch.float64,
    )
    assert got.node_ids == ("Ada", "Bob") and got.edge_ids == ("a, b",)
    assert got.hypergraph.dtype == torch.float64
    assert got.hypergraph.to_dense().tolist() == [[0.5], [2]]
    table.write_text("0 3 -1\n1 3 1\n")
    got = read_pairs(table, columns=("node", "edge", "direction"), num_nodes=4, num_edges=6)
    assert got.hypergraph.shape == (4, 6)
    assert got.hypergraph.direction is not None
    assert got.hypergraph.direction.tolist() == [-1, 1]


BROKEN_HYPEREDGES = {
    "names": ("Ada Bob\n", r"line 1: expected an integer.*names=True"),
    "negative": ("0 1\n2 -1\n", "line 2"),
    "fraction": ("0 1.5\n", "line 1"),
    "arabic digits": ("0 \u0661\n", "line 1"),
    "too large": ("0 " + "9" * 30, "line 1"),
    "blank": ("0 1\n\n2\n", "line 2: expected a hyperedge, got a blank line"),
    "count": ("# hypergraph-nn num_nodes=3 num_edges=3\n0 1\n", "expected 3 hyperedges, got 1"),
    "range": ("# hypergraph-nn num_nodes=1 num_edges=1\n0 1\n", "num_nodes=1"),
    "half a header": ("# hypergraph-nn num_nodes=1\n0\n", "line 1: expected num_edges"),
    "header": ("# hypergraph-nn num_nodes=-1 num_edges=1\n0\n", "line 1: num_nodes"),
}


@pytest.mark.parametrize("name", BROKEN_HYPEREDGES)
def test_broken_lists_name_file_line_and_reason(name: str, tmp_path: Path) -> None:
    text, message = BROKEN_HYPEREDGES[name]
    file = tmp_path / "broken.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"broken\.txt.*{message}"):
        read_hyperedges(file)


BROKEN_PAIRS = {
    "columns": ("0 1 2\n", "line 1: expected 2 columns"),
    "one": ("0 1\n3\n", "line 2: expected 2 columns"),
    "csv": ("0,1\n", "line 1"),
    "dtype": ("# hypergraph-nn num_nodes=1 num_edges=1 columns=node,edge dtype=x\n", "dtype"),
}


def test_broken_pairs(tmp_path: Path) -> None:
    file = tmp_path / "broken.txt"
    for text, message in BROKEN_PAIRS.values():
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"broken\.txt.*{message}"):
            read_pairs(file)
    for column, token in (("weight", "x"), ("weight", "1_0"), ("weight", "nan"), ("weight", "-1"),
                          ("weight", "1e99"), ("direction", "2")):  # fmt: skip
        file.write_text(f"0 0 {token}\n")
        with pytest.raises(ValueError, match=r"broken\.txt"):
            read_pairs(file, columns=("node", "edge", column))
    file.write_text('0,"1\n')
    with pytest.raises(ValueError, match=r"broken\.txt, line"):
        read_pairs(file, separator=",")
    file.write_text("a,\n")
    with pytest.raises(ValueError, match="empty field"):
        read_pairs(file, separator=",", names=True)
    file.write_bytes(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        read_pairs(file)
    file.write_text("")
    for columns in (
        ("node",),
        ("node", "edge", "colour"),
        ("node", "edge", "edge"),
        ("node", "edge", "weight", "weight"),
    ):
        with pytest.raises(ValueError, match="`columns`"):
            read_pairs(file, columns=columns)
    with pytest.raises(ValueError, match="`separator`"):
        read_pairs(file, separator="ab")
    with pytest.raises(ValueError, match="`base`"):
        read_pairs(file, base=1, names=True)


def test_what_a_list_cannot_hold_is_named_and_refused(tmp_path: Path) -> None:
    file, h = tmp_path / "h.txt", everything()
    with pytest.raises(ValueError) as caught:
        write_hyperedges(file, h)
    for field in ("hyperedge_weight", "incidence_weight", "node_features", "direction"):
        assert f"`{field}`" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        write_pairs(file, h)
    assert "`hyperedge_group`" in str(caught.value) and "direction" not in str(caught.value)
    h = Hypergraph.from_edges([[0, 1], []], num_nodes=3)
    names = ("a", "b", "c")
    for labelled, message in (
        (Labelled(h, names), "names of isolated vertices"),
        (Labelled(h, edge_ids=("e", "f")), "names of hyperedges"),
        (Labelled(h, metadata={"a": 1}), "`metadata`"),
        (Labelled(h, ("a b", "c", "d")), "'a b' cannot be written"),
        (Labelled(h, ("#a", "c", "d")), "'#a' cannot be written"),
    ):
        with pytest.raises(ValueError, match=message):
            write_hyperedges(file, labelled)
    with pytest.raises(ValueError, match="isolated vertices and empty hyperedges"):
        write_pairs(file, Labelled(h, names))
    assert os.listdir(tmp_path) == []
    write_hyperedges(file, Labelled(h, names), lossy=True)
    got = read_hyperedges(file, names=True)
    assert got.node_ids == ("a", "b", "unnamed 2")
    assert got.hypergraph.equal(h)
    write_pairs(file, everything(), lossy=True)
    dense = everything().to_dense()
    assert torch.equal(read_pairs(file).hypergraph.to_dense(), dense)


def test_changed_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    """Bytes changed, cut out and put in: a result or a ValueError with the path, nothing else."""
    random = Random(0)
    file = tmp_path / "h.txt"
    write_pairs(file, everything(), lossy=True)
    pairs = file.read_bytes()
    write_hyperedges(file, everything(), lossy=True)
    hyperedges = file.read_bytes()
    refused = 0
    for turn in range(400):
        content = bytearray(pairs if turn % 2 else hyperedges)
        place = random.randrange(len(content))
        if turn % 3 == 0:
            content[place] = random.randrange(256)
        elif turn % 3 == 1:
            del content[place : place + random.choice([1, 20])]
        else:
            content[place:place] = random.choice([b"-1", b"9" * 20, b'"', b"\n", b"#", b"nan"])
        file.write_bytes(content)
        separator = random.choice([None, None, ","])
        try:
            if turn % 2:
                read_pairs(file, separator=separator)
            else:
                read_hyperedges(file, separator=separator, names=random.random() < 0.5)
        except ValueError as error:
            assert str(file) in str(error)
            refused += 1
    assert 50 < refused < 400
