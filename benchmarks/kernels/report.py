"""Tables out of the results file, put between the markers of the documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .bars import Line, bars, losses
from .groups import GROUPS
from .machine import ROOT

Results = dict[str, Any]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
NOT_YET = "Not measured yet: `make bench` measures all of it and writes this table."
_COLUMNS = {"cpu": "plain PyTorch", "compiled": "compiled path", "triton": "Triton"}


def results_path(device: str) -> Path:
    """Where the figures of a device are kept."""
    name = "kernels-gpu.json" if device.startswith("cuda") else "kernels.json"
    return ROOT / "docs" / "results" / name


def read(path: Path) -> Results | None:
    """The results, or None before anything was measured."""
    if not path.exists():
        return None
    results: Results = json.loads(path.read_text(encoding="utf-8"))
    return results


def write_documents(results: Results | None) -> None:
    """Fill docs/benchmarks.md and the README."""
    for path, sections in (
        (DOCUMENT, document_sections(results)),
        (README, readme_sections(results)),
    ):
        text = path.read_text(encoding="utf-8")
        for name, body in sections.items():
            text = between(text, name, body)
        path.write_text(text, encoding="utf-8")


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end {name} -->"


def between(text: str, name: str, body: str) -> str:
    """Replace what stands between the markers of a section."""
    start, end = markers(name)
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{body}\n{end}{after}"


def document_sections(results: Results | None) -> dict[str, str]:
    """The sections of docs/benchmarks.md by marker."""
    if results is None:
        return {"kernel bars": NOT_YET, "kernel tables": NOT_YET}
    return {
        "kernel bars": f"{machine(results)}\n\n{bar_table(bars(results))}",
        "kernel tables": "\n\n".join(
            [*(tables(results, name) for name in GROUPS), memory_table(results), absent(results)]
        ),
    }


def readme_sections(results: Results | None) -> dict[str, str]:
    """The section of the README by marker."""
    if results is None:
        return {"kernels": NOT_YET}
    return {"kernels": f"{machine(results)}\n\n{short_table(results)}\n\n{loss_lines(results)}"}


def text_report(results: Results) -> str:
    """All of it, for a terminal or a file; bars of sizes that were not run are only counted."""
    found = bars(results)
    known = [line for line in found if line.met != "not measured"]
    rest = f"{len(found) - len(known)} bars are of sizes that were not run."
    parts = [machine(results), bar_table(known), rest, document_sections(results)["kernel tables"]]
    return "\n\n".join([*parts, loss_lines(results)]) + "\n"


# ---- bars


def bar_table(lines: list[Line]) -> str:
    rows = ["| what | size | path | bar | measured | met |", "|---|---|---|---|---|---|"]
    for line in lines:
        column = _COLUMNS.get(line.column, line.column)
        rows.append(
            f"| {line.what} | {line.where} | {column} | {line.bar} | {line.measured} | {line.met} |"
        )
    return "\n".join(rows)


def short_table(results: Results) -> str:
    """One row per bar and size; the columns side by side."""
    grouped: dict[tuple[str, str], dict[str, Line]] = {}
    for line in bars(results):
        grouped.setdefault((line.what, line.where), {})[line.column] = line
    rows = ["| | size | plain PyTorch | compiled path |", "|---|---|---|---|"]
    sizes: dict[str, list[dict[str, Line]]] = {}
    for (what, _), lines in grouped.items():
        sizes.setdefault(what, []).append(lines)
    many = {what for what, found in sizes.items() if len(found) > 3}
    for what in sizes:
        if what in many:
            cells = [
                _range([lines[c] for lines in sizes[what] if c in lines])
                for c in ("cpu", "compiled")
            ]
            rows.append(f"| {what} | {len(sizes[what])} sizes | {cells[0]} | {cells[1]} |")
    for (what, where), lines in grouped.items():
        if what in many:
            continue
        if "both" in lines:
            rows.append(f"| {what} | {where} | {_cell(lines['both'])} | |")
        else:
            cells = [_cell(lines[c]) if c in lines else "" for c in ("cpu", "compiled")]
            if "triton" in lines:
                cells = [f"Triton: {_cell(lines['triton'])}", ""]
            rows.append(f"| {what} | {where} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def _range(lines: list[Line]) -> str:
    """Many sizes in one cell."""
    known = [line for line in lines if line.met in ("yes", "no")]
    if not known:
        return lines[0].met.split(";")[0]
    values = sorted(float(line.measured.split()[0]) for line in known)
    met = sum(line.met == "yes" for line in known)
    goals = sorted({float(line.bar.split()[1]) for line in known})
    goal = f"{goals[0]:g}" if len(goals) == 1 else f"{goals[0]:g} to {goals[-1]:g}"
    middle = values[len(values) // 2]
    unsettled = f", {len(lines) - len(known)} without verdict" if len(known) < len(lines) else ""
    return (
        f"{values[0]:.2f} to {values[-1]:.2f} times, median {middle:.2f} "
        f"(goal {goal}: met at {met} of {len(known)}{unsettled})"
    )


def _cell(line: Line) -> str:
    if line.met == "yes":
        return f"**{line.measured}** (goal {line.bar})"
    if line.met == "no":
        return f"{line.measured} (goal {line.bar}: missed)"
    return line.met.split(";")[0]


def loss_lines(results: Results) -> str:
    """Where others are faster."""
    parts = []
    for column in _columns(results):
        found = losses(results, column)
        timed = _comparisons(results, column)
        if not timed:
            continue
        title = _COLUMNS[column]
        if not found:
            parts.append(f"With the {title}, no rival is faster in any of {timed} comparisons.")
            continue
        worst = "; ".join(f"{rival} at {key}: {ratio:.2f}" for key, rival, ratio in found[:6])
        count = f"{len(found)} of {timed} comparisons"
        parts.append(
            f"Where we lose ({title}, {count}; the rival's time over ours): "
            f"{worst}{' ...' if len(found) > 6 else '.'}"
        )
    return "\n\n".join(parts)


def _comparisons(results: Results, column: str) -> int:
    return sum(
        entry.get("kind") == "rival" and column in entry.get("ratio", {})
        for group in results["groups"].values()
        for record in group["records"]
        for entry in record.get("contenders", {}).values()
    )


# ---- tables


def tables(results: Results, group: str) -> str:
    """Times in milliseconds; in brackets how many times ours is faster, per column of ours."""
    records = results["groups"].get(group, {}).get("records", [])
    title = f"### {GROUPS[group].title}"
    if not records:
        return f"{title}\n\nNot measured."
    ours = [f"ours, {column}" for column in _columns(results)]
    rivals: list[str] = []
    for record in records:
        for name, entry in record["contenders"].items():
            if entry["kind"] == "rival" and name not in rivals:
                rivals.append(name)
    head = ["size", "features", "pass", *ours, *rivals, "of the roofline"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for record in records:
        case = record["case"]
        size = f"{case['nodes']}x{case['channels']}"
        size = size if case["batch"] == 1 else f"{case['batch']} x {size}"
        kind = f"{case['variant']}: " if case["variant"] else ""
        cells = [kind + size, case["field"], "f+b" if case["backward"] else "f"]
        cells += [_time(record["contenders"].get(name, {}), record) for name in ours + rivals]
        fractions = [f"{100 * value:.0f} %" for value in record["roofline"].values()]
        rows.append("| " + " | ".join([*cells, " / ".join(fractions)]) + " |")
    notes = _notes(records)
    return f"{title}\n\n" + "\n".join(rows) + (f"\n\n{notes}" if notes else "")


def _time(entry: dict[str, Any], record: dict[str, Any]) -> str:
    if "seconds" not in entry:
        return {"left out": "left out", "not installed": "not installed"}.get(
            entry.get("status", ""), entry.get("status", "-").split(";")[0]
        )
    value = f"{_milliseconds(entry['seconds']['median'])}"
    if entry["kind"] == "ours":
        return value
    ratios = [
        f"{summary['median']:.3g}" if record["verdict"][column] else "?"
        for column, summary in entry["ratio"].items()
    ]
    return f"{value} ({' / '.join(ratios)})"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _notes(records: list[dict[str, Any]]) -> str:
    """Who takes no part, and why; each reason once."""
    notes: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for name, entry in record["contenders"].items():
            if entry.get("status") in ("left out", "differs", "failed"):
                key = (name, f"{entry['status']}: {entry.get('note', '')}")
                notes.setdefault(key, []).append(record["key"].split(" ", 1)[1])
        for column, good in record["verdict"].items():
            if not good:
                key = (f"ours, {column}", "no verdict: timed against itself it does not come out 1")
                notes.setdefault(key, []).append(
                    f"{record['key'].split(' ', 1)[1]}: {record['aa'][column]:.3f}"
                )
    lines = []
    for (name, reason), where in notes.items():
        places = "; ".join(where[:3]) + (f"; {len(where) - 3} more" if len(where) > 3 else "")
        lines.append(f"- {name}: {reason} ({places})")
    return "\n".join(lines)


def memory_table(results: Results) -> str:
    records = results["groups"].get("memory", {}).get("records", [])
    title = "### Memory of one call, in a process of its own"
    if not records:
        return f"{title}\n\nNot measured."
    rows = ["| what | size | who | peak over what was there before, MiB |", "|---|---|---|---|"]
    for record in records:
        case = record["case"]
        for name, entry in record["contenders"].items():
            value = entry["status"]
            if "bytes" in entry:
                value = f"{entry['bytes'] / 2**20:.0f}"
            size = f"{case['nodes']}x{case['channels']}"
            rows.append(f"| {case['group']} | {size} | {name} | {value} |")
    return f"{title}\n\n" + "\n".join(rows)


def absent(results: Results) -> str:
    """Rivals that could not be asked."""
    missing = {
        name: entry["note"]
        for group in results["groups"].values()
        for record in group["records"]
        for name, entry in record.get("contenders", {}).items()
        if entry.get("status") == "not installed"
    }
    if not missing:
        return "Every rival was installed."
    names = ", ".join(f"{name} (`{module}`)" for name, module in sorted(missing.items()))
    return f"Not installed, so not timed: {names}."


def machine(results: Results) -> str:
    """One line about where the figures come from."""
    abouts = [group["about"] for group in results["groups"].values()]
    about = abouts[0]
    where = about.get("gpu") or about["cpu"]
    widest = next((f for f in ("avx512f", "avx2", "asimd") if f in about["flags"]), "no AVX2")
    loads = [load for group in results["groups"].values() for load in _loads(group)]
    busy = f", load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    commits = sorted({entry["commit"][:10] for entry in abouts if entry["commit"]})
    return (
        f"{where} ({widest}), {about['threads']} thread(s), float32, torch "
        f"{about['versions']['torch']}, compiled path: {about['compiled path']}; seed "
        f"{about['seed']}, commit {', '.join(commits) or 'unknown'}{busy}; `{about['command']}`."
    )


def _loads(group: dict[str, Any]) -> list[float]:
    return [load for record in group["records"] for load in record.get("load", [])]


def _columns(results: Results) -> list[str]:
    gpu = results.get("device", "cpu").startswith("cuda")
    return ["triton", "cpu"] if gpu else ["cpu", "compiled"]
