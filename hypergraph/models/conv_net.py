"""A stack of any layer."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, nn

from hypergraph import nn as layers
from hypergraph._checks import check_positive_int
from hypergraph.incidence import Incidence
from hypergraph.models.base import ModelConfig, NodeModel, activation
from hypergraph.models.features import feature_dropout


def stack(
    make: Callable[[int, int], nn.Module],
    in_channels: int,
    hidden: Sequence[int],
    out_channels: int,
) -> nn.ModuleList:
    """Layers from ``in_channels`` through ``hidden`` to ``out_channels``."""
    sizes = [in_channels, *hidden, out_channels]
    return nn.ModuleList(map(make, sizes[:-1], sizes[1:]))


def run_stack(
    convs: nn.ModuleList,
    x: Tensor,
    hypergraph: Incidence,
    between: nn.Module,
    dropout: float,
    training: bool,
) -> Tensor:
    """``conv -> between -> dropout -> conv ...``."""
    for number, conv in enumerate(convs):
        if number:
            x = feature_dropout(between(x), dropout, training)
        x = conv(x, hypergraph)
    return x


@dataclass(frozen=True)
class ConvNetConfig(ModelConfig):
    """Config of ``ConvNet``.

    Attributes:
        conv: name of a layer in ``hypergraph.nn``, or the class.
        hidden_channels: channels between the layers.
        num_layers: layers.
        dropout: after every activation.
        input_dropout: of the features.
        activation: between the layers: ``"relu"``, ``"elu"``, ``"gelu"`` or ``"none"``.
        conv_options: further arguments of the layer, plain values.
    """

    conv: str = "HGNNConv"
    hidden_channels: int = 64
    num_layers: int = 2
    dropout: float = 0.5
    input_dropout: float = 0.0
    activation: str = "relu"
    conv_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if inspect.isclass(self.conv):
            object.__setattr__(self, "conv", self.conv.__name__)
        _conv_class(self.conv)


class ConvNet(NodeModel):
    """``conv -> activation -> dropout -> ... -> conv`` with any layer of ``hypergraph.nn``.

    The layer is one that is made from (in_channels, out_channels, ...) and called with
    (x, hypergraph). ``heads`` in ``conv_options`` is for the inner layers of a layer that puts
    its heads side by side: the last one has one head.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.models import ConvNet, ConvNetConfig
        >>> from hypergraph.nn import UniGINConv
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2, 3]])
        >>> model = ConvNet(ConvNetConfig(8, 3, UniGINConv, conv_options={"eps": 0.5}))
        >>> model(torch.randn(4, 8), h).shape
        torch.Size([4, 3])
    """

    config: ConvNetConfig
    config_class = ConvNetConfig
    takes_sparse_features = False

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__(config)
        conv = _conv_class(config.conv)
        options = dict(config.conv_options)
        heads = check_positive_int("heads", options.pop("heads", 1))
        self.convs = nn.ModuleList()
        channels = config.in_channels
        for number in range(config.num_layers):
            last = number == config.num_layers - 1
            out = config.out_channels if last else config.hidden_channels
            more = {"heads": 1 if last else heads} if "heads" in _arguments(conv) else {}
            layer = conv(channels, out, **more, **options)
            self.convs.append(layer)
            channels = out * heads if more and _concatenates(layer) and not last else out
        self.activation = activation(config.activation)

    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        c = self.config
        x = feature_dropout(x, c.input_dropout, self.training)
        return run_stack(self.convs, x, hypergraph, self.activation, c.dropout, self.training)


def conv_net(
    conv: str | type[nn.Module],
    in_channels: int,
    out_channels: int,
    **options: Any,
) -> ConvNet:
    """``ConvNet`` in one call; ``options`` are those of ``ConvNetConfig``."""
    config = ConvNetConfig(in_channels, out_channels, cast(str, conv))
    return ConvNet(replace(config, **options))


def _conv_class(name: object) -> Callable[..., nn.Module]:
    found = (
        getattr(layers, name, None) if isinstance(name, str) and name in layers.__all__ else None
    )
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        known = [item for item in layers.__all__ if inspect.isclass(getattr(layers, item))]
        raise ValueError(
            f"`conv` must be a layer of hypergraph.nn, {', '.join(known)}; got {name!r}"
        )
    made = {"in_channels", "out_channels"} <= set(_arguments(found))
    if not made or _arguments(found.forward)[1:2] != ["hypergraph"]:
        raise ValueError(
            "`conv` must be made from (in_channels, out_channels) and called with (x, hypergraph), "
            f"which {name} is not; see hypergraph.models for a model of its own"
        )
    return found


def _arguments(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _concatenates(layer: nn.Module) -> bool:
    """Whether out_channels of the layer are those of one head."""
    return isinstance(layer, layers.UniGATConv) or bool(getattr(layer, "concat", False))
