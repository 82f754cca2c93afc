import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from hypergraph.datasets import Split, label_features, random_splits
from hypergraph.models import HGNN, sparse_rows
from hypergraph.training import TrainingConfig, train_node_classifier

SHORT = TrainingConfig(epochs=12, lr=0.02)
SMALL = {"hidden_channels": 8}


def train(data, **options):
    options = {"model_options": SMALL, "config": SHORT, "quiet": True, **options}
    return train_node_classifier(options.pop("model", "hgnn"), data, **options)


def comparable(result):
    return [replace(run, seconds=0.0) for run in result.runs]


def test_every_figure_is_what_a_plain_loop_gives(planted):
    result = train(planted, runs=2, seed=7, config=replace(SHORT, weight_decay=0.01))
    for run in result.runs:
        seed = 7 + run.run
        split = random_splits(planted.y, seed=seed)
        torch.manual_seed(seed)
        model = HGNN.build(8, 3, hidden_channels=8)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=0.01)
        h = planted.hypergraph.add_self_loops()
        history = []
        for _ in range(12):
            model.train()
            optimizer.zero_grad()
            scores = model(planted.x, h)[split.train]
            functional.cross_entropy(scores, planted.y[split.train]).backward()
            optimizer.step()
            model.eval()
            with torch.no_grad():
                right = (model(planted.x, h).argmax(1) == planted.y).double()
            history.append([right[getattr(split, p)].mean().item() for p in PARTS])
        valid = [figures[1] for figures in history]
        best = valid.index(max(valid))
        assert run.seed == seed and run.epoch == best + 1 and run.epochs == 12
        assert [run.train, run.valid, run.test] == history[best]
    tests = torch.tensor([run.test for run in result.runs], dtype=torch.float64)
    assert result.mean == pytest.approx(tests.mean().item())
    assert result.std == pytest.approx(tests.std().item())


PARTS = ("train", "valid", "test")


def test_same_call_same_bits_and_other_seed_other_bits(planted):
    one, other = train(planted, runs=2), train(planted, runs=2)
    assert comparable(one) == comparable(other)
    # A run does not depend on those before it.
    assert comparable(train(planted, runs=1, seed=1))[0].test == one.runs[1].test
    assert one.runs[0].test != one.runs[1].test or one.runs[0].epoch != one.runs[1].epoch


def test_test_labels_choose_nothing(planted):
    split = planted.splits[0]
    y = planted.y.clone()
    y[split.test] = (y[split.test] + 1) % 3
    one = train(planted, splits=[split]).runs[0]
    other = train(replace(planted, y=y), splits=[split]).runs[0]
    assert (one.epoch, one.train, one.valid) == (other.epoch, other.train, other.valid)
    assert one.test != other.test


def test_published_splits_in_turn_and_without_validation(planted):
    bare = tuple(replace(split, valid=split.valid[:0]) for split in planted.splits)
    data = replace(planted, splits=bare)
    result = train(data, splits="published", runs=3)
    assert [run.epoch for run in result.runs] == [12, 12, 12]
    assert all(math.isnan(run.valid) for run in result.runs)
    given = train(data, splits=[bare[0], bare[1], bare[0]], runs=3)
    assert [run.test for run in given.runs] == [run.test for run in result.runs]
    assert json.dumps(result.to_json(), allow_nan=False)
    assert result.to_json()["runs"][0]["valid"] is None
    assert " -  " in result.table()


def test_patience_stops_early_at_the_same_epoch(planted):
    long = replace(SHORT, epochs=120)
    whole = train(planted, config=long).runs[0]
    brief = train(planted, config=replace(long, patience=60)).runs[0]
    assert brief.epochs == brief.epoch + 60 < 120 and whole.epochs == 120
    if whole.epoch <= brief.epochs:
        assert (brief.epoch, brief.test) == (whole.epoch, whole.test)


def test_the_best_weights_are_handed_over(planted):
    seen = []
    result = train(
        planted,
        runs=2,
        on_trained=lambda model, run: seen.append((copy.deepcopy(model), run)),
    )
    h = planted.hypergraph.add_self_loops()
    for (model, run), expected in zip(seen, result.runs, strict=True):
        assert run == expected
        split = random_splits(planted.y, seed=run.seed)
        with torch.no_grad():
            right = model.eval()(planted.x, h).argmax(1) == planted.y
        assert right[split.test].double().mean().item() == run.test


def test_it_learns_and_self_loops_matter(planted):
    config = replace(SHORT, epochs=80)
    assert train(planted, config=config).mean > 0.9
    # All vertices isolated: nothing but the self-loop lets a vertex see itself.
    h = type(planted.hypergraph).from_edges([[0, 3]], 120)
    alone = replace(planted, hypergraph=h, x=label_features(planted.y, 8, noise=0.1))
    assert train(alone, config=config).mean > 0.95
    assert train(alone, config=replace(config, self_loops=False)).mean < 0.5


