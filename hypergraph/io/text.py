"""Text files: one hyperedge per line, or one pair per line."""

import csv
import io
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from hypergraph._files import MAX_BYTES, PathLike, checked_path, read_text, write_text
from hypergraph.incidence import Hypergraph
from hypergraph.io._loss import given_fields, refuse_loss
from hypergraph.io._records import check_weight
from hypergraph.io.labelled import Labelled, as_labelled

_MARK = "# hypergraph-nn"
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_DTYPES |= {"float16": torch.float16, "bfloat16": torch.bfloat16}
_COLUMNS = ("node", "edge", "weight", "direction", "-")


class _Numbers:
    """Numbers for what a file calls its vertices or hyperedges."""

    def __init__(self, names: bool, base: int) -> None:
        self.names, self.base = names, base
        self.found: dict[Hashable, int] = {}

    def of(self, token: str, place: str) -> int:
        if self.names:
            if not token:
                raise ValueError(f"{place}: expected a name, got an empty field")
            number = self.found.setdefault(token, len(self.found))
        else:
            if not re.fullmatch(r"[0-9]{1,18}", token, re.ASCII) or int(token) < self.base:
                raise ValueError(
                    f"{place}: expected an integer of at least {self.base}, got {_short(token)}; "
                    "pass names=True for names"
                )
            number = int(token) - self.base
        return number

    def ids(self, size: int) -> Sequence[Hashable]:
        """Names by number; what is in no pair has no name in the file."""
        if not self.names:
            return range(size)
        return (*self.found, *(f"unnamed {n}" for n in range(len(self.found), size)))


