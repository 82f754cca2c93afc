"""HIF: documents to the letter, hypergraphs to the bit, refusals that say where."""

from __future__ import annotations

import copy
import gzip
import json
import os
import stat
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypergraph import Hypergraph
from hypergraph.io import HIF, Labelled, read_hif, write_hif
from tests.hypergraph.io.examples import assert_same, everything, hypergraphs

FIELDS = (
    "hyperedge_weight",
    "incidence_weight",
    "node_weight",
    "node_features",
    "hyperedge_features",
    "hyperedge_group",
    "direction",
)
DOCUMENT: dict[str, Any] = {
    "network-type": "directed",
    "metadata": {"name": "toy", "nested": {"depth": [1, 2.5, None, True, "ü"]}},
    "nodes": [
        {"node": "1", "weight": 2, "attrs": {"color": "blue"}},
        {"node": 1, "attrs": {}},
        {"node": "isolated"},
    ],
    "edges": [{"edge": 7, "weight": 0.25, "attrs": {"weight": "not ours"}}, {"edge": "empty"}],
    "incidences": [
        {"edge": 7, "node": "1", "direction": "tail", "weight": 3},
        {"edge": 7, "node": 1, "direction": "head", "attrs": {"role": "PI"}},
        {"edge": "undeclared", "node": "late"},
        {"edge": 7, "node": "1"},
    ],
}


def exact(document: object) -> str:
    """JSON tells 1 from 1.0 and true, which == does not."""
    return json.dumps(document, sort_keys=True)


def folder_of(shared_dir: Path, name: str) -> Path:
    return shared_dir / "data" / "hypergraph" / "hif" / name


# What the message must name: the place of the first fault.
REFUSED = {
    "bad_edge_field": "edges[0]",
    "bad_edge_without_id": "edges[0]",
    "bad_incidence_field": "incidences[0]",
    "bad_network_type": "network-type",
    "bad_node_field": "nodes[0]",
    "bad_node_float": "nodes[0].node",
    "bad_node_without_id": "nodes[0]",
    "bad_top_level_field": "'test'",
    "empty": "'incidences'",
    "extra_fields_with_direction": "'extra_field'",
    "invalid_direction_value": "incidences[0].direction",
    "metadata_as_list": "metadata",
    "missing_required_field_incidence": "'node'",
    "missing_required_fields_with_direction": "'edge'",
    "single_incidence_with_direction_not_in_enum": "incidences[0].direction",
    "single_incidence_with_weight_as_string": "incidences[0].weight",
}


def compliant(shared_dir: Path) -> list[Path]:
    folder = folder_of(shared_dir, "")
    files = [f for f in folder.glob("*.json") if f.name != "hif_schema.json"]
    return files + list(folder.glob("test_files/HIF-compliant/*.json"))


def test_every_compliant_file_is_saved_as_it_was(shared_dir: Path, tmp_path: Path) -> None:
    files = compliant(shared_dir)
    assert len(files) >= 21
    for number, file in enumerate(files):
        hif, original = read_hif(file), exact(json.loads(file.read_text()))
        copied = tmp_path / ("copy.json" if number % 2 else "copy.json.gz")
        write_hif(copied, hif)
        content = copied.read_bytes()
        text = gzip.decompress(content) if copied.suffix == ".gz" else content
        assert exact(json.loads(text)) == original, file.name
        assert read_hif(copied) == hif


def test_tensors_keep_what_a_compliant_file_says(shared_dir: Path) -> None:
    """From a document to tensors and back: ids, weights, directions, attributes, metadata."""

    def meaning(hif: HIF) -> tuple[object, ...]:
        def facts(key: str, records: list[dict[str, Any]] | None) -> dict[object, object]:
            found = {i: (1.0, "{}") for i in (hif.node_ids if key == "node" else hif.edge_ids)}
            for record in records or ():
                attrs = exact(record.get("attrs", {}))
                found[record[key]] = (float(record.get("weight", 1)), attrs)
            return found

        pairs = Counter(
            (
                r["node"],
                r["edge"],
                float(r.get("weight", 1)),
                r.get("direction"),
                exact(r.get("attrs", {})),
            )
            for r in hif.incidences
        )
        return facts("node", hif.nodes), facts("edge", hif.edges), pairs, exact(hif.metadata or {})

    for file in compliant(shared_dir):
        hif = read_hif(file)
        negative = file.name == "single_incidence_with_weights.json"
        if negative:
            with pytest.raises(ValueError, match="must be non-negative"):
                hif.labelled()
            continue
        labelled = hif.labelled(torch.float64)
        again = HIF.from_hypergraph(labelled)
        note = (again.metadata or {}).pop("hypergraph_nn", None)
        assert note is None or set(note) <= {"version", *FIELDS}
        assert meaning(again) == meaning(hif), file.name
        h = labelled.hypergraph
        assert h.nnz == len(hif.incidences)
        for (node, edge), record in zip(
            h.hyperedge_index.t().tolist(), hif.incidences, strict=True
        ):
            assert (hif.node_ids[node], hif.edge_ids[edge]) == (record["node"], record["edge"])


