"""Saving and loading models, by ``huggingface_hub`` where it is installed."""

from typing import TYPE_CHECKING, Any, NoReturn

_MISSING = "models are saved and loaded by huggingface_hub: pip install 'hypergraph-nn[hub]'"


class _WithoutHub:
    """Stands in for the mixin where huggingface_hub is absent, and says so when asked."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ImportError with what to install."""
        raise ImportError(_MISSING)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ImportError with what to install."""
        raise ImportError(_MISSING)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ImportError with what to install."""
        raise ImportError(_MISSING)


if TYPE_CHECKING:
    HubMixin: Any = object
else:
    try:
        from huggingface_hub import PyTorchModelHubMixin as HubMixin
    except ImportError:
        HubMixin = _WithoutHub
