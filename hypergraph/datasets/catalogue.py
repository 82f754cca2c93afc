"""The data sets by name, and where they come from."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hypergraph._checks import check_choice
from hypergraph.datasets.download import Report, fetch
from hypergraph.datasets.npz import dataset_from_arrays, read_npz, write_npz
from hypergraph.datasets.pickles import CSR, read_pickle
from hypergraph.datasets.record import HypergraphDataset
from hypergraph.datasets.splits import label_features

_HYPERGCN = "https://raw.githubusercontent.com/malllabiisc/HyperGCN"
_HYPERGCN_COMMIT = "4869570f822360787cb266efd237310df105501b"
_SPLITS = range(1, 11)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is loaded.

    Attributes:
        name: as in ``load``.
        file: name of its npz file in the root folder.
        has_features: whether the file holds vertex features.
        source: where it comes from.
        licence: what is stated there.
        folder: folder of the original pickles in the HyperGCN repository, None where the data
            cannot be downloaded by ``load``.
        digest: SHA-256 of the content, see ``content_digest``; None with ``folder`` None.
    """

    name: str
    file: str
    has_features: bool
    source: str
    licence: str
    folder: str | None = None
    digest: str | None = None

    @property
    def downloadable(self) -> bool:
        """Whether ``load`` can fetch it."""
        return self.folder is not None


def _hypergcn(
    kind: str, data: str, has_features: bool = True, digest: str | None = None
) -> DatasetInfo:
    return DatasetInfo(
        name=f"{data}-{kind}",
        file=f"{kind}_{data}.npz",
        has_features=has_features,
        source=f"malllabiisc/HyperGCN, data/{kind}/{data}",
        licence="Apache-2.0 (repository)",
        folder=f"data/{kind}/{data}" if digest else None,
        digest=digest,
    )


def _other(name: str, source: str, licence: str) -> DatasetInfo:
    return DatasetInfo(name, f"{name}.npz", False, source, licence)


_CORNELL = "A. Benson's Cornell collection, via nveldt/HypergraphHomophily"
_CHODROW = "Chodrow et al. 2021, Cornell collection, via XGI's JSON"
_UCI = "UCI {}, one hyperedge per value of an attribute"

CATALOGUE: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        _hypergcn(
            "cocitation",
            "cora",
            digest="910b1c1fbacc41cddb604ab7de4f7944960ad437555906e73bf9465b96dd02e0",
        ),
        _hypergcn(
            "cocitation",
            "citeseer",
            digest="5e14f3d5eab7353dc1bc477fabe139964a2031116861d0012929713d0cbe6f68",
        ),
        _hypergcn(
            "coauthorship",
            "cora",
            digest="5a348b1d1193ca29643e4fabcfd5f7516edd16dc052911de5233e5cdcf13d661",
        ),
        _hypergcn("cocitation", "pubmed", has_features=False),
        _hypergcn("coauthorship", "dblp", has_features=False),
        _other("walmart-trips", _CORNELL, "MIT (repository)"),
        _other("congress-bills", _CORNELL, "MIT (repository)"),
        _other("contact-high-school", _CORNELL, "MIT (repository)"),
        _other("contact-primary-school", _CORNELL, "MIT (repository)"),
        _other("house-committees", _CHODROW, "none stated"),
        _other("senate-committees", _CHODROW, "none stated"),
        _other("zoo", _UCI.format("Zoo"), "none stated"),
        _other("mushroom", _UCI.format("Mushroom"), "none stated"),
    )
}


def names() -> tuple[str, ...]:
    """Names that ``load`` knows.

    Example:
        >>> from hypergraph import datasets
        >>> "cora-cocitation" in datasets.names()
        True
    """
    return tuple(CATALOGUE)


def info(name: str) -> DatasetInfo:
    """Source, licence and file name of a data set, without loading it."""
    check_choice("name", name, names())
    return CATALOGUE[name]


def default_root() -> Path:
    """Folder of the npz files where none is named: ``~/.cache/hypergraph-nn``."""
    return Path.home() / ".cache" / "hypergraph-nn"


