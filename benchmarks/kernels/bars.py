"""What was asked for beside what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .case import Case
from .groups.batch import SINGLES
from .groups.conv import CSR, DHG, PYG
from .groups.cross import DENSE, LITERAL
from .groups.layer import CLUSTER
from .groups.layer import DHG as WHOLE_DHG

Results = dict[str, Any]
_FULL_TOPK = ("GEMM + topk", "GEMM + topk, tiled")


@dataclass
class Line:
    """One bar: at least so many times, at most so much."""

    what: str
    where: str
    column: str
    bar: str
    measured: str
    met: str
    """yes, no, or why nobody knows."""

    def to_json(self) -> dict[str, str]:
        return dict(vars(self))


def bars(results: Results) -> list[Line]:
    """Every row of the issue's table, for every column that it has a bar in."""
    device = results.get("device", "cpu")
    return _gpu_bars(results) if device.startswith("cuda") else _cpu_bars(results)


def _cpu_bars(results: Results) -> list[Line]:
    lines: list[Line] = []

    def faster(
        what: str,
        group: str,
        rivals: tuple[str, ...],
        sizes: dict[tuple[int, int], dict[str, float]],
    ) -> None:
        for (nodes, channels), wanted in sizes.items():
            case = Case(group, nodes, channels, backward=group != "knn")
            for column, bar in wanted.items():
                lines.append(_faster(results, what, case, rivals, column, bar))

    conv = {(1024, 256): (7, 10), (4096, 256): (15, 20), (16384, 128): (20, 30)}
    faster(
        "convolution on a given KNN graph, over PyG HypergraphConv",
        "conv",
        (PYG,),
        {size: _both(*bar) for size, bar in conv.items()},
    )
    faster(
        "convolution on a given KNN graph, over DHG HGNNConv with its Laplacian cached",
        "conv",
        (DHG,),
        {size: _both(5, 6) for size in conv},
    )
    faster(
        "whole dynamic layer, over DHG (kNN + build + conv)",
        "layer",
        (WHOLE_DHG,),
        {(1024, 256): _both(4, 7), (4096, 64): _both(5, 17), (4096, 256): _both(3, 6)},
    )
    faster(
        "whole dynamic layer, over torch-cluster + PyG",
        "layer",
        (CLUSTER,),
        {(4096, 64): _both(12, 30), (4096, 256): _both(12, 30)},
    )
    for case in _cases(results, "knn"):
        large = (case.nodes, case.channels) >= (4096, 256)
        three = (case.nodes, case.channels) in ((4096, 512), (16384, 256))
        for column, bar in _both(1.0 if large else 0.8, 3 if three else 2).items():
            what = "exact KNN, over faiss-cpu IndexFlatIP"
            lines.append(
                _faster(results, what, case, ("faiss-cpu IndexFlatIP",), column, float(bar))
            )
    for case in _cases(results, "knn"):
        for column, bar in _both(1.3, 3).items():
            what = "exact KNN, over GEMM + topk in PyTorch (the better of whole and tiled)"
            lines.append(_faster(results, what, case, _FULL_TOPK, column, float(bar)))
    faster(
        "`H_S + abs(H_L)` layer, streamed, over the best dense PyTorch",
        "streamed",
        (DENSE, LITERAL),
        {(1024, 256): _both(1.2, 2), (4096, 256): _both(1.5, 3)},
    )
    lines += _memory(results)
    faster(
        "low-rank layer, over the best dense PyTorch",
        "lowrank",
        (DENSE, LITERAL),
        {(1024, 256): _both(3.5, 5), (4096, 256): _both(9, 15)},
    )
    lines += [_growth(results, column) for column in ("cpu", "compiled")]
    for variant in ("layer", "conv", "knn", "streamed", "lowrank"):
        case = Case("batch", 1024, 256, 8, backward=variant != "knn", variant=variant)
        for column in ("cpu", "compiled"):
            what = f"batch of 8 in one call ({variant}), over 8 single calls"
            rival = (SINGLES.format(column),)
            lines.append(_faster(results, what, case, rival, column, 0.9))
    lines += [_points(results, 200_000), _points(results, 1_000_000)]
    lines += [_start_up(results), _triton(results)]
    lines.append(_untested("KNN, over fp32 mm + topk; convolution; streamed layer, on a GPU"))
    return lines


