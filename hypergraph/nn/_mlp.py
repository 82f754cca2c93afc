"""The multi-layer perceptron of AllSet and ED-HNN."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import check_choice, check_fraction, check_positive_int

Norm = Literal["ln", "bn"] | None


class MLP(nn.Module):
    """``[norm] -> (Linear -> ReLU -> norm -> dropout) ... -> Linear``, row by row.

    The order of AllSet's and ED-HNN's code: the norm comes after the ReLU. Parameters have the
    names they have there (``lins``, ``normalizations``), so that state dicts fit.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels between the linear maps.
        out_channels: channels of the result.
        num_layers: linear maps, at least one.
        dropout: after every norm but the first.
        norm: ``"ln"`` (LayerNorm), ``"bn"`` (BatchNorm over all rows) or None.
        input_norm: normalise the input as well.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        dropout: float = 0.0,
        norm: Norm = None,
        input_norm: bool = False,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, ("ln", "bn", None))
        check_positive_int("num_layers", num_layers)
        inner = [check_positive_int("hidden_channels", hidden_channels)] * (num_layers - 1)
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.dropout = check_fraction("dropout", dropout)
        self.lins = nn.ModuleList(map(nn.Linear, [in_channels, *inner], [*inner, out_channels]))
        first = _norm(norm, in_channels) if input_norm else nn.Identity()
        self.normalizations = nn.ModuleList([first, *(_norm(norm, size) for size in inner)])

    def reset_parameters(self) -> None:
        """Draw all parameters anew, with torch's defaults for Linear, as the authors."""
        for module in (*self.lins, *self.normalizations):
            if not isinstance(module, nn.Identity):
                module.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Map the rows of x.

        Args:
            x: [..., in_channels].

        Returns:
            [..., out_channels].
        """
        return self.after_first(self.lins[0](self.normalizations[0](x)))

    def after_first(self, z: Tensor) -> Tensor:
        """Everything after the first linear map.

        Args:
            z: [..., hidden_channels], what that map gives (out_channels with a single layer).

        Returns:
            [..., out_channels].
        """
        return z if len(self.lins) == 1 else self.lins[-1](self.between(z))

    def between(self, z: Tensor) -> Tensor:
        """Everything between the first linear map and the last one, of two or more."""
        last = len(self.lins) - 1
        for layer in range(1, len(self.lins)):
            z = self.normalizations[layer](functional.relu(z))
            z = functional.dropout(z, self.dropout, self.training)
            if layer < last:
                z = self.lins[layer](z)
        return z


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the rows of [..., C].

    Fewer than two rows have no variance: in training they are normalised with the running
    statistics and leave those as they are (``nn.BatchNorm1d`` raises).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of x."""
        rows = x.flatten(0, -2)
        if self.training and rows.shape[0] < 2:
            mean, var = self.running_mean, self.running_var
            rows = functional.batch_norm(rows, mean, var, self.weight, self.bias, eps=self.eps)
        else:
            rows = super().forward(rows)
        return rows.view(x.shape)


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm is None:
        return nn.Identity()
    return nn.LayerNorm(channels) if norm == "ln" else RowBatchNorm(channels)