def load(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = True,
    label_noise: float | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> HypergraphDataset:
    """Load a benchmark data set.

    The npz file (``read_npz`` has the format) is looked for in ``root``. Where it is absent, Cora
    co-citation, Citeseer co-citation and Cora co-authorship are downloaded once: the pickles of the
    HyperGCN repository at a fixed commit, read without executing them, checked against a SHA-256 of
    their content, and written to ``root`` as npz. The others have no home that can be downloaded
    from without an account or a browser, or none with a stated licence: their files have to be put
    into ``root``.

    Args:
        name: one of ``names()``.
        root: folder of npz files; default ``default_root()``.
        download: whether to download a missing file.
        label_noise: give data without features those of ``label_features`` with this noise.
        seed: of these features.
        report: called with the bytes so far and the total of every file downloaded.

    Returns:
        The data; ``x`` is None for data without features unless ``label_noise`` is given.

    Raises:
        ValueError: there is no data set of that name, the file is not one, or the content is not
            what it was when the hash was taken.
        FileNotFoundError: the file is absent and is not, or may not be, downloaded.
        ConnectionError: the download failed.
    """
    entry = info(name)
    folder = default_root() if root is None else Path(root)
    path = folder / entry.file
    if not path.is_file():
        if not entry.downloadable or not download:
            why = "`download` is False" if entry.downloadable else "it cannot be downloaded"
            raise FileNotFoundError(
                f"{path} is absent and {why}; put the file there, or name its folder with `root` "
                f"(source: {entry.source})"
            )
        write_npz(download_hypergcn(entry, report), path)
    data = read_npz(path, entry.name, entry.source, entry.licence)
    if label_noise is not None:
        if data.x is not None:
            raise ValueError(f"`label_noise` goes with data without features; {name} has some")
        data = replace(data, x=label_features(data.y, noise=label_noise, seed=seed))
    return data


def download_hypergcn(
    entry: DatasetInfo, report: Report | None = None, home: str | None = None
) -> HypergraphDataset:
    """Fetch the original pickles of one data set, and check their content.

    Args:
        entry: a downloadable one.
        report: see ``fetch``.
        home: address of the repository's files; default its public one.
    """
    address = f"{home or _HYPERGCN}/{_HYPERGCN_COMMIT}/{entry.folder}"
    with tempfile.TemporaryDirectory() as folder:

        def read(name: str) -> Any:
            path = Path(folder) / name.replace("/", "-")
            return read_pickle(fetch(f"{address}/{name}", path, report, keeps=False))

        try:
            data = from_hypergcn(read, entry)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{address} does not hold what it did ({type(error).__name__}: {error}); "
                "nothing was written"
            ) from error
    found = content_digest(data)
    if found != entry.digest:
        raise ValueError(
            f"the content of {address} has SHA-256 {found}, expected {entry.digest}: it changed, "
            "or was tampered with; nothing was written"
        )
    return data


def from_hypergcn(read: Callable[[str], Any], entry: DatasetInfo) -> HypergraphDataset:
    """Build a data set from the files of HyperGCN's folder layout.

    ``hypergraph.pickle`` {name: vertices}, ``features.pickle`` (CSR or array), ``labels.pickle``
    (classes), and ``splits/1.pickle`` ... with ``{"train": vertices, "test": vertices}``.

    Args:
        read: returns the content of one of these files.
        entry: name, source and licence.
    """
    edges = list(read("hypergraph.pickle").values())
    labels = np.asarray(read("labels.pickle"))
    if labels.ndim == 2:  # one-hot
        labels = labels.argmax(1)
    features = read("features.pickle")
    arrays: dict[str, NDArray[Any]] = {
        "num_nodes": np.array(len(labels)),
        "num_hyperedges": np.array(len(edges)),
        "hyperedge_index": np.array(
            [
                [int(vertex) for edge in edges for vertex in edge],
                [number for number, edge in enumerate(edges) for _ in edge],
            ],
            dtype=np.int64,
        ).reshape(2, -1),
        "y": labels.astype(np.int64),
    }
    if isinstance(features, CSR):
        arrays["x_data"], arrays["x_indices"] = features.data, features.indices
        arrays["x_indptr"], arrays["x_shape"] = features.indptr, np.array(features.shape)
    else:
        arrays["x"] = np.asarray(features, dtype=np.float32)
    for number in _SPLITS:
        split: Mapping[str, Any] = read(f"splits/{number}.pickle")
        arrays[f"train_{number}"] = np.asarray(split["train"], dtype=np.int64)
        arrays[f"test_{number}"] = np.asarray(split["test"], dtype=np.int64)
    return dataset_from_arrays(arrays, entry.name, entry.source, entry.licence)


def content_digest(dataset: HypergraphDataset) -> str:
    """SHA-256 of what a data set says, whatever file it came in.

    Covers the sizes, the hyperedges as a multiset of vertex lists, labels, features as float32 and
    the vertices of every split; not their order, which has no meaning.
    """
    h = dataset.hypergraph
    sha = hashlib.sha256()

    def add(label: str, values: torch.Tensor) -> None:
        sha.update(f"{label}{list(values.shape)}".encode())
        kind = "<f4" if values.is_floating_point() else "<i8"
        sha.update(values.detach().cpu().numpy().astype(kind).tobytes())

    add("sizes", torch.tensor([h.num_nodes, h.num_edges, h.hyperedge_index.shape[1]]))
    members: list[list[int]] = [[] for _ in range(h.num_edges)]
    for vertex, edge in h.hyperedge_index.T.tolist():
        members[edge].append(vertex)
    for edge_members in sorted(sorted(edge) for edge in members):
        add("edge", torch.tensor(edge_members, dtype=torch.long))
    add("labels", dataset.y)
    if dataset.x is not None:
        x = dataset.x if dataset.x.layout == torch.strided else dataset.x.to_dense()
        places = x.nonzero()
        add("shape", torch.tensor(x.shape))
        add("places", places)
        add("values", x[places[:, 0], places[:, 1]])
    for split in dataset.splits:
        for part in (split.train, split.valid, split.test):
            add("split", part.sort().values)
    return sha.hexdigest()