def _gpu_bars(results: Results) -> list[Line]:
    lines: list[Line] = []
    for case in _cases(results, "knn"):
        what = "GPU: exact KNN, over fp32 mm + topk"
        lines.append(_faster(results, what, case, _FULL_TOPK, "triton", 3))
    for case in _cases(results, "conv"):
        for rival, bar in ((CSR, 2), (PYG, 5)):
            what = f"GPU: convolution on a given KNN graph, over {rival}"
            lines.append(_faster(results, what, case, (rival,), "triton", bar))
    case = Case("streamed", 16384, 256, backward=True)
    what = "GPU: streamed layer, over dense PyTorch"
    lines.append(_faster(results, what, case, (DENSE,), "triton", 2))
    return [*lines, _triton(results)]


def _both(cpu: float, compiled: float) -> dict[str, float]:
    return {"cpu": cpu, "compiled": compiled}


def find(results: Results, key: str) -> dict[str, Any] | None:
    """The record of a case."""
    for group in results["groups"].values():
        for record in group["records"]:
            if record["key"] == key:
                found: dict[str, Any] = record
                return found
    return None


def _cases(results: Results, group: str) -> list[Case]:
    records = results["groups"].get(group, {}).get("records", [])
    return [Case.from_json(record["case"]) for record in records]


def _faster(
    results: Results, what: str, case: Case, rivals: tuple[str, ...], column: str, bar: float
) -> Line:
    where = f"{case.size}, {case.field}, {case.mode}"
    wanted = f">= {bar:g} times"

    def line(measured: str, met: str) -> Line:
        return Line(what, where, column, wanted, measured, met)

    record = find(results, case.key)
    if record is None:
        return line("-", "not measured")
    contenders = record["contenders"]
    ours = contenders.get(f"ours, {column}", {})
    if "seconds" not in ours:
        return line("-", ours.get("status", "not measured"))
    timed = [name for name in rivals if column in contenders.get(name, {}).get("ratio", {})]
    if not timed:
        entry = contenders.get(rivals[0], {})
        reason = entry.get("status", "not measured")
        return line("-", f"{reason}: {entry['note']}" if entry.get("note") else reason)
    ratio = min(contenders[name]["ratio"][column]["median"] for name in timed)
    if not record["verdict"][column]:
        return line(f"{ratio:.2f} times", f"no verdict: A/A {record['aa'][column]:.3f}")
    return line(f"{ratio:.2f} times", _yes(ratio >= bar))


def _memory(results: Results) -> list[Line]:
    case = Case("streamed", 4096, 256, backward=True)
    record = find(results, f"memory {case.key}")
    what, bar = "`H_S + abs(H_L)` layer, streamed: memory of a call, over dense", "<= 40 %"
    lines = []
    for column in ("cpu", "compiled"):
        share, met = "-", "not measured"
        if record is not None:
            ours = record["contenders"].get(f"ours, {column}", {})
            dense = record["contenders"].get(DENSE, {})
            met = ours.get("status", met)
            if "bytes" in ours and "bytes" in dense:
                value = ours["bytes"] / dense["bytes"]
                mib = [entry["bytes"] / 2**20 for entry in (ours, dense)]
                share = f"{100 * value:.0f} % ({mib[0]:.0f} of {mib[1]:.0f} MiB)"
                met = _yes(value <= 0.4)
        lines.append(Line(what, "4096x256, f+b", column, bar, share, met))
    return lines


