"""Training of node classifiers."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergraph._checks import (
    check_index_range,
    check_integer,
    check_non_negative_number,
    check_positive_int,
    check_positive_number,
)
from hypergraph.datasets import HypergraphDataset, Split, random_splits
from hypergraph.incidence import Hypergraph
from hypergraph.models import NodeModel, model_class, sparse_rows
from hypergraph.training.progress import Progress, bar
from hypergraph.training.records import CONTENT, RunLog, RunResult, TrainingResult

Splits = Literal["random", "published"]
ModelMaker = Callable[[int, int], nn.Module]

# Up to this filling a sparse first product was faster than a dense one at every width measured.
_SPARSE_BELOW = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; the defaults are those of AllSet's and ED-HNN's comparisons.

    Attributes:
        epochs: full-batch steps.
        lr: learning rate of Adam.
        weight_decay: L2 penalty in Adam; models may give parts of theirs another one.
        patience: stop after this many epochs without a better validation accuracy; None trains all
            epochs. Either way the epoch with the best validation accuracy counts.
        self_loops: add the hyperedge {v} for every vertex without one. Without it an isolated
            vertex is invisible to convolutions that do not keep a vertex's own features: of Cora's
            co-citation vertices 47 % are, and HGNN loses 30 points.
        normalize_features: divide every row of the features by its sum, as HyperGCN and UniGNN do;
            AllSet and ED-HNN do not.
    """

    epochs: int = 500
    lr: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = None
    self_loops: bool = True
    normalize_features: bool = False

    def __post_init__(self) -> None:
        check_positive_int("epochs", self.epochs)
        check_positive_number("lr", self.lr)
        check_non_negative_number("weight_decay", self.weight_decay)
        if self.patience is not None:
            check_positive_int("patience", self.patience)


def train_node_classifier(
    model: str | type[NodeModel] | ModelMaker,
    dataset: HypergraphDataset,
    *,
    model_options: dict[str, Any] | None = None,
    config: TrainingConfig | None = None,
    runs: int = 1,
    seed: int = 0,
    splits: Splits | Sequence[Split] = "random",
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    out: str | Path | None = None,
    device: str | torch.device = "cpu",
    quiet: bool = False,
    on_trained: Callable[[nn.Module, RunResult], None] | None = None,
) -> TrainingResult:
    """Train a node classifier several times, and report test accuracies.

    Every epoch is one step of Adam on the cross entropy of all training vertices and one
    evaluation. The epoch with the best validation accuracy (the first of equals) counts, and the
    test vertices are judged with its weights. Without validation vertices the last epoch counts:
    nothing is ever chosen on the test set.

    Run r uses split ``seed + r`` (or the r-th published split, in turn) and draws weights and
    dropout from ``seed + r``: the same call gives the same figures to the bit on the same machine
    and number of threads, whether or not it was interrupted in between. The caller's own random
    state stays as it is.

    Args:
        model: a name in ``hypergraph.models.names()``, a model class, or a function
            (in_channels, out_channels) -> module called with (x, hypergraph).
        dataset: with features.
        model_options: in place of the model's defaults; only with a name or a model class.
        config: training settings; default ``TrainingConfig()``.
        runs: how many.
        seed: of the first run.
        splits: ``"random"`` with ``fractions``, ``"published"`` (those of the data set), or a
            list of splits.
        fractions: train, valid, test.
        out: results file (JSON lines). Finished runs found there are not run again; an interrupted
            call continues when called again. The file knows the data by their content, and a
            function by its name only: give another model another file.
        device: where to train.
        quiet: no progress on standard error.
        on_trained: called after every run with the model at its best epoch and the result.

    Returns:
        All runs, those read from ``out`` included.

    Raises:
        ValueError, TypeError: an argument does not fit, or ``out`` belongs to another experiment.
        FloatingPointError: the loss is not finite.

    Example:
        >>> import torch
        >>> from hypergraph import Hypergraph
        >>> from hypergraph.datasets import HypergraphDataset, label_features
        >>> from hypergraph.training import TrainingConfig, train_node_classifier
        >>> y = torch.arange(40) % 2
        >>> h = Hypergraph.from_edges([list(range(c, 40, 2)) for c in (0, 1)])
        >>> data = HypergraphDataset("toy", h, label_features(y, 8), y)
        >>> config = TrainingConfig(epochs=50, lr=0.05)
        >>> train_node_classifier("hgnn", data, config=config, quiet=True).mean
        1.0
    """
    config = TrainingConfig() if config is None else config
    if not isinstance(config, TrainingConfig):
        raise TypeError(f"`config` must be a TrainingConfig, got {type(config).__name__}")
    if not isinstance(dataset, HypergraphDataset):
        raise TypeError(
            f"`dataset` must be a HypergraphDataset, got {type(dataset).__name__}; "
            "hypergraph.datasets.load and read_npz make one"
        )
    check_positive_int("runs", runs)
    _check_seed(seed, runs)
    _check_device(device)
    if dataset.x is None:
        raise ValueError(
            f"`dataset` {dataset.name!r} has no features; give it some, for example "
            "dataclasses.replace(dataset, x=label_features(dataset.y))"
        )
    make, name, options = _maker(model, model_options)
    if out is not None and name == "<lambda>":
        raise ValueError(
            "`out` needs a model with a name, by which a second call knows its runs, got a lambda; "
            "define a function"
        )
    chosen = _choose_splits(dataset, splits, fractions, runs, seed)
    settings = {
        "model": name,
        "model_options": options,
        "dataset": dataset.name,
        "config": asdict(config),
        "seed": seed,
        "splits": splits if isinstance(splits, str) else "given",
        "fractions": list(fractions) if splits == "random" else None,
        CONTENT: _content(dataset, None if splits == "random" else chosen),
    }
    log = None if out is None else RunLog(out, settings)
    done = {} if log is None else dict(log.runs)
    data = dataset.to(device)
    x, hypergraph = _prepare(data, config)
    results = []
    with Progress(quiet) as progress:
        for run in range(runs):
            if run not in done:
                with _own_draws(device):
                    torch.manual_seed(seed + run)
                    module = make(dataset.num_features, dataset.num_classes).to(device)
                    split = chosen[run % len(chosen)].to(device)
                    trainer = _Trainer(module, x, hypergraph, data.y, split, config)
                    label = f"{name} on {dataset.name}, run {run + 1}/{runs}"
                    done[run] = trainer.train(run, seed + run, progress, label)
                if log is not None:
                    log.append(done[run])
                if on_trained is not None:
                    on_trained(module, done[run])
            results.append(done[run])
        summary = TrainingResult(settings, tuple(results))
        progress.line(
            f"{name} on {dataset.name}: test {100 * summary.mean:.2f} +- {100 * summary.std:.2f} % "
            f"({runs} runs)"
        )
    return summary


