"""The groups of cases, in the order of the report."""

from ..case import Group
from .batch import Batch
from .conv import Convolution
from .cross import CrossCorrelationLayer
from .knn import Search
from .layer import DynamicLayer
from .pairs import Softmax, SparseProduct

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Search(),
        Convolution(),
        DynamicLayer(),
        CrossCorrelationLayer("abs"),
        CrossCorrelationLayer("factors"),
        SparseProduct(),
        Softmax(),
        Batch(),
    )
}

__all__ = ["GROUPS"]
