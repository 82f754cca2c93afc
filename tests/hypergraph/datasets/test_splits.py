import pytest
import torch

from hypergraph.datasets import label_features, random_splits


def test_random_splits_cover_every_labelled_vertex_once():
    y = torch.randint(0, 3, (1003,))
    y[::10] = -1
    labelled = int((y >= 0).sum())
    split = random_splits(y, seed=3)
    assert (len(split.train), len(split.valid)) == (labelled // 2, labelled // 4)
    everything = torch.cat([split.train, split.valid, split.test])
    assert everything.sort().values.tolist() == (y >= 0).nonzero().squeeze(1).tolist()
    again = random_splits(y, seed=3)
    assert all(torch.equal(getattr(split, p), getattr(again, p)) for p in ("train", "test"))
    assert not torch.equal(split.train, random_splits(y, seed=4).train)


def test_random_splits_leave_the_global_generator_alone_and_do_not_look_at_labels():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = random_splits(torch.zeros(40, dtype=torch.long))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.train, random_splits(torch.arange(40)).train)


def test_fractions_that_round_badly_do_not_lose_a_vertex():
    # 0.29 * 100 is 28.999... in floating point
    split = random_splits(torch.zeros(100, dtype=torch.long), (0.29, 0.01, 0.7))
    assert [len(split.train), len(split.valid), len(split.test)] == [29, 1, 70]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.5, -0.25, -0.25), ()])
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="`fractions` must be three"):
        random_splits(torch.zeros(4, dtype=torch.long), fractions)


def test_label_features_are_one_hot_plus_noise():
    y = torch.randint(0, 4, (5000,))
    x = label_features(y, channels=10, noise=0.5, seed=1)
    assert x.shape == (5000, 10) and x.dtype == torch.float32
    noise = x - torch.nn.functional.one_hot(y, 10)
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    clean = label_features(y, channels=4, noise=0.0)
    assert torch.equal(clean, torch.nn.functional.one_hot(y, 4).float())
    assert torch.equal(x, label_features(y, channels=10, noise=0.5, seed=1))
    with pytest.raises(ValueError, match="`channels` must be at least the 4 classes"):
        label_features(y, channels=3)
    with pytest.raises(ValueError, match="`noise` must be non-negative"):
        label_features(y, noise=-1.0)


def test_labels_of_another_shape():
    with pytest.raises(ValueError, match=r"`y` must have shape \[N\], got \[2, 2\]"):
        random_splits(torch.zeros(2, 2, dtype=torch.long))
