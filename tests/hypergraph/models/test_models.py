import copy
import json
import math
import pickle
import subprocess
import sys
from dataclasses import asdict, fields

import pytest
import torch
from torch import nn
from torch.nn import functional

from hypergraph import Hypergraph, models
from hypergraph.models import (
    EDHNN,
    HGNN,
    HGNNP,
    ConvNetConfig,
    HGNNConfig,
    ModelConfig,
    NodeModel,
    UniGCNII,
    conv_net,
    count_parameters,
    feature_dropout,
    sparse_rows,
)
from hypergraph.models.base import make_config

# Every model, and further settings that take another path through it.
CASES = [
    *((name, {}) for name in models.names() if name != "dhgnn"),  # needs 64 vertices
    ("dhgnn", {"k_nearest": 5, "k_cluster": 0, "k_structured": 0, "num_layers": 3}),
    ("hgnn", {"num_layers": 3, "activation": "elu", "input_dropout": 0.5}),
    ("hcha", {"attention": "edge", "heads": 2}),
    ("hcha", {"attention": "node", "heads": 2, "symmetric": True, "num_layers": 3}),
    ("hypergcn", {"fast": False, "mediators": False, "num_layers": 3, "relu_scores": False}),
    *(("unignn", {"variant": variant, "num_layers": 3}) for variant in ("gcn", "gat", "gin")),
    ("unigcnii", {"num_layers": 4, "use_norm": True}),
    ("all-deep-sets", {"num_layers": 2, "classifier_layers": 2, "reduce": "sum"}),
    ("allset-transformer", {"num_layers": 2, "classifier_layers": 2, "heads": 4}),
    ("edhnn", {"num_layers": 1, "mlp1_layers": 0, "mlp2_layers": 0, "mlp3_layers": 1}),
    ("conv-net", {"conv": "UniGATConv", "conv_options": {"heads": 2}, "num_layers": 3}),
    ("conv-net", {"conv": "UniGINConv", "activation": "gelu", "conv_options": {"eps": 0.5}}),
]
IDS = [" ".join([name, *map(str, options.values())]) for name, options in CASES]
every_model = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
CHANNELS, CLASSES, NODES = 12, 3, 30


def build(name, options):
    return models.model_class(name).build(CHANNELS, CLASSES, **options)


@pytest.fixture(scope="module")
def hypergraph():
    """Thirty vertices; isolated ones at the end, an empty hyperedge, a singleton, a repeat."""
    generator = torch.Generator().manual_seed(1)
    edges = [torch.randperm(27, generator=generator)[:size].tolist() for size in (2, 3, 4, 5) * 4]
    return Hypergraph.from_edges([*edges, [], [4], [1, 1, 2], []], NODES)


@pytest.fixture(scope="module")
def bag():
    """Sparse features as a bag of words has them."""
    generator = torch.Generator().manual_seed(2)
    return (torch.rand(NODES, CHANNELS, generator=generator) < 0.15).float()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_model
def test_sparse_features_give_the_same_scores_and_gradients(name, options, hypergraph, bag):
    model = build(name, options).eval()
    if not model.takes_sparse_features:
        with pytest.raises(TypeError, match="`x` must be dense for"):
            model(sparse_rows(bag), hypergraph)
        return
    weight = torch.randn(NODES, CLASSES)
    dense = model(bag, hypergraph)
    sparse = model(sparse_rows(bag), hypergraph)
    torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)
    expected = gradients(model, (dense * weight).sum())
    found = gradients(model, (sparse * weight).sum())
    assert expected.keys() == found.keys() and expected
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


