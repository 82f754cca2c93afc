"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` for this application's networks.

They are ``huggingface_hub``'s (extra ``hub``): a folder with ``model.safetensors``, the
configuration as ``config.json``, and a card. Files of any other kind go through
:func:`gan_inversion.load_generator` and its siblings.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hypergraph.models.hub import HubMixin

from .errors import CheckpointError

if TYPE_CHECKING:

    class _Base:
        def save_pretrained(self, *args: Any, **kwargs: Any) -> Any: ...
        def push_to_hub(self, *args: Any, **kwargs: Any) -> Any: ...
        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any: ...
        @classmethod
        def _from_pretrained(cls, **kwargs: Any) -> Any: ...

else:
    _Base = HubMixin


class Hub(_Base):
    """Mixin, before ``nn.Module``: files of another network, or damaged ones, are CheckpointErrors.

    ``from_pretrained`` returns a frozen network in evaluation mode, as ``load_generator`` does.
    Only safetensors are read: a repository that has a pickle alone is refused. There is no digest
    in these folders; for one, see :mod:`gan_inversion.checkpoints.files`.

    Attributes:
        config: what the network was made with: that dataclass, or a dictionary of arguments.
        config_class: the dataclass that the network is made with; None if it is made with plain
            arguments.
    """

    config: Any
    config_class: ClassVar[type[Any] | None] = None

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> Any:
        """Write ``model.safetensors``, ``config.json`` and a card into a folder.

        Raises:
            ImportError: the extra ``hub`` is not installed.
        """
        # The mixin's own record of arguments knows nothing of a configuration that is a default.
        kwargs.setdefault("config", self.config)
        return super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load what ``save_pretrained`` wrote: a folder, or a repository's name on the hub.

        Raises:
            CheckpointError: it is damaged, incomplete, or of another network.
            ImportError: the extra ``hub`` is not installed.
        """
        from safetensors import SafetensorError

        try:
            network = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (
            AttributeError,
            FileNotFoundError,
            RuntimeError,
            SafetensorError,
            TypeError,
            ValueError,
        ) as error:
            raise CheckpointError(
                f"{pretrained_model_name_or_path}: cannot be loaded as a {cls.__name__}: "
                f"{str(error)[:1000]}"
            ) from error
        return network.eval().requires_grad_(False)

    @classmethod
    def _from_pretrained(cls, **kwargs: Any) -> Any:
        if cls.config_class is not None:
            kwargs["config"] = cls._config(kwargs.get("config"))
        else:
            from .checkpoints.load import check_config

            names = ("num_ws", "w_dim", "depth", "in_channels", "input_size", "embedding_dim")
            check_config({name: kwargs[name] for name in names if name in kwargs})
        return super()._from_pretrained(**kwargs)

    @classmethod
    def _config(cls, found: Any) -> Any:
        from .checkpoints.load import check_config

        assert cls.config_class is not None
        if isinstance(found, cls.config_class):
            return found
        check_config(found)
        if unknown := set(found) - {field.name for field in fields(cls.config_class)}:
            raise ValueError(f"its configuration has unknown entries {sorted(unknown)}")
        # JSON has no tuples.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls.config_class(**plain)

    @classmethod
    def _load_as_pickle(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise CheckpointError(
            f"a pickle where safetensors are expected; fetch the file and convert it with "
            f"`gan-inversion convert IN OUT.safetensors`, or load it with the gan_inversion.load_* "
            f"function for a {cls.__name__}"
        )
