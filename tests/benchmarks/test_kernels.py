"""The harness: rounds, ratios, checks that refuse, documents that follow the results file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kernels import memory, report, worker
from benchmarks.kernels.bars import bars, fallen, losses
from benchmarks.kernels.case import Case, Contender, Problem, Verdict, answer, timed
from benchmarks.kernels.clock import CpuClock
from benchmarks.kernels.groups import GROUPS
from benchmarks.kernels.groups.conv import reference_conv
from benchmarks.kernels.inputs import check_neighbors, check_values, exact_neighbors, features
from benchmarks.kernels.plots import draw, series
from benchmarks.kernels.race import Pace, race, ratios, settled, summary


class FakeClock:
    """Every call says how long it took."""

    name = "fake"

    def __init__(self) -> None:
        self.order: list[str] = []

    def seconds(self, call: Callable[[], Any], repeats: int) -> float:
        name, seconds = call()
        self.order.append(name)
        return float(seconds)


def _calls(**seconds: float) -> dict[str, Callable[[], Any]]:
    return {name: lambda name=name, s=s: (name, s) for name, s in seconds.items()}  # type: ignore[misc]


# ---- rounds


def test_every_round_has_everybody_once_in_a_new_order() -> None:
    clock = FakeClock()
    laps = race(_calls(a=1.0, b=2.0, c=4.0), clock, Pace(warmup=1, rounds=6, seconds=1e9))
    rounds = [clock.order[i : i + 3] for i in range(3, len(clock.order), 3)]
    assert len(rounds) == 6 and all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert ratios(laps["c"], laps["a"]) == [4.0] * 6


def test_the_slow_leave_early_and_ratios_take_common_rounds() -> None:
    pace = Pace(warmup=1, rounds=8, seconds=3.0, least=2)
    laps = race(_calls(fast=0.1, slow=5.0), FakeClock(), pace)
    assert len(laps["fast"].taken) == 8 and len(laps["slow"].taken) == 2
    assert len(laps["fast"].seconds) == len(laps["slow"].seconds)
    assert ratios(laps["slow"], laps["fast"]) == pytest.approx([50.0, 50.0])


def test_a_long_first_call_counts_as_a_round_and_needs_no_warm_up() -> None:
    clock = FakeClock()
    pace = Pace(warmup=3, rounds=1, least=1)
    laps = race(_calls(long=9.0, short=0.5), clock, pace, {"long": 10.0, "short": 0.6})
    assert clock.order.count("long") == 1 and laps["long"].taken == [10.0, 9.0]
    assert laps["short"].taken == [0.5] and ratios(laps["long"], laps["short"]) == [18.0]


def test_short_calls_are_repeated() -> None:
    pace = Pace(warmup=1, rounds=1, shortest=1e-2)
    laps = race(_calls(short=1e-3, long=1.0), FakeClock(), pace)
    assert laps["short"].repeats == 10 and laps["long"].repeats == 1


def test_median_quartiles_and_the_a_a_check() -> None:
    assert summary([1.0, 2.0, 3.0, 4.0, 100.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert settled(1.04) and not settled(1.06) and not settled(0.94)


def test_the_cpu_clock_does_not_count_waiting() -> None:
    import time

    assert CpuClock(1).seconds(lambda: time.sleep(0.05), 1) < 0.03


def test_several_threads_need_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 0.0, 0.0))
    with pytest.raises(RuntimeError, match="load average below 1, got 1.50"):
        CpuClock(2)
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.0, 0.0))
    assert CpuClock(2).name == "perf_counter"


def test_the_backward_pass_is_timed_with_gradients_of_all_leaves() -> None:
    x, weight = (torch.ones(3, 3, requires_grad=True) for _ in range(2))
    problem = Problem(Case("conv", 3, 3, backward=True), x, [x, weight], torch.ones(3, 3))
    grads = timed(lambda: x @ weight, problem, plain=False)()
    assert [grad.shape for grad in grads] == [(3, 3), (3, 3)] and grads[0].eq(3).all()
    assert timed(lambda: x @ weight, problem, plain=True)().requires_grad is False


# ---- what is right


def test_neighbours_are_checked_against_float64() -> None:
    x = features(Case("knn", 60, 8), "cpu", 0)
    good = exact_neighbors(x, 5)
    assert check_neighbors(x, good, 5).right
    far = good.clone()
    far[7, 4] = (x[7] @ x.T / x.norm(dim=-1)).argmin()
    assert not check_neighbors(x, far, 5).right
    twice = good.clone()
    twice[3, 1] = twice[3, 0]
    assert "twice" in check_neighbors(x, twice, 5).note
    assert not check_neighbors(x, good[:, :4], 5).right


def test_the_reference_convolution_is_the_formula() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(6, 3).double(), torch.randn(3, 3).double()
    index = torch.tensor([[e, (e + 1) % 6, 2] if e not in (1, 2) else [e, 0, 5] for e in range(6)])
    dense = torch.zeros(6, 6).double().scatter_(0, index.T, 1.0)
    scale = dense.sum(1).rsqrt().diag()
    expected = scale @ dense @ dense.T @ scale @ x @ weight.T / 3
    torch.testing.assert_close(reference_conv(x, weight, index), expected)
    by_rows = scale @ scale @ dense @ dense.T @ x @ weight.T / 3
    torch.testing.assert_close(reference_conv(x, weight, index, by_rows=True), by_rows)


def test_values_that_differ_are_named() -> None:
    a = torch.randn(50, 4).double()
    one_row = a.clone()
    one_row[3] += 0.01  # what another choice among equally near neighbours does
    assert not check_values([one_row], [a], ["output"], searched=False).right
    assert check_values([one_row], [a], ["output"], searched=True).right
    assert (
        "gradient of x differs"
        in check_values([a, 1.1 * a], [a, a], ["output", "gradient of x"], searched=True).note
    )
    assert not check_values([a * torch.nan], [a], ["output"], searched=True).right


@pytest.mark.parametrize("name", GROUPS)
def test_ours_and_the_rivals_at_hand_are_right(name: str) -> None:
    """Every contender of every group on a small problem; ours and plain PyTorch must be there."""
    group = GROUPS[name]
    variants = ["knn", "conv", "layer", "streamed", "lowrank"] if name == "batch" else [""]
    for variant in variants:
        backward = name != "knn" and variant != "knn"
        case = Case(name, 80, 8, 2 if name == "batch" else 1, "smooth", backward, variant)
        problem = group.problem(case, "cpu", 0)
        right = []
        for contender in group.contenders(case, "cpu"):
            if contender.kind == "anchor" or contender.absent() or contender.compiles:
                continue
            verdict = group.check(problem, contender, answer(contender.build(problem), problem))
            assert verdict.right, (variant, contender.name, verdict)
            right.append(contender.name)
        assert "ours, cpu" in right and len(right) >= 2


def test_every_case_of_every_tier_has_its_own_key() -> None:
    for device in ("cpu", "cuda"):
        for tier in ("smoke", "full"):
            keys = [c.key for g in GROUPS.values() for c in g.cases(tier, device)]  # type: ignore[arg-type]
            assert keys and len(keys) == len(set(keys))
    case = Case("conv", 1024, 256, field="smooth", backward=True)
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_the_smoke_cases_are_among_the_full_ones() -> None:
    """Else the guard has nothing to compare with."""
    for name, group in GROUPS.items():
        full = {case.key for case in group.cases("full", "cpu")}
        missing = {case.key for case in group.cases("smoke", "cpu")} - full
        assert not missing, name


# ---- refusing


class _Group:
    """A group whose checks say what the test wants."""

    name = title = "knn"

    def __init__(self, right: bool) -> None:
        self.right = right

    def check(self, problem: Any, contender: Contender, answer: Any) -> Verdict:
        return Verdict(self.right, 0.5, "as the test wants")


def _prepared(kind: Any, right: bool, build: Any = None) -> dict[str, Any]:
    problem = Problem(Case("knn", 8, 2), torch.randn(8, 2))
    build = build or (lambda problem: lambda: problem.x)
    one = Contender("one", build, kind, implementation="cpu")
    entry, forward = worker.prepare(_Group(right), problem, one, "cpu", "smoke")  # type: ignore[arg-type]
    assert (forward is not None) == (entry["status"] == "timed")
    return entry


def test_a_rival_that_differs_is_dropped_and_ours_is_refused() -> None:
    assert _prepared("rival", right=True)["status"] == "timed"
    dropped = _prepared("rival", right=False)
    assert (dropped["status"], dropped["note"]) == ("differs", "as the test wants")
    with pytest.raises(worker.Wrong, match="one is wrong at knn 8x2"):
        _prepared("ours", right=False)


def test_an_absent_rival_is_listed() -> None:
    problem = Problem(Case("knn", 8, 2), torch.randn(8, 2))
    one = Contender("one", lambda problem: lambda: None, needs=("no_such_module",))
    entry, _ = worker.prepare(_Group(True), problem, one, "cpu", "smoke")  # type: ignore[arg-type]
    assert entry["status"] == "not installed" and entry["note"] == "no_such_module"


def test_a_rival_that_raises_is_noted_and_ours_is_not_hidden() -> None:
    def build(problem: Any) -> Any:
        raise ValueError("cannot")

    assert _prepared("rival", True, build)["note"] == "ValueError: cannot"
    with pytest.raises(ValueError, match="cannot"):
        _prepared("ours", True, build)


def test_a_finished_case_is_kept_and_other_code_forgets_it(tmp_path: Path) -> None:
    heading = {"code": "a", "threads": 1}
    worker.Store.open(tmp_path / "g.json", heading).add({"key": "one"})
    assert worker.Store.open(tmp_path / "g.json", heading).has("one")
    assert not worker.Store.open(tmp_path / "g.json", heading | {"code": "b"}).has("one")


def test_memory_of_a_call_in_its_own_process() -> None:
    case = Case("knn", 1200, 16)
    found = memory.measure("knn", case, "GEMM + topk", "cpu")
    assert found["status"] == "measured"
    assert 3e6 < found["bytes"] < 60e6  # the 1200 x 1200 matrix is 5.8 MB


# ---- reporting


def _results(ratio: float = 8.0, aa: float = 1.0) -> dict[str, Any]:
    """Results with one convolution case: PyG's layer takes ``ratio`` times as long as ours."""
    case = Case("conv", 1024, 256, backward=True)
    timed = {"median": 0.01, "q1": 0.009, "q3": 0.011}
    one = {name: value * ratio for name, value in timed.items()}
    ratios = {"cpu": {"median": ratio, "q1": ratio, "q3": ratio}}
    contenders = {
        "ours, cpu": {"kind": "ours", "status": "timed", "seconds": timed, "ratio": {}},
        "PyG HypergraphConv": {
            "kind": "rival",
            "status": "timed",
            "seconds": one,
            "ratio": ratios,
        },
        "DHG HGNNConv, Laplacian cached": {
            "kind": "rival",
            "status": "not installed",
            "note": "dhg",
        },
        "ours, compiled": {"kind": "ours", "status": "not built; python -m somewhere"},
    }
    record = {
        "key": case.key,
        "case": case.to_json(),
        "contenders": contenders,
        "aa": {"cpu": aa},
        "verdict": {"cpu": settled(aa)},
        "roofline": {"cpu": 0.5},
        "load": [0.5, 0.75],
    }
    about = {
        "cpu": "A CPU",
        "flags": ["avx2"],
        "threads": 1,
        "versions": {"torch": "2.13"},
        "compiled path": "not built",
        "seed": 0,
        "commit": "0123456789abcdef",
        "command": "the command",
    }
    return {"device": "cpu", "groups": {"conv": {"about": about, "records": [record]}}}