@every_model
def test_a_batch_is_its_samples_and_numbering_means_nothing(name, options, hypergraph):
    model = build(name, options).eval().double()
    if name == "dhgnn":  # its neighbours tell equal rows apart by number: isolated vertices are 0
        hypergraph = hypergraph.add_self_loops()
    x = torch.randn(2, NODES, CHANNELS, dtype=torch.float64)
    together = model(x, hypergraph)
    assert together.shape == (2, NODES, CLASSES)
    apart = torch.stack([model(sample, hypergraph) for sample in x])
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-10)
    bare = Hypergraph(hypergraph.hyperedge_index, NODES)
    index_only = model(x[0], hypergraph.hyperedge_index)
    torch.testing.assert_close(index_only, model(x[0], bare), rtol=1e-9, atol=1e-10)

    order = torch.randperm(NODES)
    new_node = torch.empty_like(order).index_copy(0, order, torch.arange(NODES))
    new_edge = torch.randperm(hypergraph.num_edges)
    node, edge = hypergraph.hyperedge_index
    pairs = torch.stack([new_node[node], new_edge[edge]])[:, torch.randperm(len(node))]
    renamed = Hypergraph(pairs, NODES, hypergraph.num_edges)
    torch.testing.assert_close(model(x[0][order], renamed), apart[0][order], rtol=1e-8, atol=1e-9)


@every_model
def test_dropout_is_for_training_only_and_gradients_reach_everything(name, options, hypergraph):
    model = build(name, options)
    x = torch.randn(NODES, CHANNELS)
    assert not torch.equal(model(x, hypergraph), model(x, hypergraph))
    model.eval()
    assert torch.equal(model(x, hypergraph), model(x, hypergraph))
    if options.get("relu_scores", True) and name == "hypergcn":
        with torch.no_grad():
            model.convs[-1].bias += 5  # so that the last ReLU passes something
    found = gradients(model, model(x, hypergraph).square().sum())
    assert found.keys() == dict(model.named_parameters()).keys()
    for key, grad in found.items():
        assert grad.isfinite().all(), key
        # A softmax does not feel a shift of all scores, nor the scores of a single hyperedge.
        flat = "key.bias" in key or (name == "dhgnn" and "edge_scores" in key)
        assert grad.abs().max() > 0 or flat, key


@every_model
def test_it_learns_planted_classes(name, options):
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    edges = [torch.arange(c, 60, 3)[torch.randperm(20)[:5]].tolist() for c in (0, 1, 2) * 10]
    h = Hypergraph.from_edges(edges, 60).add_self_loops()
    x = functional.one_hot(y, CHANNELS).float() + 0.7 * torch.randn(60, CHANNELS)
    # The published dropouts of 0.5 and more are for hundreds of epochs.
    model = build(name, {**options, "dropout": 0.1})
    deep = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    optimizer = torch.optim.Adam(model.parameter_groups(0.0), lr=0.005 if deep else 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        functional.cross_entropy(model(x, h), y).backward()
        optimizer.step()
    accuracy = (model.eval()(x, h).argmax(1) == y).float().mean()
    assert accuracy > 0.9


@every_model
def test_saving_copying_and_starting_anew(name, options, hypergraph, tmp_path):
    pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")
    torch.manual_seed(3)
    model = build(name, options).eval()
    x = torch.randn(NODES, CHANNELS)
    expected = model(x, hypergraph)
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config == asdict(model.config)
    again = type(model).from_pretrained(tmp_path / "saved")
    assert again.config == model.config and not again.training
    assert torch.equal(again(x, hypergraph), expected)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x, hypergraph), expected)
    fresh = type(model)(model.config).eval()
    assert not torch.equal(fresh(x, hypergraph), expected) or name == "hypergcn"
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x, hypergraph), expected)
    torch.manual_seed(3)
    built = type(model)(model.config).state_dict()
    fresh.reset_parameters()
    changed = [key for key, value in fresh.state_dict().items() if value.dim() > 1]
    assert changed and all(
        not torch.equal(fresh.state_dict()[key], model.state_dict()[key]) for key in changed
    )
    for key, value in fresh.state_dict().items():
        assert value.shape == built[key].shape and value.isfinite().all()


def test_weights_of_another_model_are_refused(tmp_path):
    pytest.importorskip("huggingface_hub", reason="skipped: huggingface_hub not installed")
    HGNN.build(5, 3).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="Missing key"):
        EDHNN.from_pretrained(tmp_path)
    assert isinstance(EDHNN.from_pretrained(tmp_path, strict=False), EDHNN)


