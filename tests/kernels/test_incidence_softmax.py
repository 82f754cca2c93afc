"""Softmax over the pairs of every segment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hypergraph_kernels import Segments, incidence_softmax, segments_from
from hypergraph_kernels.incidence_softmax import op, reference

TINY = torch.finfo(torch.float32).tiny


def groups(rows: Tensor, size: int) -> Segments:
    return segments_from(rows, torch.arange(rows.shape[0]), size)


def test_by_hand() -> None:
    rows = torch.tensor([2, 0, 2, 2, 0])
    segments = groups(rows, 3)
    scores = torch.tensor([1.0, 2.0, 1.0, 3.0, 3.0]).log()
    weight = torch.tensor([1.0, 1.0, 0.0, 2.0, 1.0])
    for implementation in ("cpu", "reference"):
        for given in (rows, None):
            kinds = {"rows": given, "implementation": implementation}
            plain = incidence_softmax(scores, segments, **kinds)
            torch.testing.assert_close(plain, torch.tensor([0.2, 0.4, 0.2, 0.6, 0.6]))
            weighted = incidence_softmax(scores, segments, weight, **kinds)
            torch.testing.assert_close(weighted, torch.tensor([1 / 7, 0.4, 0, 6 / 7, 0.6]))


@pytest.mark.parametrize("spread", [1, 30, 1000], ids=["moderate", "wide", "huge"])
@pytest.mark.parametrize("nnz, size, shape", [
    (1, 1, ()), (50, 7, ()), (500, 63, (1,)), (300, 17, (5,)), (200, 9, (2, 3)), (60, 200, (4,)),
    (0, 3, (2,)), (0, 0, (2,)), (8, 3, (0,)),
])  # fmt: skip
def test_agrees_with_the_reference(
    nnz: int, size: int, shape: tuple[int, ...], spread: float
) -> None:
    rows = torch.randint(max(size, 1), (nnz,))
    segments = groups(rows, size)
    full = (nnz,) if not shape else (*shape[:-1], nnz, shape[-1])
    scores = (torch.randn(full, dtype=torch.float64) * spread).requires_grad_()
    weight = torch.rand(nnz, dtype=torch.float64)
    weight[::3] = 0
    weight.requires_grad_()
    grad = torch.randn(full, dtype=torch.float64)
    for w in (None, weight):
        inputs = [scores] if w is None else [scores, w]
        results = []
        for kinds in ({"rows": rows}, {}, {"implementation": "reference"}):
            out = incidence_softmax(scores, segments, w, **kinds)
            assert out.shape == scores.shape
            results.append((out, *torch.autograd.grad(out, inputs, grad)))
        for mine, again, definition in zip(*results, strict=True):
            torch.testing.assert_close(mine, definition, rtol=1e-9, atol=1e-12)
            assert torch.equal(mine, again)


def test_sorted_pairs_need_no_order() -> None:
    rows = torch.randint(20, (300,)).sort().values
    segments = groups(rows, 20)
    assert segments.order is None
    for scores in (torch.randn(300), torch.randn(300, 4), torch.randn(300, 4) * 1000):
        out = incidence_softmax(scores, segments)
        expected = incidence_softmax(scores, segments, implementation="reference")
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("heads", [1, 3])
def test_scores_without_bounds(heads: int) -> None:
    inf, rows = torch.inf, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4])
    scores = torch.tensor([-inf, -inf, -inf, 0.0, 3e38, -3e38, 1e30, 1e30, 700.0])
    scores = scores.unsqueeze(1).repeat(1, heads)
    expected = torch.tensor([0, 0, 0, 1, 1, 0, 0.5, 0.5, 1]).unsqueeze(1).expand(-1, heads)
    for implementation in ("cpu", "reference"):
        out = incidence_softmax(scores, groups(rows, 5), implementation=implementation)
        assert torch.equal(out, expected)
    # An absent pair may have any score.
    weight = torch.tensor([1.0, 1, 1, 1, 0, 1, 0, 0, 2])
    expected = torch.tensor([0.0, 0, 0, 1, 0, 1, 0, 0, 1]).unsqueeze(1).expand(-1, heads)
    for implementation in ("cpu", "reference"):
        out = incidence_softmax(scores, groups(rows, 5), weight, implementation=implementation)
        assert torch.equal(out, expected)


def test_nan_stays_in_its_segment() -> None:
    rows = torch.tensor([0, 0, 1, 1])
    scores = torch.tensor([[torch.nan, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    for implementation in ("cpu", "reference"):
        out = incidence_softmax(scores, groups(rows, 2), implementation=implementation)
        assert out[0, 0].isnan()
        assert torch.equal(out[2:], torch.full((2, 2), 0.5))
        assert torch.equal(out[:, 1], torch.full((4,), 0.5))


def test_weights_that_sum_to_a_subnormal_number_count_as_none() -> None:
    rows = torch.tensor([0, 0, 1, 1, 2])
    weight = torch.tensor([TINY / 4, TINY / 4, TINY, TINY, 1e-30], requires_grad=True)
    scores = torch.zeros(5, requires_grad=True)
    for implementation in ("cpu", "reference"):
        out = incidence_softmax(scores, groups(rows, 3), weight, implementation=implementation)
        assert out.tolist() == [0, 0, 0.5, 0.5, 1]
        gradients = torch.autograd.grad((out * torch.arange(5.0)).sum(), [scores, weight])
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_differentiable_twice(shape: tuple[int, ...]) -> None:
    rows = torch.tensor([2, 0, 2, 2, 0, 4])
    segments = groups(rows, 5)
    full = (6,) if not shape else (*shape[:-1], 6, shape[-1])
    scores = torch.randn(full, dtype=torch.float64, requires_grad=True)
    weight = (torch.rand(6, dtype=torch.float64) + 0.1).requires_grad_()
    for inputs in ((scores,), (scores, weight)):
        for given in (rows, None):

            def softmax(
                scores: Tensor, weight: Tensor | None = None, given: Tensor | None = given
            ) -> Tensor:
                return incidence_softmax(scores, segments, weight, rows=given)

            assert torch.autograd.gradcheck(softmax, inputs)
            assert torch.autograd.gradgradcheck(softmax, inputs)


@pytest.mark.parametrize("shape", [(6, 1), (2, 6, 3)])
def test_operator_registration(shape: tuple[int, ...]) -> None:
    rows = torch.tensor([2, 0, 2, 2, 0, 4])
    _, offsets, order = groups(rows, 5)
    scores = torch.randn(shape, requires_grad=True)
    weight = torch.rand(6, requires_grad=True)
    for given in (rows, None):
        arguments = (scores, weight, offsets, order, given, "cpu")
        torch.library.opcheck(op._incidence_softmax, arguments)
        arguments = (scores, torch.randn(shape, requires_grad=True), *arguments[2:])
        torch.library.opcheck(op._incidence_softmax_backward, arguments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype, tolerance) -> None:
    rows = torch.randint(10, (80,))
    scores, weight = torch.randn(80, 3).to(dtype), torch.rand(80)
    out = incidence_softmax(scores, groups(rows, 10))
    assert out.dtype == dtype
    expected = reference.incidence_softmax(scores.double(), groups(rows, 10), None)
    torch.testing.assert_close(out.double(), expected, **tolerance[dtype])
    out = incidence_softmax(scores, groups(rows, 10), weight)
    assert out.dtype == torch.promote_types(dtype, torch.float32)


def test_runs_compiled_in_inference_mode_and_on_meta() -> None:
    rows = torch.randint(4, (9,))
    segments, scores = groups(rows, 4), torch.randn(9, 2, requires_grad=True)

    def softmax(scores: Tensor) -> Tensor:
        return incidence_softmax(scores, segments)

    traced = torch.compile(softmax, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(scores), softmax(scores))
    grad = torch.randn(9, 2)
    (mine,) = torch.autograd.grad(traced(scores), scores, grad)
    (eager,) = torch.autograd.grad(softmax(scores), scores, grad)
    torch.testing.assert_close(mine, eager)
    with torch.inference_mode():
        torch.testing.assert_close(softmax(scores), traced(scores))
    assert segments.order is not None
    meta = Segments(*(part.to("meta") for part in segments))
    assert incidence_softmax(scores.to("meta"), meta).shape == (9, 2)


def test_laws() -> None:
    rows = torch.randint(12, (200,))
    segments = groups(rows, 12)
    scores, weight = torch.randn(200, 3, dtype=torch.float64), torch.rand(200).double()
    alpha = incidence_softmax(scores, segments, weight)
    ones = alpha.new_zeros(12, 3).index_add(0, rows, alpha)
    torch.testing.assert_close(ones, torch.ones_like(ones))
    # A shift of a segment's scores, or a factor of its weights, changes nothing.
    shift, factor = torch.randn(12).double(), torch.rand(12).double() + 0.5
    moved = incidence_softmax(scores + shift[rows, None], segments, weight * factor[rows])
    torch.testing.assert_close(moved, alpha)
    # A weight is a score: exp(log w).
    torch.testing.assert_close(incidence_softmax(scores + weight.log()[:, None], segments), alpha)
    # Any order of the pairs, and a batch, give the same.
    mix = torch.randperm(200)
    mixed = incidence_softmax(scores[mix], groups(rows[mix], 12), weight[mix])
    torch.testing.assert_close(mixed, alpha[mix])
    batch = incidence_softmax(torch.stack([scores, -scores]), segments, weight)
    torch.testing.assert_close(batch[0], alpha)
    torch.testing.assert_close(batch[1], incidence_softmax(-scores, segments, weight))


def test_bad_arguments_are_named() -> None:
    segments = groups(torch.tensor([1, 0, 1]), 2)
    with pytest.raises(TypeError, match="`scores` must be floating point"):
        incidence_softmax(torch.zeros(3).long(), segments)
    for wrong in (torch.zeros(2), torch.zeros(2, 3), torch.zeros(1, 1, 3, 1), torch.zeros(())):
        with pytest.raises(ValueError, match=r"`scores` must have shape \[nnz=3\]"):
            incidence_softmax(wrong, segments)
    with pytest.raises(ValueError, match=r"`weight` must have shape \[nnz=3\]"):
        incidence_softmax(torch.zeros(3), segments, torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"`rows` must have shape \[nnz=3\]"):
        incidence_softmax(torch.zeros(3), segments, rows=torch.zeros(2).long())
    with pytest.raises(ValueError, match="`implementation` must be one of"):
        incidence_softmax(torch.zeros(3), segments, implementation="fast")