def test_every_non_compliant_file_is_refused_by_name_place_and_reason(shared_dir: Path) -> None:
    files = list(folder_of(shared_dir, "test_files/HIF-non-compliant").glob("*.json"))
    assert len(files) >= len(REFUSED)
    for file in files:
        with pytest.raises(ValueError) as caught:
            read_hif(file)
        message = str(caught.value)
        assert str(file) in message and " must " in message
        assert REFUSED.get(file.stem, "") in message, message


def test_a_document_of_every_kind(tmp_path: Path) -> None:
    hif = HIF.from_dict(DOCUMENT)
    assert exact(hif.to_dict()) == exact(DOCUMENT)
    write_hif(tmp_path / "toy.json", hif, indent=2)
    assert exact(read_hif(tmp_path / "toy.json").to_dict()) == exact(DOCUMENT)

    assert hif.node_ids == ("1", 1, "isolated", "late")
    assert hif.edge_ids == (7, "empty", "undeclared")
    labelled = hif.labelled()
    h = labelled.hypergraph
    assert h.hyperedge_index.tolist() == [[0, 1, 3, 0], [0, 0, 2, 0]]
    assert h.node_weight is not None and h.node_weight.tolist() == [2, 1, 1, 1]
    assert h.hyperedge_weight is not None and h.hyperedge_weight.tolist() == [0.25, 1, 1]
    assert h.incidence_weight is not None and h.incidence_weight.tolist() == [3, 1, 1, 1]
    assert h.direction is not None and h.direction.tolist() == [-1, 1, 0, 0]
    assert labelled.node_attrs[0] == {"color": "blue"}
    assert labelled.edge_attrs[0] == {"weight": "not ours"}
    assert labelled.incidence_attrs[1] == {"role": "PI"}
    assert labelled.metadata == DOCUMENT["metadata"]
    # h_ve adds repeated pairs up: 3 + 1.
    assert h.to_dense()[0].tolist() == [4, 0, 0]
    assert repr(hif) == "HIF(network_type='directed', 4 nodes, 3 edges, 4 incidences)"


@given(hypergraphs(FIELDS))
@settings(max_examples=100)
def test_a_hypergraph_comes_back_to_the_bit(h: Hypergraph) -> None:
    text = json.dumps(HIF.from_hypergraph(h).to_dict())
    assert_same(HIF.from_dict(json.loads(text)).labelled().hypergraph, h)


names = st.one_of(st.integers(-5, 5), st.text(max_size=3))
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
attributes = st.dictionaries(st.text(max_size=3), json_values, max_size=2)


@st.composite
def labelled_hypergraphs(draw: st.DrawFn) -> Labelled:
    h = draw(hypergraphs(FIELDS, dtypes=(torch.float32,)))
    sizes = (h.num_nodes, h.num_edges, h.nnz)
    ids = [draw(st.lists(names, min_size=n, max_size=n, unique=True)) for n in sizes[:2]]
    attrs = [draw(st.lists(attributes, min_size=n, max_size=n)) for n in sizes]
    return Labelled(h, *ids, *attrs, metadata=draw(attributes))


@given(labelled_hypergraphs())
def test_names_and_attributes_come_back(labelled: Labelled) -> None:
    document = json.loads(json.dumps(HIF.from_hypergraph(labelled).to_dict()))
    again = HIF.from_dict(document).labelled()
    assert_same(again.hypergraph, labelled.hypergraph)
    assert again.node_ids == labelled.node_ids
    assert again.edge_ids == labelled.edge_ids
    for name in ("node_attrs", "edge_attrs", "incidence_attrs", "metadata"):
        assert exact(getattr(again, name)) == exact(getattr(labelled, name)), name