def test_without_huggingface_hub_models_work_and_saving_says_what_to_install(source_environment):
    code = """
import sys
sys.modules["huggingface_hub"] = None
import torch
from hypergraph.models import HGNN, HGNNConfig
model = HGNN(HGNNConfig(3, 2))
model(torch.ones(2, 3), torch.tensor([[0, 1], [0, 0]]))
for call in (model.save_pretrained, model.push_to_hub, HGNN.from_pretrained):
    try:
        call("folder")
    except ImportError as error:
        assert "hypergraph-nn[hub]" in str(error)
    else:
        raise SystemExit("no ImportError")
"""
    subprocess.run([sys.executable, "-c", code], env=source_environment, check=True)


# ---- formulas, written out with dense matrices


def dense(hypergraph):
    h = hypergraph.to_dense().double()
    return h, h.sum(1), h.sum(0)


def safe_power(degree, exponent):
    return torch.where(degree > 0, degree, 1).pow(exponent) * (degree > 0)


def test_hgnn_and_hgnnp_are_their_formulas(hypergraph):
    h, node, edge = dense(hypergraph)
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64)
    root = safe_power(node, -0.5).diag()
    inner = h @ safe_power(edge, -1).diag() @ h.T
    for model, smooth in (
        (HGNN.build(CHANNELS, CLASSES), root @ inner @ root),
        (HGNNP.build(CHANNELS, CLASSES), safe_power(node, -1).diag() @ inner),
    ):
        model = model.double().eval()
        first, second = (conv.theta for conv in model.convs)
        expected = smooth @ second((smooth @ first(x)).relu())
        torch.testing.assert_close(model(x, hypergraph), expected)
    assert count_parameters(HGNN.build(1433, 7)) == 1433 * 128 + 128 + 128 * 7 + 7


def test_unigcnii_is_its_formula(hypergraph):
    h, node, edge = dense(hypergraph)
    model = UniGCNII.build(CHANNELS, CLASSES, num_layers=3).double().eval()
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64)
    mean = safe_power(edge, -1).diag() @ h.T
    edge_root = safe_power(mean @ node, -0.5).diag()
    propagate = safe_power(node, -0.5).diag() @ h @ edge_root @ mean
    first = state = model.lin_in(x).relu()
    for layer, conv in enumerate(model.convs, 1):
        mixed = 0.9 * propagate @ state + 0.1 * first
        beta = math.log(0.5 / layer + 1)
        state = ((1 - beta) * mixed + beta * conv.theta(mixed)).relu()
    torch.testing.assert_close(model(x, hypergraph), model.lin_out(state))
    assert count_parameters(model) == CHANNELS * 64 + 64 + 3 * 64 * 64 + 64 * 3 + 3


def test_edhnn_of_the_readme_is_its_formula(hypergraph):
    """One layer with W1 and W2 left out: mean, mean, LayerNorm and a linear map."""
    h, node, edge = dense(hypergraph)
    model = EDHNN.build(
        CHANNELS,
        CLASSES,
        num_layers=1,
        mlp1_layers=0,
        mlp2_layers=0,
        mlp3_layers=1,
        alpha=0.0,
        classifier_layers=1,
    )
    model = model.double().eval()
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64)
    state = model.lin_in(x).relu()
    state = safe_power(node, -1).diag() @ h @ safe_power(edge, -1).diag() @ h.T @ state
    norm, linear = model.conv.w3.normalizations[0], model.conv.w3.lins[0]
    expected = model.classifier.lins[0](linear(norm(state)).relu())
    torch.testing.assert_close(model(x, hypergraph), expected)


def test_edhnn_shares_one_convolution_among_its_layers(hypergraph):
    shallow, deep = (EDHNN.build(CHANNELS, CLASSES, num_layers=n) for n in (1, 4))
    assert count_parameters(shallow) == count_parameters(deep)


def test_hypergcn_chooses_its_graph_once_if_fast(hypergraph, monkeypatch):
    from hypergraph.models import hypergcn

    asked = []
    real = hypergcn.extreme_members

    def spy(x, h, direction):
        asked.append(direction)
        return real(x, h, direction)

    monkeypatch.setattr(hypergcn, "extreme_members", spy)
    x = torch.randn(NODES, CHANNELS)
    fast = models.HyperGCN.build(CHANNELS, CLASSES)
    fast(x, hypergraph)
    assert len(asked) == 1 and asked[0] is fast.direction
    models.HyperGCN.build(CHANNELS, CLASSES, fast=False)(x, hypergraph)
    assert len(asked) == 1
    assert (fast(x, hypergraph) >= 0).all()
    sizes = [conv.out_channels for conv in models.HyperGCN.build(9, 3, num_layers=4).convs]
    assert sizes == [64, 32, 16, 3]


