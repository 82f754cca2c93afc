"""What every model has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from hypergraph._checks import check_features, check_positive_int
from hypergraph.incidence import Incidence
from hypergraph.models.features import is_sparse
from hypergraph.models.hub import HubMixin
from hypergraph.nn.hgnn_conv import as_incidence


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a model; its subclasses add the published defaults.

    Attributes:
        in_channels: channels of the features.
        out_channels: classes.
    """

    in_channels: int
    out_channels: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("channels") or field.name in ("num_layers", "heads"):
                check_positive_int(field.name, value)
            if field.name.endswith("dropout"):
                check_probability(field.name, value)


def check_probability(name: str, value: object) -> None:
    """Raise unless 0 <= ``value`` < 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must lie in [0, 1), got {value}")


class NodeModel(HubMixin, nn.Module, ABC):
    """A model that maps vertex features and a hypergraph to class scores of every vertex.

    Subclasses have a config, a frozen dataclass with the published defaults, as their only
    argument. ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` come from
    ``huggingface_hub`` (``pip install hypergraph-nn[hub]``).

    Attributes:
        config: what the model was built from.
        config_class: the dataclass.
        takes_sparse_features: whether features may be ``sparse_rows``.
    """

    config: ModelConfig
    config_class: ClassVar[type[ModelConfig]]
    takes_sparse_features: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            name = self.config_class.__name__
            raise TypeError(
                f"`config` must be a {name}, got {type(config).__name__}; "
                f"pass {name}(in_channels=..., out_channels=...)"
            )
        self.config = config

    @classmethod
    def build(cls, in_channels: int, out_channels: int, **options: Any) -> Self:
        """Make a model with the published defaults and ``options`` in place of some of them."""
        return cls(make_config(cls.config_class, in_channels, out_channels, options))

    @abstractmethod
    def _scores(self, x: Tensor, hypergraph: Incidence) -> Tensor:
        """Class scores for checked features."""

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Score the classes.

        Args:
            x: [N, in_channels] or [B, N, in_channels]; ``sparse_rows(x)`` where the model's
                ``takes_sparse_features`` is set.
            hypergraph: an incidence operator over N vertices, or a ``hyperedge_index`` [2, nnz].

        Returns:
            [N, out_channels] or [B, N, out_channels], before any softmax.

        Raises:
            ValueError, TypeError: features and hypergraph do not fit the model or each other.
        """
        x = check_features(x, self.config.in_channels)
        if is_sparse(x) and not self.takes_sparse_features:
            raise TypeError(
                f"`x` must be dense for {type(self).__name__}, got sparse rows; "
                "convert it with .to_dense()"
            )
        return self._scores(x, as_incidence(hypergraph, x))

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for the optimiser; one group unless the paper decays parts differently."""
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_all(self.children())


def make_config(
    config_class: type[ModelConfig], in_channels: int, out_channels: int, options: dict[str, Any]
) -> ModelConfig:
    """Fill a config; a name it does not have raises TypeError with those it has."""
    names = [field.name for field in fields(config_class)]
    for name in options:
        if name not in names[2:]:
            raise TypeError(
                f"`{name}` is not an option of {config_class.__name__}; it has "
                f"{', '.join(names[2:]) or 'none'}"
            )
    return config_class(in_channels, out_channels, **options)


def reset_all(modules: Sequence[nn.Module] | Any) -> None:
    """Call ``reset_parameters`` of every module, or of its children where it has none."""
    for module in modules:
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        else:
            reset_all(module.children())


def activation(name: str) -> nn.Module:
    """The module for an activation's name in a config."""
    known: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "none": nn.Identity,
    }
    if name not in known:
        raise ValueError(f"`activation` must be one of {', '.join(known)}, got {name!r}")
    return known[name]()


def count_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


__all__ = [
    "ModelConfig",
    "NodeModel",
    "activation",
    "check_probability",
    "count_parameters",
    "make_config",
    "reset_all",
]
