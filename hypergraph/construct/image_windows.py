"""Hyperedges from windows of an image."""

from typing import Literal, get_args

import torch
from torch import Tensor

from hypergraph._checks import check_choice
from hypergraph.construct.base import check_grid
from hypergraph.construct.static import StaticConstruction
from hypergraph.incidence import NeighborTable

Padding = Literal["valid", "same"]


class ImageWindows(StaticConstruction):
    """One hyperedge per window of an image, dilated or not.

    ``h_ve = 1 if pixel v is in window e``, the window with its first pixel at row ``stride * i``
    and column ``stride * j`` and members ``dilation`` pixels apart.

    Vertex v is pixel (v // width, v % width), as in ``feature_map.flatten(2).mT``; windows and
    their members are in reading order. ``padding="valid"`` takes the windows that lie inside the
    image. ``"same"`` puts the middle of a window (for an even size, the first of the two pixels
    there) on every stride-th pixel and leaves out members outside the image: with stride 1 there is
    one hyperedge per vertex, which contains it.

    Args:
        grid: height and width of the image, or one number for both.
        size: height and width of a window in members.
        stride: step from window to window; the default 1 lets them overlap.
        dilation: step from member to member.
        padding: ``"valid"`` or ``"same"``.

    Returns (from a call):
        NeighborTable with height * width vertices, the same for all samples; see
        ``StaticConstruction``.

    Raises:
        ValueError, TypeError: bad arguments, or no window fits into the image.

    Example:
        >>> import torch
        >>> from hypergraph import ImageWindows
        >>> ImageWindows(grid=(2, 3), size=2)(torch.randn(6, 8)).index
        tensor([[0, 1, 3, 4],
                [1, 2, 4, 5]])
        >>> ImageWindows(grid=5, size=3, dilation=2)(torch.randn(1, 25, 8)).index
        tensor([[ 0,  2,  4, 10, 12, 14, 20, 22, 24]])
    """

    def __init__(
        self,
        grid: int | tuple[int, int],
        size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        padding: Padding = "valid",
    ) -> None:
        self_grid = check_grid("grid", grid)
        size, stride = check_grid("size", size), check_grid("stride", stride)
        dilation = check_grid("dilation", dilation)
        check_choice("padding", padding, get_args(Padding))
        reach = tuple((s - 1) * d + 1 for s, d in zip(size, dilation, strict=True))
        if padding == "valid" and any(r > g for r, g in zip(reach, self_grid, strict=True)):
            raise ValueError(
                f"`size` must fit into the image of {self_grid[0]} x {self_grid[1]} pixels, got "
                f"windows of {reach[0]} x {reach[1]} with dilation; use padding='same' to cut them"
            )
        rows, columns = (
            _places(*settings, padding)
            for settings in zip(self_grid, size, stride, dilation, strict=True)
        )
        row, column = rows[:, None, :, None], columns[None, :, None, :]
        inside = (row >= 0) & (row < self_grid[0]) & (column >= 0) & (column < self_grid[1])
        index = row.clamp(0, self_grid[0] - 1) * self_grid[1] + column.clamp(0, self_grid[1] - 1)
        index, inside = index.flatten(2).flatten(0, 1), inside.flatten(2).flatten(0, 1)
        mask = None if bool(inside.all()) else inside
        super().__init__(NeighborTable(index, self_grid[0] * self_grid[1], mask=mask))
        self.grid, self.size, self.stride, self.dilation = self_grid, size, stride, dilation
        self.padding: Padding = padding

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of windows: hyperedge e is window (e // columns, e % columns)."""
        counts = (
            _places(*settings, self.padding).shape[0]
            for settings in zip(self.grid, self.size, self.stride, self.dilation, strict=True)
        )
        rows, columns = counts
        return rows, columns

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"grid={self.grid}, size={self.size}, stride={self.stride}, "
            f"dilation={self.dilation}, padding='{self.padding}'"
        )


def _places(length: int, size: int, stride: int, dilation: int, padding: Padding) -> Tensor:
    """[windows, size] positions of every window's members along one side."""
    reach = (size - 1) * dilation
    if padding == "valid":
        first = torch.arange(0, length - reach, stride)
    else:
        first = torch.arange(0, length, stride) - (size - 1) // 2 * dilation
    return first[:, None] + torch.arange(size) * dilation
