"""Training of node classifiers: a function, and the command ``hypergraph-train``."""

from hypergraph.training.node_classifier import TrainingConfig, train_node_classifier
from hypergraph.training.records import RunLog, RunResult, TrainingResult

__all__ = [
    "RunLog",
    "RunResult",
    "TrainingConfig",
    "TrainingResult",
    "train_node_classifier",
]
