"""What an editing method is to the pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from ..generators import Generator
from ..inversion import Inversion


@dataclass
class Edited:
    """An edited aligned face.

    Attributes:
        image: the result, ``[1, 3, R, R]`` in [-1, 1].
        plain: the edit of the inversion with no method on top, like ``image``.
        mask: where the result was taken from the edit, ``[1, 1, R, R]`` in [0, 1].
        seconds: wall time of each stage.
    """

    image: Tensor
    plain: Tensor
    mask: Tensor
    seconds: dict[str, float] = field(default_factory=dict)


class Method(ABC):
    """Edits an inverted face.

    Attributes:
        name: what users type.
        generator: the generator that inverted the face.
    """

    name: str

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @abstractmethod
    def edit(self, aligned: Tensor, inversion: Inversion, change: Tensor) -> Edited:
        """Apply a change of the code.

        Args:
            aligned: the aligned photograph, ``[1, 3, R, R]`` in [-1, 1].
            inversion: of that photograph.
            change: what to add to its code, ``[num_ws, w_dim]``: a sum of ``strength *
                direction``.
        """
