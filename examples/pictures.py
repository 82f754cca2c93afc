"""Draw the pictures of docs/viz.md.

    python examples/pictures.py --out docs/images

Needs the extra ``viz``. The photograph of the last picture is the one that comes with matplotlib
(Grace Hopper, US Navy, public domain).
"""

import argparse
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from hypergraph import KNN, CrossCorrelation, Hypergraph
from hypergraph.datasets.synthetic import planted_partition
from hypergraph.viz import draw_bipartite, draw_hulls, draw_incidence, draw_on_image

GRID = (36, 30)  # rows and columns of the feature map

# Who wrote with whom, invented.
PAPERS = {
    "Kernels": ["Ada", "Bo", "Cleo"],
    "Meshes": ["Cleo", "Dan", "Eve", "Finn"],
    "Proteins": ["Finn", "Gus", "Hana"],
    "Traffic": ["Hana", "Ivo"],
    "Survey": ["Bo", "Dan"],
    "Thesis": ["Jo"],
}


def save_with_palette(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours: a photograph takes a third of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=92, format="png")
    picture = Image.open(buffer).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def co_authors() -> tuple[Hypergraph, list[str], list[str]]:
    """The hypergraph of PAPERS, with the names of its vertices and hyperedges."""
    authors = sorted({name for names in PAPERS.values() for name in names})
    edges = [[authors.index(name) for name in names] for names in PAPERS.values()]
    return Hypergraph.from_edges(edges, len(authors)), authors, list(PAPERS)


def hulls(path: Path) -> None:
    """Outlines around members."""
    h, authors, papers = co_authors()
    ax = draw_hulls(h, node_labels=authors, edge_labels=papers, seed=1)
    ax.figure.savefig(path, dpi=100)


def bipartite(path: Path) -> None:
    """Two columns, as numbered and with few crossings."""
    h, authors, papers = co_authors()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.12)
    draw_bipartite(h, left, order=False, node_labels=authors, edge_labels=papers)
    draw_bipartite(h, right, node_labels=authors, edge_labels=papers)
    figure.savefig(path, dpi=100)


def incidence(path: Path) -> None:
    """The same soft incidence as numbered and sorted."""
    data = planted_partition(36, 3, 30, (3, 6), 0.97, num_features=3, noise=0.25, seed=4)
    assert data.x is not None
    generator = torch.Generator().manual_seed(0)
    values = 0.25 + 0.75 * torch.rand(data.hypergraph.nnz, generator=generator)
    h = data.hypergraph.replace(incidence_weight=values)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.9), layout="constrained")
    draw_incidence(h, left, colorbar=False)
    left.set_title("as numbered", fontsize=10)
    draw_incidence(h, right, sort="spectral")
    right.set_title('sort="spectral"', fontsize=10)
    figure.savefig(path, dpi=100)


def photograph() -> tuple[Tensor, Tensor]:
    """The picture [3, height, width] in [-1, 1], and the features [N, C] of its cells."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        pixels = torch.from_numpy(plt.imread(file, format="jpg").copy())
    image = pixels.permute(2, 0, 1).float() / 127.5 - 1
    cells = torch.nn.functional.interpolate(image[None], size=GRID, mode="area")[0]
    rows = torch.linspace(-1, 1, GRID[0])[:, None].expand(GRID)
    columns = torch.linspace(-1, 1, GRID[1])[None].expand(GRID)
    features = torch.cat([2 * cells, 0.5 * torch.stack([rows, columns])])
    return image, features.flatten(1).T.contiguous()


def learned(x: Tensor, steps: int = 300) -> CrossCorrelation:
    """Hyperedges from which the features of all vertices can be had back.

    Every hyperedge takes the mean of its members, and every vertex the mean of its hyperedges; the
    construction is trained until little is lost. Six hyperedges then stand for six kinds of cells.
    """
    torch.manual_seed(0)
    build = CrossCorrelation(x.shape[1], num_edges=6, rank=16, nonneg="softmax", streamed=False)
    optimizer = torch.optim.Adam(build.parameters(), lr=0.02)
    for _ in range(steps):
        loss = (build(x).v2v(x, "mean") - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return build


def on_image(path: Path) -> None:
    """Neighbours of three vertices, what one depends on, and learned hyperedges."""
    image, x = photograph()
    knn = KNN(k=40, metric="euclidean", weighting="rbf", bandwidth=0.6)(x)
    face, flag, coat = (9 * 30 + 15, 8 * 30 + 3, 31 * 30 + 12)
    figure, axes = plt.subplots(2, 4, figsize=(9.6, 5.6), layout="constrained")
    top, bottom = list(axes[0]), list(axes[1])
    draw_on_image(knn, image, GRID, [face, flag, coat], mark=True, axes=top[:3], colorbar=False)
    draw_on_image(knn, image, GRID, [face], of="vertex", mark=True, axes=top[3], colorbar=False)
    hypergraph = learned(x)(x)
    largest = hypergraph.edge_degree().argsort(descending=True)[:4].tolist()
    titles = [f"learned hyperedge {number}" for number in largest]
    draw_on_image(hypergraph, image, GRID, largest, axes=bottom, titles=titles, colorbar=False)
    top[0].set_title("neighbours of the face", fontsize=9)
    top[1].set_title("of the flag", fontsize=9)
    top[2].set_title("of the coat", fontsize=9)
    top[3].set_title("what the face depends on", fontsize=9)
    save_with_palette(figure, path)


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (hulls, bipartite, incidence, on_image):
        path = folder / f"hypergraph-{draw.__name__.replace('_', '-')}.png"
        draw(path)
        plt.close("all")
        print(path)


if __name__ == "__main__":
    main()