def test_dhgnn_draws_members_anew_in_training_only(hypergraph):
    sizes = {"k_nearest": 4, "k_cluster": 5, "k_structured": 6, "clusters": 7}
    model = models.DHGNN.build(CHANNELS, CLASSES, dropout=0.0, **sizes)
    x = torch.randn(NODES, CHANNELS)
    assert not torch.equal(model(x, hypergraph), model(x, hypergraph))
    model.eval()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = model(x, hypergraph)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, model(x, hypergraph))
    found = gradients(model, one.square().sum())
    assert found.keys() == dict(model.named_parameters()).keys()
    other = models.DHGNN.build(CHANNELS, CLASSES, **sizes, sampling_seed=1).eval()
    other.load_state_dict(model.state_dict())
    assert not torch.equal(other(x, hypergraph), one)

    tables = model._tables(torch.randn(NODES, 256), hypergraph, None)
    assert [table.index.shape[-1] for table in tables] == [4, 5, 6]
    structured = tables[2].index
    assert torch.equal(structured[:, -1], torch.arange(NODES))
    together = (hypergraph.to_dense() @ hypergraph.to_dense().T) > 0
    together |= torch.eye(NODES, dtype=torch.bool)
    assert together[torch.arange(NODES)[:, None], structured].all()
    assert model(torch.randn(2, NODES, CHANNELS), hypergraph).shape == (2, NODES, CLASSES)

    with pytest.raises(ValueError, match="`x` must have at least k_nearest=64 vertices, got 30"):
        models.DHGNN.build(CHANNELS, CLASSES)(x, hypergraph)
    with pytest.raises(ValueError, match="one of `k_nearest`, `k_cluster`, `k_structured` must"):
        models.DHGNN.build(2, 2, k_nearest=0, k_cluster=0, k_structured=0)
    with pytest.raises(ValueError, match="`k_cluster` must be at least 1, got -1"):
        models.DHGNN.build(2, 2, k_cluster=-1)
    clustered = models.DHGNN.build(CHANNELS, CLASSES, k_nearest=0, k_cluster=3, k_structured=0)
    assert clustered(x, hypergraph).shape == (NODES, CLASSES)


def test_unigcnii_decays_its_convolutions_more():
    model = UniGCNII.build(CHANNELS, CLASSES)
    convs, linear = model.parameter_groups(5e-4)
    assert (convs["weight_decay"], linear["weight_decay"]) == (0.01, 5e-4)
    assert {id(p) for p in convs["params"]} == {id(p) for p in model.convs.parameters()}
    same = UniGCNII.build(CHANNELS, CLASSES, conv_weight_decay=None).parameter_groups(5e-4)
    assert [group["weight_decay"] for group in same] == [5e-4, 5e-4]
    for name in models.names():
        model = build(name, {})
        grouped = [id(p) for group in model.parameter_groups(0.1) for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in model.parameters())


# ---- features


@pytest.mark.parametrize("sparse", [False, True])
def test_dropout_keeps_the_mean(sparse):
    x = torch.zeros(400, 100)
    x[:, :50] = 2.0
    given = sparse_rows(x) if sparse else x
    dropped = feature_dropout(given, 0.25, training=True)
    assert (dropped.layout == torch.sparse_csr) == sparse
    values = dropped.to_dense()
    assert values[:, 50:].eq(0).all()
    kept = values[:, :50] != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(values[:, :50][kept], torch.full((int(kept.sum()),), 2 / 0.75))
    # every row and every column is hit: entries are dropped one by one
    assert (~kept).any(0).all() and kept.any(1).all()
    assert feature_dropout(given, 0.25, training=False) is given
    assert feature_dropout(given, 0.0, training=True) is given