def _met(results: dict[str, Any], rival: str, column: str = "cpu") -> tuple[str, str]:
    (line,) = (
        one
        for one in bars(results)
        if rival in one.what and one.where.startswith("1024x256") and one.column == column
        if "convolution" in one.what
    )
    return line.measured, line.met


def test_a_bar_is_met_missed_unsettled_or_not_measured() -> None:
    assert _met(_results(8.0), "PyG") == ("8.00 times", "yes")
    assert _met(_results(6.9), "PyG") == ("6.90 times", "no")
    assert _met(_results(8.0, aa=1.2), "PyG") == ("8.00 times", "no verdict: A/A 1.200")
    assert _met(_results(), "DHG")[1] == "not installed: dhg"
    assert _met(_results(), "PyG", "compiled")[1].startswith("not built")


def test_losses_are_listed_worst_first() -> None:
    assert losses(_results(8.0), "cpu") == []
    ((key, name, ratio),) = losses(_results(0.5), "cpu")
    assert (name, ratio) == ("PyG HypergraphConv", 0.5) and key.startswith("conv 1024x256")
    text = report.loss_lines(_results(0.5))
    assert "1 of 1 comparisons" in text and "PyG HypergraphConv at conv 1024x256" in text


def test_the_guard_looks_at_ratios() -> None:
    assert fallen(_results(6.0), _results(8.0), 1.5) == []
    assert len(fallen(_results(5.0), _results(8.0), 1.5)) == 1
    assert fallen(_results(5.0, aa=1.2), _results(8.0), 1.5) == []


