from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hypergraph import FuzzyCMeans, Hypergraph, NeighborTable, ViHGNNConv
from tests.hypergraph.generated import F64


def plain(eps: float) -> ViHGNNConv:
    """Both networks the identity on one channel."""
    conv = ViHGNNConv(1, 1, bias=False, groups=1, norm=False, activation=nn.Identity()).to(F64)
    with torch.no_grad():
        conv.edge_mlp.weight.fill_(1)
        conv.node_mlp.weight.fill_(1)
        conv.eps.fill_(eps)
    return conv


def test_small_example_by_hand() -> None:
    x = torch.tensor([[1.0], [3.0], [8.0], [5.0]], dtype=F64)
    h = Hypergraph.from_edges([[0, 1], [1, 2], []], 4, torch.tensor([1.0, 3.0, 9.0], dtype=F64))
    # Hyperedges 2 and 5.5; vertex 1 takes them 1 : 3; vertex 3 is isolated.
    expected = [1.5 + 2, 4.5 + (2 + 3 * 5.5) / 4, 12 + 5.5, 7.5]
    assert plain(0.5)(x, h).flatten().tolist() == expected


def test_lists_of_unequal_length_are_not_padded_with_the_last_vertex() -> None:
    """The released code would give hyperedge {0} the mean of vertices 0, 2 and 2."""
    x = torch.tensor([[3.0], [0.0], [-9.0]], dtype=F64)
    h = Hypergraph.from_edges([[0], [0, 1, 2]], 3)
    padded = (3 - 9 - 9) / 3
    out = plain(0.0)(x, h).flatten()
    assert out[0] == 3 + (3 + -2) / 2 != 3 + (padded + -2) / 2
    assert out[1] == -2


class ReleasedForm(nn.Module):
    """The released layer on images [B, C, N, 1], for lists that need no padding."""

    def __init__(self, conv: ViHGNNConv, channels: int, out: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for block, wide in ((conv.edge_mlp, channels), (conv.node_mlp, out)):
            layer = nn.Conv2d(channels, wide, 1, groups=4)
            norm = nn.BatchNorm2d(wide)
            with torch.no_grad():
                layer.weight.copy_(block.weight[:, :, None, None])
                layer.bias.copy_(block.bias)
                norm.load_state_dict(block.norm.state_dict())
            self.blocks.append(nn.Sequential(layer, norm, nn.GELU()))
        self.eps = conv.eps

    def forward(self, x: Tensor, members: Tensor, joined: Tensor) -> Tensor:
        """members [B, M, K], joined [B, N, L]: lists of indices."""
        rows = [image[:, index].mean(-1) for image, index in zip(x, members, strict=True)]
        edges = self.blocks[0](torch.stack(rows).unsqueeze(-1)).squeeze(-1)
        rows = [edge[:, index].mean(-1) for edge, index in zip(edges, joined, strict=True)]
        return self.blocks[1](((1 + self.eps) * x + torch.stack(rows)).unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("training", [False, True])
def test_equals_grouped_convolutions_on_images(training: bool) -> None:
    """Hyperedges of three vertices each, every vertex in two of them."""
    torch.manual_seed(0)
    conv = ViHGNNConv(8, 12).train(training)
    with torch.no_grad():
        conv.eps.fill_(-0.4)
        conv.node_mlp.bias.normal_()
    members = torch.stack([torch.randperm(6).repeat(2).view(4, 3) for _ in range(2)])
    joined = torch.stack(
        [torch.stack([(m == v).any(-1).nonzero().flatten() for v in range(6)]) for m in members]
    )
    x = torch.randn(2, 6, 8)
    released = ReleasedForm(conv, 8, 12).train(training)
    got = conv(x, NeighborTable(members, 6))
    assert_close(got, released(x.mT, members, joined).mT, rtol=1e-4, atol=1e-5)
    if training:
        norms = (conv.edge_mlp.norm, conv.node_mlp.norm)
        for norm, (_, twin, _) in zip(norms, released.blocks, strict=True):
            assert norm is not None
            assert_close(norm.running_var, twin.running_var)


def test_training_with_a_single_hyperedge_uses_the_running_statistics() -> None:
    conv, x = ViHGNNConv(4, 4).train(), torch.randn(5, 4)
    with torch.no_grad():
        conv.edge_mlp.norm.running_mean.fill_(0.7)
    h = Hypergraph.from_edges([[0, 1, 4]], 5)
    out = conv(x, h)
    conv.edge_mlp.eval()
    conv.node_mlp.norm.reset_running_stats()
    assert_close(out, conv(x, h))
    assert conv(torch.randn(1, 4), Hypergraph.from_edges([[0]])).isfinite().all()


def test_fuzzy_clusters_as_soft_hyperedges() -> None:
    conv, x = ViHGNNConv(8, 4).eval(), torch.randn(3, 20, 8)
    h = FuzzyCMeans(5)(x)
    out = conv(x, h)
    dense = h.to_dense()
    for sample in range(3):
        assert_close(out[sample], conv(x[sample], Hypergraph.from_dense(dense[sample])))


def test_initial_values_are_those_of_the_authors() -> None:
    conv = ViHGNNConv(256, 512)
    assert conv.edge_mlp.weight.shape == (256, 64) and conv.node_mlp.weight.shape == (512, 64)
    for block in (conv.edge_mlp, conv.node_mlp):
        assert abs(block.weight.std().item() - (2 / 64) ** 0.5) < 0.01
        assert block.bias is not None and (block.bias == 0).all()
    assert conv.eps.item() == 0
    with torch.no_grad():
        conv.eps.fill_(3)
        conv.node_mlp.bias.fill_(3)
    conv.reset_parameters()
    assert conv.eps.item() == 0 and (conv.node_mlp.bias == 0).all()


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: ViHGNNConv(6, 8), ValueError, "`in_channels` must be divisible by `groups`, 4"),
        (lambda: ViHGNNConv(8, 6), ValueError, "`out_channels` must be divisible by `groups`, 4"),
        (lambda: ViHGNNConv(8, 8, groups=0), ValueError, "`groups` must be at least 1"),
        (lambda: ViHGNNConv(8, 8, activation=nn.ReLU), TypeError, "`activation` must be a module"),
        (lambda: ViHGNNConv(8, 8, activation="gelu"), TypeError, "`activation` .*got str"),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()