def test_batches_and_everything_at_once(tmp_path: Path) -> None:
    h = Hypergraph.batch([everything(), everything()])
    write_hif(tmp_path / "batch.json.gz", h)
    assert_same(read_hif(tmp_path / "batch.json.gz").hypergraph, h)
    # Plain weights need no note that other readers would wonder at.
    plain = Hypergraph.from_edges([[0, 1]], hyperedge_weight=torch.tensor([2.0]))
    assert HIF.from_hypergraph(plain).metadata == {}
    assert HIF.from_hypergraph(plain).edges == [{"edge": 0, "weight": 2.0}]


# ---- the schema


def mutations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The document with one value replaced by each of many wrong or odd ones, and keys moved."""
    odd: list[object] = [None, True, 1, -2, 1.0, 1.5, "1", "", "head", "asc", [], [1], {}, {"a": 1}]
    found = []

    def walk(value: object, path: tuple[Any, ...]) -> None:
        if isinstance(value, (dict, list)) and "attrs" not in path and "metadata" not in path:
            keys: Any = value if isinstance(value, dict) else range(len(value))
            for key in keys:
                for other in odd:
                    changed = copy.deepcopy(document)
                    target: Any = changed
                    for step in path:
                        target = target[step]
                    target[key] = other
                    found.append((f"{(*path, key)} = {other!r}", changed))
                removed = copy.deepcopy(document)
                target = removed
                for step in path:
                    target = target[step]
                del target[key]
                found.append((f"{(*path, key)} removed", removed))
                walk(value[key], (*path, key))
            if isinstance(value, dict):
                added = copy.deepcopy(document)
                target = added
                for step in path:
                    target = target[step]
                target["surplus"] = 1
                found.append((f"{path} surplus", added))

    walk(document, ())
    return found


def test_checks_agree_with_the_schema_file(shared_dir: Path) -> None:
    try:
        import jsonschema
    except ImportError:
        pytest.skip("skipped: jsonschema not installed")
    schema = json.loads(folder_of(shared_dir, "hif_schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    tried = mutations(DOCUMENT)
    verdicts = Counter()
    for change, document in tried:
        valid = validator.is_valid(document)
        try:
            HIF.from_dict(document)
            ours = True
        except ValueError:
            ours = False
        assert ours == valid, change
        verdicts[valid] += 1
    assert verdicts[True] > 50 and verdicts[False] > 300


# ---- broken and hostile files

BROKEN = {
    "not json": "{",
    "cut": json.dumps(DOCUMENT)[:-7],
    "nan": '{"incidences": [{"edge": 1, "node": 2, "weight": NaN}]}',
    "infinity": '{"incidences": [{"edge": 1, "node": 2, "weight": -Infinity}]}',
    "overflow": '{"incidences": [{"edge": 1, "node": 2, "weight": 1e999}]}',
    "nan in attrs": '{"incidences": [], "metadata": {"a": [NaN]}}',
    "key twice": '{"incidences": [], "metadata": {"a": 1, "a": 2}}',
    "list": "[]",
    "number": "3",
    "nothing": "",
    "bottomless": '{"incidences": [], "metadata": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    "long integer": '{"incidences": [{"edge": ' + "9" * 5000 + ', "node": 1}]}',
    "two documents": '{"incidences": []} {"incidences": []}',
    "pickle": "cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text_is_one_clear_error(name: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(BROKEN[name])
    with pytest.raises(ValueError, match=r"broken\.json: \S"):
        read_hif(file)


def test_broken_bytes_are_one_clear_error(tmp_path: Path) -> None:
    good = gzip.compress(json.dumps(DOCUMENT).encode(), mtime=0)
    cases = {
        "a.json": b'{"incidences": [], "metadata": {"\xff\xfe": 1}}',
        "b.json.gz": b"{}",
        "c.json.gz": good[:-9],
        "d.json.gz": good[:60] + bytes([good[60] ^ 255]) + good[61:],
        "e.json.gz": good + b"more",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_hif(tmp_path / name)
    bomb = tmp_path / "bomb.json.gz"
    bomb.write_bytes(gzip.compress(b" " * 3_000_000))
    with pytest.raises(ValueError, match="more than 1000000 bytes"):
        read_hif(bomb, max_bytes=1_000_000)
    with pytest.raises(FileNotFoundError):
        read_hif(tmp_path / "absent.json")
    with pytest.raises(TypeError, match="`path`"):
        read_hif(3)  # type: ignore[arg-type]
    with_mark = tmp_path / "mark.json"
    with_mark.write_bytes(b"\xef\xbb\xbf" + b'{"incidences": []}')
    assert read_hif(with_mark) == HIF([])


def test_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    """Bytes changed, cut out and put in: a result or a ValueError, nothing else."""
    random = Random(0)
    file = tmp_path / "h.json"
    write_hif(file, Hypergraph.batch([everything(), everything()]))
    contents = [file.read_bytes(), json.dumps(DOCUMENT).encode()]
    refused = 0
    for turn in range(400):
        content = bytearray(contents[turn % 2])
        place = random.randrange(len(content))
        if turn % 3 == 0:
            content[place] = random.choice(b'0123456789eE.-"{}[]:,ntf \xff')
        elif turn % 3 == 1:
            del content[place : place + random.choice([1, 1, 20])]
        else:
            content[place:place] = random.choice([b"-1", b"1e308", b"null", b"9" * 20, b"{}"])
        file.write_bytes(content)
        try:
            read_hif(file).labelled()
        except ValueError:
            refused += 1
    assert 50 < refused < 400


NOTES: dict[str, object] = {
    "no object": 3,
    "newer": {"version": 2},
    "no version": {},
    "unknown field": {"version": 1, "colour": "red"},
    "unknown dtype": {"version": 1, "node_weight": "object"},
    "dtype of another kind": {"version": 1, "node_weight": ["float32"]},
    "no width": {"version": 1, "node_features": ["float32"]},
    "huge rows": {"version": 1, "node_features": ["float32", 10**12]},
    "negative width": {"version": 1, "node_features": ["float32", -1]},
    "absent features": {"version": 1, "node_features": ["float32", 3]},
    "wrong width": {"version": 1, "hyperedge_features": ["float32", 3]},
    "text in features": {"version": 1, "hyperedge_features": ["float32", 2]},
    "unknown group": {"version": 1, "group_names": ["a"]},
    "groups twice": {"version": 1, "group_names": ["x", "x"]},
    "groups no text": {"version": 1, "group_names": [1]},
    "direction": {"version": 1, "direction": 1},
    "samples": {"version": 1, "num_samples": 1},
    "samples below zero": {"version": 1, "num_samples": 0},
    "many samples": {"version": 1, "num_samples": 10**12},
}


@pytest.mark.parametrize("name", NOTES)
def test_a_forged_note_is_refused(name: str) -> None:
    hif = HIF(
        [{"edge": 0, "node": 0}],
        nodes=[{"node": 0, "attrs": {"sample": 0} if name != "samples" else {}}],
        edges=[{"edge": 0, "attrs": {"features": [1, "x"], "group": "b", "sample": -1}}],
        metadata={"hypergraph_nn": NOTES[name]},
    )
    with pytest.raises(ValueError):
        hif.labelled()
    assert HIF.from_dict(hif.to_dict()) == hif  # as a document it is what it is


def test_what_json_cannot_hold_is_refused() -> None:
    h = Hypergraph.from_edges([[0, 1]])
    cases: list[tuple[Labelled | Hypergraph, str]] = [
        (Labelled(h, node_ids=(1.5, 2)), r"nodes\[0\]\.node|incidences\[0\]\.node"),
        (Labelled(h, edge_ids=(("a", "b"),)), r"incidences\[0\]\.edge"),
        (Labelled(h, node_attrs=({"a": {1}}, {})), r"nodes\[0\]\.attrs\.a.*set"),
        (Labelled(h, node_attrs=({"a": (1, 2)}, {})), "tuple"),
        (Labelled(h, node_attrs=({3: 1}, {})), "strings as keys"),
        (Labelled(h, metadata={"a": float("nan")}), "finite"),
        (Labelled(h, metadata={"hypergraph_nn": 1}), "hypergraph_nn"),
        (h.replace(node_features=torch.full((2, 1), torch.inf)), "finite"),
        (
            Labelled(h.replace(node_features=torch.ones(2, 1)), node_attrs=({"features": 1}, {})),
            "features",
        ),
    ]
    for labelled, message in cases:
        with pytest.raises(ValueError, match=message):
            HIF.from_hypergraph(labelled)
    eighth = h.replace(node_features=torch.ones(2, 1).to(torch.float8_e5m2))
    with pytest.raises(ValueError, match="float8_e5m2"):
        HIF.from_hypergraph(eighth)
    deep: Any = 1
    for _ in range(199):
        deep = [deep]
    most = HIF([], metadata={"a": deep})  # the dictionary itself is a level
    assert json.loads(json.dumps(most.to_dict())) == most.to_dict()
    with pytest.raises(ValueError, match="deep"):
        HIF([], metadata={"a": [deep]})
    with pytest.raises(ValueError, match=r"nodes\[0\]\.weight must be finite"):
        HIF([], nodes=[{"node": 1, "weight": float("inf")}])


def test_records_that_repeat_an_id() -> None:
    agreeing = HIF(
        [],
        nodes=[
            {"node": 1, "attrs": {"a": 1}},
            {"node": 1, "weight": 2, "attrs": {"b": 2}},
            {"node": 1, "attrs": {"a": 1}},
        ],
    )
    labelled = agreeing.labelled()
    assert labelled.node_attrs == ({"a": 1, "b": 2},)
    assert labelled.hypergraph.node_weight is not None
    assert labelled.hypergraph.node_weight.tolist() == [2]
    for other in ({"weight": 3}, {"attrs": {"a": 2}}):
        clash = HIF([], nodes=[{"node": 1, "weight": 2, "attrs": {"a": 1}}, {"node": 1, **other}])
        with pytest.raises(ValueError, match=r"nodes\[1\] must not contradict"):
            clash.labelled()


def test_weights_that_tensors_cannot_hold() -> None:
    negative = HIF([{"edge": 1, "node": 1, "weight": -2}])
    with pytest.raises(ValueError, match="use_weights=False"):
        negative.labelled()
    assert negative.labelled(use_weights=False).hypergraph.incidence_weight is None
    large = HIF([{"edge": 1, "node": 1, "weight": 1e300}])
    with pytest.raises(ValueError, match=r"dtype=torch\.float64"):
        large.labelled(torch.float32)
    weight = large.labelled(torch.float64).hypergraph.incidence_weight
    assert weight is not None and weight.tolist() == [1e300]
    enormous = HIF([{"edge": 1, "node": 1, "weight": 10**400}])
    with pytest.raises(ValueError, match="incidence_weight"):
        enormous.labelled()


# ---- writing


def _disk_full(_: int) -> None:
    raise OSError("the disk is full")


def test_an_old_file_survives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "h.json"
    write_hif(file, Hypergraph.from_edges([[0, 1]]))
    before = file.read_bytes()
    bad = HIF([], metadata={})
    assert bad.metadata is not None
    bad.metadata["late"] = object()
    with pytest.raises(ValueError, match="late"):
        write_hif(file, bad)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["h.json"]
    with pytest.raises(ValueError, match="cannot be written"):  # too many digits
        write_hif(file, HIF([{"edge": 10**5000, "node": 1}]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _disk_full)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                write_hif(file, Hypergraph.from_edges([[0]]))
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["h.json"]
    with pytest.raises(ValueError, match="`path`"):
        write_hif("", Hypergraph.from_edges([[0, 1]]))
    with pytest.raises(FileNotFoundError, match="folder"):
        write_hif(tmp_path / "absent" / "h.json", Hypergraph.from_edges([[0, 1]]))
    with pytest.raises(IsADirectoryError):
        write_hif(tmp_path, Hypergraph.from_edges([[0, 1]]))
    with pytest.raises(TypeError, match="Hypergraph"):
        write_hif(file, [[0, 1]])  # type: ignore[arg-type]


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "h.json", tmp_path / "link.json"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    write_hif(link, Hypergraph.from_edges([[0, 1]]))
    assert link.is_symlink()
    assert read_hif(file).hypergraph.nnz == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    # Equal contents are equal files, packed too.
    for name in ("a.json.gz", "b.json.gz"):
        write_hif(tmp_path / name, Hypergraph.from_edges([[0, 1]]))
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
