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
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError:
        HubMixin = _WithoutHub
    else:

        class HubMixin(PyTorchModelHubMixin):
            """huggingface_hub's mixin, but weights of another model are an error.

            Its own default, ``strict=False``, skips weights that do not fit by name: a model of
            another class would load, with the random weights it was made with.
            """

            @classmethod
            def _from_pretrained(cls, *, strict: bool = True, **kwargs: Any) -> Any:
                return super()._from_pretrained(strict=strict, **kwargs)