class _Trainer:
    """One training on one split."""

    def __init__(
        self,
        module: nn.Module,
        x: Tensor,
        hypergraph: Hypergraph,
        y: Tensor,
        split: Split,
        config: TrainingConfig,
    ) -> None:
        takes_sparse = getattr(module, "takes_sparse_features", False)
        filled = int(x.count_nonzero()) / max(x.numel(), 1)
        self.x = sparse_rows(x) if takes_sparse and filled < _SPARSE_BELOW else x
        self.module, self.hypergraph, self.y, self.config = module, hypergraph, y, config
        self.split = split
        groups: Any = module.parameters()
        decay = config.weight_decay
        if isinstance(module, NodeModel):
            groups = module.parameter_groups(decay)
        self.optimizer = torch.optim.Adam(groups, lr=config.lr, weight_decay=decay, fused=True)

    def train(self, run: int, seed: int, progress: Progress, label: str) -> RunResult:
        started = time.perf_counter()
        choose = len(self.split.valid) > 0
        best, best_epoch, best_state = -1.0, 0, None
        epoch, epochs = 0, self.config.epochs
        for epoch in range(1, epochs + 1):
            loss = self._step()
            if choose:
                valid = self._accuracy(self._predict(), self.split.valid)
                if valid > best:
                    best, best_epoch = valid, epoch
                    best_state = copy.deepcopy(self.module.state_dict())
                patience = self.config.patience
                if patience is not None and epoch - best_epoch >= patience:
                    break
            shown = f"  valid {100 * best:.2f} %" if choose else ""
            progress.update(f"{label} [{bar(epoch / epochs)}] loss {loss:.4f}{shown}")
        if best_state is not None:
            self.module.load_state_dict(best_state)
        else:
            best_epoch = epoch
        right = self._predict()
        return RunResult(
            run=run,
            seed=seed,
            train=self._accuracy(right, self.split.train),
            valid=self._accuracy(right, self.split.valid),
            test=self._accuracy(right, self.split.test),
            epoch=best_epoch,
            epochs=epoch,
            seconds=round(time.perf_counter() - started, 2),
        )

    def _step(self) -> float:
        self.module.train()
        self.optimizer.zero_grad()
        train = self.split.train
        scores = self.module(self.x, self.hypergraph)
        loss = functional.cross_entropy(scores[train], self.y[train])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}; lower `lr`, or look at the features")
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    @torch.no_grad()
    def _predict(self) -> Tensor:
        self.module.eval()
        return self.module(self.x, self.hypergraph).argmax(-1) == self.y

    @staticmethod
    def _accuracy(right: Tensor, vertices: Tensor) -> float:
        return float(right[vertices].double().mean()) if len(vertices) else math.nan


