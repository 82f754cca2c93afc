from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hypergraph import HWNNConv, Hypergraph
from tests.hypergraph import oracle
from tests.hypergraph.generated import F64, generate
from tests.hypergraph.nn.definitions.hwnn import wavelet


def test_taylor_coefficients_give_the_exact_wavelets() -> None:
    """Psi Lambda Psi^-1 X Theta with eigenvectors of the Laplacian, heat kernel of scale s."""
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3], [4, 1], [0, 5, 5]], 7)
    s, terms = 0.8, 25
    conv = HWNNConv(3, 2, terms, terms, num_nodes=7).to(F64)
    with torch.no_grad():
        conv.node_filter.uniform_(-2, 2)
        for k in range(terms):
            conv.p[k] = math.exp(-s) * s**k / math.factorial(k)
            conv.q[k] = math.exp(s) * (-s) ** k / math.factorial(k)
    one = torch.eye(7, dtype=F64)
    smoothing = oracle.hgnn(one, h.to_dense().to(F64))
    values, vectors = torch.linalg.eigh(one - smoothing)
    forth = vectors @ torch.diag(torch.exp(-s * values)) @ vectors.T
    back = vectors @ torch.diag(torch.exp(s * values)) @ vectors.T
    x = torch.randn(7, 3, dtype=F64)
    expected = forth @ torch.diag(conv.node_filter) @ back @ x @ conv.theta.weight.T
    assert_close(conv(x, h), expected)


def test_small_example_by_hand() -> None:
    """P of the hyperedge {0, 1} is the mean; vertex 2 is isolated, P is 0 there."""
    conv = HWNNConv(1, 1, k1=2, k2=1, num_nodes=3).to(F64)
    with torch.no_grad():
        conv.theta.weight.fill_(1)
        conv.p.copy_(torch.tensor([3.0, 10.0]))
        conv.q.fill_(2)
        conv.node_filter.copy_(torch.tensor([1.0, 5.0, 7.0]))
    out = conv(torch.tensor([[1.0], [2.0], [4.0]], dtype=F64), Hypergraph.from_edges([[0, 1]], 3))
    # q and Lambda: 2, 20, 56; p: 3 of itself and 10 of the mean of 2 and 20.
    assert_close(out.flatten(), torch.tensor([6.0 + 110, 60 + 110, 168], dtype=F64))


def test_a_filter_per_vertex_on_many_hypergraphs() -> None:
    conv = HWNNConv(4, 3, num_nodes=8).to(F64)
    suite = generate(300, 9, weighted=True)
    keep = [g for g in range(300) if int((suite.graph == g).sum()) == 8]
    assert len(keep) > 20
    for g in keep[:20]:
        x = torch.randn(8, 4, dtype=F64)
        h = Hypergraph.from_dense(suite.matrix[g], suite.weight[g])
        expected = wavelet(conv, x[None], suite.matrix[g : g + 1], suite.weight[g : g + 1])[0]
        assert_close(conv(x, h), expected)
        assert_close(conv(torch.stack([x, -x]), h), torch.stack([expected, -expected]))


def test_gradcheck_with_a_filter() -> None:
    conv, x = HWNNConv(2, 2, num_nodes=4).to(F64), torch.randn(4, 2, dtype=F64)
    h = Hypergraph.from_edges([[0, 1, 2], [2, 3]], 4)

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        names = dict(zip(dict(conv.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(conv, names, (x, h))

    leaves = [x, *conv.parameters()]
    assert torch.autograd.gradcheck(run, [t.detach().requires_grad_() for t in leaves])


def test_initial_values_are_those_of_the_authors() -> None:
    conv = HWNNConv(60, 40, 300, 300, num_nodes=500)
    for tensor, low, high in ((conv.p, 0, 0.99), (conv.q, 0, 0.99), (conv.node_filter, 0.99, 1.01)):
        assert low <= tensor.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < tensor.max() <= high
    bound = (6 / 100) ** 0.5
    assert 0.95 * bound < conv.theta.weight.abs().max() <= bound
    assert conv.bias is None and HWNNConv(2, 2).node_filter is None
    defaults = HWNNConv(2, 2)
    assert (defaults.k1, defaults.k2) == (3, 3)
    biased = HWNNConv(2, 2, num_nodes=4, bias=True)
    assert biased.bias is not None and (biased.bias == 0).all()
    assert repr(biased) != repr(HWNNConv(2, 2, bias=True))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: HWNNConv(2, 2, k1=0), ValueError, "`k1` must be at least 1"),
        (lambda: HWNNConv(2, 2, k2=1.5), TypeError, "`k2` must be an int"),
        (lambda: HWNNConv(2, 2, num_nodes=0), ValueError, "`num_nodes` must be at least 1"),
        (
            lambda: HWNNConv(2, 2, num_nodes=5)(
                torch.randn(4, 2), Hypergraph.from_edges([[0, 1]], 4)
            ),
            ValueError,
            "`x` must have num_nodes=5 rows.*got 4",
        ),
    ],
)
def test_bad_input_is_named(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()