def test_sparse_features_are_used_where_they_are_sparse(planted):
    x = torch.zeros(120, 200)
    x[torch.arange(120), planted.y * 60 + torch.randint(0, 60, (120,))] = 1
    data = replace(planted, x=x)
    layouts = set()

    class Spy(HGNN):
        def forward(self, x, hypergraph):
            layouts.add(x.layout)
            return super().forward(x, hypergraph)

    class DenseSpy(Spy):
        takes_sparse_features = False

    sparse = train(data, model=Spy, config=replace(SHORT, epochs=30))
    assert layouts == {torch.sparse_csr}
    layouts.clear()
    dense = train(data, model=DenseSpy, config=replace(SHORT, epochs=30))
    assert layouts == {torch.strided}
    assert sparse.runs[0].test == pytest.approx(dense.runs[0].test, abs=0.05)
    same = train(replace(data, x=sparse_rows(x)), model=Spy, config=replace(SHORT, epochs=30))
    assert same.mean == sparse.mean


def test_normalised_features_have_rows_that_add_up_to_one(planted):
    seen = []

    def spy(channels, classes):
        class Model(nn.Linear):
            def forward(self, x, hypergraph):
                seen.append(x)
                return super().forward(x)

        return Model(channels, classes)

    x = torch.rand(120, 8)
    x[5] = 0
    config = TrainingConfig(epochs=1, normalize_features=True)
    train(replace(planted, x=x), model=spy, model_options=None, config=config)
    sums = seen[0].sum(1)
    assert sums[5] == 0
    assert torch.allclose(sums[torch.arange(120) != 5], torch.ones(119))


def split(train, valid, test):
    kind = torch.bool if any(isinstance(v, bool) for v in train) else torch.long
    return Split(*(torch.tensor(part, dtype=kind) for part in (train, valid, test)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "gnn"}, ValueError, "`model` must be one of"),
        ({"model": HGNN.build(8, 3)}, TypeError, "every run needs a fresh model"),
        ({"model": 3}, TypeError, "`model` must be a model's name"),
        ({"model": lambda a, b: None}, ValueError, "`model_options` goes with a name"),
        ({"model_options": {"width": 3}}, TypeError, "`width` is not an option of HGNNConfig"),
        ({"model_options": {"hidden_channels": 0}}, ValueError, "`hidden_channels` must be"),
        ({"runs": 0}, ValueError, "`runs` must be at least 1"),
        ({"splits": "fixed"}, ValueError, "`splits` must be 'random', 'published'"),
        ({"splits": []}, ValueError, "`splits` must hold at least one"),
        ({"fractions": (1, 1, 1)}, ValueError, "`fractions` must be three"),
        ({"fractions": (0, 0.5, 0.5)}, ValueError, "`fractions` .* leave nothing of 120"),
        ({"splits": [3]}, TypeError, r"`splits\[0\]` must be a Split"),
        ({"splits": [split([0, 1], [1], [2])]}, ValueError, "every vertex once, in one part"),
        ({"splits": [split([0], [], [120])]}, ValueError, r"`splits\[0\].test` must lie in"),
        ({"splits": [split([], [0], [1])]}, ValueError, r"`splits\[0\].train` must hold vertices"),
        ({"splits": [split([True], [False], [True])]}, TypeError, "got a mask; pass mask.nonzero"),
        ({"seed": 0.5}, TypeError, "`seed` must be an int"),
        ({"seed": 2**63}, ValueError, "`seed` must be a number of 64 bits"),
        ({"config": {"epochs": 3}}, TypeError, "`config` must be a TrainingConfig"),
        ({"device": "abacus"}, ValueError, "`device` 'abacus' cannot be used here"),
    ],
)
def test_wrong_arguments_are_named(planted, options, error, message):
    with pytest.raises(error, match=message):
        train(planted, **options)


def test_a_name_is_no_data_set():
    with pytest.raises(TypeError, match="`dataset` must be a HypergraphDataset, got str"):
        train("cora-cocitation")


def test_the_callers_random_state_stays(planted):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(planted, config=TrainingConfig(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_data_without_features_or_splits(planted):
    with pytest.raises(ValueError, match="has no features; give it some"):
        train(replace(planted, x=None))
    with pytest.raises(ValueError, match="has no published splits"):
        train(replace(planted, splits=()), splits="published")
    for name, value in (("epochs", 0), ("lr", 0.0), ("weight_decay", -1.0), ("patience", 0)):
        with pytest.raises(ValueError, match=f"`{name}`"):
            TrainingConfig(**{name: value})


def test_a_loss_that_is_not_finite_is_told(planted):
    x = planted.x.clone()
    x[0, 0] = math.inf
    with pytest.raises(FloatingPointError, match="lower `lr`, or look at the features"):
        train(replace(planted, x=x), config=TrainingConfig(epochs=2))


def test_splits_of_other_sizes_work(planted):
    """A split need not cover every vertex."""
    split = Split(torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4, 5]))
    assert train(planted, splits=[split]).runs[0].test in (0.0, 0.5, 1.0)