def test_dropout_has_gradients_and_follows_the_seed():
    x = torch.randn(50, 8, requires_grad=True)
    torch.manual_seed(1)
    one = feature_dropout(x, 0.5, True)
    torch.manual_seed(1)
    assert torch.equal(one, feature_dropout(x, 0.5, True))
    one.sum().backward()
    assert torch.equal(x.grad, (one != 0) * 2.0)


def test_sparse_rows():
    x = torch.tensor([[0.0, 2, 0], [0, 0, 0], [1, 0, -3]])
    rows = sparse_rows(x)
    assert torch.equal(rows.to_dense(), x) and rows.values().tolist() == [2, 1, -3]
    assert sparse_rows(rows) is rows
    assert sparse_rows(torch.zeros(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"`x` must have shape \[N, F\]"):
        sparse_rows(torch.zeros(1, 2, 3))


# ---- misuse


def test_configs_name_what_is_wrong():
    for name, value, error in (
        ("hidden_channels", 0, ValueError),
        ("hidden_channels", 2.0, TypeError),
        ("num_layers", 0, ValueError),
        ("dropout", 1.0, ValueError),
        ("dropout", "much", TypeError),
        ("input_dropout", -0.1, ValueError),
        ("in_channels", True, TypeError),
    ):
        with pytest.raises(error, match=f"`{name}`"):
            HGNNConfig(**{"in_channels": 2, "out_channels": 2, name: value})
    with pytest.raises(ValueError, match="`activation` must be one of relu"):
        HGNN.build(2, 2, activation="tanh")
    with pytest.raises(TypeError, match="`depth` is not an option of HGNNConfig; it has hidden"):
        HGNN.build(2, 2, depth=3)
    with pytest.raises(TypeError, match="`in_channels` is not an option"):
        make_config(HGNNConfig, 2, 2, {"in_channels": 3})
    with pytest.raises(TypeError, match="pass HGNNConfig"):
        HGNN(ModelConfig(2, 2))
    with pytest.raises(ValueError, match="`variant` must be one of"):
        models.UniGNN.build(2, 2, variant="gnn")
    with pytest.raises(ValueError, match="`model` must be one of 'hgnn'"):
        models.model_class("gnn")


def test_conv_net_says_which_layers_fit():
    from hypergraph.nn import DynamicHGConv, EDHNNConv, HGNNConv, UniGCNIIConv

    with pytest.raises(ValueError, match=r"`conv` must be a layer of hypergraph\.nn, .*HGNNConv"):
        ConvNetConfig(2, 2, "GCNConv")
    with pytest.raises(ValueError, match="`conv` must be a layer"):
        ConvNetConfig(2, 2, "hgnn_propagate")
    for other in (UniGCNIIConv, EDHNNConv, DynamicHGConv):
        with pytest.raises(ValueError, match=f"which {other.__name__} is not"):
            ConvNetConfig(2, 2, other)
    assert ConvNetConfig(2, 2, HGNNConv).conv == "HGNNConv"
    net = conv_net(HGNNConv, 4, 2, hidden_channels=7, num_layers=3)
    assert [conv.out_channels for conv in net.convs] == [7, 7, 2]


def test_features_that_do_not_fit(hypergraph):
    model = HGNN.build(CHANNELS, CLASSES)
    with pytest.raises(ValueError, match="`x` must have 12 channels"):
        model(torch.zeros(NODES, 5), hypergraph)
    with pytest.raises(ValueError, match="`hypergraph` must have as many vertices"):
        model(torch.zeros(5, CHANNELS), hypergraph)
    with pytest.raises(TypeError, match="`x` must be floating point"):
        model(torch.zeros(NODES, CHANNELS, dtype=torch.long), hypergraph)
    with pytest.raises(TypeError, match="`hypergraph` must be an incidence operator"):
        model(torch.zeros(NODES, CHANNELS), "edges")


def test_every_model_is_named_and_documented():
    for name in models.names():
        cls = models.model_class(name)
        assert issubclass(cls, NodeModel) and cls.__name__ in models.__all__
        assert cls.config_class.__name__ in models.__all__
        documented = cls.config_class.__doc__
        for entry in fields(cls.config_class)[2:]:
            assert f"{entry.name}: " in documented, (name, entry.name)
