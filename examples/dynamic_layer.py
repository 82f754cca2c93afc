"""Put a dynamic hypergraph layer into a model of your own: point clouds.

    python examples/dynamic_layer.py

Each scene holds a rod, a plate and a ball, turned and placed at random and overlapping, 48 noisy
points each; the model says for every point what it belongs to. The baseline is PointNet's
segmentation network: an MLP on every point, the maximum over all points beside it, an MLP; alone,
and with the distances of every point to its 12 nearest as further features. The third model has
one layer more: ``DynamicHGConv`` makes a hyperedge of every point and its nearest points, anew in
every call and one hypergraph per scene, and tells how far the hyperedge reaches in 32 learned
directions: far in one line on a rod, in a plane on a plate, everywhere in a ball.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypergraph import DynamicHGConv, UniSAGEConv

KINDS = ("rod", "plate", "ball")


class PointNet(nn.Module):
    """Features of every point, their maximum beside them, an MLP for every point."""

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, len(KINDS))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, N, kinds] of point features [B, N, channels]."""
        x = self.points(x)
        return self.head(torch.cat([x, x.amax(1, keepdim=True).expand_as(x)], -1))


class PointNetWithDistances(nn.Module):
    """The same, on every point beside the distances to its nearest points."""

    def __init__(self, k: int = 12) -> None:
        super().__init__()
        self.k = k
        self.net = PointNet(3 + k)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, N, kinds] of points [B, N, 3]."""
        nearest = torch.cdist(x, x).topk(self.k + 1, largest=False).values[..., 1:]
        return self.net(torch.cat([x, 5 * nearest], -1))


class PointNetWithHyperedges(nn.Module):
    """The same, on every point beside the reach of its neighbourhood."""

    def __init__(self, directions: int = 32, k: int = 12) -> None:
        super().__init__()
        # Theta x_v + mean over hyperedges of max over members of Theta x_u
        conv = UniSAGEConv(3, directions, v2e_reduce="max", e2v_reduce="mean")
        self.layer = DynamicHGConv(3, directions, k, threshold=None, metric="euclidean", conv=conv)
        self.net = PointNet(3 + directions)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, N, kinds] of points [B, N, 3]."""
        own = self.layer.conv.theta(x)
        reach = self.layer(x) - 2 * own  # max over members of Theta (x_u - x_v): of any place
        return self.net(torch.cat([x, 5 * reach], -1))


def make_scenes(count: int, generator: torch.Generator, points: int = 48) -> tuple[Tensor, Tensor]:
    """[count, 3 points, 3] and the kind of every point."""
    shape = (count, points, 3)
    rods = torch.randn(shape, generator=generator) * torch.tensor([0.8, 0.04, 0.04])
    plates = torch.randn(shape, generator=generator) * torch.tensor([0.6, 0.6, 0.04])
    balls = torch.randn(shape, generator=generator) * 0.45
    parts = []
    for part in (rods, plates, balls):
        turn = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator)).Q
        parts.append(part @ turn + 0.7 * torch.randn(count, 1, 3, generator=generator))
    kinds = torch.arange(3).repeat_interleave(points).expand(count, -1)
    return torch.cat(parts, 1), kinds


def fit(
    model: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], epochs: int
) -> float:
    """Train for a fixed number of epochs; the share of test points that is right after the last."""
    scenes, kinds = train
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(scenes) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, max(steps, 2))
    for _ in range(epochs):
        for numbers in torch.randperm(len(scenes)).split(16):
            scores = model(scenes[numbers])
            loss = nn.functional.cross_entropy(scores.flatten(0, 1), kinds[numbers].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((model(test[0]).argmax(-1) == test[1]).float().mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--count", type=int, default=200, help="scenes to train on")
    settings = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    train, test = make_scenes(settings.count, generator), make_scenes(100, generator)
    results = {
        "PointNet": fit(PointNet(), train, test, settings.epochs),
        "with distances": fit(PointNetWithDistances(), train, test, settings.epochs),
        "with DynamicHGConv": fit(PointNetWithHyperedges(), train, test, settings.epochs),
    }
    print(f"{settings.count} scenes of 144 points to learn from, 100 to test")
    print(f"\n{'':24}right points (chance 33 %)")
    for name, value in results.items():
        print(f"{name:24}{100 * value:10.1f} %")
    print(f"\n{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} thread(s)")
    return results


if __name__ == "__main__":
    main()