def read_hyperedges(
    path: PathLike,
    *,
    names: bool = False,
    separator: str | None = None,
    base: int = 0,
    num_nodes: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Labelled:
    """Read a text file with one hyperedge per line: the vertices in it, separated.

    Lines that start with ``#`` are comments. A blank line is an empty hyperedge, which only files
    of ``write_hyperedges`` may have: elsewhere it may as well mean nothing, and is refused.

    Args:
        path: the file, UTF-8; ``.gz`` is unpacked.
        names: False, tokens are vertex numbers; True, names, numbered as they first appear.
        separator: None for white space; or one character, with the quoting rules of CSV.
        base: the number of the first vertex, 0 or 1; not with ``names``.
        num_nodes: default what the file says or needs.
        max_bytes: the most that the file may hold, unpacked.

    Returns:
        A ``Labelled``; ``.hypergraph`` is the hypergraph. A vertex that is listed twice counts
        twice.

    Raises:
        OSError: there is no such file.
        ValueError: a line cannot be read; the message names file, line and reason.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hypergraph.io import read_hyperedges
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "edges.txt"
        ...     _ = file.write_text("Valjean Cosette\\nCosette Marius Eponine\\n")
        ...     les_miserables = read_hyperedges(file, names=True)
        >>> les_miserables.hypergraph
        Hypergraph(num_nodes=4, num_edges=2, nnz=5, device='cpu')
        >>> les_miserables.node_ids
        ('Valjean', 'Cosette', 'Marius', 'Eponine')
    """
    _check_options(names, separator, base)
    path = checked_path(path)
    text = read_text(path, max_bytes)
    header = _header(path, text, ("num_nodes", "num_edges"))
    numbers = _Numbers(names, base)
    index: list[tuple[int, int]] = []
    edge = 0
    for line, tokens in _rows(path, text, separator):
        place = f"{path}, line {line}"
        if not tokens and not header:
            raise ValueError(f"{place}: expected a hyperedge, got a blank line; remove it")
        index += [(numbers.of(token, place), edge) for token in tokens]
        edge += 1
    if header and edge != header["num_edges"]:
        raise ValueError(f"{path}: expected {header['num_edges']} hyperedges, got {edge}")
    return _labelled(path, index, numbers, None, edge, header, num_nodes, {})


def write_hyperedges(
    path: PathLike,
    hypergraph: Hypergraph | Labelled,
    *,
    separator: str | None = None,
    lossy: bool = False,
) -> None:
    """Write a text file with one hyperedge per line, at once.

    The first line is a comment with the number of vertices and hyperedges, so that
    ``read_hyperedges`` gives back isolated vertices and empty hyperedges.

    Args:
        path: the file; an old one survives an error.
        hypergraph: names of a ``Labelled`` are written, and read back with ``names=True``.
        separator: None for a space; or one character, with the quoting rules of CSV.
        lossy: drop what a list cannot hold: weights, features, groups, directions, attributes,
            names of hyperedges and of isolated vertices.

    Raises:
        OSError: the file cannot be written.
        ValueError: something would be lost and ``lossy`` is False; a name cannot be written.
    """
    labelled = as_labelled(hypergraph)
    h = labelled.hypergraph
    names = _has_names(labelled.node_ids)
    lost = given_fields(h) + _lost_labels(labelled)
    if _has_names(labelled.edge_ids):
        lost.append("names of hyperedges")
    members: list[list[str]] = [[] for _ in range(h.num_edges)]
    for node, edge in h.hyperedge_index.t().tolist():
        members[edge].append(_token(labelled.node_ids[node] if names else node, separator))
    if names and len({token for edge in members for token in edge}) < h.num_nodes:
        lost.append("names of isolated vertices")
    refuse_loss("a list of hyperedges", lost, lossy)
    lines = [f"{_MARK} num_nodes={h.num_nodes} num_edges={h.num_edges}"]
    lines += [_line(edge, separator) for edge in members]
    write_text(path, "\n".join(lines) + "\n")


def read_pairs(
    path: PathLike,
    *,
    columns: Sequence[str] | None = None,
    names: bool = False,
    separator: str | None = None,
    base: int = 0,
    skip_lines: int = 0,
    num_nodes: int | None = None,
    num_edges: int | None = None,
    dtype: torch.dtype | None = None,
    max_bytes: int = MAX_BYTES,
) -> Labelled:
    """Read a text file with one (vertex, hyperedge) pair per line.

    Blank lines and lines that start with ``#`` are skipped.

    Args:
        path: the file, UTF-8; ``.gz`` is unpacked.
        columns: what a line holds, out of ``"node"``, ``"edge"``, ``"weight"`` (of the pair),
            ``"direction"`` (-1 tail, 1 head, 0 both) and ``"-"`` (not used). Default what the file
            says if it is of ``write_pairs``, else ``("node", "edge")``.
        names: False, vertices and hyperedges are numbers; True, names, numbered as they first
            appear.
        separator: None for white space; or one character, with the quoting rules of CSV.
        base: the number of the first vertex and hyperedge, 0 or 1; not with ``names``.
        skip_lines: leave out so many lines at the start, for the titles of a CSV file.
        num_nodes: default what the file says or needs.
        num_edges: default what the file says or needs.
        dtype: of the weights; default what the file says, or PyTorch's.
        max_bytes: the most that the file may hold, unpacked.

    Returns:
        A ``Labelled``, with the pairs in the order of the file.

    Raises:
        OSError: there is no such file.
        ValueError: a line cannot be read; the message names file, line and reason.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hypergraph.io import read_pairs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "pairs.csv"
        ...     _ = file.write_text("author,paper\\nAda,p1\\nAda,p2\\nBob,p2\\n")
        ...     papers = read_pairs(file, names=True, separator=",", skip_lines=1)
        >>> papers.hypergraph.to_dense()
        tensor([[1., 1.],
                [0., 1.]])
    """
    _check_options(names, separator, base)
    path = checked_path(path)
    text = read_text(path, max_bytes)
    header = _header(path, text, ("num_nodes", "num_edges", "columns"))
    if columns is None:
        columns = header.get("columns", "node,edge").split(",")
        _check_columns(f"{path}, line 1: ", columns)
    else:
        _check_columns("", columns)
    nodes, edges = _Numbers(names, base), _Numbers(names, base)
    index: list[tuple[int, int]] = []
    weights: list[float] = []
    directions: list[int] = []
    for line, tokens in _rows(path, text, separator, skip_lines):
        if not tokens:
            continue
        place = f"{path}, line {line}"
        if len(tokens) != len(columns):
            raise ValueError(
                f"{place}: expected {len(columns)} columns ({', '.join(columns)}), "
                f"got {len(tokens)}; pass `columns` and `separator`"
            )
        row = dict(zip(columns, tokens, strict=True))
        index.append((nodes.of(row["node"], place), edges.of(row["edge"], place)))
        if "weight" in row:
            weights.append(_number(row["weight"], place))
        if "direction" in row:
            if row["direction"] not in ("-1", "0", "1"):
                raise ValueError(
                    f"{place}: expected a direction -1, 0 or 1, got {_short(row['direction'])}"
                )
            directions.append(int(row["direction"]))
    fields: dict[str, Any] = {}
    if "weight" in columns:
        dtype = dtype or _DTYPES.get(header.get("dtype", ""), torch.get_default_dtype())
        fields["incidence_weight"] = torch.tensor(weights, dtype=dtype)
    if "direction" in columns:
        fields["direction"] = torch.tensor(directions, dtype=torch.int8)
    return _labelled(path, index, nodes, edges, num_edges, header, num_nodes, fields)


def write_pairs(
    path: PathLike,
    hypergraph: Hypergraph | Labelled,
    *,
    separator: str | None = None,
    lossy: bool = False,
) -> None:
    """Write a text file with one pair per line, at once.

    Columns are vertex, hyperedge, and, where the hypergraph has them, incidence weight and
    direction. The first line is a comment that names them and the sizes; ``read_pairs`` gives back
    the same hypergraph, pairs in order, bit for bit.

    Args:
        path: the file; an old one survives an error.
        hypergraph: names of a ``Labelled`` are written, and read back with ``names=True``, which
            numbers them as they first appear.
        separator: None for a space; or one character, with the quoting rules of CSV.
        lossy: drop what pairs cannot hold: weights and features of vertices and hyperedges,
            groups, attributes, names of isolated vertices and empty hyperedges.

    Raises:
        OSError: the file cannot be written.
        ValueError: something would be lost and ``lossy`` is False; a name cannot be written.
    """
    labelled = as_labelled(hypergraph)
    h = labelled.hypergraph
    names = _has_names(labelled.node_ids) or _has_names(labelled.edge_ids)
    lost = given_fields(h, but=("incidence_weight", "direction")) + _lost_labels(labelled)
    nodes, edges = h.hyperedge_index.tolist()
    if names and (len(set(nodes)), len(set(edges))) != (h.num_nodes, h.num_edges):
        lost.append("names of isolated vertices and empty hyperedges")
    refuse_loss("a list of pairs", lost, lossy)
    columns = ["node", "edge"]
    table: list[Sequence[object]] = [
        [labelled.node_ids[node] for node in nodes] if names else nodes,
        [labelled.edge_ids[edge] for edge in edges] if names else edges,
    ]
    header = f"{_MARK} num_nodes={h.num_nodes} num_edges={h.num_edges}"
    if h.incidence_weight is not None:
        columns.append("weight")
        table.append([repr(value) for value in h.incidence_weight.tolist()])
        header += f" dtype={str(h.incidence_weight.dtype).removeprefix('torch.')}"
    if h.direction is not None:
        columns.append("direction")
        table.append(h.direction.tolist())
    lines = [f"{header} columns={','.join(columns)}"]
    for row in zip(*table, strict=True):
        lines.append(_line([_token(value, separator) for value in row], separator))
    write_text(path, "\n".join(lines) + "\n")


def _labelled(
    path: PathLike,
    index: list[tuple[int, int]],
    nodes: _Numbers,
    edges: _Numbers | None,
    num_edges: int | None,
    header: dict[str, Any],
    num_nodes: int | None,
    fields: dict[str, Any],
) -> Labelled:
    pairs = torch.tensor(index, dtype=torch.long).reshape(-1, 2).t().contiguous()
    num_nodes = header.get("num_nodes") if num_nodes is None else num_nodes
    num_edges = header.get("num_edges") if num_edges is None else num_edges
    try:
        h = Hypergraph(pairs, num_nodes, num_edges, **fields)
        edge_ids = range(h.num_edges) if edges is None else edges.ids(h.num_edges)
        return Labelled(h, nodes.ids(h.num_nodes), edge_ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_columns(place: str, columns: Sequence[str]) -> None:
    used = [name for name in columns if name != "-"]
    if not {"node", "edge"} <= set(used) <= set(_COLUMNS) or len(set(used)) < len(used):
        raise ValueError(
            f"{place}`columns` must hold 'node' and 'edge', and may hold 'weight', 'direction' and "
            f"'-', got {list(columns)}"
        )


def _check_options(names: bool, separator: str | None, base: int) -> None:
    if separator is not None and (
        not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n#'
    ):
        raise ValueError(f"`separator` must be None or one character, got {separator!r}")
    if base not in (0, 1) or (names and base):
        raise ValueError(f"`base` must be 0 or 1, and 0 with names, got {base!r}")


def _header(path: PathLike, text: str, known: tuple[str, ...]) -> dict[str, Any]:
    """What the first line of our own files says; {} for others."""
    first = text.partition("\n")[0].strip()
    if not first.startswith(_MARK):
        return {}
    header: dict[str, Any] = {}
    for word in first.removeprefix(_MARK).split():
        key, _, value = word.partition("=")
        header[key] = value
    for key in known:
        if key not in header:
            raise ValueError(f"{path}, line 1: expected {key}=..., got {_short(first)}")
    for key in ("num_nodes", "num_edges"):
        if not re.fullmatch(r"[0-9]{1,18}", header[key], re.ASCII):
            raise ValueError(f"{path}, line 1: {key} must be a number, got {_short(header[key])}")
        header[key] = int(header[key])
    if "dtype" in header and header["dtype"] not in _DTYPES:
        raise ValueError(f"{path}, line 1: dtype must not be {_short(header['dtype'])}")
    return header


def _rows(
    path: PathLike, text: str, separator: str | None, skip_lines: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Line number and tokens of every line that is no comment."""
    lines = text.split("\n")
    if lines and not lines[-1].strip():
        lines.pop()  # what follows the last line break
    if separator is None:
        for number, line in enumerate(lines, 1):
            if number > skip_lines and not line.startswith("#"):
                yield number, line.split()
        return
    raw: list[str] = []

    def watched() -> Iterator[str]:
        for line in lines[skip_lines:]:
            raw.append(line)
            yield line + "\n"

    reader = csv.reader(watched(), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        while True:
            raw.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            if raw[0].startswith("#"):
                continue
            tokens = [token.strip() for token in row]
            yield reader.line_num + skip_lines, [] if tokens == [""] else tokens
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num + skip_lines}: {error}") from error


def _line(tokens: Sequence[str], separator: str | None) -> str:
    if separator is None:
        return " ".join(tokens)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="")
    if tokens and tokens[0].startswith("#"):  # in quotes it is no comment
        writer = csv.writer(out, delimiter=separator, lineterminator="", quoting=csv.QUOTE_ALL)
    writer.writerow(tokens)
    return out.getvalue()


def _token(value: object, separator: str | None) -> str:
    token = str(value)
    bad = not token or token != token.strip() or "\n" in token or "\r" in token
    if separator is None:
        bad = bad or any(character.isspace() for character in token) or token.startswith("#")
    if bad:
        raise ValueError(
            f"the name {_short(token)} cannot be written in such a file: no line breaks, no outer "
            "spaces, and without a separator no spaces and no leading '#'"
        )
    return token


def _has_names(ids: Sequence[Hashable]) -> bool:
    return not isinstance(ids, range) and tuple(ids) != tuple(range(len(ids)))


def _lost_labels(labelled: Labelled) -> list[str]:
    extra = ("node_attrs", "edge_attrs", "incidence_attrs", "metadata")
    return [f"`{name}`" for name in extra if getattr(labelled, name)]


def _number(token: str, place: str) -> float:
    try:
        if "_" in token:  # Python reads 1_0 as 10
            raise ValueError
        return check_weight(f"{place}: the weight", float(token))
    except ValueError as error:
        if "weight" in str(error):
            raise
        raise ValueError(f"{place}: expected a number, got {_short(token)}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
