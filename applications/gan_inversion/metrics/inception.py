"""The Inception network that FID is defined with, from a local file.

It is *not* torchvision's Inception v3: TensorFlow's network of 2015-12-05, with 1008 classes,
whose average pools leave the padding out of the mean and whose last block pools by maximum. FID
made with another Inception is another number. Szegedy et al. (https://arxiv.org/abs/1512.00567);
Heusel et al. (https://arxiv.org/abs/1706.08500).

The file is ``pt_inception-2015-12-05-6726825d.pth``, as pytorch-fid publishes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._weights import fill, read_state

OFFICIAL_SHA256 = "6726825d"
"""First digits of the official file's SHA-256, which its name ends in."""

SIDE = 299


class _Conv(nn.Module):
    """Convolution without bias, batch norm with TensorFlow's epsilon, ReLU."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: bool = True,
    ) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (size[0] // 2, size[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(c_in, c_out, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


class _MixedA(nn.Module):
    def __init__(self, c_in: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(c_in, 64, 1)
        self.branch5x5_1 = _Conv(c_in, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5)
        self.branch3x3dbl_1 = _Conv(c_in, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3)
        self.branch_pool = _Conv(c_in, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_mean_pool(x))], 1)


class _MixedB(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(c_in, 384, 3, 2, pad=False)
        self.branch3x3dbl_1 = _Conv(c_in, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, 2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _halve(x)], 1)


class _MixedC(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = _Conv(768, 192, 1)
        self.branch7x7_1 = _Conv(768, width, 1)
        self.branch7x7_2 = _Conv(width, width, row)
        self.branch7x7_3 = _Conv(width, 192, column)
        self.branch7x7dbl_1 = _Conv(768, width, 1)
        self.branch7x7dbl_2 = _Conv(width, width, column)
        self.branch7x7dbl_3 = _Conv(width, width, row)
        self.branch7x7dbl_4 = _Conv(width, width, column)
        self.branch7x7dbl_5 = _Conv(width, 192, row)
        self.branch_pool = _Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean_pool(x))], 1)


class _MixedD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(768, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, 2, pad=False)
        self.branch7x7x3_1 = _Conv(768, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = _Conv(192, 192, 3, 2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), _halve(x)], 1)


class _MixedE(nn.Module):
    def __init__(self, c_in: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Conv(c_in, 320, 1)
        self.branch3x3_1 = _Conv(c_in, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3))
        self.branch3x3_2b = _Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = _Conv(c_in, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1))
        self.branch_pool = _Conv(c_in, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(parts, 1)


class FIDInception(nn.Module):
    """The network up to its 2048 pooled features; the classifier is left out.

    Names are those of the published file. Parameters take no gradients.

    Example:
        >>> FIDInception()(torch.zeros(1, 3, 299, 299)).shape
        torch.Size([1, 2048])
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2, pad=False)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, pad=False)
        self.Mixed_5b = _MixedA(192, 32)
        self.Mixed_5c = _MixedA(256, 64)
        self.Mixed_5d = _MixedA(288, 64)
        self.Mixed_6a = _MixedB(288)
        self.Mixed_6b = _MixedC(128)
        self.Mixed_6c = _MixedC(160)
        self.Mixed_6d = _MixedC(160)
        self.Mixed_6e = _MixedC(192)
        self.Mixed_7a = _MixedD()
        self.Mixed_7b = _MixedE(1280, _mean_pool)
        self.Mixed_7c = _MixedE(2048, _max_pool)
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[B, 2048]`` of RGB images ``[B, 3, 299, 299]`` in [-1, 1].

        Raises:
            ValueError: another shape; the network itself resizes nothing.
        """
        if x.ndim != 4 or x.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(
                f"`x` must be RGB images [B, 3, {SIDE}, {SIDE}], got shape {list(x.shape)}; "
                "resize them, see inception_features"
            )
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halve(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


def load_inception(path: str | os.PathLike[str]) -> FIDInception:
    """Load FID's Inception from ``pt_inception-2015-12-05-6726825d.pth``.

    Args:
        path: that file, or another of the same layout (``Mixed_5b.branch1x1.conv.weight``, ...).

    Returns:
        The frozen network on the CPU in float32.

    Raises:
        CheckpointError: the file cannot be read or has another layout, for example torchvision's
            own Inception v3 (which has 1000 classes and an auxiliary head).
    """
    net, _ = load_with_digest(path)
    return net


def load_with_digest(path: str | os.PathLike[str]) -> tuple[FIDInception, str]:
    """As :func:`load_inception`, with the SHA-256 of the file that was read."""
    state, digest = read_state(path, "FID's Inception")
    net = FIDInception()
    if "fc.weight" not in state or state["fc.weight"].shape[:1] == (1008,):
        state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    # Counters of training steps, which older files do not have.
    counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
    fill(net, {**counters, **state}, "FID's Inception (1008 classes, no auxiliary head)")
    return net, digest