def test_the_tables_say_who_is_absent() -> None:
    text = "\n".join(report.document_sections(_results()).values())
    assert "| 1024x256 | random | f+b | 10 | not built | 80 (8) | not installed | 50 % |" in text
    assert "Not installed, so not timed: DHG HGNNConv, Laplacian cached (`dhg`)" in text
    assert "A CPU (avx2), 1 thread(s)" in text and "load average 0.5 to 0.8" in text


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="skipped: matplotlib is not installed (extra: bench)")
    paths = draw(_results(), tmp_path)
    assert all(path.stat().st_size > 5_000 for path in paths)
    points = series(_results(), "conv", 256, True)
    assert points["PyG HypergraphConv"] == [(1024, pytest.approx(0.08))]


def test_the_documents_follow_the_results_file() -> None:
    """``python -m benchmarks.kernels --report`` has been run after the last measurement."""
    results = report.read(report.results_path("cpu"))
    for path, sections in (
        (report.DOCUMENT, report.document_sections(results)),
        (report.README, report.readme_sections(results)),
    ):
        text = path.read_text(encoding="utf-8")
        for name, body in sections.items():
            assert report.between(text, name, body) == text, f"{path.name}: {name}"


def test_groups_named_in_the_documents_exist(project_root: Path) -> None:
    text = (project_root / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for names in re.findall(r"--only ([a-z ]+)'", text):
        assert set(names.split()) <= set(GROUPS)