def _growth(results: Results, column: str) -> Line:
    seconds = []
    for nodes in (1024, 4096):
        record = find(results, Case("lowrank", nodes, 256, backward=True).key) or {}
        entry = record.get("contenders", {}).get(f"ours, {column}", {})
        if "seconds" not in entry:
            reason = entry.get("status", "not measured")
            break
        seconds.append(entry["seconds"]["median"])
    what, where = "low-rank layer: growth exponent in N", "1024x256 to 4096x256, f+b"
    if len(seconds) < 2:
        return Line(what, where, column, "<= 1.35", "-", reason)
    exponent = math.log(seconds[1] / seconds[0], 4)
    return Line(what, where, column, "<= 1.35", f"{exponent:.2f}", _yes(exponent <= 1.35))


def _points(results: Results, points: int) -> Line:
    record = find(results, f"points {points}")
    bar = "finishes, peak memory < 4 GB" if points < 1_000_000 else "tried"
    line = Line(f"{points:,} points x 64, k = 25", "layer, f+b", "both", bar, "-", "not measured")
    if record is None:
        return line
    if record["status"] != "finished":
        line.measured, line.met = record["note"], "no"
        return line
    line.measured = (
        f"{record['seconds']:.0f} s of CPU, {record['wall']:.0f} s wall on {record['threads']} "
        f"thread(s), peak {record['whole'] / 1e9:.2f} GB"
    )
    line.met = _yes(record["finite"] and (record["whole"] < 4e9 or points >= 1_000_000))
    return line


def _start_up(results: Results) -> Line:
    record = find(results, "import")
    what, bar = "`import hypergraph` over torch's own import", "< 0.3 s, triton not imported"
    line = Line(what, "a fresh process", "both", bar, "-", "not measured")
    if record is not None:
        loaded = "triton imported" if record["triton imported"] else "triton not imported"
        line.measured = f"{record['cpu']:.2f} s of CPU ({record['wall']:.2f} s wall), {loaded}"
        line.met = _yes(record["cpu"] < 0.3 and not record["triton imported"])
    return line


def _triton(results: Results) -> Line:
    record = find(results, "triton")
    what = "Triton kernels: tests, and limits of their binaries"
    where, bar = "`make test-triton`", "all pass; all within the limits for sm_80 and sm_90"
    if record is None:
        return Line(what, where, "both", bar, "-", "not measured")
    return Line(what, where, "both", bar, record["summary"], _yes(record["passed"]))


def _untested(what: str) -> Line:
    return Line(what, "`make bench-gpu`", "triton", ">= 3; 2 and 5; 2 times", "-", "untested")


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def losses(results: Results, column: str) -> list[tuple[str, str, float]]:
    """Cases and rivals that are faster than ours, worst first."""
    found = []
    for group in results["groups"].values():
        for record in group["records"]:
            for name, entry in record.get("contenders", {}).items():
                ratio = entry.get("ratio", {}).get(column, {}).get("median")
                if entry.get("kind") == "rival" and ratio is not None and ratio < 1:
                    found.append((record["key"], name, ratio))
    return sorted(found, key=lambda loss: loss[2])


def fallen(results: Results, committed: Results, limit: float) -> list[str]:
    """Ratios that are ``limit`` times smaller than the committed ones; unsettled cases are left."""
    lines = []
    for group in results["groups"].values():
        for record in group["records"]:
            known = find(committed, record["key"]) or {}
            for name, entry in record.get("contenders", {}).items():
                for column, found in entry.get("ratio", {}).items():
                    old = known.get("contenders", {}).get(name, {}).get("ratio", {}).get(column)
                    if entry["kind"] != "rival" or old is None:
                        continue
                    if not (record["verdict"][column] and known["verdict"][column]):
                        continue
                    if found["median"] * limit < old["median"]:
                        lines.append(
                            f"{record['key']}: {name} over ours ({column}) {found['median']:.2f}, "
                            f"committed {old['median']:.2f}"
                        )
    return lines