def _maker(
    model: str | type[NodeModel] | ModelMaker, options: dict[str, Any] | None
) -> tuple[ModelMaker, str, dict[str, Any]]:
    options = dict(options or {})
    named = model_class(model) if isinstance(model, str) else model
    if isinstance(named, type) and issubclass(named, NodeModel):
        cls: type[NodeModel] = named
        with _own_draws("cpu"):
            cls.build(1, 1, **options)  # a wrong option is told before anything is run

        def make(channels: int, classes: int) -> nn.Module:
            return cls.build(channels, classes, **options)

        return make, cls.__name__, options
    if isinstance(named, (str, nn.Module)) or not callable(named):
        raise TypeError(
            "`model` must be a model's name, a model class, or a function (in_channels, "
            f"out_channels) -> module, got {type(named).__name__}; every run needs a fresh model"
        )
    if options:
        raise ValueError("`model_options` goes with a name or a model class, not with a function")
    name = str(getattr(named, "__name__", type(named).__name__))
    return cast(ModelMaker, named), name, {}


def _choose_splits(
    dataset: HypergraphDataset,
    splits: Splits | Sequence[Split],
    fractions: Sequence[float],
    runs: int,
    seed: int,
) -> list[Split]:
    """The splits that the runs take in turn."""
    if isinstance(splits, str):
        if splits == "random":
            drawn = [random_splits(dataset.y, fractions, seed + run) for run in range(runs)]
            if not len(drawn[0].train):
                raise ValueError(
                    f"`fractions` {tuple(fractions)} leave nothing of {len(dataset.y)} vertices to "
                    "learn from"
                )
            return drawn
        if splits != "published":
            raise ValueError(
                f"`splits` must be 'random', 'published' or a list of splits, got {splits!r}"
            )
        splits = dataset.splits
        if not splits:
            raise ValueError(f"`dataset` {dataset.name!r} has no published splits; use 'random'")
    given = list(splits)
    if not given:
        raise ValueError("`splits` must hold at least one split, got none")
    for number, split in enumerate(given):
        _check_split(f"splits[{number}]", split, len(dataset.y))
    return given


def _check_split(name: str, split: Split, count: int) -> None:
    if not isinstance(split, Split):
        raise TypeError(f"`{name}` must be a Split, got {type(split).__name__}")
    parts = []
    for part in ("train", "valid", "test"):
        vertices = getattr(split, part)
        if isinstance(vertices, Tensor) and vertices.dtype == torch.bool:
            raise TypeError(
                f"`{name}.{part}` must hold vertex numbers, got a mask; "
                "pass mask.nonzero().squeeze(1)"
            )
        vertices = check_integer(f"{name}.{part}", vertices)
        check_index_range(f"{name}.{part}", vertices, count, "num_nodes")
        parts.append(vertices.cpu())
    if not parts[0].numel():
        raise ValueError(f"`{name}.train` must hold vertices to learn from, got none")
    used = torch.cat(parts)
    if len(used.unique()) < len(used):
        raise ValueError(
            f"`{name}` must hold every vertex once, in one part: what a model is judged by must "
            "not be what it learned from"
        )


def _prepare(data: HypergraphDataset, config: TrainingConfig) -> tuple[Tensor, Hypergraph]:
    assert data.x is not None
    x = data.x.to_dense() if data.x.layout != torch.strided else data.x
    if config.normalize_features:
        total = x.sum(1, keepdim=True)
        x = torch.where(total != 0, x / torch.where(total != 0, total, 1), 0)
    hypergraph = data.hypergraph
    if config.self_loops:
        hypergraph = hypergraph.add_self_loops()
    return x, hypergraph


def _content(dataset: HypergraphDataset, splits: Sequence[Split] | None) -> str:
    """SHA-256 of what is trained on, so that a results file is of one data set, whatever its name.

    Args:
        dataset: with features.
        splits: where they are not drawn from the seed.
    """
    h, sha = dataset.hypergraph, hashlib.sha256()
    tensors = [h.hyperedge_index, h.hyperedge_weight, h.incidence_weight, dataset.x, dataset.y]
    for split in splits or ():
        tensors += [split.train, split.valid, split.test]
    sha.update(f"{h.num_nodes} {h.num_edges}".encode())
    for tensor in tensors:
        if tensor is None:
            sha.update(b"none")
            continue
        dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
        sha.update(f"{dense.dtype}{list(dense.shape)}".encode())
        # A copy: the one stride of an empty list may be 0, which a view as bytes refuses.
        flat = dense.cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
        if flat.numel():
            sha.update(flat.view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _check_seed(seed: int, runs: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"`seed` must be an int, got {type(seed).__name__}")
    if not -(2**63) <= seed < 2**63 - runs:
        raise ValueError(f"`seed` must be a number of 64 bits, got {seed}")


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    # Which of them depends on the device and on how PyTorch was built.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"`device` {str(device)!r} cannot be used here: {why}") from error


def _own_draws(device: str | torch.device) -> AbstractContextManager[None]:
    """Within it random states may be seeded; after it they are what they were."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    return torch.random.fork_rng(devices=cuda)
